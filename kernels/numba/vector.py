"""A vector of 16 numbers for Numba: the one type that the hot loops are written in.

LLVM cuts it into the registers of the processor, so one text serves every width. Loops
over it need no auto-vectoriser, which may silently give up, and no vector library.

A vector knows + - * / and comparisons, also with a number. A comparison gives a mask, for
``choose``, ``keep`` and &. A product and the sum that follows contract to a fused
multiply-add; nothing else is reordered. ``traced`` makes a function of vectors from a
formula on lanes (numba_maths.py).
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin, models, register_model

from . import maths as numba_maths
from .machine import I32, I64, call_named, emitted, first_kind
from .maths import Lane, splat

LANES = 16


class Vector(types.Type):
    """16 lanes of a float, or of a boolean (a mask)."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        boolean = isinstance(kind.dtype, types.Boolean)
        lane = ir.IntType(1) if boolean else manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(lane, LANES))


MASK = Vector(types.boolean)


def _floats_among(*kinds: Any) -> Any:
    return next(kind for kind in kinds if isinstance(kind, Vector) and kind != MASK)


def _as_vectors(*kinds: Any) -> tuple[Any, ...]:
    """Numbers become what the vectors have in their lanes."""
    vector = _floats_among(*kinds)
    return tuple(vector.dtype if isinstance(kind, types.Number) else kind for kind in kinds)


def _lanes(builder: Any, *values: Any) -> list[Lane]:
    """Vectors, and numbers as vectors, for a formula."""
    kind = next(v.type for v in values if isinstance(v.type, ir.VectorType))
    whole = (isinstance(v.type, ir.VectorType) for v in values)
    return [
        Lane(builder, v if is_whole else splat(builder, v, ir.VectorType(v.type, kind.count)))
        for v, is_whole in zip(values, whole, strict=True)
    ]


def traced(formula: Callable[..., Any], results: int = 1) -> Any:
    """A function of vectors and numbers, from a formula on lanes that gives so many vectors."""

    def vectors(*kinds: Any) -> Any:
        vector = _floats_among(*kinds)
        return vector if results == 1 else types.UniTuple(vector, results)

    def emit(builder: Any, *values: Any) -> Any:
        found = formula(*_lanes(builder, *values))
        if results == 1:
            return found.value
        return cgutils.pack_array(builder, [lane.value for lane in found])

    names = [p for p in inspect.signature(formula).parameters.values() if p.default is p.empty]
    builder = inspect.Parameter("builder", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    emit.__signature__ = inspect.Signature([builder, *names])  # type: ignore[attr-defined]
    emit.__name__ = formula.__name__
    return emitted(vectors, _as_vectors)(emit)


def _choose(mask: Lane, yes: Lane, no: Lane) -> Lane:
    """``yes`` where the mask is set, else ``no``; one of them is a vector."""
    return mask.pick(yes, no)


choose = traced(_choose)
absolute = traced(numba_maths.absolute)
exp_negative = traced(numba_maths.exp_negative)
log = traced(numba_maths.log)

# --------------------------------------------------------------------------- operators

_ARITHMETIC = (operator.add, operator.sub, operator.mul, operator.truediv)
_COMPARISONS = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
}


def _teach(sign: Any) -> None:
    @infer_global(sign)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if not any(isinstance(kind, Vector) for kind in args):
                return None
            if MASK in args:
                return signature(MASK, *args)
            result = MASK if sign in _COMPARISONS else _floats_among(*args)
            return signature(result, *_as_vectors(*args))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes, symbol = _lanes(builder, *args), _COMPARISONS.get(sign)
        return (lanes[0].compare(symbol, lanes[1]) if symbol else sign(*lanes)).value

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector), (Vector,)):
        lower_builtin(sign, *kinds)(lower)


for _sign in (*_ARITHMETIC, *_COMPARISONS, operator.and_, operator.neg):
    _teach(_sign)

# --------------------------------------------------------------------------- lanes


@emitted(first_kind, lambda like, x: (like, like.dtype))
def filled(builder, like, x):
    """16 times a number, as a vector of the kind of ``like``."""
    return splat(builder, x, like.type)


@emitted(lambda mask, x: x)
def keep(builder, mask, x):
    """X where the mask is set, else 0."""
    return builder.select(mask, x, ir.Constant(x.type, None))


