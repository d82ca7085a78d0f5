"""The loss as a landscape over the weights, and how descent finds its way down (S4, S9).

Three views: one weight, where the learning rate is everything; two weights, where a path
of steepest descent ends in the lake that its start lies above; and two weights out of a
real network, all others held fixed. Losses and derivatives are the model's, updates the
optimizer's; only the choice of which weights may move is made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks, kernels
from ..model import Sequential
from ..optimizers import SGD, Adam, Optimizer
from ..schedules import CosineDecay
from . import style, targets
from .networks import Course, network

Array = NDArray[Any]


def loss_surface(
    model: Sequential, X: Array, y: Array, loss: str, free: Sequence[int], axes: Sequence[Array]
) -> Array:
    """The loss over a grid of two parameters, all others as they are.

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

    Returns
    -------
    ndarray (rows, columns)
    """
    before = model.parameters
    surface = np.empty((len(axes[1]), len(axes[0])))
    parameters = before.copy()
    for row, second in enumerate(axes[1]):
        for column, first in enumerate(axes[0]):
            parameters[list(free)] = first, second
            model.parameters = parameters
            surface[row, column] = model.evaluate(X, y, loss)
    model.parameters = before
    return surface


def descend(
    model: Sequential,
    X: Array,
    y: Array,
    loss: str,
    free: Sequence[int],
    optimizer: Optimizer,
    steps: int,
) -> Array:
    """Descend over some of the parameters while the others stay as they are.

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

    Returns
    -------
    ndarray (steps + 1, len(free))
        The path, its start included.
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


# --------------------------------------------------------------------------- one weight


@dataclass(frozen=True, eq=False)
class LearningRates:
    """Gradient descent over a single weight, with different learning rates.

    Attributes
    ----------
    weights, losses : ndarray (points,)
        The loss as a function of the weight.
    curvature : float
        Its second derivative.
    minimum : float
        The weight of the least loss.
    rates : ndarray (k,)
    paths : ndarray (k, steps + 1)
        The weight, from the start on.
    path_losses : ndarray (k, steps + 1)
    """

    weights: Array
    losses: Array
    curvature: float
    minimum: float
    rates: Array
    paths: Array
    path_losses: Array

    def summary(self) -> str:
        """The figures in a sentence."""
        ends = ", ".join(
            f"{rate:.3g} ends at loss {losses[-1]:.3g}"
            for rate, losses in zip(self.rates, self.path_losses, strict=True)
        )
        return f"a step must stay under 2 / curvature = {2 / self.curvature:.3g}: rate {ends}"

    @style.styled
    def plot(self) -> Any:
        """A panel for each rate."""
        verdicts = {0.25: "too small", 1.0: "right", 2.0: "overshoots"}
        title = "One weight, one start, different learning rates"
        figure = style.new_figure(10, 3.3, title)
        panels = figure.subplots(1, len(self.rates), sharex=True, sharey=True, squeeze=False)[0]
        for axes, rate, path, losses in zip(
            panels, self.rates, self.paths, self.path_losses, strict=True
        ):
            share = rate * self.curvature
            verdict = next((v for top, v in verdicts.items() if share <= top), "diverges")
            axes.plot(self.weights, self.losses, color=style.FAINT, lw=1.4)
            axes.plot(path, losses, "o-", color=style.ORANGE, ms=4, lw=1, clip_on=True)
            axes.plot(path[:1], losses[:1], "o", color=style.BLUE, ms=7)
            axes.set_title(f"η = {rate:.2g}: {verdict}", size=9.5)
            axes.set_xlabel("weight w")
        panels[0].set_xlim(self.weights[0], self.weights[-1])
        panels[0].set_ylim(-0.04 * self.losses.max(), self.losses.max())
        panels[0].set_ylabel("loss")
        figure.supxlabel(
            f"blue: the start; orange: {self.paths.shape[1] - 1} steps of gradient descent",
            size=9,
            color=style.FAINT,
        )
        return figure


