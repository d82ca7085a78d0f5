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
from typing import TYPE_CHECKING, Any

from .. import checks
from ..errors import unknown_name

if TYPE_CHECKING:
    from ..model import Sequential

Logs = Mapping[str, float]

HOOKS = (
    "set_model",
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_batch_end",
)


class Callback:
    """Hooks that do nothing; override what is needed. ``self.model`` is the model.

    ``logs`` maps "loss", the metrics, "val_…" of them and "learning_rate" to floats.
    """

    model: Sequential

    def set_model(self, model: Sequential) -> None:
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
        """Whether any callback has ``hook``."""
        return bool(self._hooks[hook])

    def call(self, hook: str, *arguments: Any) -> None:
        """Call ``hook`` of each callback that has it, in order."""
        for function in self._hooks[hook]:
            function(*arguments)


def _hook(callback: Any, name: str) -> Any:
    """The bound method, or None; the base class's empty hook for batches counts as none."""
    function = getattr(callback, name, None)
    if getattr(function, "__func__", None) is Callback.on_batch_end:
        return None
    return function if callable(function) else None


class _Watcher(Callback):
    """Shared by those who wait for a quantity to become better.

    ``mode`` "auto" takes the largest of accuracies and r2, the smallest of all others.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a name such as 'val_loss', not {monitor!r}")
        checks.choice("mode", mode, ("auto", "min", "max"))
        self.monitor = monitor
        self.min_delta = checks.real("min_delta", min_delta, at_least=0)
        if mode == "auto":
            mode = "max" if monitor.endswith(("accuracy", "r2")) else "min"
        self.mode = mode
        self.best = math.inf

    def check(self, known: tuple[str, ...]) -> None:
        """Raise if the logs will not have what this watches."""
        if self.monitor not in known:
            raise unknown_name("quantity to monitor", self.monitor, known)

    def on_train_begin(self) -> None:
        """Forget the best value of an earlier fit."""
        self.best = math.inf

    def is_better(self, logs: Logs) -> bool:
        """Whether the quantity improved by more than ``min_delta``; NaN never does."""
        value = logs[self.monitor] if self.mode == "min" else -logs[self.monitor]
        if value < self.best - self.min_delta:
            self.best = value
            return True
        return False


class EarlyStopping(_Watcher):
    """Stop when a quantity has not improved for ``patience`` epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A key of the history.
    patience : int, default 10
        Epochs without improvement until the fit stops; 0 stops at the first.
    min_delta : float, default 0
        The least change that counts.
    mode : {"auto", "min", "max"}
    restore_best_weights : bool, default True
        End with the parameters of the best epoch, stopped early or not.

    Attributes
    ----------
    best_epoch, stopped_epoch : int or None
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        *,
        restore_best_weights: bool = True,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = checks.whole("patience", patience, at_least=0)
        self.restore_best_weights = checks.flag("restore_best_weights", restore_best_weights)
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_parameters: Any = None

    def on_train_begin(self) -> None:
        """Start afresh."""
        super().on_train_begin()
        self.best_epoch = self.stopped_epoch = self._best_parameters = None
        self._waited = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Keep the best parameters; ask to stop when patience is over."""
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
        """Restore the best parameters."""
        if self._best_parameters is not None:
            self.model._set_parameters(self._best_parameters)
            self._best_parameters = None


class ModelCheckpoint(_Watcher):
    """Save the model at the end of epochs, atomically.

    Parameters
    ----------
    path : str or path
        May contain fields: "model-{epoch:03d}-{val_loss:.4f}.safetensors"; ``epoch`` is
        the number of epochs done.
    monitor : str, default "val_loss"
        Used only with ``save_best_only``.
    save_best_only : bool, default False
    mode : {"auto", "min", "max"}
    optimizer_state : bool, default False
        Save the moments too, to resume the fit.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        mode: str = "auto",
        *,
        save_best_only: bool = False,
        optimizer_state: bool = False,
    ) -> None:
        super().__init__(monitor, mode, 0.0)
        self.path = os.fspath(path)
        self.save_best_only = checks.flag("save_best_only", save_best_only)
        self.optimizer_state = checks.flag("optimizer_state", optimizer_state)

    def check(self, known: tuple[str, ...]) -> None:
        """Also the fields of the path are looked up."""
        if self.save_best_only:
            super().check(known)
        for _, name, _, _ in string.Formatter().parse(self.path):
            if name is not None and name not in ("epoch", *known):
                raise unknown_name("field of the path", name, ("epoch", *known))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save, if it is due."""
        if not self.save_best_only or self.is_better(logs):
            path = self.path.format(**{**logs, "epoch": epoch + 1})
            self.model.save(path, optimizer_state=self.optimizer_state)


class CSVLogger(Callback):
    """Write the history to a CSV file, a line per epoch, as it grows.

    The file is closed between epochs, so it is whole whatever ends the fit.

    Parameters
    ----------
    path : str or path
    append : bool, default False
        Go on with the file of an earlier fit, if there is one.
    """

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        self.path = os.fspath(path)
        self.append = checks.flag("append", append)

    def on_train_begin(self) -> None:
        """Empty the file, unless it is to be gone on with."""
        if not self.append:
            with open(self.path, "w", encoding="utf-8"):
                pass

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write a line, and the names above the first."""
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(["epoch", *logs])
            writer.writerow([epoch, *logs.values()])


class TerminateOnNaN(Callback):
    """Stop as soon as the loss of an epoch is NaN or infinite."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Look at "loss" and, if there is one, "val_loss"."""
        if not all(math.isfinite(logs[name]) for name in ("loss", "val_loss") if name in logs):
            self.model.stop_training = True
