"""The optimizer step of the Numba engine, and the job that repeats it over an epoch.

    phase 1   each thread takes rows: gather, forward, loss, deltas backward
    barrier
    phase 2   each thread takes tiles of the weights: gradient over all rows, update
    barrier

No sum crosses threads, so results are bitwise equal for every number of them. What needs
the whole gradient first (clipping, more rows than the workspace holds) keeps it in an arena
and updates in a third phase. A stop is honoured in phase 1, where nothing has changed yet.

Kernels take a pointer ``like``, for its type alone, and the address of a plan.
"""

from __future__ import annotations

import numpy as np

from .layer import AREA, BLOCK, finite, gather_row, scatter_row
from .machine import (
    acquire_lock,
    atomic_add,
    atomic_load,
    atomic_store,
    call,
    check_signals,
    doubles,
    ensure_gil,
    fetch,
    flush_subnormals,
    inlined,
    itemsize,
    longs,
    now,
    null,
    number_at,
    pointer,
    relax,
    release_gil,
    release_lock,
    restore_thread,
    root,
    rows_of,
    save_thread,
    sched_yield,
    shifted,
)
from .plan import (
    EVALUATE,
    GENERATION,
    SCALARS_SIZE,
    STOP,
    TRAIN,
    WAITING,
    layer_at,
    plan_at,
    row_at,
    table_at,
)
from .random import stream_key
from .rows import NOTHING, WEIGHT_TIMES_OUTPUTS, scalars_at
from .vector import keep, lanes_below, load, store
from ..random import DROPOUT

ROW_TILE = 64  # rows that go through all layers together
POLL_INTERVAL = 50_000_000  # ns
AHEAD = 512 * 1024  # bytes of the next batch's rows that are fetched early
LONG_ROW = 512  # bytes; shorter rows cost more to fetch than they save

# --------------------------------------------------------------------------- threads


def enter(address, a, b, c, d, e, f, g, h):
    """Run a kernel without the GIL, subnormals being zero, and leave both as they were.

    Its arguments are addresses and int64; calling conventions allow more than it takes.
    """
    state = save_thread()
    were_flushed = flush_subnormals(1)
    call(address, (a, b, c, d, e, f, g, h))
    flush_subnormals(were_flushed)
    restore_thread(state)


def serve(gate, end, job):
    """A thread's life: wait at the gate, run the job, say so; job = (run, like, plan, thread)."""
    what = longs(job)
    while True:
        acquire_lock(gate, 1)
        if what[0] == 0:
            break
        call(what[0], (what[1], what[2], what[3]))
        release_lock(end)


def run_together(jobs, gates, count):
    """Run one job on every thread; jobs[0] is this thread's, the gates are the others'.

    No Python code runs between start and end, so no signal handler can part the threads.
    """
    what, gate = longs(jobs), longs(gates)
    for i in range(count):
        release_lock(gate[i])
    call(what[0], (what[1], what[2], what[3]))
    for i in range(count):
        acquire_lock(gate[count + i], 1)


@inlined
def wait(plan):
    """Where the threads of a job meet: spins for a moment, then yields."""
    if plan.threads > 1:
        generation = atomic_load(plan.barrier + GENERATION)
        if atomic_add(plan.barrier + WAITING, 1) == plan.threads - 1:
            atomic_store(plan.barrier + WAITING, 0)
            atomic_store(plan.barrier + GENERATION, generation + 1)
        else:
            spins = 0
            while atomic_load(plan.barrier + GENERATION) == generation:
                spins += 1
                if spins < 2000:
                    relax()
                else:
                    sched_yield()


@inlined
def should_stop(plan):
    """Whether a signal handler raised; asks at most every POLL_INTERVAL."""
    if plan.polls == 0 or now() < plan.next_poll:
        return False
    flush_subnormals(0)
    state = ensure_gil()
    stop = check_signals()
    release_gil(state)
    flush_subnormals(1)
    plan.next_poll = now() + POLL_INTERVAL
    return stop != 0


