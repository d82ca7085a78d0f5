"""fastnn among its peers: ``Sequential.fit`` and ``Sequential.predict``, as a user calls them.

With all processors the number of threads is left to ``threads=None``. A variant is the name
of an engine; without one it is the default.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import fastnn

from . import Inference, Task, Training

VERSION = fastnn.__version__


class Peer(Training):
    """A whole ``fit``, its checks and its set-up included."""

    def build(self, task: Task) -> None:
        self.model = task.workload.model(task.variant or "auto")
        self.options = task.workload.recipe | {"threads": 1 if task.threads == 1 else None}

    def gradient(self, X: Any, y: Any) -> Any:
        return self.model.loss_and_gradient(X, y, loss=self.task.workload.loss)[1]

    def reset(self) -> None:
        self.model.parameters = self.task.parameters

    def train(self, epochs: int) -> float:
        history = self.model.fit(self.task.X, self.task.y, epochs=epochs, **self.options)
        return history["loss"][-1]


def inference(task: Task) -> Inference:
    """``predict`` without a word about threads, whose number follows from the environment."""
    return partial(task.workload.model(task.variant or "auto").predict, task.X)
