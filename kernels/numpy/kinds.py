"""The NumPy engine's kinds of layers, without the activation that follows them.

A row is a pair of functions on the tensors of one layer by their names::

    forward(spec, tensors, X) -> Z (n, outputs), what backward needs
    backward(spec, tensors, saved, dZ) -> gradients by tensor name, dX (n, inputs)

dZ and dX are d loss / d Z and d loss / d X, X what dropout left of the layer's input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contract import LayerSpec

Array = NDArray[Any]
Tensors = dict[str, Array]


class Kind(NamedTuple):
    """One row, see above."""

    forward: Callable[[LayerSpec, Tensors, Array], tuple[Array, Any]]
    backward: Callable[[LayerSpec, Tensors, Any, Array], tuple[Tensors, Array]]


def _dense(spec: LayerSpec, tensors: Tensors, X: Array) -> tuple[Array, Any]:
    Z = X @ tensors["weight"]
    if "bias" in tensors:
        Z = Z + tensors["bias"]
    return Z, X


def _dense_backward(
    spec: LayerSpec, tensors: Tensors, X: Array, dZ: Array
) -> tuple[Tensors, Array]:
    return {"weight": X.T @ dZ, "bias": dZ.sum(axis=0)}, dZ @ tensors["weight"].T


def _layer_norm(spec: LayerSpec, tensors: Tensors, X: Array) -> tuple[Array, Any]:
    # Ba, Kiros & Hinton 2016, "Layer Normalization", equations 3 and 4; biased variance
    (epsilon,) = spec.numbers
    deviation = np.sqrt(X.var(axis=1, keepdims=True) + epsilon)
    normal = (X - X.mean(axis=1, keepdims=True)) / deviation
    return normal * tensors.get("scale", 1) + tensors.get("shift", 0), (normal, deviation)


def _layer_norm_backward(
    spec: LayerSpec, tensors: Tensors, saved: tuple[Array, Array], dZ: Array
) -> tuple[Tensors, Array]:
    normal, deviation = saved
    d_normal = dZ * tensors.get("scale", 1)
    # the mean and the variance depend on every feature of the row
    by_mean = d_normal.mean(axis=1, keepdims=True)
    by_variance = normal * (d_normal * normal).mean(axis=1, keepdims=True)
    dX = (d_normal - by_mean - by_variance) / deviation
    return {"scale": (dZ * normal).sum(axis=0), "shift": dZ.sum(axis=0)}, dX


def _scale(spec: LayerSpec, tensors: Tensors, X: Array) -> tuple[Array, Any]:
    return X * tensors["scale"], X


def _scale_backward(
    spec: LayerSpec, tensors: Tensors, X: Array, dZ: Array
) -> tuple[Tensors, Array]:
    return {"scale": (X * dZ).sum(axis=0)}, dZ * tensors["scale"]


KINDS: dict[str, Kind] = {
    "dense": Kind(_dense, _dense_backward),
    "layer_norm": Kind(_layer_norm, _layer_norm_backward),
    "scale": Kind(_scale, _scale_backward),
}
