"""Elementary functions as straight-line LLVM instructions on one float or on 16, without a call.

``math.exp`` in a Numba loop is a call into libm for every element, and a loop with a call
is not vectorised. Here a function is a few dozen instructions without branches. Users'
functions take them one float at a time, and LLVM turns the loop around them into vectors of
whatever width there is; the Numba engine's own kernels take 16 lanes, which LLVM cuts into
registers.

A ``Lane`` is one float or a vector of them (or their bits, or truth values) in the code being
written; Python's operators on lanes write instructions. Argument reduction as in Cody &
Waite (1980), polynomials from ``numba_coefficients.py``: a few ulp each, NaN and inf as IEEE
has it. Where Python would raise (log of -1, overflow) the result is NaN or inf. ``sin``,
``cos`` and ``tan`` keep their accuracy up to |x| = 1e6.

There are no fast-math flags but one: in the engine's vectors a product and the sum that
follows may contract. ``reassoc`` would undo the argument reductions, the others change what
NaN, inf or the zeros mean, and contracting a user's expression would leave its rounding to
what surrounds it. Fused multiply-adds stand where they are meant.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from .coefficients import COEFFICIENTS

FLOATS = {32: ir.FloatType(), 64: ir.DoubleType()}
_MANTISSA = {32: 23, 64: 52}  # bits
_BIAS = {32: 127, 64: 1023}
EXP_LOWEST = {32: -87.3365447, 64: -708.39641853226408}  # exp gives the smallest normal
_EXP_HIGHEST = {32: 88.7228394, 64: 709.78271289338399}
SMALLEST_NORMAL = {32: 2.0**-126, 64: 2.0**-1022}
_LN2 = {
    32: (0.693359375, -2.12194440054690583e-4),
    64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)


def splat(builder: Any, number: Any, kind: Any) -> Any:
    """A number in every lane of a vector type."""
    undefined, first = ir.Constant(kind, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(undefined, number, first)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, undefined, zeros)


class Lane:
    """A value of the code that ``builder`` writes: floats, integers or truth values.

    One of them, or a vector; a number beside a vector stands for as many of it.
    """

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def is_vector(self) -> bool:
        """Whether it is more than one."""
        return isinstance(self.value.type, ir.VectorType)

    @property
    def element(self) -> Any:
        """LLVM's type of one of them."""
        return self.value.type.element if self.is_vector else self.value.type

    @property
    def bits(self) -> int:
        """32 or 64, of floats."""
        return 64 if self.element == FLOATS[64] else 32

    def kind(self, element: Any) -> Any:
        """The type of as many values of another type."""
        return ir.VectorType(element, self.value.type.count) if self.is_vector else element

    def of(self, x: Any) -> Any:
        """``x`` as a value of this lane's type."""
        if isinstance(x, Lane):
            return x.value
        x = x if isinstance(self.element, ir.IntType) else float(x)
        return ir.Constant(self.value.type, [x] * self.value.type.count if self.is_vector else x)

    def like(self, x: Any) -> Lane:
        """``x`` as a lane of this lane's type."""
        return x if isinstance(x, Lane) else Lane(self.builder, self.of(x))

    def _write(self, name: str, *operands: Any) -> Lane:
        values = [self.of(x) for x in operands]
        if isinstance(self.element, ir.IntType):
            return Lane(self.builder, getattr(self.builder, name)(*values))
        flags = ("contract",) if self.is_vector else ()
        return Lane(self.builder, getattr(self.builder, f"f{name}")(*values, flags=flags))

    def __add__(self, other: Any) -> Lane:
        return self._write("add", self, other)

    def __radd__(self, other: Any) -> Lane:
        return self._write("add", other, self)

    def __sub__(self, other: Any) -> Lane:
        return self._write("sub", self, other)

    def __rsub__(self, other: Any) -> Lane:
        return self._write("sub", other, self)

    def __mul__(self, other: Any) -> Lane:
        return self._write("mul", self, other)

    def __rmul__(self, other: Any) -> Lane:
        return self._write("mul", other, self)

    def __truediv__(self, other: Any) -> Lane:
        return self._write("div", self, other)

    def __rtruediv__(self, other: Any) -> Lane:
        return self._write("div", other, self)

    def __neg__(self) -> Lane:
        return Lane(self.builder, self.builder.fneg(self.value))

    def __and__(self, other: Any) -> Lane:
        return Lane(self.builder, self.builder.and_(self.value, self.of(other)))

    def __or__(self, other: Any) -> Lane:
        return Lane(self.builder, self.builder.or_(self.value, self.of(other)))

    def __lshift__(self, by: int) -> Lane:
        return Lane(self.builder, self.builder.shl(self.value, self.of(by)))

    def __rshift__(self, by: int) -> Lane:
        return Lane(self.builder, self.builder.ashr(self.value, self.of(by)))

    def compare(self, sign: str, other: Any) -> Lane:
        """The truth of ``self sign other``, as Python's operators on floats: NaN ≠ NaN."""
        write = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return Lane(self.builder, write(sign, self.value, self.of(other)))

    def __lt__(self, other: Any) -> Lane:
        return self.compare("<", other)

    def __le__(self, other: Any) -> Lane:
        return self.compare("<=", other)

    def __gt__(self, other: Any) -> Lane:
        return self.compare(">", other)

    def __ge__(self, other: Any) -> Lane:
        return self.compare(">=", other)

    def times_plus(self, factor: Any, summand: Any) -> Lane:
        """``self * factor + summand`` in one rounding, if the processor has that."""
        return self.intrinsic("fmuladd", factor, summand)

    def is_nan(self) -> Lane:
        """Whether it is NaN."""
        return Lane(self.builder, self.builder.fcmp_unordered("uno", self.value, self.value))

    def pick(self, yes: Any, no: Any) -> Lane:
        """``yes`` where this truth value holds, else ``no``; at least one is a lane."""
        like = yes if isinstance(yes, Lane) else no
        return Lane(self.builder, self.builder.select(self.value, like.of(yes), like.of(no)))

    def intrinsic(self, name: str, *others: Any) -> Lane:
        """An LLVM intrinsic that processors have as an instruction."""
        kind, builder = self.value.type, self.builder
        lanes = f"v{kind.count}" if self.is_vector else ""
        name = f"llvm.{name}.{lanes}f{self.bits}"
        signature = ir.FunctionType(kind, [kind] * (1 + len(others)))
        function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
        return Lane(builder, builder.call(function, [self.value, *map(self.of, others)]))

    def as_bits(self) -> Lane:
        """The bits of floats."""
        return Lane(
            self.builder, self.builder.bitcast(self.value, self.kind(ir.IntType(self.bits)))
        )

    def as_float(self) -> Lane:
        """The floats of these bits."""
        kind = self.kind(FLOATS[self.element.width])
        return Lane(self.builder, self.builder.bitcast(self.value, kind))

    def to_float(self) -> Lane:
        """The numbers of these integers."""
        kind = self.kind(FLOATS[self.element.width])
        return Lane(self.builder, self.builder.sitofp(self.value, kind))

    def widened(self) -> Lane:
        """A float in 64 bits."""
        if self.bits == 64:
            return self
        return Lane(self.builder, self.builder.fpext(self.value, self.kind(FLOATS[64])))

    def narrowed(self, bits: int) -> Lane:
        """A float of 64 bits in ``bits`` bits."""
        if self.bits == bits:
            return self
        return Lane(self.builder, self.builder.fptrunc(self.value, self.kind(FLOATS[bits])))


