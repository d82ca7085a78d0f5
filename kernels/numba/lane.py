"""The LLVM reader of formulas: Python's operators on values of the code being written.

A ``Lane`` is a number or a vector of them, floats, integers or truth values; a ``Pointer``
is where numbers lie. No fast-math flags: a product is remembered, and where something is
added to it, that is a fused multiply-add, of the later product if there are two. So what is
rounded follows from the formula, not from what LLVM finds around it. Lanes that are not
``is_fused`` round every product, as Python does: a user's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from ..formulas import lane as formulas

FLOATS = {32: ir.FloatType(), 64: ir.DoubleType()}
I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
VOID = ir.VoidType()

_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_OF_INTEGERS = {"&": "and_", "|": "or_", "^": "xor", "<<": "shl", ">>": "ashr", "%": "urem"}
_INTRINSICS = {"absolute": "fabs", "copy_sign": "copysign", "square_root": "sqrt"}
_INTRINSICS |= {name: name for name in ("floor", "ceil", "trunc")}


def bits_of(number: Any) -> int:
    """32 or 64, of a type of floats."""
    return 32 if number == FLOATS[32] else 64


def call_named(builder: Any, name: str, result: Any, values: Sequence[Any]) -> Any:
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(result, [value.type for value in values])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, values)


class Lane(formulas.Lane):
    """A value that ``builder`` writes.

    ``bits`` are those of the floats that it is, or that it was made of; ``product`` is where
    it was made and its two factors, if it is one.
    """

    def __init__(
        self, builder: Any, value: Any, bits: int = 64, is_fused: bool = False, product: Any = None
    ) -> None:
        self.builder, self.value, self.bits = builder, value, bits
        self.is_fused, self.product = is_fused, product

    def made(self, value: Any, product: Any = None) -> Lane:
        """Another value of the same arithmetic."""
        return Lane(self.builder, value, self.bits, self.is_fused, product)

    def __mod__(self, other: int) -> Lane:
        return self.apply("%", self, other)

    def spread(self, lanes: int) -> Lane:
        """A number in every lane of a vector."""
        undefined = ir.Constant(ir.VectorType(self.value.type, lanes), ir.Undefined)
        one = self.builder.insert_element(undefined, self.value, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
        return self.made(self.builder.shuffle_vector(one, undefined, zeros))

    def _kind(self, element: Any) -> Any:
        """The type of as many values of another type."""
        kind = self.value.type
        return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element

    def of(self, x: Any, element: Any = None) -> Any:
        """``x`` as a value of this lane's type, or of as many of an element."""
        if isinstance(x, Lane):
            return x.value
        kind = self._kind(element) if element else self.value.type
        element = getattr(kind, "element", kind)
        x = x[self.bits] if isinstance(x, dict) else x
        x = int(x) if isinstance(element, ir.IntType) else float(x)
        return ir.Constant(kind, [x] * kind.count if kind is not element else x)

    def apply(self, name: str, *operands: Any) -> Lane:
        """See ``formulas/lane.py``."""
        write, number = self.builder, FLOATS[self.bits]
        if name == "choose":
            return self.made(write.select(self.value, *(self.of(x, number) for x in operands[1:])))
        if name == "like":
            return self.made(self.of(operands[1], number))
        if name in ("as_bits", "as_float"):
            element = number if name == "as_float" else ir.IntType(self.bits)
            return self.made(write.bitcast(self.value, self._kind(element)))
        if name in ("widened", "narrowed"):
            return self._resized(64 if name == "widened" else operands[1])
        values = [self.of(x) for x in operands]
        if name == "negative":
            return self.made(write.fneg(*values))
        if name in _INTRINSICS:
            return self.made(self._intrinsic(_INTRINSICS[name], *values))
        if name in _OF_INTEGERS:
            return self.made(getattr(write, _OF_INTEGERS[name])(*values))
        is_float = values[0].type == self._kind(number)
        if name not in _ARITHMETIC:
            compare = write.fcmp_ordered if is_float else write.icmp_signed
            return self.made((write.fcmp_unordered if name == "!=" else compare)(name, *values))
        if not is_float:
            return self.made(getattr(write, _ARITHMETIC[name])(*values))
        if self.is_fused and name in "+-":
            products = [
                (x.product, i) for i, x in enumerate(operands) if isinstance(x, Lane) and x.product
            ]
            if products:
                return self._fused(name, values, *max(products, key=lambda found: found[0][0]))
        product = (len(write.block.instructions), *values) if name == "*" else None
        return self.made(getattr(write, f"f{_ARITHMETIC[name]}")(*values), product)

    def _fused(self, sign: str, values: list[Any], product: Any, i: int) -> Lane:
        """The sum or difference of the values, number i of which is the product."""
        _, a, b = product
        other = values[1 - i]
        if sign == "-":
            other = self.builder.fneg(other) if i == 0 else other
            a = self.builder.fneg(a) if i == 1 else a
        return self.made(self._intrinsic("fmuladd", a, b, other))

    def _intrinsic(self, name: str, *values: Any) -> Any:
        kind = values[0].type
        lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
        return call_named(self.builder, f"llvm.{name}.{lanes}f{self.bits}", kind, values)

    def _resized(self, bits: int) -> Lane:
        resize = self.builder.fpext if bits > self.bits else self.builder.fptrunc
        value = self.value if bits == self.bits else resize(self.value, self._kind(FLOATS[bits]))
        return Lane(self.builder, value, bits, self.is_fused)


