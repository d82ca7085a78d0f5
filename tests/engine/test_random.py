"""The specified generator: known vectors, and statistics of what is drawn from it.

Seeds are fixed, so these are no chances: the bounds say how far from ideal a good
generator may lie, at five standard deviations.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from fastnn.kernels import random
from scipy import stats

#: The first outputs of SplitMix64 from these states, as the reference C code prints them.
SPLITMIX64 = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC],
    1234567: [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ],
}  # fmt: skip


def chi_square_deviations(counts: np.ndarray) -> float:
    """How many standard deviations χ² of these counts lies from its mean."""
    expected = counts.sum() / counts.size
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    return abs(chi_square - (counts.size - 1)) / np.sqrt(2 * (counts.size - 1))


@pytest.mark.parametrize("state", SPLITMIX64)
def test_known_words(state: int) -> None:
    wanted = SPLITMIX64[state]
    assert random.words(state, np.arange(len(wanted))).tolist() == wanted
    assert random.mix((state + random.GAMMA) % 2**64) == wanted[0]


def test_keys_differ_by_every_argument() -> None:
    arguments = itertools.product((*range(20), 2**64 - 1), range(1, 5), (*range(50), 2**64 - 1))
    keys = {random.stream_key(*one) for one in arguments}
    assert len(keys) == 21 * 4 * 51
    assert 0 <= min(keys) <= max(keys) < 2**64


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_uniform(seed: int) -> None:
    u = random.uniform(random.stream_key(seed, random.WEIGHTS, 0), 100_000)
    assert ((u > 0) & (u < 1)).all()
    assert chi_square_deviations(np.histogram(u, 1000, (0, 1))[0]) < 5
    pairs = np.histogram2d(u[:-1], u[1:], 30, [(0, 1), (0, 1)])[0]
    assert chi_square_deviations(pairs) < 5  # successive numbers are independent


def test_normal() -> None:
    x = random.normal(random.stream_key(1, random.WEIGHTS, 0), 100_000)
    counts = np.histogram(stats.norm.cdf(x), 500, (0, 1))[0]
    assert chi_square_deviations(counts) < 5


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 101, 1000])
def test_permutations_follow_the_specified_shuffle(count: int) -> None:
    """Durstenfeld's shuffle in Python integers of any size."""
    for seed, epoch in [(0, 0), (7, 1), (2**40, 9)]:
        key = random.stream_key(seed, random.SHUFFLE, epoch)
        order = list(range(count))
        for i in reversed(range(1, count)):
            j = int(random.words(key, np.array([i]))[0]) * (i + 1) >> 64
            order[i], order[j] = order[j], order[i]
        assert random.permutation(seed, epoch, count).tolist() == order
        assert random.permutation(seed, epoch, count).dtype == np.int64


@pytest.mark.parametrize(("features", "first"), [(1, 0), (15, 3), (16, 7), (17, 0), (37, 49)])
def test_dropout_follows_its_specification(features: int, first: int) -> None:
    """Element by element, from single words: by the position of the row alone."""
    key = random.stream_key(9, random.DROPOUT, (3 << 16) + 1)
    kept = random.dropout_mask(9, 3, 1, first, 4, features, 0.35)
    assert kept.shape == (4, features)
    for row, feature in itertools.product(range(4), range(features)):
        blocks = -(-features // 16)
        position = 8 * ((first + row) * blocks + feature // 16) + feature % 16 // 2
        word = int(random.words(key, np.array([position]))[0])
        half = word >> 32 if feature % 2 else word % 2**32
        assert kept[row, feature] == (half >= int(0.35 * 2**32))


def test_dropout_blocks_are_independent() -> None:
    """Neighbouring features, blocks, rows, layers, epochs and seeds do not go together."""

    def mask(seed: int, epoch: int, layer: int) -> np.ndarray:
        return random.dropout_mask(seed, epoch, layer, 0, 2000, 64, 0.5) * 2.0 - 1

    a = mask(1, 1, 0)
    pairs = [(a[:, :-1], a[:, 1:]), (a[:, 0::2], a[:, 1::2]), (a[:, :-16], a[:, 16:])]
    pairs += [(a[:-1], a[1:]), (a, mask(1, 1, 1)), (a, mask(1, 2, 0)), (a, mask(2, 1, 0))]
    for x, y in pairs:
        assert abs((x * y).mean()) < 5 / np.sqrt(x.size)