# --------------------------------------------------------------------------- tools


def absolute(x: Lane) -> Lane:
    """|x|."""
    return x.intrinsic("fabs")


def copysign(x: Lane, sign: Any) -> Lane:
    """|x| with the sign of ``sign``."""
    return x.intrinsic("copysign", sign)


def floor(x: Lane) -> Lane:
    """The largest integer ≤ x."""
    return x.intrinsic("floor")


def ceil(x: Lane) -> Lane:
    """The smallest integer ≥ x."""
    return x.intrinsic("ceil")


def trunc(x: Lane) -> Lane:
    """The integer towards zero."""
    return x.intrinsic("trunc")


def sqrt(x: Lane) -> Lane:
    """√x."""
    return x.intrinsic("sqrt")


def sign(x: Lane) -> Lane:
    """-1, 0 or 1; NaN of NaN."""
    return (x > 0).pick(1.0, (x < 0).pick(x.like(-1.0), x))


def at_least(x: Lane, low: float) -> Lane:
    """max(x, low); NaN stays."""
    return (x < low).pick(low, x)


def at_most(x: Lane, high: float) -> Lane:
    """min(x, high); NaN stays."""
    return (x > high).pick(high, x)


def horner(x: Lane, name: str) -> Lane:
    """The polynomial of that name in ``numba_coefficients.py``."""
    *rest, last = COEFFICIENTS[name, x.bits]
    result = x.like(last)
    for coefficient in reversed(rest):
        result = result.times_plus(x, coefficient)
    return result


