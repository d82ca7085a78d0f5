"""One formula per activation: y = f(z), and its slope f′.

Where the slope follows from y alone, it is a function of y, and nothing else need be kept
until the way back; the other formulas return y and f′(z) together. At kinks the slope is
PyTorch's: relu′(0) = 0, leaky_relu′(0) = 0.01. NaN goes through.
"""

# ruff: noqa: F403, F405
from __future__ import annotations

from .elementary import *

SELU_SCALE = 1.0507009873554804934
SELU_BELOW = 1.7580993408473768599  # the scale times alpha, rounded once
MISH_END = {32: 20, 64: 40}  # beyond, mish(z) is z to the last bit


def identity(z):
    return z


def relu(z):
    return at_least(z, 0)


def leaky_relu(z):
    """z, below 0 a hundredth of it (Maas, Hannun & Ng 2013)."""
    return choose(z > 0, z, z * 0.01)


def elu(z):
    """z, below 0 eᶻ - 1 (Clevert, Unterthiner & Hochreiter 2016)."""
    return choose(z > 0, z, expm1_negative(at_most(z, 0)))


def selu(z):
    """λ z, below 0 λ α (eᶻ - 1) (Klambauer et al. 2017)."""
    below = expm1_negative(at_most(z, 0)) * SELU_BELOW
    return choose(z > 0, z * SELU_SCALE, below)


def gelu(z):
    """z Φ(z), Φ the normal distribution function (Hendrycks & Gimpel 2016, the exact form)."""
    lost, e, tail = normal_tail(z)
    slope = choose(z > 0, 1 - tail, tail) + z * e * 0.39894228040143268  # 1/√2π
    y = choose(e > 0, choose(z > 0, z - lost, -lost), choose(z > 0, z, z * e))
    return y, slope


def silu(z):
    """z σ(z) (Elfwing, Uchibe & Doya 2018)."""
    s = sigmoid(z)
    slope = s * (z * (1 - s) + 1)
    return z * s, slope


def mish(z):
    """z tanh(softplus(z)) (Misra 2020).

    With e = eᶻ, tanh(log(1 + e)) = n / (n + 2) where n = e (e + 2).
    """
    x = at_most(z, MISH_END)
    e = exp(x)
    n = e * (e + 2)
    d = n + 2
    t = n / d
    slope = t + x * (4 * e * (e + 1)) / (d * d)
    return z * t, slope


def softplus(z):
    e = exp_negative(-absolute(z))
    slope = choose(z < 0, e, 1) / (e + 1)
    return at_least(z, 0) + log1p_unit(e), slope


def softsign(z):
    d = absolute(z) + 1
    slope = 1 / (d * d)
    return z / d, slope


def hard_sigmoid(z):
    """clip(z + 3, 0, 6) / 6 (Howard et al. 2019)."""
    y = at_most(at_least(z + 3, 0), 6) * (1 / 6)
    slope = choose((z > -3) & (z < 3), 1 / 6, 0)
    return y, slope


def hard_swish(z):
    """z hard_sigmoid(z) (Howard et al. 2019)."""
    gate = at_most(at_least(z + 3, 0), 6) * (1 / 6)
    inside = z * (1 / 3) + 0.5
    slope = choose(z <= -3, 0, choose(z >= 3, 1, inside))
    return z * gate, slope


def hard_tanh(z):
    return at_most(at_least(z, -1), 1)


#: name: (f, its slope as a function of y), or (f with its slope, None). softmax acts on rows;
#: element by element it is the identity.
ACTIVATIONS = {
    "identity": (identity, lambda y: like(y, 1)),
    "relu": (relu, lambda y: choose(y > 0, 1, 0)),
    "leaky_relu": (leaky_relu, lambda y: choose(y > 0, 1, 0.01)),
    "elu": (elu, lambda y: choose(y > 0, 1, y + 1)),
    "selu": (selu, lambda y: choose(y > 0, SELU_SCALE, y + SELU_BELOW)),
    "gelu": (gelu, None),
    "silu": (silu, None),
    "mish": (mish, None),
    "softplus": (softplus, None),
    "sigmoid": (sigmoid, lambda y: y * (1 - y)),
    "tanh": (tanh, lambda y: 1 - y * y),
    "softsign": (softsign, None),
    "hard_sigmoid": (hard_sigmoid, None),
    "hard_swish": (hard_swish, None),
    "hard_tanh": (hard_tanh, lambda y: choose((y > -1) & (y < 1), 1, 0)),
    "sine": (sin_and_cos, None),  # Sitzmann et al. 2020
    "softmax": (identity, lambda y: like(y, 1)),
}
