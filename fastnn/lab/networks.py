"""What several experiments need: a network in one line, many fits at once, a course recorded.

Nothing here trains by itself: ``Sequential.fit`` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..checks.threads import available_threads
from ..fit.callbacks import Callback
from ..layers import Dense
from ..model import Sequential
from ..optimizers import Optimizer
from .result import Array


def network(
    *sizes: int,
    activation: str = "tanh",
    last: str = "identity",
    use_bias: bool = True,
    dtype: str = "float32",
    seed: int = 0,
    engine: str = "auto",
) -> Sequential:
    """A network of so many units in each layer, inputs first, outputs last."""
    inputs, *hidden, outputs = sizes
    layers = [Dense(units, activation, use_bias) for units in hidden]
    layers.append(Dense(outputs, last, use_bias))
    return Sequential(layers, input_size=inputs, dtype=dtype, seed=seed, engine=engine)


def fit_all(models: Sequence[Sequential], X: Array, y: Array, **recipe: Any) -> None:
    """Train all the models on the same data at once, a thread for each core.

    The compiled engines hold no lock of the interpreter's while they train, so threads of
    Python share the work. ``recipe`` goes to ``Sequential.fit``.
    """
    with ThreadPoolExecutor(available_threads()) as pool:
        list(pool.map(lambda model: model.fit(X, y, threads=1, **recipe), models))


def at_each(model: Sequential, points: Iterable[Any], measure: Callable[[], Any]) -> Array:
    """What is measured with each of these parameters, (points,); the model keeps the last."""
    values = []
    for point in points:
        model.parameters = point
        values.append(measure())
    return np.array(values)


class Trajectory(Callback):
    """Keeps the parameters after so many epochs as ``looks`` has, or after each; 0: the start.

    Attributes
    ----------
    parameters : list of ndarray (size,)
    epochs, seconds : list
        Epochs done by then, seconds of training alone.
    """

    def __init__(self, looks: Iterable[int] | None = None) -> None:
        self.looks = looks if looks is None else frozenset(looks)
        self.parameters: list[Array] = []
        self.epochs: list[int] = []
        self.seconds: list[float] = []

    def _look(self, epochs: int) -> None:
        now = time.perf_counter()
        if self.looks is None or epochs in self.looks:
            self.seconds.append(now - self.start)
            self.epochs.append(epochs)
            self.parameters.append(self.model.parameters)
        self.start += time.perf_counter() - now  # looking is no part of the training

    def on_train_begin(self) -> None:
        self.start = time.perf_counter()
        self._look(0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        self._look(epoch + 1)


class EachUpdate(Trajectory):
    """Keeps the parameters after each update, for which the fit goes step by step."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Its last update has been kept already."""

    def on_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        self._look(len(self.parameters))


def trajectory(
    model: Sequential, start: Any, X: Array, y: Array, optimizer: Optimizer, **recipe: Any
) -> Array:
    """The parameters (updates + 1, size) while a fit minimises the mean squared error.

    By default a batch is the whole data set; ``recipe`` goes to ``Sequential.fit``.
    """
    recipe = {"batch_size": None, **recipe}
    kept = Trajectory() if recipe["batch_size"] is None else EachUpdate()
    model.parameters = start
    model.fit(X, y, "mse", optimizer, callbacks=[kept], **recipe)
    return np.array(kept.parameters)