def _nearest(x: Lane, factor: float = 1.0) -> tuple[Lane, Lane]:
    """The integer nearest to x · factor, below 2**22 (2**51), as a float and as an integer."""
    rounder = x.like(1.5 * 2.0 ** _MANTISSA[x.bits])
    rounded = x.times_plus(factor, rounder)
    return rounded - rounder, rounded.as_bits() - rounder.as_bits()


def power_of_two(n: Lane, bits: int) -> Lane:
    """2ⁿ of integers."""
    return ((n + _BIAS[bits]) << _MANTISSA[bits]).as_float()


# --------------------------------------------------------------------------- exponentials


def reduced_expm1(x: Lane, beyond: Lane | None = None) -> tuple[Lane, Lane]:
    """expm1(r) of x = n ln 2 + r, |r| ≤ ln(2)/2, and n; ``beyond`` continues x's last bit."""
    k, n = _nearest(x, math.log2(math.e))
    high, low = _LN2[x.bits]
    r = k.times_plus(-low, k.times_plus(-high, x))
    if beyond is not None:
        r = r + beyond
    return (r * r).times_plus(horner(r, "expm1"), r), n


def _scaled(p: Lane, n: Lane, x: Lane, lowest: float, highest: float) -> Lane:
    """(p + 1) 2ⁿ, which is 0 for x < lowest, inf for x > highest, and NaN for NaN.

    n is added to the exponent's bits, so that n = 128 needs no float 2¹²⁸. What comes out
    where x is beyond the bounds is not used.
    """
    y = ((p + 1.0).as_bits() + (n << _MANTISSA[x.bits])).as_float()
    return (x <= highest).pick((x < lowest).pick(0.0, y), x + math.inf)


def exp(x: Lane, beyond: Lane | None = None) -> Lane:
    """eˣ; ``beyond`` is added to x beyond its last bit."""
    p, n = reduced_expm1(x, beyond)
    return _scaled(p, n, x, EXP_LOWEST[x.bits], _EXP_HIGHEST[x.bits])


def exp_negative(x: Lane) -> Lane:
    """eˣ for x ≤ 0, where no scale overflows."""
    lowest = EXP_LOWEST[x.bits]
    p, n = reduced_expm1(at_least(x, lowest))
    scale = power_of_two(n, x.bits)
    return (x < lowest).pick(0.0, scale.times_plus(p, scale))


def exp2(x: Lane) -> Lane:
    """2ˣ."""
    lowest, highest = 1.0 - _BIAS[x.bits], float(_BIAS[x.bits] + 1)
    k, n = _nearest(x)
    r = (x - k) * math.log(2)
    p = (r * r).times_plus(horner(r, "expm1"), r)
    return _scaled(p, n, x, lowest, highest)


