"""Universal approximation, seen: towers of sigmoid neurons, set by hand and then learned (S11).

Five neurons make a tower: two pairs of steep sigmoids cut a strip each way, a fifth lets
through where both strips meet. Towers side by side are any function of two variables, as
finely as one likes. All of it is ordinary layers whose weights are set, not trained;
then a network without a plan learns the same function from random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..layers import Dense
from ..model import Sequential
from ..optimizers import Adam
from ..schedules import OneCycle
from . import style, targets
from .networks import network

Array = NDArray[Any]


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
    """A network that is a sum of towers: 2 inputs, 4 and 1 sigmoid neurons for each, 1 sum.

    A tower is σ(sharpness · (x₁ - x₂ + y₁ - y₂ - threshold)) with x₁ = σ(steepness ·
    (x - x_min)) and so on; x₁ - x₂ is 1 within the strip between x_min and x_max.

    Parameters
    ----------
    boxes : sequence of Box
    heights : array_like (towers,), optional
        What each tower is multiplied by; 1.
    steepness, sharpness, threshold : float
        The defaults are the article's.
    engine : str

    Returns
    -------
    Sequential
        In float64.
    """
    edges = np.array(boxes, np.float64)
    count = checks.whole("the number of boxes", len(edges))
    strips = np.zeros((2, count, 4))  # weights from x and y to the four walls of each
    strips[0, :, :2] = strips[1, :, 2:] = steepness
    walls = np.zeros((count, 4, count))
    walls[np.arange(count), :, np.arange(count)] = sharpness * np.array([1.0, -1.0, 1.0, -1.0])
    top = np.ones(count) if heights is None else np.asarray(heights, np.float64)
    layers = [Dense(4 * count, "sigmoid"), Dense(count, "sigmoid"), Dense(1)]
    model = Sequential(layers, input_size=2, dtype="float64", seed=0, engine=engine)
    model.weights = [
        (strips.reshape(2, -1), -steepness * edges.ravel()),
        (walls.reshape(4 * count, count), np.full(count, -sharpness * threshold)),
        (top[:, np.newaxis], np.zeros(1)),
    ]
    return model


def tiling(
    side: int, heights: ArrayLike, steepness: float | None = None, engine: str = "auto"
) -> Sequential:
    """Towers on every square of a side × side grid over the unit square.

    Neighbours share their walls, so 2 (side + 1) neurons in the first layer are enough.

    Parameters
    ----------
    side : int
    heights : array_like (side²,)
        Of the towers, in the order of ``targets.square``.
    steepness : float, optional
        Of the walls; by default so that a wall is a small part of a square wide.
    engine : str

    Returns
    -------
    Sequential
        2 - 2 (side + 1) - side² - 1, in float64.
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
    layers = [Dense(2 * (side + 1), "sigmoid"), Dense(side * side, "sigmoid"), Dense(1)]
    model = Sequential(layers, input_size=2, dtype="float64", seed=0, engine=engine)
    model.weights = [
        (first.reshape(2, -1), -steepness * np.tile(lines, 2)),
        (sharpness * second, np.full(side * side, -sharpness * threshold)),
        (np.asarray(heights, np.float64).reshape(-1, 1), np.zeros(1)),
    ]
    return model


# --------------------------------------------------------------------------- by hand


@dataclass(frozen=True, eq=False)
class Towers:
    """Surfaces of hand-set networks.

    Attributes
    ----------
    axis : ndarray (points,)
        Of both inputs.
    tower : ndarray (points, points)
        Rows go with y.
    hill : ndarray (points, points)
        Of four towers with the article's steep walls.
    smooth_hill : ndarray (points, points)
        Of the same with gentle walls.
    """

    axis: Array
    tower: Array
    hill: Array
    smooth_hill: Array

    def summary(self) -> str:
        """The figures in a sentence."""
        return (
            f"five neurons: a tower of height {self.tower.max():.3f} that covers "
            f"{np.mean(self.tower > 0.5):.1%} of the ground; twenty: a hill of "
            f"{self.hill.max():.2f} with slopes"
        )

    @style.styled
    def plot(self) -> Any:
        """The three surfaces as reliefs."""
        figure = style.new_figure(11, 4.1, "Sigmoid neurons set by hand")
        axes = np.meshgrid(self.axis, self.axis)
        surfaces = {
            "Five neurons: a tower": self.tower,
            "Four towers: a hill": self.hill,
            "Gentler walls: a smooth hill": self.smooth_hill,
        }
        count = len(self.axis) // 2
        for k, (title, surface) in enumerate(surfaces.items()):
            relief = figure.add_subplot(1, 3, k + 1, projection="3d")
            relief.plot_surface(
                *axes, surface, cmap=style.GROWING, lw=0, rcount=count, ccount=count
            )
            relief.view_init(34, -55)
            relief.set_box_aspect(None, zoom=0.88)
            relief.set_xlabel("input x")
            relief.set_ylabel("input y")
            relief.tick_params(labelsize=7)
            relief.set_title(title)
        return figure


