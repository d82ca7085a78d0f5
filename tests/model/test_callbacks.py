"""Callbacks: when each hook is called, and what ours do."""

from __future__ import annotations

import copy
import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import (
    SGD,
    Callback,
    CSVLogger,
    Dense,
    EarlyStopping,
    ModelCheckpoint,
    Sequential,
    TerminateOnNaN,
)


@pytest.fixture
def model(engine_name: str) -> Sequential:
    """A small network in float64."""
    layers = [Dense(4, activation="tanh"), Dense(1)]
    return Sequential(layers, input_size=2, dtype="float64", seed=1, engine=engine_name)


GENERATOR = np.random.default_rng(1)
X, Y = GENERATOR.normal(size=(15, 2)), GENERATOR.normal(size=(15, 1))


class Script(Callback):
    """Plays the monitored losses of a script instead of the real ones."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values
        self.parameters: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        logs[self.name] = self.values[epoch]
        self.parameters.append(self.model.parameters)


class Diary(Callback):
    """Writes down every call."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def set_model(self, model: Sequential) -> None:
        super().set_model(model)
        self.lines.append("set_model")

    def on_train_begin(self) -> None:
        self.lines.append("train begins")

    def on_train_end(self) -> None:
        self.lines.append("train ends")

    def on_epoch_begin(self, epoch: int, logs: Any) -> None:
        assert logs == {}
        self.lines.append(("begin", epoch))

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.lines.append(("end", epoch, sorted(logs)))


class BatchDiary(Diary):
    """Also writes down the batches, which makes the fit go step by step."""

    def on_batch_end(self, batch: int, logs: Any) -> None:
        self.lines.append(("batch", batch, logs["loss"]))


def hooks(**functions: Any) -> list[Any]:
    """One plain object with these hooks."""
    return [SimpleNamespace(**functions)]


def test_hooks_are_called_in_order(model: Sequential) -> None:
    diary = Diary()
    model.fit(X, Y, "mse", epochs=2, callbacks=[diary])
    assert diary.model is model
    keys = ["learning_rate", "loss"]
    epochs = [("begin", 0), ("end", 0, keys), ("begin", 1), ("end", 1, keys)]
    assert diary.lines == ["set_model", "train begins", *epochs, "train ends"]


def test_any_object_with_a_hook_is_a_callback(model: Sequential) -> None:
    seen: list[int] = []
    plain = hooks(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    model.fit(X, Y, "mse", epochs=3, callbacks=(c for c in plain))
    assert seen == [0, 1, 2]


def test_logs_are_the_history(model: Sequential) -> None:
    rows: list[dict[str, float]] = []
    keep = hooks(on_epoch_end=lambda epoch, logs: rows.append(dict(logs)))
    data = {"metrics": ["r2"], "validation_data": (X, Y)}
    history = model.fit(X, Y, "mse", epochs=3, callbacks=keep, **data)
    assert list(history) == ["loss", "r2", "val_loss", "val_r2", "learning_rate"]
    assert {name: [row[name] for row in rows] for name in rows[0]} == history
    assert history.epoch == [0, 1, 2]


def test_stop_training_ends_after_the_epoch(model: Sequential) -> None:
    def stop(epoch: int, logs: Any) -> None:
        model.stop_training = epoch == 1

    for callbacks, epochs in ((hooks(on_epoch_end=stop), 2), ((), 3)):  # the wish is forgotten
        assert len(model.fit(X, Y, "mse", epochs=3, callbacks=callbacks)["loss"]) == epochs


def test_parameters_set_by_a_callback_are_trained_on(model: Sequential) -> None:
    start = model.parameters

    def restart(epoch: int, logs: Any) -> None:
        model.parameters = start

    restarting = hooks(on_epoch_end=restart)
    history = model.fit(X, Y, "mse", SGD(0.1), epochs=3, batch_size=None, callbacks=restarting)
    # The loss before the only update of each epoch; a shuffled sum may round otherwise.
    assert history["loss"] == pytest.approx([history["loss"][0]] * 3, rel=1e-13)
    assert np.array_equal(model.parameters, start)


@pytest.mark.parametrize("loss", ["mse", "sum_squares"])
def test_a_fit_by_steps_is_the_same_fit(model: Sequential, loss: str) -> None:
    weight = np.linspace(0.5, 2, 15)
    arguments = {"epochs": 3, "batch_size": 4, "sample_weight": weight}
    whole, stepped, diary = model, copy.copy(model), BatchDiary()
    expected = whole.fit(X, Y, loss, SGD(0.01, 0.9), **arguments)
    history = stepped.fit(X, Y, loss, SGD(0.01, 0.9), callbacks=[diary], **arguments)
    # The same updates; only sums may be grouped otherwise.
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-12)
    np.testing.assert_allclose(stepped.parameters, whole.parameters, rtol=1e-12, atol=1e-14)
    batches = [line for line in diary.lines if line[0] == "batch"]
    assert [line[1] for line in batches] == [0, 1, 2, 3] * 3
    losses = np.array([line[2] for line in batches[:4]])
    total = losses.sum() if loss == "sum_squares" else losses @ [4, 4, 4, 3] / 15
    assert history["loss"][0] == pytest.approx(total, rel=1e-12)


