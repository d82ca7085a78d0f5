"""Dual numbers for Numba: user functions on one number, differentiated as they compile.

A ``DualType`` is a float of the kernel's dtype, with its derivative (``varies``) or without.
Every row of the tables below teaches Numba one function: how its value and derivative
follow from its arguments'. Constants and other numbers meet a dual in the dual's dtype,
so nothing in a float32 kernel is computed in float64; a plain number has no derivative
at all, rather than one of zero, and 0 · inf cannot arise from it. A user's own arithmetic
is rounded as Python's; within the functions, multiply-adds are fused.

At kinks derivatives are PyTorch's: |·|′(0) = 0, max(x, 0)′(0) = 0, and where two varying
numbers meet in ``max`` or ``min`` each has half. ``floor`` and the like have derivative 0.

To add a function, add its row. Importing this module registers the types with Numba.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, lower_cast, models, register_model

from ..formulas import elementary as e
from ..formulas import lane as f
from .compile import host
from .lane import FLOATS, Lane


class DualType(types.Type):
    """A float of ``bits`` bits; ``varies``: with its derivative."""

    def __init__(self, bits: int, varies: bool) -> None:
        self.bits, self.varies = bits, varies
        super().__init__(name=f"{'dual' if varies else 'real'}{bits}")

    @property
    def real(self) -> types.Float:
        """Numba's type of the value."""
        return types.float32 if self.bits == 32 else types.float64

    @property
    def constant(self) -> DualType:
        """The type without a derivative."""
        return DualType(self.bits, False)

    def unify(self, typingctx: Any, other: Any) -> DualType | None:
        """The type that holds both; None if ``other`` is no number."""
        if isinstance(other, DualType):
            return DualType(self.bits, self.varies or other.varies)
        return self if _is_number(other) else None

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """Numbers become duals, and reals varying ones; never the other way round."""
        if _is_number(other) or (isinstance(other, DualType) and self.varies >= other.varies):
            return Conversion.promote
        return None


def _is_number(kind: Any) -> bool:
    return isinstance(kind, (types.Integer, types.Float, types.Boolean, types.IntegerLiteral))


@register_model(DualType)
class _DualModel(models.StructModel):
    def __init__(self, manager: Any, kind: DualType) -> None:
        members = [("value", kind.real), ("slope", kind.real)][: 1 + kind.varies]
        super().__init__(manager, kind, members)


