"""Full batch against mini-batches: less accurate per step, and far faster (S4, S15).

One panel has the paths over two weights, one the error of the gradient, and two what counts
in the end: the accuracy by steps, and the accuracy by seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..fit.callbacks import Callback
from ..datasets import load_digits
from ..optimizers import SGD
from . import style
from .landscape import loss_surface
from .networks import EachUpdate, network

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Batches:
    """The same descent with batches of different size.

    Attributes
    ----------
    paths : dict
        Batch size -> ndarray (updates + 1, 2): weight and bias of one neuron after each
        update.
    axes : tuple of two ndarrays
    surface : ndarray (rows, columns)
        Its loss over the whole data set.
    sizes : tuple of int
        The batch sizes of the arrays below; the last is the whole data set.
    gradient_errors : ndarray (k,)
        Root mean square of ‖g_batch - g‖ / ‖g‖ at the first parameters.
    losses, accuracies : dict
        Batch size -> ndarray (looks,): over the whole data set.
    steps, seconds : dict
        Batch size -> ndarray (looks,): when it was measured; seconds of training alone.
    """

    paths: dict[int, Array]
    axes: tuple[Array, Array]
    surface: Array
    sizes: tuple[int, ...]
    gradient_errors: Array
    losses: dict[int, Array]
    accuracies: dict[int, Array]
    steps: dict[int, Array]
    seconds: dict[int, Array]

    def after_steps(self, size: int, steps: float) -> float:
        """The loss with this batch size after so many updates."""
        return float(np.interp(steps, self.steps[size], self.losses[size]))

    def after_examples(self, size: int, examples: float) -> float:
        """The loss with this batch size after so many rows have been worked on."""
        return self.after_steps(size, examples / size)

    def summary(self) -> str:
        """The figures in a sentence."""
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

    @style.styled
    def plot(self) -> Any:
        """The paths, the gradient's error, and the accuracy by steps and by seconds."""
        figure = style.new_figure(10.5, 6.6, "The whole data set at once, or in mini-batches")
        grid = figure.subplots(2, 2)
        self._plot_paths(grid[0, 0])
        self._plot_errors(grid[0, 1])
        for axes, course, label in (
            (grid[1, 0], self.steps, "updates"),
            (grid[1, 1], self.seconds, "seconds of training"),
        ):
            for k, size in enumerate(self.sizes):
                is_full = size == self.sizes[-1]
                name = f"all {size} rows" if is_full else f"batches of {size}"
                colour = style.INK if is_full else style.CYCLE[k]
                values = 100 * self.accuracies[size][1:]
                axes.plot(course[size][1:], values, label=name, color=colour)
            axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.set_ylabel("accuracy on all rows, %")
        grid[1, 0].set_title("Digits, by updates: all rows at once ahead")
        grid[1, 1].set_title("… and by time: mini-batches far ahead")
        grid[1, 0].legend(loc="upper left")
        return figure

    def _plot_paths(self, axes: Any) -> None:
        axes.contourf(*self.axes, np.log(self.surface), 24, cmap="Greys", alpha=0.55)
        for k, (size, path) in enumerate(self.paths.items()):
            is_full = k == len(self.paths) - 1
            name = "all rows" if is_full else f"batches of {size}"
            colour = style.INK if is_full else style.CYCLE[k]
            axes.plot(*path.T, color=colour, lw=2 if is_full else 1, label=name)
        axes.set_xlim(self.axes[0][0], self.axes[0][-1])
        axes.set_ylim(self.axes[1][0], self.axes[1][-1])
        axes.set_xlabel("weight")
        axes.set_ylabel("bias")
        axes.grid(visible=False)
        axes.set_title("One neuron: the same number of updates")
        axes.legend(loc="lower right")

    def _plot_errors(self, axes: Any) -> None:
        sizes, errors = np.array(self.sizes[:-1]), 100 * self.gradient_errors[:-1]
        axes.loglog(sizes, errors, "o", color=style.ORANGE, label="measured")
        trend = errors[0] * (sizes[0] / sizes) ** 0.5
        axes.loglog(sizes, trend, color=style.FAINT, lw=1.2, ls="--", label="1 / √batch size")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xticks([], minor=True)
        ticks = [tick for tick in (10, 20, 50, 100, 200) if errors.min() / 1.5 < tick]
        axes.set_yticks(ticks, [f"{tick} %" for tick in ticks])
        axes.set_yticks([], minor=True)
        axes.set_xlabel("rows in a batch")
        axes.set_ylabel("distance from the full gradient")
        axes.set_title("Digits: the error of one batch's gradient")
        axes.legend()


