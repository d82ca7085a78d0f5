"""An independent oracle for values and gradients: the complex step.

Networks, losses and activations are written here once more, forward only and in formulas of
their own (exponentials where the engines use tanh, a logarithm where they take roots, …).
Their derivative is Im f(x + ih) / h with h = 1e-30, exact to rounding (Squire & Trapp 1998);
each direction needs a network of its own, so this is for small ones. Activations take the
arithmetic as their last argument, NumPy's or that of mpmath.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from mpmath import mp

STEP = 1e-30

_erf = np.vectorize(math.erf, otypes=[np.float64])


class Complex:
    """Arrays of complex numbers whose imaginary part is a multiple of the step."""

    number, exp, log1p, sin, where, real = float, np.exp, np.log1p, np.sin, np.where, np.real

    @staticmethod
    def normal_cdf(z: Any) -> Any:
        """By the chain rule."""
        slope = np.exp(-(z.real**2) / 2) / math.sqrt(2 * math.pi)
        return (1 + _erf(z.real / math.sqrt(2))) / 2 + 1j * slope * z.imag


class Exact:
    """Single real numbers of mpmath."""

    number, exp, log1p, sin, normal_cdf, real = mp.mpf, mp.exp, mp.log1p, mp.sin, mp.ncdf, mp.mpf

    @staticmethod
    def where(condition: bool, yes: Any, no: Any) -> Any:
        return yes if condition else no


def _abs(x: Any, m: Any = Complex) -> Any:
    return x * m.where(m.real(x) > 0, 1, m.where(m.real(x) < 0, -1, 0))


def _clip(x: Any, low: float, high: float, m: Any) -> Any:
    return m.where(m.real(x) <= low, low, m.where(m.real(x) >= high, high, x))


def _selu(x: Any, m: Any) -> Any:
    alpha = m.number("1.6732632423543772848170429916717")
    branch = m.where(m.real(x) > 0, x, alpha * m.exp(x) - alpha)
    return m.number("1.0507009873554804934193349852946") * branch


def _mish(x: Any, m: Any) -> Any:
    e = m.exp(x)  # tanh(log(1 + e)) = ((1 + e)² - 1) / ((1 + e)² + 1)
    return x * e * (e + 2) / (e * (e + 2) + 2)


#: y = f(x) of each element, or of rows for softmax.
ACTIVATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "identity": lambda x, m: x,
    "relu": lambda x, m: m.where(m.real(x) > 0, x, 0),
    "leaky_relu": lambda x, m: m.where(m.real(x) > 0, x, x / 100),
    "elu": lambda x, m: m.where(m.real(x) > 0, x, m.exp(x) - 1),
    "selu": _selu,
    "gelu": lambda x, m: x * m.normal_cdf(x),
    "silu": lambda x, m: x * m.exp(x) / (1 + m.exp(x)),
    "mish": _mish,
    "softplus": lambda x, m: m.log1p(m.exp(x)),
    "sigmoid": lambda x, m: m.exp(x) / (1 + m.exp(x)),
    "tanh": lambda x, m: (m.exp(x) - m.exp(-x)) / (m.exp(x) + m.exp(-x)),
    "softsign": lambda x, m: x / (1 + _abs(x, m)),
    "hard_sigmoid": lambda x, m: (_clip(x, -3, 3, m) + 3) / 6,
    "hard_swish": lambda x, m: x * (_clip(x, -3, 3, m) + 3) / 6,
    "hard_tanh": lambda x, m: _clip(x, -1, 1, m),
    "sine": lambda x, m: m.sin(x),
    "softmax": lambda x, m: m.exp(x) / m.exp(x).sum(-1, keepdims=True),
}


def _huber(o: Any, t: Any, delta: float) -> Any:
    e = _abs(o - t)
    return np.where(e.real <= delta, e * e / 2, e * delta - delta**2 / 2)


def _hinge(o: Any, t: Any, _: float) -> Any:
    gap = 1 - o * np.where(t > 0, 1, -1)
    return gap * (gap.real > 0)


#: ℓ (n, outputs) of the output, the target as rows, and the loss's parameter.
LOSSES: dict[str, Callable[[Any, Any, float], Any]] = {
    "mse": lambda o, t, _: (o - t) ** 2,
    "mae": lambda o, t, _: _abs(o - t),
    "huber": _huber,
    "quantile": lambda o, t, q: _abs(t - o) * np.where(t > o.real, q, 1 - q),
    "log_cosh": lambda o, t, _: np.log((np.exp(o - t) + np.exp(t - o)) / 2),
    "poisson": lambda o, t, _: np.exp(o) - o * t,
    "hinge": _hinge,
    "sum_squares": lambda o, t, _: (o - t) ** 2,
    "cross_entropy": lambda o, t, _: t * (np.log(np.exp(o).sum(-1, keepdims=True)) - o),
    "binary_cross_entropy": lambda o, t, _: np.log(1 + np.exp(o)) - o * t,
    "cross_entropy_of_probabilities": lambda o, t, _: -t * np.log(o),
    "binary_cross_entropy_of_probabilities": lambda o, t, _: (
        -t * np.log(o) - (1 - t) * np.log(1 - o)
    ),
}


def _dense(X: Any, numbers: tuple[float, ...], weight: Any, bias: Any = 0) -> Any:
    return X @ weight + bias


def _layer_norm(X: Any, numbers: tuple[float, ...], scale: Any = 1, shift: Any = 0) -> Any:
    centred = X - X.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred * np.exp(np.log(variance + numbers[0]) / -2) * scale + shift


#: Z of the inputs, the numbers and the tensors of a kind of layer.
KINDS: dict[str, Callable[..., Any]] = {
    "dense": _dense,
    "layer_norm": _layer_norm,
    "scale": lambda X, numbers, scale: X * scale,
}


def output(
    layers: tuple[Any, ...],
    parameters: np.ndarray,
    X: np.ndarray,
    by: str = "parameters",
    fused: bool = False,
    inputs_scale: tuple[np.ndarray, ...] = (),
) -> np.ndarray:
    """The network's output (directions, n, outputs), with its slopes as imaginary parts.

    ``fused`` leaves out the last activation. ``inputs_scale`` holds, for each layer, what
    dropout multiplies its inputs by. By "inputs" the directions are the columns of X.
    """
    flat, Y = np.atleast_2d(parameters), X[np.newaxis]
    if by == "parameters":
        flat = flat + 1j * STEP * np.eye(len(parameters))
    else:
        Y = Y + 1j * STEP * np.eye(X.shape[1])[:, np.newaxis]
    start = 0
    for index, spec in enumerate(layers):
        if inputs_scale:
            Y = Y * inputs_scale[index]
        tensors = {}
        for tensor in spec.tensors:
            stop = start + math.prod(tensor.shape)
            rows = tensor.shape if len(tensor.shape) > 1 else (1, *tensor.shape)
            tensors[tensor.name] = flat[:, start:stop].reshape(-1, *rows)
            start = stop
        Y = KINDS[spec.kind](Y, spec.numbers, **tensors)
        if not (fused and index == len(layers) - 1):
            Y = ACTIVATIONS[spec.activation](Y, Complex)
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
    outputs = o.shape[-1]
    if target.ndim == 1:
        target = (target[:, np.newaxis] == np.arange(outputs)) * 1.0
    weight = np.ones(len(X)) if weight is None else weight
    if not weight.any():
        return 0.0, np.zeros(len(parameters))
    by_row = loss.per_row or loss.name.startswith("cross_entropy")
    divisor = 1.0 if loss.name == "sum_squares" else weight.sum() * (1 if by_row else outputs)
    rows = LOSSES[loss.name](o, target, loss.parameter) * weight[:, np.newaxis]
    total = rows.sum((-2, -1)) / divisor
    return float(total[0].real), total.imag / STEP
