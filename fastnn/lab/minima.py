"""Getting stuck: the share of random starts that do, falling as the network gets wider (S9).

The claim is that minimisation is easier with many weights than with few. To test just
that, the examples come from a network of four hidden neurons: every student of at least
four *can* reach a loss of zero, so one that does not has been caught on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..optimizers import Adam
from ..schedules import CosineDecay
from . import style
from .networks import fit_all, network

Array = NDArray[Any]

#: Hidden neurons of the teacher.
TEACHER = 4


@dataclass(frozen=True, eq=False)
class Stuck:
    """Where many random starts end, for each width.

    Attributes
    ----------
    widths : ndarray (k,) of int
        Hidden neurons.
    losses : ndarray (k, starts)
        The loss of each start at the end, over the variance of the target.
    threshold : float
        A start that ends above is stuck.
    """

    widths: Array
    losses: Array
    threshold: float

    @property
    def shares(self) -> Array:
        """The share of starts that got stuck, (k,)."""
        shares: Array = np.mean(self.losses > self.threshold, axis=1)
        return shares

    def summary(self) -> str:
        """The figures in a sentence."""
        shares = ", ".join(
            f"{share:.0%} with {width}"
            for width, share in zip(self.widths, self.shares, strict=True)
        )
        return f"of {self.losses.shape[1]} random starts got stuck: {shares} hidden neurons"

    @style.styled
    def plot(self) -> Any:
        """Every start as a dot, and the share of the stuck."""
        title = f"Students of a teacher with {TEACHER} hidden neurons: who gets stuck?"
        figure = style.new_figure(10, 4.2, title)
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        places = np.arange(len(self.widths))
        rng = np.random.default_rng(0)
        for place, losses in zip(places, self.losses, strict=True):
            stuck = losses > self.threshold
            beside = place + rng.uniform(-0.28, 0.28, len(losses))
            left.plot(beside[stuck], losses[stuck], "o", color=style.ORANGE, ms=3.5)
            left.plot(beside[~stuck], losses[~stuck], "o", color=style.BLUE, ms=3.5)
        left.axhline(self.threshold, color=style.FAINT, lw=1, ls="--")
        left.set_yscale("log")
        left.set_xticks(places, [str(width) for width in self.widths])
        left.set_xlabel("hidden neurons of the student")
        left.set_ylabel("final loss / variance of the target")
        left.set_title("Each dot a random start; orange: stuck")
        right.bar(places, 100 * self.shares, color=style.ORANGE, width=0.65)
        for place, share in zip(places, self.shares, strict=True):
            right.annotate(
                f"{share:.0%}",
                (place, 100 * share),
                (0, 3),
                textcoords="offset points",
                ha="center",
            )
        right.set_xticks(places, [str(width) for width in self.widths])
        right.set_xlabel("hidden neurons of the student")
        right.set_ylabel("starts that got stuck, %")
        right.set_ylim(0, 105)
        right.grid(visible=False, axis="x")
        right.set_title("More weights, fewer mountain lakes")
        return figure


def stuck_starts(
    widths: Sequence[int] = (4, 5, 6, 8, 12, 20),
    starts: int = 50,
    epochs: int = 1000,
    rows: int = 256,
    threshold: float = 0.01,
    seed: int = 0,
    engine: str = "auto",
) -> Stuck:
    """Train students of several widths from many random starts.

    Parameters
    ----------
    widths : sequence of int
        Hidden neurons of the students, each at least the teacher's four.
    starts : int
        Of each width.
    epochs, rows : int
        Passes over so many examples of the teacher, which has two inputs.
    threshold : float
        What counts as stuck, in variances of the target.
    seed : int
    engine : str

    Returns
    -------
    Stuck
    """
    wanted = [checks.whole("a width", width, at_least=TEACHER) for width in widths]
    starts, rows = checks.whole("starts", starts), checks.whole("rows", rows)
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, 2)).astype(np.float32)
    teacher = network(2, TEACHER, 1, seed=seed, engine=engine)
    teacher.parameters = 3 * rng.standard_normal(teacher.size)
    y = teacher.predict(X)
    losses = []
    for width in wanted:
        students = [
            network(2, width, 1, seed=1000 * width + start, engine=engine)
            for start in range(starts)
        ]
        fit_all(students, X, y, loss="mse", optimizer=Adam(CosineDecay(0.02)), epochs=epochs)
        losses.append([student.evaluate(X, y, "mse") / float(y.var()) for student in students])
    return Stuck(np.array(wanted), np.array(losses), threshold)
