"""Learning a function of one variable: what networks compute, learn, can learn, and make up.

The first experiments of the articles. A network with one input and one output computes
some function whatever its weights; examples pull that function towards the one that they
come from; how close it can come depends on the neurons there are; and where no examples
were, each network goes on in its own way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .. import checks
from ..optimizers import Adam
from ..schedules import OneCycle
from . import style, targets
from .networks import fit_all, network
from .result import Array, Result


class Curves(Result):
    """Functions of one variable that networks compute, beside the one to be learned."""

    x: Array  #: (points,)
    target: Array  #: (points,)
    outputs: Array  #: (networks or states of one, points)

    def _draw(self, axes: Any, k: int, **options: Any) -> Any:
        """The target and output k; the line of the latter."""
        axes.plot(self.x, self.target, color=style.FAINT, lw=1.4, ls="--", label="target")
        (line,) = axes.plot(self.x, self.outputs[k], color=style.BLUE, label="network", **options)
        return line

    def _panels(self, title: str, columns: int, size: tuple[float, float, float]) -> Any:
        """A figure with a panel for each output, and the panels."""
        shared = {"sharex": True, "sharey": True}
        figure, grid = style.panels(title, len(self.outputs), columns, size, **shared)
        figure.supxlabel("input x", size=10)
        figure.supylabel("output", size=10)
        for k, axes in enumerate(grid):
            self._draw(axes, k)
        return figure, grid


class RandomNetworks(Curves, pictures=["random-networks.png"]):
    """What networks with random weights compute; a row of ``outputs`` for each."""

    def summary(self) -> str:
        errors = np.mean((self.outputs - self.target) ** 2, axis=1)
        return (
            f"{len(self.outputs)} random sets of weights: mean squared distance from the target "
            f"{errors.min():.2f} to {errors.max():.2f}, where answering its mean everywhere "
            f"has {self.target.var():.2f}"
        )

    def plot(self) -> Any:
        """Twelve panels: random networks compute smooth random curves.

        One input, two hidden layers of 16 tanh neurons, one output, and every weight random.
        Each set of weights is some function. None is near the dashed one that is to be learned:
        all are further from it than its own mean is.
        """
        figure, grid = self._panels("What random weights compute", 4, (9, 0.8, 1.45))
        grid[0].set_ylim(*np.quantile(self.outputs, [0.002, 0.998]) * 1.1)
        names = ["network", "function to be learned"]
        figure.legend(grid[0].lines[::-1], names, loc="outside upper right")
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
    scale : float
        Weights into a layer of n inputs are normal with deviation scale/√n, biases with
        deviation ``scale``.
    """
    count = checks.whole("count", count)
    rng = np.random.default_rng(seed)
    model = network(1, *hidden, 1, dtype="float64", engine=engine)
    x = targets.line()
    outputs = []
    for _ in range(count):
        model.weights = [
            (rng.normal(0, scale / math.sqrt(n), (n, units)), rng.normal(0, scale, units))
            for n, units in pairwise((1, *hidden, 1))
        ]
        outputs.append(model.predict(x)[:, 0])
    return RandomNetworks(x[:, 0], targets.step_like(x[:, 0]), np.array(outputs))


