"""The NumPy engine's rows: every activation, loss and optimizer as its textbook writes it.

This file is what the compiled engines are measured against, so it shares no formula
with them: derivatives are functions of z, nothing is fused, no result is reused. To add
an activation, a loss or an optimizer, add one row to a table below. Functions return new
arrays in the dtype of their arguments and leave their arguments alone; NaN and inf flow
through, and NumPy's warnings are the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# --------------------------------------------------------------------------- activations


class Activation(NamedTuple):
    """``function(Z)`` is Y = f(Z); ``backward(Z, dY)`` is d loss / d Z."""

    function: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]


def _elementwise(
    function: Callable[[Array], Array], derivative: Callable[[Array], Array]
) -> Activation:
    return Activation(function, lambda z, dy: dy * derivative(z).astype(z.dtype, copy=False))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])

# Klambauer et al. 2017, "Self-Normalizing Neural Networks", to double precision.
_SELU_ALPHA = 1.6732632423543772848
_SELU_SCALE = 1.0507009873554804934


def _normal_cdf(z: Array) -> Array:
    return (0.5 * _erfc(-z / math.sqrt(2))).astype(z.dtype)


def _normal_pdf(z: Array) -> Array:
    return np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def _sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def _sigmoid_derivative(z: Array) -> Array:
    return _sigmoid(z) * (1 - _sigmoid(z))


def _softplus(z: Array) -> Array:
    return np.logaddexp(z, z.dtype.type(0))


def _mish_derivative(z: Array) -> Array:
    return np.tanh(_softplus(z)) + z * (1 - np.tanh(_softplus(z)) ** 2) * _sigmoid(z)


def _hard_sigmoid(z: Array) -> Array:
    return np.clip(z + 3, 0, 6) / 6


def _hard_sigmoid_derivative(z: Array) -> Array:
    return (np.abs(z) < 3) / z.dtype.type(6)


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=-1, keepdims=True)  # the log-sum-exp rule: no exp overflows
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _softmax(z: Array) -> Array:
    return np.exp(_log_softmax(z))


def _softmax_backward(z: Array, dy: Array) -> Array:
    y = _softmax(z)  # the Jacobian of a row is diag(y) - y yᵀ
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


ACTIVATIONS: dict[str, Activation] = {
    "identity": _elementwise(np.copy, np.ones_like),
    "relu": _elementwise(lambda z: np.maximum(z, 0), lambda z: z > 0),
    "leaky_relu": _elementwise(
        lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)
    ),
    "elu": _elementwise(
        lambda z: np.where(z > 0, z, np.expm1(z)), lambda z: np.where(z > 0, 1, np.exp(z))
    ),
    "selu": _elementwise(
        lambda z: _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * np.expm1(z)),
        lambda z: _SELU_SCALE * np.where(z > 0, 1, _SELU_ALPHA * np.exp(z)),
    ),
    "gelu": _elementwise(
        lambda z: z * _normal_cdf(z), lambda z: _normal_cdf(z) + z * _normal_pdf(z)
    ),
    "silu": _elementwise(
        lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) + z * _sigmoid_derivative(z)
    ),
    "mish": _elementwise(lambda z: z * np.tanh(_softplus(z)), _mish_derivative),
    "softplus": _elementwise(_softplus, _sigmoid),
    "sigmoid": _elementwise(_sigmoid, _sigmoid_derivative),
    "tanh": _elementwise(np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "softsign": _elementwise(lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2),
    "hard_sigmoid": _elementwise(_hard_sigmoid, _hard_sigmoid_derivative),
    "hard_swish": _elementwise(
        lambda z: z * _hard_sigmoid(z), lambda z: _hard_sigmoid(z) + z * _hard_sigmoid_derivative(z)
    ),
    "hard_tanh": _elementwise(lambda z: np.clip(z, -1, 1), lambda z: np.abs(z) < 1),
    "sine": _elementwise(np.sin, np.cos),
    "softmax": Activation(_softmax, _softmax_backward),
}


def activation(row: Any) -> Activation:
    """The row of that name, or that of a user's function (``contract.CustomFunction``)."""
    return ACTIVATIONS[row] if isinstance(row, str) else _elementwise(row.value, row.slope)


# --------------------------------------------------------------------------- losses


class Loss(NamedTuple):
    """ℓ by element, and its derivative by the output o.

    ``value(o, t, parameter)`` and ``derivative(o, t, parameter)`` are (n, outputs), t the
    target as an array of that shape (labels become one-hot rows).
    """

    value: Callable[[Array, Array, float], Array]
    derivative: Callable[[Array, Array, float], Array]


