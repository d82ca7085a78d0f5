"""The micro-tile of the Numba engine, where the time is spent, as LLVM instructions.

    c (height x 16) = init + a b,   b being (depth, 16)

b streams as rows of 16; every number of a is broadcast and multiplied into a row of
accumulators. Those are values of their own, unrolled here since no compiler is sure to keep
an array of them in registers; nothing goes to memory before the end. A row is summed over k
in one order whatever the height, so its result does not depend on its company.
"""

from __future__ import annotations

import itertools
import platform
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types

from .machine import I32, I64, call_named, emitted
from .maths import Lane, splat
from .vector import LANES, load_lanes, store_lanes

HEIGHTS = (16, 8, 4, 2, 1)


def vector_bits() -> int:
    """The width of this processor's registers."""
    features = llvm.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


def _subtiles(height: int, itembits: int) -> list[tuple[int, int, int, int]]:
    """(first row, rows, first lane, lanes): what fills the accumulators and leaves registers."""
    many = vector_bits() == 512 or platform.machine() in ("arm64", "aarch64")
    lanes = min(LANES, 2 * vector_bits() // itembits)
    most = (16 if many else 12) // (lanes * itembits // vector_bits())
    parts = -(-height // most)
    bounds = [height * i // parts for i in range(parts + 1)]
    return [
        (first, end - first, lane, lanes)
        for lane in range(0, LANES, lanes)
        for first, end in itertools.pairwise(bounds)
    ]


def _loop(builder: Any, state: list[Any], condition: Any, body: Any) -> list[Any]:
    """``while condition(*state): state = body(*state)``; the state after it."""
    before = builder.block
    head, inside, after = (builder.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    phis = [builder.phi(value.type) for value in state]
    for phi, value in zip(phis, state, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(condition(*phis), inside, after)
    builder.position_at_end(inside)
    for phi, value in zip(phis, body(*phis), strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return phis


def _fetch(builder: Any, ahead: Any, k: Any, itemsize: int) -> None:
    """Ask for a quarter of as much as 16 rows of b are."""
    byte = ir.IntType(8).as_pointer()
    start = builder.add(ahead, builder.mul(k, I64(LANES * itemsize)))
    for line in range(itemsize):
        at = builder.inttoptr(builder.add(start, I64(64 * line)), byte)
        call_named(builder, "llvm.prefetch.p0", ir.VoidType(), [at, I32(0), I32(2), I32(1)])


def _tile(by_rows: bool, fetches: bool = False) -> Any:
    """``tile(height, a, a_block, b, depth, init, init_row, c, ahead)``.

    by_rows: a is [depth/16][row][16], a panel of activations. Otherwise a is [depth][16], a
    block of features whose rows the sum runs over. ``a_block`` is the distance of a's blocks
    of 16 k; ``init_row`` that of the rows of init, 0 to start all from one. Of the heights,
    the lowest is taken that will do; what lies beyond is written and not used. If the tile
    ``fetches``, then from the address ``ahead`` on; it is 16 high then.
    """

    def subtile(builder, part, a, a_block, b, depth, init, init_row, c, ahead):
        first, rows, lane, lanes = part
        row_step, k_step = (LANES, 1) if by_rows else (1, LANES)

        def multiply(sums, a_at, b_at, k):
            b_at = builder.gep(b_at, [builder.mul(k, I64(LANES))])
            b_k = load_lanes(builder, b_at, I64(lane), lanes)
            a_k = builder.gep(a_at, [builder.mul(k, I64(k_step))])
            xs = [
                builder.load(builder.gep(a_k, [I64((first + r) * row_step)])) for r in range(rows)
            ]
            return [
                Lane(builder, splat(builder, x, b_k.type))
                .times_plus(Lane(builder, b_k), Lane(builder, total))
                .value
                for x, total in zip(xs, sums, strict=True)
            ]

        def sixteen(k, a_at, b_at, *sums):
            if ahead is not None:
                _fetch(builder, ahead, k, 4 if isinstance(b.type.pointee, ir.FloatType) else 8)
            for i in range(LANES):
                sums = multiply(sums, a_at, b_at, I64(i))
            following = builder.gep(a_at, [a_block]), builder.gep(b_at, [I64(LANES * LANES)])
            return [builder.add(k, I64(LANES)), *following, *sums]

        def one(k, *sums):
            return [builder.add(k, I64(1)), *multiply(sums, a_end, b_end, k)]

        sums = [
            load_lanes(
                builder,
                builder.gep(init, [builder.mul(init_row, I64(first + r))]),
                I64(lane),
                lanes,
            )
            for r in range(rows)
        ]
        whole = builder.sub(depth, I64(LANES))
        k, a_end, b_end, *sums = _loop(
            builder,
            [I64(0), a, b, *sums],
            lambda k, *_: builder.icmp_signed("<=", k, whole),
            sixteen,
        )
        left = builder.sub(depth, k)
        _, *sums = _loop(
            builder, [I64(0), *sums], lambda k, *_: builder.icmp_signed("<", k, left), one
        )
        for r, total in enumerate(sums):
            store_lanes(builder, total, c, I64((first + r) * LANES + lane))

    @emitted(types.void)
    def tile(builder, height, a, a_block, b, depth, init, init_row, c, ahead):
        end = builder.append_basic_block()
        for tall in HEIGHTS[:1] if fetches else HEIGHTS:
            with builder.if_then(builder.icmp_signed(">", height, I64(tall // 2))):
                for i, part in enumerate(
                    _subtiles(tall, 32 if isinstance(c.type.pointee, ir.FloatType) else 64)
                ):
                    once = ahead if fetches and i == 0 else None
                    subtile(builder, part, a, a_block, b, depth, init, init_row, c, once)
                builder.branch(end)
        builder.branch(end)
        builder.position_at_end(end)

    return tile


rows_tile, features_tile = _tile(by_rows=True), _tile(by_rows=False)
fetching_tile = _tile(by_rows=True, fetches=True)
