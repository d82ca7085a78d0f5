"""Optimizers: 20-step trajectories against scalar rules written out here, resuming, L-BFGS.

The rules below are a second, independent transcription of PyTorch's documentation in plain
Python floats, one parameter at a time.
"""
# ruff: noqa: F403, F405

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from fastnn import *
from fastnn.optimizers import OPTIMIZERS, resolve

STEPS = 20

OPTIMIZER_CASES = {
    "sgd": SGD(0.1),
    "sgd decay": SGD(0.1, weight_decay=0.05),
    "momentum": SGD(0.05, momentum=0.9, weight_decay=0.02),
    "nesterov": SGD(0.05, momentum=0.8, nesterov=True, l2=0.03),
    "rmsprop": RMSprop(0.02),
    "rmsprop momentum": RMSprop(0.02, rho=0.9, epsilon=1e-6, momentum=0.5, weight_decay=0.01),
    "adagrad": Adagrad(0.1, weight_decay=0.01),
    "adam": Adam(0.05),
    "adam options": Adam(0.05, 0.8, 0.95, 1e-5, weight_decay=0.02, l2=0.01),
    "adamw": AdamW(0.05),
    "adamw options": AdamW(0.05, weight_decay=0.2, l2=0.02, clip_norm=0.5),
    "nadam": NAdam(0.05),
    "nadam options": NAdam(0.05, 0.8, 0.95, 1e-5, 0.1, weight_decay=0.02),
    "lion": Lion(0.01),
    "lion options": Lion(0.02, 0.8, 0.95, weight_decay=0.2, l2=0.03),
    "clipped": SGD(0.1, momentum=0.5, weight_decay=0.1, l2=0.1, clip_norm=0.3),
    "scheduled": Adam(ExponentialDecay(0.1, 0.9)),
}


State = dict[str, float]  # moments, and "t" and "rate" of the step


def sgd(p: float, g: float, s: State, o: Any) -> float:
    g += o.weight_decay * p
    if o.momentum == 0:
        return p - s["rate"] * g
    s["b"] = g if s["t"] == 1 else o.momentum * s["b"] + g
    return p - s["rate"] * (g + o.momentum * s["b"] if o.nesterov else s["b"])


def rmsprop(p: float, g: float, s: State, o: Any) -> float:
    g += o.weight_decay * p
    s["v"] = o.rho * s.get("v", 0.0) + (1 - o.rho) * g * g
    change = g / (math.sqrt(s["v"]) + o.epsilon)
    if o.momentum > 0:
        change = s["b"] = o.momentum * s.get("b", 0.0) + change
    return p - s["rate"] * change


def adagrad(p: float, g: float, s: State, o: Any) -> float:
    g += o.weight_decay * p
    s["sum"] = s.get("sum", 0.0) + g * g
    return p - s["rate"] * g / (math.sqrt(s["sum"]) + o.epsilon)


def adam(p: float, g: float, s: State, o: Any) -> float:
    if isinstance(o, AdamW):
        p -= s["rate"] * o.weight_decay * p
    else:
        g += o.weight_decay * p
    s["m"] = o.beta_1 * s.get("m", 0.0) + (1 - o.beta_1) * g
    s["v"] = o.beta_2 * s.get("v", 0.0) + (1 - o.beta_2) * g * g
    m_hat = s["m"] / (1 - o.beta_1 ** s["t"])
    return p - s["rate"] * m_hat / (math.sqrt(s["v"] / (1 - o.beta_2 ** s["t"])) + o.epsilon)


def nadam(p: float, g: float, s: State, o: Any) -> float:
    g += o.weight_decay * p
    s["m"] = o.beta_1 * s.get("m", 0.0) + (1 - o.beta_1) * g
    s["v"] = o.beta_2 * s.get("v", 0.0) + (1 - o.beta_2) * g * g
    steps = s["t"], s["t"] + 1
    mu, following = (o.beta_1 * (1 - 0.96 ** (t * o.momentum_decay) / 2) for t in steps)
    s["product"] = s.get("product", 1.0) * mu
    m_hat = following * s["m"] / (1 - s["product"] * following) + (1 - mu) * g / (1 - s["product"])
    return p - s["rate"] * m_hat / (math.sqrt(s["v"] / (1 - o.beta_2 ** s["t"])) + o.epsilon)


