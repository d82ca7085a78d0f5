"""Elementary functions: a few dozen operations each, without branches.

Argument reduction as in Cody & Waite, *Software Manual for the Elementary Functions* (1980),
polynomials from ``coefficients.py``. What activations and losses use errs by at most 3 ulp,
the others by a few; NaN and inf as IEEE 754 has it; results below the smallest normal number
may be zero. Where Python would raise (log of -1, overflow) the result is NaN or inf. ``sin``,
``cos`` and ``tan`` keep their accuracy up to |x| = 1e6. Which product a fused multiply-add
takes follows from the order: mathematically equal texts differ in the last bit.
"""

# ruff: noqa: F403, F405
from __future__ import annotations

import math

from .coefficients import *
from .lane import *

SMALLEST_NORMAL = {32: 2.0**-126, 64: 2.0**-1022}
TINY_SCALE = {32: 2.0**24, 64: 2.0**53}  # makes subnormal numbers normal
LOG_TINY_SCALE = {32: 24 * math.log(2), 64: 53 * math.log(2)}
EXP_LOWEST = {32: -87.3365447, 64: -708.39641853226408}  # exp is the smallest normal number
EXP_HIGHEST = {32: 88.7228394, 64: 709.78271289338399}
EXP2_LOWEST, EXP2_HIGHEST = {32: -126, 64: -1022}, {32: 128, 64: 1024}
TANH_LOWEST, TANH_HIGHEST = {32: -9.5, 64: -20}, {32: 9.5, 64: 20}  # tanh is ±1
NORMAL_END = {32: 13.5, 64: 38.6}  # exp(-x²/2) is zero
ERFC_END = {32: 9.5, 64: 27.2}  # exp(-x²) is zero
#: Adding it leaves the nearest integer, or multiple of 1024, in the low bits.
ROUNDER = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}
SPLITTER = {32: 1.5 * 2.0**33, 64: 1.5 * 2.0**62}
#: ln 2 in two parts, the first of so few bits that n · LN2_HIGH is exact; π/2 likewise.
LN2_HIGH = {32: 0.693359375, 64: 0.69314718036912381649}
LN2_LOW = {32: -2.12194440054690583e-4, 64: 1.9082149292705877e-10}
HALF_PI_1 = {32: 1.57080078125, 64: 1.57079632673412561417}
HALF_PI_2 = {32: -4.455447196960449e-06, 64: 6.07710050630396597660e-11}
HALF_PI_3 = {32: 9.922587196342647e-10, 64: 2.02226624871116645580e-21}
HALF_PI_4 = {32: -1.6513995372426591e-13, 64: 8.47842766036889956997e-32}
HIGH_HALF = {32: -(1 << 12), 64: -(1 << 27)}  # bits of a float whose square is exact
BIT_1_TO_SIGN = {32: 30, 64: 62}


def sign(x):
    """-1, 0 or 1; NaN of NaN."""
    return choose(x > 0, 1, choose(x < 0, -1, x))


def nearest(x, factor: Number):
    """The integer nearest to x · factor, below 2²² (2⁵¹): as a float, and in bits."""
    rounder = like(x, ROUNDER)
    rounded = x * factor + rounder
    n: Bits = as_bits(rounded) - as_bits(rounder)
    return rounded - rounder, n


def reduced(x):
    """r and n of x = n ln 2 + r, |r| ≤ ln(2) / 2."""
    k, n = nearest(x, 1 / math.log(2))
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    return r, n


def expm1_reduced(r):
    """expm1(r) for |r| ≤ ln(2) / 2."""
    return r * r * polynomial(r, EXPM1) + r


def scaled(p, n: Bits):
    """(p + 1) 2ⁿ; in two factors, since 2¹²⁸ is not a float and 2¹²⁷ · 2 is."""
    half: Bits = n >> 1
    return (p + 1) * power_of_two(half) * power_of_two(n - half)


def exp(x):
    r, n = reduced(at_most(at_least(x, EXP_LOWEST), EXP_HIGHEST))
    y = scaled(expm1_reduced(r), n)
    return choose(x > EXP_HIGHEST, math.inf, zero_where(x < EXP_LOWEST, y))


def exp_negative(x):
    """eˣ for x ≤ 0, where no scale overflows."""
    r, n = reduced(at_least(x, EXP_LOWEST))
    p = expm1_reduced(r)
    scale = power_of_two(n)
    # unless it is fused, scale * p may be subnormal and lost
    y = fused(scale * p + scale, (p + 1) * scale)
    return zero_where(x < EXP_LOWEST, y)


def expm1_within(x):
    """eˣ - 1 for |x| ≤ 80, accurate near 0."""
    r, n = reduced(x)
    p = expm1_reduced(r)
    scale = power_of_two(n)
    return scale * p + (scale - 1)


def expm1_negative(x):
    """eˣ - 1 for x ≤ 0."""
    return expm1_within(at_least(x, -80))


