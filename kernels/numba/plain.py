"""Single kernels on row-major arrays, for those who embed them.

X W + b and delta Wᵀ need none: they are the forward pass of a network of one layer.
"""

from __future__ import annotations

import numpy as np

from .layer import AREA, BLOCK, block_stride, finite, gather_row, scatter_row
from .machine import address_of, call, doubles, inlined, longs, root, shifted
from .plan import plan_at, table_at
from .rows import scalars_at
from .step import inverse_normaliser, set_scalars, squared_norm, weight_sum
from .vector import load, store

SLAB = 256  # rows that are brought into the layout at a time
STRIDE = block_stride(SLAB)


@inlined
def _gather(X, rows, features, x, stride):
    for r in range(rows):
        gather_row(shifted(X, r * features), features, shifted(x, r * BLOCK), stride)


def all_finite(values, count, result):
    """Whether no number is NaN or infinite: 0 or 1 to the int64 at ``result``."""
    longs(result)[0] = np.int64(finite(values, count))


def gradient_plain(X, rows, inputs, delta, outputs, sums, workspace, table):
    """Sums [in/16][out/16][16][16] of Xᵀ delta, unless X is NULL, then [out/16][16] of delta."""
    kernels = table_at(table, 0)
    in_blocks = (inputs + BLOCK - 1) // BLOCK if address_of(X) != 0 else 0
    out_blocks = (outputs + BLOCK - 1) // BLOCK
    x, d = shifted(workspace, out_blocks * STRIDE), workspace
    for start in range(0, rows, SLAB):
        count = min(SLAB, rows - start)
        if in_blocks > 0:
            _gather(shifted(X, start * inputs), count, inputs, x, STRIDE)
        _gather(shifted(delta, start * outputs), count, outputs, d, STRIDE)
        for o in range(out_blocks):
            dy = shifted(d, o * STRIDE)
            for i in range(in_blocks):
                c = shifted(sums, (i * out_blocks + o) * AREA)
                height = min(BLOCK, inputs - i * BLOCK)
                tile = (shifted(x, i * STRIDE), dy, count, height, c, BLOCK, c)
                call(kernels.gradient_tile, tile)
            bias = shifted(sums, in_blocks * out_blocks * AREA + o * BLOCK)
            call(kernels.bias_gradient, (dy, count, bias, bias))


def loss_plain(output, delta, at, buffer, scratch, group, result):
    """Loss and delta of row-major output; the plan has target, weight and loss."""
    plan = plan_at(at, 0)
    rows, outputs = plan.rows, plan.outputs
    inverse = inverse_normaliser(plan, weight_sum(output, plan, 0, rows))
    value = 0.0
    for start in range(0, rows if inverse > 0 else 0, BLOCK):
        count = min(BLOCK, rows - start)
        _gather(shifted(output, start * outputs), count, outputs, buffer, AREA)
        given = (buffer, buffer, AREA, at, start, count, inverse, scratch, group)
        call(plan.group_loss, given)
        value += doubles(group)[0]
        for r in range(count):
            row = shifted(delta, (start + r) * outputs)
            scatter_row(shifted(buffer, r * BLOCK), AREA, row, outputs)
    doubles(result)[0] = value * inverse


def update_plain(w, g, m0, m1, count, at, scalars):
    """One update of arrays that are padded to blocks; the plan has the optimizer."""
    plan, s = plan_at(at, 0), scalars_at(scalars, 0)
    clips, step = plan.clip_norm > 0, longs(plan.updates)[0]
    set_scalars(plan, s, doubles(plan.rates)[0], step, 0.0 if clips else plan.l2)
    if clips:
        for i in range(0, count, BLOCK):
            store(g, i, load(g, i) + load(w, i) * plan.l2)
        norm = root(squared_norm(g, count))
        s.clip = s.clip * min(1.0, plan.clip_norm / (norm + 1e-6))
    call(plan.update_kernel, (w, m0, m1, g, count, scalars))
