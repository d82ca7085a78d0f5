"""What several experiments need: a network in one line, many fits at once, a course recorded.

Nothing here trains by itself: ``Sequential.fit`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fit.callbacks import Callback
from ..layers import Dense
from ..model import Sequential
from ..checks.threads import available_threads

Array = NDArray[Any]


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


class Course(Callback):
    """Keeps the parameters at the start and after each epoch.

    Attributes
    ----------
    parameters : list of ndarray (size,)
    """

    def __init__(self) -> None:
        self.parameters: list[Array] = []

    def on_train_begin(self) -> None:
        """Where the course starts."""
        self.parameters = [self.model.parameters]

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Where it has come to."""
        self.parameters.append(self.model.parameters)

    def path(self) -> Array:
        """All of them, (points, size)."""
        return np.array(self.parameters)


class EachUpdate(Course):
    """Keeps the parameters after each update, for which the fit goes step by step."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Its last update has been kept already."""

    def on_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Where it has come to."""
        self.parameters.append(self.model.parameters)
