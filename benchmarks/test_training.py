"""Whole fits: the gradient must agree with the float64 reference, then they are timed.

One thread each. ``python -m pytest benchmarks/test_training.py -k "tabular and float32"``;
``--benchmark-json=FILE`` has GFLOP/s and gradient errors as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cases import ENGINES, TRAINING, floor_table
from pytest_benchmark.fixture import BenchmarkFixture

from fastnn.bench.numpy_peer import NumpyPeer
from fastnn.bench.workloads import WORKLOADS, Workload, agreement, reference

_SHORT = 1e9  # an epoch of fewer FLOPs is timed ten times in one fit


def data(workload: Workload, benchmark: BenchmarkFixture) -> tuple[np.ndarray, np.ndarray]:
    """All rows; two steps of them where nothing is timed."""
    X, y = workload.data()
    rows = slice(2 * workload.batch_size if benchmark.disabled else None)
    return X[rows], y[rows]


def time_fit(
    benchmark: BenchmarkFixture, workload: Workload, fit: Callable[[int], float], error: float
) -> None:
    """Time ``fit(epochs)``, which returns a loss, and note what follows from it."""
    epochs = 10 if workload.epoch_flops < _SHORT and not benchmark.disabled else 1
    benchmark.group = f"{workload.name} {workload.dtype}"
    loss = benchmark.pedantic(fit, (epochs,), rounds=3, warmup_rounds=1)
    assert math.isfinite(loss)
    benchmark.extra_info["gradient_error"] = error
    if not benchmark.disabled:
        seconds = benchmark.stats.stats.min / epochs
        benchmark.extra_info["us_per_step"] = seconds / workload.steps * 1e6
        benchmark.extra_info["samples_per_second"] = workload.rows / seconds
        benchmark.extra_info["gflops"] = workload.epoch_flops / seconds / 1e9


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("workload", TRAINING, ids=lambda w: f"{w.name}-{w.dtype}")
def test_fit(workload: Workload, engine: str, benchmark: BenchmarkFixture) -> None:
    rows = reference(workload)
    model = workload.model(engine)
    gradient = model.loss_and_gradient(rows.X, rows.y, loss=workload.loss)[1]
    error = agreement(workload, gradient, engine)
    X, y = data(workload, benchmark)

    def fit(epochs: int) -> float:
        history = model.fit(
            X,
            y,
            loss=workload.loss,
            optimizer=workload.optimizer,
            epochs=epochs,
            batch_size=workload.batch_size,
            threads=1,
        )
        return history["loss"][-1]

    time_fit(benchmark, workload, fit, error)


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_numpy_loop(workload: Workload, benchmark: BenchmarkFixture) -> None:
    """The loop that ``fastnn bench`` compares with; BLAS takes the threads that it likes."""
    rows = reference(workload)
    peer = NumpyPeer(workload)
    error = agreement(workload, peer.gradient(rows.X, rows.y)[1], "the NumPy loop")
    X, y = data(workload, benchmark)
    time_fit(benchmark, workload, lambda epochs: peer.fit(X, y, epochs), error)


def test_the_floors_in_the_documents() -> None:
    page = Path(__file__).parents[1] / "docs" / "performance.md"
    assert floor_table() in page.read_text(encoding="utf-8")