def lion(p: float, g: float, s: State, o: Any) -> float:
    p -= s["rate"] * o.weight_decay * p
    direction = o.beta_1 * s.get("m", 0.0) + (1 - o.beta_1) * g
    s["m"] = o.beta_2 * s.get("m", 0.0) + (1 - o.beta_2) * g
    return p - s["rate"] * math.copysign(1.0, direction)


RULES: dict[type, Callable[..., float]] = {
    **{SGD: sgd, RMSprop: rmsprop, Adagrad: adagrad, Adam: adam, AdamW: adam, NAdam: nadam},
    Lion: lion,
}

X = np.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0], [0.1, 0.9]])
Y = np.array([[1.0], [-0.5], [2.0], [0.3]])


def linear_gradient(parameters: list[float]) -> list[float]:
    """Of the mean of (w0 x0 + w1 x1 + b - y)² over the four rows."""
    w0, w1, b = parameters
    errors = [w0 * x0 + w1 * x1 + b - y for (x0, x1), (y,) in zip(X, Y, strict=True)]
    rows = [(2 * e * x0, 2 * e * x1, 2 * e) for e, (x0, x1) in zip(errors, X, strict=True)]
    return [sum(column) / 4 for column in zip(*rows, strict=True)]


def trajectory(optimizer: Any, start: list[float]) -> list[list[float]]:
    """The parameters after each of 20 steps by the scalar rules."""
    states: list[State] = [{}, {}, {}]
    parameters, path = list(start), []
    for t in range(1, STEPS + 1):
        rate = optimizer.learning_rate
        if isinstance(rate, ExponentialDecay):
            rate = rate.learning_rate * rate.factor ** (t - 1)
        g = linear_gradient(parameters)
        g = [g[0] + optimizer.l2 * parameters[0], g[1] + optimizer.l2 * parameters[1], g[2]]
        if optimizer.clip_norm is not None:
            norm = math.sqrt(sum(x * x for x in g))
            g = [x * min(1.0, optimizer.clip_norm / (norm + 1e-6)) for x in g]
        for state in states:
            state |= {"t": t, "rate": rate}
        rule, triples = RULES[type(optimizer)], zip(parameters, g, states, strict=True)
        parameters = [rule(p, x, s, optimizer) for p, x, s in triples]
        path.append(parameters)
    return path


def linear_model(engine_name: str) -> Sequential:
    model = Sequential([Dense(1)], input_size=2, dtype="float64", seed=3, engine=engine_name)
    model.parameters = [0.3, -0.8, 0.1]
    return model


@pytest.mark.parametrize("case", OPTIMIZER_CASES)
def test_twenty_steps_follow_the_scalar_rule(engine_name: str, case: str) -> None:
    optimizer = OPTIMIZER_CASES[case]
    expected = trajectory(optimizer, [0.3, -0.8, 0.1])
    stepped, fitted = linear_model(engine_name), linear_model(engine_name)
    for position in expected:
        stepped.train_on_batch(X, Y, "mse", optimizer)
        # 20 steps of a few roundings each, on numbers of order 1.
        np.testing.assert_allclose(stepped.parameters, position, rtol=1e-12, atol=1e-13)
    fitted.fit(X, Y, "mse", optimizer, epochs=STEPS, batch_size=None, shuffle=False)
    np.testing.assert_allclose(fitted.parameters, expected[-1], rtol=1e-12, atol=1e-13)


def test_every_optimizer_has_a_trajectory() -> None:
    assert {type(o) for o in OPTIMIZER_CASES.values()} == set(OPTIMIZERS.values()) - {LBFGS}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_name_is_the_default_object(name: str) -> None:
    assert resolve(name) == OPTIMIZERS[name]()


def test_descriptions_are_immutable_values() -> None:
    optimizer = Adam(1e-2)
    with pytest.raises(FrozenInstanceError):
        optimizer.learning_rate = 1.0  # type: ignore[misc]
    assert optimizer == Adam(0.01)
    assert hash(optimizer) == hash(Adam(0.01))
    assert replace(optimizer, l2=0.1) != optimizer


