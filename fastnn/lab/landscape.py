"""The loss as a landscape over the weights, and where descent gets caught.

Two weights, where a path of steepest descent ends in the lake that its start lies above;
two weights out of a real network, all others held fixed; and many weights, with which
fewer starts get caught. Losses and derivatives are the model's, updates the optimizer's;
only the choice of which weights may move is made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import checks, kernels
from ..model import Sequential
from ..optimizers import SGD, Adam, Optimizer
from ..schedules import CosineDecay
from . import style, targets
from .networks import at_each, fit_all, network, trajectory
from .result import Array, Result


def loss_surface(
    model: Sequential, X: Array, y: Array, loss: str, free: Sequence[int], axes: Sequence[Array]
) -> Array:
    """The loss over a grid of two parameters, all others as they are, (rows, columns).

    Parameters
    ----------
    model : Sequential
        Its parameters are the same afterwards.
    X, y, loss
        As for ``Sequential.evaluate``.
    free : two ints
        Places in ``model.parameters``.
    axes : two arrays, (columns,) and (rows,)
        The values of the first and of the second.
    """
    before = model.parameters

    def points() -> Iterator[Array]:
        parameters = before.copy()
        for second in axes[1]:
            for first in axes[0]:
                parameters[list(free)] = first, second
                yield parameters

    losses = at_each(model, points(), lambda: model.evaluate(X, y, loss))
    model.parameters = before
    return losses.reshape(len(axes[1]), len(axes[0]))


def descend(
    model: Sequential,
    X: Array,
    y: Array,
    loss: str,
    free: Sequence[int],
    optimizer: Optimizer,
    steps: int,
) -> Array:
    """Descend over some of the parameters; the path, its start included, (steps + 1, len(free)).

    Parameters
    ----------
    model : Sequential
        Ends where the descent ends.
    X, y, loss
        As for ``Sequential.loss_and_gradient``.
    free : sequence of int
        Places in ``model.parameters``.
    optimizer : Optimizer
        With a constant rate.
    steps : int
    """
    places = list(free)
    parameters, spec = model.parameters, optimizer.spec()
    rates = optimizer.schedule.rates(0, max(steps, 1), 1)
    moving = parameters[places]
    moments = tuple(np.zeros_like(moving) for _ in range(spec.moments))
    path = [moving.copy()]
    for step in range(steps):
        _, gradient = model.loss_and_gradient(X, y, loss)
        kernels.optimizer_update(
            moving, gradient[places], moments, spec, rates[step], step + 1, engine=model.engine
        )
        parameters[places] = moving
        model.parameters = parameters
        path.append(moving.copy())
    return np.array(path)


class Lakes(Result, pictures=["two-weights.png", "two-weights.gif"]):
    """Descent on a landscape of two weights that has several minima."""

    axes: tuple[Array, Array]  #: values of w₁ (columns) and of w₂ (rows)
    surface: Array  #: (rows, columns), the loss
    minima: Array  #: (lakes, 2), the deepest first
    depths: Array  #: (lakes,), the loss there
    paths: dict[str, Array]  #: "steepest descent" and "momentum 0.9" -> (starts, steps + 1, 2)
    ends: dict[str, Array]  #: the same -> (starts,) of int: the lake that each path ends in

    def summary(self) -> str:
        depths = ", ".join(f"{depth:.3f}" for depth in self.depths)
        found = ", ".join(
            f"{name} brings {np.sum(ends == 0)} of {len(ends)} starts to the deepest"
            for name, ends in self.ends.items()
        )
        return f"{len(self.depths)} lakes with losses {depths}; {found}"

    def _ground(self, axes: Any, name: str) -> Any:
        low, high = self.surface.min(), self.surface.max()
        levels = low + (high - low) * np.linspace(0, 1, 25) ** 1.6
        filled = style.chart(axes, self.axes, self.surface, levels, cmap=style.GROWING)
        axes.contour(*self.axes, self.surface, levels[::2], colors="white", linewidths=0.3)
        axes.plot(*self.minima[1:].T, "x", color="white", ms=7, mew=1.6)
        axes.plot(*self.minima[:1].T, "*", color="white", ms=12)
        axes.set(xlabel="weight w₁", title=name.capitalize())
        return filled

    def plot(self) -> Any:
        """Relief and maps of a loss with four minima, with paths.

        One sigmoid neuron with two weights, and examples that contradict each other, so that
        its loss has four lakes (after Auer, Herbster and Warmuth, 1995). Steepest descent ends
        in the lake below its start, of 16 starts once in the deepest. Momentum carries a drop
        over some ridges: three get there.
        """
        footnote = (
            "dots: starts; star: the deepest lake, orange paths end in it; "
            "crosses: the others, blue paths are caught there"
        )
        title = "Down the loss of a network with two weights"
        figure = style.new_figure(11, 4.2, title, footnote)
        relief = figure.add_subplot(1, 3, 1, projection="3d")
        style.relief(relief, self.axes, self.surface, (38, -125, 0.85), rcount=60)
        relief.set(xlabel="w₁", ylabel="w₂", title="Loss over w₁ and w₂")
        relief.locator_params(axis="z", nbins=4)
        maps = [figure.add_subplot(1, 3, 2)]
        maps.append(figure.add_subplot(1, 3, 3, sharex=maps[0], sharey=maps[0]))
        for axes, (name, paths) in zip(maps, self.paths.items(), strict=True):
            filled = self._ground(axes, name)
            for path, end in zip(paths, self.ends[name], strict=True):
                colour = style.YELLOW if end == 0 else style.SKY
                axes.plot(*path.T, color=colour, lw=1.4)
                axes.plot(*path[:1].T, "o", color=colour, ms=5, mec="white", mew=0.6)
        maps[0].set_ylabel("weight w₂")
        figure.colorbar(filled, ax=maps, label="loss", shrink=0.8, format="%.2f")
        return figure

    def frames(self) -> Iterator[Any]:
        """Animation of the paths."""
        figure = style.new_figure(7.5, 3.9)
        maps = figure.subplots(1, 2, sharex=True, sharey=True)
        drops, tails = [], []
        for axes, (name, paths) in zip(maps, self.paths.items(), strict=True):
            self._ground(axes, name)
            tails.append([axes.plot(*path[:1].T, color="white", lw=0.9)[0] for path in paths])
            drops.append(axes.plot(*paths[:, 0].T, "o", color=style.ORANGE, ms=6, mec="white")[0])
        maps[0].set_ylabel("weight w₂")
        steps = len(next(iter(self.paths.values()))[0])
        for step in np.unique(np.geomspace(1, steps, 44).astype(int)) - 1:
            for drop, lines, paths in zip(drops, tails, self.paths.values(), strict=True):
                drop.set_data(*paths[:, step].T)
                for line, path in zip(lines, paths, strict=True):
                    line.set_data(*path[: step + 1].T)
            yield figure


#: One neuron σ(w₁x₁ + w₂x₂), and for each of its weights two examples that contradict each
#: other: (x₁, x₂), target, how often. The first of a pair wants a large weight, slowly; the
#: second a negative one, in a hurry, and gives up once its sigmoid is saturated. Hence two
#: minima along each weight, four in all; the construction is that of Auer, Herbster and
#: Warmuth, "Exponentially many local minima for single neurons", NIPS 1995.
_CONTRADICTIONS = (
    ((0.5, 0.0), 0.9, 6),
    ((5.0, 0.0), 0.0, 2),
    ((0.0, 0.5), 0.95, 10),
    ((0.0, 5.0), 0.1, 2),
)


def two_weights(
    starts: int = 16, steps: int = 3000, points: int = 81, seed: int = 0, engine: str = "auto"
) -> Lakes:
    """Descend from random starts on the loss of one neuron with two weights.

    Gradient descent over the whole data set, without momentum and with; the same starts,
    learning rate and number of steps.
    """
    starts, points = checks.whole("starts", starts), checks.whole("points", points, at_least=10)
    examples = [(row, [target]) for row, target, often in _CONTRADICTIONS for _ in range(often)]
    X, y = (np.array(part) for part in zip(*examples, strict=True))
    model = network(2, 1, last="sigmoid", use_bias=False, dtype="float64", engine=engine)

    def path(start: Array, way: Optimizer, steps: int) -> Array:
        return trajectory(model, start, X, y, way, epochs=steps, shuffle=False)

    axes = (np.linspace(-2, 7, points), np.linspace(-2, 8, points))
    surface = loss_surface(model, X, y, "mse", (0, 1), axes)
    minima = np.array(
        [path(point, Adam(CosineDecay(0.02)), 1500)[-1] for point in _valleys(axes, surface)]
    )
    depths = at_each(model, minima, lambda: model.evaluate(X, y, "mse"))
    order = np.argsort(depths)
    minima = minima[order]
    first = np.random.default_rng(seed).uniform([-1.8, -1.8], [5, 5], (starts, 2))
    ways = {"steepest descent": SGD(2.0), "momentum 0.9": SGD(2.0, momentum=0.9)}
    paths = {
        name: np.array([path(point, way, steps) for point in first]) for name, way in ways.items()
    }
    ends = {
        name: np.argmin(np.linalg.norm(path[:, -1, None] - minima, axis=2), axis=1)
        for name, path in paths.items()
    }
    return Lakes(axes, surface, minima, depths[order], paths, ends)


def _valleys(axes: tuple[Array, Array], surface: Array) -> Array:
    """The points of a grid that lie below all their eight neighbours, (lakes, 2)."""
    around = np.lib.stride_tricks.sliding_window_view(surface, (3, 3))
    rows, columns = np.nonzero(around.reshape(*around.shape[:2], 9).argmin(axis=2) == 4)
    return np.stack([axes[0][columns + 1], axes[1][rows + 1]], axis=1)


class Slice(Result, pictures=["real-network.png"]):
    """Two weights of a trained network, all others fixed."""

    names: tuple[str, str]  #: of the weights
    size: int  #: parameters of the network
    axes: tuple[Array, Array]  #: values of the two, of columns and of rows
    surface: Array  #: (rows, columns), the loss
    trained: Array  #: (2,), what training had made of the two
    trained_loss: float
    paths: Array  #: (starts, steps + 1, 2), steepest descent over the two
    losses: Array  #: (starts,), where the paths end

    def summary(self) -> str:
        return (
            f"two of {self.size} parameters: training left them at loss {self.trained_loss:.4f}; "
            f"steepest descent over the two alone ends between {self.losses.min():.4f} and "
            f"{self.losses.max():.4f}"
        )

    def plot(self) -> Any:
        """The loss over two weights of a trained network.

        Two weights of a trained network with 25 parameters, all others fixed. From half of the
        starts, steepest descent over the two finds back to what training had found; from the
        others it is caught in another hollow. ``lab.loss_surface`` and ``lab.descend`` do the
        same for any model.
        """
        title = f"Two weights of a network of {self.size} parameters, the others fixed"
        figure = style.new_figure(10, 4.4, title)
        shown = np.log10(self.surface)
        names = dict(zip(("xlabel", "ylabel"), self.names, strict=True))
        relief = figure.add_subplot(1, 2, 1, projection="3d")
        style.relief(relief, self.axes, shown, (42, -60, 0.9), rcount=60)
        relief.tick_params(labelsize=8)
        relief.set(**names, zlabel="log₁₀ loss")
        axes = figure.add_subplot(1, 2, 2)
        filled = style.chart(axes, self.axes, shown, 24, cmap=style.GROWING)
        for path in self.paths:
            axes.plot(*path.T, color=style.YELLOW, lw=1.4)
        axes.plot(*self.paths[:, 0].T, "o", color=style.YELLOW, mec="white", ms=6, label="starts")
        axes.plot(*self.paths[:, -1].T, "x", color="white", mew=2, label="ends", ls="none")
        axes.plot(*self.trained, "*", color="white", ms=13, label="where training ended")
        axes.set(**names, title="Paths of steepest descent")
        figure.colorbar(filled, ax=axes, label="log₁₀ of the mean squared error")
        box = {"labelcolor": "white", "facecolor": style.FAINT, "framealpha": 1, "frameon": True}
        figure.legend(loc="outside lower right", ncols=3, **box)
        return figure


def real_network(
    hidden: int = 8,
    epochs: int = 300,
    rows: int = 1000,
    points: int = 61,
    starts: int = 8,
    steps: int = 1500,
    seed: int = 3,
    engine: str = "auto",
) -> Slice:
    """Train a network on the step-like function, then look at its loss over two of its weights.

    The two belong to the hidden neurons with the largest output weights.

    Parameters
    ----------
    hidden : int
        Neurons.
    starts, steps : int
        Of steepest descent over the two weights.
    """
    rows, hidden = checks.whole("rows", rows), checks.whole("hidden", hidden, at_least=2)
    starts, points = checks.whole("starts", starts), checks.whole("points", points, at_least=2)
    X, y = targets.examples(rows, seed, "float64")
    model = network(1, hidden, 1, dtype="float64", seed=seed, engine=engine)
    model.fit(X, y, "mse", Adam(0.02), epochs=epochs)
    outward = np.asarray(model.weights[1][0])
    strongest = np.argsort(-np.abs(outward[:, 0]))[:2]
    free = strongest.tolist()  # places in W0, which has one row
    parameters = model.parameters
    trained = parameters[free]
    loss = model.evaluate(X, y, "mse")
    reach = 1.6 * np.abs(trained).max()
    axes = (np.linspace(-reach, reach, points), np.linspace(-reach, reach, points))
    surface = loss_surface(model, X, y, "mse", free, axes)
    rng = np.random.default_rng(seed)
    paths, losses = [], []
    for start in rng.uniform(-0.9 * reach, 0.9 * reach, (starts, 2)):
        parameters[free] = start
        model.parameters = parameters
        paths.append(descend(model, X, y, "mse", free, SGD(1.0), steps))
        losses.append(model.evaluate(X, y, "mse"))
    first, second = (f"weight into hidden neuron {unit + 1}" for unit in free)
    found = trained, loss, np.array(paths), np.array(losses)
    return Slice((first, second), model.size, axes, surface, *found)


#: Hidden neurons of the teacher.
TEACHER = 4


class Stuck(Result, pictures=["stuck-starts.png"]):
    """Where many random starts end, for each of k widths."""

    widths: Array  #: (k,) of int, hidden neurons
    losses: Array  #: (k, starts), the loss of each at the end, over the variance of the target
    threshold: float  #: a start that ends above is stuck

    @property
    def shares(self) -> Array:
        """The share of starts that got stuck, (k,)."""
        return np.asarray(np.mean(self.losses > self.threshold, axis=1))

    def summary(self) -> str:
        shares = ", ".join(
            f"{share:.0%} with {width}"
            for width, share in zip(self.widths, self.shares, strict=True)
        )
        return f"of {self.losses.shape[1]} random starts got stuck: {shares} hidden neurons"

    def plot(self) -> Any:
        """Final losses of many starts by width, and the share that got stuck.

        The examples come from a network of four hidden neurons, so every student in the picture
        could reach a loss of zero. Of 50 random starts with four neurons 47 do not; they sit in
        local minima at a few distinct heights. With eight neurons none is caught: more weights
        are easier.
        """
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
        left.set(yscale="log", ylabel="final loss / variance of the target")
        left.set_title("Each dot a random start; orange: stuck")
        bars = right.bar(places, 100 * self.shares, color=style.ORANGE, width=0.65)
        right.bar_label(bars, [f"{share:.0%}" for share in self.shares], padding=1)
        right.set(ylim=(0, 105), ylabel="starts that got stuck, %")
        right.grid(visible=False, axis="x")
        right.set_title("More weights, fewer mountain lakes")
        for axes in (left, right):
            axes.set_xticks(places, [str(width) for width in self.widths])
            axes.set_xlabel("hidden neurons of the student")
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
    """Train students of several widths on the examples of a teacher with two inputs.

    All of them *can* reach a loss of zero, so one that does not has been caught on the way.

    Parameters
    ----------
    widths : sequence of int
        Hidden neurons of the students, each at least the teacher's four.
    starts : int
        Of each width.
    threshold : float
        What counts as stuck, in variances of the target.
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
        seeds = range(1000 * width, 1000 * width + starts)
        students = [network(2, width, 1, seed=start, engine=engine) for start in seeds]
        fit_all(students, X, y, loss="mse", optimizer=Adam(CosineDecay(0.02)), epochs=epochs)
        losses.append([student.evaluate(X, y, "mse") / float(y.var()) for student in students])
    return Stuck(np.array(wanted), np.array(losses), threshold)
