"""The NumPy engine's rows: every activation, loss and optimizer as its textbook writes it.

This file is what the compiled engines are measured against, so it shares no formula
with them: derivatives are functions of z, nothing is fused, no result is reused. To add
an activation, a loss or an optimizer, add one row to a table below (and one in each other
engine). Functions return new arrays in the dtype of their arguments and leave their
arguments alone; NaN and inf flow through, and NumPy's warnings are the caller's business.
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
    return Activation(function, lambda z, dy: dy * derivative(z))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])

# Klambauer et al. 2017, "Self-Normalizing Neural Networks", to double precision.
_SELU_ALPHA = 1.6732632423543772848
_SELU_SCALE = 1.0507009873554804934


def _leaky_relu(z: Array) -> Array:
    return np.where(z > 0, z, 0.01 * z)


def _elu(z: Array) -> Array:
    return np.where(z > 0, z, np.expm1(z))


def _elu_derivative(z: Array) -> Array:
    return np.where(z > 0, 1.0, np.exp(z)).astype(z.dtype)


def _selu(z: Array) -> Array:
    return np.where(z > 0, _SELU_SCALE * z, _SELU_SCALE * _SELU_ALPHA * np.expm1(z))


def _selu_derivative(z: Array) -> Array:
    return np.where(z > 0, _SELU_SCALE, _SELU_SCALE * _SELU_ALPHA * np.exp(z)).astype(z.dtype)


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


def _silu(z: Array) -> Array:
    return z * _sigmoid(z)


def _silu_derivative(z: Array) -> Array:
    return _sigmoid(z) + z * _sigmoid_derivative(z)


def _mish(z: Array) -> Array:
    return z * np.tanh(_softplus(z))


def _mish_derivative(z: Array) -> Array:
    return np.tanh(_softplus(z)) + z * (1 - np.tanh(_softplus(z)) ** 2) * _sigmoid(z)


def _hard_sigmoid(z: Array) -> Array:
    return np.clip(z + 3, 0, 6) / 6


def _hard_sigmoid_derivative(z: Array) -> Array:
    return (np.abs(z) < 3) / z.dtype.type(6)


def _hard_swish(z: Array) -> Array:
    return z * _hard_sigmoid(z)


def _hard_swish_derivative(z: Array) -> Array:
    return _hard_sigmoid(z) + z * _hard_sigmoid_derivative(z)


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
    "relu": _elementwise(lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
    "leaky_relu": _elementwise(_leaky_relu, lambda z: np.where(z > 0, 1.0, 0.01).astype(z.dtype)),
    "elu": _elementwise(_elu, _elu_derivative),
    "selu": _elementwise(_selu, _selu_derivative),
    "gelu": _elementwise(
        lambda z: z * _normal_cdf(z), lambda z: _normal_cdf(z) + z * _normal_pdf(z)
    ),
    "silu": _elementwise(_silu, _silu_derivative),
    "mish": _elementwise(_mish, _mish_derivative),
    "softplus": _elementwise(_softplus, _sigmoid),
    "sigmoid": _elementwise(_sigmoid, _sigmoid_derivative),
    "tanh": _elementwise(np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "softsign": _elementwise(lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2),
    "hard_sigmoid": _elementwise(_hard_sigmoid, _hard_sigmoid_derivative),
    "hard_swish": _elementwise(_hard_swish, _hard_swish_derivative),
    "softmax": Activation(_softmax, _softmax_backward),
}


def activation(row: Any) -> Activation:
    """The row of that name, or that of a user's function (``fastnn.engines.CustomFunction``)."""
    return ACTIVATIONS[row] if isinstance(row, str) else _elementwise(row.value, row.slope)


# --------------------------------------------------------------------------- losses


class Loss(NamedTuple):
    """ℓ by element, its derivative by the output o, and what a sum of ℓ is divided by.

    ``value(o, t, parameter)`` and ``derivative(o, t, parameter)`` are (n, outputs), t the
    target as an array of that shape (labels become one-hot rows). ``divisor(weight_sum,
    outputs)`` turns Σ w·ℓ into the loss.
    """

    value: Callable[[Array, Array, float], Array]
    derivative: Callable[[Array, Array, float], Array]
    divisor: Callable[[float, int], float]


def _mean_of_elements(weight_sum: float, outputs: int) -> float:
    return weight_sum * outputs


def _mean_of_rows(weight_sum: float, outputs: int) -> float:
    return weight_sum


def _sum(weight_sum: float, outputs: int) -> float:
    return 1.0


def _huber(o: Array, t: Array, delta: float) -> Array:
    error = np.abs(o - t)
    return np.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta))


def _quantile(o: Array, t: Array, q: float) -> Array:
    return np.maximum(q * (t - o), (q - 1) * (t - o))


