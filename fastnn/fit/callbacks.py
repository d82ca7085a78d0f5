"""Callbacks: what a fit calls at its epochs, with names as in Keras.

Any object with one of the hooks below is a callback; ``Callback`` is a convenient base.
Hooks run between epochs, in Python, and may use the model freely: read or set its
parameters, predict, save, or set ``model.stop_training``. ``on_batch_end`` is different:
a fit with such a hook goes step by step through Python.
"""

from __future__ import annotations

import csv
import math
import os
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from .. import checks
from ..errors import unknown_name
from .learner import Learner

__all__ = ["CSVLogger", "Callback", "EarlyStopping", "History", "ModelCheckpoint", "TerminateOnNaN"]

Logs = Mapping[str, float]


class History(dict[str, list[float]]):
    """The course of a fit: name -> one float per epoch, whose numbers are in ``epoch``.

    "loss", the metrics, "val_loss" and "val_…" of the metrics, and "learning_rate" (of the
    last step of the epoch). A resumed fit goes on counting.
    """

    def __init__(self) -> None:
        super().__init__(loss=[])
        self.epoch: list[int] = []

    def append(self, epoch: int, logs: Logs) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.setdefault(name, []).append(value)


class Model(Protocol):
    """What a callback may rely on; the model that ``fit`` trains has more."""

    history: History | None
    stop_training: bool  #: set it to end the fit
    parameters: Any  #: all parameters, a flat copy; assign to set them
    _learner: Learner  # ours may set parameters that hold NaN

    def predict(self, X: Any, threads: int | None = None) -> Any: ...
    def save(self, path: str | os.PathLike[str], optimizer_state: bool = False) -> None: ...


class Callback:
    """Hooks that do nothing; override what is needed. ``self.model`` is the model.

    ``logs`` maps "loss", the metrics, "val_…" of them and "learning_rate" to floats.
    """

    model: Model

    def set_model(self, model: Model) -> None:
        """First of all; the model may have got its parameters just now."""
        self.model = model

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_train_end(self) -> None:
        """After the last epoch, not after an exception."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """``epoch`` counts from 0, over resumed fits; ``logs`` is empty."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After validation and metrics."""

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """After an update, if overridden; ``logs`` has the "loss" before it."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith(("set_", "on_")))


class Callbacks:
    """The callbacks of one fit, as the lists of those who have each hook."""

    def __init__(self, callbacks: Any) -> None:
        if isinstance(callbacks, str) or not isinstance(callbacks, Iterable):
            raise TypeError(f"callbacks must be a list of callbacks, not {callbacks!r}")
        self.objects = tuple(callbacks)
        for callback in self.objects:
            if isinstance(callback, type):
                raise TypeError(f"callback {callback.__name__} is a class: give an instance")
            if not any(_hook(callback, name) for name in HOOKS):
                raise TypeError(f"{callback!r} is no callback: it has none of {', '.join(HOOKS)}")
        self._hooks = {name: [h for c in self.objects if (h := _hook(c, name))] for name in HOOKS}

    def check(self, known: Iterable[str]) -> None:
        """Raise if one of ours watches a quantity that the logs will not have."""
        for callback in self.objects:
            if isinstance(callback, _Watcher):
                callback.check(tuple(known))

    def has(self, hook: str) -> bool:
        return bool(self._hooks[hook])

    def call(self, hook: str, *arguments: Any) -> None:
        for function in self._hooks[hook]:
            function(*arguments)


def _hook(callback: Any, name: str) -> Any:
    """The bound method, or None; the base class's empty hook for batches counts as none."""
    function = getattr(callback, name, None)
    if getattr(function, "__func__", None) is Callback.on_batch_end:
        return None
    return function if callable(function) else None


class _Ours(checks.Checked, Callback):
    CHECKS: ClassVar[checks.Checks] = {
        "mode": lambda name, value: checks.choice(name, value, ("auto", "min", "max")),
        "min_delta": checks.within(at_least=0),
        "patience": lambda name, value: checks.whole(name, value, at_least=0),
        "path": lambda name, value: os.fsdecode(value),
        **dict.fromkeys(("restore_best_weights", "save_best_only"), checks.flag),
        **dict.fromkeys(("optimizer_state", "append"), checks.flag),
    }


