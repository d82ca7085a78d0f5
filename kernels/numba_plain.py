"""Single kernels on row-major arrays, for those who embed them.

Each takes the address of its arguments, int64s in the order in which the first lines of
the function name them, since ``enter`` passes three numbers and no more.
"""

from __future__ import annotations

import numpy as np

from .numba_layer import AREA, BLOCK, gather_row, scatter_row
from .numba_machine import call, doubles, inlined, longs, number_at, pointer, root, shifted
from .numba_rows import scalars_at
from .numba_step import (
    inverse_normaliser,
    plan_at,
    set_scalars,
    squared_norm,
    table_at,
    weight_sum,
)
from .numba_vector import LANES, absolute, choose, load, store, sum_of

SLAB = 256  # rows that are brought into the layout at a time


def all_finite(like, arguments, _):
    """Whether no number is NaN or infinite: 0 or 1 to the result."""
    a = longs(arguments)
    values, count, zeros, result = pointer(like, a[0]), a[1], pointer(like, a[2]), longs(a[3])
    found = load(zeros, 0)
    whole = count // LANES * LANES
    for i in range(0, whole, LANES):
        x = load(values, i)
        found = choose(absolute(x) < np.inf, found, 1)
    bad = sum_of(found)
    for i in range(whole, count):
        bad += 0 if abs(values[i]) < np.inf else 1
    result[0] = 1 if bad == 0 else 0


@inlined
def _gather(X, rows, features, x, stride):
    for r in range(rows):
        gather_row(shifted(X, r * features), features, shifted(x, r * BLOCK), stride)


def multiply_plain(like, arguments, _):
    """out (rows, columns) = f(X (rows, depth) panels + bias)."""
    a = longs(arguments)
    table, X, rows, depth = table_at(a[0], 0), pointer(like, a[1]), a[2], a[3]
    panels, columns, bias = pointer(like, a[4]), a[5], pointer(like, a[6])
    activation, is_softmax, out = a[7], a[8], pointer(like, a[9])
    x, y, stride = pointer(like, a[10]), pointer(like, a[11]), a[12]
    blocks = (columns + BLOCK - 1) // BLOCK
    for start in range(0, rows, SLAB):
        count = min(SLAB, rows - start)
        _gather(shifted(X, start * depth), count, depth, x, stride)
        for block in range(blocks):
            panel, to = shifted(panels, block * depth * BLOCK), shifted(y, block * stride)
            init = shifted(bias, block * BLOCK)
            call(table.multiply_panel, (x, stride, panel, depth, init, to, count))
            if activation != 0:
                call(activation, (to, pointer(like, 0), count * BLOCK))
        if is_softmax != 0:
            call(table.softmax_rows, (y, stride, columns, count))
        for r in range(count):
            row = shifted(out, (start + r) * columns)
            scatter_row(shifted(y, r * BLOCK), stride, row, columns)


def gradient_plain(like, arguments, _):
    """Sums [in/16][out/16][16][16] of Xᵀ delta, unless X is 0, and [out/16][16] of delta."""
    a = longs(arguments)
    table, X, rows, inputs = table_at(a[0], 0), pointer(like, a[1]), a[2], a[3]
    delta, outputs = pointer(like, a[4]), a[5]
    weights, biases = pointer(like, a[6]), pointer(like, a[7])
    x, d, stride = pointer(like, a[8]), pointer(like, a[9]), a[10]
    in_blocks, out_blocks = (inputs + BLOCK - 1) // BLOCK, (outputs + BLOCK - 1) // BLOCK
    if a[1] == 0:
        in_blocks = 0
    for start in range(0, rows, SLAB):
        count = min(SLAB, rows - start)
        if in_blocks > 0:
            _gather(shifted(X, start * inputs), count, inputs, x, stride)
        _gather(shifted(delta, start * outputs), count, outputs, d, stride)
        for o in range(out_blocks):
            dy = shifted(d, o * stride)
            for i in range(in_blocks):
                c = shifted(weights, (i * out_blocks + o) * AREA)
                height = min(BLOCK, inputs - i * BLOCK)
                left = shifted(x, i * stride)
                call(table.gradient_tile, (left, dy, count, height, c, BLOCK, c))
            sums = shifted(biases, o * BLOCK)
            call(table.bias_gradient, (dy, count, sums, sums))


def loss_plain(like, arguments, _):
    """Loss and delta of row-major output; the plan has target, weight and loss."""
    a = longs(arguments)
    at, output, delta, result = a[0], pointer(like, a[1]), pointer(like, a[2]), doubles(a[3])
    buffer, scratch, group = pointer(like, a[4]), pointer(like, a[5]), doubles(a[6])
    plan = plan_at(at, 0)
    rows, outputs = plan.rows, plan.outputs
    inverse = inverse_normaliser(plan, weight_sum(like, plan, 0, rows))
    value = result[0] = 0.0
    if inverse == 0:
        for i in range(rows * outputs):
            delta[i] = 0.0
        return
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        _gather(shifted(output, start * outputs), count, outputs, buffer, AREA)
        call(
            plan.group_loss,
            (buffer, buffer, AREA, at, start, count, inverse, scratch, a[6]),
        )
        value += group[0]
        for r in range(count):
            row = shifted(delta, (start + r) * outputs)
            scatter_row(shifted(buffer, r * BLOCK), AREA, row, outputs)
    result[0] = value * inverse


def update_plain(like, arguments, _):
    """One update of arrays that are padded to blocks; the plan has the optimizer."""
    a = longs(arguments)
    at, count, step, scalars = a[0], a[1], a[2], a[3]
    plan = plan_at(at, 0)
    s = scalars_at(scalars, 0)
    rate, l2 = doubles(plan.rates)[0], plan.l2
    set_scalars(plan, s, rate, step, l2 if plan.clip_norm == 0 else 0.0)
    w, g = number_at(like, plan.parameters, 0), number_at(like, plan.gradient, 0)
    if plan.clip_norm > 0:
        if l2 != 0:
            for i in range(0, count, BLOCK):
                store(g, i, load(g, i) + load(w, i) * l2)
        clip = plan.clip_norm / (root(squared_norm(g, count)) + 1e-6)
        s.clip = s.clip * min(1.0, clip)
    m0, m1 = number_at(like, plan.moment_0, 0), number_at(like, plan.moment_1, 0)
    call(plan.update_kernel, (w, m0, m1, g, count, scalars))


def softmax_plain(like, arguments, _):
    """Softmax of rows in the layout, without gaps between blocks."""
    a = longs(arguments)
    y, rows, columns = pointer(like, a[1]), a[2], a[3]
    call(table_at(a[0], 0).softmax_rows, (y, rows * BLOCK, columns, rows))


def softmax_backward_plain(like, arguments, _):
    """Delta through softmax, in place."""
    a = longs(arguments)
    d, y, rows, columns = pointer(like, a[1]), pointer(like, a[2]), a[3], a[4]
    stride = rows * BLOCK
    call(table_at(a[0], 0).softmax_backward, (d, stride, y, d, stride, columns, rows))


def slope_plain(like, arguments, _):
    """Delta *= slope."""
    a = longs(arguments)
    d, slope, n = pointer(like, a[1]), pointer(like, a[2]), a[3]
    call(table_at(a[0], 0).multiply_slope, (d, slope, d, n))