def test_stop_training_in_a_batch_ends_there(model: Sequential) -> None:
    class Stop(Callback):
        def on_batch_end(self, batch: int, logs: Any) -> None:
            self.model.stop_training = batch == 1

    history = model.fit(X, Y, "mse", epochs=9, batch_size=4, callbacks=[Stop()])
    assert len(history["loss"]) == 1
    assert model.optimizer_state()[0] == 2  # type: ignore[index]


@pytest.mark.parametrize("hook", ["set_model", "on_train_begin", "on_epoch_begin", "on_epoch_end"])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_leaves_a_usable_model(model: Sequential, hook: str, error: type) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    with pytest.raises(error):
        model.fit(X, Y, "mse", epochs=2, callbacks=hooks(**{hook: fail}))
    assert np.isfinite(model.parameters).all()
    assert len(model.fit(X, Y, "mse", epochs=2, resume=True)["loss"]) == 2


def test_training_from_within_a_fit_is_refused(model: Sequential) -> None:
    errors: list[str] = []

    def again(epoch: int, logs: Any) -> None:
        for call in (model.fit, model.train_on_batch):
            with pytest.raises(RuntimeError, match="trained already") as caught:
                call(X, Y, "mse")
            errors.append(str(caught.value))

    model.fit(X, Y, "mse", epochs=1, callbacks=hooks(on_epoch_end=again))
    assert len(errors) == 2


@pytest.mark.parametrize(
    ("options", "losses", "best", "stopped"),
    [
        ({"patience": 2}, [5, 4, 6, 6, 3, 2], 1, 3),
        ({"patience": 0}, [5, 4, 4, 1], 1, 2),
        ({"patience": 2, "min_delta": 0.5}, [5, 4.6, 4.7, 1], 0, 2),
        ({"patience": 1}, [5, math.nan, 1], 0, 1),
        ({"patience": 3}, [5, 4, 3, 4], 2, None),
        ({"patience": 1, "mode": "max"}, [1, 2, 1, 9], 1, 2),
    ],
)
def test_early_stopping_restores_the_best(
    model: Sequential,
    options: dict[str, Any],
    losses: list[float],
    best: int,
    stopped: int | None,
) -> None:
    script = Script("loss", losses)
    early = EarlyStopping("loss", **options)
    model.fit(X, Y, "mse", epochs=len(losses), callbacks=[script, early])
    assert (early.best_epoch, early.stopped_epoch) == (best, stopped)
    assert len(script.parameters) == (len(losses) if stopped is None else stopped + 1)
    assert np.array_equal(model.parameters, script.parameters[best])


