"""The choice between one thread and all, on machines whose speed is known."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, ModuleType

import numpy as np
import pytest
from fastnn.kernels.pace import LONGEST, Pace
from networks import OPTIMIZERS

from fastnn.kernels.contract import LayerSpec, LossSpec

BATCH = 10


def run(
    pace: Pace, seconds_of_step: Callable[[int, float], float], until: float
) -> dict[int, float]:
    """Train for so many seconds; the share of it that each number of threads had."""
    now, share = 0.0, {1: 0.0, 2: 0.0}
    while now < until:
        threads, steps = pace.next_part()
        assert steps >= 1
        seconds = steps * seconds_of_step(threads, now)
        pace.observe(steps * BATCH, seconds)
        share[threads] += seconds
        now += seconds
    return {threads: seconds / now for threads, seconds in share.items()}


def test_free_processors() -> None:
    pace = Pace(2, BATCH)
    assert run(pace, lambda threads, now: 1e-3 / threads, 10.0)[1] < 0.02
    assert pace.best == 2


def test_a_busy_processor() -> None:
    pace = Pace(2, BATCH)
    assert run(pace, lambda threads, now: 1e-3 if threads == 1 else 4e-3, 10.0)[2] < 0.08
    assert pace.best == 1


def test_a_processor_that_becomes_busy_and_free_again() -> None:
    pace = Pace(2, BATCH)

    def step(threads: int, now: float) -> float:
        return 1e-3 if threads == 1 else 5e-3 if 3 < now else 0.6e-3

    run(pace, step, 2.5)
    assert pace.best == 2
    run(pace, lambda threads, now: step(threads, 2.5 + now), 3.0)
    assert pace.best == 1
    run(pace, lambda threads, now: step(threads, 0.0), 3 * LONGEST)
    assert pace.best == 2


def test_long_steps_are_never_tried_on_one_thread() -> None:
    pace = Pace(2, BATCH)
    assert run(pace, lambda threads, now: 0.1 / threads, 5.0) == {1: 0.0, 2: 1.0}


def test_a_clock_that_stands_still() -> None:
    pace = Pace(2, BATCH)
    for _ in range(100):
        pace.next_part()
        pace.observe(BATCH, 0.0)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_result_does_not_depend_on_it(
    compiled: ModuleType, dtype: np.dtype, shuffle: bool
) -> None:
    """A network whose epochs are cut into parts ends where one in a piece ends."""
    layers = (LayerSpec(7, 33, "tanh", True), LayerSpec(33, 3, "softmax", True, dropout=0.2))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5003, 7)).astype(dtype), rng.integers(3, size=5003)
    rates = np.linspace(1e-2, 1e-3, -(-len(X) // 16))
    found = []
    for threads, exactly in ((1, True), (2, True), (2, False)):
        network = compiled.Network(layers, dtype)
        network.set_parameters(np.random.default_rng(1).normal(size=network.size).astype(dtype))
        loss = LossSpec("cross_entropy", fused=True)
        with network.trainer(loss, OPTIMIZERS["adam"], 16, 3, threads, exactly) as trainer:
            losses = [trainer.epoch(X, y, None, epoch, rates, shuffle) for epoch in range(3)]
        assert trainer.steps == network.get_state()[0] == 3 * len(rates)
        found.append((losses, network.get_parameters()))
    (losses_of_one, one), (losses_of_two, two), (losses_of_parts, parts) = found
    assert (one == two).all()
    assert (one == parts).all()
    assert losses_of_one == losses_of_two == losses_of_parts


def test_an_interrupt_leaves_a_whole_step(compiled: ModuleType) -> None:
    """Wherever it comes, within a part or between two: as many steps as were counted."""
    layers = (LayerSpec(64, 48, "tanh", True), LayerSpec(48, 3, "softmax", True))
    loss, batch = LossSpec("cross_entropy", fused=True), 16
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(100_000, 64)).astype(np.float32), rng.integers(3, size=100_000)
    rates = np.full(-(-len(X) // batch), 1e-3)

    def trained(rows: int, interrupt: float, *threads: int | bool) -> tuple[int, np.ndarray]:
        network = compiled.Network(layers, np.float32)
        start = np.random.default_rng(3).normal(0, 0.1, network.size)
        network.set_parameters(start.astype(np.float32))
        with network.trainer(loss, OPTIMIZERS["adam"], batch, 0, *threads) as trainer:
            try:
                signal.setitimer(signal.ITIMER_REAL, interrupt)
                trainer.epoch(X[:rows], y[:rows], None, 0, rates, False)
            except KeyboardInterrupt:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        assert trainer.steps == network.get_state()[0]
        return trainer.steps, network.get_parameters()

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for seconds in (0.002, 0.007, 0.015):
            steps, found = trained(len(X), seconds, 2, False)
            assert (found == trained(min(steps * batch, len(X)), 0)[1]).all()
    finally:
        signal.signal(signal.SIGALRM, before)
