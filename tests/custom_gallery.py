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


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def augmented(x):
    y = x
    y *= 2
    y -= 1
    y /= 1 + abs(y)
    y **= 3
    return y


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


ACTIVATIONS: dict[str, Function] = {
    "swishy": swishy,
    "tanh_like": tanh_like,
    "gelu_erf": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "branches": branches,
    "early_constants": early_constants,
    "ternary": lambda x: x if x > 0 else math.expm1(x) if x > -3 else -1,
    "horner": horner,
    "power_series": power_series,
    "newton_root": newton_root,
    "squareplus": lambda x: (x + (x * x + 4) ** 0.5) / 2,
    "softplus": softplus,
    "mish": lambda x: x * math.tanh(softplus(x)),
    "snake": lambda x: x + math.sin(3 * x) ** 2 / 3,
    "cosine_unit": lambda x: math.cos(x) - x,
    "gaussian": lambda x: math.exp(-(x**2)),
    "bent_identity": lambda x: (math.sqrt(x * x + 1) - 1) / 2 + x,
    "inverse_root": lambda x: x * (1 + x * x) ** -0.5,
    "numpy_scalars": lambda x: np.tanh(np.abs(x)) * np.exp(-np.square(x)) + np.sqrt(x * x + 1),
    "hard_tanh": lambda x: min(max(x, -1), 1),
    "where_and_clip": lambda x: np.where(x > 0.3, np.clip(x, -1.0, 1.5), 0.1 * x),
    "fractional_power": lambda x: math.copysign(abs(x) ** 1.7, x),
    "exponent_varies": lambda x: 2.0**x + (1 + x * x) ** (x / 4),
    "triangle_wave": lambda x: abs(x % 2 - 1) + x // 1 * 0,
    "truth_values": lambda x: x * (x > 0) + 0.1 * x * (not x > 0),
    "augmented": augmented,
    "helpers": lambda x: swishy(x) - 0.5 * softplus(-x),
    "default_argument": lambda x, sharpness=2.5: math.atan(sharpness * x) / sharpness,
    "inverse_hyperbolic": lambda x: math.asinh(x) + math.atanh(x / 8),
    "hyperbolic": lambda x: math.sinh(x) / math.cosh(x / 2),
    "error_functions": lambda x: math.erfc(x) * x + math.erf(x / 3),
    "angles": lambda x: math.atan2(x, 1 + x * x) + math.hypot(x, 0.5) + math.asin(x / 8),
    "more_angles": lambda x: math.tan(x / 8) + math.acos(x / 8) + math.acosh(1.5 + x * x),
    "roots_and_powers": lambda x: math.cbrt(x * x + 1) + math.exp2(x / 2) + np.reciprocal(x + 9),
    "smooth_maximum": lambda x: np.logaddexp(x, -x) - np.maximum(x, 0.2 * x),
    "logarithms": lambda x: math.log2(x * x + 1) + math.log10(x * x + 2) + math.log(x * x + 2, 3),
    "rounding_down": lambda x: x - math.floor(x) + math.ceil(x) * 0.5,
    "leaky": leaky(0.2),
    "bump": bump(0.5, 1.5),
}

# --------------------------------------------------------------------------- losses


def huber_by_hand(output, target):
    e = abs(output - target)
    if e <= 1:
        return 0.5 * e**2
    return e - 0.5


def tukey(output, target):
    e = (output - target) / 4.685
    if abs(e) > 1:
        return 1 / 6
    return (1 - (1 - e**2) ** 3) / 6


LOSSES: dict[str, Function] = {
    "log_cosh": lambda output, target: math.log(math.cosh(output - target)),
    "charbonnier": lambda output, target: math.sqrt((output - target) ** 2 + 1e-3),
    "cauchy": lambda output, target: math.log1p((output - target) ** 2),
    "linex": lambda o, t: math.exp(0.7 * (o - t)) - 0.7 * (o - t) - 1,
    "huber_by_hand": huber_by_hand,
    "pinball": lambda output, target: max(0.9 * (target - output), -0.1 * (target - output)),
    "insensitive": lambda output, target: max(abs(output - target) - 0.1, 0),
    "tukey": tukey,
    "poisson_likelihood": lambda output, target: math.exp(output) - target * output,
    "divergence": lambda o, t: t * (math.log(t) - o) + math.exp(o) if t > 0 else math.exp(o),
    "relative": lambda output, target: abs(output - target) / (1 + abs(target)),
    "quartic": lambda output, target: (output - target) ** 4,
}

# --------------------------------------------------------------------------- refused


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


def forgets_to_return(x):
    if x > 0:
        return x


def overflows(x):
    n = 10
    for _ in range(5):
        n = n * n  # 1e32, which no int64 holds
    return x * n


#: function, what the error says, and the source line that it shows
REFUSED: tuple[tuple[Function, str, str], ...] = (
    (lambda x: math.lgamma(x) * x, "no rule for lgamma", "math.lgamma(x)"),
    (lambda x: int(x) * 0.5, "no rule for int", "int(x) * 0.5"),
    (raises, "raises an exception", "raise ValueError"),
    (catches, "try … except", "except ZeroDivisionError"),
    (prints, "uses objects", "def prints"),
    (calls_itself, "calls itself", ""),
    (lambda x: scale * x, "scale is not defined", "scale * x"),  # noqa: F821
    (forgets_to_return, "not every path returns a number", "if x > 0"),
    (lambda x: str(x + 1), "a number is expected", "str(x + 1)"),
    (lambda x: sum([x, x * x]), "no rule for sum", "sum([x, x * x])"),
    (lambda x: np.array([x, 1.0]).max(), "no rule for array", "np.array"),
    (lambda x: x.tanh(), "there is no tanh", "x.tanh()"),
    (lambda x: raises(x) + 1, "raises an exception", "raise ValueError"),
    (lambda x: x * random.random(), "uses objects", "random.random()"),
    (overflows, "when compiled", ""),
    (lambda x: divmod(x, 2.0)[0], "no rule for divmod", "divmod(x, 2.0)"),
)