def test_early_stopping_can_leave_the_last(model: Sequential) -> None:
    script = Script("loss", [1, 2, 3])
    early = EarlyStopping("loss", patience=2, restore_best_weights=False)
    model.fit(X, Y, "mse", epochs=3, callbacks=[script, early])
    assert np.array_equal(model.parameters, script.parameters[2])


def test_early_stopping_takes_the_largest_accuracy(model: Sequential) -> None:
    script = Script("val_accuracy", [0.5, 0.75, 0.7])
    early = EarlyStopping("val_accuracy", patience=1)
    data = X, (Y > 0).astype(float)
    options = {"metrics": "accuracy", "validation_data": data, "callbacks": [script, early]}
    model.fit(*data, "binary_cross_entropy", epochs=3, **options)
    assert early.best_epoch == 1


def test_early_stopping_forgets_an_earlier_fit(model: Sequential) -> None:
    early = EarlyStopping("loss", patience=1)
    model.fit(X, Y, "mse", epochs=2, callbacks=[Script("loss", [1, 2]), early])
    model.fit(X, Y, "mse", epochs=2, callbacks=[Script("loss", [9, 8]), early])
    assert (early.best_epoch, early.stopped_epoch) == (1, None)


def test_checkpoints_have_formatted_names(
    model: Sequential, engine_name: str, tmp_path: Path
) -> None:
    script = Script("val_loss", [0.5, 0.25, 0.75])
    checkpoint = ModelCheckpoint(tmp_path / "m-{epoch:02d}-{val_loss:.2f}.safetensors")
    model.fit(X, Y, "mse", epochs=3, validation_data=(X, Y), callbacks=[script, checkpoint])
    names = ["m-01-0.50.safetensors", "m-02-0.25.safetensors", "m-03-0.75.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    for name, parameters in zip(names, script.parameters, strict=True):
        saved = fastnn.load(tmp_path / name, engine=engine_name)
        assert np.array_equal(saved.parameters, parameters)


def test_checkpoint_of_the_best(model: Sequential, engine_name: str, tmp_path: Path) -> None:
    script = Script("val_loss", [0.5, 0.25, 0.75])
    path = tmp_path / "best.safetensors"
    best = ModelCheckpoint(path, save_best_only=True, optimizer_state=True)
    model.fit(X, Y, "mse", epochs=3, validation_data=(X, Y), callbacks=[script, best])
    saved = fastnn.load(path, engine=engine_name)
    assert np.array_equal(saved.parameters, script.parameters[1])
    assert saved.optimizer_state()[0] == 2  # type: ignore[index]
    assert saved.fit(X, Y, "mse", epochs=1, resume=True).epoch == [2]


def test_csv_logger_writes_the_history(model: Sequential, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("old")
    history = model.fit(X, Y, "mse", epochs=2, metrics="mae", callbacks=[CSVLogger(path)])
    going_on = {"resume": True, "callbacks": [CSVLogger(path, append=True)]}
    more = model.fit(X, Y, "mse", epochs=1, metrics="mae", **going_on)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "mae", "learning_rate"]
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    for name in ("loss", "mae", "learning_rate"):
        assert [float(row[name]) for row in rows] == history[name] + more[name]


def test_csv_logger_of_an_interrupted_fit_is_whole(model: Sequential, tmp_path: Path) -> None:
    def fail(epoch: int, logs: Any) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    path = tmp_path / "log.csv"
    callbacks = [CSVLogger(path), *hooks(on_epoch_end=fail)]
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, "mse", epochs=5, callbacks=callbacks)
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["loss", "val_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_terminate_on_nan(model: Sequential, name: str, value: float) -> None:
    script = Script(name, [1.0, value, 1.0])
    model.fit(X, Y, "mse", epochs=3, validation_data=(X, Y), callbacks=[script, TerminateOnNaN()])
    assert len(script.parameters) == 2


def test_terminate_on_nan_in_earnest(model: Sequential) -> None:
    history = model.fit(X, Y, "mse", SGD(1e200), epochs=50, callbacks=[TerminateOnNaN()])
    assert len(history["loss"]) < 50
    assert not math.isfinite(history["loss"][-1])