def first_lanes(builder: Any, count: Any) -> Any:
    """Which lanes have a number below ``count``."""
    numbers = ir.Constant(ir.VectorType(I64, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, splat(builder, count, numbers.type))


@emitted(MASK)
def lanes_below(builder, count):
    """The mask of the lanes with a number below ``count``."""
    return first_lanes(builder, count)


def _folded(builder: Any, x: Any, combine: Callable[..., Any]) -> Any:
    """One lane from 16, folding the upper half on the lower until one is left."""
    width = LANES
    while width > 1:
        width //= 2
        undefined = ir.Constant(x.type, ir.Undefined)
        lower, upper = (
            builder.shuffle_vector(
                x, undefined, ir.Constant(ir.VectorType(I32, width), list(range(at, at + width)))
            )
            for at in (0, width)
        )
        x = combine(lower, upper)
    return builder.extract_element(x, I32(0))


@emitted(lambda x: x.dtype)
def sum_of(builder, x):
    """The sum of the lanes, always in one order."""
    return _folded(builder, x, builder.fadd)


@emitted(lambda x: x.dtype)
def largest_of(builder, x):
    """The largest lane."""

    def larger(a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", b, a), b, a)

    return _folded(builder, x, larger)


# --------------------------------------------------------------------------- memory


def vector_at(builder: Any, pointer: Any, index: Any, lanes: int = LANES) -> tuple[Any, int]:
    """A pointer to the ``lanes`` numbers from pointer[index] on, and their alignment."""
    lane = pointer.type.pointee
    at = builder.bitcast(builder.gep(pointer, [index]), ir.VectorType(lane, lanes).as_pointer())
    return at, 4 if isinstance(lane, ir.FloatType) else 8


def load_lanes(builder: Any, pointer: Any, index: Any, lanes: int = LANES) -> Any:
    """``lanes`` numbers from pointer[index] on, of any alignment."""
    at, align = vector_at(builder, pointer, index, lanes)
    return builder.load(at, align=align)


def store_lanes(builder: Any, value: Any, pointer: Any, index: Any) -> None:
    """The inverse of ``load_lanes``."""
    at, align = vector_at(builder, pointer, index, value.type.count)
    builder.store(value, at, align=align)


def _of_pointer(pointer: Any, *_: Any) -> Vector:
    return Vector(pointer.dtype)


@emitted(_of_pointer)
def load(builder, pointer, index):
    """16 numbers from pointer[index] on."""
    return load_lanes(builder, pointer, index)


@emitted(types.void, lambda p, i, x: (p, types.int64, x if isinstance(x, Vector) else p.dtype))
def store(builder, pointer, index, x):
    """16 numbers to pointer[index] on; a number is stored 16 times."""
    if not isinstance(x.type, ir.VectorType):
        x = splat(builder, x, ir.VectorType(x.type, LANES))
    store_lanes(builder, x, pointer, index)


def _masked(name: str, lane: Any) -> str:
    return f"llvm.masked.{name}.v{LANES}f{32 if isinstance(lane, ir.FloatType) else 64}.p0"


@emitted(_of_pointer)
def load_first(builder, pointer, index, count):
    """The first ``count`` numbers from pointer[index] on, then zeros; no more is read."""
    at, align = vector_at(builder, pointer, index)
    kind, mask = at.type.pointee, first_lanes(builder, count)
    arguments = [at, I32(align), mask, ir.Constant(kind, None)]
    return call_named(builder, _masked("load", kind.element), kind, arguments)


@emitted(types.void)
def store_first(builder, pointer, index, x, count):
    """The first ``count`` lanes to pointer[index] on; no more is written."""
    at, align = vector_at(builder, pointer, index)
    arguments = [x, at, I32(align), first_lanes(builder, count)]
    call_named(builder, _masked("store", x.type.element), ir.VoidType(), arguments)


@emitted(_of_pointer)
def splat_at(builder, pointer, index):
    """16 times pointer[index]."""
    number = builder.load(builder.gep(pointer, [index]))
    return splat(builder, number, ir.VectorType(number.type, LANES))


@emitted(types.void)
def transpose(builder, source, to):
    """To (16 x 16) = source (16 x 16) transposed; they may be the same.

    Interleaving row i with row i + 8 four times over transposes 16 rows.
    """
    rows = [load_lanes(builder, source, I64(r * LANES)) for r in range(LANES)]
    for _ in range(4):
        pairs = []
        for i in range(LANES):
            low = 8 * (i % 2)
            order = [low + k // 2 + LANES * (k % 2) for k in range(LANES)]
            mask = ir.Constant(ir.VectorType(I32, LANES), order)
            pairs.append(builder.shuffle_vector(rows[i // 2], rows[i // 2 + 8], mask))
        rows = pairs
    for r, row in enumerate(rows):
        store_lanes(builder, row, to, I64(r * LANES))