def learning_rates(
    shares: Sequence[float] = (0.06, 0.6, 1.8, 2.15),
    steps: int = 12,
    start: float = -1.2,
    engine: str = "auto",
) -> LearningRates:
    """Fit the one weight of y = w x by gradient descent over the whole data set.

    The loss is a parabola of curvature c = 2 mean(x²). A step multiplies the distance from
    its minimum by 1 - η c: it creeps for small η, overshoots from η = 1/c on, and moves
    away from η = 2/c on.

    Parameters
    ----------
    shares : sequence of float
        The learning rates, times the curvature.
    steps : int
    start : float
        The weight to start from.
    engine : str

    Returns
    -------
    LearningRates
    """
    steps = checks.whole("steps", steps)
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (64, 1))
    y = 0.8 * x + 0.3 * rng.standard_normal(x.shape)
    model = network(1, 1, use_bias=False, dtype="float64", engine=engine)
    curvature = 2 * float(np.mean(x**2))
    minimum = float(np.mean(x * y) / np.mean(x**2))
    rates = np.array(shares) / curvature

    def losses(weights: Array) -> Array:
        values = []
        for weight in weights:
            model.parameters = [weight]
            values.append(model.evaluate(x, y, "mse"))
        return np.array(values)

    paths = []
    for rate in rates:
        model.parameters = [start]
        course = Course()
        model.fit(x, y, "mse", SGD(rate), epochs=steps, batch_size=None, callbacks=[course])
        paths.append(course.path()[:, 0])
    span = 1.6 * abs(start - minimum)
    weights = np.linspace(minimum - span, minimum + span, 121)
    return LearningRates(
        weights,
        losses(weights),
        curvature,
        minimum,
        rates,
        np.array(paths),
        np.array([losses(path) for path in paths]),
    )


# --------------------------------------------------------------------------- two weights


@dataclass(frozen=True, eq=False)
class Lakes:
    """Descent on a landscape of two weights that has several minima.

    Attributes
    ----------
    axes : tuple of two ndarrays
        Values of w₁ (columns) and of w₂ (rows).
    surface : ndarray (rows, columns)
        The loss.
    minima : ndarray (lakes, 2)
        The lakes, the deepest first.
    depths : ndarray (lakes,)
        The loss there.
    paths : dict
        "steepest descent" and "momentum 0.9" -> ndarray (starts, steps + 1, 2).
    ends : dict
        The same names -> ndarray (starts,) of int: the lake that each path ends in.
    """

    axes: tuple[Array, Array]
    surface: Array
    minima: Array
    depths: Array
    paths: dict[str, Array]
    ends: dict[str, Array]

    def summary(self) -> str:
        """The figures in a sentence."""
        depths = ", ".join(f"{depth:.3f}" for depth in self.depths)
        found = ", ".join(
            f"{name} brings {np.sum(ends == 0)} of {len(ends)} starts to the deepest"
            for name, ends in self.ends.items()
        )
        return f"{len(self.depths)} lakes with losses {depths}; {found}"

    def _ground(self, axes: Any) -> Any:
        low, high = self.surface.min(), self.surface.max()
        levels = low + (high - low) * np.linspace(0, 1, 25) ** 1.6
        filled = axes.contourf(*self.axes, self.surface, levels, cmap=style.GROWING)
        axes.contour(*self.axes, self.surface, levels[::2], colors="white", linewidths=0.3)
        axes.plot(*self.minima[1:].T, "x", color="white", ms=7, mew=1.6)
        axes.plot(*self.minima[:1].T, "*", color="white", ms=12)
        axes.set_xlim(self.axes[0][0], self.axes[0][-1])
        axes.set_ylim(self.axes[1][0], self.axes[1][-1])
        axes.grid(visible=False)
        axes.set_xlabel("weight w₁")
        return filled

    @style.styled
    def plot(self) -> Any:
        """The landscape as relief, and the paths on its map."""
        figure = style.new_figure(11, 4.2, "Down the loss of a network with two weights")
        relief = figure.add_subplot(1, 3, 1, projection="3d")
        first, second = np.meshgrid(*self.axes)
        relief.plot_surface(first, second, self.surface, cmap=style.GROWING, lw=0, rcount=60)
        relief.view_init(38, -125)
        relief.set_box_aspect(None, zoom=0.85)
        relief.set_xlabel("w₁")
        relief.set_ylabel("w₂")
        relief.locator_params(axis="z", nbins=4)
        relief.tick_params(labelsize=7)
        relief.set_title("Loss over w₁ and w₂")
        maps = [figure.add_subplot(1, 3, 2)]
        maps.append(figure.add_subplot(1, 3, 3, sharex=maps[0], sharey=maps[0]))
        for axes, (name, paths) in zip(maps, self.paths.items(), strict=True):
            filled = self._ground(axes)
            for path, end in zip(paths, self.ends[name], strict=True):
                colour = style.YELLOW if end == 0 else style.SKY
                axes.plot(*path.T, color=colour, lw=1.4)
                axes.plot(*path[:1].T, "o", color=colour, ms=5, mec="white", mew=0.6)
            axes.set_title(name.capitalize())
        maps[0].set_ylabel("weight w₂")
        figure.colorbar(filled, ax=maps, label="loss", shrink=0.8, format="%.2f")
        figure.supxlabel(
            "dots: starts; star: the deepest lake, orange paths end in it; "
            "crosses: the others, blue paths are caught there",
            size=9,
            color=style.FAINT,
        )
        return figure

    def frames(self) -> Iterator[Any]:
        """The drops on their way, without and with momentum."""
        figure = style.new_figure(7.5, 3.9)
        maps = figure.subplots(1, 2, sharex=True, sharey=True)
        drops, tails = [], []
        for axes, (name, paths) in zip(maps, self.paths.items(), strict=True):
            self._ground(axes)
            axes.set_title(name.capitalize())
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
    """Descend from several starts on the loss of one neuron with two weights.

    Gradient descent over the whole data set, without momentum and with; the same starts,
    learning rate and number of steps.

    Parameters
    ----------
    starts, steps : int
    points : int
        Of the landscape, along each weight.
    seed : int
        Of the starts.
    engine : str

    Returns
    -------
    Lakes
    """
    starts, points = checks.whole("starts", starts), checks.whole("points", points, at_least=10)
    X = np.array([row for row, _, _ in _CONTRADICTIONS])
    y = np.array([[target] for _, target, _ in _CONTRADICTIONS])
    often = np.array([times for _, _, times in _CONTRADICTIONS])
    X, y = np.repeat(X, often, axis=0), np.repeat(y, often, axis=0)
    model = network(2, 1, last="sigmoid", use_bias=False, dtype="float64", engine=engine)
    axes = (np.linspace(-2, 7, points), np.linspace(-2, 8, points))
    surface = loss_surface(model, X, y, "mse", (0, 1), axes)
    first = np.random.default_rng(seed).uniform([-1.8, -1.8], [5, 5], (starts, 2))
    lakes = [
        _descent(model, X, y, point, Adam(CosineDecay(0.02)), 1500)
        for point in _valleys(axes, surface)
    ]
    minima = np.array([path[-1] for path in lakes])
    depths = []
    for point in minima:
        model.parameters = point
        depths.append(model.evaluate(X, y, "mse"))
    order = np.argsort(depths)
    minima = minima[order]
    ways = {"steepest descent": SGD(2.0), "momentum 0.9": SGD(2.0, momentum=0.9)}
    paths = {
        name: np.array([_descent(model, X, y, point, way, steps) for point in first])
        for name, way in ways.items()
    }
    ends = {
        name: np.argmin(np.linalg.norm(path[:, -1, None] - minima, axis=2), axis=1)
        for name, path in paths.items()
    }
    return Lakes(axes, surface, minima, np.array(depths)[order], paths, ends)


