"""The products of matrices, where the time is spent, as LLVM instructions.

    c (rows x 16) = init + a b,   b being (depth, 16)

b streams as rows of 16; every number of a is broadcast and multiplied into a row of
accumulators. Those are values of their own, since no compiler is sure to keep an array of
them in registers; nothing goes to memory before the end. A row is summed over k in one order
whatever the tile, so its result does not depend on its company.

The loop takes one k at a time: the more of it is unrolled, the further LLVM moves loads
ahead, until sums are spilled, and processors have time for its branch. Each tile is a function
of its own, which has all registers for itself. Where there are enough of them, the wide tile
takes three panels of b at once: a number of a, once loaded, serves three multiply-adds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from .lane import I32, I64, VOID, Lane, Pointer, bits_of, call_named, opened, repeat

BLOCK, AREA = 16, 256
HEIGHTS = (16, 8, 4, 2, 1)
PANELS, WIDE_ROWS = 3, 8  # of the wide tile
FIRST_LEVEL, LINE = 32 * 1024, 64  # bytes of the first-level cache, and of a line
QUARTER = AREA // 4  # numbers that a tile fetches for 16 k


class Registers(NamedTuple):
    """Those of a processor that hold vectors."""

    bits: int
    count: int
    fuse: bool  # a product and the sum that follows

    def hold_three_panels(self, bits: int) -> bool:
        """Whether they do for 24 sums, three rows of b and a number of a."""
        return self.count >= 32 and self.bits == BLOCK * bits

    def subtiles(self, rows: int, bits: int) -> list[tuple[int, int, int, int]]:
        """(first row, rows, first lane, lanes) of what fills most of them with sums."""
        lanes = min(BLOCK, 2 * self.bits // bits)
        most = (16 if self.count >= 32 else 12) * self.bits // (lanes * bits)
        parts = -(-rows // most)
        bounds = [rows * i // parts for i in range(parts + 1)]
        return [
            (first, end - first, lane, lanes)
            for lane in range(0, BLOCK, lanes)
            for first, end in itertools.pairwise(bounds)
        ]


class Operands(NamedTuple):
    """What a tile is called with: where numbers lie, and distances between them."""

    a: Pointer  # [depth/16][row][16] by rows, [depth][16] by features
    a_block: Any  # from 16 k to the next 16
    b: Pointer  # [panel][depth][16]
    b_panel: Any
    depth: Any
    init: Pointer  # [panel][row][16]
    init_panel: Any
    init_row: Any  # 0: all rows start from one
    c: Pointer  # [panel][row][16]
    c_panel: Any
    ahead: Pointer  # what to fetch meanwhile, if the tile does


class Tile(NamedTuple):
    """Rows and panels of one; whether a is by rows; whether it fetches."""

    rows: int
    panels: int
    by_rows: bool
    fetches: bool = False

    def write(self, module: Any, number: Any, registers: Registers) -> Any:
        """The function that takes ``Operands``."""
        at = number.as_pointer()
        kinds = Operands(at, I64, at, I64, I64, at, I64, I64, at, I64, at)
        name = f"tile_{self.rows}x{self.panels}{'_rows' * self.by_rows}{'_fetching' * self.fetches}"
        function = ir.Function(module, ir.FunctionType(VOID, kinds), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder, operands = opened(function, registers.fuse)
        x = Operands(*operands)
        if self.panels > 1:
            self._part(x, 0, self.rows, [(panel, 0) for panel in range(self.panels)], BLOCK)
        else:
            for first, rows, lane, lanes in registers.subtiles(self.rows, bits_of(number)):
                self._part(x, first, rows, [(0, lane)], lanes)
        builder.ret_void()
        return function

    def _part(
        self, x: Operands, first: int, rows: int, columns: Sequence[tuple[int, int]], lanes: int
    ) -> None:
        """So many rows from the first on, in columns (panel, lane) of so many lanes."""
        row_step, k_step = (BLOCK, 1) if self.by_rows else (1, BLOCK)
        width, places = len(columns), [(r, *c) for r in range(first, first + rows) for c in columns]

        def one(_: Lane, a: Pointer, *state: Any) -> list[Any]:
            b, sums = state[:width], list(state[width:])
            b_k = [at.read(lanes) for at in b]
            for r in range(rows):
                a_k = (a + (first + r) * row_step).read().spread(lanes)
                for i in range(r * width, r * width + width):
                    sums[i] = a_k * b_k[i % width] + sums[i]
            return [a + k_step, *(at + BLOCK for at in b), *sums]

        def block(k: Lane, a: Pointer, *state: Any) -> list[Any]:
            if self.fetches and first == columns[0][1] == 0:
                _fetch(x.ahead + k * (self.panels * BLOCK))
            left = x.depth - k
            steps = left.made(_chosen(left < BLOCK, left.value, I64(BLOCK)))
            return [a + x.a_block, *repeat(0, steps, 1, one, [a, *state])[1:]]

        b = [x.b + x.b_panel * panel + lane for panel, lane in columns]
        sums = [
            (x.init + (x.init_panel * panel + x.init_row * r + lane)).read(lanes)
            for r, panel, lane in places
        ]
        _, *state = repeat(0, x.depth, BLOCK, block, [x.a, *b, *sums])
        for (r, panel, lane), total in zip(places, state[width:], strict=True):
            (x.c + (x.c_panel * panel + (r * BLOCK + lane))).write(total)


def _fetch(ahead: Pointer) -> None:
    for first in range(0, QUARTER, LINE * 8 // ahead.bits):
        arguments = [(ahead + first).bytes(), I32(0), I32(2), I32(1)]
        call_named(ahead.builder, "llvm.prefetch.p0", VOID, arguments)


def _chosen(truth: Lane, yes: Any, no: Any) -> Any:
    return truth.builder.select(truth.value, yes, no)


def _lowest(tiles: Sequence[Any], height: Lane) -> Any:
    """Of the tiles of ``HEIGHTS`` the lowest that is so high."""
    found = tiles[0]
    for rows, tile in zip(HEIGHTS[1:], tiles[1:], strict=True):
        found = _chosen(height <= rows, tile, found)
    return found


def multiply(function: Any, registers: Registers) -> None:
    """``Multiply``: y [panel][row][16] = init + x panel, for ``count`` panels.

    Of panels too large to wait in the first-level cache, tiles fetch the next: four of 16 rows
    one panel, twelve wide ones three.
    """
    builder, arguments = opened(function)
    x, x_stride, panel, count, depth, init, init_panel, y, y_panel, rows = arguments
    number, size, none = x.value.type.pointee, depth * BLOCK, rows.made(I64(0))

    def written(rows: int, panels: int, fetches: bool = False) -> Any:
        return Tile(rows, panels, True, fetches).write(function.module, number, registers)

    def are_large(panels: int) -> Lane:
        return size >= FIRST_LEVEL * 8 // x.bits // panels

    def take(j: Lane, panels: int, height: int, first: Lane, last: Lane, choose: Any) -> None:
        """Multiply rows by panels from j on, a height at a time."""
        at, start, to = panel + j * size, init + j * init_panel, y + j * y_panel

        def group(r: Lane) -> None:
            share = (r >> height.bit_length() - 1) % (AREA // QUARTER * panels)
            ahead = at + size * panels + share * QUARTER
            operands = Operands(
                x + r * BLOCK, x_stride, at, size, depth, start, init_panel, none,
                to + r * BLOCK, y_panel, ahead,
            )  # fmt: skip
            builder.call(choose(last - r), [each.value for each in operands])

        repeat(first, last, height, group)

    wide = high = none  # panels and their rows that wide tiles take
    if registers.hold_three_panels(x.bits):
        wide, high = count - count % PANELS, rows & -WIDE_ROWS
        plain, fetching = (written(WIDE_ROWS, PANELS, fetches) for fetches in (False, True))
        tile = _chosen(are_large(PANELS), fetching, plain)
        repeat(0, wide, PANELS, lambda j: take(j, PANELS, WIDE_ROWS, none, high, lambda _: tile))
    tiles = [written(height, 1) for height in HEIGHTS]
    tiles[0] = _chosen(are_large(1), written(BLOCK, 1, True), tiles[0])

    def single(j: Lane) -> None:
        first = j.made(_chosen(j < wide, high.value, none.value))
        take(j, 1, BLOCK, first, rows, lambda left: _lowest(tiles, left))

    repeat(0, count, 1, single)
    builder.ret_void()


def gradient(function: Any, registers: Registers) -> None:
    """``Gradient``: c [width][16][16] = init + leftᵀ right over the rows, for width panels."""
    builder, arguments = opened(function)
    left, right, right_stride, rows, height, width, init, init_row, c = arguments
    area, none = rows.made(I64(AREA)), rows.made(I64(0))

    def written(rows: int, panels: int) -> Any:
        number = c.value.type.pointee
        return Tile(rows, panels, False).write(function.module, number, registers)

    def call(tile: Any, w: Lane, i: Lane) -> None:
        """The features of the left from i on, the panels of the right from w on."""
        start, to = init + (w * BLOCK + i) * init_row, c + (w * BLOCK + i) * BLOCK
        b, init_panel = right + w * right_stride, init_row * BLOCK
        operands = Operands(
            left + i, area, b, right_stride, rows, start, init_panel, init_row, to, area, left
        )
        builder.call(tile, [each.value for each in operands])

    if registers.hold_three_panels(c.bits):
        tile = written(WIDE_ROWS, PANELS)
        with builder.if_then((width == PANELS).value):
            repeat(0, height, WIDE_ROWS, lambda i: call(tile, none, i))
            builder.ret_void()
    lowest = _lowest([written(rows, 1) for rows in HEIGHTS], height)
    repeat(0, width, 1, lambda w: call(lowest, w, none))
    builder.ret_void()