class _Stopwatch(Callback):
    """Parameters and time at the ends of epochs, or after some of them."""

    def __init__(self, looks: Array) -> None:
        self.looks = {int(look) for look in looks}
        self.parameters: list[Array] = []
        self.epochs: list[int] = []
        self.seconds: list[float] = []

    def _look(self, epochs: int) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.start)
        self.epochs.append(epochs)
        self.parameters.append(self.model.parameters)
        self.start += time.perf_counter() - now  # looking is no part of the training

    def on_train_begin(self) -> None:
        """Start the watch."""
        self.start = time.perf_counter()
        self._look(0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Look, if it is due."""
        if epoch + 1 in self.looks:
            self._look(epoch + 1)


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
    points : int
        Of the loss's landscape, along each of two weights.
    seed : int
    engine : str

    Returns
    -------
    Batches
    """
    X, y = load_digits()
    full = len(X)
    sizes = tuple(checks.whole("a batch size", size, at_most=full - 1) for size in sizes)
    points = checks.whole("points", points, at_least=2)
    model = network(64, 16, 16, 10, activation="sigmoid", last="softmax", seed=seed, engine=engine)
    start = model.parameters
    errors = _gradient_errors(model, X, y, sizes, seed)
    losses, accuracies, steps, seconds = {}, {}, {}, {}
    for size in (*sizes, full):
        model.parameters = start
        steps_per_epoch = -(-full // size)
        count = max(1, updates // steps_per_epoch) if size < full else full_updates
        watch = _Stopwatch(np.geomspace(1, count, 40).round())
        model.fit(
            X,
            y,
            "cross_entropy",
            SGD(rate),
            epochs=count,
            batch_size=size,
            threads=1,
            callbacks=[watch],
        )
        steps[size] = np.array(watch.epochs) * steps_per_epoch
        seconds[size] = np.array(watch.seconds)
        values, hits = [], []
        for parameters in watch.parameters:
            model.parameters = parameters
            values.append(model.evaluate(X, y, "cross_entropy"))
            hits.append((model.predict(X).argmax(axis=1) == y).mean())
        losses[size], accuracies[size] = np.array(values), np.array(hits)
    paths, axes, surface = _neuron_paths(points, seed, engine)
    return Batches(
        paths,
        axes,
        surface,
        (*sizes, full),
        np.array([*errors, 0.0]),
        losses,
        accuracies,
        steps,
        seconds,
    )


def _gradient_errors(
    model: Any, X: Array, y: Array, sizes: Sequence[int], seed: int
) -> list[float]:
    """The relative distance of a batch's gradient from that of all rows, for each size."""
    _, whole = model.loss_and_gradient(X, y, "cross_entropy")
    rng = np.random.default_rng(seed)
    errors = []
    for size in sizes:
        squares = []
        for _ in range(60):
            rows = rng.choice(len(X), size, replace=False)
            _, part = model.loss_and_gradient(X[rows], y[rows], "cross_entropy")
            squares.append(np.sum((part - whole) ** 2) / np.sum(whole**2))
        errors.append(float(np.sqrt(np.mean(squares))))
    return errors


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
        model.parameters = [-0.8, -1.2]
        course = EachUpdate()
        epochs = updates * size // len(x) or 1
        model.fit(x, y, "mse", SGD(0.15), epochs=epochs, batch_size=size, callbacks=[course])
        paths[size] = course.path()[: updates + 1]
    axes = (np.linspace(-1.3, 2.6, points), np.linspace(-1.6, 1.6, points))
    return paths, axes, loss_surface(model, x, y, "mse", (0, 1), axes)
