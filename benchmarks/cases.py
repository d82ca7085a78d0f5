"""Everything that is benchmarked, in tables: whole epochs, and kernels on plain arrays.

The five workloads come from ``fastnn.bench.workloads``; here they get their variants in float64
and their floors. A kernel is timed as those who embed it call it, through
``fastnn.kernels`` with its outputs given, on arrays of three sizes that a small, a middle
and a wide network would have.

``python benchmarks/cases.py`` prints the floors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from fastnn.kernels.contract import ACTIVATIONS, LOSSES
from harness import markdown

import fastnn
from fastnn import kernels
from fastnn.bench.command import significant
from fastnn.bench.workloads import BOUNDS, WORKLOADS, Workload
from fastnn.optimizers import OPTIMIZERS, Optimizer

#: Every engine that is available here.
ENGINES = [name for name, state in fastnn.engines().items() if state["available"]]

#: The five, and each of them in float64.
TRAINING = [one._replace(dtype=dtype) for dtype in BOUNDS for one in WORKLOADS.values()]


def floor(workload: Workload) -> tuple[int, int]:
    """The least that a step costs: FLOPs, and bytes that come from outside of it.

    These are the batch's rows and targets, read; parameters and moments, read and written.
    Activations, deltas and gradients can stay in registers and the nearest caches.
    """
    itemsize = np.dtype(workload.dtype).itemsize
    arrays = 1 + workload.optimizer.spec().moments
    target = 8 if workload.loss == "cross_entropy" else itemsize * workload.sizes[-1]
    rows = workload.batch_size * (itemsize * workload.sizes[0] + target)
    return workload.flops, rows + 2 * arrays * itemsize * workload.parameters


def floor_table() -> str:
    """The floors as a table in Markdown; scale its last column by the peak of a core."""
    lines = []
    for name, workload in WORKLOADS.items():
        flops, count = floor(workload)
        numbers = workload.parameters, flops / 1e3, count / 1e3, flops / count
        lines.append([name, *(f"{number:,.0f}" for number in numbers), significant(flops / 100e3)])
    headings = ["workload", "parameters", "kFLOP", "KB", "FLOP/byte", "µs at 100 GFLOP/s"]
    return markdown(headings, lines)


# --------------------------------------------------------------------------- kernels

#: Rows, inputs and outputs of a layer; rows and outputs where a loss is taken; and the workload
#: whose parameters are updated.
_SIZES = {
    "small": ((32, 32, 32), (32, 10), "fit1d"),
    "middle": ((128, 784, 128), (1024, 10), "mnist128"),
    "large": ((512, 1024, 1024), (1024, 1000), "wide"),
}

#: function -> what it takes and what it fills: X, W, b and Z of a layer, or its parameters.
_ARRAYS = {
    "linear_forward": ("XWb", "Z"),
    "linear_backward": ("XWZ", "XWb"),
    "activation_forward": ("Z", "Z"),
    "activation_backward": ("ZZ", "Z"),
    "all_finite": ("p", ""),
}


class Call(NamedTuple):
    """A kernel bound to arrays: called with the name of an engine."""

    function: Any
    arguments: tuple[Any, ...]

    def __call__(self, engine: str) -> Any:
        return self.function(*self.arguments, engine=engine)

    def outputs(self, engine: str) -> list[np.ndarray]:
        """What it returns, or updates in place: the parameters, and the moments."""
        found = self(engine)
        if found is None:
            found = self.arguments[0], *self.arguments[2]
        return [np.array(one, ndmin=1) for one in (found if isinstance(found, tuple) else (found,))]


class Kernel(NamedTuple):
    """A kernel on arrays of one size; ``name`` is of an activation, a loss or an optimizer."""

    function: str
    name: str
    size: str
    dtype: str

    def __str__(self) -> str:
        return "-".join(part for part in self if part)

    def bind(self, dtype: str | None = None) -> Call:
        """The arrays are made here, and hold the same float32 numbers whatever the dtype."""
        rng, dtype = np.random.default_rng(7), dtype or self.dtype
        (rows, inputs, outputs), output_shape, workload = _SIZES[self.size]
        shapes = {"X": (rows, inputs), "W": (inputs, outputs), "b": outputs, "Z": (rows, outputs)}
        shapes["p"] = WORKLOADS[workload].parameters

        def normal(letter: str) -> np.ndarray:
            return rng.standard_normal(shapes[letter], np.float32).astype(dtype)

        arguments: tuple[Any, ...]
        if self.function == "loss_value_and_delta":  # what lies between 0 and 1 suits every loss
            uniform = rng.uniform(0.05, 0.95, (2, *output_shape)).astype(np.float32)
            output, target = uniform.astype(dtype)
            if LOSSES[self.name].takes_labels:
                target = rng.integers(output_shape[1], size=len(output))
            number = 0.6 * LOSSES[self.name].default
            arguments = output, target, self.name, None, number, np.empty_like(output)
        elif self.function == "optimizer_update":  # from moments of some earlier steps
            momentum = {"momentum": 0.9} if self.name == "sgd" else {}
            spec = OPTIMIZERS[self.name](**momentum).spec()
            moments = tuple(np.abs(normal("p")) for _ in range(spec.moments))
            arguments = normal("p"), normal("p"), moments, spec, 1e-3, 3
        else:
            taken, filled = _ARRAYS[self.function]
            empty = (np.empty(shapes[letter], dtype) for letter in filled)
            arguments = *map(normal, taken), *filter(None, [self.name]), *empty
        return Call(getattr(kernels, self.function), arguments)


#: function -> the names that it takes.
_FUNCTIONS = {
    "linear_forward": ("identity", "tanh"),
    "linear_backward": ("",),
    "activation_forward": ACTIVATIONS,
    "activation_backward": ACTIVATIONS,
    "loss_value_and_delta": LOSSES,
    "optimizer_update": [name for name, kind in OPTIMIZERS.items() if issubclass(kind, Optimizer)],
    "all_finite": ("",),
}

#: Every kernel with every name at every size, and once in float64.
KERNELS = [
    Kernel(function, name, size, dtype)
    for function, names in _FUNCTIONS.items()
    for name in names
    for size, dtype in (*((size, "float32") for size in _SIZES), ("middle", "float64"))
]

if __name__ == "__main__":
    print(floor_table(), end="")
