"""A vector of 16 numbers for Numba: the one type that the hot loops are written in.

LLVM cuts it into the registers of the processor, so one text serves every width. Loops
over it need no auto-vectoriser, which may silently give up, and no vector library.

A vector knows + - * / and comparisons, also with a number. A comparison gives a mask, for
``choose``. A product and the sum that follows contract to a fused multiply-add; nothing
else is reordered. ``bits`` and ``floats`` look at the same lanes as integers and back, and
integers know << and >> as well.
"""

from __future__ import annotations

import itertools
import operator
import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from .numba_numbers import NUMBERS

LANES = 16
CONTRACT = ("contract",)

I32, I64 = ir.IntType(32), ir.IntType(64)


class Vector(types.Type):
    """16 lanes of a float, an integer of the same size, or a boolean (a mask)."""

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


def integers(kind: types.Type) -> types.Type:
    """The integer type with as many bits."""
    return types.int32 if kind.bitwidth == 32 else types.int64


def splat(builder: Any, lane: Any) -> Any:
    """16 times a number."""
    kind = ir.VectorType(lane.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), lane, I32(0))
    zeros = ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def _declare(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, arguments)
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def lanes_name(kind: Any) -> str:
    """How LLVM's intrinsics spell a vector type."""
    return f"v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, fused where the processor can: LLVM's fma calls a library where it cannot."""
    name = f"llvm.fmuladd.{lanes_name(a.type)}"
    return builder.call(_declare(builder, name, a.type, [a.type] * 3), [a, b, c])


# --------------------------------------------------------------------------- operators


def _float(name: str) -> Callable[..., Any]:
    return lambda builder, a, b: getattr(builder, name)(a, b, flags=CONTRACT)


def _plain(name: str) -> Callable[..., Any]:
    return lambda builder, a, b: getattr(builder, name)(a, b)


def _comparison(sign: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return (
        lambda builder, a, b: builder.fcmp_ordered(sign, a, b),
        lambda builder, a, b: builder.icmp_signed(sign, a, b),
    )


#: operator -> (for floats, for integers and masks)
_OPERATORS: dict[Any, tuple[Any, Any]] = {
    operator.add: (_float("fadd"), _plain("add")),
    operator.sub: (_float("fsub"), _plain("sub")),
    operator.mul: (_float("fmul"), _plain("mul")),
    operator.truediv: (_float("fdiv"), None),
    operator.and_: (None, _plain("and_")),
    operator.or_: (None, _plain("or_")),
    operator.lshift: (None, _plain("shl")),
    operator.rshift: (None, _plain("ashr")),
    operator.lt: _comparison("<"),
    operator.le: _comparison("<="),
    operator.gt: _comparison(">"),
    operator.ge: _comparison(">="),
    operator.eq: _comparison("=="),
}
_COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq)


def _teach(sign: Any, of_floats: Any, of_integers: Any) -> None:
    @infer_global(sign)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) != 2 or not any(isinstance(kind, Vector) for kind in args):
                return None
            vector = args[0] if isinstance(args[0], Vector) else args[1]
            if not all(kind == vector or isinstance(kind, types.Number) for kind in args):
                return None
            result = MASK if sign in _COMPARISONS else vector
            lanes = (kind if kind == vector else vector.dtype for kind in args)
            return signature(result, *lanes)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = [kind for kind in sig.args if isinstance(kind, Vector)]
        a, b = (
            value if isinstance(kind, Vector) else splat(builder, value)
            for kind, value in zip(sig.args, args, strict=True)
        )
        emit = of_floats if isinstance(vectors[0].dtype, types.Float) else of_integers
        return emit(builder, a, b)

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(sign, *pair)(lower)


for _sign, _emitters in _OPERATORS.items():
    _teach(_sign, *_emitters)


@infer_global(operator.neg)
class _Negative(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], args[0]) if isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _negative(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])


# --------------------------------------------------------------------------- functions


