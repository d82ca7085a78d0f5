"""Shuffles and dropout masks as random.py specifies them."""

from __future__ import annotations

import numpy as np

from .layer import BLOCK
from .machine import address_of, inlined, multiply_high, words
from ..random import GAMMA, SHUFFLE

_GAMMA = np.uint64(GAMMA)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(0xFFFFFFFF)


@inlined
def mix(word):
    """As in random.py, where all of this is specified."""
    word = (word ^ (word >> np.uint64(30))) * _FACTORS[0]
    word = (word ^ (word >> np.uint64(27))) * _FACTORS[1]
    return word ^ (word >> np.uint64(31))


@inlined
def stream_key(seed, purpose, index):
    """The key of a stream."""
    return mix(mix(mix(np.uint64(seed) + _GAMMA) ^ np.uint64(purpose)) ^ np.uint64(index))


@inlined
def stream_word(key, position):
    """One of its words."""
    return mix(key + (np.uint64(position) + np.uint64(1)) * _GAMMA)


def shuffle(to, count, seed, epoch):
    """The uint32 at ``to`` = the permutation of 0 … count - 1 for this seed and epoch."""
    order, key = words(to), stream_key(seed, SHUFFLE, epoch)
    for i in range(count):
        order[i] = np.uint32(i)
    for i in range(count - 1, 0, -1):
        j = np.int64(multiply_high(stream_word(key, i), np.uint64(i + 1)))
        swap = order[i]
        order[i] = order[j]
        order[j] = swap


def apply_dropout(y, slope, key, rate, stride, blocks, position, rows):
    """y, slope *= mask / (1 - rate) from this position of the epoch on; slope may be NULL."""
    threshold = np.uint64(np.int64(rate * 4294967296.0))
    scale = 1 / (1 - rate)
    sloped = address_of(slope) != 0
    for block in range(blocks):
        for r in range(rows):
            start = ((position + r) * blocks + block) * (BLOCK // 2)
            at = block * stride + r * BLOCK
            for k in range(BLOCK // 2):
                word = stream_word(np.uint64(key), start + k)
                low = scale if (word & _HALF) >= threshold else 0.0
                high = scale if (word >> np.uint64(32)) >= threshold else 0.0
                y[at + 2 * k] = y[at + 2 * k] * low if low > 0 else 0.0
                y[at + 2 * k + 1] = y[at + 2 * k + 1] * high if high > 0 else 0.0
                if sloped:
                    slope[at + 2 * k] = slope[at + 2 * k] * low if low > 0 else 0.0
                    slope[at + 2 * k + 1] = slope[at + 2 * k + 1] * high if high > 0 else 0.0
