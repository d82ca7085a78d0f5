"""One formula per loss: its value ℓ(o, t) of an output o and a target t, and dℓ/do.

The third argument is the loss's parameter, a number. The cross-entropy from logits looks at
whole rows and is no formula of single elements. What a mean is divided by, and which targets
are good, is said in ``contract.py``.
"""

# ruff: noqa: F403, F405
from __future__ import annotations

import math

from .elementary import *


def squared_error(o, t, _: Number):
    derivative = 2 * (o - t)
    return (o - t) * (o - t), derivative


def absolute_error(o, t, _: Number):
    """|o - t|; its slope is 0 at 0."""
    e = o - t
    derivative = choose(e > 0, 1, choose(e < 0, -1, e))
    return absolute(e), derivative


def huber(o, t, delta: Number):
    """e²/2, from |e| = delta on linear (Huber 1964)."""
    e = o - t
    size = absolute(e)
    is_far: Truth = size > delta
    derivative = choose(is_far, copy_sign(like(e, delta), e), e)
    return choose(is_far, delta * (size - delta * 0.5), e * e * 0.5), derivative


def quantile(o, t, q: Number):
    """q e for e = t - o > 0, else (q - 1) e (Koenker & Bassett 1978)."""
    e = t - o
    derivative = choose(e > 0, -q, choose(e < 0, 1 - q, e))
    return e * choose(e > 0, q, q - 1), derivative


def log_cosh(o, t, _: Number):
    """log cosh e. With m = exp(-|e|) - 1 and s = tanh²(e/2) = (m / (m + 2))², near 0 it is
    log((1 + s) / (1 - s)), which has no cancellation, farther out |e| - log 2 + log(1 + u),
    u = exp(-2|e|) = (m + 1)².
    """
    e = o - t
    size = absolute(e)
    m = expm1_negative(-size)
    half = m / (m + 2)
    u = (m + 1) * (m + 1)
    is_near: Truth = size < 1
    s = choose(is_near, half * half, u / (u + 2))
    start = choose(is_near, 0, size - math.log(2))
    product = m * (m + 2)  # exp(-2|e|) - 1
    derivative = copy_sign(product / (product + 2), e)
    return start + 2 * s * polynomial(s * s, LOG1P), derivative


def poisson(o, t, _: Number):
    """eᵒ - t o, o being the logarithm of the rate."""
    e = exp(o)
    derivative = e - t
    return e - t * o, derivative


def hinge(o, t, _: Number):
    """max(0, 1 - s o) where s is 1 for t > 0, else -1 (Rosasco et al. 2004)."""
    s = choose(t > 0, 1, -1)
    margin = 1 - s * o
    derivative = choose(margin > 0, -s, 0)
    return at_least(margin, 0), derivative


def binary_cross_entropy(z, t, bound: Number):
    """-t log σ(z) - (1 - t) log σ(-z); its value is at most the bound, unless that is 0."""
    e = exp_negative(-absolute(z))
    most = choose(like(z, bound) > 0, bound, math.inf)
    derivative = choose(z < 0, e, 1) / (e + 1) - t
    value = at_least(z, 0) - z * t + log1p_unit(e)
    return choose(value > most, most, value), derivative


def clamped_log(p):
    """log p for 0 ≤ p ≤ 1, not below -100 (PyTorch's BCELoss)."""
    return choose(p < SMALLEST_NORMAL, -100, at_least(log_positive(p), -100))


def binary_cross_entropy_of_probabilities(p, t, _: Number):
    derivative = (p - t) / at_least(p * (1 - p), 1e-12)
    return -t * clamped_log(p) - (1 - t) * clamped_log(1 - p), derivative


def cross_entropy_of_probabilities(p, t, _: Number):
    derivative = -t / at_least(p, 1e-12)
    return -t * clamped_log(p), derivative


LOSSES = {
    "mse": squared_error,
    "mae": absolute_error,
    "huber": huber,
    "quantile": quantile,
    "log_cosh": log_cosh,
    "poisson": poisson,
    "hinge": hinge,
    "sum_squares": squared_error,
    "cross_entropy": None,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy_of_probabilities": cross_entropy_of_probabilities,
    "binary_cross_entropy_of_probabilities": binary_cross_entropy_of_probabilities,
}
