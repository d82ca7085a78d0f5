"""Gradient descent: the learning rate over one weight, and mini-batches against all rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..datasets import load_digits
from ..model import Sequential
from ..optimizers import SGD
from . import style
from .landscape import loss_surface
from .networks import Trajectory, at_each, network, trajectory
from .result import Array, Result


class LearningRates(Result, pictures=["learning-rates.png"]):
    """Gradient descent over a single weight, with k different learning rates."""

    weights: Array  #: (points,)
    losses: Array  #: (points,), the loss as a function of the weight
    curvature: float  #: its second derivative
    minimum: float  #: the weight of the least loss
    rates: Array  #: (k,)
    paths: Array  #: (k, steps + 1), the weight, from the start on
    path_losses: Array  #: (k, steps + 1)

    def summary(self) -> str:
        ends = ", ".join(
            f"{rate:.3g} ends at loss {losses[-1]:.3g}"
            for rate, losses in zip(self.rates, self.path_losses, strict=True)
        )
        return f"a step must stay under 2 / curvature = {2 / self.curvature:.3g}: rate {ends}"

    def plot(self) -> Any:
        """Descent over one weight with four learning rates.

        The loss of one weight is a parabola of curvature c. Each step of gradient descent
        multiplies the distance from the minimum by 1 − ηc: that is slow for a small learning
        rate η, overshoots beyond 1/c, and runs away beyond 2/c.
        """
        verdicts = {0.25: "too small", 1.0: "right", 2.0: "overshoots"}
        title = "One weight, one start, different learning rates"
        steps = self.paths.shape[1] - 1
        footnote = f"blue: the start; orange: {steps} steps of gradient descent"
        figure = style.new_figure(10, 3.3, title, footnote)
        grid = figure.subplots(1, len(self.rates), sharex=True, sharey=True, squeeze=False)[0]
        courses = zip(grid, self.rates, self.paths, self.path_losses, strict=True)
        for axes, rate, path, losses in courses:
            share = rate * self.curvature
            verdict = next((v for top, v in verdicts.items() if share <= top), "diverges")
            axes.plot(self.weights, self.losses, color=style.FAINT, lw=1.4)
            axes.plot(path, losses, "o-", color=style.ORANGE, ms=4, lw=1, clip_on=True)
            axes.plot(path[:1], losses[:1], "o", color=style.BLUE, ms=7)
            axes.set_title(f"η = {rate:.2g}: {verdict}", size=9.5)
            axes.set_xlabel("weight w")
        top = self.losses.max()
        grid[0].set(xlim=self.weights[[0, -1]], ylim=(-0.04 * top, top), ylabel="loss")
        return figure


def learning_rates(
    shares: Sequence[float] = (0.06, 0.6, 1.8, 2.15),
    steps: int = 12,
    start: float = -1.2,
    engine: str = "auto",
) -> LearningRates:
    """Fit the one weight of y = w x by gradient descent over the whole data set.

    The loss is a parabola of curvature c = 2 mean(x²).

    Parameters
    ----------
    shares : sequence of float
        The learning rates, times the curvature.
    start : float
        The weight to start from.
    """
    steps = checks.whole("steps", steps)
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (64, 1))
    y = 0.8 * x + 0.3 * rng.standard_normal(x.shape)
    model = network(1, 1, use_bias=False, dtype="float64", engine=engine)
    curvature = 2 * float(np.mean(x**2))
    minimum = float(np.mean(x * y) / np.mean(x**2))
    rates = np.array(shares) / curvature
    paths = [trajectory(model, [start], x, y, SGD(rate), epochs=steps) for rate in rates]

    def losses(points: Array) -> Array:
        return at_each(model, points, lambda: model.evaluate(x, y, "mse"))

    span = 1.6 * abs(start - minimum)
    weights = np.linspace(minimum - span, minimum + span, 121)
    parabola = weights, losses(weights[:, np.newaxis]), curvature, minimum
    path_losses = np.array([losses(path) for path in paths])
    return LearningRates(*parabola, rates, np.array(paths)[:, :, 0], path_losses)


class Batches(Result, pictures=["batches.png"]):
    """The same descent with batches of different size."""

    paths: dict[int, Array]  #: batch size -> (updates + 1, 2): weight and bias of one neuron
    axes: tuple[Array, Array]  #: values of its weight (columns) and bias (rows)
    surface: Array  #: (rows, columns), its loss over the whole data set
    sizes: tuple[int, ...]  #: k batch sizes of what follows; the last is the whole data set
    gradient_errors: Array  #: (k,), RMS of ‖g_batch - g‖ / ‖g‖ at the first parameters
    losses: dict[int, Array]  #: batch size -> (looks,), over the whole data set
    accuracies: dict[int, Array]  #: the same
    steps: dict[int, Array]  #: batch size -> (looks,), the updates by then
    seconds: dict[int, Array]  #: of training alone

    def after_steps(self, size: int, steps: float) -> float:
        """The loss with this batch size after so many updates."""
        return float(np.interp(steps, self.steps[size], self.losses[size]))

    def after_examples(self, size: int, examples: float) -> float:
        """The loss with this batch size after so many rows have been worked on."""
        return self.after_steps(size, examples / size)

    def summary(self) -> str:
        errors = ", ".join(
            f"{error:.0%} with {size}"
            for size, error in zip(self.sizes[:-1], self.gradient_errors, strict=False)
        )
        full, small = self.sizes[-1], self.sizes[0]
        wanted = float(self.losses[full][-1])
        reached = np.flatnonzero(self.losses[small] <= wanted)
        when = f"in {self.seconds[small][reached[0]]:.3f} s" if len(reached) else "not at all"
        return (
            f"error of one batch's gradient: {errors}; the loss of {wanted:.3f} that all "
            f"{full} rows at once reach in {self.seconds[full][-1]:.2f} s, batches of {small} "
            f"reach {when}"
        )

    def plot(self) -> Any:
        """Mini-batch paths, gradient error, accuracy by updates and by time.

        The gradient of a mini-batch is off by an amount that falls as 1/√rows; with 8 rows the
        error is larger than the gradient. So the path wanders, but its steps are nearly as good
        on average, and each costs a fraction: by time, mini-batches are about a hundred times
        as fast here.
        """
        figure = style.new_figure(10.5, 6.6, "The whole data set at once, or in mini-batches")
        (paths, errors), (by_steps, by_seconds) = figure.subplots(2, 2)
        self._plot_paths(paths)
        self._plot_errors(errors)
        by_steps.set(title="Digits, by updates: all rows at once ahead", xlabel="updates")
        by_seconds.set(title="… and by time: mini-batches far ahead", xlabel="seconds of training")
        for axes, course in ((by_steps, self.steps), (by_seconds, self.seconds)):
            for size, look in _looks(self.sizes).items():
                axes.plot(course[size][1:], 100 * self.accuracies[size][1:], **look)
            axes.set(xscale="log", ylabel="accuracy on all rows, %")
        by_steps.legend(loc="upper left")
        return figure

    def _plot_paths(self, axes: Any) -> None:
        style.chart(axes, self.axes, np.log(self.surface), 24, cmap="Greys", alpha=0.55)
        for size, look in _looks(self.paths).items():
            axes.plot(*self.paths[size].T, lw=2 if size == max(self.paths) else 1, **look)
        title = "One neuron: the same number of updates"
        axes.set(xlabel="weight", ylabel="bias", title=title)
        axes.legend(loc="lower right")

    def _plot_errors(self, axes: Any) -> None:
        sizes, errors = np.array(self.sizes[:-1]), 100 * self.gradient_errors[:-1]
        axes.loglog(sizes, errors, "o", color=style.ORANGE, label="measured")
        trend = errors[0] * (sizes[0] / sizes) ** 0.5
        axes.loglog(sizes, trend, color=style.FAINT, lw=1.2, ls="--", label="1 / √batch size")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        ticks = [tick for tick in (10, 20, 50, 100, 200) if errors.min() / 1.5 < tick]
        axes.set_yticks(ticks, [f"{tick} %" for tick in ticks])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([], minor=True)
        axes.set(xlabel="rows in a batch", ylabel="distance from the full gradient")
        axes.set_title("Digits: the error of one batch's gradient")
        axes.legend()


def _looks(sizes: Iterable[int]) -> dict[int, dict[str, str]]:
    """Name and colour of each batch size; the last is the whole data set."""
    *small, full = sizes
    looks = {}
    for size, colour in zip(small, style.CYCLE, strict=False):
        looks[size] = {"label": f"batches of {size}", "color": colour}
    return looks | {full: {"label": f"all {full} rows", "color": style.INK}}


def mini_batches(
    sizes: Sequence[int] = (8, 32, 128),
    updates: int = 6000,
    full_updates: int = 1500,
    rate: float = 0.5,
    points: int = 61,
    seed: int = 0,
    engine: str = "auto",
) -> Batches:
    """Descend on the same losses with the whole data set and with mini-batches.

    The paths are those of one tanh neuron on 512 noisy rows; everything else is a
    64-16-16-10 sigmoid network with softmax on the shipped digits, from one random start
    with one learning rate.

    Parameters
    ----------
    sizes : sequence of int
        Rows of a mini-batch, increasing.
    updates, full_updates : int
        With mini-batches, rounded to whole epochs, and with the whole data set at once.
    rate : float
        The learning rate.
    """
    X, y = load_digits()
    full = len(X)
    sizes = tuple(checks.whole("a batch size", size, at_most=full - 1) for size in sizes)
    points = checks.whole("points", points, at_least=2)
    model = network(64, 16, 16, 10, activation="sigmoid", last="softmax", seed=seed, engine=engine)
    start = model.parameters
    errors = _gradient_errors(model, X, y, sizes, seed)

    def loss() -> float:
        return model.evaluate(X, y, "cross_entropy")

    def accuracy() -> float:
        return float((model.predict(X).argmax(axis=1) == y).mean())

    losses, accuracies, steps, seconds = {}, {}, {}, {}
    for size in (*sizes, full):
        model.parameters = start
        steps_per_epoch = -(-full // size)
        count = max(1, updates // steps_per_epoch) if size < full else full_updates
        watch = Trajectory([0, *np.geomspace(1, count, 40).round().astype(int)])
        recipe: dict[str, Any] = {"epochs": count, "batch_size": size, "threads": 1}
        model.fit(X, y, "cross_entropy", SGD(rate), callbacks=[watch], **recipe)
        steps[size] = np.array(watch.epochs) * steps_per_epoch
        seconds[size] = np.array(watch.seconds)
        losses[size] = at_each(model, watch.parameters, loss)
        accuracies[size] = at_each(model, watch.parameters, accuracy)
    landscape = _neuron_paths(points, seed, engine)
    return Batches(*landscape, (*sizes, full), errors, losses, accuracies, steps, seconds)


def _gradient_errors(
    model: Sequential, X: Array, y: Array, sizes: Sequence[int], seed: int
) -> Array:
    """The relative distance of a batch's gradient from that of all rows: each size, then all."""
    _, whole = model.loss_and_gradient(X, y, "cross_entropy")
    rng = np.random.default_rng(seed)
    errors = []
    for size in sizes:
        draws = [rng.choice(len(X), size, replace=False) for _ in range(60)]
        parts = [model.loss_and_gradient(X[rows], y[rows], "cross_entropy")[1] for rows in draws]
        squares = [np.sum((part - whole) ** 2) / np.sum(whole**2) for part in parts]
        errors.append(float(np.sqrt(np.mean(squares))))
    return np.array([*errors, 0.0])


def _neuron_paths(
    points: int, seed: int, engine: str
) -> tuple[dict[int, Array], tuple[Array, Array], Array]:
    """The paths of one neuron over its weight and bias, and the loss that they lie on."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (512, 1))
    y = np.tanh(1.5 * x + 0.8) + 0.5 * rng.standard_normal(x.shape)
    model = network(1, 1, last="tanh", dtype="float64", seed=seed, engine=engine)
    updates, paths = 128, {}
    for size in (2, 32, len(x)):
        recipe = {"epochs": updates * size // len(x) or 1, "batch_size": size}
        path = trajectory(model, [-0.8, -1.2], x, y, SGD(0.15), **recipe)
        paths[size] = path[: updates + 1]
    axes = (np.linspace(-1.3, 2.6, points), np.linspace(-1.6, 1.6, points))
    return paths, axes, loss_surface(model, x, y, "mse", (0, 1), axes)
