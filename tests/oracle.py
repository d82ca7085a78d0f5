"""An independent oracle for gradients: dual numbers in float64 arrays.

A ``Dual`` is an array with the derivative of each element in P directions. Networks and
losses are written here once more, forward only and in formulas of their own (exponentials
where the engines use tanh, erf where they use erfc, …); the derivative comes out of the
product and chain rules below. Slow and small, for networks of some dozens of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])


class Dual:
    """An array ``value`` and its ``slope``, with one more axis: the P directions."""

    __array_ufunc__ = None  # so that ndarray + Dual asks Dual

    def __init__(self, value: np.ndarray, slope: np.ndarray) -> None:
        self.value, self.slope = value, slope

    def apply(self, value: np.ndarray, derivative: np.ndarray) -> Dual:
        """The chain rule, for a function of each element."""
        return Dual(value, derivative[..., np.newaxis] * self.slope)

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def __add__(self, other: Any) -> Dual:
        other = _dual(other, self)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other: Any) -> Dual:
        other = _dual(other, self)
        slope = (
            self.slope * other.value[..., np.newaxis] + self.value[..., np.newaxis] * other.slope
        )
        return Dual(self.value * other.value, slope)

    def __truediv__(self, other: Any) -> Dual:
        other = _dual(other, self)
        return self * other.apply(1 / other.value, -1 / other.value**2)

    def __sub__(self, other: Any) -> Dual:
        return self + -other

    def __rsub__(self, other: Any) -> Dual:
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def __matmul__(self, other: Dual) -> Dual:
        slope = np.einsum("ikp,kj->ijp", self.slope, other.value)
        slope += np.einsum("ik,kjp->ijp", self.value, other.slope)
        return Dual(self.value @ other.value, slope)

    def sum_rows(self) -> Dual:
        """The sum over the last axis of the array, which is kept."""
        return Dual(self.value.sum(-1, keepdims=True), self.slope.sum(-2, keepdims=True))

    def where(self, condition: np.ndarray, other: Any) -> Dual:
        """Self where the condition holds, else the other."""
        other = _dual(other, self)
        slope = np.where(condition[..., np.newaxis], self.slope, other.slope)
        return Dual(np.where(condition, self.value, other.value), slope)


def _dual(x: Any, like: Dual) -> Dual:
    if isinstance(x, Dual):
        return x
    value = np.broadcast_to(np.asarray(x, np.float64), like.value.shape)
    return Dual(value, np.zeros(like.slope.shape))


def exp(x: Dual) -> Dual:
    """The exponential of each element."""
    return x.apply(np.exp(x.value), np.exp(x.value))


def log(x: Dual) -> Dual:
    """The natural logarithm of each element."""
    return x.apply(np.log(x.value), 1 / x.value)


def erf(x: Dual) -> Dual:
    """The error function of each element."""
    return x.apply(_erf(x.value), 2 / math.sqrt(math.pi) * np.exp(-(x.value**2)))


def absolute(x: Dual) -> Dual:
    """The absolute value of each element, of derivative 0 at 0."""
    return x.apply(np.abs(x.value), np.sign(x.value))


def _selu(x: Dual) -> Dual:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return scale * x.where(x.value > 0, alpha * exp(x) - alpha)


def _mish(x: Dual) -> Dual:
    e = exp(x)  # tanh(log(1 + e)) = ((1 + e)² - 1) / ((1 + e)² + 1)
    return x * (e * (e + 2)) / (e * (e + 2) + 2)


def _hard_sigmoid(x: Dual) -> Dual:
    inside = (x + 3.0) * (1 / 6)
    return inside.where((x.value > -3) & (x.value < 3), (x.value >= 3) * 1.0)


ACTIVATIONS: dict[str, Callable[[Dual], Dual]] = {
    "identity": lambda x: x,
    "relu": lambda x: x * (x.value > 0),
    "leaky_relu": lambda x: x * np.where(x.value > 0, 1.0, 0.01),
    "elu": lambda x: x.where(x.value > 0, exp(x) - 1.0),
    "selu": _selu,
    "gelu": lambda x: 0.5 * x * (1.0 + erf(x * math.sqrt(0.5))),
    "silu": lambda x: x * exp(x) / (1.0 + exp(x)),
    "mish": _mish,
    "softplus": lambda x: log(1.0 + exp(x)),
    "sigmoid": lambda x: exp(x) / (1.0 + exp(x)),
    "tanh": lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)),
    "softsign": lambda x: x / (1.0 + absolute(x)),
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "softmax": lambda x: exp(x) / exp(x).sum_rows(),
}


def _huber(o: Dual, t: np.ndarray, delta: float) -> Dual:
    e = absolute(o - t)
    return (e * e * 0.5).where(e.value <= delta, e * delta - delta**2 / 2)


def _quantile(o: Dual, t: np.ndarray, q: float) -> Dual:
    e = t - o
    return e * np.where(e.value > 0, q, np.where(e.value < 0, q - 1, 0))


def _bounded_log(p: Dual) -> Dual:
    inside = p.value > math.exp(-100)
    return log(p.where(inside, 1.0)).where(inside, -100.0)


#: ℓ (n, outputs) of the output, the target as rows, and the loss's parameter.
LOSSES: dict[str, Callable[[Dual, np.ndarray, float], Dual]] = {
    "mse": lambda o, t, _: (o - t) * (o - t),
    "mae": lambda o, t, _: absolute(o - t),
    "huber": _huber,
    "quantile": _quantile,
    "poisson": lambda o, t, _: exp(o) - o * t,
    "sum_squares": lambda o, t, _: (o - t) * (o - t),
    "cross_entropy": lambda o, t, _: t * (log(exp(o).sum_rows()) - o),
    "binary_cross_entropy": lambda o, t, _: log(1.0 + exp(o)) - o * t,
    "cross_entropy_of_probabilities": lambda o, t, _: -t * _bounded_log(o),
    "binary_cross_entropy_of_probabilities": lambda o, t, _: (
        -t * _bounded_log(o) - (1 - t) * _bounded_log(1.0 - o)
    ),
}


def mean_divisor(loss: Any, weight: np.ndarray, outputs: int) -> float:
    """What the weighted sum of a loss is divided by."""
    if loss.name == "sum_squares":
        return 1.0
    by_row = loss.per_row or loss.name.startswith("cross_entropy")
    return weight.sum() * (1 if by_row else outputs)


def output(
    layers: tuple[Any, ...],
    parameters: np.ndarray,
    X: np.ndarray,
    by: str = "parameters",
    fused: bool = False,
    inputs_scale: tuple[np.ndarray, ...] = (),
) -> Dual:
    """The network's output with its derivative by all parameters, or by its inputs.

    ``fused`` leaves out the last activation. ``inputs_scale`` holds, for each layer, what
    dropout multiplies its inputs by. By "inputs" the directions are the columns of X.
    """
    directions = len(parameters) if by == "parameters" else X.shape[1]
    flat = Dual(parameters, np.zeros((len(parameters), directions)))
    Y = Dual(X, np.zeros((*X.shape, directions)))
    seeded = flat if by == "parameters" else Y
    seeded.slope = np.broadcast_to(np.eye(directions), seeded.slope.shape)
    start = 0
    for index, spec in enumerate(layers):
        if inputs_scale:
            Y = Y * inputs_scale[index]
        stop = start + spec.inputs * spec.outputs
        shape = (spec.inputs, spec.outputs)
        W = Dual(flat.value[start:stop].reshape(shape), flat.slope[start:stop].reshape(*shape, -1))
        Y, start = Y @ W, stop
        if spec.use_bias:
            stop = start + spec.outputs
            Y = Y + Dual(flat.value[start:stop][np.newaxis], flat.slope[start:stop][np.newaxis])
            start = stop
        if not (fused and index == len(layers) - 1):
            Y = ACTIVATIONS[spec.activation](Y)
    return Y


def loss_and_gradient(
    layers: tuple[Any, ...],
    parameters: np.ndarray,
    loss: Any,
    X: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    inputs_scale: tuple[np.ndarray, ...] = (),
) -> tuple[float, np.ndarray]:
    """The loss of a network on all rows and its flat gradient."""
    o = output(layers, parameters, X, fused=loss.fused, inputs_scale=inputs_scale)
    outputs = o.value.shape[1]
    if target.ndim == 1:
        target = (target[:, np.newaxis] == np.arange(outputs)) * 1.0
    weight = np.ones(len(X)) if weight is None else weight
    if not weight.any():
        return 0.0, np.zeros(len(parameters))
    scaled = LOSSES[loss.name](o, target, loss.parameter) * weight[:, np.newaxis]
    divisor = mean_divisor(loss, weight, outputs)
    return scaled.value.sum() / divisor, scaled.slope.sum(axis=(0, 1)) / divisor
