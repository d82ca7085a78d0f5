"""What every peer's process does alike: check the answer, warm up, be timed.

A peer is a file beside this one that builds a ``Training`` and perhaps an inference for a
workload, and calls ``serve``. Before anything is timed the gradient of a training must
agree with the NumPy reference in float64, and so must the output of an inference.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn.bench import contest
from fastnn.bench.workloads import BOUNDS, WORKLOADS, Workload, agreement, reference, relative_error


class Training(Protocol):
    """A network in some library, with data and optimizer, ready to train."""

    def gradient(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The flat gradient at the first parameters, ordered as ``Sequential.parameters``."""
        ...

    def reset(self) -> None:
        """Go back to the first parameters and a fresh optimizer; not timed."""
        ...

    def train(self, epochs: int) -> float:
        """Train and return the mean loss of the last epoch; everything has been computed then."""
        ...


class Task(NamedTuple):
    """What a peer is asked to build."""

    workload: Workload
    parameters: np.ndarray  # flat: W0 row-major (inputs, outputs), b0, W1, …
    X: np.ndarray
    y: np.ndarray
    threads: int
    variant: str

    @property
    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(W, b) of each layer, views of the parameters."""
        views, start = [], 0
        for inputs, outputs in zip(self.workload.sizes, self.workload.sizes[1:], strict=False):
            stop = start + inputs * outputs
            weight = self.parameters[start:stop].reshape(inputs, outputs)
            views.append((weight, self.parameters[stop : stop + outputs]))
            start = stop + outputs
        return views


#: Seconds. Shorter trainings are repeated within a turn, and the fastest counts: in the others'
#: turns a process has slept, and its data have left the caches.
_TURN = 0.02

#: A network ready for inference: a call computes the output of the task's X.
Inference = Callable[[], np.ndarray]


def serve(
    training: Callable[[Task], Training] | None,
    inference: Callable[[Task], Inference] | None,
    version: str,
) -> None:
    """Be the contestant that ``peers.py`` talks to."""

    def prepare(
        what: str, workload: str, rows: int, threads: int, variant: str
    ) -> tuple[dict[str, Any], Callable[..., dict[str, Any]]]:
        case = WORKLOADS[workload]
        parameters = case.model("numpy").parameters
        X, y = case.data()
        task = Task(case, parameters, X, y, threads, variant)
        if what == "train":
            assert training is not None
            error, run = _prepare_training(training(task), case)
        else:
            assert inference is not None
            task = task._replace(X=X[:rows].copy(), y=y[:rows])
            error, run = _prepare_inference(inference(task), task)
        return {"error_of_rounding": error, "version": version}, run

    contest.serve(prepare)


def _prepare_training(
    training: Training, workload: Workload
) -> tuple[float, Callable[..., dict[str, Any]]]:
    rows = reference(workload)
    error = agreement(workload, training.gradient(rows.X, rows.y), "it")

    def run(epochs: int) -> dict[str, Any]:
        best, loss, begin = math.inf, math.nan, time.perf_counter()
        while time.perf_counter() - begin < _TURN:
            training.reset()
            start = time.perf_counter()
            loss = float(training.train(epochs))
            best = min(best, time.perf_counter() - start)
        return {"seconds": best, "loss": loss}

    run(1)  # compiles what is compiled at first use
    return error, run


def _prepare_inference(infer: Inference, task: Task) -> tuple[float, Callable[..., dict[str, Any]]]:
    exact = task.workload._replace(dtype="float64").model("numpy")
    exact.parameters = task.parameters
    error = relative_error(np.asarray(infer()), exact.predict(task.X))
    if not error <= BOUNDS[task.workload.dtype]:
        raise ValueError(f"its output is wrong on {task.workload.name}: relative error {error:.1e}")

    def run(calls: int) -> dict[str, Any]:
        start = time.perf_counter()
        for _ in range(calls):
            infer()
        return {"seconds": (time.perf_counter() - start) / calls}

    run(10)
    return error, run