def _function(result: Callable[..., Any], emit: Callable[..., Any]) -> Any:
    """A function of vectors and numbers; numbers become vectors of the first vector's kind.

    ``result`` gives its type, ``emit`` its value from a builder and LLVM vectors.
    """

    def typed(kinds: tuple[Any, ...]) -> Any:
        vector = next(k for k in kinds if isinstance(k, Vector) and k != MASK)
        wanted = [k if isinstance(k, Vector) else vector.dtype for k in kinds]

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = [
                value if isinstance(kind, Vector) else splat(builder, value)
                for kind, value in zip(sig.args, args, strict=True)
            ]
            return emit(builder, *values)

        return result(vector)(*wanted), code

    return typed


def _same(vector: Vector) -> Vector:
    return vector


def _llvm(name: str) -> Callable[..., Any]:
    def emit(builder: Any, *args: Any) -> Any:
        kind = args[0].type
        function = _declare(builder, f"llvm.{name}.{lanes_name(kind)}", kind, [kind] * len(args))
        return builder.call(function, args)

    return emit


def _at_least(builder: Any, x: Any, low: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", x, low), low, x)


def _at_most(builder: Any, x: Any, high: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, high), high, x)


_square_root = _function(_same, _llvm("sqrt"))
_absolute = _function(_same, _llvm("fabs"))
_copied_sign = _function(_same, _llvm("copysign"))
_low_bound = _function(_same, _at_least)
_high_bound = _function(_same, _at_most)
_choice = _function(_same, lambda builder, mask, a, b: builder.select(mask, a, b))


@intrinsic
def square_root(typing_context, x):
    """√x, lane by lane."""
    return _square_root((x,))


@intrinsic
def absolute(typing_context, x):
    """|x|."""
    return _absolute((x,))


@intrinsic
def copy_sign(typing_context, magnitude, sign):
    """|magnitude| with the sign of the other."""
    return _copied_sign((magnitude, sign))


@intrinsic
def at_least(typing_context, x, low):
    """max(x, low), NaN for NaN."""
    return _low_bound((x, low))


@intrinsic
def at_most(typing_context, x, high):
    """min(x, high), NaN for NaN."""
    return _high_bound((x, high))


@intrinsic
def filled(typing_context, like, x):
    """16 times a number, as a vector of the kind of ``like``."""

    def code(context, builder, sig, args):
        return splat(builder, args[1])

    return like(like, like.dtype), code


@intrinsic
def choose(typing_context, mask, yes, no):
    """``yes`` where the mask is set, else ``no``; one of them is a vector."""
    return _choice((mask, yes, no))


@intrinsic
def keep(typing_context, mask, x):
    """x where the mask is set, else 0."""

    def code(context, builder, sig, args):
        return builder.select(args[0], args[1], ir.Constant(args[1].type, None))

    return x(mask, x), code


def _reinterpreted(result):
    def code(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(result))

    return code


@intrinsic
def bits(typing_context, x):
    """The lanes of floats, read as integers."""
    result = Vector(integers(x.dtype))
    return result(x), _reinterpreted(result)


@intrinsic
def floats(typing_context, n):
    """The inverse of ``bits``."""
    result = Vector(types.float32 if n.dtype.bitwidth == 32 else types.float64)
    return result(n), _reinterpreted(result)


@intrinsic
def converted(typing_context, n, like):
    """Integers as the floats of the same value, of the kind of ``like``."""

    def code(context, builder, sig, args):
        return builder.sitofp(args[0], args[1].type)

    return like(n, like), code


@intrinsic
def lanes_below(typing_context, count):
    """The mask of the lanes with a number below ``count``."""

    def code(context, builder, sig, args):
        return _first_lanes(builder, args[0])

    return MASK(types.int64), code


def halves(builder, x, combine):
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


@intrinsic
def sum_of(typing_context, x):
    """The sum of the lanes, always in one order."""

    def code(context, builder, sig, args):
        return halves(builder, args[0], builder.fadd)

    return x.dtype(x), code