def expm1_within(x: Lane) -> Lane:
    """expm1(x) for |x| ≤ 80."""
    p, n = reduced_expm1(x)
    scale = power_of_two(n, x.bits)
    return scale.times_plus(p, scale - 1.0)


def expm1(x: Lane) -> Lane:
    """eˣ - 1, accurate near 0; from 40 on the 1 is nothing."""
    p, n = reduced_expm1(at_least(x, -80.0))
    scale = power_of_two(n, x.bits)
    large = _scaled(p, n, x, -80.0, _EXP_HIGHEST[x.bits])
    return (x > 40.0).pick(large, scale.times_plus(p, scale - 1.0))


def tanh(x: Lane) -> Lane:
    """The hyperbolic tangent."""
    limit = 9.5 if x.bits == 32 else 20.0
    e = expm1_within(2.0 * at_most(at_least(x, -limit), limit))
    return e / (e + 2.0)


def expm1_negative(x: Lane) -> Lane:
    """eˣ - 1 for x ≤ 0."""
    return expm1_within(at_least(x, -80.0))


def sigmoid(x: Lane) -> Lane:
    """1/(1 + e) or e/(1 + e), where e = exp(-|x|) never overflows."""
    e = exp_negative(-absolute(x))
    return (x < 0).pick(e, 1.0) / (e + 1.0)


def sinh(x: Lane) -> Lane:
    """The hyperbolic sine."""
    size = absolute(x)
    e = expm1_within(at_most(size, 40.0))
    h = exp(0.5 * size)
    return copysign((size > 40.0).pick(0.5 * h * h, 0.5 * (e + e / (e + 1.0))), x)


def cosh(x: Lane) -> Lane:
    """The hyperbolic cosine."""
    h = exp(0.5 * absolute(x))
    return 0.5 * h * h + 0.5 / (h * h)


# --------------------------------------------------------------------------- logarithms


def log(x: Lane) -> Lane:
    """The natural logarithm: -inf at 0, NaN below."""
    mantissa, bits = _MANTISSA[x.bits], x.bits
    is_tiny = x < SMALLEST_NORMAL[bits]
    normal = is_tiny.pick(x * 2.0 ** (mantissa + 1), x)
    # x = 2**n m, m in [sqrt(1/2), sqrt(2))
    origin = x.like(math.sqrt(0.5)).as_bits()
    n = (normal.as_bits() - origin) >> mantissa
    m = (normal.as_bits() - (n << mantissa)).as_float()
    k = n.to_float() - is_tiny.pick(mantissa + 1.0, x.like(0.0))
    s = (m - 1.0) / (m + 1.0)
    odd = 2.0 * s
    # log m = 2s p(s²); its first term is added last but one, the big one last
    tail = odd * (horner(s * s, "log") - 1.0)
    high, low = _LN2[bits]
    y = k.times_plus(high, odd + k.times_plus(low, tail))
    y = (x < math.inf).pick(y, x)
    return (x > 0).pick(y, (x < 0).pick(math.nan, (x >= 0).pick(x.like(-math.inf), x)))


def log1p_unit(u: Lane) -> Lane:
    """log(1 + u) for 0 ≤ u ≤ 1."""
    s = u / (u + 2.0)
    return 2.0 * s * horner(s * s, "log1p")


def log1p(x: Lane) -> Lane:
    """log(1 + x), accurate near 0."""
    u = x + 1.0
    y = log(u) + (x - (u - 1.0)) / u  # the second term is what the sum has lost
    return ((u > 0) & (u < math.inf)).pick(y, log(u))


def log2(x: Lane) -> Lane:
    """The logarithm to base 2."""
    return log(x) * math.log2(math.e)


def log10(x: Lane) -> Lane:
    """The logarithm to base 10."""
    return log(x) * math.log10(math.e)


def asinh(x: Lane) -> Lane:
    """The inverse of sinh."""
    a = absolute(x)
    y = log1p(a + a * a / (1.0 + sqrt(a * a + 1.0)))
    return copysign((a > 1e8).pick(log(a) + math.log(2), y), x)


