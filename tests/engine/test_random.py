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
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ],
}


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


def test_words_depend_on_position_alone() -> None:
    key = random.stream_key(3, random.WEIGHTS, 1)
    positions = np.array([5, 0, 2**40, 17])
    together = random.words(key, positions)
    assert [random.words(key, np.array([p]))[0] for p in positions] == together.tolist()


def test_keys_differ_by_every_argument() -> None:
    keys = {
        random.stream_key(seed, purpose, index)
        for seed, purpose, index in itertools.product(range(20), range(1, 4), range(50))
    }
    assert len(keys) == 20 * 3 * 50


def test_largest_seed() -> None:
    assert 0 <= random.stream_key(2**64 - 1, random.DROPOUT, 2**64 - 1) < 2**64


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


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 1000])
def test_permutation_is_one(count: int) -> None:
    order = random.permutation(5, 3, count)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(count))


def test_permutations_follow_the_specified_shuffle() -> None:
    """Durstenfeld's shuffle in Python integers of any size."""
    for seed, epoch, count in [(0, 0, 10), (7, 1, 101), (2**40, 9, 33)]:
        key = random.stream_key(seed, random.SHUFFLE, epoch)
        order = list(range(count))
        for i in reversed(range(1, count)):
            j = int(random.words(key, np.array([i]))[0]) * (i + 1) >> 64
            order[i], order[j] = order[j], order[i]
        assert random.permutation(seed, epoch, count).tolist() == order


def test_permutations_are_uniform() -> None:
    """All 120 orders of five rows come equally often over seeds, and over epochs."""
    orders = dict.fromkeys(itertools.permutations(range(5)), 0)
    by_seed, by_epoch = orders.copy(), orders.copy()
    for i in range(6000):
        by_seed[tuple(random.permutation(i, 0, 5).tolist())] += 1
        by_epoch[tuple(random.permutation(0, i, 5).tolist())] += 1
    assert chi_square_deviations(np.array(list(by_seed.values()))) < 5
    assert chi_square_deviations(np.array(list(by_epoch.values()))) < 5


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 0.5, 0.9])
def test_dropout_keeps_its_share(rate: float) -> None:
    kept = random.dropout_mask(1, 2, 0, 0, 1000, 100, rate)
    deviation = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) <= 5 * deviation
    for axis in (0, 1):  # in each feature and each row too
        spread = np.sqrt(rate * (1 - rate) / kept.shape[axis])
        assert np.abs(kept.mean(axis=axis) - (1 - rate)).max() <= 5 * spread


@pytest.mark.parametrize("features", [1, 15, 16, 17, 40])
def test_dropout_depends_on_the_row_position_alone(features: int) -> None:
    whole = random.dropout_mask(4, 1, 2, 0, 50, features, 0.4)
    for first, rows in [(0, 1), (7, 13), (49, 1)]:
        part = random.dropout_mask(4, 1, 2, first, rows, features, 0.4)
        assert (part == whole[first : first + rows]).all()


def test_dropout_follows_its_specification() -> None:
    """Element by element, from single words."""
    key = random.stream_key(9, random.DROPOUT, (3 << 16) + 1)
    kept = random.dropout_mask(9, 3, 1, 5, 4, 37, 0.35)
    for row, feature in itertools.product(range(4), range(37)):
        position = 8 * ((5 + row) * 3 + feature // 16) + feature % 16 // 2
        word = int(random.words(key, np.array([position]))[0])
        half = word >> 32 if feature % 2 else word % 2**32
        assert kept[row, feature] == (half >= int(0.35 * 2**32))


def test_dropout_blocks_are_independent() -> None:
    """Neighbouring features, blocks, rows, layers, epochs and seeds do not go together."""
    a = random.dropout_mask(1, 1, 0, 0, 2000, 64, 0.5) * 2.0 - 1
    others = {
        "features": (a[:, :-1], a[:, 1:]),
        "halves of words": (a[:, 0::2], a[:, 1::2]),
        "blocks": (a[:, :-16], a[:, 16:]),
        "rows": (a[:-1], a[1:]),
        "layers": (a, random.dropout_mask(1, 1, 1, 0, 2000, 64, 0.5) * 2.0 - 1),
        "epochs": (a, random.dropout_mask(1, 2, 0, 0, 2000, 64, 0.5) * 2.0 - 1),
        "seeds": (a, random.dropout_mask(2, 1, 0, 0, 2000, 64, 0.5) * 2.0 - 1),
    }
    for x, y in others.values():
        assert abs((x * y).mean()) < 5 / np.sqrt(x.size)