def expm1(x):
    """eˣ - 1; from 40 on the 1 is nothing."""
    return choose(x > 40, exp(x), expm1_within(at_most(at_least(x, -80), 40)))


def exp2(x):
    within = at_most(at_least(x, EXP2_LOWEST), EXP2_HIGHEST)
    k, n = nearest(within, 1)
    y = scaled(expm1_reduced((within - k) * math.log(2)), n)
    return choose(x >= EXP2_HIGHEST, math.inf, choose(x < EXP2_LOWEST, 0, y))


def tanh(x):
    e = expm1_within(2 * at_most(at_least(x, TANH_LOWEST), TANH_HIGHEST))
    return e / (e + 2)


def sigmoid(x):
    """1 / (1 + e) or e / (1 + e), where e = exp(-|x|) never overflows."""
    e = exp_negative(-absolute(x))
    return choose(x < 0, e, 1) / (e + 1)


def sinh(x):
    size = absolute(x)
    e = expm1_within(at_most(size, 40))
    h = exp(size * 0.5)
    return copy_sign(choose(size > 40, h * 0.5 * h, (e + e / (e + 1)) * 0.5), x)


def cosh(x):
    h = exp(absolute(x) * 0.5)
    return h * 0.5 * h + 0.5 / (h * h)


def log_positive(x):
    """log x for normal numbers x > 0."""
    # x = 2ⁿ m, m in [√½, √2)
    origin: Bits = as_bits(like(x, math.sqrt(0.5)))
    n: Bits = (as_bits(x) - origin) >> MANTISSA
    m = as_float(as_bits(x) - (n << MANTISSA))
    s = (m - 1) / (m + 1)
    rounder = like(x, ROUNDER)
    k = as_float(n + as_bits(rounder)) - rounder
    # log m = 2s p(s²); its first term is added last but one, the big one last
    odd = 2 * s
    tail = odd * (polynomial(s * s, LOG) - 1)
    y = k * LN2_HIGH + (odd + (tail + k * LN2_LOW))
    return y + zero_where(x < math.inf, x)


def log1p_unit(u):
    """log(1 + u) for 0 ≤ u ≤ 1."""
    s = u / (u + 2)
    return 2 * s * polynomial(s * s, LOG1P)


def log(x):
    """The natural logarithm: -inf at 0, NaN below."""
    is_tiny = x < SMALLEST_NORMAL
    y = log_positive(choose(is_tiny, x * TINY_SCALE, x)) - choose(is_tiny, LOG_TINY_SCALE, 0)
    return choose(x > 0, y, choose(x < 0, math.nan, choose(x == 0, -math.inf, x)))


def log1p(x):
    """log(1 + x), accurate near 0."""
    u = x + 1
    y = log(u)
    lost = (x - (u - 1)) / u
    return choose((u > 0) & (u < math.inf), y + lost, y)


def log2(x):
    return log(x) * (1 / math.log(2))


def log10(x):
    return log(x) * (1 / math.log(10))


def asinh(x):
    a = absolute(x)
    y = log1p(a + a * a / (square_root(a * a + 1) + 1))
    return copy_sign(choose(a > 1e8, log(a) + math.log(2), y), x)


def acosh(x):
    t = x - 1
    return choose(x > 1e8, log(x) + math.log(2), log1p(t + square_root(t * (t + 2))))


def atanh(x):
    a = absolute(x)
    return copy_sign(log1p(2 * a / (1 - a)) * 0.5, x)