def _huber(o: Array, t: Array, delta: float) -> Array:
    error = np.abs(o - t)
    return np.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta))


def _quantile(o: Array, t: Array, q: float) -> Array:
    return np.maximum(q * (t - o), (q - 1) * (t - o))


def _quantile_derivative(o: Array, t: Array, q: float) -> Array:
    return np.where(o > t, 1 - q, np.where(o < t, -q, 0 * (o - t))).astype(o.dtype)


def _log_cosh(o: Array, t: Array, _: float) -> Array:
    return np.logaddexp(o - t, t - o) - math.log(2)  # cosh e = (exp e + exp -e) / 2


def _sign(t: Array) -> Array:
    return np.where(t > 0, 1, -1).astype(t.dtype)


def _hinge_derivative(o: Array, t: Array, _: float) -> Array:
    return np.where(_sign(t) * o < 1, -_sign(t), 0).astype(o.dtype)


def _cross_entropy(o: Array, t: Array, bound: float) -> Array:
    value = -np.where(t == 0, 0, t * _log_softmax(o))  # a logit of -inf may have t = 0
    rows = value.sum(axis=-1, keepdims=True)
    return value if not bound else np.where(rows > bound, bound / value.shape[1], value)


def _cross_entropy_derivative(o: Array, t: Array, _: float) -> Array:
    return t.sum(axis=-1, keepdims=True) * _softmax(o) - t


def _binary_cross_entropy(o: Array, t: Array, bound: float) -> Array:
    value = t * _softplus(-o) + (1 - t) * _softplus(o)  # -log σ(o) is softplus(-o)
    return np.minimum(value, bound) if bound else value


# Of probabilities: PyTorch's BCELoss, its logarithm ≥ -100, its denominator ≥ 1e-12.
def _clamped_log(p: Array) -> Array:
    return np.maximum(np.log(p), -100)


def _binary_cross_entropy_of_probabilities(o: Array, t: Array, _: float) -> Array:
    return -(t * _clamped_log(o) + (1 - t) * _clamped_log(1 - o))


LOSSES: dict[str, Loss] = {
    "mse": Loss(lambda o, t, _: (o - t) ** 2, lambda o, t, _: 2 * (o - t)),
    "mae": Loss(lambda o, t, _: np.abs(o - t), lambda o, t, _: np.sign(o - t)),
    "huber": Loss(_huber, lambda o, t, delta: np.clip(o - t, -delta, delta)),
    "quantile": Loss(_quantile, _quantile_derivative),
    "log_cosh": Loss(_log_cosh, lambda o, t, _: np.tanh(o - t)),
    "poisson": Loss(lambda o, t, _: np.exp(o) - t * o, lambda o, t, _: np.exp(o) - t),
    "hinge": Loss(lambda o, t, _: np.maximum(0, 1 - _sign(t) * o), _hinge_derivative),
    "sum_squares": Loss(lambda o, t, _: (o - t) ** 2, lambda o, t, _: 2 * (o - t)),
    "cross_entropy": Loss(_cross_entropy, _cross_entropy_derivative),
    "binary_cross_entropy": Loss(_binary_cross_entropy, lambda o, t, _: _sigmoid(o) - t),
    "cross_entropy_of_probabilities": Loss(
        lambda o, t, _: -t * _clamped_log(o), lambda o, t, _: -t / np.maximum(o, 1e-12)
    ),
    "binary_cross_entropy_of_probabilities": Loss(
        _binary_cross_entropy_of_probabilities,
        lambda o, t, _: (o - t) / np.maximum(o * (1 - o), 1e-12),
    ),
}


def loss(row: Any) -> Loss:
    """The row of that name, or that of a user's function (``contract.CustomFunction``)."""
    if isinstance(row, str):
        return LOSSES[row]
    return Loss(lambda o, t, _: row.value(o, t), lambda o, t, _: row.slope(o, t))


# --------------------------------------------------------------------------- optimizers

Moments = tuple[Array, ...]
Change = tuple[Array, Moments]


class Optimizer(NamedTuple):
    """``change(g, moments, rate, t, *numbers)``: what update t takes away, and the new moments.

    The numbers are in the order of the contract's row. Weight decay joins the gradient g,
    unless it is decoupled (Loshchilov & Hutter 2019) and shrinks the parameters before.
    """

    change: Callable[..., Change]
    decoupled: bool = False