# --------------------------------------------------------------------------- passes


@inlined
def drop(like, plan, level, position, first, rows):
    """The dropout mask of a layer's input, which also scales the slope that is kept for it."""
    layer = layer_at(plan.layers, level)
    x = rows_of(like, plan.activation, level, first)
    slope = rows_of(like, plan.delta, level, first) if level > 0 else null(like)
    key = stream_key(plan.seed, DROPOUT, (plan.epoch << 16) + level)
    masked = (x, slope, key, layer.dropout, plan.stride, layer.in_blocks, position + first, rows)
    call(table_at(plan.table, 0).apply_dropout, masked)


def forward_pass(like, at, position, first, rows):
    """Rows [first, first + rows) of the workspace through all layers.

    ``position`` is that of the workspace's row 0 in the epoch, for the dropout masks.
    """
    plan = plan_at(at, 0)
    table = table_at(plan.table, 0)
    stride, parameters = plan.stride, plan.parameters
    for level in range(plan.depth):
        layer = layer_at(plan.layers, level)
        if plan.kind == TRAIN and layer.dropout > 0:
            drop(like, plan, level, position, first, rows)
        x = rows_of(like, plan.activation, level, first)
        y = rows_of(like, plan.activation, level + 1, first)
        weight = number_at(like, parameters, layer.weight_at)
        bias = number_at(like, parameters, layer.bias_at)
        if layer.narrow:
            used = layer.inputs % BLOCK
            if level > 0 and used:
                # lanes beyond the features hold f(0); dot products run over them
                block = layer.inputs // BLOCK * stride
                for r in range(block, block + rows * BLOCK, BLOCK):
                    store(x, r, keep(lanes_below(used), load(x, r)))
            shape = (rows, layer.outputs, layer.in_blocks)
            call(table.forward_narrow, (weight, bias, x, stride, y, *shape))
        else:
            for block in range(layer.out_blocks):
                panel = shifted(weight, block * layer.inputs * BLOCK)
                start, to = shifted(bias, block * BLOCK), shifted(y, block * stride)
                call(table.multiply_panel, (x, stride, panel, layer.inputs, start, to, rows))
        sloped = plan.kind != EVALUATE and layer.backward == 0
        slope = rows_of(like, plan.delta, level + 1, first) if sloped else null(like)
        if layer.is_softmax:
            call(table.softmax_rows, (y, stride, layer.outputs, rows))
        elif sloped or not layer.is_identity:
            for block in range(layer.out_blocks):
                to = shifted(slope, block * stride) if sloped else slope
                call(layer.forward, (shifted(y, block * stride), to, rows * BLOCK))


@inlined
def through_activation(table, layer, upstream, y, slope, delta, n):
    """Delta of a layer's z from that of its output; ``slope`` may be ``delta``."""
    if layer.backward == 0:
        call(table.multiply_slope, (upstream, slope, delta, n))
    else:
        call(layer.backward, (upstream, y, delta, n))


@inlined
def transposed_weight(like, plan, layer):
    """[in/16][out][16]: what a delta is multiplied by."""
    if layer.narrow:
        return number_at(like, plan.parameters, layer.weight_at)
    return pointer(like, layer.transposed)


def backward_pass(like, at, first, rows, scratch):
    """delta[level] for level = depth - 1 … 1, from delta[depth]."""
    plan = plan_at(at, 0)
    table = table_at(plan.table, 0)
    stride, zeros = plan.stride, pointer(like, plan.zeros)
    for level in range(plan.depth - 1, 0, -1):
        layer, below = layer_at(plan.layers, level), layer_at(plan.layers, level - 1)
        panels = transposed_weight(like, plan, layer)
        y = rows_of(like, plan.activation, level, first)
        delta = rows_of(like, plan.delta, level, first)
        upstream = rows_of(like, plan.delta, level + 1, first)
        for block in range(layer.in_blocks):
            panel = shifted(panels, block * layer.outputs * BLOCK)
            to, y_block = shifted(delta, block * stride), shifted(y, block * stride)
            product = (upstream, stride, panel, layer.outputs, zeros, scratch, rows)
            call(table.multiply_panel, product)
            through_activation(table, below, scratch, y_block, to, to, rows * BLOCK)


