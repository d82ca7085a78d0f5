"""The number of threads, and of rows per call, changes no bit of any result.

Nor does an interrupt leave half a step, whatever the number of threads.
"""

from __future__ import annotations

import _thread
import signal
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastnn.kernels import contract
from fastnn.kernels.contract import LossSpec
from networks import OPTIMIZERS, Case, random_case, seeds


def trained(
    case: Case, engine: ModuleType, dtype: np.dtype, *threads: Any, shuffle: bool = True
) -> list[Any]:
    """Everything that two epochs and a step of training lead to."""
    network, data = case.network(engine, dtype), case.data(dtype)
    rates = np.full(case.steps, 1e-3)
    with case.trainer(network, *threads) as trainer:
        losses = [trainer.epoch(*data, epoch, rates, shuffle) for epoch in range(2)]
        losses.append(trainer.step(*data, 1e-3))
        losses.append(trainer.evaluate(*data))
        value, gradient = trainer.gradient(*data)
        assert trainer.steps == network.get_state()[0] == 2 * case.steps + 1
    return [network.get_parameters(), *network.get_state()[1], gradient, losses, value]


def assert_same_bits(have: list[Any], want: list[Any]) -> None:
    for a, b in zip(have, want, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("seed", seeds())
def test_training(compiled: ModuleType, dtype: np.dtype, seed: int) -> None:
    """One to four threads, up to 700 rows in batches of any size, every option."""
    case = random_case(seed)
    alone = trained(case, compiled, dtype, 1)
    assert np.isfinite(alone[0]).all()
    for threads in (2, 3, 4):
        assert_same_bits(trained(case, compiled, dtype, threads), alone)


@pytest.mark.parametrize("shuffle", [True, False])
def test_threads_that_an_epoch_chooses(
    compiled: ModuleType, dtype: np.dtype, shuffle: bool
) -> None:
    """A network whose epochs are cut into parts ends where one in a piece ends."""
    case = random_case(63)
    assert {spec.kind for spec in case.layers if spec.dropout} == {"layer_norm", "dense"}
    case = case.rows(np.resize(np.arange(len(case.X)), 5003), 16)
    wanted = trained(case, compiled, dtype, 1, True, shuffle=shuffle)
    for threads in [(2, True), (2, False)]:
        assert_same_bits(trained(case, compiled, dtype, *threads, shuffle=shuffle), wanted)


def test_threads_are_started(
    compiled: ModuleType, dtype: np.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, started, start = random_case(0), [], _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", lambda *how: started.append(start(*how)))
    with case.trainer(case.network(compiled, dtype), 3) as trainer:
        trainer.evaluate(*case.data(dtype))
    assert len(started) == 2


@pytest.mark.parametrize("seed", seeds(26))
def test_predict(compiled: ModuleType, dtype: np.dtype, seed: int) -> None:
    """A row's output is the same alone, among others, and on any number of threads."""
    case = random_case(seed)
    network = case.network(compiled, dtype)
    # enough rows for every thread to have several pieces
    X = np.resize(case.data(dtype)[0], (5000 if seed % 10 == 0 else 300, case.layers[0].inputs))
    whole = network.predict(X)
    for threads in (2, 3, 4):
        assert network.predict(X, threads).tobytes() == whole.tobytes()
    for rows in (1, 2, 7, 16, 17, 64, 100, 1234):
        parts = [network.predict(X[i : i + rows]) for i in range(0, 1300, rows) if len(X[i:])]
        assert np.concatenate(parts).tobytes() == whole[: sum(map(len, parts))].tobytes()


@pytest.mark.parametrize("threads", [(1, True), (2, True), (2, False)])
def test_an_interrupt_leaves_whole_steps(engine: ModuleType, threads: tuple[int, bool]) -> None:
    """A signal in the middle of an epoch: the network is as after the steps it counts.

    The epoch is one of very many steps, of which some are done when the signal comes, within
    a part of the epoch or between two; repeating just those must lead to the same bits.
    """
    rng = np.random.default_rng(0)
    layers = (contract.dense(4, 40, "relu"), contract.dense(40, 1))
    start = rng.normal(0, 0.3, contract.size(layers)).astype(np.float32)
    X = rng.normal(size=(1_000_000, 4)).astype(np.float32)
    target, rates = X[:, :1].copy(), np.full(len(X), 1e-3)

    def run(rows: int, seconds: float = 0) -> tuple[int, list[Any]]:
        network = engine.Network(layers, np.dtype("float32"))
        network.set_parameters(start)
        with network.trainer(LossSpec("mse"), OPTIMIZERS["adam"], 1, 0, *threads) as trainer:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                trainer.epoch(X[:rows], target[:rows], None, 0, rates[:rows], False)
            except KeyboardInterrupt:
                assert 0 < trainer.steps < rows
        assert network.get_state()[0] == trainer.steps
        return trainer.steps, [network.get_parameters(), *network.get_state()[1]]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    run(2)  # the first time, an engine may compile
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for seconds in (0.007, 0.015, 0.05):
            steps, interrupted = run(len(X), seconds)
            assert steps < len(X)
            assert_same_bits(interrupted, run(steps)[1])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