class _Watcher(_Ours):
    """Shared by those who wait for a quantity to become better.

    ``mode`` "auto" takes the largest of accuracies and r2, the smallest of all others.
    """

    monitor: str
    mode: str
    min_delta: float = 0.0
    best = math.inf

    def __post_init__(self) -> None:
        if not isinstance(self.monitor, str):
            raise TypeError(f"monitor must be a name such as 'val_loss', not {self.monitor!r}")
        super().__post_init__()
        if self.mode == "auto":
            self.mode = "max" if self.monitor.endswith(("accuracy", "r2")) else "min"

    def check(self, known: tuple[str, ...]) -> None:
        """Raise if the logs will not have what this watches."""
        if self.monitor not in known:
            raise unknown_name("quantity to monitor", self.monitor, known)

    def on_train_begin(self) -> None:
        self.best = math.inf

    def is_better(self, logs: Logs) -> bool:
        """Whether the quantity improved by more than ``min_delta``; NaN never does."""
        value = logs[self.monitor] if self.mode == "min" else -logs[self.monitor]
        if value < self.best - self.min_delta:
            self.best = value
            return True
        return False


@dataclass(eq=False)
class EarlyStopping(_Watcher):
    """Stop when a quantity has not improved for ``patience`` epochs.

    Parameters
    ----------
    monitor : str
        A key of the history.
    patience : int
        Epochs without improvement until the fit stops; 0 stops at the first.
    min_delta : float
        The least change that counts.
    mode : {"auto", "min", "max"}
    restore_best_weights : bool
        End with the parameters of the best epoch, stopped early or not.
    """

    monitor: str = "val_loss"
    patience: int = 10
    min_delta: float = 0.0
    mode: str = "auto"
    restore_best_weights: bool = field(default=True, kw_only=True)

    best_epoch: int | None = field(default=None, init=False)
    stopped_epoch: int | None = field(default=None, init=False)
    _best_parameters: Any = field(default=None, init=False, repr=False)

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self.best_epoch = self.stopped_epoch = self._best_parameters = None
        self._waited = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.is_better(logs):
            self.best_epoch, self._waited = epoch, 0
            if self.restore_best_weights:
                self._best_parameters = self.model.parameters
            return
        self._waited += 1
        if self._waited >= max(1, self.patience):
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self) -> None:
        if self._best_parameters is not None:
            self.model._learner.parameters = self._best_parameters
            self._best_parameters = None


@dataclass(eq=False)
class ModelCheckpoint(_Watcher):
    """Save the model at the end of epochs, atomically.

    Parameters
    ----------
    path : str or path
        May contain fields: "model-{epoch:03d}-{val_loss:.4f}.safetensors"; ``epoch`` is
        the number of epochs done.
    monitor : str
        Used only with ``save_best_only``.
    mode : {"auto", "min", "max"}
    save_best_only : bool
    optimizer_state : bool
        Save the moments too, to resume the fit.
    """

    path: Any
    monitor: str = "val_loss"
    mode: str = "auto"
    save_best_only: bool = field(default=False, kw_only=True)
    optimizer_state: bool = field(default=False, kw_only=True)

    def check(self, known: tuple[str, ...]) -> None:
        """Also the fields of the path are looked up."""
        if self.save_best_only:
            super().check(known)
        for _, name, _, _ in string.Formatter().parse(self.path):
            if name is not None and name not in ("epoch", *known):
                raise unknown_name("field of the path", name, ("epoch", *known))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not self.save_best_only or self.is_better(logs):
            path = self.path.format(**{**logs, "epoch": epoch + 1})
            self.model.save(path, optimizer_state=self.optimizer_state)


@dataclass(eq=False)
class CSVLogger(_Ours):
    """Write the history to a CSV file, a line per epoch, as it grows.

    The file is closed between epochs, so it is whole whatever ends the fit; ``append`` goes on
    with that of an earlier fit, if there is one.
    """

    path: str | os.PathLike[str]
    append: bool = field(default=False, kw_only=True)

    def on_train_begin(self) -> None:
        if not self.append:
            open(self.path, "w", encoding="utf-8").close()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(["epoch", *logs])
            writer.writerow([epoch, *logs.values()])


class TerminateOnNaN(Callback):
    """Stop as soon as the loss of an epoch, or of its validation, is NaN or infinite."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not all(math.isfinite(logs[name]) for name in ("loss", "val_loss") if name in logs):
            self.model.stop_training = True