def test_defaults_are_those_of_pytorch() -> None:
    assert SGD() == SGD(1e-3, 0.0, False, weight_decay=0.0)
    assert RMSprop() == RMSprop(1e-2, 0.99, 1e-8, 0.0, weight_decay=0.0)
    assert Adagrad() == Adagrad(1e-2, 1e-10, weight_decay=0.0)
    assert Adam() == Adam(1e-3, 0.9, 0.999, 1e-8, weight_decay=0.0)
    assert NAdam() == NAdam(2e-3, 0.9, 0.999, 1e-8, 4e-3, weight_decay=0.0)
    assert Lion() == Lion(1e-4, 0.9, 0.99, weight_decay=0.0)  # its paper's
    assert AdamW() == AdamW(1e-3, 0.9, 0.999, 1e-8, weight_decay=1e-2)


def network(engine_name: str, **options: Any) -> Sequential:
    layers = [Dense(7, activation="tanh"), Dropout(0.25), Dense(2)]
    return Sequential(layers, input_size=3, dtype="float64", seed=5, engine=engine_name, **options)


GENERATOR = np.random.default_rng(0)
XY = GENERATOR.normal(size=(40, 3)), GENERATOR.normal(size=(40, 2))


@pytest.mark.parametrize("case", OPTIMIZER_CASES)
def test_a_resumed_fit_is_one_long_fit(engine_name: str, case: str) -> None:
    optimizer = OPTIMIZER_CASES[case]
    whole, parts = network(engine_name), network(engine_name)
    history = whole.fit(*XY, "mse", optimizer, epochs=6, batch_size=5)
    first = parts.fit(*XY, "mse", optimizer, epochs=2, batch_size=5)
    second = parts.fit(*XY, "mse", optimizer, epochs=4, batch_size=5, resume=True)
    assert np.array_equal(whole.parameters, parts.parameters)
    assert history["loss"] == first["loss"] + second["loss"]
    assert second.epoch == [2, 3, 4, 5]


def test_a_fit_starts_afresh_unless_resumed(engine_name: str) -> None:
    model = network(engine_name)
    start = model.parameters
    model.fit(*XY, "mse", "adam", epochs=2)
    once = model.parameters
    model.parameters = start
    model.fit(*XY, "mse", "adam", epochs=2)
    assert np.array_equal(model.parameters, once)
    model.parameters = start
    model.fit(*XY, "mse", "adam", epochs=2, resume=True)
    assert not np.array_equal(model.parameters, once)


def test_another_kind_of_optimizer_starts_afresh(engine_name: str) -> None:
    switched, fresh = network(engine_name), network(engine_name)
    switched.fit(*XY, "mse", Adam(0.01), epochs=2)
    fresh.parameters = switched.parameters
    rule = RMSprop(0.01, momentum=0.5)  # as many moments as Adam has
    for _ in range(2):
        losses = [model.train_on_batch(*XY, "mse", rule) for model in (switched, fresh)]
        assert losses[0] == losses[1]
    assert np.array_equal(switched.parameters, fresh.parameters)
    assert switched.optimizer_state()[0] == 2  # type: ignore[index]


def test_a_new_rate_keeps_the_state(engine_name: str) -> None:
    model = network(engine_name)
    model.train_on_batch(*XY, "mse", Adam(0.01))
    model.train_on_batch(*XY, "mse", Adam(0.001))
    model.train_on_batch(*XY, "mae", Adam(0.001, beta_1=0.8))
    step, moments, _ = model.optimizer_state()  # type: ignore[misc]
    assert step == 3
    assert [m.shape for m in moments] == [(model.size,)] * 2


def test_evaluation_between_updates_changes_nothing(engine_name: str) -> None:
    quiet, busy = network(engine_name), network(engine_name)
    optimizer = Adam(0.01)
    for _ in range(5):
        quiet.train_on_batch(*XY, "mse", optimizer)
        busy.train_on_batch(*XY, "mse", optimizer)
        busy.evaluate(*XY, "mae")
        busy.loss_and_gradient(*XY, "huber")
        busy.predict(XY[0])
        busy.input_gradient(XY[0])
    assert np.array_equal(quiet.parameters, busy.parameters)


