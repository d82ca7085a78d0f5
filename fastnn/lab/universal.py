"""Universal approximation, seen: towers of sigmoid neurons, set by hand and then learned.

Towers side by side are any function of two variables, as finely as one likes. All of it is
ordinary layers whose weights are set, not trained; then a network without a plan learns
the same function from random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import checks
from ..model import Sequential
from ..optimizers import Adam
from ..schedules import OneCycle
from . import style, targets
from .networks import network
from .result import Array, Result


class Box(NamedTuple):
    """The ground that a tower stands on."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float


#: The tower and the four of the hill, as in the article.
ONE, HILL = (
    (Box(-0.3, 0.7, -0.2, 0.8),),
    tuple(Box(-half, half, -half, half) for half in (0.5, 1.0, 2.0, 4.0)),
)


def towers(
    boxes: Sequence[Box],
    heights: ArrayLike | None = None,
    steepness: float = 1000.0,
    sharpness: float = 30.0,
    threshold: float = 1.1,
    engine: str = "auto",
) -> Sequential:
    """A network that is a sum of towers: 2 inputs, 4 and 1 sigmoid neurons for each.

    A tower is σ(sharpness · (x₁ - x₂ + y₁ - y₂ - threshold)) with x₁ = σ(steepness ·
    (x - x_min)) and so on; x₁ - x₂ is 1 within the strip between x_min and x_max. The
    network is in float64.

    Parameters
    ----------
    boxes : sequence of Box
    heights : array_like (towers,), optional
        What each tower is multiplied by; 1.
    steepness, sharpness, threshold : float
        The defaults are the article's.
    """
    edges = np.array(boxes, np.float64)
    count = checks.whole("the number of boxes", len(edges))
    strips = np.zeros((2, count, 4))  # weights from x and y to the four walls of each
    strips[0, :, :2] = strips[1, :, 2:] = steepness
    walls = np.zeros((count, 4, count))
    walls[np.arange(count), :, np.arange(count)] = sharpness * np.array([1.0, -1.0, 1.0, -1.0])
    top = np.ones(count) if heights is None else heights
    first = strips.reshape(2, -1), -steepness * edges.ravel()
    return _by_hand(first, walls.reshape(4 * count, count), -sharpness * threshold, top, engine)


def _by_hand(
    first: tuple[Array, Array], second: Array, bias: float, top: ArrayLike, engine: str
) -> Sequential:
    """Two sigmoid layers and a sum."""
    walls, count = second.shape
    hidden: dict[str, Any] = {"activation": "sigmoid", "dtype": "float64"}
    model = network(2, walls, count, 1, **hidden, engine=engine)
    heights = np.asarray(top, np.float64).reshape(-1, 1)
    model.weights = [first, (second, np.full(count, bias)), (heights, np.zeros(1))]
    return model


def tiling(
    side: int, heights: ArrayLike, steepness: float | None = None, engine: str = "auto"
) -> Sequential:
    """Towers on every square of a side × side grid over the unit square.

    Neighbours share their walls, so 2 (side + 1) neurons in the first layer are enough. The
    network is 2 - 2 (side + 1) - side² - 1, in float64.

    Parameters
    ----------
    side : int
    heights : array_like (side²,)
        Of the towers, in the order of ``targets.square``.
    steepness : float, optional
        Of the walls; by default so that a wall is a small part of a square wide.
    """
    side = checks.whole("side", side)
    steepness = 40.0 * side if steepness is None else steepness
    lines = np.arange(side + 1) / side
    lines[0], lines[-1] = -1.0, 2.0  # the outermost walls stand outside, and cut nothing
    first = np.zeros((2, 2, side + 1))
    first[0, 0] = first[1, 1] = steepness
    # column t of the second layer: +1 at the near wall of its strip, -1 at the far one
    strip = np.eye(side + 1, side) - np.eye(side + 1, side, k=-1)
    second = np.concatenate([np.tile(strip, side), np.repeat(strip, side, axis=1)])
    sharpness, threshold = 30.0, 1.5
    walls = first.reshape(2, -1), -steepness * np.tile(lines, 2)
    return _by_hand(walls, sharpness * second, -sharpness * threshold, heights, engine)


