"""How an engine compares with the NumPy reference on one network: its speed, its gradient.

Both are relative to the reference on the same network and data, on this machine, so they
mean something anywhere. Agreement is against the reference in float64, the nearest thing
to the truth at hand; time is against it in the network's own dtype.

NumPy's BLAS takes its number of threads from the environment when it is loaded. To give
both sides the same number, the timing runs in a process of its own: this module.
"""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
import time
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import contest
from ..model import Sequential

Array = NDArray[Any]

_RUN = 0.02  # seconds of the reference in one timed run; short ones fall between interruptions
_RUNS = 5  # of a turn
_TURNS = 3
_MOST_STEPS = 1000  # of which rows are handed over


def gradient_error(model: Sequential, X: Array, y: Array, loss: Any) -> float:
    """‖g - g₆₄‖ / ‖g₆₄‖ of the model's gradient at its present parameters.

    Parameters
    ----------
    model : Sequential
        Built; it is not changed.
    X, y : ndarray
        Rows of inputs and targets, as for ``Sequential.loss_and_gradient``.
    loss : str or loss object

    Returns
    -------
    float
        The norm of the difference from the gradient of the NumPy reference in float64,
        relative to the norm of the latter; 0 if both are zero.
    """
    config = model.get_config() | {"dtype": "float64"}
    reference = Sequential.from_config(config, engine="numpy")
    reference.parameters = model.parameters.astype(np.float64)
    _, exact = reference.loss_and_gradient(X, y, loss=loss)
    _, gradient = model.loss_and_gradient(X, y, loss=loss)
    difference = float(np.linalg.norm(gradient - exact))
    return difference / float(np.linalg.norm(exact)) if difference else 0.0


def speedup(
    model: Sequential,
    X: Array,
    y: Array,
    *,
    threads: int,
    batch_size: int,
    seconds: float = 0.7,
    **recipe: Any,
) -> float:
    """How many times faster the model's engine trains than the NumPy reference.

    Both train fresh copies of the model on the same batches, by turns, so that a busy
    moment of the machine meets both; the fastest of many short runs of each counts.

    Parameters
    ----------
    model : Sequential
        Built; it is not changed.
    X, y : ndarray
        Training rows; as many are used as the reference takes in a fiftieth of a second.
    threads : int
        Of both sides.
    batch_size, **recipe
        ``loss`` and ``optimizer``, all as for ``Sequential.fit``.
    seconds : float
        Roughly how long to measure. A single step of the reference may take longer.

    Returns
    -------
    float
        Time of the reference / time of the engine.
    """
    rows = slice(0, _MOST_STEPS * batch_size)
    task = {
        "config": model.get_config(),
        "engine": model.engine,
        "X": X[rows],
        "y": y[rows],
        "recipe": recipe | {"batch_size": batch_size, "threads": threads},
        "seconds": seconds,
    }
    found = subprocess.run(
        [sys.executable, "-P", "-m", __name__],
        input=pickle.dumps(task),
        capture_output=True,
        env=contest.environment(threads),
        check=False,
    )
    if found.returncode != 0:
        raise RuntimeError(f"the comparison with NumPy failed:\n{found.stderr.decode()}")
    return float(found.stdout)


def _measure(
    *,
    config: dict[str, Any],
    engine: str,
    X: Array,
    y: Array,
    recipe: dict[str, Any],
    seconds: float,
) -> float:
    copies = [Sequential.from_config(config, engine=name) for name in ("numpy", engine)]
    batch_size = recipe["batch_size"]

    def run(copy: Sequential, steps: int) -> float:
        rows = min(steps * batch_size, len(X))
        epochs = math.ceil(steps * batch_size / rows)
        start = time.perf_counter()
        copy.fit(X[:rows], y[:rows], epochs=epochs, **recipe)
        return time.perf_counter() - start

    for copy in copies:
        run(copy, 1)
    steps = max(1, round(_RUN / min(run(copies[0], 1) for _ in range(3))))
    turns = {
        copy.engine: partial(lambda copy: min(run(copy, steps) for _ in range(_RUNS)), copy)
        for copy in copies
    }
    best = contest.by_turns(turns, seconds, _TURNS, recipe["threads"])
    return best["numpy"] / best[engine]


if __name__ == "__main__":
    print(_measure(**pickle.load(sys.stdin.buffer)))