@intrinsic
def largest_of(typing_context, x):
    """The largest lane."""

    def code(context, builder, sig, args):
        def larger(a, b):
            return builder.select(builder.fcmp_ordered(">", b, a), b, a)

        return halves(builder, args[0], larger)

    return x.dtype(x), code


# --------------------------------------------------------------------------- memory


def _vector_at(builder, pointer, index, lanes=LANES):
    lane = pointer.type.pointee
    at = builder.gep(pointer, [index])
    return builder.bitcast(at, ir.VectorType(lane, lanes).as_pointer()), lane


def load_lanes(builder, pointer, index, lanes=LANES):
    """``lanes`` numbers from pointer[index] on, of any alignment."""
    at, lane = _vector_at(builder, pointer, index, lanes)
    return builder.load(at, align=4 if isinstance(lane, ir.FloatType) else 8)


def store_lanes(builder, value, pointer, index):
    """The inverse of ``load_lanes``."""
    at, lane = _vector_at(builder, pointer, index, value.type.count)
    builder.store(value, at, align=4 if isinstance(lane, ir.FloatType) else 8)


@intrinsic
def load(typing_context, pointer, index):
    """16 numbers from pointer[index] on."""

    def code(context, builder, sig, args):
        return load_lanes(builder, *args)

    return Vector(pointer.dtype)(pointer, types.int64), code


@intrinsic
def store(typing_context, pointer, index, x):
    """16 numbers to pointer[index] on; a number is stored 16 times."""
    kind = x if isinstance(x, Vector) else pointer.dtype

    def code(context, builder, sig, args):
        at, i, value = args
        value = value if isinstance(kind, Vector) else splat(builder, value)
        store_lanes(builder, value, at, i)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, kind), code


def _masked(name: str, kind: Any) -> str:
    return f"llvm.masked.{name}.{lanes_name(kind)}.p0"


