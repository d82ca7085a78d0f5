"""One dense layer on rows in the blocked layout, and what goes in and out of that layout.

The layout is that of the C part: features in blocks of 16, padded with zeros.

    activations, deltas    [feature/16][row][16]    block stride: see ``block_stride``
    weight                 [out/16][in][16]         panels that stream while k runs over in
    transposed             [in/16][out][16]         the same for the way back
    narrow weight          [in/16][out][16]         out <= 4: this copy only
    bias                   [out/16][16]

A narrow layer would waste most of a panel's lanes: it multiplies forward by dot products
over lanes, and in its gradient tile x and delta change places.

All but ``gather_row``, ``scatter_row`` and ``finite`` are kernels of ``numba_kernels.KERNELS``.
"""

from __future__ import annotations

import numpy as np

from .machine import address_of, inlined, itemsize, shifted
from .tile import features_tile, fetching_tile, rows_tile
from .vector import (
    LANES,
    absolute,
    choose,
    exp_negative,
    filled,
    keep,
    lanes_below,
    largest_of,
    load,
    load_first,
    store,
    store_first,
    sum_of,
    transpose,
)

BLOCK = LANES
AREA = BLOCK * BLOCK
LINE = 64  # bytes
FIRST_LEVEL = 32 * 1024  # bytes of the first-level cache
NARROW = 4  # outputs up to which a layer is narrow


def block_stride(rows: int) -> int:
    """Numbers between feature blocks: a line more than a multiple of 1 KB, for the cache."""
    return -(-rows // BLOCK) * AREA + BLOCK


# --------------------------------------------------------------------------- products


def multiply_panel(x, x_stride, panel, depth, init, y, rows):
    """y (rows, 16) = init + x panel, for one block of outputs; each row starts from init.

    Of a panel too large to wait in the first-level cache, every 16 rows fetch a quarter of
    the next one.
    """
    size = depth * BLOCK * itemsize(x)
    for r in range(0, rows, BLOCK):
        height = rows - r
        at, to = shifted(x, r * BLOCK), shifted(y, r * BLOCK)
        if height > 8 and size >= FIRST_LEVEL:
            ahead = address_of(panel) + size + r // BLOCK % 4 * itemsize(x) * LINE
            fetching_tile(height, at, x_stride, panel, depth, init, 0, to, ahead)
        else:
            rows_tile(height, at, x_stride, panel, depth, init, 0, to, 0)


def gradient_tile(left, right, rows, height, init, init_row, c):
    """C (height, 16) = init + leftᵀ right over the rows; more rows of c may be written."""
    features_tile(height, left, AREA, right, rows, init, init_row, c, 0)


def forward_narrow(weight, bias, x, x_stride, y, rows, outputs, in_blocks):
    """y[r][o] = b[o] + Σ x[r] w[o], a dot product over lanes."""
    for r in range(rows):
        store(y, r * BLOCK, 0.0)
        for o in range(outputs):
            total = filled(load(x, r * BLOCK), 0)
            for block in range(in_blocks):
                features = load(x, block * x_stride + r * BLOCK)
                total = total + features * load(weight, (block * outputs + o) * BLOCK)
            y[r * BLOCK + o] = bias[o] + sum_of(total)


def bias_gradient(dy, rows, init, c):
    """c [16] = init + Σ dy over the rows, in four interleaved sums."""
    a = load(init, 0)
    b = filled(a, 0)
    d = filled(a, 0)
    e = filled(a, 0)
    whole = rows // 4 * 4
    for r in range(0, whole * BLOCK, 4 * BLOCK):
        a = a + load(dy, r)
        b = b + load(dy, r + BLOCK)
        d = d + load(dy, r + 2 * BLOCK)
        e = e + load(dy, r + 3 * BLOCK)
    for r in range(whole * BLOCK, rows * BLOCK, BLOCK):
        a = a + load(dy, r)
    store(c, 0, (a + b) + (d + e))


def transpose_weight(weight, to, scratch, height, width):
    """to (width, 16) = weight (height, 16) transposed, zero beyond the height."""
    if height == BLOCK and width == BLOCK:
        transpose(weight, to)
    else:
        transpose(weight, scratch)
        for o in range(width):
            store(to, o * BLOCK, keep(lanes_below(height), load(scratch, o * BLOCK)))


# --------------------------------------------------------------------------- rows


@inlined
def gather_row(row, features, block, stride):
    """A row of a matrix into the layout."""
    at = 0
    for first in range(0, features, BLOCK):
        if features - first >= BLOCK:
            store(block, at, load(row, first))
        else:
            store(block, at, load_first(row, first, features - first))
        at += stride


@inlined
def scatter_row(block, stride, row, features):
    """And back."""
    at = 0
    for first in range(0, features, BLOCK):
        if features - first >= BLOCK:
            store(row, first, load(block, at))
        else:
            store_first(row, first, load(block, at), features - first)
        at += stride


@inlined
def finite(values, count):
    """Whether no number is NaN or infinite."""
    found = load_first(values, 0, 0)
    whole = count // LANES * LANES
    for i in range(0, whole, LANES):
        found = choose(absolute(load(values, i)) < np.inf, found, 1)
    rest = load_first(values, whole, count - whole)
    return sum_of(choose(absolute(rest) < np.inf, found, 1)) == 0


# --------------------------------------------------------------------------- softmax


def softmax_rows(y, stride, outputs, rows):
    """Y = softmax(y) row by row; lanes beyond the outputs become zero."""
    blocks = (outputs + BLOCK - 1) // BLOCK
    for r in range(0, rows * BLOCK, BLOCK):
        most = filled(load(y, r), -np.inf)
        for block in range(blocks):
            z = load(y, block * stride + r)
            valid = lanes_below(outputs - block * BLOCK)
            most = choose((z > most) & valid, z, most)
        top = largest_of(most)
        total = filled(most, 0)
        for block in range(blocks):
            at = block * stride + r
            e = keep(lanes_below(outputs - block * BLOCK), exp_negative(load(y, at) - top))
            total = total + e
            store(y, at, e)
        mass = sum_of(total)
        for block in range(blocks):
            store(y, block * stride + r, load(y, block * stride + r) / mass)


def softmax_backward(upstream, upstream_stride, y, delta, stride, outputs, rows):
    """Delta = y (upstream - Σ upstream y) row by row: the Jacobian times upstream."""
    blocks = (outputs + BLOCK - 1) // BLOCK
    for r in range(0, rows * BLOCK, BLOCK):
        total = filled(load(y, r), 0)
        for block in range(blocks):
            total = total + load(upstream, block * upstream_stride + r) * load(
                y, block * stride + r
            )
        dot = sum_of(total)
        for block in range(blocks):
            at = block * stride + r
            store(delta, at, (load(upstream, block * upstream_stride + r) - dot) * load(y, at))