def test_optimizer_state_can_be_taken_and_put_back(engine_name: str) -> None:
    source, copy = network(engine_name), network(engine_name)
    assert source.optimizer_state() is None
    source.fit(*XY, "mse", Adam(0.01), epochs=3)
    copy.parameters = source.parameters
    copy.set_optimizer_state(source.optimizer_state())
    for model in (source, copy):
        model.fit(*XY, "mse", Adam(0.01), epochs=2, resume=True)
    assert np.array_equal(source.parameters, copy.parameters)
    copy.set_optimizer_state(None)
    assert copy.optimizer_state() is None


def test_lbfgs_finds_least_squares(engine_name: str) -> None:
    model = Sequential([Dense(2)], dtype="float64", seed=0, engine=engine_name)
    optimizer = LBFGS(gradient_tolerance=1e-10, loss_tolerance=0)
    history = model.fit(*XY, "mse", optimizer, epochs=200)
    exact = np.linalg.lstsq(np.c_[XY[0], np.ones(40)], XY[1], rcond=None)[0]
    # The gradient is below 1e-10, and the Hessian's eigenvalues are of order 1.
    np.testing.assert_allclose(model.parameters.reshape(4, 2), exact, atol=1e-8)
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert len(history["loss"]) < 200
    assert set(history) == {"loss"}
    assert history["loss"][-1] == model.evaluate(*XY, "mse")


class Recorder(Callback):
    """Keeps the parameters at each epoch's end; stops after ``last``."""

    def __init__(self, last: int = 10**9, error: BaseException | None = None) -> None:
        self.last, self.error = last, error
        self.begun: list[int] = []
        self.seen: list[np.ndarray] = []

    def on_epoch_begin(self, epoch: int, logs: Any) -> None:
        self.begun.append(epoch)

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.seen.append(self.model.parameters)
        if epoch >= self.last:
            if self.error is not None:
                raise self.error
            self.model.stop_training = True


def curved(engine_name: str) -> Sequential:
    layers = [Dense(6, activation="tanh"), Dense(2)]
    return Sequential(layers, input_size=3, dtype="float64", seed=2, engine=engine_name)


def test_lbfgs_epochs_are_iterations_with_callbacks(engine_name: str) -> None:
    model, recorder = curved(engine_name), Recorder()
    history = model.fit(*XY, "mse", LBFGS(), epochs=7, callbacks=[recorder])
    assert history.epoch == recorder.begun == list(range(7))
    assert np.array_equal(model.parameters, recorder.seen[-1])
    assert history["loss"][-1] == model.evaluate(*XY, "mse")
    more = model.fit(*XY, "mse", LBFGS(), epochs=2, resume=True)
    assert more.epoch == [7, 8]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ZeroDivisionError()])
def test_lbfgs_ends_at_an_iterate(engine_name: str, error: BaseException | None) -> None:
    model, recorder = curved(engine_name), Recorder(last=3, error=error)
    if error is None:
        model.fit(*XY, "mse", LBFGS(), epochs=50, callbacks=[recorder])
    else:
        with pytest.raises(type(error)):
            model.fit(*XY, "mse", LBFGS(), epochs=50, callbacks=[recorder])
    assert len(recorder.seen) == 4
    assert np.array_equal(model.parameters, recorder.seen[-1])
    assert model.history is not None
    assert len(model.history["loss"]) == 4
    model.fit(*XY, "mse", "sgd", epochs=1)


def test_lbfgs_at_an_optimum_makes_no_epoch(engine_name: str) -> None:
    model = Sequential([Dense(1)], input_size=1, dtype="float64", engine=engine_name)
    model.parameters = [2.0, 1.0]
    history = model.fit([[0.0], [1.0]], [1.0, 3.0], "mse", LBFGS(), epochs=5)
    assert history["loss"] == []
    assert model.parameters.tolist() == [2.0, 1.0]


@pytest.mark.parametrize("engine_name", ["cython", "numba", "numpy"])
def test_clipping_by_a_norm_whose_square_is_no_float(engine_name: str) -> None:
    """A float32 gradient of 2e24 has a norm, though its square overflows: one step of length 1."""
    model = Sequential([Dense(1)], input_size=1, engine=engine_name, seed=0)
    model.parameters = np.array([1, 0], np.float32)
    X, y = np.full((1, 1), 1e12, np.float32), np.zeros((1, 1), np.float32)
    model.fit(X, y, loss="mse", optimizer=SGD(0.1, clip_norm=1.0), epochs=1)
    assert model.parameters[0] == pytest.approx(0.9, rel=1e-6)
