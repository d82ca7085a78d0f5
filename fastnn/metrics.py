"""Metrics: what a fit reports at the end of each epoch beside the loss.

They compare the target with the network's output as ``predict`` gives it. Names are
weighted by the sample weights; a callable f(target, output) -> float gets the target as
labels (n,) or rows (n, outputs), and no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import checks
from .kernels.contract import LossSpec

Array = NDArray[Any]

#: (target, output (n, outputs), weight (n,) or None) -> float
Metric = Callable[[Array, Array, Array | None], float]


def _mean(values: Array, weight: Array | None) -> float:
    """The mean over rows of ``values`` (n,) or (n, outputs), in float64."""
    rows = values if values.ndim == 1 else values.mean(axis=1, dtype=np.float64)
    if weight is None:
        return float(rows.mean(dtype=np.float64))
    return float(np.dot(rows.astype(np.float64), weight) / weight.sum(dtype=np.float64))


def mse(target: Array, output: Array, weight: Array | None) -> float:
    """Over all elements, as ``mae``."""
    return _mean((output - target) ** 2, weight)


def mae(target: Array, output: Array, weight: Array | None) -> float:
    return _mean(np.abs(output - target), weight)


def r2(target: Array, output: Array, weight: Array | None) -> float:
    """Coefficient of determination 1 - Σw(t - o)² / Σw(t - t̄)², averaged over outputs.

    A constant target gives 1 if it is met exactly, else 0.
    """
    w = np.ones(len(target)) if weight is None else weight.astype(np.float64)
    exact = target.astype(np.float64)
    mean = w @ exact / w.sum()
    residual = w @ (exact - output) ** 2
    total = w @ (exact - mean) ** 2
    ratio = np.divide(residual, total, out=(residual > 0).astype(np.float64), where=total > 0)
    return float((1 - ratio).mean())


def _accuracy(loss: LossSpec) -> Metric:
    """The share of rows whose largest output is the right one, or of right decisions.

    With one output, or a loss that decides by each of them, an output decides where the
    loss's row says, else at ½; a target by ½.
    """
    is_alone = loss.row.decides_at is not None
    limit = loss.row.decides_at if is_alone and not loss.fused else 0.5

    def accuracy(target: Array, output: Array, weight: Array | None) -> float:
        if target.ndim == 1:
            return _mean(output.argmax(axis=1) == target, weight)
        if output.shape[1] > 1 and not is_alone:
            return _mean(output.argmax(axis=1) == target.argmax(axis=1), weight)
        return _mean((output > limit) == (target > 0.5), weight)

    return accuracy


_METRICS: dict[str, Metric] = {"mse": mse, "mae": mae, "r2": r2}
METRICS = ("accuracy", *_METRICS)


def resolve(metrics: Any, loss: LossSpec, target: Array) -> dict[str, Metric]:
    """Functions by name for what the user asked for: names and callables, or one of them.

    The loss says how an output decides; where the target is labels, only accuracy has a name.
    """
    if isinstance(metrics, str) or callable(metrics):
        metrics = (metrics,)
    if not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a list of names and functions, not {metrics!r}")
    found: dict[str, Metric] = {}
    for metric in metrics:
        if callable(metric):
            name, function = getattr(metric, "__name__", type(metric).__name__), _plain(metric)
        else:
            name = checks.choice("metric", metric, METRICS)
            if name != "accuracy" and target.ndim == 1:
                raise ValueError(f"metric {name!r} needs rows as targets, not labels")
            function = _accuracy(loss) if name == "accuracy" else _METRICS[name]
        if name in found or name in ("loss", "learning_rate"):
            raise ValueError(f"two series of the history would be called {name!r}")
        found[name] = function
    return found


def _plain(function: Callable[[Array, Array], Any]) -> Metric:
    return lambda target, output, weight: float(function(target, output))