def acosh(x: Lane) -> Lane:
    """The inverse of cosh."""
    t = x - 1.0
    return (x > 1e8).pick(log(x) + math.log(2), log1p(t + sqrt(t * (t + 2.0))))


def atanh(x: Lane) -> Lane:
    """The inverse of tanh."""
    a = absolute(x)
    return copysign(0.5 * log1p(2.0 * a / (1.0 - a)), x)


# --------------------------------------------------------------------------- powers


def integer_power(x: Lane, n: int) -> Lane:
    """xⁿ by repeated squaring."""
    result, square, left = None, x, abs(n)
    while left:
        if left & 1:
            result = square if result is None else result * square
        left >>= 1
        square = square * square if left else square
    if result is None:
        return x.like(1.0)
    return 1.0 / result if n < 0 else result


def power(x: Lane, y: Lane, logarithm: Lane) -> Lane:
    """x**y: 1 for y = 0; NaN for x < 0 unless y is an integer, whose parity is the sign.

    ``logarithm`` is log |x| in 64 bits, where its rounding, which the exponential
    magnifies, is small. Small exponents have a rule of their own; where the exponent is a
    constant, LLVM keeps one rule alone.
    """
    size = exp(y.widened() * logarithm).narrowed(x.bits)
    half = 0.5 * y
    is_integer = floor(y).compare("==", y)
    is_odd = is_integer & floor(half).compare("!=", half)
    signed = is_odd.pick(copysign(size, x), size)
    result = (x < 0).pick(is_integer.pick(signed, math.nan), signed)
    result = x.compare("==", 1.0).pick(1.0, result)
    for n in range(-2, 5):
        result = y.compare("==", float(n)).pick(integer_power(x, n), result)
    root = sqrt(x)
    result = y.compare("==", -0.5).pick(1.0 / root, result)
    return y.compare("==", 0.5).pick(root, result)


def cbrt(x: Lane) -> Lane:
    """The cube root."""
    a = absolute(x)
    y = exp(log(a) * (1 / 3))
    y = y - (y * y * y - a) / (3.0 * y * y)
    return copysign(((a > 0) & (a < math.inf)).pick(y, a), x)


# --------------------------------------------------------------------------- circular


def _reduced_angle(x: Lane) -> tuple[Lane, Lane]:
    """r of x = n π/2 + r, |r| ≤ π/4, and n; the subtraction is done in 64 bits."""
    wide = x.widened()
    k, n = _nearest(wide, 2 / math.pi)
    r = wide
    for part in _HALF_PI:
        r = k.times_plus(-part, r)
    return r.narrowed(x.bits), n


def _sin_and_cos(x: Lane) -> tuple[Lane, Lane]:
    r, n = _reduced_angle(x)
    s, c = r * horner(r * r, "sin"), horner(r * r, "cos")
    is_swapped = _is_set(n, 1)
    sine, cosine = is_swapped.pick(c, s), is_swapped.pick(s, c)
    return (
        _is_set(n, 2).pick(-sine, sine),
        _is_set(n + 1, 2).pick(-cosine, cosine),
    )


def _is_set(n: Lane, bit: int) -> Lane:
    return Lane(n.builder, n.builder.icmp_signed("!=", (n & bit).value, n.of(0)))


def sin(x: Lane) -> Lane:
    """The sine."""
    return _sin_and_cos(x)[0]


def cos(x: Lane) -> Lane:
    """The cosine."""
    return _sin_and_cos(x)[1]


def tan(x: Lane) -> Lane:
    """The tangent."""
    s, c = _sin_and_cos(x)
    return s / c


def atan(x: Lane) -> Lane:
    """The inverse of tan, within ±π/2."""
    a = absolute(x)
    is_large, is_middle = a > 1 + math.sqrt(2), a > math.sqrt(2) - 1
    t = is_large.pick(-1.0 / a, is_middle.pick((a - 1.0) / (a + 1.0), a))
    start = is_large.pick(x.like(math.pi / 2), is_middle.pick(x.like(math.pi / 4), 0.0))
    return copysign(start + t * horner(t * t, "atan"), x)


