"""Activations and losses as users write them, and functions that must be refused.

Each is plain Python on single numbers. The functions look ``math`` and ``np`` up when they
run, so that the tests can evaluate them once more with mpmath in their place.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np

Function = Callable[..., float]

SLOPE = 0.125
COEFFICIENTS = (0.25, -0.5, 0.75, 1.0)

# --------------------------------------------------------------------------- activations


def swishy(x):
    return x / (1 + math.exp(-1.5 * x))


def tanh_like(x):
    return math.tanh(x)


def gelu_erf(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def branches(x):
    if x > 1:
        y = 2 * x - 1
    elif x > 0:
        y = x * x
    else:
        y = SLOPE * x
    return y


def early_constants(x):
    if x < -2:
        return 0.0
    if x > 2:
        return 1
    return (x + 2) / 4


def ternary(x):
    return x if x > 0 else math.expm1(x) if x > -3 else -1


def horner(x):
    total = 0.0
    for c in COEFFICIENTS:
        total = total * x + c
    return total


def power_series(x):
    total = 0.0
    for k in range(5):
        total += x**k / (k + 1)
    return total


def newton_root(x):
    size, y, k = 1 + x * x, 1.0, 0
    while k < 8:
        y = 0.5 * (y + size / y)
        k += 1
    return y - 1


def squareplus(x):
    return (x + (x * x + 4) ** 0.5) / 2


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def mish(x):
    return x * math.tanh(softplus(x))


def snake(x):
    return x + math.sin(3 * x) ** 2 / 3


def cosine_unit(x):
    return math.cos(x) - x


def gaussian(x):
    return math.exp(-(x**2))


def bent_identity(x):
    return (math.sqrt(x * x + 1) - 1) / 2 + x


def inverse_root(x):
    return x * (1 + x * x) ** -0.5


def numpy_scalars(x):
    return np.tanh(np.abs(x)) * np.exp(-np.square(x)) + np.sqrt(x * x + 1)


def hard_tanh(x):
    return min(max(x, -1), 1)


def where_and_clip(x):
    return np.where(x > 0.3, np.clip(x, -1.0, 1.5), 0.1 * x)


def fractional_power(x):
    return math.copysign(abs(x) ** 1.7, x)


def exponent_varies(x):
    return 2.0**x + (1 + x * x) ** (x / 4)


def triangle_wave(x):
    return abs(x % 2 - 1) + x // 1 * 0


def truth_values(x):
    return x * (x > 0) + 0.1 * x * (not x > 0)


def augmented(x):
    y = x
    y *= 2
    y -= 1
    y /= 1 + abs(y)
    y **= 3
    return y


def helpers(x):
    return swishy(x) - 0.5 * softplus(-x)


def default_argument(x, sharpness=2.5):
    return math.atan(sharpness * x) / sharpness


def inverse_hyperbolic(x):
    return math.asinh(x) + math.atanh(x / 8)


def hyperbolic(x):
    return math.sinh(x) / math.cosh(x / 2)


def error_functions(x):
    return math.erfc(x) * x + math.erf(x / 3)


def angles(x):
    return math.atan2(x, 1 + x * x) + math.hypot(x, 0.5) + math.asin(x / 8)


def smooth_maximum(x):
    return np.logaddexp(x, -x) - np.maximum(x, 0.2 * x)


def logarithms(x):
    y = 1 + x * x
    return math.log2(y) + math.log10(y + 1) + math.log(y + 1, 3)


def rounding_down(x):
    return x - math.floor(x) + math.ceil(x) * 0.5


def leaky(slope: float) -> Function:
    def leak(x):
        return x if x > 0 else slope * x

    return leak


def shifted(table: np.ndarray) -> Function:
    return lambda x: x + table[2500]


def bump(center: float, width: float) -> Function:
    def shape(e):
        return 1 / (1 + e * e)

    return lambda x: shape((x - center) / width)


ACTIVATIONS: tuple[Function, ...] = (
    swishy,
    tanh_like,
    gelu_erf,
    gelu_tanh,
    branches,
    early_constants,
    ternary,
    horner,
    power_series,
    newton_root,
    squareplus,
    softplus,
    mish,
    snake,
    cosine_unit,
    gaussian,
    bent_identity,
    inverse_root,
    numpy_scalars,
    hard_tanh,
    where_and_clip,
    fractional_power,
    exponent_varies,
    triangle_wave,
    truth_values,
    augmented,
    helpers,
    default_argument,
    inverse_hyperbolic,
    hyperbolic,
    error_functions,
    angles,
    smooth_maximum,
    logarithms,
    rounding_down,
    leaky(0.2),
    bump(0.5, 1.5),
)

# --------------------------------------------------------------------------- losses


def log_cosh(output, target):
    return math.log(math.cosh(output - target))


def charbonnier(output, target):
    return math.sqrt((output - target) ** 2 + 1e-3)


def cauchy(output, target):
    return math.log1p((output - target) ** 2)


def linex(output, target):
    e = 0.7 * (output - target)
    return math.exp(e) - e - 1


def huber_by_hand(output, target):
    e = abs(output - target)
    if e <= 1:
        return 0.5 * e**2
    return e - 0.5


def pinball(q: float) -> Function:
    def loss(output, target):
        e = target - output
        return max(q * e, (q - 1) * e)

    return loss


def insensitive(output, target):
    return max(abs(output - target) - 0.1, 0)


def tukey(output, target):
    e = (output - target) / 4.685
    if abs(e) > 1:
        return 1 / 6
    return (1 - (1 - e**2) ** 3) / 6


def poisson_likelihood(output, target):
    return math.exp(output) - target * output


def divergence(output, target):
    return (
        target * (math.log(target) - output) + math.exp(output) if target > 0 else math.exp(output)
    )


def relative(output, target):
    return abs(output - target) / (1 + abs(target))


def quartic(output, target):
    return (output - target) ** 4


LOSSES: tuple[Function, ...] = (
    log_cosh,
    charbonnier,
    cauchy,
    linex,
    huber_by_hand,
    pinball(0.9),
    insensitive,
    tukey,
    poisson_likelihood,
    divergence,
    relative,
    quartic,
)

# --------------------------------------------------------------------------- refused


def unknown_rule(x):
    return math.lgamma(x)


def to_int(x):
    return int(x) * 0.5


def raises(x):
    if x > 1e9:
        raise ValueError("too large")
    return x


def catches(x):
    try:
        return 1 / x
    except ZeroDivisionError:
        return 0.0


def prints(x):
    print(x)
    return x


def calls_itself(x):
    return x if x < 1 else calls_itself(x - 1)


def undefined(x):
    return scale * x  # noqa: F821


def forgets_to_return(x):
    if x > 0:
        return x


def gives_text(x):
    return str(x)


def makes_a_list(x):
    return sum([x, x * x])


def makes_an_array(x):
    return np.array([x, 1.0]).max()


def unknown_method(x):
    return x.tanh()


def helper_that_raises(x):
    return raises(x) + 1


def is_random(x):
    return x * random.random()


def overflows(x):
    n = 10
    for _ in range(5):
        n = n * n  # 1e32, which no int64 holds
    return x * n


def splits(x):
    a, b = divmod(x, 2.0)
    return a + b


#: function, what the error says, and the source line that it shows
REFUSED: tuple[tuple[Function, str, str], ...] = (
    (unknown_rule, "no rule for lgamma", "math.lgamma(x)"),
    (to_int, "no rule for int", "int(x) * 0.5"),
    (raises, "raises an exception", "raise ValueError"),
    (catches, "try … except", "except ZeroDivisionError"),
    (prints, "uses objects", "def prints"),
    (calls_itself, "calls itself", ""),
    (undefined, "scale is not defined", "scale * x"),
    (forgets_to_return, "not every path returns a number", "if x > 0"),
    (gives_text, "a number is expected", "str(x)"),
    (makes_a_list, "no rule for sum", "sum([x, x * x])"),
    (makes_an_array, "no rule for array", "np.array"),
    (unknown_method, "there is no tanh", "x.tanh()"),
    (helper_that_raises, "raises an exception", "raise ValueError"),
    (is_random, "uses objects", "def is_random"),
    (overflows, "when compiled", ""),
    (splits, "no rule for divmod", "divmod(x, 2.0)"),
)