class LearningCourse(Curves, pictures=["more-examples.png", "more-examples.gif"]):
    """A network on its way through a stream of examples; k states."""

    counts: Array  #: (k,) of int, examples seen
    losses: Array  #: (k,), the sum of squared differences over the points, the L2 loss
    seconds: float  #: spent in ``fit``

    def summary(self) -> str:
        return (
            f"{self.counts[-1]:,} examples in {self.seconds:.2f} s of training: the L2 loss over "
            f"{len(self.x)} points fell from {self.losses[0]:.1f} to {self.losses[-1]:.3f}"
        )

    def at(self, count: float) -> int:
        """The index of the state after about so many examples."""
        return int(np.argmin(np.abs(np.log(self.counts / count))))

    def plot(self) -> Any:
        """The fit after 10 to 10,000,000 examples, and the learning curve.

        One network is shown a stream of examples x → y, each of them once. After a hundred it
        knows the mean and a slope, after ten thousand the bump, after a million the steps. The
        loss is the plain sum of squared differences over 601 points; it falls by a factor of
        several hundred. Ten million examples are 312,500 updates and take between one and two
        seconds.
        """
        powers = range(1, round(math.log10(self.counts[-1])) + 1)
        title = "One network, more and more examples"
        figure, grid = style.panels(title, len(powers) + 1, 4, (9.5, 0.6, 2))
        for axes, power in zip(grid, powers, strict=False):
            self._draw(axes, self.at(10**power))
            axes.set(ylim=(-0.35, 1.35), xlabel="input x")
            axes.set_title(f"{10**power:,} examples", size=9.5)
        grid[0].set_ylabel("output")
        figure.legend(handles=grid[0].lines, loc="outside upper right")
        grid[-1].loglog(self.counts, self.losses, color=style.ORANGE)
        grid[-1].set_title("Learning curve", size=9.5)
        grid[-1].set(xlabel="examples seen", ylabel="L2 loss")
        return figure

    def frames(self) -> Iterator[Any]:
        """Animation of the fit."""
        figure = style.new_figure(8, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        curve = self._draw(left, 0, lw=2.2)
        left.set(ylim=(-0.35, 1.35), xlabel="input x", ylabel="output")
        right.loglog(self.counts, self.losses, color=style.GRID)
        (past,) = right.loglog(self.counts[:1], self.losses[:1], color=style.ORANGE)
        right.set(xlabel="examples seen", ylabel="L2 loss")
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
    states_per_decade : int
        How often to look, by factors of ten in the number of examples.
    """
    examples = checks.whole("examples", examples, at_least=10)
    states = checks.whole("states_per_decade", states_per_decade)
    model = network(1, *hidden, 1, seed=seed, engine=engine)
    steps = round(states * math.log10(examples / 10)) + 1
    counts = np.unique(np.geomspace(10, examples, steps).round().astype(np.int64))
    points = targets.line()
    target = targets.step_like(points)
    outputs, losses, seconds = [], [], 0.0
    fresh = np.diff(counts, prepend=0)
    for part, (count, more) in enumerate(zip(counts, fresh, strict=True)):
        X, y = targets.examples(int(more), seed=seed + part)
        rate = min(0.01, 0.01 * (3e4 / count) ** 0.5)
        start = time.perf_counter()
        model.fit(X, y, "mse", Adam(rate), epochs=1, batch_size=32, resume=part > 0)
        seconds += time.perf_counter() - start
        outputs.append(model.predict(points)[:, 0])
        losses.append(model.evaluate(points, target, "sum_squares"))
    found = np.array(outputs), counts, np.array(losses), seconds
    return LearningCourse(points[:, 0], target[:, 0], *found)


class Architectures(Curves, pictures=["architectures.png"]):
    """The best fit of each architecture; a row of ``outputs`` for each."""

    hidden: tuple[tuple[int, ...], ...]  #: units of the hidden layers
    errors: Array  #: (architectures,), mean squared error over the points
    sizes: Array  #: (architectures,) of int, parameters
    monotone_error: float  #: the least error of any function that only rises or only falls

    def summary(self) -> str:
        named = [
            f"{'-'.join(map(str, hidden))}: {error:.4f}"
            for hidden, error in zip(self.hidden, self.errors, strict=True)
        ]
        bound = f"no monotone function gets below {self.monotone_error:.4f}"
        return f"mean squared error by hidden layers, {', '.join(named)}; {bound}"

    def plot(self) -> Any:
        """Best fits of six architectures.

        The best of six starts for each architecture. One hidden neuron gives a function that
        only rises or only falls, and no such function has a mean squared error under 0.0817
        here: it is not a matter of training. Three neurons can do both steps. A hundred in one
        layer are hardly better than three in the same number of epochs, while a second layer
        makes the steps steep.
        """
        title = "The same function, the same examples, other networks"
        figure, grid = self._panels(title, 3, (9, 0.8, 2.1))
        for k, (axes, hidden) in enumerate(zip(grid, self.hidden, strict=True)):
            neurons = "neuron" if hidden == (1,) else "neurons"
            axes.set_title(f"{' + '.join(map(str, hidden))} hidden {neurons}")
            text = f"{self.sizes[k]} parameters\nerror {self.errors[k]:.4f}"
            axes.text(0.03, 0.95, text, transform=axes.transAxes, va="top", size=8.5)
        grid[0].set_ylim(-0.3, 1.6)
        grid[0].legend(loc="lower right", fontsize=8, handlelength=1.3)
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
        Of each architecture.
    starts : int
        Random starts of each; the best is kept, so that what is seen is what the
        architecture can do rather than what chance did.
    """
    wanted = tuple(tuple(sizes) for sizes in hidden)
    starts, rows = checks.whole("starts", starts), checks.whole("rows", rows)
    X, y = targets.examples(rows, seed)
    points = targets.line()
    target = targets.step_like(points)
    best = []
    for layers in wanted:
        models = [network(1, *layers, 1, seed=seed + k, engine=engine) for k in range(starts)]
        fit_all(models, X, y, loss="mse", optimizer=Adam(OneCycle(0.03)), epochs=epochs)
        best.append(min(models, key=lambda model: model.evaluate(points, target, "mse")))
    outputs = np.array([model.predict(points)[:, 0] for model in best])
    errors = np.array([model.evaluate(points, target, "mse") for model in best])
    sizes = np.array([model.size for model in best])
    found = wanted, errors, sizes, targets.best_monotone_error()
    return Architectures(points[:, 0], target[:, 0], outputs, *found)


class Solutions(Curves, pictures=["solutions.png"]):
    """What many networks make of the same examples, inside the data and far beyond."""

    inside: Array  #: (points,) of bool, where examples were
    losses: Array  #: (networks,), mean squared error on the examples

    @property
    def spread(self) -> Array:
        """The standard deviation over the networks, (points,)."""
        return np.asarray(self.outputs.std(axis=0))

    def summary(self) -> str:
        inside, outside = self.spread[self.inside], self.spread[~self.inside]
        return (
            f"{len(self.outputs)} networks, losses {self.losses.min():.4f} to "
            f"{self.losses.max():.4f}; they differ by {np.median(inside):.3f} inside the data "
            f"and by {np.median(outside):.2f} outside (medians of the standard deviation)"
        )

    def plot(self) -> Any:
        """25 networks, equal inside the data and apart outside.

        Twenty-five random starts, trained at once on all cores. Inside the range of the
        examples the networks differ by thousandths; outside each goes on in its own way, and
        nothing says which is right. The spread between them shows where not to believe any.
        """
        figure = style.new_figure(9, 5.6, f"{len(self.outputs)} starts, one set of examples")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[5, 2])
        within = self.x[self.inside]
        for axes in (top, bottom):
            axes.axvspan(within[0], within[-1], color=style.GRID, alpha=0.6, lw=0)
        top.plot(self.x, self.outputs.T, color=style.BLUE, lw=0.8, alpha=0.6)
        top.plot([], [], color=style.BLUE, label="a network")
        mean = self.outputs.mean(axis=0)
        top.plot(self.x, mean, color=style.ORANGE, lw=2.2, label="their mean")
        known = self.target[self.inside]
        dashed = {"color": style.BLACK, "lw": 1.4, "ls": "--"}
        top.plot(within, known, label="target, where examples were", **dashed)
        top.set(ylim=(-1.2, 3), ylabel="output")
        top.legend(loc="upper center", ncols=3)
        bottom.fill_between(self.x, self.spread, color=style.ORANGE, lw=0)
        bottom.set(yscale="log", ylabel="spread (std. dev.)", xlim=self.x[[0, -1]])
        bottom.set_xlabel("input x (grey: the range of the examples)")
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
    hidden : int
        Neurons in each of two hidden layers; silu, which goes on for ever outside.
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
    outputs = np.array([model.predict(points)[:, 0] for model in models])
    losses = np.array([model.evaluate(X, y, "mse") for model in models])
    return Solutions(x, targets.step_like(x), outputs, np.abs(x) <= targets.REACH, losses)
