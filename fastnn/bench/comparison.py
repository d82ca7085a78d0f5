"""How an engine compares with the NumPy reference on one network: its speed, its gradient.

Both are relative to the reference on the same network and data, on this machine, so they
mean something anywhere. Agreement is against the reference in float64, the nearest thing
to the truth at hand; time is against it in the network's own dtype.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model import Sequential
from . import contest
from .workloads import relative_error

Array = NDArray[Any]

_RUN = 0.02  # seconds of the reference in one timed run; short ones fall between interruptions
_RUNS = 5  # of a turn
_TURNS = 3
_MOST_STEPS = 1000  # of which rows are handed over


def gradient_error(model: Sequential, X: Array, y: Array, loss: Any) -> float:
    """‖g - g₆₄‖ / ‖g₆₄‖ of the model's gradient at its present parameters.

    g₆₄ is that of the NumPy reference in float64. Arguments are those of
    ``Sequential.loss_and_gradient``; the model is built, and is not changed.
    """
    config = model.get_config() | {"dtype": "float64"}
    reference = Sequential.from_config(config, engine="numpy")
    reference.parameters = model.parameters.astype(np.float64)
    gradient, exact = (one.loss_and_gradient(X, y, loss=loss)[1] for one in (model, reference))
    return relative_error(gradient, exact)


def speedup(
    model: Sequential, X: Array, y: Array, *, batch_size: int, seconds: float = 0.7, **recipe: Any
) -> float:
    """How many times faster the model's engine trains than the NumPy reference.

    Both train fresh copies of the model on the same batches, by turns; the fastest of many
    short runs of each counts. They live in one process, in which NumPy's BLAS has the engine's
    number of threads.

    Parameters
    ----------
    model : Sequential
        Built; it is not changed.
    X, y : ndarray
        Training rows; as many are used as the reference takes in a fiftieth of a second.
    batch_size, **recipe
        ``loss``, ``optimizer`` and a number of ``threads``, all as for ``Sequential.fit``.
    seconds : float
        Roughly how long to measure. A single step of the reference may take longer.
    """
    rows, names = slice(0, _MOST_STEPS * batch_size), ("numpy", model.engine)
    recipe["batch_size"], threads = batch_size, recipe["threads"]
    task = {"config": model.get_config(), "engines": names, "recipe": recipe}
    task |= {"X": X[rows], "y": y[rows]}
    program = ["-P", "-m", __name__]

    def turn(engine: str) -> float:
        return float(both.run(engine=engine, steps=steps, runs=_RUNS)["seconds"])

    with contest.Contestant("the comparison with NumPy", program, task, threads=threads) as both:
        trials = [both.run(engine="numpy", steps=1, runs=1)["seconds"] for _ in range(3)]
        steps = max(1, round(_RUN / min(trials)))
        runs = {name: partial(turn, name) for name in names}
        best = contest.by_turns(runs, seconds, _TURNS, threads)
    return best["numpy"] / best[model.engine]


def _prepare(config: Any, engines: Any, recipe: Any, X: Array, y: Array) -> contest.Prepared:
    models = {name: Sequential.from_config(config, engine=name) for name in engines}

    def run(engine: str, steps: int, runs: int) -> dict[str, Any]:
        rows = min(steps * recipe["batch_size"], len(X))
        epochs, best = math.ceil(steps * recipe["batch_size"] / rows), math.inf
        for _ in range(runs):
            start = time.perf_counter()
            models[engine].fit(X[:rows], y[:rows], epochs=epochs, **recipe)
            best = min(best, time.perf_counter() - start)
        return {"seconds": best}

    for engine in engines:
        run(engine, 1, 1)
    return {}, run


if __name__ == "__main__":
    contest.serve(_prepare)