class Towers(Result, pictures=["towers.png"]):
    """Surfaces of hand-set networks, (points, points); rows go with y."""

    axis: Array  #: (points,), of both inputs
    tower: Array
    hill: Array  #: of four towers with the article's steep walls
    smooth_hill: Array  #: of the same with gentle walls

    def summary(self) -> str:
        return (
            f"five neurons: a tower of height {self.tower.max():.3f} that covers "
            f"{np.mean(self.tower > 0.5):.1%} of the ground; twenty: a hill of "
            f"{self.hill.max():.2f} with slopes"
        )

    def plot(self) -> Any:
        """A tower, a hill of four towers, a smooth hill.

        Four steep sigmoid neurons cut a strip along x and one along y, a fifth lets through
        where they cross: a tower. Four towers make a hill; with gentler walls it is smooth. The
        weights are set by hand (``lab.towers``), with the article's numbers, in ordinary layers.
        """
        figure = style.new_figure(11, 4.1, "Sigmoid neurons set by hand")
        surfaces = {
            "Five neurons: a tower": self.tower,
            "Four towers: a hill": self.hill,
            "Gentler walls: a smooth hill": self.smooth_hill,
        }
        lines = dict.fromkeys(("rcount", "ccount"), len(self.axis) // 2)
        for k, (title, surface) in enumerate(surfaces.items(), start=1):
            axes = figure.add_subplot(1, 3, k, projection="3d")
            style.relief(axes, (self.axis, self.axis), surface, (34, -55, 0.88), **lines)
            axes.set(xlabel="input x", ylabel="input y", title=title)
        return figure


def towers_by_hand(points: int = 121, engine: str = "auto") -> Towers:
    """The article's tower of five neurons and hill of four towers, from -5 to 5 each way."""
    axis = np.linspace(-5, 5, checks.whole("points", points, at_least=4))
    ground = np.stack([values.ravel() for values in np.meshgrid(axis, axis)], axis=1)
    models = (
        towers(ONE, engine=engine),
        towers(HILL, sharpness=4.0, engine=engine),
        towers(HILL, sharpness=4.0, steepness=2.5, engine=engine),
    )
    return Towers(axis, *(model.predict(ground).reshape(points, points) for model in models))


class Approximation(Result, pictures=["approximation.png"]):
    """A function of two variables out of more and more towers, and learned.

    Errors are root mean square over the unit square.
    """

    sides: Array  #: (k,) of int, towers along each side
    sizes: Array  #: (k,) of int, parameters of the hand-set networks
    errors: Array  #: (k,)
    target: Array  #: (points, points)
    built: dict[int, Array]  #: side -> (points, points), the network's output
    learned: Array  #: (points, points)
    learned_size: int
    learned_error: float
    course: Array  #: (epochs,), the error on the examples while it learned

    def summary(self) -> str:
        return (
            f"towers: {self.sides[0] ** 2} leave an RMS error of {self.errors[0]:.3f}, "
            f"{self.sides[-1] ** 2} of {self.errors[-1]:.4f} ({self.sizes[-1]:,} parameters); "
            f"learned: {self.learned_error:.4f} with {self.learned_size:,} parameters"
        )

    def plot(self) -> Any:
        """A function out of 16, 64 and 256 towers, and learned; errors.

        Towers on a grid (``lab.tiling``) approximate any function of two variables, and the
        error falls as they become more. That proves that networks can, not that one should
        build them so: a network that learns from random weights is better with 1,185 parameters
        than 1,024 towers are with 69,831.
        """
        figure = style.new_figure(11, 5.6, "Any function of two variables, tower by tower")
        upper, lower = figure.subfigures(2, 1, height_ratios=[5, 6])
        surfaces = {"the function": self.target}
        surfaces |= {f"{k * k} towers": self.built[k] for k in (4, 8, 16) if k in self.built}
        surfaces["learned"] = self.learned
        span = {"vmin": self.target.min(), "vmax": self.target.max(), "extent": (0, 1, 0, 1)}
        row = upper.subplots(1, len(surfaces))
        for axes, (title, surface) in zip(row, surfaces.items(), strict=True):
            image = style.picture(axes, surface, origin="lower", **span)
            axes.set_title(title, loc="center")
        upper.colorbar(image, ax=row, label="output", shrink=0.9)
        errors, course = lower.subplots(1, 2, sharey=True, width_ratios=[3, 2])
        errors.loglog(self.sizes, self.errors, "o-", color=style.ORANGE, label="towers, by hand")
        errors.plot(self.learned_size, self.learned_error, "*", ms=15, color=style.BLUE)
        errors.plot([], [], "*", ms=11, color=style.BLUE, label="learned from random weights")
        for side, *at in zip(self.sides, self.sizes, self.errors, strict=True):
            errors.annotate(f"{side * side}", at, (4, 5), textcoords="offset points", size=8)
        errors.set(xlabel="parameters (beside the dots: towers)", ylabel="RMS error")
        errors.legend(loc="lower left")
        course.semilogy(1 + np.arange(len(self.course)), self.course, color=style.BLUE)
        course.set(xlabel="epochs", title="The one that learns")
        return figure


def approximation(
    sides: Sequence[int] = (1, 2, 4, 8, 16, 32),
    hidden: Sequence[int] = (32, 32),
    epochs: int = 300,
    rows: int = 8192,
    points: int = 96,
    seed: int = 0,
    engine: str = "auto",
) -> Approximation:
    """Approximate a function of two variables by n towers; then learn it.

    Parameters
    ----------
    sides : sequence of int
        Towers along each side of the unit square; each is as high as the function is on
        average over its ground.
    """
    sides = [checks.whole("a side", side) for side in sides]
    points, rows = checks.whole("points", points), checks.whole("rows", rows)
    ground = targets.square(points)
    truth = targets.hills(ground)
    shape, models = (points, points), []
    for side in sides:
        fine = 6  # samples of the function along a tower's side
        samples = targets.hills(targets.square(side * fine))
        heights = samples.reshape(side, fine, side, fine).mean(axis=(1, 3))
        models.append(tiling(side, heights, engine=engine))
    X = np.random.default_rng(seed).uniform(0, 1, (rows, 2)).astype(np.float32)
    model = network(2, *hidden, 1, seed=seed, engine=engine)
    recipe: dict[str, Any] = {"epochs": epochs, "batch_size": 64}
    history = model.fit(X, targets.hills(X), "mse", Adam(OneCycle(0.01)), **recipe)
    return Approximation(
        np.array(sides),
        np.array([built.size for built in models]),
        np.array([built.evaluate(ground, truth, "mse") ** 0.5 for built in models]),
        truth.reshape(shape),
        {k: m.predict(ground).reshape(shape) for k, m in zip(sides, models, strict=True)},
        model.predict(ground).reshape(shape),
        model.size,
        model.evaluate(ground, truth, "mse") ** 0.5,
        np.sqrt(history["loss"]),
    )