def _quantile_derivative(o: Array, t: Array, q: float) -> Array:
    return np.where(o > t, 1 - q, np.where(o < t, -q, 0 * (o - t))).astype(o.dtype)


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
    "mse": Loss(lambda o, t, _: (o - t) ** 2, lambda o, t, _: 2 * (o - t), _mean_of_elements),
    "mae": Loss(lambda o, t, _: np.abs(o - t), lambda o, t, _: np.sign(o - t), _mean_of_elements),
    "huber": Loss(_huber, lambda o, t, delta: np.clip(o - t, -delta, delta), _mean_of_elements),
    "quantile": Loss(_quantile, _quantile_derivative, _mean_of_elements),
    "poisson": Loss(
        lambda o, t, _: np.exp(o) - t * o, lambda o, t, _: np.exp(o) - t, _mean_of_elements
    ),
    "sum_squares": Loss(lambda o, t, _: (o - t) ** 2, lambda o, t, _: 2 * (o - t), _sum),
    "cross_entropy": Loss(_cross_entropy, _cross_entropy_derivative, _mean_of_rows),
    "binary_cross_entropy": Loss(
        _binary_cross_entropy, lambda o, t, _: _sigmoid(o) - t, _mean_of_elements
    ),
    "cross_entropy_of_probabilities": Loss(
        lambda o, t, _: -t * _clamped_log(o),
        lambda o, t, _: -t / np.maximum(o, 1e-12),
        _mean_of_rows,
    ),
    "binary_cross_entropy_of_probabilities": Loss(
        _binary_cross_entropy_of_probabilities,
        lambda o, t, _: (o - t) / np.maximum(o * (1 - o), 1e-12),
        _mean_of_elements,
    ),
}


def loss(row: Any) -> Loss:
    """The row of that name, or that of a user's function (``fastnn.engines.CustomFunction``)."""
    if isinstance(row, str):
        return LOSSES[row]
    return Loss(lambda o, t, _: row.value(o, t), lambda o, t, _: row.slope(o, t), _mean_of_elements)


# --------------------------------------------------------------------------- optimizers

Moments = tuple[Array, ...]
Update = Callable[[Array, Array, Moments, Any, float, int], tuple[Array, Moments]]

# Each row is the rule that PyTorch documents for the optimizer of that name:
# (p, g, moments, OptimizerSpec, rate, step) -> (new p, new moments).


def _sgd(
    p: Array, g: Array, moments: Moments, spec: Any, rate: float, step: int
) -> tuple[Array, Moments]:
    g = g + spec.weight_decay * p
    if not moments:
        return p - rate * g, ()
    if spec.rate_in_velocity:
        velocity = spec.momentum * moments[0] + rate * g
        change = spec.momentum * velocity + rate * g if spec.nesterov else velocity
        return p - change, (velocity,)
    velocity = spec.momentum * moments[0] + g
    direction = g + spec.momentum * velocity if spec.nesterov else velocity
    return p - rate * direction, (velocity,)


def _rmsprop(
    p: Array, g: Array, moments: Moments, spec: Any, rate: float, step: int
) -> tuple[Array, Moments]:
    g = g + spec.weight_decay * p
    v = spec.beta_2 * moments[0] + (1 - spec.beta_2) * g**2
    direction = g / (np.sqrt(v) + spec.epsilon)
    if len(moments) == 1:
        return p - rate * direction, (v,)
    velocity = spec.momentum * moments[1] + direction
    return p - rate * velocity, (v, velocity)


def _adagrad(
    p: Array, g: Array, moments: Moments, spec: Any, rate: float, step: int
) -> tuple[Array, Moments]:
    g = g + spec.weight_decay * p
    total = moments[0] + g**2
    return p - rate * g / (np.sqrt(total) + spec.epsilon), (total,)


def _adam_without_decay(
    p: Array, g: Array, moments: Moments, spec: Any, rate: float, step: int
) -> tuple[Array, Moments]:
    m = spec.beta_1 * moments[0] + (1 - spec.beta_1) * g
    v = spec.beta_2 * moments[1] + (1 - spec.beta_2) * g**2
    if spec.epsilon_hat:
        rate_t = rate * math.sqrt(1 - spec.beta_2**step) / (1 - spec.beta_1**step)
        return p - rate_t * m / (np.sqrt(v) + spec.epsilon), (m, v)
    m_hat = m / (1 - spec.beta_1**step)
    v_hat = v / (1 - spec.beta_2**step)
    return p - rate * m_hat / (np.sqrt(v_hat) + spec.epsilon), (m, v)


def _adam(
    p: Array, g: Array, moments: Moments, spec: Any, rate: float, step: int
) -> tuple[Array, Moments]:
    return _adam_without_decay(p, g + spec.weight_decay * p, moments, spec, rate, step)


def _adamw(
    p: Array, g: Array, moments: Moments, spec: Any, rate: float, step: int
) -> tuple[Array, Moments]:
    return _adam_without_decay(p * (1 - rate * spec.weight_decay), g, moments, spec, rate, step)


OPTIMIZERS: dict[str, Update] = {
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adam": _adam,
    "adamw": _adamw,
}