# --------------------------------------------------------------------------- phase 1


@inlined
def gather_rows(like, plan, position, count, x):
    """The rows at these positions into the layout."""
    inputs = layer_at(plan.layers, 0).inputs
    for r in range(count):
        row = number_at(like, plan.X, row_at(plan, position + r) * inputs)
        gather_row(row, inputs, shifted(x, r * BLOCK), plan.stride)


@inlined
def output_loss(like, plan, at, position, inverse, first, rows, scratch):
    """Loss, to row_loss, and delta of up to 16 rows from workspace row ``first`` on."""
    table = table_at(plan.table, 0)
    depth, stride = plan.depth, plan.stride
    last = layer_at(plan.layers, depth - 1)
    y = rows_of(like, plan.activation, depth, first)
    delta = rows_of(like, plan.delta, depth, first)
    result = plan.row_loss + first // BLOCK * 8
    place = position + first
    upstream = shifted(scratch, ROW_TILE * BLOCK)
    room = shifted(upstream, last.out_blocks * AREA)
    if inverse == 0:  # weights that sum to zero hide even a loss that overflows
        doubles(result)[0] = 0.0
        for block in range(last.out_blocks if plan.kind != EVALUATE else 0):
            for i in range(0, rows * BLOCK, BLOCK):
                store(delta, block * stride + i, 0.0)
    elif plan.kind == EVALUATE:
        call(plan.group_loss, (y, null(like), stride, at, place, rows, inverse, room, result))
    elif last.is_identity:
        call(plan.group_loss, (y, delta, stride, at, place, rows, inverse, room, result))
    else:
        for block in range(last.out_blocks):
            for i in range(0, rows * BLOCK, BLOCK):
                store(upstream, block * AREA + i, load(y, block * stride + i))
        call(plan.group_loss, (upstream, upstream, AREA, at, place, rows, inverse, room, result))
        if last.is_softmax:
            call(table.softmax_backward, (upstream, AREA, y, delta, stride, last.outputs, rows))
        else:
            for block in range(last.out_blocks):
                u, to = shifted(upstream, block * AREA), shifted(delta, block * stride)
                y_block = shifted(y, block * stride)
                through_activation(table, last, u, y_block, to, to, rows * BLOCK)


