"""Model files: what stands in a safetensors file of a network.

It holds ``0.weight`` (inputs, outputs), ``0.bias``, ``1.weight``, …: every tensor of every layer
by the names in its kind's row; and, if asked for, the optimizer's moments ``optimizer.0``, … as
flat as the parameters. The rest stands in the header's metadata, strings by the format's rule::

    format "fastnn"   version "2"   model JSON   optimizer JSON (only with its moments)

Shapes are checked against the layers before an array or a network is allocated. Version 1 is
read too: its layers were dense, and its optimizers had flags instead of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import layers
from ..custom import CustomActivation
from ..kernels import contract
from ..kernels.contract import OPTIMIZERS, LayerSpec
from ..optimizers import State
from . import safetensors
from .safetensors import FileFormatError, Path

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

FORMAT, VERSION, READABLE = "fastnn", "2", ("1", "2")


class Stored(NamedTuple):
    """What a model file holds."""

    config: dict[str, Any]  # as ``Sequential.get_config`` gave it
    parameters: Array  # flat
    state: State | None


def write(
    path: Path,
    config: dict[str, Any],
    specs: tuple[LayerSpec, ...],
    parameters: Array,
    state: State | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model, atomically.

    ``config`` is plain data from which it can be made again, ``metadata`` further entries of the
    header. ValueError for NaN and infinity, with which the file could not be loaded, OSError if
    it cannot be written; what was at ``path`` is untouched then.
    """
    tensors = {
        f"{index}.{name}": view
        for index, views in enumerate(contract.views(specs, parameters))
        for name, view in views.items()
    }
    header = dict(metadata or {})
    header |= {"format": FORMAT, "version": VERSION, "model": safetensors.to_json(config)}
    if state is not None:
        step, moments, description = state
        tensors |= {f"optimizer.{k}": moment for k, moment in enumerate(moments)}
        header["optimizer"] = safetensors.to_json({"step": step, "config": description})
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or inf: a file with it could not be loaded")
    safetensors.write_safetensors(path, tensors, header)


def read(path: Path, custom: Mapping[str, CustomActivation] | None = None) -> Stored:
    """Read what ``write`` wrote; ``custom`` has the functions that the file names.

    FileFormatError if it is not a whole and consistent model file, ValueError if ``custom``
    lacks a function, OSError if the file cannot be read.
    """
    with open(path, "rb") as file:
        entries, metadata = safetensors.read_header(file)
        config, optimizer = _describe(metadata)
        shapes = _parameter_shapes(config, custom)
        size = sum(math.prod(shape) for shape in shapes.values())
        count = sum(name.startswith("optimizer.") for name in entries) if optimizer else 0
        moments: Shapes = {f"optimizer.{k}": (size,) for k in range(count)}
        _check_tensors(entries, shapes | moments, config["dtype"])
        tensors = safetensors.read_tensors(file, entries)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise FileFormatError(f"{name} holds NaN or inf")
    flat = np.concatenate([tensors[name].ravel() for name in shapes])
    if optimizer is None:
        return Stored(config, flat, None)
    state = optimizer["step"], tuple(tensors[name] for name in moments), optimizer["config"]
    return Stored(config, flat, state)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; errors as ``read``."""
    with open(path, "rb") as file:
        return safetensors.read_header(file)[1]


def _describe(metadata: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The model's and the optimizer's JSON, as far as their outlines go."""
    version = metadata.get("version")
    if metadata.get("format") != FORMAT:
        raise FileFormatError(f"not a fastnn model: its format is {metadata.get('format')!r}")
    if version not in READABLE:
        raise FileFormatError(
            f"version {version!r} of the file format is not known here; "
            f"this fastnn reads {' and '.join(READABLE)}"
        )
    config = safetensors.parse_json(metadata.get("model", ""), "the model's description")
    if config.get("dtype") not in ("float32", "float64"):
        raise FileFormatError(f"a model has no dtype {config.get('dtype')!r}")
    if "optimizer" not in metadata:
        return config, None
    optimizer = safetensors.parse_json(metadata["optimizer"], "the optimizer's description")
    step, settings = optimizer.get("step"), optimizer.get("config")
    if not safetensors.is_count(step, 0) or not isinstance(settings, dict):
        raise FileFormatError("the optimizer's description lacks its step count or its settings")
    if version == "1":
        settings["rule"] = _from_version_1(settings.get("rule"))
    return config, optimizer


def _from_version_1(rule: Any) -> dict[str, Any]:
    """An optimizer's rule as ``optimizers.to_config`` gives it."""
    try:
        name = rule["name"]
        if name == "sgd" and rule["moments"] == 1:
            name = "velocity" if rule["rate_in_velocity"] else "momentum"
            if rule["nesterov"]:
                name = {"velocity": "nesterov_velocity", "momentum": "nesterov"}[name]
        elif name == "rmsprop" and rule["moments"] == 2:
            name = "rmsprop_momentum"
        elif name == "adam" and rule["epsilon_hat"]:
            name = "adam_hat"
        kept = ("weight_decay", "l2", "clip_norm", "l2_by_weight")
        numbers = {number: rule[number] for number in OPTIMIZERS[name].numbers}
        return {"name": name, "numbers": numbers, **{key: rule[key] for key in kept}}
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"the optimizer's rule is not valid: {error!r}") from error


def _parameter_shapes(config: Mapping[str, Any], custom: Any) -> Shapes:
    """The shape of every parameter that the description calls for."""
    inputs, descriptions = config.get("input_size"), config.get("layers")
    if not safetensors.is_count(inputs, 1) or not isinstance(descriptions, list):
        raise FileFormatError("the model's description lacks its input size or its layers")
    functions = layers.functions_for(descriptions, custom)
    try:
        found = layers.check([layers.from_config(layer, functions) for layer in descriptions])
        specs = layers.specifications(found, inputs)
    except (ValueError, TypeError) as error:
        raise FileFormatError(f"the description of the layers is not valid: {error}") from error
    return {
        f"{index}.{tensor.name}": tensor.shape
        for index, spec in enumerate(specs)
        for tensor in spec.tensors
    }


def _check_tensors(entries: Mapping[str, safetensors.Entry], shapes: Shapes, dtype: str) -> None:
    if entries.keys() != shapes.keys():
        odd = min(entries.keys() ^ shapes.keys())
        fault = "lacks" if odd in shapes else "has no use for"
        raise FileFormatError(f"the model {fault} tensor {odd!r}")
    for name, entry in entries.items():
        if entry.shape != shapes[name] or entry.dtype != np.dtype(dtype):
            raise FileFormatError(
                f"tensor {name!r} is {entry.dtype.name} {entry.shape}, "
                f"but its layer needs {dtype} {shapes[name]}"
            )
