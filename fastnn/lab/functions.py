"""Learning a function of one variable: random networks, more examples, other architectures.

The first three experiments of the articles (S2, S8, S16). A network with one input and one
output computes some function whatever its weights; examples pull that function towards the
one that they come from; and how close it can come depends on the neurons there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
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

_TARGET = {"color": style.FAINT, "lw": 1.4, "ls": "--"}


# --------------------------------------------------------------------------- random networks


@dataclass(frozen=True, eq=False)
class RandomNetworks:
    """What networks with random weights compute.

    Attributes
    ----------
    x : ndarray (points,)
    outputs : ndarray (count, points)
        One row per set of weights.
    target : ndarray (points,)
        The function to be learned.
    """

    x: Array
    outputs: Array
    target: Array

    def summary(self) -> str:
        """The figures in a sentence."""
        errors = np.mean((self.outputs - self.target) ** 2, axis=1)
        return (
            f"{len(self.outputs)} random sets of weights: mean squared distance from the target "
            f"{errors.min():.2f} to {errors.max():.2f}, where answering its mean everywhere "
            f"has {self.target.var():.2f}"
        )

    @style.styled
    def plot(self) -> Any:
        """A panel for each network."""
        columns = 4
        rows = -(-len(self.outputs) // columns)
        figure = style.new_figure(9, 0.8 + 1.45 * rows, "What random weights compute")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, output in zip(grid.flat, self.outputs, strict=False):
            axes.plot(self.x, self.target, **_TARGET)
            axes.plot(self.x, output, color=style.BLUE)
        for axes in grid.flat[len(self.outputs) :]:
            axes.set_visible(False)
        first = grid[0, 0]
        first.set_ylim(*np.quantile(self.outputs, [0.002, 0.998]) * 1.1)
        figure.supxlabel("input x", size=10)
        figure.supylabel("output", size=10)
        handles = [first.lines[1], first.lines[0]]
        names = ["network", "function to be learned"]
        figure.legend(handles, names, loc="outside upper right")
        return figure


def random_networks(
    count: int = 12,
    hidden: Sequence[int] = (16, 16),
    scale: float = 1.5,
    seed: int = 0,
    engine: str = "auto",
) -> RandomNetworks:
    """Networks with one input and one output whose every weight and bias is random.

    Parameters
    ----------
    count : int
        Sets of weights.
    hidden : sequence of int
        Units of the hidden layers; tanh.
    scale : float
        Weights into a layer of n inputs are normal with deviation scale/√n, biases with
        deviation ``scale``.
    seed : int
    engine : str

    Returns
    -------
    RandomNetworks
    """
    count = checks.whole("count", count)
    rng = np.random.default_rng(seed)
    model = network(1, *hidden, 1, dtype="float64", engine=engine)
    x = targets.line()
    outputs = []
    for _ in range(count):
        model.weights = [
            (rng.normal(0, scale / math.sqrt(len(W)), W.shape), rng.normal(0, scale, W.shape[1]))
            for W, _ in model.weights
        ]
        outputs.append(model.predict(x)[:, 0])
    return RandomNetworks(x[:, 0], np.array(outputs), targets.step_like(x[:, 0]))


# --------------------------------------------------------------------------- more examples


@dataclass(frozen=True, eq=False)
class LearningCourse:
    """A network on its way through a stream of examples.

    Attributes
    ----------
    counts : ndarray (k,) of int
        Examples seen.
    x : ndarray (points,)
    outputs : ndarray (k, points)
        The function that the network computes after so many.
    target : ndarray (points,)
    losses : ndarray (k,)
        L2 loss: the sum of squared differences over ``points`` even inputs.
    seconds : float
        Spent in ``fit``.
    """

    counts: Array
    x: Array
    outputs: Array
    target: Array
    losses: Array
    seconds: float

    def summary(self) -> str:
        """The figures in a sentence."""
        return (
            f"{self.counts[-1]:,} examples in {self.seconds:.2f} s of training: the L2 loss over "
            f"{len(self.x)} points fell from {self.losses[0]:.1f} to {self.losses[-1]:.3f}"
        )

    def at(self, count: float) -> int:
        """The index of the state after about so many examples."""
        return int(np.argmin(np.abs(np.log(self.counts / count))))

    @style.styled
    def plot(self) -> Any:
        """The fit after each power of ten, and the learning curve."""
        powers = range(1, round(math.log10(self.counts[-1])) + 1)
        columns = 4
        rows = -(-(len(powers) + 1) // columns)
        figure = style.new_figure(9.5, 0.6 + 2 * rows, "One network, more and more examples")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, power in zip(grid.flat, powers, strict=False):
            axes.plot(self.x, self.target, label="target", **_TARGET)
            axes.plot(self.x, self.outputs[self.at(10**power)], color=style.BLUE, label="network")
            axes.set_ylim(-0.35, 1.35)
            axes.set_title(f"{10**power:,} examples", size=9.5)
            axes.set_xlabel("input x")
        grid[0, 0].set_ylabel("output")
        figure.legend(handles=grid[0, 0].lines, loc="outside upper right")
        for axes in grid.flat[len(powers) :]:
            axes.set_visible(False)
        axes = grid.flat[len(powers)]
        axes.set_visible(True)
        axes.loglog(self.counts, self.losses, color=style.ORANGE)
        axes.set_title("Learning curve", size=9.5)
        axes.set_xlabel("examples seen")
        axes.set_ylabel("L2 loss")
        return figure

    def frames(self) -> Iterator[Any]:
        """The fit, and the learning curve beside it, state by state."""
        figure = style.new_figure(8, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        left.plot(self.x, self.target, **_TARGET)
        (curve,) = left.plot(self.x, self.outputs[0], color=style.BLUE, lw=2.2)
        left.set_ylim(-0.35, 1.35)
        left.set_xlabel("input x")
        left.set_ylabel("output")
        right.loglog(self.counts, self.losses, color=style.GRID)
        (past,) = right.loglog(self.counts[:1], self.losses[:1], color=style.ORANGE)
        right.set_xlabel("examples seen")
        right.set_ylabel("L2 loss")
        for k, count in enumerate(self.counts):
            curve.set_ydata(self.outputs[k])
            past.set_data(self.counts[: k + 1], self.losses[: k + 1])
            left.set_title(f"after {count:,} examples")
            yield figure


def more_examples(
    examples: int = 10_000_000,
    hidden: Sequence[int] = (32, 32),
    states_per_decade: int = 8,
    seed: int = 0,
    engine: str = "auto",
) -> LearningCourse:
    """Show a network ever more examples of a step-like function, each of them once.

    Mini-batches of 32, Adam; the learning rate shrinks as the number of examples grows, as
    a mean over more of them wants.

    Parameters
    ----------
    examples : int
        At least 10.
    hidden : sequence of int
        Units of the hidden layers; tanh.
    states_per_decade : int
        How often to look, by factors of ten in the number of examples.
    seed : int
    engine : str

    Returns
    -------
    LearningCourse
    """
    examples = checks.whole("examples", examples, at_least=10)
    states = checks.whole("states_per_decade", states_per_decade)
    model = network(1, *hidden, 1, seed=seed, engine=engine)
    steps = round(states * math.log10(examples / 10)) + 1
    counts = np.unique(np.geomspace(10, examples, steps).round().astype(np.int64))
    points = targets.line()
    target = targets.step_like(points)
    outputs, losses, seconds, seen = [], [], 0.0, 0
    for part, count in enumerate(counts):
        X, y = targets.examples(int(count) - seen, seed=seed + part)
        rate = min(0.01, 0.01 * (3e4 / count) ** 0.5)
        start = time.perf_counter()
        model.fit(X, y, "mse", Adam(rate), epochs=1, batch_size=32, resume=part > 0)
        seconds += time.perf_counter() - start
        seen = int(count)
        outputs.append(model.predict(points)[:, 0])
        losses.append(model.evaluate(points, target, "sum_squares"))
    return LearningCourse(
        counts, points[:, 0], np.array(outputs), target[:, 0], np.array(losses), seconds
    )


# --------------------------------------------------------------------------- architectures


@dataclass(frozen=True, eq=False)
class Architectures:
    """The best fit of each architecture.

    Attributes
    ----------
    hidden : tuple of tuple of int
        Units of the hidden layers.
    x, target : ndarray (points,)
    outputs : ndarray (architectures, points)
    errors : ndarray (architectures,)
        Mean squared error over the points.
    sizes : ndarray (architectures,) of int
        Parameters.
    monotone_error : float
        The least error of any function that only rises or only falls.
    """

    hidden: tuple[tuple[int, ...], ...]
    x: Array
    target: Array
    outputs: Array
    errors: Array
    sizes: Array
    monotone_error: float

    def summary(self) -> str:
        """The figures in a sentence."""
        named = [
            f"{'-'.join(map(str, hidden))}: {error:.4f}"
            for hidden, error in zip(self.hidden, self.errors, strict=True)
        ]
        bound = f"no monotone function gets below {self.monotone_error:.4f}"
        return f"mean squared error by hidden layers, {', '.join(named)}; {bound}"

    @style.styled
    def plot(self) -> Any:
        """A panel for each architecture."""
        columns = 3
        rows = -(-len(self.hidden) // columns)
        title = "The same function, the same examples, other networks"
        figure = style.new_figure(9, 0.8 + 2.1 * rows, title)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for k, axes in enumerate(grid.flat[: len(self.hidden)]):
            layers = " + ".join(map(str, self.hidden[k]))
            neurons = "neuron" if self.hidden[k] == (1,) else "neurons"
            axes.plot(self.x, self.target, label="target", **_TARGET)
            axes.plot(self.x, self.outputs[k], color=style.BLUE, label="network")
            axes.set_title(f"{layers} hidden {neurons}")
            text = f"{self.sizes[k]} parameters\nerror {self.errors[k]:.4f}"
            axes.text(0.03, 0.95, text, transform=axes.transAxes, va="top", size=8.5)
        for axes in grid.flat[len(self.hidden) :]:
            axes.set_visible(False)
        grid[0, 0].set_ylim(-0.3, 1.6)
        grid[0, 0].legend(loc="lower right", fontsize=8, handlelength=1.3)
        figure.supxlabel("input x", size=10)
        figure.supylabel("output", size=10)
        return figure


def architectures(
    hidden: Sequence[Sequence[int]] = ((1,), (3,), (10,), (100,), (10, 10), (10, 10, 10)),
    starts: int = 6,
    epochs: int = 150,
    rows: int = 3000,
    seed: int = 0,
    engine: str = "auto",
) -> Architectures:
    """Fit one function with networks of different width and depth.

    Parameters
    ----------
    hidden : sequence of sequences of int
        Units of the hidden layers, of each architecture; tanh.
    starts : int
        Random starts of each; the best is kept, so that what is seen is what the
        architecture can do rather than what chance did.
    epochs, rows : int
        Passes over so many examples; Adam in one cycle.
    seed : int
    engine : str

    Returns
    -------
    Architectures
    """
    wanted = tuple(tuple(sizes) for sizes in hidden)
    starts, rows = checks.whole("starts", starts), checks.whole("rows", rows)
    X, y = targets.examples(rows, seed)
    points = targets.line()
    target = targets.step_like(points)
    outputs, errors, sizes = [], [], []
    for layers in wanted:
        models = [network(1, *layers, 1, seed=seed + k, engine=engine) for k in range(starts)]
        recipe = {"loss": "mse", "optimizer": Adam(OneCycle(0.03)), "epochs": epochs}
        fit_all(models, X, y, **recipe)
        scores = [model.evaluate(points, target, "mse") for model in models]
        best = models[int(np.argmin(scores))]
        outputs.append(best.predict(points)[:, 0])
        errors.append(min(scores))
        sizes.append(best.size)
    return Architectures(
        wanted,
        points[:, 0],
        target[:, 0],
        np.array(outputs),
        np.array(errors),
        np.array(sizes),
        targets.best_monotone_error(),
    )