def atan2(y: Lane, x: Lane) -> Lane:
    """The angle of the point (x, y)."""
    is_zero = y.compare("==", 0.0)
    near = is_zero.pick(y, atan(y / x))
    is_left = (copysign(x.like(1.0), x)) < 0
    both = absolute(x).compare("==", math.inf) & absolute(y).compare("==", math.inf)
    near = both.pick(copysign(copysign(x.like(math.pi / 4), x), x * y), near)
    return is_left.pick(near + copysign(x.like(math.pi), y), is_zero.pick(copysign(near, y), near))


def asin(x: Lane) -> Lane:
    """The inverse of sin."""
    return atan(x / sqrt((1.0 - x) * (1.0 + x)))


def acos(x: Lane) -> Lane:
    """The inverse of cos."""
    return 2.0 * atan(sqrt((1.0 - x) / (1.0 + x)))


# --------------------------------------------------------------------------- error function


def _erfc_outside(a: Lane) -> Lane:
    """erfc(a) for a ≥ 0, by the normal distribution's tail of coefficients.py at t = a√2."""
    shift, pole = (COEFFICIENTS[f"normal_tail_{part}", a.bits] for part in ("shift", "pole"))
    a = at_most(a, 9.5 if a.bits == 32 else 27.2)
    # a² is split, so that its rounding, which the exponential would magnify, comes back
    low_bits = (1 << (_MANTISSA[a.bits] + 2) // 2) - 1
    high = (a.as_bits() & ~low_bits).as_float()
    e = exp(-(high * high), (high - a) * (high + a))
    t = a * math.sqrt(2)
    u = (t - shift) / (t + pole)
    return 2.0 * e / (t + pole) * horner(u, "normal_tail")


def erf(x: Lane) -> Lane:
    """The error function."""
    a = absolute(x)
    z = at_most(a, 1.0)
    inside = z * horner(z * z, "erf")
    return copysign((a > 1.0).pick(1.0 - _erfc_outside(a), inside), x)


def erfc(x: Lane) -> Lane:
    """1 - erf(x), accurate where it is small."""
    y = _erfc_outside(absolute(x))
    near = 1.0 - erf(x)
    return (absolute(x) < 0.5).pick(near, (x < 0).pick(2.0 - y, y))


def normal_tail(x: Lane) -> tuple[Lane, Lane, Lane]:
    """t Φ(-t), Φ(-t) and e of the normal distribution, t = |x|, e = exp(-t²/2).

    With s = t + pole and v = t / s, t Φ(-t) = v e Q where Q is smooth, and Φ(-t) = e Q / s.
    What t² and s lose by rounding goes to the exponential, where relative errors add.
    """
    shift, pole = (COEFFICIENTS[f"normal_tail_{part}", x.bits] for part in ("shift", "pole"))
    t = at_most(absolute(x), 13.5 if x.bits == 32 else 38.6)  # beyond, e is 0
    s = t + pole
    added = s - t
    lost = (t - (s - added)) + (pole - added)
    v = t / s
    rest = (1.0 - v) * (1 / pole)
    # a product of two numbers with so many bits is exact
    high = (t.as_bits() & -(1 << (12 if x.bits == 32 else 27))).as_float()
    exponent = high * high * -0.5
    low = (high - t) * (high + t) * 0.5 - lost * rest
    lowest = EXP_LOWEST[x.bits]
    p, n = reduced_expm1(at_least(exponent, lowest), low)
    scale = (exponent < lowest).pick(0.0, power_of_two(n, x.bits))
    q = horner(v * (1 + shift / pole) - shift / pole, "normal_tail")
    product = v * q
    e = scale.times_plus(p, scale)
    return scale * (p * product + product), rest * e * q, e
