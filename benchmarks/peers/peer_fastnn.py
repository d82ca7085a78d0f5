"""fastnn among its peers: ``Sequential.fit`` and ``Sequential.predict``, as a user calls them.

With all processors the number of threads is left to ``threads=None``. A variant is the name
of an engine; without one it is the default.
"""

from __future__ import annotations

import numpy as np
from harness import Inference, Task, serve

import fastnn


class FastnnTraining:
    """A whole ``fit``, its checks and its set-up included."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.model = task.workload.model(task.variant or "auto")
        self.threads = 1 if task.threads == 1 else None

    def gradient(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.model.loss_and_gradient(X, y, loss=self.task.workload.loss)[1]

    def reset(self) -> None:
        self.model.parameters = self.task.parameters

    def train(self, epochs: int) -> float:
        workload = self.task.workload
        history = self.model.fit(
            self.task.X,
            self.task.y,
            loss=workload.loss,
            optimizer=workload.optimizer,
            epochs=epochs,
            batch_size=workload.batch_size,
            threads=self.threads,
        )
        return history["loss"][-1]


def inference(task: Task) -> Inference:
    """``predict`` without a word about threads, whose number follows from the environment."""
    model, X = task.workload.model(task.variant or "auto"), task.X
    return lambda: model.predict(X)


if __name__ == "__main__":
    serve(FastnnTraining, inference, fastnn.__version__)
