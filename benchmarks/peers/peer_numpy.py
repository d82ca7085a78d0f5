"""The NumPy loop of ``fastnn.bench.numpy_peer``: in place, buffers allocated once, flat optimizer."""

from __future__ import annotations

import numpy as np
from harness import Inference, Task, serve

from fastnn.bench.numpy_peer import NumpyPeer


class NumpyTraining:
    """The loop of ``fastnn bench``."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.peer = NumpyPeer(task.workload, task.parameters)

    def gradient(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.peer.gradient(X, y)[1]

    def reset(self) -> None:
        self.peer.parameters[...] = self.task.parameters

    def train(self, epochs: int) -> float:
        return self.peer.fit(self.task.X, self.task.y, epochs)


def inference(task: Task) -> Inference:
    """The loop's forward pass into its buffers, and a copy of the output."""
    peer = NumpyPeer(task.workload, task.parameters)
    return lambda: peer.predict(task.X)


if __name__ == "__main__":
    serve(NumpyTraining, inference, np.__version__)
