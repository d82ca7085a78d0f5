"""Initial parameters: one row per initializer, drawn from the specified generator.

Weights come from the stream (seed, WEIGHTS, layer), entry i of W row-major, so a layer
starts the same in every engine and whatever the layers around it; biases are zero.
Variances as in Glorot & Bengio 2010, He et al. 2015 and LeCun et al. 1998.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels.contract import CustomFunction, LayerSpec
from .kernels import random

Array = NDArray[Any]

#: name -> (stream key, inputs, outputs) -> inputs · outputs numbers in float64.
INITIALIZERS: dict[str, Callable[[int, int, int], Array]] = {
    "glorot_uniform": lambda key, inputs, outputs: (
        math.sqrt(6 / (inputs + outputs)) * (2 * random.uniform(key, inputs * outputs) - 1)
    ),
    "he_normal": lambda key, inputs, outputs: (
        math.sqrt(2 / inputs) * random.normal(key, inputs * outputs)
    ),
    "lecun_normal": lambda key, inputs, outputs: (
        math.sqrt(1 / inputs) * random.normal(key, inputs * outputs)
    ),
    "normal": lambda key, inputs, outputs: random.normal(key, inputs * outputs),
    "zeros": lambda key, inputs, outputs: np.zeros(inputs * outputs),
}

_RELU_FAMILY = ("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus", "hard_swish")


def automatic(activation: str | CustomFunction) -> str:
    """What "auto" stands for; selu keeps unit variance from lecun_normal only."""
    if activation == "selu":
        return "lecun_normal"
    return "he_normal" if activation in _RELU_FAMILY else "glorot_uniform"


def initial_parameters(
    specs: tuple[LayerSpec, ...], initializers: tuple[str, ...], seed: int, dtype: Any
) -> Array:
    """Flat parameters W0, b0, W1, … of the dense layers ``specs`` in ``dtype``."""
    pieces: list[Array] = []
    for index, (spec, name) in enumerate(zip(specs, initializers, strict=True)):
        draw = INITIALIZERS[automatic(spec.activation) if name == "auto" else name]
        key = random.stream_key(seed, random.WEIGHTS, index)
        pieces.append(draw(key, spec.inputs, spec.outputs).astype(dtype))
        if spec.use_bias:
            pieces.append(np.zeros(spec.outputs, dtype))
    return np.concatenate(pieces)
