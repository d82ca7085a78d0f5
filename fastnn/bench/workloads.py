"""The five workloads that the package measures itself by, and the agreement they demand.

From a thousand parameters to three million: a curve, two digit readers, a table and a wide
network. One row each, used by ``fastnn bench``, by ``benchmarks/`` and by its peers, so
that every figure is about the same network, the same data and the same first parameters.

The data are random, seeded and learnable. They only have to fill the shapes: no time here
depends on the values. Nothing is timed before its gradient agrees with the NumPy reference
in float64 (``agreement``); a fast wrong answer has no speed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..kernels import contract
from ..layers import Dense
from ..model import Sequential
from ..optimizers import SGD, Adam, Optimizer

Array = NDArray[Any]

#: ‖g - g₆₄‖ / ‖g₆₄‖ of a right gradient: roundings of 6e-8 (1e-16) over sums that mostly cancel.
BOUNDS = {"float32": 1e-5, "float64": 1e-12}

#: Where float32 itself is what hurts: so many times the error of plain NumPy in the same dtype.
TIMES_NUMPY = 8.0

#: Rows with a z this near the kink of relu are left out: rounding would choose their derivative.
_MARGIN = 1e-4


class Workload(NamedTuple):
    """A network, what it is trained for, and how much data."""

    name: str
    sizes: tuple[int, ...]  #: inputs, the widths of the hidden layers, outputs
    activation: str  #: of the hidden layers
    loss: str  #: "mse" after an identity, or "cross_entropy" after a softmax
    batch_size: int
    optimizer: Optimizer
    rows: int
    dtype: str = "float32"

    @property
    def network(self) -> str:
        """As "784-128-10 relu"."""
        return f"{'-'.join(map(str, self.sizes))} {self.activation}"

    @property
    def recipe(self) -> dict[str, Any]:
        """How to train it, for ``Sequential.fit``."""
        return {name: getattr(self, name) for name in ("loss", "optimizer", "batch_size")}

    @property
    def steps(self) -> int:
        """Optimizer updates in an epoch, a short last batch included."""
        return math.ceil(self.rows / self.batch_size)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum((inputs + 1) * outputs for inputs, outputs in pairwise(self.sizes))

    @property
    def flops(self) -> int:
        """Floating-point operations in the matrix products of one whole batch.

        Two for each weight and row, three times: forward, weight gradient, and delta, which
        the first layer does not need.
        """
        products = [inputs * outputs for inputs, outputs in pairwise(self.sizes)]
        return 2 * self.batch_size * (3 * sum(products) - products[0])

    @property
    def epoch_flops(self) -> float:
        """``flops`` of all the rows."""
        return self.flops / self.batch_size * self.rows

    def views(self, flat: Array) -> list[tuple[Array, Array]]:
        """(W, b) of each layer in a vector ordered as ``Sequential.parameters``."""
        layers = tuple(contract.dense(*sizes) for sizes in pairwise(self.sizes))
        return [(one["weight"], one["bias"]) for one in contract.views(layers, flat)]

    def data(self) -> tuple[Array, Array]:
        """X (rows, inputs) in the dtype; y (rows, outputs) in it, or labels (rows,)."""
        rng = np.random.default_rng(self.rows)
        inputs, outputs = self.sizes[0], self.sizes[-1]
        X: Array = rng.standard_normal((self.rows, inputs), dtype=np.float32)
        scores = X @ rng.standard_normal((inputs, outputs), dtype=np.float32)
        if self.loss == "mse":
            noise = 0.1 * rng.standard_normal(scores.shape, dtype=np.float32)
            y = np.add(np.sin(2 * scores), noise, dtype=self.dtype)
        else:
            y = scores.argmax(axis=1)
        return X.astype(self.dtype, copy=False), y

    def model(self, engine: str = "auto") -> Sequential:
        """The network with its first parameters; no bias is zero, so that the check sees them."""
        inputs, *hidden, outputs = self.sizes
        layers = [Dense(units, self.activation) for units in hidden]
        layers.append(Dense(outputs, "softmax" if self.loss == "cross_entropy" else "identity"))
        model = Sequential(layers, input_size=inputs, dtype=self.dtype, seed=0, engine=engine)
        rng = np.random.default_rng(0)
        model.weights = [
            (weight, (0.1 * rng.standard_normal(weight.shape[1:])).astype(self.dtype))
            for weight, _ in model.weights
        ]
        return model


_CE = "cross_entropy"

#: In the order of their size.
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("fit1d", (1, 32, 32, 1), "tanh", "mse", 32, Adam(1e-3), 1024),
        Workload("digits3b1b", (784, 16, 16, 10), "sigmoid", _CE, 32, SGD(0.05, 0.9), 5000),
        Workload("mnist128", (784, 128, 10), "relu", _CE, 128, Adam(1e-3), 12_800),
        Workload("tabular", (54, 256, 256, 256, 7), "relu", _CE, 256, Adam(1e-3), 12_800),
        Workload("wide", (1024, 1024, 1024, 1024, 10), "relu", _CE, 1024, SGD(0.01, 0.9), 4096),
    )
}


def chosen(names: Sequence[str] | None) -> list[Workload]:
    """The workloads of these names, or all; an unknown name is a ValueError."""
    return [WORKLOADS[checks.choice("workload", name, WORKLOADS)] for name in names or WORKLOADS]


# --------------------------------------------------------------------------- agreement


class Disagreement(ValueError):
    """A gradient is further from the reference than rounding can take it."""


@functools.cache
def reference(workload: Workload) -> tuple[Array, Array, Array]:
    """One batch away from kinks, X and y, and its gradient by the NumPy engine in float64.

    The parameters are the first ones, rounded to the workload's dtype.
    """
    X, y = (array[: 3 * workload.batch_size // 2] for array in workload.data())
    exact = workload._replace(dtype="float64").model("numpy")
    exact.parameters = workload.model("numpy").parameters
    if workload.activation == "relu":
        Y, nearest = X.astype(np.float64), np.full(len(X), np.inf)
        for weight, bias in workload.views(exact.parameters)[:-1]:
            Z = Y @ weight + bias
            nearest, Y = np.minimum(nearest, np.abs(Z).min(axis=1)), np.maximum(Z, 0)
        X, y = X[nearest > _MARGIN], y[nearest > _MARGIN]
    X, y = X[: workload.batch_size], y[: workload.batch_size]
    return X, y, exact.loss_and_gradient(X, y, loss=workload.loss)[1]


def relative_error(value: Array, truth: Array) -> float:
    """‖value - truth‖ / ‖truth‖, computed in float64; 0 if both are zero."""
    difference = float(np.linalg.norm(np.asarray(value, np.float64) - truth))
    return difference / float(np.linalg.norm(truth)) if difference else 0.0


def agreement(workload: Workload, gradient_of: Callable[[Array, Array], Array], who: str) -> float:
    """The relative error of a gradient on the rows of ``reference``.

    Parameters
    ----------
    workload : Workload
    gradient_of : callable
        (X, y) -> the gradient at the first parameters, flat as ``Sequential.parameters``.
    who : str
        Whose gradient it is, for the message.

    Raises
    ------
    Disagreement
        If the error, NaN included, exceeds both 1e-5 (float64: 1e-12) and eight times that
        of plain NumPy in the workload's dtype.
    """
    X, y, truth = reference(workload)
    error, bound = relative_error(gradient_of(X, y), truth), BOUNDS[workload.dtype]
    if not error <= bound:
        plain = workload.model("numpy").loss_and_gradient(X, y, loss=workload.loss)[1]
        bound = max(bound, TIMES_NUMPY * relative_error(plain, truth))
    if not error <= bound:
        raise Disagreement(
            f"{who} computes a wrong gradient on {workload.name} ({workload.dtype}): relative "
            f"error {error:.1e}, at most {bound:.1e} is rounding; it is not timed"
        )
    return error