@lower_cast(types.Number, DualType)
@lower_cast(types.Boolean, DualType)
@lower_cast(types.IntegerLiteral, DualType)
def _from_number(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    if isinstance(source, types.IntegerLiteral):
        number = context.get_constant(target.real, float(source.literal_value))
    else:
        number = context.cast(builder, value, source, target.real)
    return packed(context, builder, Dual(Lane(builder, number, target.bits)), target)


@lower_cast(DualType, DualType)
def _from_dual(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return packed(context, builder, unpacked(context, builder, source, value), target)


# --------------------------------------------------------------------------- arithmetic


class Dual:
    """A value and its slope in the code being written; no slope: it does not vary.

    ``literal`` is the value where it stands in the source as an integer.
    """

    def __init__(self, value: Lane, slope: Lane | None = None, literal: int | None = None) -> None:
        self.value, self.slope, self.literal = value, slope, literal

    def chain(self, value: Lane, derivative: Callable[[], Lane | float]) -> Dual:
        """A function of this number, by its value and derivative."""
        return Dual(value, None if self.slope is None else self.slope * derivative())

    def __add__(self, other: Dual) -> Dual:
        return Dual(self.value + other.value, _sum(self.slope, other.slope))

    def __sub__(self, other: Dual) -> Dual:
        return self + -other

    def __neg__(self) -> Dual:
        return Dual(-self.value, None if self.slope is None else -self.slope)

    def __mul__(self, other: Dual) -> Dual:
        left = None if self.slope is None else self.slope * other.value
        right = None if other.slope is None else self.value * other.slope
        return Dual(self.value * other.value, _sum(left, right))

    def __truediv__(self, other: Dual) -> Dual:
        value, change = self.value / other.value, self.slope
        if other.slope is not None:
            change = _sum(change, -(value * other.slope))
        return Dual(value, None if change is None else change / other.value)


def _sum(a: Lane | None, b: Lane | None) -> Lane | None:
    return a + b if a is not None and b is not None else b if a is None else a


def packed(context: Any, builder: Any, dual: Dual, kind: DualType) -> Any:
    struct = cgutils.create_struct_proxy(kind)(context, builder)
    struct.value = dual.value.value
    if kind.varies:
        struct.slope = dual.value.of(0.0) if dual.slope is None else dual.slope.value
    return struct._getvalue()


def unpacked(context: Any, builder: Any, kind: Any, value: Any, fuses: bool = False) -> Dual:
    struct = cgutils.create_struct_proxy(kind)(context, builder, value)
    return Dual(
        Lane(builder, struct.value, kind.bits, fuses),
        Lane(builder, struct.slope, kind.bits, fuses) if kind.varies else None,
    )


# --------------------------------------------------------------------------- rows


def _bounded(slope: Lane) -> Lane:
    """An exponential's slope, below overflow: 1 / (1 + exp(-x)) then has slope 0, not 0 · inf."""
    return f.at_most(slope, {32: 2.0**120, 64: 2.0**1015})


_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

#: functions of one number -> (f(x), f'(x, y) with y = f(x))
_UNARY: dict[tuple[Any, ...], tuple[Callable[[Lane], Lane], Callable[[Lane, Lane], Any]]] = {
    (math.exp, np.exp): (e.exp, lambda x, y: _bounded(y)),
    (math.exp2, np.exp2): (e.exp2, lambda x, y: _bounded(y) * math.log(2)),
    (math.expm1, np.expm1): (e.expm1, lambda x, y: _bounded(y + 1)),
    (math.log, np.log): (e.log, lambda x, y: 1 / x),
    (math.log1p, np.log1p): (e.log1p, lambda x, y: 1 / (x + 1)),
    (math.log2, np.log2): (e.log2, lambda x, y: math.log2(math.e) / x),
    (math.log10, np.log10): (e.log10, lambda x, y: math.log10(math.e) / x),
    (math.sqrt, np.sqrt): (f.square_root, lambda x, y: 0.5 / y),
    (math.cbrt, np.cbrt): (e.cbrt, lambda x, y: (1 / 3) / (y * y)),
    (math.sin, np.sin): (e.sin, lambda x, y: e.cos(x)),
    (math.cos, np.cos): (e.cos, lambda x, y: -e.sin(x)),
    (math.tan, np.tan): (e.tan, lambda x, y: y * y + 1),
    (math.asin, np.arcsin): (e.asin, lambda x, y: 1 / f.square_root((1 - x) * (1 + x))),
    (math.acos, np.arccos): (e.acos, lambda x, y: -1 / f.square_root((1 - x) * (1 + x))),
    (math.atan, np.arctan): (e.atan, lambda x, y: 1 / (x * x + 1)),
    (math.sinh, np.sinh): (e.sinh, lambda x, y: e.cosh(x)),
    (math.cosh, np.cosh): (e.cosh, lambda x, y: e.sinh(x)),
    (math.tanh, np.tanh): (e.tanh, lambda x, y: 1 - y * y),
    (math.asinh, np.arcsinh): (e.asinh, lambda x, y: 1 / f.square_root(x * x + 1)),
    (math.acosh, np.arccosh): (e.acosh, lambda x, y: 1 / f.square_root((x - 1) * (x + 1))),
    (math.atanh, np.arctanh): (e.atanh, lambda x, y: 1 / ((1 - x) * (1 + x))),
    (math.erf,): (e.erf, lambda x, y: _TWO_OVER_ROOT_PI * e.exp(-(x * x))),
    (math.erfc,): (e.erfc, lambda x, y: -_TWO_OVER_ROOT_PI * e.exp(-(x * x))),
    (abs, math.fabs, np.abs, np.fabs): (f.absolute, lambda x, y: e.sign(x)),
    (np.square,): (lambda x: x * x, lambda x, y: 2 * x),
    (np.reciprocal,): (lambda x: 1 / x, lambda x, y: -(y * y)),
    (operator.neg, np.negative): (lambda x: -x, lambda x, y: -1),
    (operator.pos, np.positive, float): (lambda x: x, lambda x, y: 1),
    (math.degrees, np.degrees): (lambda x: x * (180 / math.pi), lambda x, y: 180 / math.pi),
    (math.radians, np.radians): (lambda x: x * (math.pi / 180), lambda x, y: math.pi / 180),
}

#: functions of one number that do not vary, except in jumps
_STEPS: dict[tuple[Any, ...], Callable[[Lane], Lane]] = {
    (math.floor, np.floor): f.floor,
    (math.ceil, np.ceil): f.ceil,
    (math.trunc, np.trunc): f.trunc,
    (np.sign,): e.sign,
}

#: questions about one number
_QUESTIONS: dict[tuple[Any, ...], Callable[[Lane], Lane]] = {
    (bool, operator.truth): lambda x: x != 0,
    (operator.not_,): lambda x: x == 0,
    (math.isnan, np.isnan): lambda x: operator.ne(x, x),
    (math.isinf, np.isinf): lambda x: f.absolute(x) == math.inf,
    (math.isfinite, np.isfinite): lambda x: f.absolute(x) < math.inf,
}

_COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)


def _power(a: Dual, b: Dual) -> Dual:
    x, y, n = a.value, b.value, b.literal
    if n is not None and abs(n) <= 64:
        return a.chain(e.integer_power(x, n), lambda: e.integer_power(x, n - 1) * n if n else 0)
    value = e.power(x, y)
    by_base = by_exponent = None
    if a.slope is not None:
        by_base = f.choose(y == 0, 0, a.slope * (y * e.power(x, y - 1)))
    if b.slope is not None:
        change = _bounded(value) * f.narrowed(e.log(f.widened(f.absolute(x))), x.bits)
        by_exponent = b.slope * f.choose(value == 0, 0, change)
    return Dual(value, _sum(by_base, by_exponent))


def _floor_divide(a: Dual, b: Dual) -> Dual:
    return Dual(f.floor(a.value / b.value))


def _remainder(a: Dual, b: Dual) -> Dual:
    return a - _floor_divide(a, b) * b


def _extreme(compare: Callable[[Lane, Lane], Lane], *numbers: Dual) -> Dual:
    """max (gt) or min (lt); NaN wins."""

    def of_two(a: Dual, b: Dual) -> Dual:
        is_first = compare(a.value, b.value) | (a.value != a.value)
        value, zero = f.choose(is_first, a.value, b.value), f.like(a.value, 0)
        if a.slope is None and b.slope is None:
            return Dual(value)
        left, right = (zero if x.slope is None else x.slope for x in (a, b))
        both = zero if a.slope is None or b.slope is None else (left + right) * 0.5
        return Dual(value, f.choose(a.value == b.value, both, f.choose(is_first, left, right)))

    return reduce(of_two, numbers)


_largest, _smallest = partial(_extreme, operator.gt), partial(_extreme, operator.lt)


def _clip(x: Dual, low: Dual, high: Dual) -> Dual:
    return _smallest(_largest(x, low), high)


def _hypot(a: Dual, b: Dual) -> Dual:
    value = f.square_root(a.value * a.value + b.value * b.value)
    return Dual(value, _sum(*(x.chain(value, lambda x=x: x.value / value).slope for x in (a, b))))


def _atan2(y: Dual, x: Dual) -> Dual:
    square = x.value * x.value + y.value * y.value
    left = y.chain(square, lambda: x.value / square).slope
    right = x.chain(square, lambda: -y.value / square).slope
    return Dual(e.atan2(y.value, x.value), _sum(left, right))


def _copysign(a: Dual, b: Dual) -> Dual:
    value = f.copy_sign(a.value, b.value)
    return a.chain(value, lambda: e.sign(a.value) * f.copy_sign(f.like(value, 1), b.value))


def _logaddexp(a: Dual, b: Dual) -> Dual:
    low, high = _smallest(a, b).value, _largest(a, b).value
    value = high + e.log1p(e.exp(low - high))
    left, right = (x.chain(value, lambda x=x: e.exp(x.value - value)).slope for x in (a, b))
    return Dual(value, _sum(left, right))


def _log_to_base(a: Dual, base: Dual) -> Dual:
    top, bottom = (x.chain(e.log(x.value), lambda x=x: 1 / x.value) for x in (a, base))
    return top / bottom


#: operators, which round as Python's
_OPERATORS: dict[tuple[Any, ...], Callable[[Dual, Dual], Dual]] = {
    (operator.add, operator.iadd, np.add): operator.add,
    (operator.sub, operator.isub, np.subtract): operator.sub,
    (operator.mul, operator.imul, np.multiply): operator.mul,
    (operator.truediv, operator.itruediv, np.divide): operator.truediv,
    (operator.floordiv, operator.ifloordiv, np.floor_divide): _floor_divide,
    (operator.mod, operator.imod, np.remainder): _remainder,
}

_POWERS = (operator.pow, operator.ipow, pow, math.pow, np.power)

#: functions of two numbers
_BINARY: dict[tuple[Any, ...], Callable[[Dual, Dual], Dual]] = {
    _POWERS: _power,
    (np.maximum,): _largest,
    (np.minimum,): _smallest,
    (math.hypot, np.hypot): _hypot,
    (math.atan2, np.arctan2): _atan2,
    (math.copysign, np.copysign): _copysign,
    (np.logaddexp,): _logaddexp,
    (math.log,): _log_to_base,
}


# --------------------------------------------------------------------------- registration


def _template(function: Any, result: Callable[[DualType], Any], leading: int = 0) -> None:
    """Have Numba accept duals and numbers, at least one dual, after ``leading`` truth values."""

    class Template(AbstractTemplate):
        key = function
        prefer_literal = function in _POWERS

        def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
            numbers = args[leading:]
            joined = next((kind for kind in numbers if isinstance(kind, DualType)), None)
            for kind in numbers:
                joined = joined and joined.unify(None, kind)
            if joined is None or kws:
                return None
            if leading:  # a choice between values of one type
                return signature(result(joined), *args[:leading], joined, joined)
            kept = (DualType, types.IntegerLiteral)
            kinds = (kind if isinstance(kind, kept) else joined.constant for kind in numbers)
            return signature(result(joined), *kinds)

    infer_global(function, types.Function(Template))


def _teach(
    functions: tuple[Any, ...],
    counts: tuple[int, ...],
    result: Callable[[DualType], Any],
    write: Any,
    fuses: bool = host().registers.fuse,
) -> None:
    """Functions of ``counts`` numbers; ``write`` makes a Dual, or a Lane of a truth value."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = next(kind.bits for kind in sig.args if isinstance(kind, DualType))

        def dual(kind: Any, value: Any) -> Dual:
            if isinstance(kind, DualType):
                return unpacked(context, builder, kind, value, fuses)
            number = FLOATS[bits](float(kind.literal_value))
            return Dual(Lane(builder, number, bits, fuses), literal=kind.literal_value)

        written = write(*map(dual, sig.args, args))
        if isinstance(written, Lane):
            return written.value
        return packed(context, builder, written, sig.return_type)

    for function in functions:
        _template(function, result)
        for count in counts:
            lower_builtin(function, *[DualType] * count)(lower)
        if function in _POWERS:
            lower_builtin(function, DualType, types.IntegerLiteral)(lower)
            lower_builtin(function, types.IntegerLiteral, DualType)(lower)


def _unary(value: Callable[[Lane], Lane], slope: Callable[[Lane, Lane], Any]) -> Any:
    def write(x: Dual) -> Dual:
        y = value(x.value)
        return x.chain(y, lambda: slope(x.value, y))

    return write


@lower_builtin(np.where, types.Boolean, DualType, DualType)
def _where(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.select(*args)


for _functions, _row in _UNARY.items():
    _teach(_functions, (1,), lambda kind: kind, _unary(*_row))
for _functions, _step in _STEPS.items():
    _teach(_functions, (1,), lambda kind: kind.constant, lambda x, step=_step: Dual(step(x.value)))
for _functions, _ask in _QUESTIONS.items():
    _teach(_functions, (1,), lambda kind: types.boolean, lambda x, ask=_ask: ask(x.value))
for _sign in _COMPARISONS:
    _teach((_sign,), (2,), lambda kind: types.boolean, lambda a, b, s=_sign: s(a.value, b.value))
for _functions, _rule in _OPERATORS.items():
    _teach(_functions, (2,), lambda kind: kind, _rule, fuses=False)
for _functions, _rule in _BINARY.items():
    _teach(_functions, (2,), lambda kind: kind, _rule)
_teach((max,), (2, 3, 4), lambda kind: kind, _largest)
_teach((min,), (2, 3, 4), lambda kind: kind, _smallest)
_teach((np.clip,), (3,), lambda kind: kind, _clip)
_template(np.where, lambda kind: kind, leading=1)
