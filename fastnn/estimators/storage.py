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
from ..files import models as files
from ..custom import CustomActivation, CustomLoss

ESTIMATOR = "estimator"  # the name of the description in the file's metadata
_VERSION = 1

#: Attributes of a fit that a file keeps, where they are there.
_COUNTS = ("n_features_in_", "n_iter_", "n_layers_", "n_outputs_", "t_", "loss_", "best_loss_")
_TEXTS = ("out_activation_",)

#: Classes of immutable descriptions, by name.
_DESCRIPTIONS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *optimizers.OPTIMIZERS.values(),
        schedules.Constant,
        schedules.StepDecay,
        schedules.ExponentialDecay,
        schedules.CosineDecay,
        schedules.OneCycle,
        schedules.WarmUp,
        schedules.ReduceOnPlateau,
        losses.Huber,
        losses.Quantile,
    )
}


def save(estimator: Any, path: Any) -> None:
    """Write a fitted estimator."""
    description: dict[str, Any] = {
        "version": _VERSION,
        "class": type(estimator).__name__,
        "parameters": {
            name: _plain(name, value) for name, value in estimator.get_params(deep=False).items()
        },
        "fitted": {
            name: _plain(name, getattr(estimator, name))
            for name in (*_COUNTS, *_TEXTS)
            if hasattr(estimator, name)
        },
    }
    names = estimator.__dict__.get("feature_names_in_")
    if names is not None:
        description["feature_names"] = [str(name) for name in names]
    if hasattr(estimator, "classes_"):
        classes = estimator.classes_
        if classes.dtype.kind == "O" and not all(isinstance(label, str) for label in classes):
            raise TypeError("classes_ holds objects that are no text: they cannot be saved")
        description["classes"] = {"dtype": classes.dtype.str, "values": classes.tolist()}
        description["target"] = estimator._label_binarizer.y_type_
    _check_names(estimator)
    files.save_model(estimator._model, path, metadata={ESTIMATOR: json.dumps(description)})


def load(
    kind: type[Any], path: Any, engine: str | None, custom: Mapping[str, Any] | None = None
) -> Any:
    """An estimator of ``kind`` from a file; ``custom`` has the functions that it names."""
    custom = _check_custom(custom)
    metadata = files.read_metadata(path)
    if ESTIMATOR not in metadata:
        raise files.FileFormatError(f"{path} holds a network, but no estimator: use fastnn.load")
    try:
        description = json.loads(metadata[ESTIMATOR])
        if description["version"] != _VERSION:
            raise files.FileFormatError(
                f"{path} has layout {description['version']} of estimators, this fastnn reads "
                f"layout {_VERSION}: use the fastnn that wrote it"
            )
        if description["class"] != kind.__name__:
            raise files.FileFormatError(
                f"{path} holds a {description['class']}, not a {kind.__name__}"
            )
        found = description["parameters"]
        _check_found(_names_in(list(found.values())), custom, kind)
        arguments = {name: _from_plain(value, custom) for name, value in found.items()}
        estimator = kind(**arguments)
        fitted = {
            name: value
            for name, value in description["fitted"].items()
            if name in (*_COUNTS, *_TEXTS)
        }
        if "classes" in description:
            classes = description["classes"]
            fitted["classes_"] = np.array(classes["values"], np.dtype(classes["dtype"]))
            fitted["_label_binarizer"] = _binarizer(fitted["classes_"], description["target"])
        if "feature_names" in description:
            fitted["feature_names_in_"] = np.array(description["feature_names"], object)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise files.FileFormatError(f"{path} has a damaged description: {error!r}") from error
    if engine is not None:
        estimator.engine = engine
    activations = {k: v for k, v in custom.items() if isinstance(v, CustomActivation)}
    model = files.load_model(path, engine=estimator.engine, custom=activations)
    if (model.input_size, model.output_size) != (fitted["n_features_in_"], fitted["n_outputs_"]):
        raise files.FileFormatError(f"the description in {path} does not fit its network")
    estimator.__dict__.update(fitted, _model=model, _is_own_validation=False)
    return estimator


def _binarizer(classes: Any, kind: str) -> LabelBinarizer:
    if kind.startswith("multilabel"):
        return LabelBinarizer().fit(np.eye(len(classes), dtype=int))
    return LabelBinarizer().fit(classes)


def _plain(name: str, value: Any) -> Any:
    """The value as JSON has it; what JSON lacks as an object that says what it is."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (CustomActivation, CustomLoss)):
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


def _from_plain(value: Any, custom: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_from_plain(item, custom) for item in value]
    if isinstance(value, dict) and "custom" in value:
        return custom[value["custom"]]
    if isinstance(value, dict) and "class" in value:
        fields = {name: _from_plain(item, custom) for name, item in value["fields"].items()}
        return _DESCRIPTIONS[value["class"]](**fields)
    if isinstance(value, dict) and "tuple" in value:
        return tuple(_from_plain(item, custom) for item in value["tuple"])
    if isinstance(value, dict):
        return {key: _from_plain(item, custom) for key, item in value["dict"]}
    return value


# --------------------------------------------------------------------------- custom functions


def _check_names(estimator: Any) -> None:
    """Refuse two different custom functions of one name, which a file could not tell apart."""
    activation = estimator.activation
    given = activation if isinstance(activation, (tuple, list)) else [activation]
    known: dict[str, Any] = {}
    for one in (*given, estimator.loss):
        if (
            isinstance(one, (CustomActivation, CustomLoss))
            and known.setdefault(one.name, one) != one
        ):
            raise ValueError(
                f"two different custom functions are called {one.name!r}: give them names, name=…"
            )


def _check_custom(custom: Any) -> Mapping[str, Any]:
    if not isinstance(custom, Mapping | None):
        raise TypeError(f"custom must map names to custom functions, not {custom!r}")
    wanted = "fastnn.activation(f) or fastnn.loss(f)"
    for name, function in (custom or {}).items():
        checks.instance(f"custom[{name!r}]", function, (CustomActivation, CustomLoss), wanted)
    return custom or {}


def _names_in(values: list[Any]) -> list[str]:
    """The names of the custom functions in plain values."""
    names: list[str] = []
    for value in values:
        if isinstance(value, dict) and "custom" in value:
            names.append(str(value["custom"]))
        elif isinstance(value, dict) and "tuple" in value:
            names += _names_in(value["tuple"])
        elif isinstance(value, list):
            names += _names_in(value)
    return names


def _check_found(names: list[str], custom: Mapping[str, Any], kind: type[Any]) -> None:
    missing = [name for name in dict.fromkeys(names) if name not in custom]
    if missing:
        example = ", ".join(f"{name!r}: {name}" for name in missing)
        raise ValueError(
            f"the estimator uses the custom function {missing[0]!r}, which is not in the file: "
            f"{kind.__name__}.load(path, custom={{{example}}})"
        )