# The rules of momentum, RMSprop, Adagrad, Adam and NAdam are those that PyTorch documents.


def _momentum(g: Array, moments: Moments, rate: Any, t: int, momentum: float) -> Change:
    velocity = momentum * moments[0] + g
    return rate * velocity, (velocity,)


def _nesterov(g: Array, moments: Moments, rate: Any, t: int, momentum: float) -> Change:
    velocity = momentum * moments[0] + g
    return rate * (g + momentum * velocity), (velocity,)


# Sutskever et al. 2013, equations 1 to 4, with the sign of the velocity reversed
def _velocity(g: Array, moments: Moments, rate: Any, t: int, momentum: float) -> Change:
    velocity = momentum * moments[0] + rate * g
    return velocity, (velocity,)


def _nesterov_velocity(g: Array, moments: Moments, rate: Any, t: int, momentum: float) -> Change:
    velocity = momentum * moments[0] + rate * g
    return momentum * velocity + rate * g, (velocity,)


def _rmsprop(g: Array, moments: Moments, rate: Any, t: int, *numbers: float) -> Change:
    beta_2, epsilon = numbers
    v = beta_2 * moments[0] + (1 - beta_2) * g**2
    return rate * g / (np.sqrt(v) + epsilon), (v,)


def _rmsprop_momentum(g: Array, moments: Moments, rate: Any, t: int, *numbers: float) -> Change:
    beta_2, epsilon, momentum = numbers
    v = beta_2 * moments[0] + (1 - beta_2) * g**2
    velocity = momentum * moments[1] + g / (np.sqrt(v) + epsilon)
    return rate * velocity, (v, velocity)


def _adagrad(g: Array, moments: Moments, rate: Any, t: int, epsilon: float) -> Change:
    total = moments[0] + g**2
    return rate * g / (np.sqrt(total) + epsilon), (total,)


def _means(g: Array, moments: Moments, beta_1: float, beta_2: float) -> Moments:
    m, v = moments
    return beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2


def _adam(g: Array, moments: Moments, rate: Any, t: int, *numbers: float) -> Change:
    beta_1, beta_2, epsilon = numbers
    m, v = _means(g, moments, beta_1, beta_2)
    m_hat, v_hat = m / (1 - beta_1**t), v / (1 - beta_2**t)
    return rate * m_hat / (np.sqrt(v_hat) + epsilon), (m, v)


def _adam_hat(g: Array, moments: Moments, rate: Any, t: int, *numbers: float) -> Change:
    beta_1, beta_2, epsilon = numbers
    m, v = _means(g, moments, beta_1, beta_2)
    rate_t = rate * (math.sqrt(1 - beta_2**t) / (1 - beta_1**t))
    return rate_t * m / (np.sqrt(v) + epsilon), (m, v)


def _nadam(g: Array, moments: Moments, rate: Any, t: int, *numbers: float) -> Change:
    beta_1, beta_2, epsilon, momentum_decay = numbers
    m, v = _means(g, moments, beta_1, beta_2)
    mu = beta_1 * (1 - 0.5 * 0.96 ** (momentum_decay * np.arange(1, t + 2)))  # mu_1 … mu_t+1
    of_m, of_g = float(mu[t] / (1 - mu.prod())), float((1 - mu[t - 1]) / (1 - mu[:t].prod()))
    v_hat = v / (1 - beta_2**t)
    return rate * (of_m * m + of_g * g) / (np.sqrt(v_hat) + epsilon), (m, v)


# Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2
def _lion(g: Array, moments: Moments, rate: Any, t: int, beta_1: float, beta_2: float) -> Change:
    (m,) = moments
    return rate * np.sign(beta_1 * m + (1 - beta_1) * g), (beta_2 * m + (1 - beta_2) * g,)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(lambda g, moments, rate, t: (rate * g, ())),
    "momentum": Optimizer(_momentum),
    "nesterov": Optimizer(_nesterov),
    "velocity": Optimizer(_velocity),
    "nesterov_velocity": Optimizer(_nesterov_velocity),
    "rmsprop": Optimizer(_rmsprop),
    "rmsprop_momentum": Optimizer(_rmsprop_momentum),
    "adagrad": Optimizer(_adagrad),
    "adam": Optimizer(_adam),
    "adamw": Optimizer(_adam, decoupled=True),
    "adam_hat": Optimizer(_adam_hat),
    "nadam": Optimizer(_nadam),
    "lion": Optimizer(_lion, decoupled=True),
}
