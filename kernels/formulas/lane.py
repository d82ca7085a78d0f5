"""What formulas are written on: lanes, and the few functions that vector.h has by hand in C.

A lane is a float, or a vector of them, or their bits, or truth values, as some reader has
it. Beside a lane, a Python number stands for as many as it has, and a dictionary
{32: a, 64: b} for the one of its dtype. A reader derives its class from ``Lane``, with

    bits        32 or 64; truth values have those of the floats that were compared
    is_fused    whether a product and the sum that follows are rounded once
    apply(name, *operands)    the result of an operation; some operand is a lane. The names are

        + - * / negative                  of floats; + - of bits
        < <= > >= == !=                   truth values; NaN is unequal to itself
        & ^ << >>                         of bits, >> keeps the sign; & | of truth values
        choose(where, yes, no)            yes where it holds, else no
        like(x, number)                   as many floats as x has, each that number
        absolute copy_sign square_root    floats
        as_bits as_float                  the same bits, taken otherwise
        floor ceil trunc                  floats: for users' functions alone, as
        widened(x) narrowed(x, bits)      floats as 64 bits, and back
"""

from __future__ import annotations


def _operator(name):
    return (
        lambda self, other: self.apply(name, self, other),
        lambda self, other: self.apply(name, other, self),
    )


class Lane:
    """Python's operators, by way of the reader's ``apply``."""

    def __neg__(self):
        return self.apply("negative", self)

    __add__, __radd__ = _operator("+")
    __sub__, __rsub__ = _operator("-")
    __mul__, __rmul__ = _operator("*")
    __truediv__, __rtruediv__ = _operator("/")
    __and__, __rand__ = _operator("&")
    __or__, __ror__ = _operator("|")
    __xor__, __rxor__ = _operator("^")
    __lshift__, __rlshift__ = _operator("<<")
    __rshift__, __rrshift__ = _operator(">>")
    __lt__, __gt__ = _operator("<")[0], _operator(">")[0]
    __le__, __ge__ = _operator("<=")[0], _operator(">=")[0]
    __eq__, __ne__ = _operator("==")[0], _operator("!=")[0]
    __hash__ = object.__hash__


#: In signatures: what is not a vector of floats. A number may be a lane, the same in all of it.
Bits = Truth = Lane
Number = Lane | int | float
Table = dict[int, tuple[float, ...]]

#: Bits of the mantissa, and what is added to an exponent.
MANTISSA = {32: 23, 64: 52}
BIAS = {32: 127, 64: 1023}


def _operation(name, result=None):
    def operation(x, *others):
        return x.apply(name, x, *others)

    operation.__name__, operation.__annotations__ = name, {"return": result}
    return operation


like, choose, as_float = map(_operation, ("like", "choose", "as_float"))
as_bits = _operation("as_bits", "Bits")
absolute, copy_sign, square_root = map(_operation, ("absolute", "copy_sign", "square_root"))
floor, ceil, trunc = map(_operation, ("floor", "ceil", "trunc"))
widened, narrowed = map(_operation, ("widened", "narrowed"))


def zero_where(where: Truth, x):
    """0 where it holds, else x."""
    return choose(where, 0, x)


def at_least(x, low: Number):
    """max(x, low); NaN stays."""
    return choose(x < low, low, x)


def at_most(x, high: Number):
    """min(x, high); NaN stays."""
    return choose(x > high, high, x)


def fused(one, other):
    """``one`` where multiply-adds are rounded once, else ``other``."""
    return one if one.is_fused else other


def power_of_two(n: Bits):
    """2ⁿ for an n that is an exponent of normal numbers."""
    return as_float((n + BIAS) << MANTISSA)


def inverse_root(v, epsilon: Number):
    """1 / (√v + epsilon) for v ≥ 0, to 3 ulp."""
    return 1 / (square_root(v) + epsilon)


def polynomial(x, table: Table):
    """Σ table[k] xᵏ by Horner's rule."""
    *rest, last = table[x.bits]
    result = like(x, last)
    for coefficient in reversed(rest):
        result = result * x + coefficient
    return result


def two_chains(x, table: Table):
    """The same for a long polynomial: the even and the odd powers of its high terms, whose
    rounding the low ones diminish, in two chains at once.
    """
    low, c = 7, table[x.bits]
    square = x * x
    one, other, k = like(x, c[-1]), like(x, c[-2]), len(c) - 3
    while k > low:
        one, other, k = one * square + c[k], other * square + c[k - 1], k - 2
    result = one * x + other
    for coefficient in reversed(c[: k + 1]):
        result = result * x + coefficient
    return result
