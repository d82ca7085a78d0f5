"""The random numbers of training: one counter-based generator, specified here.

Word ``i`` of a stream is SplitMix64 (Steele, Lea & Flood 2014) at position ``i``::

    word(key, i) = mix(key + (i + 1) * GAMMA)            all modulo 2**64

and the key of a stream is the seed stirred with what the stream is for::

    key = mix(mix(mix(seed + GAMMA) ^ purpose) ^ index)  purpose, index: see below

A word depends on its position alone, so every engine, instruction set and number of
threads draws the same numbers, and none has to be drawn in order. This file is the
specification and what the NumPy engine uses; ``c/random.h`` is its twin.

=========  =======================  =============================================
purpose    index                    use
=========  =======================  =============================================
WEIGHTS    layer                    initial weights, entry i of W row-major
SHUFFLE    epoch                    Fisher-Yates: word i chooses the partner of i
DROPOUT    epoch * 2**16 + layer    32 bits an element, see ``dropout_mask``
SPLIT      0                        which rows are held out, ``fastnn.datasets``
=========  =======================  =============================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = 0x9E3779B97F4A7C15
WEIGHTS, SHUFFLE, DROPOUT, SPLIT = 1, 2, 3, 4

_MASK = 2**64 - 1
_BLOCK = 16  # features share a block of eight words in dropout_mask


def mix(word: int) -> int:
    """SplitMix64's finaliser: a bijection of 64 bits."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


def stream_key(seed: int, purpose: int, index: int) -> int:
    """The key of the stream for ``purpose`` and ``index`` under ``seed`` (0 ≤ each < 2**64)."""
    return mix(mix(mix((seed + GAMMA) & _MASK) ^ purpose) ^ index)


def words(key: int, positions: NDArray[Any]) -> NDArray[np.uint64]:
    """Word ``i`` of the stream for each ``i`` in ``positions``."""
    word = (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(GAMMA) + np.uint64(key)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def uniform(key: int, count: int) -> NDArray[np.float64]:
    """``count`` numbers in (0, 1): the upper 53 bits of each word, plus one half."""
    return ((words(key, np.arange(count)) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(key: int, count: int) -> NDArray[np.float64]:
    """``count`` standard normal numbers: Box-Muller, the cosine branch of words 2i, 2i + 1."""
    u = uniform(key, 2 * count)
    return np.sqrt(-2.0 * np.log(u[0::2])) * np.cos(2.0 * np.pi * u[1::2])


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of ``count`` rows in ``epoch``.

    Durstenfeld's form of Fisher-Yates: for i = count-1 … 1 swap entries i and j, where
    j = ⌊word(i) · (i + 1) / 2**64⌋.
    """
    key = stream_key(seed, SHUFFLE, epoch)
    word = words(key, np.arange(count))
    bound = np.arange(1, count + 1, dtype=np.uint64)
    partner = _multiply_high(word, bound).tolist()
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        j = partner[i]
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.int64)


def _multiply_high(word: NDArray[np.uint64], bound: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The upper 64 bits of word · bound, for bound < 2**32."""
    low = (word & np.uint64(0xFFFFFFFF)) * bound
    high = (word >> np.uint64(32)) * bound
    return (high + (low >> np.uint64(32))) >> np.uint64(32)


def dropout_mask(
    seed: int, epoch: int, layer: int, first: int, rows: int, features: int, rate: float
) -> NDArray[np.bool_]:
    """Which inputs of ``layer`` are kept: (rows, features), True with probability 1 - rate.

    ``first`` is the position of the first row within the epoch (0 is the epoch's first
    row after the shuffle). Features come in blocks of 16; block c of the row at position
    p owns the words 8(pB + c) … 8(pB + c) + 7, B blocks to a row, and feature 16c + 2k
    (+1) takes the lower (upper) half of word k. It is kept if that half ≥ ⌊rate · 2**32⌋.
    """
    blocks = -(-features // _BLOCK)
    key = stream_key(seed, DROPOUT, (epoch << 16) + layer)
    start = first * blocks * (_BLOCK // 2)
    word = words(key, np.arange(start, start + rows * blocks * (_BLOCK // 2), dtype=np.uint64))
    halves = np.stack([word & np.uint64(0xFFFFFFFF), word >> np.uint64(32)], axis=-1)
    kept = halves.reshape(rows, blocks * _BLOCK) >= np.uint64(int(rate * 2.0**32))
    return kept[:, :features]