def towers_by_hand(points: int = 121, engine: str = "auto") -> Towers:
    """The tower of five neurons and the hill of four towers, with the article's numbers.

    Parameters
    ----------
    points : int
        Along each axis, from -5 to 5.
    engine : str

    Returns
    -------
    Towers
    """
    axis = np.linspace(-5, 5, checks.whole("points", points, at_least=4))
    x, y = np.meshgrid(axis, axis)
    ground = np.stack([x.ravel(), y.ravel()], axis=1)
    one = towers(ONE, engine=engine)
    hill = towers(HILL, sharpness=4.0, engine=engine)
    smooth = towers(HILL, sharpness=4.0, steepness=2.5, engine=engine)
    return Towers(
        axis, *(model.predict(ground).reshape(points, points) for model in (one, hill, smooth))
    )


# --------------------------------------------------------------------------- any function


@dataclass(frozen=True, eq=False)
class Approximation:
    """A function of two variables out of more and more towers, and learned.

    Attributes
    ----------
    sides : ndarray (k,) of int
        Towers along each side.
    sizes : ndarray (k,) of int
        Parameters of the hand-set networks.
    errors : ndarray (k,)
        Root mean square error over the unit square.
    target : ndarray (points, points)
    built : dict
        Side -> ndarray (points, points): the network's output.
    learned : ndarray (points, points)
    learned_size : int
    learned_error : float
    course : ndarray (looks,)
        The root mean square error while it learned.
    """

    sides: Array
    sizes: Array
    errors: Array
    target: Array
    built: dict[int, Array]
    learned: Array
    learned_size: int
    learned_error: float
    course: Array

    def summary(self) -> str:
        """The figures in a sentence."""
        return (
            f"towers: {self.sides[0] ** 2} leave an RMS error of {self.errors[0]:.3f}, "
            f"{self.sides[-1] ** 2} of {self.errors[-1]:.4f} ({self.sizes[-1]:,} parameters); "
            f"learned: {self.learned_error:.4f} with {self.learned_size:,} parameters"
        )

    @style.styled
    def plot(self) -> Any:
        """The target, some approximations, the learned one, and the errors."""
        figure = style.new_figure(11, 5.6, "Any function of two variables, tower by tower")
        upper, lower = figure.subfigures(2, 1, height_ratios=[5, 6])
        surfaces = {"the function": self.target}
        surfaces |= {f"{k * k} towers": self.built[k] for k in (4, 8, 16) if k in self.built}
        surfaces["learned"] = self.learned
        low, high = self.target.min(), self.target.max()
        row = upper.subplots(1, len(surfaces))
        for axes, (title, surface) in zip(row, surfaces.items(), strict=True):
            style.picture_axes(axes)
            image = axes.imshow(surface, origin="lower", vmin=low, vmax=high, extent=(0, 1, 0, 1))
            axes.set_title(title, loc="center")
        upper.colorbar(image, ax=row, label="output", shrink=0.9)
        errors, course = lower.subplots(1, 2, sharey=True, width_ratios=[3, 2])
        errors.loglog(self.sizes, self.errors, "o-", color=style.ORANGE, label="towers, by hand")
        errors.plot(self.learned_size, self.learned_error, "*", ms=15, color=style.BLUE)
        errors.plot([], [], "*", ms=11, color=style.BLUE, label="learned from random weights")
        for side, size, error in zip(self.sides, self.sizes, self.errors, strict=True):
            errors.annotate(
                str(side * side), (size, error), (4, 5), textcoords="offset points", size=8
            )
        errors.set_xlabel("parameters (beside the dots: towers)")
        errors.set_ylabel("RMS error")
        errors.legend(loc="lower left")
        course.semilogy(1 + np.arange(len(self.course)), self.course, color=style.BLUE)
        course.set_xlabel("epochs")
        course.set_title("The one that learns")
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
    hidden : sequence of int
        Units of the hidden layers of the network that learns; tanh.
    epochs, rows : int
        Passes over so many random examples.
    points : int
        Along each side, where the errors are measured.
    seed : int
    engine : str

    Returns
    -------
    Approximation
    """
    sides = [checks.whole("a side", side) for side in sides]
    points, rows = checks.whole("points", points), checks.whole("rows", rows)
    ground = targets.square(points)
    truth = targets.hills(ground)
    shape = (points, points)
    built, sizes, errors = {}, [], []
    for side in sides:
        fine = 6  # samples of the function along a tower's side
        samples = targets.hills(targets.square(side * fine))
        heights = samples.reshape(side, fine, side, fine).mean(axis=(1, 3))
        model = tiling(side, heights, engine=engine)
        built[side] = model.predict(ground).reshape(shape)
        sizes.append(model.size)
        errors.append(model.evaluate(ground, truth, "mse") ** 0.5)
    X = np.random.default_rng(seed).uniform(0, 1, (rows, 2)).astype(np.float32)
    model = network(2, *hidden, 1, seed=seed, engine=engine)
    history = model.fit(
        X,
        targets.hills(X),
        "mse",
        Adam(OneCycle(0.01)),
        epochs=epochs,
        batch_size=64,
    )
    learned = model.predict(ground).reshape(shape)
    return Approximation(
        np.array(sides),
        np.array(sizes),
        np.array(errors),
        truth.reshape(shape),
        built,
        learned,
        model.size,
        model.evaluate(ground, truth, "mse") ** 0.5,
        np.sqrt(history["loss"]),
    )