class Pointer:
    """Where numbers lie; + goes so many numbers further."""

    def __init__(self, builder: Any, value: Any, is_fused: bool = False) -> None:
        self.builder, self.value, self.is_fused = builder, value, is_fused
        self.bits = bits_of(value.type.pointee)

    def made(self, value: Any) -> Pointer:
        """Another place."""
        return Pointer(self.builder, value, self.is_fused)

    def __add__(self, numbers: Any) -> Pointer:
        by = numbers.value if isinstance(numbers, Lane) else I64(numbers)
        return self.made(self.builder.gep(self.value, [by]))

    def read(self, lanes: int = 1) -> Lane:
        """The number here, or the vector that begins here."""
        kind = ir.VectorType(self.value.type.pointee, lanes).as_pointer()
        at = self.value if lanes == 1 else self.builder.bitcast(self.value, kind)
        value = self.builder.load(at, align=self.bits // 8)
        return Lane(self.builder, value, self.bits, self.is_fused)

    def write(self, x: Lane) -> None:
        """Leave a vector here."""
        at = self.builder.bitcast(self.value, x.value.type.as_pointer())
        self.builder.store(x.value, at, align=self.bits // 8)

    def bytes(self) -> Any:
        """The address, for LLVM's functions on memory."""
        return self.builder.bitcast(self.value, I8.as_pointer())


def opened(function: Any, is_fused: bool = False) -> tuple[Any, list[Any]]:
    """A builder of the function's first block, and its arguments."""
    builder = ir.IRBuilder(function.append_basic_block())
    arguments: list[Any] = []
    for value in function.args:
        pointee = getattr(value.type, "pointee", None)
        if pointee in FLOATS.values():
            arguments.append(Pointer(builder, value, is_fused))
        elif pointee is None:
            bits = bits_of(value.type)  # of an integer, 64
            arguments.append(Lane(builder, value, bits, is_fused))
        else:
            arguments.append(value)
    return builder, arguments


def repeat(
    first: Any, last: Lane, step: int, body: Callable[..., Any], state: Sequence[Any] = ()
) -> list[Any]:
    """``for i in range(first, last, step): state = body(i, *state)``; the state after it."""
    builder, before = last.builder, last.builder.block
    start = [last.made(last.of(first)), *state]
    head, inside, after = (builder.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    phis = [builder.phi(x.value.type) for x in start]
    i, *rest = [x.made(phi) for x, phi in zip(start, phis, strict=True)]
    builder.cbranch((i < last).value, inside, after)
    builder.position_at_end(inside)
    following = [i + step, *(body(i, *rest) or ())]
    for phi, x, new in zip(phis, start, following, strict=True):
        phi.add_incoming(x.value, before)
        phi.add_incoming(new.value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return rest
