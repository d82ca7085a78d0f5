"""One row per activation, loss and optimizer of the Numba engine, and the maths below them.

To add one: write its formula on vectors (numba_vector.py) and put it into the table, in
the order of the contract (fastnn/engines.py). Each row is compiled when a network first
uses it, to a C function on arrays that is called by its address:

    activation   void (T *y, T *slope, int64 n)           y = f(y), slope = f'; it may be NULL
    way back     void (T *upstream, T *y, T *delta, int64 n)
    loss         void (T *output, T *target, T *value, T *derivative, int64 n, T parameter)
    optimizer    void (T *w, T *m0, T *m1, T *gradient, int64 n, int64 scalars)

exp, log and the like err by at most 3 ulp and treat NaN and inf as C does; results below
the smallest normal number are zero, which is how the engine treats them anyway. At kinks a
slope is PyTorch's: relu'(0) = 0, leaky_relu'(0) = 0.01.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import maths as m
from .machine import address_of, inlined, reader
from .vector import (
    LANES,
    absolute,
    choose,
    exp_negative,
    filled,
    load,
    log,
    store,
    traced,
)

exp, tanh, sigmoid, log1p_unit = map(traced, (m.exp, m.tanh, m.sigmoid, m.log1p_unit))
expm1_negative, square_root = traced(m.expm1_negative), traced(m.sqrt)
at_least, at_most, copy_sign = map(traced, (m.at_least, m.at_most, m.copysign))
normal_tail = traced(m.normal_tail, results=3)

# --------------------------------------------------------------------------- activations


@inlined
def slope_relu(y):
    """0 at 0."""
    return choose(y > 0, filled(y, 1), 0)


@inlined
def relu(z):
    """max(z, 0)."""
    y = at_least(z, 0)
    return y, slope_relu(y)


@inlined
def slope_leaky_relu(y):
    """0.01 at 0."""
    return choose(y > 0, filled(y, 1), 0.01)


@inlined
def leaky_relu(z):
    """z, below 0 a hundredth of it."""
    return choose(z > 0, z, z * 0.01), slope_leaky_relu(z)


@inlined
def slope_elu(y):
    """1 or e^z = y + 1."""
    return choose(y > 0, 1, y + 1)


@inlined
def elu(z):
    """z, below 0 e^z - 1."""
    y = choose(z > 0, z, expm1_negative(at_most(z, 0)))
    return y, slope_elu(y)


SELU_SCALE = 1.0507009873554804934
SELU_BELOW = 1.7580993408473768599  # alpha times the scale, rounded once


@inlined
def slope_selu(y):
    """Of selu, from its value."""
    return choose(y > 0, SELU_SCALE, y + SELU_BELOW)


@inlined
def selu(z):
    """Klambauer et al. (2017)."""
    y = choose(z > 0, z * SELU_SCALE, expm1_negative(at_most(z, 0)) * SELU_BELOW)
    return y, slope_selu(y)


@inlined
def gelu(z):
    """z Φ(z) (Hendrycks & Gimpel 2016, the exact form)."""
    lost, tail, e = normal_tail(z)
    slope = choose(z > 0, 1 - tail, tail) + z * e * 0.39894228040143268
    return choose(e > 0, choose(z > 0, z - lost, -lost), choose(z > 0, z, z * e)), slope


@inlined
def silu(z):
    """z σ(z)."""
    s = sigmoid(z)
    return z * s, s * (z * (1 - s) + 1)


@inlined
def mish(z):
    """z tanh(softplus(z)); with e = exp(z), the tanh is n / (n + 2), n = e (e + 2).

    Beyond 40 mish(z) is z, and z + 0 its slope even where the square of d overflows.
    """
    x = at_most(z, 40)
    e = exp(x)
    n = e * (e + 2)
    d = n + 2
    t = n / d
    return z * t, t + x * (4 * e * (e + 1)) / (d * d)


@inlined
def softplus(z):
    """log(1 + e^z)."""
    e = exp_negative(-absolute(z))
    return at_least(z, 0) + log1p_unit(e), choose(z < 0, e, 1) / (e + 1)


@inlined
def slope_sigmoid(y):
    """σ' = y (1 - y)."""
    return y * (1 - y)


@inlined
def logistic(z):
    """σ(z)."""
    y = sigmoid(z)
    return y, slope_sigmoid(y)


@inlined
def slope_tanh(y):
    """tanh' = 1 - y²."""
    return 1 - y * y


@inlined
def hyperbolic_tangent(z):
    """tanh z."""
    y = tanh(z)
    return y, slope_tanh(y)


@inlined
def softsign(z):
    """z / (1 + |z|)."""
    d = absolute(z) + 1
    return z / d, 1 / (d * d)


SIXTH = 1 / 6


