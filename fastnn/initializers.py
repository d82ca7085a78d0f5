"""Initial parameters: one row per initializer, drawn from the specified generator.

Weights come from the stream (seed, WEIGHTS, layer), entry i of W row-major, so a layer
starts the same in every engine and whatever the layers around it; other tensors start at
the value that their kind's row has. Variances as in Glorot & Bengio 2010, He et al. 2015 and
LeCun et al. 1998.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels import contract, random
from .kernels.contract import ACTIVATIONS, KINDS, Activation, LayerSpec

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


def automatic(activation: Any) -> str:
    """What "auto" stands for in front of an activation; a user's own is like tanh."""
    row = ACTIVATIONS[activation] if isinstance(activation, str) else Activation()
    return row.initializer


def initial_parameters(
    specs: tuple[LayerSpec, ...], initializers: Iterable[str], seed: int, dtype: Any
) -> Array:
    """Flat parameters of the layers in ``dtype``; an initializer for each of them."""
    flat: Array = np.empty(contract.size(specs), dtype)
    views = contract.views(specs, flat)
    for index, (spec, name) in enumerate(zip(specs, initializers, strict=True)):
        draw = INITIALIZERS[automatic(spec.activation) if name == "auto" else name]
        key = random.stream_key(seed, random.WEIGHTS, index)
        for tensor, view in views[index].items():
            start = KINDS[spec.kind].starts.get(tensor)
            view[...] = draw(key, *view.shape).reshape(view.shape) if start is None else start
    return flat