def integer_power(x, n: int):
    """xⁿ by repeated squaring."""
    if n < 0:
        return 1 / integer_power(x, -n)
    if n < 2:
        return x if n else like(x, 1)
    half = integer_power(x, n // 2)
    return half * half * x if n % 2 else half * half


def power(x, y):
    """x**y: 1 for y = 0; NaN for x < 0 unless y is an integer, whose parity is the sign.

    The logarithm has 64 bits: the exponential magnifies its rounding. Small exponents have
    rules of their own; where y is a constant, a compiler keeps the one that it needs.
    """
    size = exp(widened(y) * log(widened(absolute(x))))
    size = narrowed(size, x.bits)
    is_integer = floor(y) == y
    is_odd = is_integer & (floor(y * 0.5) != y * 0.5)
    signed = choose(is_odd, copy_sign(size, x), size)
    result = choose(x < 0, choose(is_integer, signed, math.nan), signed)
    result = choose(x == 1, 1, result)
    for n in range(-2, 5):
        result = choose(y == n, integer_power(x, n), result)
    root = square_root(x)
    result = choose(y == -0.5, 1 / root, result)
    return choose(y == 0.5, root, result)


def cbrt(x):
    """The cube root: one step of Newton's after an exponential."""
    a = absolute(x)
    y = exp(log(a) * (1 / 3))
    y = y - (y * y * y - a) / (3 * y * y)
    return copy_sign(choose((a > 0) & (a < math.inf), y, a), x)


def reduced_angle(x):
    """r and n of x = n π/2 + r, |r| ≤ π/4, for |x| ≤ 1e6.

    n is split, so that its products with the parts of π/2 are exact also where they are
    rounded before they are subtracted. Far beyond, r at least stays bounded.
    """
    k, n = nearest(x, 2 / math.pi)
    splitter = like(x, SPLITTER)
    high = (k + splitter) - splitter
    low = k - high
    first = x - high * HALF_PI_1 - low * HALF_PI_1
    second = first - high * HALF_PI_2 - low * HALF_PI_2
    third = second - high * HALF_PI_3 - low * HALF_PI_3
    r = at_most(at_least(third - k * HALF_PI_4, -1), 1)
    return r, n


def sin_and_cos(x):
    """Both; n is the quadrant: in every other they change places, every second the sign."""
    r, n = reduced_angle(x)
    square = r * r
    s = r * polynomial(square, SIN)
    c = polynomial(square, COS)
    is_odd: Truth = (n & 1) == 1
    sine = as_float(as_bits(choose(is_odd, c, s)) ^ ((n & 2) << BIT_1_TO_SIGN))
    cosine = as_float(as_bits(choose(is_odd, s, c)) ^ (((n + 1) & 2) << BIT_1_TO_SIGN))
    return sine, cosine


def sin(x):
    return sin_and_cos(x)[0]


def cos(x):
    return sin_and_cos(x)[1]


def tan(x):
    s, c = sin_and_cos(x)
    return s / c


def atan(x):
    """The inverse of tan, within ±π/2."""
    a = absolute(x)
    is_large, is_middle = a > 1 + math.sqrt(2), a > math.sqrt(2) - 1
    t = choose(is_large, -1 / a, choose(is_middle, (a - 1) / (a + 1), a))
    start = choose(is_large, math.pi / 2, choose(is_middle, like(x, math.pi / 4), 0))
    return copy_sign(start + t * polynomial(t * t, ATAN), x)


def atan2(y, x):
    """The angle of the point (x, y)."""
    is_zero, is_left = y == 0, copy_sign(like(x, 1), x) < 0
    both = (absolute(x) == math.inf) & (absolute(y) == math.inf)
    diagonal = copy_sign(copy_sign(like(x, math.pi / 4), x), x * y)
    right = choose(both, diagonal, choose(is_zero, y, atan(y / x)))
    left = right + copy_sign(like(y, math.pi), y)
    return choose(is_left, left, choose(is_zero, copy_sign(right, y), right))


def asin(x):
    return atan(x / square_root((1 - x) * (x + 1)))


def acos(x):
    return 2 * atan(square_root((1 - x) / (x + 1)))


def normal_tail(x):
    """|x| Φ(-|x|), e = exp(-x²/2) and Φ(-|x|), Φ the normal distribution function.

    With t = |x|, s = t + pole and v = t / s, the first is v e Q and the last (1 - v) e Q / pole
    where Q is smooth. Nothing is rounded twice: what t² and s lose goes to the exponential,
    where relative errors add, and its factor 1 + p is never formed for the first. Beyond the
    end of t, e is zero.
    """
    t = at_most(absolute(x), NORMAL_END)
    s = t + NORMAL_TAIL_POLE
    added = s - t
    lost = (t - (s - added)) + (NORMAL_TAIL_POLE - added)
    v = t / s
    rest = (1 - v) / NORMAL_TAIL_POLE
    high = as_float(as_bits(t) & HIGH_HALF)
    exponent = high * high * -0.5
    low = (high - t) * (high + t) * 0.5 - lost * rest
    r, n = reduced(at_least(exponent, EXP_LOWEST))
    p = expm1_reduced(r + low)
    scale = zero_where(exponent < EXP_LOWEST, power_of_two(n))
    q = two_chains(2 * v - 1, NORMAL_TAIL)
    product = v * q
    e = scale * p + scale
    tail = rest * e * q
    return scale * (p * product + product), e, tail


def erfc_positive(x):
    """1 - erf(x) for x ≥ 0, by the polynomial of ``normal_tail`` at x √2."""
    a = at_most(x, ERFC_END)
    high = as_float(as_bits(a) & HIGH_HALF)
    r, n = reduced(at_least(-(high * high), EXP_LOWEST))
    e = scaled(expm1_reduced(r + (high - a) * (high + a)), n)
    t = a * math.sqrt(2)
    u = (t - NORMAL_TAIL_POLE) / (t + NORMAL_TAIL_POLE)
    return 2 * e / (t + NORMAL_TAIL_POLE) * polynomial(u, NORMAL_TAIL)


def erf(x):
    a = absolute(x)
    z = at_most(a, 1)
    return copy_sign(choose(a > 1, 1 - erfc_positive(a), z * polynomial(z * z, ERF)), x)


def erfc(x):
    """1 - erf(x), accurate where it is small."""
    y = erfc_positive(absolute(x))
    return choose(absolute(x) < 0.5, 1 - erf(x), choose(x < 0, 2 - y, y))