@inlined
def hard_sigmoid(z):
    """clip(z + 3, 0, 6) / 6."""
    inside = choose((z > -3) & (z < 3), filled(z, SIXTH), 0)
    return at_most(at_least(z + 3, 0), 6) * SIXTH, inside


@inlined
def hard_swish(z):
    """z hard_sigmoid(z)."""
    gate = at_most(at_least(z + 3, 0), 6) * SIXTH
    return z * gate, choose(z <= -3, 0, choose(z >= 3, 1, z * (1 / 3) + 0.5))


@inlined
def slope_identity(y):
    """1."""
    return filled(y, 1)


@inlined
def identity(z):
    """z."""
    return z, filled(z, 1)


#: name -> (z -> y and slope, y -> slope where that suffices). softmax acts on rows
#: (``softmax_rows``); element by element it is the identity.
ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "identity": (identity, slope_identity),
    "relu": (relu, slope_relu),
    "leaky_relu": (leaky_relu, slope_leaky_relu),
    "elu": (elu, slope_elu),
    "selu": (selu, slope_selu),
    "gelu": (gelu, None),
    "silu": (silu, None),
    "mish": (mish, None),
    "softplus": (softplus, None),
    "sigmoid": (logistic, slope_sigmoid),
    "tanh": (hyperbolic_tangent, slope_tanh),
    "softsign": (softsign, None),
    "hard_sigmoid": (hard_sigmoid, None),
    "hard_swish": (hard_swish, None),
    "softmax": (identity, slope_identity),
}

# --------------------------------------------------------------------------- losses


@inlined
def square(o, t, parameter):
    """(o - t)²."""
    e = o - t
    return e * e, 2 * e


@inlined
def mae(o, t, parameter):
    """|o - t|; NaN has the slope NaN."""
    e = o - t
    return absolute(e), choose(e > 0, 1, choose(e < 0, -1, e))


@inlined
def huber(o, t, delta):
    """e²/2, from |e| = delta on linear."""
    e = o - t
    size = absolute(e)
    far = size > delta
    slope = choose(far, copy_sign(filled(e, delta), e), e)
    return choose(far, delta * (size - delta * 0.5), e * e * 0.5), slope


@inlined
def quantile(o, t, q):
    """The pinball loss: q e above, (q - 1) e below."""
    e = t - o
    slope = choose(e > 0, -q, choose(e < 0, 1 - q, e))
    return choose(e > 0, e * q, e * (q - 1)), slope


@inlined
def poisson(o, t, parameter):
    """e^o - t o, o being the logarithm of the rate."""
    e = exp(o)
    return e - t * o, e - t


@inlined
def binary_cross_entropy(z, t, bound):
    """Of logits; the value is no larger than the bound, if there is one."""
    e = exp_negative(-absolute(z))
    value = at_least(z, 0) - z * t + log1p_unit(e)
    most = bound if bound > 0 else np.inf
    return choose(value > most, most, value), choose(z < 0, e, 1) / (e + 1) - t


@inlined
def clamped_log(p):
    """log p for 0 <= p <= 1, not below -100 (PyTorch's BCELoss)."""
    return at_least(log(p), -100)


@inlined
def binary_cross_entropy_of_probabilities(p, t, parameter):
    """-t log p - (1 - t) log(1 - p)."""
    value = -t * clamped_log(p) - (1 - t) * clamped_log(1 - p)
    return value, (p - t) / at_least(p * (1 - p), 1e-12)


@inlined
def cross_entropy_of_probabilities(p, t, parameter):
    """-t log p."""
    return -t * clamped_log(p), -t / at_least(p, 1e-12)


#: What the sum over rows and outputs is divided by.
WEIGHT_TIMES_OUTPUTS, WEIGHT, NOTHING = range(3)

#: name -> (formula, normaliser); the cross-entropy of logits looks at whole rows.
LOSSES: dict[str, tuple[Any, int]] = {
    "mse": (square, WEIGHT_TIMES_OUTPUTS),
    "mae": (mae, WEIGHT_TIMES_OUTPUTS),
    "huber": (huber, WEIGHT_TIMES_OUTPUTS),
    "quantile": (quantile, WEIGHT_TIMES_OUTPUTS),
    "poisson": (poisson, WEIGHT_TIMES_OUTPUTS),
    "sum_squares": (square, NOTHING),
    "cross_entropy": (None, WEIGHT),
    "binary_cross_entropy": (binary_cross_entropy, WEIGHT_TIMES_OUTPUTS),
    "cross_entropy_of_probabilities": (cross_entropy_of_probabilities, WEIGHT),
    "binary_cross_entropy_of_probabilities": (
        binary_cross_entropy_of_probabilities,
        WEIGHT_TIMES_OUTPUTS,
    ),
}

# --------------------------------------------------------------------------- optimizers

