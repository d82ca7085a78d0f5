"""Everything that is benchmarked, in tables: whole epochs, and kernels on plain arrays.

The five workloads come from ``fastnn.bench.workloads``; here they get their variants in float64
and their floors. A kernel is timed as those who embed it call it, through
``fastnn.kernels`` with its outputs given, on arrays of three sizes that a small, a middle
and a wide network would have.

``python benchmarks/cases.py`` prints the floors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import fastnn
from fastnn import kernels
from fastnn.bench.command import significant
from fastnn.kernels.contract import ACTIVATIONS, LOSSES, OPTIMIZERS, OptimizerSpec
from fastnn.optimizers import OPTIMIZERS as DESCRIPTIONS
from fastnn.bench.workloads import WORKLOADS, Workload

#: Every engine that is available here.
ENGINES = [name for name, row in fastnn.engines().items() if row["available"]]

#: The five, and each of them in float64.
TRAINING = [
    workload._replace(dtype=dtype)
    for dtype in ("float32", "float64")
    for workload in WORKLOADS.values()
]


# --------------------------------------------------------------------------- floors


class Floor(NamedTuple):
    """The least that one step of a workload can cost."""

    flops: int  #: of the matrix products
    bytes: int  #: from outside of the step: see ``floor``


def floor(workload: Workload) -> Floor:
    """FLOPs, and the bytes that come from outside of a step.

    These are the batch's rows and targets, read; parameters and moments, read and written.
    Activations, deltas and gradients can stay in registers and the nearest caches.
    """
    itemsize = np.dtype(workload.dtype).itemsize
    arrays = 1 + workload.optimizer.spec().moments
    target = 8 if workload.loss == "cross_entropy" else itemsize * workload.sizes[-1]
    rows = workload.batch_size * (itemsize * workload.sizes[0] + target)
    return Floor(workload.flops, rows + 2 * arrays * itemsize * workload.parameters)


def floor_table() -> str:
    """The floors as a table in Markdown; scale its last column by the peak of a core."""
    headings = ("workload", "parameters", "kFLOP", "KB", "FLOP/byte", "µs at 100 GFLOP/s")
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name, workload in WORKLOADS.items():
        least = floor(workload)
        cells = (
            f"{workload.parameters:,}",
            f"{least.flops / 1e3:,.0f}",
            f"{least.bytes / 1e3:,.0f}",
            f"{least.flops / least.bytes:,.0f}",
            significant(least.flops / 100e3),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


# --------------------------------------------------------------------------- kernels

#: What a kernel returned or filled; and the kernel, bound to its arrays, that does it.
Outputs = tuple[np.ndarray, ...]
Call = Callable[[str], Outputs]


class Kernel(NamedTuple):
    """A kernel on arrays of one size; ``row`` is an activation, a loss or an optimizer."""

    function: str
    row: str
    size: str
    dtype: str

    def __str__(self) -> str:
        return "-".join(part for part in self if part)

    def bind(self, dtype: str | None = None) -> Call:
        """A function of an engine's name that runs the kernel on arrays made here.

        The arrays hold the same float32 numbers whatever the dtype.
        """
        rng = np.random.default_rng(7)
        return _BIND[self.function](rng, self.row, self.size, np.dtype(dtype or self.dtype))


_SIZES = ("small", "middle", "large")

#: Rows, inputs and outputs of a layer; the activations are those of its output.
_LAYERS = {"small": (32, 32, 32), "middle": (128, 784, 128), "large": (512, 1024, 1024)}

#: Rows and outputs where a loss is taken.
_OUTPUTS = {"small": (32, 10), "middle": (1024, 10), "large": (1024, 1000)}

#: Parameters that an optimizer updates: those of fit1d, mnist128 and wide.
_PARAMETERS = {
    "small": WORKLOADS["fit1d"].parameters,
    "middle": WORKLOADS["mnist128"].parameters,
    "large": WORKLOADS["wide"].parameters,
}


def _normal(rng: np.random.Generator, dtype: np.dtype, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32).astype(dtype)


def _linear_forward(rng: np.random.Generator, row: str, size: str, dtype: np.dtype) -> Call:
    rows, inputs, outputs = _LAYERS[size]
    X = _normal(rng, dtype, rows, inputs)
    weight, bias = _normal(rng, dtype, inputs, outputs), _normal(rng, dtype, outputs)
    out = np.empty((rows, outputs), dtype)
    return lambda engine: (kernels.linear_forward(X, weight, bias, row, out=out, engine=engine),)


def _linear_backward(rng: np.random.Generator, row: str, size: str, dtype: np.dtype) -> Call:
    rows, inputs, outputs = _LAYERS[size]
    X, weight = _normal(rng, dtype, rows, inputs), _normal(rng, dtype, inputs, outputs)
    delta = _normal(rng, dtype, rows, outputs)
    filled = np.empty_like(X), np.empty_like(weight), np.empty(outputs, dtype)
    return lambda engine: kernels.linear_backward(X, weight, delta, *filled, engine=engine)


def _activation_forward(rng: np.random.Generator, row: str, size: str, dtype: np.dtype) -> Call:
    Z = _normal(rng, dtype, _LAYERS[size][0], _LAYERS[size][2])
    out = np.empty_like(Z)
    return lambda engine: (kernels.activation_forward(Z, row, out=out, engine=engine),)


def _activation_backward(rng: np.random.Generator, row: str, size: str, dtype: np.dtype) -> Call:
    shape = _LAYERS[size][0], _LAYERS[size][2]
    Z, delta = _normal(rng, dtype, *shape), _normal(rng, dtype, *shape)
    out = np.empty_like(Z)
    return lambda engine: (kernels.activation_backward(Z, delta, row, out=out, engine=engine),)


def _loss(rng: np.random.Generator, row: str, size: str, dtype: np.dtype) -> Call:
    """Outputs and targets between 0 and 1 suit every loss; the cross-entropies get labels."""
    shape = _OUTPUTS[size]
    output = rng.uniform(0.05, 0.95, shape).astype(np.float32).astype(dtype)
    target = rng.uniform(0.05, 0.95, shape).astype(np.float32).astype(dtype)
    if row.startswith("cross_entropy"):
        target = rng.integers(shape[1], size=shape[0])
    parameter = {"huber": 0.25, "quantile": 0.3}.get(row, 0.0)
    out = np.empty_like(output)

    def call(engine: str) -> Outputs:
        value, delta = kernels.loss_value_and_delta(
            output, target, row, parameter=parameter, out=out, engine=engine
        )
        return np.array([value]), delta

    return call


def _optimizer_update(rng: np.random.Generator, row: str, size: str, dtype: np.dtype) -> Call:
    """In place, from moments of some earlier steps."""
    count, spec = _PARAMETERS[size], optimizer_spec(row)
    parameters, gradient = _normal(rng, dtype, count), _normal(rng, dtype, count)
    moments = tuple(np.abs(_normal(rng, dtype, count)) for _ in range(spec.moments))

    def call(engine: str) -> Outputs:
        kernels.optimizer_update(parameters, gradient, moments, spec, 1e-3, 3, engine=engine)
        return parameters, *moments

    return call


def optimizer_spec(row: str) -> OptimizerSpec:
    """The rule with its default numbers; SGD with momentum."""
    description = fastnn.SGD(1e-3, momentum=0.9) if row == "sgd" else DESCRIPTIONS[row]()
    return description.spec()


def _all_finite(rng: np.random.Generator, row: str, size: str, dtype: np.dtype) -> Call:
    values = _normal(rng, dtype, _PARAMETERS[size])
    return lambda engine: (np.array([kernels.all_finite(values, engine=engine)]),)


#: function -> what binds it to arrays.
_BIND = {
    "linear_forward": _linear_forward,
    "linear_backward": _linear_backward,
    "activation_forward": _activation_forward,
    "activation_backward": _activation_backward,
    "loss_value_and_delta": _loss,
    "optimizer_update": _optimizer_update,
    "all_finite": _all_finite,
}

#: function -> its rows.
_ROWS = {
    "linear_forward": ("identity", "tanh"),
    "activation_forward": ACTIVATIONS,
    "activation_backward": ACTIVATIONS,
    "loss_value_and_delta": LOSSES,
    "optimizer_update": OPTIMIZERS,
}

#: Every row of every kernel at every size, and once in float64.
KERNELS = [
    Kernel(function, row, size, dtype)
    for function in _BIND
    for row in _ROWS.get(function, ("",))
    for size, dtype in (*((size, "float32") for size in _SIZES), ("middle", "float64"))
]

if __name__ == "__main__":
    print(floor_table())