def _descent(
    model: Sequential, X: Array, y: Array, start: Array, way: Optimizer, steps: int
) -> Array:
    """The path of all parameters from a start, (steps + 1, size)."""
    model.parameters = start
    course = Course()
    model.fit(X, y, "mse", way, epochs=steps, batch_size=None, shuffle=False, callbacks=[course])
    return course.path()


def _valleys(axes: tuple[Array, Array], surface: Array) -> Array:
    """The points of a grid that lie below all their eight neighbours, (lakes, 2)."""
    inner = surface[1:-1, 1:-1]
    height, width = surface.shape
    shifts = [(i, k) for i in range(3) for k in range(3) if (i, k) != (1, 1)]
    is_lowest = np.all(
        [inner < surface[i : i + height - 2, k : k + width - 2] for i, k in shifts], axis=0
    )
    rows, columns = np.nonzero(is_lowest)
    return np.stack([axes[0][columns + 1], axes[1][rows + 1]], axis=1)


# --------------------------------------------------------------------------- a real network


@dataclass(frozen=True, eq=False)
class Slice:
    """Two weights of a trained network, all others fixed.

    Attributes
    ----------
    names : tuple of two str
        Of the weights.
    size : int
        Parameters of the network.
    axes : tuple of two ndarrays
    surface : ndarray (rows, columns)
        The loss.
    trained : ndarray (2,)
        What training had made of the two.
    trained_loss : float
    paths : ndarray (starts, steps + 1, 2)
        Steepest descent over the two.
    losses : ndarray (starts,)
        Where the paths end.
    """

    names: tuple[str, str]
    size: int
    axes: tuple[Array, Array]
    surface: Array
    trained: Array
    trained_loss: float
    paths: Array
    losses: Array

    def summary(self) -> str:
        """The figures in a sentence."""
        return (
            f"two of {self.size} parameters: training left them at loss {self.trained_loss:.4f}; "
            f"steepest descent over the two alone ends between {self.losses.min():.4f} and "
            f"{self.losses.max():.4f}"
        )

    @style.styled
    def plot(self) -> Any:
        """The surface as relief and as a map with the paths."""
        figure = style.new_figure(
            10, 4.4, f"Two weights of a network of {self.size} parameters, the others fixed"
        )
        relief = figure.add_subplot(1, 2, 1, projection="3d")
        shown = np.log10(self.surface)
        relief.plot_surface(*np.meshgrid(*self.axes), shown, cmap=style.GROWING, lw=0, rcount=60)
        relief.view_init(42, -60)
        relief.set_box_aspect(None, zoom=0.9)
        relief.set_xlabel(self.names[0])
        relief.set_ylabel(self.names[1])
        relief.set_zlabel("log₁₀ loss")
        relief.tick_params(labelsize=8)
        axes = figure.add_subplot(1, 2, 2)
        filled = axes.contourf(*self.axes, shown, 24, cmap=style.GROWING)
        for path in self.paths:
            axes.plot(*path.T, color=style.YELLOW, lw=1.4)
        axes.plot(*self.paths[:, 0].T, "o", color=style.YELLOW, mec="white", ms=6, label="starts")
        axes.plot(*self.paths[:, -1].T, "x", color="white", mew=2, label="ends", ls="none")
        axes.plot(*self.trained, "*", color="white", ms=13, label="where training ended")
        axes.set_xlim(self.axes[0][0], self.axes[0][-1])
        axes.set_ylim(self.axes[1][0], self.axes[1][-1])
        axes.set_xlabel(self.names[0])
        axes.set_ylabel(self.names[1])
        axes.grid(visible=False)
        axes.set_title("Paths of steepest descent")
        figure.colorbar(filled, ax=axes, label="log₁₀ of the mean squared error")
        legend = figure.legend(loc="outside lower right", ncols=3)
        legend.get_frame().set(facecolor=style.FAINT, alpha=1)
        legend.set_frame_on(True)
        for text in legend.get_texts():
            text.set_color("white")
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
    """Train a network, then look at its loss over two of its weights.

    The two belong to the hidden neurons with the largest output weights.

    Parameters
    ----------
    hidden : int
        Neurons; tanh.
    epochs, rows : int
        Of the training on the step-like function.
    points : int
        Of the surface, along each weight.
    starts, steps : int
        Of steepest descent over the two weights.
    seed : int
    engine : str

    Returns
    -------
    Slice
    """
    rows, hidden = checks.whole("rows", rows), checks.whole("hidden", hidden, at_least=2)
    starts, points = checks.whole("starts", starts), checks.whole("points", points, at_least=2)
    X, y = targets.examples(rows, seed, "float64")
    model = network(1, hidden, 1, dtype="float64", seed=seed, engine=engine)
    model.fit(X, y, "mse", Adam(0.02), epochs=epochs)
    _, (outward, _) = model.weights
    strongest = np.argsort(-np.abs(outward[:, 0]))[:2]
    free = tuple(int(unit) for unit in strongest)  # places in W0, which has one row
    parameters = model.parameters
    trained = parameters[list(free)]
    loss = model.evaluate(X, y, "mse")
    reach = 1.6 * np.abs(trained).max()
    axes = (np.linspace(-reach, reach, points), np.linspace(-reach, reach, points))
    surface = loss_surface(model, X, y, "mse", free, axes)
    rng = np.random.default_rng(seed)
    paths, losses = [], []
    for start in rng.uniform(-0.9 * reach, 0.9 * reach, (starts, 2)):
        parameters[list(free)] = start
        model.parameters = parameters
        paths.append(descend(model, X, y, "mse", free, SGD(1.0), steps))
        losses.append(model.evaluate(X, y, "mse"))
    names = tuple(f"weight into hidden neuron {unit + 1}" for unit in free)
    return Slice(
        (names[0], names[1]),
        model.size,
        axes,
        surface,
        trained,
        loss,
        np.array(paths),
        np.array(losses),
    )