def _first_lanes(builder, count):
    numbers = ir.Constant(ir.VectorType(I64, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, splat(builder, count))


@intrinsic
def load_first(typing_context, pointer, index, count):
    """The first ``count`` numbers from pointer[index] on, then zeros; no more is read."""

    def code(context, builder, sig, args):
        at, lane = _vector_at(builder, args[0], args[1])
        kind = at.type.pointee
        mask = _first_lanes(builder, args[2])
        load = _declare(builder, _masked("load", kind), kind, [at.type, I32, mask.type, kind])
        align = I32(4 if isinstance(lane, ir.FloatType) else 8)
        return builder.call(load, [at, align, mask, ir.Constant(kind, None)])

    return Vector(pointer.dtype)(pointer, types.int64, types.int64), code


@intrinsic
def store_first(typing_context, pointer, index, x, count):
    """The first ``count`` lanes to pointer[index] on; no more is written."""

    def code(context, builder, sig, args):
        at, lane = _vector_at(builder, args[0], args[1])
        mask, void = _first_lanes(builder, args[3]), ir.VoidType()
        kinds = [args[2].type, at.type, I32, mask.type]
        store = _declare(builder, _masked("store", args[2].type), void, kinds)
        align = I32(4 if isinstance(lane, ir.FloatType) else 8)
        builder.call(store, [args[2], at, align, mask])
        return context.get_dummy_value()

    return types.void(pointer, types.int64, x, types.int64), code


@intrinsic
def splat_at(typing_context, pointer, index):
    """16 times pointer[index]."""

    def code(context, builder, sig, args):
        return splat(builder, builder.load(builder.gep(args[0], [args[1]])))

    return Vector(pointer.dtype)(pointer, types.int64), code


# --------------------------------------------------------------------------- numbers


@intrinsic(prefer_literal=True)
def number(typing_context, like, name):
    """The constant of that name (numba_numbers.py) for the kind of a vector or pointer."""
    value = NUMBERS[name.literal_value][like.dtype.bitwidth]
    kind = types.int64 if isinstance(value, int) else like.dtype

    def code(context, builder, sig, args):
        return context.get_constant(kind, value)

    return kind(like, name), code


@intrinsic(prefer_literal=True)
def polynomial(typing_context, x, name):
    """Σ c[i] x^i by Horner's rule, with the coefficients of that name."""
    coefficients = NUMBERS[name.literal_value][x.dtype.bitwidth]

    def code(context, builder, sig, args):
        lane = args[0].type.element
        sums = [splat(builder, ir.Constant(lane, float(c))) for c in reversed(coefficients)]
        result = sums[0]
        for c in sums[1:]:
            result = multiply_add(builder, result, args[0], c)
        return result

    return x(x, name), code


# --------------------------------------------------------------------------- tiles


def vector_bits() -> int:
    """The width of this processor's registers."""
    features = llvm.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


def _registers() -> int:
    return 32 if vector_bits() == 512 or platform.machine() in ("arm64", "aarch64") else 16


def _subtiles(height: int, itembits: int) -> tuple[int, list[tuple[int, int]]]:
    """(lanes, [(first row, rows)]): what fills the accumulators but leaves some registers."""
    lanes = min(LANES, 2 * vector_bits() // itembits)
    most = (_registers() // 2 if _registers() == 32 else 12) // (lanes * itembits // vector_bits())
    parts = -(-height // most)
    bounds = [height * i // parts for i in range(parts + 1)]
    return lanes, [(a, b - a) for a, b in itertools.pairwise(bounds)]


def _emit_subtile(
    builder, by_rows, first, rows, lane, lanes, a, a_block, b, depth, init, step, c, ahead=None
):
    """c[rows, lanes] = init + a b: 16 steps of k unrolled, then what is left one by one.

    The accumulators are values of their own; nothing goes to memory before the end. From
    the address ``ahead`` on, a quarter of as much as b is fetched meanwhile.
    """
    itemsize = 4 if isinstance(b.type.pointee, ir.FloatType) else 8

    def fetch(k):
        byte = ir.IntType(8).as_pointer()
        kinds = [byte, I32, I32, I32]
        prefetch = _declare(builder, "llvm.prefetch.p0", ir.VoidType(), kinds)
        at = builder.add(ahead, builder.mul(k, I64(LANES * itemsize)))
        for line in range(itemsize):
            address = builder.inttoptr(builder.add(at, I64(64 * line)), byte)
            builder.call(prefetch, [address, I32(0), I32(2), I32(1)])

    def multiply(sums, a_at, b_at, k):
        b_k = load_lanes(builder, b_at, builder.add(builder.mul(k, I64(LANES)), I64(lane)), lanes)
        result = []
        for r in range(rows):
            index = (
                builder.add(k, I64((first + r) * LANES))
                if by_rows
                else builder.add(builder.mul(k, I64(LANES)), I64(first + r))
            )
            x = builder.load(builder.gep(a_at, [index]))
            undefined = ir.Constant(b_k.type, ir.Undefined)
            x = builder.shuffle_vector(
                builder.insert_element(undefined, x, I32(0)),
                undefined,
                ir.Constant(ir.VectorType(I32, lanes), [0] * lanes),
            )
            result.append(multiply_add(builder, b_k, x, sums[r]))
        return result

    def loop(name, sums, state, condition, body):
        before = builder.block
        head, inside, after = (
            builder.append_basic_block(f"{name}.{part}") for part in ("head", "body", "end")
        )
        builder.branch(head)
        builder.position_at_end(head)
        phis = [builder.phi(value.type) for value in (*state, *sums)]
        for phi, value in zip(phis, (*state, *sums), strict=True):
            phi.add_incoming(value, before)
        now, totals = phis[: len(state)], phis[len(state) :]
        builder.cbranch(condition(*now), inside, after)
        builder.position_at_end(inside)
        following = body(now, totals)
        for phi, value in zip(phis, following, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return totals, now

    sums = [
        load_lanes(builder, init, builder.add(builder.mul(step, I64(first + r)), I64(lane)), lanes)
        for r in range(rows)
    ]

    def block(now, totals):
        k, a_at, b_at = now
        if ahead is not None:
            fetch(k)
        for i in range(LANES):
            totals = multiply(totals, a_at, b_at, I64(i))
        following = builder.add(k, I64(LANES))
        return [following, builder.gep(a_at, [a_block]), builder.gep(b_at, [I64(256)]), *totals]

    def one(now, totals):
        k, a_at, b_at = now
        return [builder.add(k, I64(1)), a_at, b_at, *multiply(totals, a_at, b_at, k)]

    def whole(k, *_):
        return builder.icmp_signed("<=", builder.add(k, I64(LANES)), depth)

    sums, (k, a_at, b_at) = loop("blocks", sums, [I64(0), a, b], whole, block)
    left = builder.sub(depth, k)
    sums, _ = loop(
        "rest", sums, [I64(0), a_at, b_at], lambda k, *_: builder.icmp_signed("<", k, left), one
    )
    for r, value in enumerate(sums):
        store_lanes(builder, value, c, I64((first + r) * LANES + lane))


@intrinsic(prefer_literal=True)
def tile(typing_context, by_rows, height, a, a_block, b, depth, init, init_row, c):
    """c (height x 16) = init + a b, where b is (depth, 16).

    by_rows=1: a is [depth/16][row][16], a panel of activations. by_rows=0: a is [depth][16],
    a block of features whose rows the sum runs over. ``a_block`` is the distance of a's
    blocks of 16 k; ``init_row`` that of the rows of init, 0 to start all from one.

    A row is summed over k in one order whatever the height, so its result does not depend
    on its company.
    """
    rows, tall = by_rows.literal_value, height.literal_value

    def code(context, builder, sig, args):
        _, _, a_at, a_step, b_at, k, start, step, to = args
        lanes, parts = _subtiles(tall, sig.args[2].dtype.bitwidth)
        for lane in range(0, LANES, lanes):
            for first, count in parts:
                _emit_subtile(
                    builder, rows, first, count, lane, lanes, a_at, a_step, b_at, k, start, step, to
                )
        return context.get_dummy_value()

    i = types.int64
    return types.void(by_rows, height, a, i, b, i, init, i, c), code


@intrinsic
def fetching_tile(typing_context, a, a_block, b, depth, init, c, ahead):
    """``tile`` by 16 rows, each from the one row of init, that fetches from ``ahead`` on."""

    def code(context, builder, sig, args):
        a_at, a_step, b_at, k, start, to, address = args
        lanes, parts = _subtiles(LANES, sig.args[0].dtype.bitwidth)
        for lane in range(0, LANES, lanes):
            for first, count in parts:
                place = (first, count, lane, lanes, a_at, a_step, b_at, k, start, I64(0), to)
                once = address if first == lane == 0 else None
                _emit_subtile(builder, 1, *place, ahead=once)
        return context.get_dummy_value()

    i = types.int64
    return types.void(a, i, b, i, init, c, i), code


@intrinsic
def transpose(typing_context, source, to):
    """to (16 x 16) = source (16 x 16) transposed; they may be the same.

    Interleaving row i with row i + 8 four times over transposes 16 rows.
    """

    def code(context, builder, sig, args):
        rows = [load_lanes(builder, args[0], I64(r * LANES)) for r in range(LANES)]
        for _ in range(4):
            pairs = []
            for i in range(LANES):
                low = 8 * (i % 2)
                order = [low + k // 2 + LANES * (k % 2) for k in range(LANES)]
                mask = ir.Constant(ir.VectorType(I32, LANES), order)
                pairs.append(builder.shuffle_vector(rows[i // 2], rows[i // 2 + 8], mask))
            rows = pairs
        for r, row in enumerate(rows):
            store_lanes(builder, row, args[1], I64(r * LANES))
        return context.get_dummy_value()

    return types.void(source, to), code
