"""Dual numbers for Numba: user functions on one number, differentiated as they compile.

A ``DualType`` is a float of the kernel's dtype, with its derivative (``varies``) or without.
Every row of the tables below teaches Numba one function: how its value and derivative
follow from its arguments'. Constants and other numbers meet a dual in the dual's dtype,
so nothing in a float32 kernel is computed in float64; a plain number has no derivative
at all, rather than one of zero, and 0 · inf cannot arise from it.

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
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, lower_cast, models, register_model

from . import maths as m
from .maths import FLOATS, Lane


class DualType(types.Type):
    """A float of ``bits`` bits; ``varies``: with its derivative."""

    def __init__(self, bits: int, varies: bool) -> None:
        self.bits, self.varies = bits, varies
        super().__init__(name=f"{'dual' if varies else 'real'}{bits}")

    @property
    def real(self) -> types.Float:
        """Numba's type of the value."""
        return types.float32 if self.bits == 32 else types.float64

    def joined(self, other: Any) -> DualType | None:
        """The type that holds both; None if ``other`` is no number."""
        if isinstance(other, DualType):
            return DualType(self.bits, self.varies or other.varies)
        return self if _is_number(other) else None

    def unify(self, typingctx: Any, other: Any) -> DualType | None:
        """What a variable is that holds now the one, now the other."""
        return self.joined(other)

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
def _from_number(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    number = context.cast(builder, value, source, target.real)
    return _packed(context, builder, Dual(Lane(builder, number)), target)


@lower_cast(types.IntegerLiteral, DualType)
def _from_literal(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    number = context.get_constant(target.real, float(source.literal_value))
    return _packed(context, builder, Dual(Lane(builder, number)), target)


@lower_cast(DualType, DualType)
def _from_dual(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return _packed(context, builder, _unpacked(context, builder, source, value), target)


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

    def __add__(self, other: Any) -> Dual:
        other = self._dual(other)
        return Dual(self.value + other.value, _sum(self.slope, other.slope))

    def __sub__(self, other: Any) -> Dual:
        return self + -self._dual(other)

    def __rsub__(self, other: Any) -> Dual:
        return self._dual(other) - self

    def __neg__(self) -> Dual:
        return Dual(-self.value, None if self.slope is None else -self.slope)

    def __mul__(self, other: Any) -> Dual:
        a, b = self, self._dual(other)
        left = None if a.slope is None else a.slope * b.value
        right = None if b.slope is None else a.value * b.slope
        return Dual(a.value * b.value, _sum(left, right))

    def __truediv__(self, other: Any) -> Dual:
        a, b = self, self._dual(other)
        value = a.value / b.value
        change = a.slope
        if b.slope is not None:
            change = _sum(change, -(value * b.slope))
        return Dual(value, None if change is None else change / b.value)

    __radd__, __rmul__ = __add__, __mul__

    def _dual(self, x: Any) -> Dual:
        return x if isinstance(x, Dual) else Dual(self.value.like(x))


def _sum(a: Lane | None, b: Lane | None) -> Lane | None:
    return a + b if a is not None and b is not None else b if a is None else a


def _packed(context: Any, builder: Any, dual: Dual, kind: DualType) -> Any:
    struct = cgutils.create_struct_proxy(kind)(context, builder)
    struct.value = dual.value.value
    if kind.varies:
        struct.slope = dual.value.of(0.0) if dual.slope is None else dual.slope.value
    return struct._getvalue()


def _unpacked(context: Any, builder: Any, kind: DualType, value: Any) -> Dual:
    struct = cgutils.create_struct_proxy(kind)(context, builder, value)
    return Dual(Lane(builder, struct.value), Lane(builder, struct.slope) if kind.varies else None)


def _literal(builder: Any, number: int, bits: int) -> Dual:
    return Dual(Lane(builder, ir.Constant(FLOATS[bits], float(number))), literal=number)


# --------------------------------------------------------------------------- rows


def _bounded(slope: Lane) -> Lane:
    """An exponential's slope, below overflow: 1 / (1 + exp(-x)) then has slope 0, not 0 · inf."""
    return m.at_most(slope, 2.0 ** (120 if slope.bits == 32 else 1015))


_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

#: functions of one number -> (f(x), f'(x, y) with y = f(x))
_UNARY: dict[tuple[Any, ...], tuple[Callable[[Lane], Lane], Callable[[Lane, Lane], Any]]] = {
    (math.exp, np.exp): (m.exp, lambda x, y: _bounded(y)),
    (math.exp2, np.exp2): (m.exp2, lambda x, y: _bounded(y) * math.log(2)),
    (math.expm1, np.expm1): (m.expm1, lambda x, y: _bounded(y + 1.0)),
    (math.log, np.log): (m.log, lambda x, y: 1.0 / x),
    (math.log1p, np.log1p): (m.log1p, lambda x, y: 1.0 / (x + 1.0)),
    (math.log2, np.log2): (m.log2, lambda x, y: math.log2(math.e) / x),
    (math.log10, np.log10): (m.log10, lambda x, y: math.log10(math.e) / x),
    (math.sqrt, np.sqrt): (m.sqrt, lambda x, y: 0.5 / y),
    (math.cbrt, np.cbrt): (m.cbrt, lambda x, y: (1 / 3) / (y * y)),
    (math.sin, np.sin): (m.sin, lambda x, y: m.cos(x)),
    (math.cos, np.cos): (m.cos, lambda x, y: -m.sin(x)),
    (math.tan, np.tan): (m.tan, lambda x, y: y * y + 1.0),
    (math.asin, np.arcsin): (m.asin, lambda x, y: 1.0 / m.sqrt((1.0 - x) * (1.0 + x))),
    (math.acos, np.arccos): (m.acos, lambda x, y: -1.0 / m.sqrt((1.0 - x) * (1.0 + x))),
    (math.atan, np.arctan): (m.atan, lambda x, y: 1.0 / (x * x + 1.0)),
    (math.sinh, np.sinh): (m.sinh, lambda x, y: m.cosh(x)),
    (math.cosh, np.cosh): (m.cosh, lambda x, y: m.sinh(x)),
    (math.tanh, np.tanh): (m.tanh, lambda x, y: 1.0 - y * y),
    (math.asinh, np.arcsinh): (m.asinh, lambda x, y: 1.0 / m.sqrt(x * x + 1.0)),
    (math.acosh, np.arccosh): (m.acosh, lambda x, y: 1.0 / m.sqrt((x - 1.0) * (x + 1.0))),
    (math.atanh, np.arctanh): (m.atanh, lambda x, y: 1.0 / ((1.0 - x) * (1.0 + x))),
    (math.erf,): (m.erf, lambda x, y: _TWO_OVER_ROOT_PI * m.exp(-(x * x))),
    (math.erfc,): (m.erfc, lambda x, y: -_TWO_OVER_ROOT_PI * m.exp(-(x * x))),
    (abs, math.fabs, np.abs, np.fabs): (m.absolute, lambda x, y: m.sign(x)),
    (np.square,): (lambda x: x * x, lambda x, y: 2.0 * x),
    (np.reciprocal,): (lambda x: 1.0 / x, lambda x, y: -(y * y)),
    (operator.neg, np.negative): (lambda x: -x, lambda x, y: -1.0),
    (operator.pos, np.positive, float): (lambda x: x, lambda x, y: 1.0),
    (math.degrees, np.degrees): (lambda x: x * (180 / math.pi), lambda x, y: 180 / math.pi),
    (math.radians, np.radians): (lambda x: x * (math.pi / 180), lambda x, y: math.pi / 180),
}

#: functions of one number that do not vary, except in jumps
_STEPS: dict[tuple[Any, ...], Callable[[Lane], Lane]] = {
    (math.floor, np.floor): m.floor,
    (math.ceil, np.ceil): m.ceil,
    (math.trunc, np.trunc): m.trunc,
    (np.sign,): m.sign,
}

#: questions about one number
_QUESTIONS: dict[tuple[Any, ...], Callable[[Lane], Lane]] = {
    (bool, operator.truth): lambda x: x.compare("!=", 0.0),
    (operator.not_,): lambda x: x.compare("==", 0.0),
    (math.isnan, np.isnan): lambda x: x.is_nan(),
    (math.isinf, np.isinf): lambda x: m.absolute(x).compare("==", math.inf),
    (math.isfinite, np.isfinite): lambda x: m.absolute(x) < math.inf,
}

_COMPARISONS = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}


def _power(a: Dual, b: Dual) -> Dual:
    if b.literal is not None and abs(b.literal) <= 64:
        n = b.literal
        value = m.integer_power(a.value, n)
        return a.chain(value, lambda: m.integer_power(a.value, n - 1) * float(n) if n else 0.0)
    logarithm = m.log(m.absolute(a.value).widened())
    value = m.power(a.value, b.value, logarithm)
    by_base = by_exponent = None
    if a.slope is not None:
        by_base = a.slope * (b.value * m.power(a.value, b.value - 1.0, logarithm))
        by_base = b.value.compare("==", 0.0).pick(0.0, by_base)
    if b.slope is not None:
        change = _bounded(value) * logarithm.narrowed(value.bits)
        by_exponent = b.slope * (value.compare("==", 0.0)).pick(0.0, change)
    return Dual(value, _sum(by_base, by_exponent))


def _floor_divide(a: Dual, b: Dual) -> Dual:
    return Dual(m.floor(a.value / b.value))


def _remainder(a: Dual, b: Dual) -> Dual:
    return a - _floor_divide(a, b) * b


def _extreme(sign: str) -> Callable[[Dual, Dual], Dual]:
    """max (">") or min ("<"); NaN wins."""

    def extreme(a: Dual, b: Dual) -> Dual:
        is_first = a.value.compare(sign, b.value) | a.value.is_nan()
        value = is_first.pick(a.value, b.value)
        if a.slope is None and b.slope is None:
            return Dual(value)
        zero = value.like(0.0)
        left, right = a.slope or zero, b.slope or zero
        both = 0.5 * (left + right) if a.slope is not None and b.slope is not None else zero
        tie = a.value.compare("==", b.value)
        return Dual(value, tie.pick(both, is_first.pick(left, right)))

    return extreme


def _folded(rule: Callable[[Dual, Dual], Dual], *numbers: Dual) -> Dual:
    return reduce(rule, numbers)


def _clip(x: Dual, low: Dual, high: Dual) -> Dual:
    return _extreme("<")(_extreme(">")(x, low), high)


def _hypot(a: Dual, b: Dual) -> Dual:
    value = m.sqrt(a.value * a.value + b.value * b.value)
    return Dual(value, _sum(*(x.chain(value, lambda x=x: x.value / value).slope for x in (a, b))))


def _atan2(y: Dual, x: Dual) -> Dual:
    square = x.value * x.value + y.value * y.value
    left = y.chain(square, lambda: x.value / square).slope
    right = x.chain(square, lambda: -y.value / square).slope
    return Dual(m.atan2(y.value, x.value), _sum(left, right))


def _copysign(a: Dual, b: Dual) -> Dual:
    value = m.copysign(a.value, b.value)
    return a.chain(value, lambda: m.sign(a.value) * m.sign(m.copysign(value.like(1.0), b.value)))


def _logaddexp(a: Dual, b: Dual) -> Dual:
    low, high = _extreme("<")(a, b), _extreme(">")(a, b)
    gap = low.value - high.value
    value = high.value + m.log1p(m.exp(gap))
    left = a.chain(value, lambda: m.exp(a.value - value)).slope
    right = b.chain(value, lambda: m.exp(b.value - value)).slope
    return Dual(value, _sum(left, right))


def _log_to_base(a: Dual, base: Dual) -> Dual:
    top, bottom = (x.chain(m.log(x.value), lambda x=x: 1.0 / x.value) for x in (a, base))
    return top / bottom


_POWERS = (operator.pow, operator.ipow, pow, math.pow, np.power)

#: functions of two numbers
_BINARY: dict[tuple[Any, ...], Callable[[Dual, Dual], Dual]] = {
    (operator.add, operator.iadd, np.add): operator.add,
    (operator.sub, operator.isub, np.subtract): operator.sub,
    (operator.mul, operator.imul, np.multiply): operator.mul,
    (operator.truediv, operator.itruediv, np.divide): operator.truediv,
    (operator.floordiv, operator.ifloordiv, np.floor_divide): _floor_divide,
    (operator.mod, operator.imod, np.remainder): _remainder,
    _POWERS: _power,
    (np.maximum,): _extreme(">"),
    (np.minimum,): _extreme("<"),
    (math.hypot, np.hypot): _hypot,
    (math.atan2, np.arctan2): _atan2,
    (math.copysign, np.copysign): _copysign,
    (np.logaddexp,): _logaddexp,
    (math.log,): _log_to_base,
}


# --------------------------------------------------------------------------- registration


def _joined(kinds: tuple[Any, ...]) -> DualType | None:
    """The dual type of an expression of ``kinds``, at least one of them dual; else None."""
    duals = [kind for kind in kinds if isinstance(kind, DualType)]
    if not duals:
        return None
    result: DualType | None = duals[0]
    for kind in kinds:
        result = None if result is None else result.joined(kind)
    return result


def _as_duals(kinds: tuple[Any, ...], joined: DualType) -> list[Any]:
    """What arguments of ``kinds`` are converted to; literals, if they come as such, stay."""
    real = DualType(joined.bits, False)
    return [k if isinstance(k, (DualType, types.IntegerLiteral)) else real for k in kinds]


def _template(function: Any, result: Callable[[DualType], Any], leading: int = 0) -> None:
    """Have Numba accept duals and numbers, after ``leading`` truth values."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
            joined = _joined(args[leading:])
            if joined is None or kws:
                return None
            if leading:  # a choice between values of one type
                return signature(result(joined), *args[:leading], joined, joined)
            return signature(result(joined), *_as_duals(args, joined))

    if function in _POWERS:
        Template.prefer_literal = True
    infer_global(function)(Template)


def _teach(
    functions: tuple[Any, ...], counts: range, result: Callable[[DualType], Any], write: Any
) -> None:
    """Functions of ``counts`` numbers; ``write`` makes a Dual, or a Lane of a truth value."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = next(kind.bits for kind in sig.args if isinstance(kind, DualType))
        duals = [
            _unpacked(context, builder, kind, value)
            if isinstance(kind, DualType)
            else _literal(builder, kind.literal_value, bits)
            for kind, value in zip(sig.args, args, strict=True)
        ]
        written = write(*duals)
        if isinstance(written, Lane):
            return written.value
        return _packed(context, builder, written, sig.return_type)

    for function in functions:
        _template(function, result)
        for count in counts:
            lower_builtin(function, *[DualType] * count)(lower)
        if function in _POWERS:
            lower_builtin(function, DualType, types.IntegerLiteral)(lower)
            lower_builtin(function, types.IntegerLiteral, DualType)(lower)


def _teach_where() -> None:
    """np.where on single numbers."""

    @lower_builtin(np.where, types.Boolean, DualType, DualType)
    def where(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    _template(np.where, lambda kind: kind, leading=1)


def _unary(value: Callable[[Lane], Lane], slope: Callable[[Lane, Lane], Any]) -> Any:
    def write(x: Dual) -> Dual:
        y = value(x.value)
        return x.chain(y, lambda: slope(x.value, y))

    return write


_ONE, _TWO = range(1, 2), range(2, 3)

for _functions, _row in _UNARY.items():
    _teach(_functions, _ONE, lambda kind: kind, _unary(*_row))
for _functions, _step in _STEPS.items():
    _teach(
        _functions,
        _ONE,
        lambda kind: DualType(kind.bits, False),
        lambda x, f=_step: Dual(f(x.value)),
    )
for _functions, _ask in _QUESTIONS.items():
    _teach(_functions, _ONE, lambda kind: types.boolean, lambda x, f=_ask: f(x.value))
for _operator, _sign in _COMPARISONS.items():
    _teach(
        (_operator,),
        _TWO,
        lambda kind: types.boolean,
        lambda a, b, sign=_sign: a.value.compare(sign, b.value),
    )
for _functions, _rule in _BINARY.items():
    _teach(_functions, _TWO, lambda kind: kind, _rule)
for _function, _rule in ((max, _extreme(">")), (min, _extreme("<"))):
    _teach((_function,), range(2, 5), lambda kind: kind, partial(_folded, _rule))
_teach((np.clip,), range(3, 4), lambda kind: kind, _clip)
_teach_where()
