"""The NumPy loop of ``fastnn bench``: in place, buffers allocated once, flat optimizer."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastnn.bench.numpy_peer import NumpyPeer

from . import Inference, Task, Training

VERSION = np.__version__


class Peer(Training):
    def build(self, task: Task) -> None:
        self.peer = NumpyPeer(task.workload, task.parameters)
        self.gradient, self.train = self.peer.gradient, partial(self.peer.fit, task.X, task.y)

    def reset(self) -> None:
        self.peer.parameters[...] = self.task.parameters


def inference(task: Task) -> Inference:
    """The loop's forward pass into its buffers, and a copy of the output."""
    return partial(NumpyPeer(task.workload, task.parameters).predict, task.X)
