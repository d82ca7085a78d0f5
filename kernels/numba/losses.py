"""Losses of up to 16 rows in the layout: of single elements, and of the logits of whole rows."""

from __future__ import annotations

import numpy as np

from .layer import AREA, BLOCK
from .machine import address_of, call, doubles, longs, pointer, shifted
from .plan import plan_at, row_at
from .vector import (
    choose,
    exp_negative,
    filled,
    keep,
    lanes_below,
    load,
    load_first,
    log,
    splat_at,
    store,
    sum_of,
    transpose,
)

LOSS_AREA = (6 + 3 * BLOCK) * BLOCK  # numbers that a loss works in


def elements_loss(output, delta, stride, at, position, rows, inverse, scratch, result):
    """Σ w ℓ of up to 16 rows, to *result; delta, unless NULL, is d loss / d output.

    output and delta are [out/16][row][16] and may be the same. ``scratch`` holds
    LOSS_AREA numbers, the targets of a block among them.
    """
    plan = plan_at(at, 0)
    outputs = plan.outputs
    scale, target = shifted(scratch, BLOCK), shifted(scratch, 6 * BLOCK)
    value, derivative = shifted(target, AREA), shifted(target, 2 * AREA)
    parameter = shifted(scratch, 2 * BLOCK)
    parameter[0] = plan.parameter
    total = 0.0
    for first in range(0, outputs, BLOCK):
        o, d = shifted(output, first // BLOCK * stride), shifted(delta, first // BLOCK * stride)
        for r in range(rows):
            row = row_at(plan, position + r)
            if plan.labels == 0:
                given = pointer(scratch, plan.target)
                numbers = load_first(given, row * outputs + first, outputs - first)
                store(target, r * BLOCK, numbers)
            else:
                store(target, r * BLOCK, 0.0)
                chosen = longs(plan.labels)[row] - first
                if 0 <= chosen < BLOCK:
                    target[r * BLOCK + chosen] = 1.0
            scratch[r] = 1.0
            if plan.weight != 0:
                scratch[r] = pointer(scratch, plan.weight)[row]
            scale[r] = scratch[r] * inverse
        call(plan.loss_kernel, (o, target, value, derivative, rows * BLOCK, parameter[0]))
        valid = lanes_below(outputs - first)
        sums = filled(load(value, 0), 0)
        for r in range(rows):
            sums = sums + keep(valid, load(value, r * BLOCK)) * splat_at(scratch, r)
        total += sum_of(sums)
        if address_of(delta) != 0:
            for r in range(rows):
                slope = keep(valid, load(derivative, r * BLOCK)) * splat_at(scale, r)
                store(d, r * BLOCK, slope)
    doubles(result)[0] = total


def cross_entropy(output, delta, stride, at, position, rows, inverse, scratch, result):
    """The same for the cross-entropy of logits z, by log-sum-exp, all rows at once:

    ℓ = (Σ t) log(Σ exp z) - Σ t z,   dℓ/dz = (Σ t) softmax(z) - t

    with ℓ no larger than the parameter, if there is one.

    A transposed tile has the rows in its lanes.
    """
    plan = plan_at(at, 0)
    outputs, blocks = plan.outputs, (plan.outputs + BLOCK - 1) // BLOCK
    has_delta = address_of(delta) != 0
    top, total = scratch, shifted(scratch, BLOCK)
    rest, mass = shifted(scratch, 2 * BLOCK), shifted(scratch, 3 * BLOCK)
    work = shifted(scratch, 6 * BLOCK)

    most = filled(load(output, 0), -np.inf)
    for block in range(blocks):
        transpose(shifted(output, block * stride), work)
        for o in range(min(BLOCK, outputs - block * BLOCK)):
            z = load(work, o * BLOCK)
            most = choose(z > most, z, most)
    store(top, 0, most)

    # ℓ = mass log(total) + rest, with z counted from the top
    for r in range(rows):
        row = row_at(plan, position + r)
        if plan.labels != 0:
            label = longs(plan.labels)[row]
            mass[r] = 1.0
            rest[r] = top[r] - output[label // BLOCK * stride + r * BLOCK + label % BLOCK]
        else:
            given, masses, dots = pointer(scratch, plan.target), filled(most, 0), filled(most, 0)
            for block in range(blocks):
                left = outputs - block * BLOCK
                t = load_first(given, row * outputs + block * BLOCK, left)
                masses = masses + t
                # 0 · inf is no part of the sum
                z = load(output, block * stride + r * BLOCK)
                dots = dots + choose(t == 0, 0, t * (z - splat_at(top, r)))
            mass[r] = sum_of(masses)
            rest[r] = -sum_of(dots)

    sums = filled(most, 0)
    for block in range(blocks):
        if blocks > 1:  # a single block is there from above
            transpose(shifted(output, block * stride), work)
        left = outputs - block * BLOCK
        for o in range(BLOCK):
            e = exp_negative(load(work, o * BLOCK) - most) if o < left else filled(most, 0)
            sums = sums + e
            store(work, o * BLOCK, e)
        if has_delta:
            transpose(work, shifted(delta, block * stride))
    store(total, 0, sums)
    store(shifted(scratch, 4 * BLOCK), 0, log(sums))

    value = 0.0
    for r in range(rows):
        row = row_at(plan, position + r)
        weight = 1.0
        if plan.weight != 0:
            weight = np.float64(pointer(scratch, plan.weight)[row])
        loss = np.float64(mass[r] * scratch[4 * BLOCK + r] + rest[r])
        if plan.parameter > 0 and loss > plan.parameter:
            loss = plan.parameter
        value += weight * loss
        if has_delta:
            scratch[5 * BLOCK] = weight * inverse
            scratch[5 * BLOCK + 1] = scratch[5 * BLOCK] * mass[r] / total[r]
            scale, factor = splat_at(scratch, 5 * BLOCK), splat_at(scratch, 5 * BLOCK + 1)
            for block in range(blocks):
                at_row = block * stride + r * BLOCK
                d = load(delta, at_row) * factor
                if plan.labels == 0:
                    given = pointer(scratch, plan.target)
                    first, left = row * outputs + block * BLOCK, outputs - block * BLOCK
                    d = d - load_first(given, first, left) * scale
                store(delta, at_row, d)
            if plan.labels != 0:
                label = longs(plan.labels)[row]
                place = label // BLOCK * stride + r * BLOCK + label % BLOCK
                delta[place] -= scratch[5 * BLOCK]
    doubles(result)[0] = value
