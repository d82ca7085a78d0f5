"""Schedules: their rates against formulas written step by step, and their way into a fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fastnn import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Constant,
    CosineDecay,
    Dense,
    ExponentialDecay,
    OneCycle,
    ReduceOnPlateau,
    RMSprop,
    Sequential,
    StepDecay,
    WarmUp,
)
from fastnn.schedules import Schedule

STEPS, EPOCHS = 4, 6  # steps per epoch, epochs of the fit
TOTAL = STEPS * EPOCHS


def one_cycle(s: int) -> float:
    """PyTorch's OneCycleLR(max_lr=1, total_steps=24): div_factor 25, final_div_factor 1e4."""
    peak, last = 0.3 * TOTAL - 1, TOTAL - 1
    if s <= peak:
        start, end, fraction = 1 / 25, 1.0, s / peak
    else:
        start, end, fraction = 1.0, 1 / 25 / 1e4, (s - peak) / (last - peak)
    return end + (start - end) / 2 * (1 + math.cos(math.pi * fraction))


CASES: dict[str, tuple[Schedule, Callable[[int], float]]] = {
    "constant": (Constant(0.3), lambda s: 0.3),
    "step": (StepDecay(0.8, every=2, factor=0.5), lambda s: 0.8 * 0.5 ** (s // (2 * STEPS))),
    "exponential": (ExponentialDecay(0.8, 0.7), lambda s: 0.8 * 0.7 ** (s / STEPS)),
    "cosine": (
        CosineDecay(0.8, final=0.1),
        lambda s: 0.1 + 0.35 * (1 + math.cos(math.pi * s / TOTAL)),
    ),
    "short cosine": (
        CosineDecay(0.8, epochs=2.5),
        lambda s: 0.4 * (1 + math.cos(math.pi * min(s / 10, 1))),
    ),
    "one cycle": (OneCycle(1.0), one_cycle),
    "warm-up": (WarmUp(0.6, epochs=1.5), lambda s: 0.6 * min((s + 1) / 6, 1)),
    "warm-up from a half": (
        WarmUp(0.6, epochs=2, start_factor=0.5),
        lambda s: 0.6 * (0.5 + 0.5 * min((s + 1) / 8, 1)),
    ),
    "warm-up, then cosine": (
        WarmUp(CosineDecay(0.8), epochs=2),
        lambda s: (
            0.8 * (s + 1) / 8 if s < 8 else 0.4 * (1 + math.cos(math.pi * (s - 8) / (TOTAL - 8)))
        ),
    ),
    "plateau before any": (ReduceOnPlateau(StepDecay(1.0, every=1)), lambda s: 0.1 ** (s // STEPS)),
}


@pytest.mark.parametrize("case", CASES)
def test_rates_follow_the_formula(case: str) -> None:
    schedule, formula = CASES[case]
    rates = [schedule.rates(epoch, STEPS, EPOCHS) for epoch in range(EPOCHS)]
    assert all(r.dtype == np.float64 and r.shape == (STEPS,) for r in rates)
    expected = [formula(s) for s in range(TOTAL)]
    # A cosine near its end loses a few units in the last place of 1.
    np.testing.assert_allclose(np.concatenate(rates), expected, rtol=1e-13, atol=1e-15)


def test_one_cycle_ends_where_it_should() -> None:
    rates = OneCycle(2.0, warm_up=0.25, start_factor=0.1, final_factor=0.01).rates(0, 101, 1)
    assert rates[0] == pytest.approx(0.2, rel=1e-12)
    assert rates.max() == pytest.approx(2.0, rel=1e-3)  # the peak lies between two steps
    assert rates[-1] == pytest.approx(0.002, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_schedules_survive_very_short_fits(steps: int) -> None:
    for schedule, _ in CASES.values():
        rates = schedule.rates(0, steps, 1)
        assert np.isfinite(rates).all()
        assert (rates >= 0).all()


def model_and_data(engine_name: str) -> tuple[Sequential, np.ndarray, np.ndarray]:
    model = Sequential(
        [Dense(4, activation="tanh"), Dense(1)],
        input_size=2,
        dtype="float64",
        seed=1,
        engine=engine_name,
    )
    generator = np.random.default_rng(1)
    return model, generator.normal(size=(15, 2)), generator.normal(size=(15, 1))


@pytest.mark.parametrize("kind", [SGD, RMSprop, Adagrad, Adam, AdamW])
def test_every_optimizer_takes_a_schedule(engine_name: str, kind: type) -> None:
    schedule = WarmUp(CosineDecay(0.05), epochs=1)
    scheduled, X, Y = model_and_data(engine_name)
    history = scheduled.fit(X, Y, "mse", kind(schedule), epochs=3, batch_size=4, shuffle=False)
    by_hand, _, _ = model_and_data(engine_name)
    optimizer = kind()
    for epoch in range(3):
        rates = schedule.rates(epoch, 4, 3)
        assert history["learning_rate"][epoch] == rates[-1]
        for k, rate in enumerate(rates):
            rows = slice(4 * k, 4 * k + 4)
            rule = replace(optimizer, learning_rate=float(rate))
            by_hand.train_on_batch(X[rows], Y[rows], "mse", rule)
    # The same updates; only sums may be grouped otherwise.
    np.testing.assert_allclose(scheduled.parameters, by_hand.parameters, rtol=1e-12, atol=1e-14)


def test_train_on_batch_counts_an_update_as_an_epoch(engine_name: str) -> None:
    scheduled, X, Y = model_and_data(engine_name)
    by_hand, _, _ = model_and_data(engine_name)
    optimizer = SGD(StepDecay(0.1, every=2, factor=0.5))
    for k in range(8):
        loss = ("mse", "mae")[k // 3 % 2]  # another loss goes on with it
        scheduled.train_on_batch(X, Y, loss, optimizer)
        by_hand.train_on_batch(X, Y, loss, SGD(0.1 * 0.5 ** (k // 2)))
    assert np.array_equal(scheduled.parameters, by_hand.parameters)


@pytest.mark.parametrize("validated", [False, True])
def test_plateau_reduces_after_patience(engine_name: str, validated: bool) -> None:
    """Zero inputs without a bias: no gradient, so the loss stays where it is."""
    model = Sequential([Dense(1, use_bias=False)], input_size=1, engine=engine_name)
    X, Y = np.zeros((4, 1)), np.ones((4, 1))
    optimizer = SGD(ReduceOnPlateau(1.0, factor=0.5, patience=2, min_rate=0.2))
    history = model.fit(
        X, Y, "mse", optimizer, epochs=12, validation_data=(X, Y) if validated else None
    )
    assert history["learning_rate"] == [1.0] * 4 + [0.5] * 3 + [0.25] * 3 + [0.2] * 2
    again = model.fit(X, Y, "mse", optimizer, epochs=1, resume=True)
    assert again["learning_rate"] == [1.0]  # the state of a plateau is the fit's


def test_plateau_leaves_a_falling_loss_alone(engine_name: str) -> None:
    model, X, Y = model_and_data(engine_name)
    history = model.fit(X, Y, "mse", SGD(ReduceOnPlateau(0.01, patience=0)), epochs=5)
    assert history["learning_rate"] == [0.01] * 5


def test_plateau_watches_the_validation_loss(engine_name: str) -> None:
    """The training loss falls, the validation loss rises."""
    model = Sequential([Dense(1)], input_size=1, dtype="float64", engine=engine_name)
    model.parameters = [0.0, 0.0]
    history = model.fit(
        [[1.0]],
        [[1.0]],
        "mse",
        SGD(ReduceOnPlateau(0.1, factor=0.5, patience=0)),
        epochs=3,
        validation_data=([[1.0]], [[-1.0]]),
    )
    assert history["learning_rate"] == [0.1, 0.1, 0.05]


def test_a_schedule_of_the_users_own(engine_name: str) -> None:
    @dataclass(frozen=True)
    class Halving(Schedule):
        start: float

        def at(self, step: np.ndarray, steps_per_epoch: int, total_steps: int) -> np.ndarray:
            return self.start / 2.0**step

    model, X, Y = model_and_data(engine_name)
    history = model.fit(X, Y, "mse", SGD(Halving(0.5)), epochs=2, batch_size=5)
    assert history["learning_rate"] == [0.5 / 4, 0.5 / 32]


def test_a_wrong_schedule_of_the_users_own_is_named(engine_name: str) -> None:
    class Wrong(Schedule):
        def at(self, step: np.ndarray, steps_per_epoch: int, total_steps: int) -> np.ndarray:
            return np.full(len(step), np.nan)

    model, X, Y = model_and_data(engine_name)
    before = model.parameters
    with pytest.raises(ValueError, match="must give 3 finite rates"):
        model.fit(X, Y, "mse", SGD(Wrong()), batch_size=5)
    assert np.array_equal(model.parameters, before)