#: What an update needs besides arrays; what depends on the step alone is in here already.
SCALARS = np.dtype(
    [
        (name, np.float64)
        for name in (
            "rate",  # of this step, Adam's bias corrections included
            "momentum",
            "beta_1",
            "beta_2",
            "epsilon",
            "shrink",  # AdamW: w is multiplied by this first
            "clip",  # the gradient is multiplied by this first
            "decay",  # then decay · w is added to it
        )
    ]
    + [("nesterov", np.int64)]
)
scalars_at = reader(SCALARS)


@inlined
def sgd(w, g, m0, m1, s):
    """Plain gradient descent."""
    return w - g * s.rate, m0, m1


@inlined
def momentum(w, g, m0, m1, s):
    """PyTorch's form: the first step has m = g."""
    m0 = m0 * s.momentum + g
    ahead = m0 * s.momentum + g if s.nesterov else m0
    return w - ahead * s.rate, m0, m1


@inlined
def rmsprop(w, g, m0, m1, s):
    """Tieleman & Hinton (2012)."""
    m0 = m0 * s.beta_2 + g * g * (1 - s.beta_2)
    return w - g * s.rate / (square_root(m0) + s.epsilon), m0, m1


@inlined
def rmsprop_momentum(w, g, m0, m1, s):
    """The same with momentum on the scaled gradient."""
    m0 = m0 * s.beta_2 + g * g * (1 - s.beta_2)
    m1 = m1 * s.momentum + g / (square_root(m0) + s.epsilon)
    return w - m1 * s.rate, m0, m1


@inlined
def adagrad(w, g, m0, m1, s):
    """Duchi et al. (2011)."""
    m0 = m0 + g * g
    return w - g * s.rate / (square_root(m0) + s.epsilon), m0, m1


@inlined
def adam(w, g, m0, m1, s):
    """Kingma & Ba (2015)."""
    m0 = m0 * s.beta_1 + g * (1 - s.beta_1)
    m1 = m1 * s.beta_2 + g * g * (1 - s.beta_2)
    return w * s.shrink - m0 * s.rate / (square_root(m1) + s.epsilon), m0, m1


#: (name in the contract, moments) -> formula
OPTIMIZERS: dict[tuple[str, int], Any] = {
    ("sgd", 0): sgd,
    ("sgd", 1): momentum,
    ("rmsprop", 1): rmsprop,
    ("rmsprop", 2): rmsprop_momentum,
    ("adagrad", 1): adagrad,
    ("adam", 2): adam,
    ("adamw", 2): adam,
}

# --------------------------------------------------------------------------- array kernels


class Kernel(NamedTuple):
    """A function to compile, and its C signature: P pointer, i int64, T number."""

    function: Callable[..., None]
    signature: str


def activation_kernel(name: str) -> Kernel:
    """The way forward of a row."""
    f = ACTIVATIONS[name][0]

    def forward(y, slope, n):
        if address_of(slope) == 0:
            for i in range(0, n, LANES):
                store(y, i, f(load(y, i))[0])
        else:
            for i in range(0, n, LANES):
                value, derivative = f(load(y, i))
                store(y, i, value)
                store(slope, i, derivative)

    return Kernel(forward, "PPi")


def backward_kernel(name: str) -> Kernel:
    """The way back of a row whose slope follows from its value."""
    f = ACTIVATIONS[name][1]

    def backward(upstream, y, delta, n):
        for i in range(0, n, LANES):
            store(delta, i, load(upstream, i) * f(load(y, i)))

    return Kernel(backward, "PPPi")


def multiply_slope(upstream, slope, delta, n):
    """Delta = upstream slope: the way back of all other rows."""
    for i in range(0, n, LANES):
        store(delta, i, load(upstream, i) * load(slope, i))


def loss_kernel(name: str) -> Kernel:
    """A loss of single elements."""
    f = LOSSES[name][0]

    def loss(output, target, value, derivative, n, parameter):
        for i in range(0, n, LANES):
            v, d = f(load(output, i), load(target, i), parameter)
            store(value, i, v)
            store(derivative, i, d)

    return Kernel(loss, "PPPPiT")


def optimizer_kernel(row: tuple[str, int]) -> Kernel:
    """An update of n numbers, a multiple of 16; a moment that the row lacks may be NULL."""
    f, moments = OPTIMIZERS[row], row[1]

    def update(w, m0, m1, gradient, n, scalars):
        s = scalars_at(scalars, 0)
        for i in range(0, n, LANES):
            at = load(w, i)
            a = load(m0, i) if moments > 0 else at
            b = load(m1, i) if moments > 1 else at
            at, a, b = f(at, load(gradient, i) * s.clip + at * s.decay, a, b, s)
            store(w, i, at)
            if moments > 0:
                store(m0, i, a)
            if moments > 1:
                store(m1, i, b)

    return Kernel(update, "PPPPii")