@inlined
def share_of(rows, thread, threads):
    """The rows that a thread owns, in whole groups of 16: (first, end)."""
    groups = (rows + BLOCK - 1) // BLOCK
    return (
        groups * thread // threads * BLOCK,
        min(rows, groups * (thread + 1) // threads * BLOCK),
    )


def is_sound(like, at):
    """Whether X, target and weight of the whole job are finite, and labels within the outputs."""
    plan = plan_at(at, 0)
    inputs = layer_at(plan.layers, 0).inputs
    sound = finite(pointer(like, plan.X), plan.rows * inputs)
    if plan.labels != 0:
        for i in range(plan.rows):
            sound = sound and 0 <= longs(plan.labels)[i] < plan.outputs
    else:
        sound = sound and finite(pointer(like, plan.target), plan.rows * plan.outputs)
    if plan.weight != 0:
        sound = sound and finite(pointer(like, plan.weight), plan.rows)
    plan.is_sound = np.int64(sound)


def phase_rows(like, at, position, rows, inverse, thread, scratch):
    """A thread's share of the rows of the slab that starts at ``position``."""
    plan = plan_at(at, 0)
    table = table_at(plan.table, 0)
    first, end = share_of(rows, thread, plan.threads)
    while True:
        if thread == 0 and should_stop(plan):
            atomic_store(plan.barrier + STOP, 1)
        if first >= end or atomic_load(plan.barrier + STOP) != 0:
            return
        count = min(ROW_TILE, end - first)
        x = rows_of(like, plan.activation, 0, first)
        gather_rows(like, plan, position + first, count, x)
        call(table.forward_pass, (like, at, position, first, count))
        for group in range(first, first + count, BLOCK):
            height = min(BLOCK, first + count - group)
            output_loss(like, plan, at, position, inverse, group, height, scratch)
        if plan.kind != EVALUATE:
            call(table.backward_pass, (like, at, first, count, scratch))
        first += ROW_TILE


# --------------------------------------------------------------------------- phase 2


@inlined
def tile_of(plan, index):
    """(layer, out block, in block, offset of its weights, rows of 16 that they are)."""
    level = longs(plan.tiles)[3 * index]
    out_block, in_block = longs(plan.tiles)[3 * index + 1], longs(plan.tiles)[3 * index + 2]
    layer = layer_at(plan.layers, level)
    if layer.narrow:
        offset, height = in_block * layer.outputs * BLOCK, layer.outputs
    else:
        offset = (out_block * layer.inputs + in_block * BLOCK) * BLOCK
        height = min(BLOCK, layer.inputs - in_block * BLOCK)
    return level, out_block, in_block, layer.weight_at + offset, height


@inlined
def gradient_into(like, plan, table, level, out_block, in_block, rows, height, init, init_row, c):
    """c = init + xᵀ delta for a tile, as the layout of the weights has it."""
    x = shifted(rows_of(like, plan.activation, level, 0), in_block * plan.stride)
    dy = shifted(rows_of(like, plan.delta, level + 1, 0), out_block * plan.stride)
    if layer_at(plan.layers, level).narrow:
        call(table.gradient_tile, (dy, x, rows, height, init, init_row, c))
    else:
        call(table.gradient_tile, (x, dy, rows, height, init, init_row, c))
    return dy


@inlined
def update_at(like, plan, offset, gradient, n, scalars):
    """The optimizer on n parameters."""
    w = number_at(like, plan.parameters, offset)
    m0, m1 = number_at(like, plan.moment_0, offset), number_at(like, plan.moment_1, offset)
    call(plan.update_kernel, (w, m0, m1, gradient, n, scalars))


@inlined
def squared_norm(x, n):
    """In double, since the square of a float32 overflows from 1.8e19 on."""
    a = b = c = d = 0.0
    for i in range(0, n, 4):
        a += np.float64(x[i]) * np.float64(x[i])
        b += np.float64(x[i + 1]) * np.float64(x[i + 1])
        c += np.float64(x[i + 2]) * np.float64(x[i + 2])
        d += np.float64(x[i + 3]) * np.float64(x[i + 3])
    return (a + b) + (c + d)


@inlined
def note_squares(like, plan, index, offset, height):
    """What l2_by_weight adds to the loss needs the weights as they are before the update."""
    if plan.l2_by_weight != 0:
        weight = number_at(like, plan.parameters, offset)
        doubles(plan.tile_squares)[index] = squared_norm(weight, height * BLOCK)


@inlined
def fetch_rows(plan, row_bytes, position, end, line, count):
    """Ask for ``count`` lines of the rows at these positions, from a line of the first on."""
    for _ in range(count if position < end else 0):
        fetch(plan.X + row_at(plan, position) * row_bytes + line)
        line += 64
        if line >= row_bytes:
            line = 0
            position += 1
            if position == end:
                break
    return position, line


def update_tiles(like, at, begin, end, rows, scalars, scratch, position, thread):
    """The gradient of each tile, and of the bias with the first of a block column: updated.

    It is computed here, over so many rows, or for 0 rows taken from its arena. ``scalars``
    has two records, of weights and of biases. From ``position`` on lie the rows of the next
    batch: this thread's share of them is fetched meanwhile.
    """
    plan = plan_at(at, 0)
    table = table_at(plan.table, 0)
    zeros = pointer(like, plan.zeros)
    row_bytes = layer_at(plan.layers, 0).inputs * itemsize(like)
    ahead, ahead_end = share_of(
        min(plan.batch, plan.rows - position, plan.slab), thread, plan.threads
    )
    if rows == 0 or row_bytes < LONG_ROW or (ahead_end - ahead) * row_bytes > AHEAD:
        ahead_end = ahead
    # a few lines with each tile: more at once would hold up its loads
    line, share = 0, (ahead_end - ahead) * (row_bytes + 63) // 64 // max(end - begin, 1) + 1
    ahead, ahead_end = position + ahead, position + ahead_end
    for index in range(begin, end):
        ahead, line = fetch_rows(plan, row_bytes, ahead, ahead_end, line, share)
        level, out_block, in_block, offset, height = tile_of(plan, index)
        layer = layer_at(plan.layers, level)
        weight = number_at(like, plan.parameters, offset)
        gradient, dy = number_at(like, plan.gradient, offset), scratch
        if rows > 0:
            note_squares(like, plan, index, offset, height)
            gradient = scratch
            dy = gradient_into(
                like, plan, table, level, out_block, in_block, rows, height, zeros, 0, scratch
            )
        update_at(like, plan, offset, gradient, height * BLOCK, scalars)
        if layer.transposed != 0:
            place = (in_block * layer.outputs + out_block * BLOCK) * BLOCK
            to = shifted(pointer(like, layer.transposed), place)
            width = min(BLOCK, layer.outputs - out_block * BLOCK)
            call(table.transpose_weight, (weight, to, scratch, height, width))
        if in_block == 0 and layer.uses_bias:
            bias = layer.bias_at + out_block * BLOCK
            gradient = number_at(like, plan.gradient, bias)
            if rows > 0:
                gradient = scratch
                call(table.bias_gradient, (dy, rows, zeros, scratch))
            update_at(like, plan, bias, gradient, BLOCK, scalars + SCALARS_SIZE)


def accumulate_tiles(like, at, begin, end, rows, first_slab, l2, scratch):
    """The gradient into its arena; with the last slab ``l2`` joins it and its norm is taken."""
    plan = plan_at(at, 0)
    table = table_at(plan.table, 0)
    zeros = pointer(like, plan.zeros)
    for index in range(begin, end):
        level, out_block, in_block, offset, height = tile_of(plan, index)
        layer = layer_at(plan.layers, level)
        gradient = number_at(like, plan.gradient, offset)
        weight = number_at(like, plan.parameters, offset)
        init, init_row = zeros if first_slab else gradient, 0 if first_slab else BLOCK
        dy = gradient_into(
            like, plan, table, level, out_block, in_block, rows, height, init, init_row, scratch
        )
        for i in range(0, height * BLOCK, BLOCK):
            store(gradient, i, load(scratch, i) + load(weight, i) * l2)
        note_squares(like, plan, index, offset, height)
        norm = squared_norm(gradient, height * BLOCK)
        if in_block == 0 and layer.uses_bias:
            bias = number_at(like, plan.gradient, layer.bias_at + out_block * BLOCK)
            call(table.bias_gradient, (dy, rows, zeros if first_slab else bias, bias))
            norm += squared_norm(bias, BLOCK)
        doubles(plan.tile_norm)[index] = norm


# --------------------------------------------------------------------------- the job


@inlined
def sum_of_doubles(address, count):
    """The sum of so many float64, in their order."""
    total = 0.0
    for i in range(count):
        total += doubles(address)[i]
    return total


@inlined
def weight_sum(like, plan, position, rows):
    """The sum of the sample weights of these rows."""
    total = float(rows)
    if plan.weight != 0:
        total = 0.0
        for i in range(rows):
            total += np.float64(pointer(like, plan.weight)[row_at(plan, position + i)])
    return total


@inlined
def inverse_normaliser(plan, mass):
    """1 / what the loss over rows of this weight is divided by; 0 for weight 0."""
    if mass <= 0:
        return 0.0
    if plan.normaliser == NOTHING:
        return 1.0
    return 1 / (mass * plan.outputs if plan.normaliser == WEIGHT_TIMES_OUTPUTS else mass)


@inlined
def power(x, n):
    """x^n by squaring."""
    result, square = 1.0, x
    while n > 0:
        if n & 1:
            result *= square
        square *= square
        n >>= 1
    return result


@inlined
def set_scalars(plan, s, rate, step, l2):
    """The numbers of one update; Adam's bias corrections are moved out of the loop."""
    gain = 1.0
    s.rate = rate
    if plan.rate_in_velocity != 0:
        gain, s.rate = rate, 1.0
    s.momentum, s.beta_1, s.beta_2 = plan.momentum, plan.beta_1, plan.beta_2
    s.epsilon, s.nesterov = plan.epsilon, plan.nesterov
    s.shrink, s.clip, s.decay = 1.0, gain, (plan.weight_decay + l2) * gain
    if plan.corrects_bias:
        correction = root(1 - power(plan.beta_2, step))
        s.rate = rate * correction / (1 - power(plan.beta_1, step))
        if plan.epsilon_hat == 0:
            s.epsilon = plan.epsilon * correction
    if plan.decouples_decay:
        s.shrink = 1 - rate * plan.weight_decay
        s.decay = l2


def run(like, at, thread):
    """Rows [first, end) of the job, the same on every thread of the plan."""
    plan = plan_at(at, 0)
    table = table_at(plan.table, 0)
    scratch = number_at(like, plan.scratch, thread * plan.scratch_size)
    begin = plan.tile_count * thread // plan.threads
    end = plan.tile_count * (thread + 1) // plan.threads
    scalars = plan.scalars + 2 * thread * SCALARS_SIZE
    first_step, end_step = plan.first // plan.batch, (plan.end + plan.batch - 1) // plan.batch
    updates = longs(plan.updates)[0] - first_step  # made before this epoch
    # thread 0's sums go on from part to part, so that they do not depend on where parts end
    training, epoch_loss, epoch_penalty = plan.kind == TRAIN, plan.loss, plan.penalty
    if thread == 0:
        plan.next_poll = now() + POLL_INTERVAL
    for step in range(first_step, end_step):
        position = step * plan.batch
        batch = min(plan.batch, plan.rows - position)
        mass = weight_sum(like, plan, position, batch)
        inverse, l2 = inverse_normaliser(plan, mass), 0.0
        if training:
            l2 = plan.l2
            if plan.l2_by_weight != 0:
                l2 = l2 / mass if mass > 0 else 0.0
        fused = training and batch <= plan.slab and plan.clip_norm == 0
        if training:
            rate, update = doubles(plan.rates)[step], updates + step + 1
            set_scalars(plan, scalars_at(scalars, 0), rate, update, l2 if fused else 0.0)
            set_scalars(plan, scalars_at(scalars, 1), rate, update, 0.0)
        total = 0.0
        for part in range((batch + plan.slab - 1) // plan.slab):
            slab = part * plan.slab
            rows = min(plan.slab, batch - slab)
            call(table.phase_rows, (like, at, position + slab, rows, inverse, thread, scratch))
            wait(plan)
            if atomic_load(plan.barrier + STOP) != 0:
                return
            if thread == 0:
                total += sum_of_doubles(plan.row_loss, (rows + BLOCK - 1) // BLOCK)
            what = (like, at, begin, end, rows)
            if fused:
                call(table.update_tiles, (*what, scalars, scratch, position + batch, thread))
            elif plan.kind != EVALUATE:
                decay = l2 if slab + rows == batch else 0.0
                call(table.accumulate_tiles, (*what, np.int64(slab == 0), decay, scratch))
            wait(plan)
        if training and not fused:
            if plan.clip_norm > 0:
                norm = root(sum_of_doubles(plan.tile_norm, plan.tile_count))
                for i in range(2):
                    s = scalars_at(scalars, i)
                    s.clip = s.clip * min(1.0, plan.clip_norm / (norm + 1e-6))
            call(table.update_tiles, (like, at, begin, end, 0, scalars, scratch, 0, thread))
            wait(plan)
        if thread == 0:
            share = 1.0 if plan.normaliser == NOTHING else batch / plan.rows
            epoch_loss += total * inverse * share
            if training:
                if plan.l2_by_weight != 0:
                    squares = sum_of_doubles(plan.tile_squares, plan.tile_count)
                    epoch_penalty += 0.5 * l2 * squares * share
                longs(plan.updates)[0] = updates + step + 1
                plan.steps += 1
    if thread == 0:
        plan.loss = epoch_loss
        plan.penalty = epoch_penalty


# --------------------------------------------------------------------------- inference


def predict(like, at):
    """Rows [first, rows) of X through the network into ``out``, ROW_TILE at a time."""
    plan = plan_at(at, 0)
    table = table_at(plan.table, 0)
    if plan.rows - plan.first > ROW_TILE:
        plan.next_poll = now() + POLL_INTERVAL
    x, y = rows_of(like, plan.activation, 0, 0), rows_of(like, plan.activation, plan.depth, 0)
    for start in range(plan.first, plan.rows, ROW_TILE):
        if start > plan.first and should_stop(plan):
            return
        count = min(ROW_TILE, plan.rows - start)
        gather_rows(like, plan, start, count, x)
        call(table.forward_pass, (like, at, 0, 0, count))
        for r in range(count):
            row = number_at(like, plan.out, (start + r) * plan.outputs)
            scatter_row(shifted(y, r * BLOCK), plan.stride, row, plan.outputs)


def input_gradient(like, at):
    """d output / d input of the wanted outputs: out is (rows, wanted, in).

    A backward pass for each, from a unit vector in delta[depth] down to delta[0]. The
    slopes must outlive it, so the plan's deltas hold slopes, and the ``gradient`` buffer
    two deltas in turn.
    """
    plan = plan_at(at, 0)
    table = table_at(plan.table, 0)
    stride, zeros = plan.stride, pointer(like, plan.zeros)
    inputs = layer_at(plan.layers, 0).inputs
    size = plan.scratch_size
    plan.next_poll = now() + POLL_INTERVAL
    for start in range(0, plan.rows, BLOCK):
        count = min(BLOCK, plan.rows - start)
        x = rows_of(like, plan.activation, 0, 0)
        gather_rows(like, plan, start, count, x)
        call(table.forward_pass, (like, at, 0, 0, count))
        for wanted in range(plan.wanted_count):
            if should_stop(plan):
                return
            o = longs(plan.outputs_wanted)[wanted]
            upstream = number_at(like, plan.scratch, 0)
            delta = number_at(like, plan.scratch, size)
            for i in range(0, size, BLOCK):
                store(upstream, i, 0.0)
            for r in range(count):
                upstream[o // BLOCK * stride + r * BLOCK + o % BLOCK] = 1.0
            for level in range(plan.depth - 1, -1, -1):
                layer = layer_at(plan.layers, level)
                y, slope = (
                    rows_of(like, plan.activation, level + 1, 0),
                    rows_of(like, plan.delta, level + 1, 0),
                )
                if layer.is_softmax:
                    call(
                        table.softmax_backward,
                        (upstream, stride, y, upstream, stride, layer.outputs, count),
                    )
                elif not layer.is_identity:
                    for block in range(layer.out_blocks):
                        u, s = shifted(upstream, block * stride), shifted(slope, block * stride)
                        y_block = shifted(y, block * stride)
                        through_activation(table, layer, u, y_block, s, u, count * BLOCK)
                panels = transposed_weight(like, plan, layer)
                for block in range(layer.in_blocks):
                    panel = shifted(panels, block * layer.outputs * BLOCK)
                    to = shifted(delta, block * stride)
                    call(
                        table.multiply_panel,
                        (upstream, stride, panel, layer.outputs, zeros, to, count),
                    )
                upstream, delta = delta, upstream
            for r in range(count):
                place = ((start + r) * plan.wanted_count + wanted) * inputs
                row = number_at(like, plan.out, place)
                scatter_row(shifted(upstream, r * BLOCK), stride, row, inputs)
