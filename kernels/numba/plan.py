"""The records that kernels find everything in: layers, the kernels to call, and the plan.

A ``PLAN`` is everything that a job needs. Python fills it in, kernels take its address.
"""

from __future__ import annotations

import numpy as np

from .machine import inlined, reader, words
from .rows import SCALARS

#: One layer. The addresses are of its kernels and of its transposed weights (0: none).
LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "inputs",
            "outputs",
            "in_blocks",
            "out_blocks",
            "weight_at",  # offset into the arenas, in numbers
            "bias_at",
            "uses_bias",
            "narrow",
            "transposed",
            "forward",
            "backward",  # 0: the way forward leaves f'(z) in the delta's buffer
            "is_identity",
            "is_softmax",
        )
    ]
    + [("dropout", np.float64)]
)

#: The kernels that other kernels call by address.
TABLE_ROWS = (
    "multiply_panel",
    "gradient_tile",
    "forward_narrow",
    "bias_gradient",
    "transpose_weight",
    "softmax_rows",
    "softmax_backward",
    "multiply_slope",
    "apply_dropout",
    "forward_pass",
    "backward_pass",
    "phase_rows",
    "update_tiles",
    "accumulate_tiles",
    "run",
)
TABLE = np.dtype([(name, np.int64) for name in TABLE_ROWS])

PLAN = np.dtype(
    [
        (name, np.int64)
        for name in (
            "table",
            "layers",
            "depth",
            "parameters",  # arena
            "moment_0",  # arenas or 0
            "moment_1",
            "gradient",
            "zeros",  # 16 of them
            "activation",  # addresses of the buffers, one a layer boundary
            "delta",  # the same; until the way back: f'(z)
            "stride",  # between feature blocks, in numbers
            "slab",  # rows that fit the workspace
            "scratch",  # scratch_size numbers for each thread
            "scratch_size",
            "scalars",  # two records for each thread
            "tiles",  # (layer, out block, in block) of every tile of every layer
            "tile_count",
            "tile_norm",  # a double for each tile
            "tile_squares",  # the same: ‖W‖² of the tile before the update
            "row_loss",  # a double for each group of BLOCK rows of the slab
            "threads",
            "barrier",  # int64s on lines of their own: waiting, generation, stop
            "polls",
            "next_poll",
            "kind",
            "X",  # (rows, in) row-major
            "target",  # (rows, out), or 0
            "labels",  # (rows,), or 0
            "weight",  # (rows,), or 0
            "order",  # uint32 row of each position, or 0
            "rates",
            "out",  # inference: (rows, out)
            "is_sound",  # the answer of that kernel
            "outputs_wanted",  # input gradients: which, and how many
            "wanted_count",
            "first",  # what is to be done of the rows: [first, end) in training
            "end",
            "rows",
            "batch",
            "seed",
            "epoch",
            "group_loss",  # the kernel for groups of rows
            "loss_kernel",  # the one for elements that it calls, if any
            "normaliser",
            "outputs",
            "updates",  # the address of how many the network has had
            "steps",  # updates by this plan
            "update_kernel",
            "corrects_bias",
            "decouples_decay",
            "nesterov",
            "epsilon_hat",  # these three as in fastnn/engines.py
            "rate_in_velocity",
            "l2_by_weight",
        )
    ]
    + [
        (name, np.float64)
        for name in (
            "parameter",
            "momentum",
            "beta_1",
            "beta_2",
            "epsilon",
            "weight_decay",
            "l2",
            "clip_norm",
            "loss",  # the result, carried from part to part of an epoch
            "penalty",  # what l2_by_weight adds to it
        )
    ]
)
layer_at, table_at, plan_at = reader(LAYER), reader(TABLE), reader(PLAN)
SCALARS_SIZE = SCALARS.itemsize
WAITING, GENERATION, STOP = 0, 128, 256  # bytes into the barrier
TRAIN, EVALUATE, GRADIENT = range(3)  # kinds of jobs


@inlined
def row_at(plan, position):
    """The row at a position of the epoch."""
    return np.int64(words(plan.order)[position]) if plan.order != 0 else position
