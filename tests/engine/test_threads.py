"""The number of threads, and of rows per call, changes no bit of any result."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from networks import Case, random_case

NETWORKS = 60


def trained(case: Case, engine: ModuleType, dtype: np.dtype, threads: int) -> list[Any]:
    """Everything that two epochs and a step of training lead to."""
    network = case.network(engine, dtype)
    data = case.data(dtype)
    rates = np.full(math.ceil(len(case.X) / case.batch_size), 1e-3)
    with case.trainer(network, threads) as trainer:
        losses = [trainer.epoch(*data, epoch, rates, True) for epoch in range(2)]
        losses.append(trainer.step(*data, 1e-3))
        losses.append(trainer.evaluate(*data))
        value, gradient = trainer.gradient(*data)
    return [network.get_parameters(), *network.get_state()[1], gradient, losses, value]


def assert_same_bits(have: list[Any], want: list[Any]) -> None:
    for a, b in zip(have, want, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_training(compiled: ModuleType, reference: ModuleType, seed: int) -> None:
    """One to four threads, up to 700 rows in batches of any size, every option."""
    case = random_case(1000 + seed, reference, max_rows=700)
    dtype = np.dtype(("float32", "float64")[seed % 2])
    alone = trained(case, compiled, dtype, 1)
    assert np.isfinite(alone[0]).all()
    for threads in (2, 3, 4):
        assert_same_bits(trained(case, compiled, dtype, threads), alone)


def test_the_cases_use_what_might_depend_on_threads(reference: ModuleType) -> None:
    cases = [random_case(1000 + seed, reference, max_rows=700) for seed in range(NETWORKS)]
    assert sum(any(spec.dropout for spec in case.layers) for case in cases) >= 10
    assert sum(len(case.X) % case.batch_size > 0 for case in cases) >= 10
    assert sum(case.batch_size > 128 for case in cases) >= 10  # several tiles of rows
    assert sum(case.weight is not None for case in cases) >= 10
    assert sum(case.optimizer.clip_norm > 0 for case in cases) >= 10
    assert sum(case.layers[-1].activation == "softmax" for case in cases) >= 5
    assert sum(case.layers[-1].outputs <= 4 for case in cases) >= 5


@pytest.mark.parametrize("seed", range(20))
def test_predict(compiled: ModuleType, reference: ModuleType, dtype: np.dtype, seed: int) -> None:
    """A row's output is the same alone, among others, and on any number of threads."""
    case = random_case(2000 + seed, reference, max_rows=300)
    network = case.network(compiled, dtype)
    X = case.data(dtype)[0]
    whole = network.predict(X)
    for threads in (2, 3, 4):
        assert network.predict(X, threads).tobytes() == whole.tobytes()
    for rows in (1, 2, 7, 16, 17, 64, 100):
        parts = [network.predict(X[i : i + rows]) for i in range(0, len(X), rows)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_large_predict(compiled: ModuleType, reference: ModuleType, dtype: np.dtype) -> None:
    """Enough rows for every thread to have several pieces."""
    case = random_case(3000, reference)
    network = case.network(compiled, dtype)
    X = np.random.default_rng(0).normal(size=(5000, case.layers[0].inputs)).astype(dtype)
    whole = network.predict(X)
    assert network.predict(X, 4).tobytes() == whole.tobytes()
    assert network.predict(X[1234:]).tobytes() == whole[1234:].tobytes()
