"""The peers: a row for each here, a file for each library beside this one.

A library's file says at its head what is fair to it. It has a ``VERSION``, and a subclass of
``Training`` called ``Peer``, or a function ``inference``, or both. ``harness.py`` checks
their answers before it times them; it imports no other library than the peer's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastnn.bench.workloads import Workload

TASKS = ("train", "predict")


class Row(NamedTuple):
    name: str  #: the library's, and after a comma the variant's
    library: str  #: its module, and its file here
    variant: str = ""
    tasks: tuple[str, ...] = TASKS
    needs: str = ""  #: a module, beside the library

    @property
    def is_here(self) -> bool:
        """Whether everything that it needs is installed."""
        return all(map(importlib.util.find_spec, filter(None, (self.library, self.needs))))


PEERS = (
    Row("fastnn", "fastnn"),
    Row("fastnn, numba", "fastnn", "numba", needs="numba"),
    Row("NumPy", "numpy"),
    Row("JAX", "jax", "tree", ("train",)),
    Row("JAX, flat", "jax", "flat", ("train",)),
    Row("ONNX Runtime", "onnxruntime", "run", ("predict",), needs="onnx"),
    Row("ONNX Runtime, bound", "onnxruntime", "binding", ("predict",), needs="onnx"),
    Row("PyTorch", "torch", "eager"),
    Row("PyTorch, fused", "torch", "fused", ("train",)),
    Row("PyTorch, compile", "torch", "compile", ("train",)),
    Row("scikit-learn", "sklearn", "", ("train",)),
)


class Task(NamedTuple):
    workload: Workload
    parameters: np.ndarray  #: flat, ordered as ``Sequential.parameters``
    X: np.ndarray
    y: np.ndarray
    threads: int
    variant: str

    @property
    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(W, b) of each layer, views of the parameters."""
        return self.workload.views(self.parameters)


class Training:
    """A network in some library, which ``build`` gives its data and optimizer, ready to train.

    ``gradient(X, y)`` is flat, at the first parameters, and ordered as those; ``reset()`` goes
    back to them and to a fresh optimizer, untimed; ``epoch()`` trains and returns the mean loss,
    or a promise of it that ``float`` waits for.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.build(task)

    def train(self, epochs: int) -> float:
        """The mean loss of the last epoch."""
        for _ in range(epochs):
            loss = self.epoch()
        return loss


#: A network ready for inference: a call computes the output of the task's X.
Inference = Callable[[], np.ndarray]
