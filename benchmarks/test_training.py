"""Whole fits: the gradient must agree with the float64 reference, then they are timed.

One thread each. ``python -m pytest benchmarks/test_training.py -k "tabular and float32"``;
``--benchmark-json=FILE`` has GFLOP/s and gradient errors as well.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from cases import ENGINES, TRAINING, floor_table
from pytest_benchmark.fixture import BenchmarkFixture

from fastnn.bench.numpy_peer import NumpyPeer
from fastnn.bench.workloads import WORKLOADS, Workload, agreement

_SHORT = 1e9  # an epoch of fewer FLOPs is timed ten times in one fit


def time_fit(benchmark: BenchmarkFixture, workload: Workload, fit: Any, gradient: Any) -> None:
    """Check ``gradient(X, y)``, time ``fit(X, y, epochs)``, which returns a loss, and note it.

    Where nothing is timed two steps are enough.
    """
    benchmark.extra_info["gradient_error"] = agreement(workload, gradient, "it")
    rows = slice(2 * workload.batch_size if benchmark.disabled else None)
    X, y = (array[rows] for array in workload.data())
    epochs = 10 if workload.epoch_flops < _SHORT and not benchmark.disabled else 1
    benchmark.group = f"{workload.name} {workload.dtype}"
    assert math.isfinite(benchmark.pedantic(fit, (X, y, epochs), rounds=3, warmup_rounds=1))
    if not benchmark.disabled:
        seconds = benchmark.stats.stats.min / epochs
        benchmark.extra_info["us_per_step"] = seconds / workload.steps * 1e6
        benchmark.extra_info["samples_per_second"] = workload.rows / seconds
        benchmark.extra_info["gflops"] = workload.epoch_flops / seconds / 1e9


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("workload", TRAINING, ids=lambda w: f"{w.name}-{w.dtype}")
def test_fit(workload: Workload, engine: str, benchmark: BenchmarkFixture) -> None:
    model, options = workload.model(engine), workload.recipe | {"threads": 1}
    time_fit(
        benchmark,
        workload,
        lambda X, y, epochs: model.fit(X, y, epochs=epochs, **options)["loss"][-1],
        lambda X, y: model.loss_and_gradient(X, y, workload.loss)[1],
    )


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_numpy_loop(workload: Workload, benchmark: BenchmarkFixture) -> None:
    """The loop that ``fastnn bench`` compares with; BLAS takes the threads that it likes."""
    peer = NumpyPeer(workload)
    time_fit(benchmark, workload, peer.fit, peer.gradient)


def test_the_floors_in_the_documents() -> None:
    page = Path(__file__).parents[1] / "docs" / "performance.md"
    assert floor_table() in page.read_text(encoding="utf-8")
