"""Different-but-equivalent solutions: one fit inside the data, many guesses outside (S10).

Networks from different random starts learn the same examples. Where there are examples
they agree; outside, each goes on in its own way, and the spread between them says how
little is known there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..optimizers import Adam
from ..schedules import OneCycle
from . import style, targets
from .networks import fit_all, network

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Solutions:
    """What many networks make of the same examples.

    Attributes
    ----------
    x : ndarray (points,)
        Inside the data and far beyond.
    outputs : ndarray (networks, points)
    inside : ndarray (points,) of bool
        Where examples were.
    target : ndarray (points,)
    losses : ndarray (networks,)
        Mean squared error on the examples.
    """

    x: Array
    outputs: Array
    inside: Array
    target: Array
    losses: Array

    @property
    def spread(self) -> Array:
        """The standard deviation over the networks, (points,)."""
        spread: Array = self.outputs.std(axis=0)
        return spread

    def summary(self) -> str:
        """The figures in a sentence."""
        inside, outside = self.spread[self.inside], self.spread[~self.inside]
        return (
            f"{len(self.outputs)} networks, losses {self.losses.min():.4f} to "
            f"{self.losses.max():.4f}; they differ by {np.median(inside):.3f} inside the data "
            f"and by {np.median(outside):.2f} outside (medians of the standard deviation)"
        )

    @style.styled
    def plot(self) -> Any:
        """All the networks, and the spread between them."""
        title = f"{len(self.outputs)} starts, one set of examples"
        figure = style.new_figure(9, 5.6, title)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[5, 2])
        within = self.x[self.inside]
        for axes in (top, bottom):
            axes.axvspan(within[0], within[-1], color=style.GRID, alpha=0.6, lw=0)
        mean = self.outputs.mean(axis=0)
        top.plot(self.x, self.outputs.T, color=style.BLUE, lw=0.8, alpha=0.6)
        top.plot([], [], color=style.BLUE, label="a network")
        top.plot(self.x, mean, color=style.ORANGE, lw=2.2, label="their mean")
        top.plot(within, self.target[self.inside], color=style.BLACK, lw=1.4, ls="--")
        top.plot([], [], color=style.BLACK, lw=1.4, ls="--", label="target, where examples were")
        top.set_ylim(-1.2, 3)
        top.set_ylabel("output")
        top.legend(loc="upper center", ncols=3)
        bottom.fill_between(self.x, self.spread, color=style.ORANGE, lw=0)
        bottom.set_yscale("log")
        bottom.set_ylabel("spread (std. dev.)")
        bottom.set_xlabel("input x (grey: the range of the examples)")
        bottom.set_xlim(self.x[0], self.x[-1])
        return figure


def equivalent_solutions(
    networks: int = 25,
    epochs: int = 400,
    rows: int = 1500,
    hidden: int = 20,
    seed: int = 0,
    engine: str = "auto",
) -> Solutions:
    """Train networks from different random starts, all at once, on the same examples.

    Parameters
    ----------
    networks : int
        They differ in their seed: first weights and order of the examples.
    epochs, rows : int
        Passes over so many examples of the step-like function.
    hidden : int
        Neurons in each of two hidden layers; silu, which goes on for ever outside.
    seed : int
    engine : str

    Returns
    -------
    Solutions
    """
    networks, rows = checks.whole("networks", networks), checks.whole("rows", rows)
    X, y = targets.examples(rows, seed)
    models = [
        network(1, hidden, hidden, 1, activation="silu", seed=seed + start, engine=engine)
        for start in range(networks)
    ]
    fit_all(models, X, y, loss="mse", optimizer=Adam(OneCycle(0.02)), epochs=epochs)
    points = targets.line(801, 3 * targets.REACH)
    x = points[:, 0]
    return Solutions(
        x,
        np.array([model.predict(points)[:, 0] for model in models]),
        np.abs(x) <= targets.REACH,
        targets.step_like(x),
        np.array([model.evaluate(X, y, "mse") for model in models]),
    )
