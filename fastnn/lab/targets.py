"""The ground truth G(x) of the experiments: functions that networks are to learn.

Where an article shows a function only as a picture, ours has the same features: a
piecewise constant one of one variable that goes up and comes half down again, and a
smooth landscape of two variables.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .result import Array

#: Where ``step_like`` jumps, and the values between the jumps.
JUMPS, LEVELS = (-1.0, 1.0), (0.0, 1.0, 0.3)

#: The inputs of the experiments of one variable lie within ± this.
REACH = 3.0


def step_like(x: ArrayLike) -> Array:
    """0 left of -1, then 1, then 0.3 right of +1; any shape, float64."""
    return np.array(LEVELS)[np.searchsorted(JUMPS, np.asarray(x, np.float64))]


def best_monotone_error() -> float:
    """The least mean squared error of any monotone function on ``step_like`` over ± REACH.

    The three pieces have equal shares. An increasing function does best with the mean of
    the last two, a decreasing one with the mean of the first two (pool adjacent violators,
    Ayer et al. 1955). One neuron in the hidden layer computes a monotone function.
    """
    pairs = ((LEVELS[1] - LEVELS[2]) / 2, (LEVELS[0] - LEVELS[1]) / 2)
    return min(2 * half**2 / 3 for half in pairs)


def examples(count: int, seed: int = 0, dtype: str = "float32") -> tuple[Array, Array]:
    """``count`` random examples of ``step_like``: x and y, each (count, 1)."""
    x = np.random.default_rng(seed).uniform(-REACH, REACH, (count, 1))
    return x.astype(dtype), step_like(x).astype(dtype)


def line(points: int = 601, reach: float = REACH) -> Array:
    """Evenly spaced inputs (points, 1), for drawing and testing."""
    return np.linspace(-reach, reach, points)[:, np.newaxis]


def hills(points: ArrayLike) -> Array:
    """Two hills and a hollow over the unit square: (n, 2) -> (n,), float64."""
    x, y = np.asarray(points, np.float64).T
    return np.asarray(
        0.9 * np.exp(-((x - 0.3) ** 2 + (y - 0.65) ** 2) / 0.03)
        + 0.6 * np.exp(-((x - 0.72) ** 2 + (y - 0.3) ** 2) / 0.05)
        - 0.4 * np.exp(-((x - 0.7) ** 2 + (y - 0.8) ** 2) / 0.02)
    )


def square(points: int) -> Array:
    """A grid over the unit square as rows, (points², 2): y goes slowest."""
    axis = (np.arange(points) + 0.5) / points
    x, y = np.meshgrid(axis, axis)
    return np.stack([x.ravel(), y.ravel()], axis=1)
