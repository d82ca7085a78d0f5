"""Fitted estimators in safetensors files: the network's file with a description beside it.

The description is JSON: the parameters of the constructor, the classes, the counts. An optimizer,
a schedule or a loss stands there as its class and its fields, a custom function by its name. What
else is no plain data cannot be in it, and is named.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.preprocessing import LabelBinarizer

from .. import checks, losses, optimizers, schedules
from ..custom import CustomActivation, CustomLoss
from ..files import models
from ..files.safetensors import FileFormatError
from ..model import load as load_model
from .training import Record

ESTIMATOR = "estimator"  # the name of the description in the file's metadata
_VERSION = 1

#: Attributes of a fit that a file keeps beside its record, where they are there.
_FITTED = ("n_features_in_", "n_layers_", "n_outputs_", "out_activation_")

#: Classes of immutable descriptions, by name.
_DESCRIPTIONS: dict[str, Any] = {
    name: getattr(module, name)
    for module in (losses, optimizers, schedules)
    for name in module.__all__
    if dataclasses.is_dataclass(getattr(module, name))
}

_CUSTOM = (CustomActivation, CustomLoss)


def save(estimator: Any, path: Any) -> None:
    """Write a fitted estimator."""
    parameters, classes = estimator.get_params(deep=False), vars(estimator).get("classes_")
    kept = {name: getattr(estimator, name, None) for name in (*_FITTED, *Record.RESULTS)}
    description: dict[str, Any] = {
        "version": _VERSION,
        "class": type(estimator).__name__,
        "parameters": {name: _plain(name, value) for name, value in parameters.items()},
        "fitted": {name: _plain(name, value) for name, value in kept.items() if value is not None},
    }
    names = vars(estimator).get("feature_names_in_")
    if names is not None:
        description["feature_names"] = [str(name) for name in names]
    if classes is not None:
        if classes.dtype.kind == "O" and not all(isinstance(label, str) for label in classes):
            raise TypeError("classes_ holds objects that are no text: they cannot be saved")
        description["classes"] = {"dtype": classes.dtype.str, "values": classes.tolist()}
        description["target"] = estimator._label_binarizer.y_type_
    _check_names(estimator)
    estimator._model.save(path, metadata={ESTIMATOR: json.dumps(description)})


def load(
    kind: type[Any], path: Any, engine: str | None, custom: Mapping[str, Any] | None = None
) -> Any:
    """An estimator of ``kind`` from a file; ``custom`` has the functions that it names."""
    given = _check_custom(custom)
    metadata = models.read_metadata(path)
    if ESTIMATOR not in metadata:
        raise FileFormatError(f"{path} holds a network, but no estimator: use fastnn.load")
    try:
        outline = json.loads(metadata[ESTIMATOR])
        if outline["version"] != _VERSION:
            raise FileFormatError(
                f"{path} has layout {outline['version']} of estimators, this fastnn reads "
                f"layout {_VERSION}: use the fastnn that wrote it"
            )
        if outline["class"] != kind.__name__:
            raise FileFormatError(f"{path} holds a {outline['class']}, not a {kind.__name__}")
        description = _read(metadata[ESTIMATOR], given, kind)
        estimator = kind(**description["parameters"])
        found = description["fitted"]
        fitted = {name: found[name] for name in _FITTED}
        fitted["_record"] = Record(**{k: found[k] for k in Record.RESULTS if k in found})
        if "classes" in description:
            values, dtype = description["classes"]["values"], description["classes"]["dtype"]
            fitted["classes_"] = classes = np.array(values, np.dtype(dtype))
            is_multilabel = description["target"].startswith("multilabel")
            example = np.eye(len(classes), dtype=int) if is_multilabel else classes
            fitted["_label_binarizer"] = LabelBinarizer().fit(example)
        if "feature_names" in description:
            fitted["feature_names_in_"] = np.array(description["feature_names"], object)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise FileFormatError(f"{path} has a damaged description: {error!r}") from error
    if engine is not None:
        estimator.engine = engine
    activations = {k: v for k, v in given.items() if isinstance(v, CustomActivation)}
    model = load_model(path, estimator.engine, activations)
    if (model.input_size, model.output_size) != (fitted["n_features_in_"], fitted["n_outputs_"]):
        raise FileFormatError(f"the description in {path} does not fit its network")
    vars(estimator).update(fitted, _model=model)
    return estimator


def _plain(name: str, value: Any) -> Any:
    """The value as JSON has it; what JSON lacks as an object that says what it is."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, _CUSTOM):
        return {"custom": value.name}
    if type(value) in _DESCRIPTIONS.values():
        names = [item.name for item in dataclasses.fields(value) if item.init]
        fields = {item: _plain(f"{name}.{item}", getattr(value, item)) for item in names}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, tuple):
        return {"tuple": [_plain(name, item) for item in value]}
    if isinstance(value, list):
        return [_plain(name, item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, (str, int)) for key in value):
        return {"dict": [[key, _plain(name, item)] for key, item in value.items()]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{name}={value!r} is no plain data and cannot be saved: set it to what can be, or pickle"
    )


def _read(text: str, custom: Mapping[str, Any], kind: type[Any]) -> Any:
    """The inverse of ``_plain``, object by object, from the innermost on."""
    missing: list[str] = []

    def made(found: dict[str, Any]) -> Any:
        match list(found.items()):
            case [("custom", name)]:
                missing.extend([] if name in custom else [name])
                return custom.get(name)
            case [("class", name), ("fields", fields)]:
                return _DESCRIPTIONS[name](**fields)
            case [("tuple", items)]:
                return tuple(items)
            case [("dict", items)]:
                return dict(items)
        return found

    description = json.loads(text, object_hook=made)
    if missing:
        example = ", ".join(f"{name!r}: {name}" for name in dict.fromkeys(missing))
        raise ValueError(
            f"the estimator uses the custom function {missing[0]!r}, which is not in the file: "
            f"{kind.__name__}.load(path, custom={{{example}}})"
        )
    return description


# --------------------------------------------------------------------------- custom functions


def _check_names(estimator: Any) -> None:
    """Refuse two different custom functions of one name, which a file could not tell apart."""
    activation = estimator.activation
    given = activation if isinstance(activation, (tuple, list)) else [activation]
    known: dict[str, Any] = {}
    for one in (*given, estimator.loss):
        if isinstance(one, _CUSTOM) and known.setdefault(one.name, one) != one:
            raise ValueError(
                f"two different custom functions are called {one.name!r}: give them names, name=…"
            )


def _check_custom(custom: Any) -> Mapping[str, Any]:
    if not isinstance(custom, Mapping | None):
        raise TypeError(f"custom must map names to custom functions, not {custom!r}")
    for name, function in (custom or {}).items():
        wanted = "fastnn.activation(f) or fastnn.loss(f)"
        checks.instance(f"custom[{name!r}]", function, _CUSTOM, wanted)
    return custom or {}
