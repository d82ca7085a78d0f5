"""What the last layer and the loss are for: classes, and numbers (S3, S6, S7).

Softmax with cross-entropy answers with probabilities; identity with the mean squared error
answers with numbers. The first is looked at as a function, the second on a real table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks, kernels
from ..fit.callbacks import EarlyStopping
from ..datasets import stratified_split
from ..kernels.loader import load as load_engine
from ..errors import import_extra
from ..metrics import r2
from ..optimizers import Adam
from . import style
from .networks import network

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Probabilities:
    """Softmax and cross-entropy as one logit moves.

    Attributes
    ----------
    logits : ndarray (points, classes)
        The first runs; the others stay.
    probabilities : ndarray (points, classes)
    losses : ndarray (points,)
        Cross-entropy if the first class is right.
    slopes : ndarray (points,)
        Its derivative by the first logit.
    squared_slopes : ndarray (points,)
        That of Σ (softmax - one-hot)² instead.
    """

    logits: Array
    probabilities: Array
    losses: Array
    slopes: Array
    squared_slopes: Array

    def summary(self) -> str:
        """The figures in a sentence."""
        return (
            f"probabilities sum to one within {np.abs(self.probabilities.sum(1) - 1).max():.0e}; "
            f"the loss grows to {self.losses.max():.1f} as the right class falls to "
            f"p = {self.probabilities[:, 0].min():.0e}"
        )

    @style.styled
    def plot(self) -> Any:
        """Probabilities by logit, loss by probability, derivative by logit."""
        figure = style.new_figure(11, 3.6, "Softmax and cross-entropy")
        shares, loss, slope = figure.subplots(1, 3)
        first = self.logits[:, 0]
        for k, (column, others) in enumerate(
            zip(self.probabilities.T, self.logits[0], strict=True)
        ):
            name = "class 1, the right one" if k == 0 else f"class {k + 1}, logit {others:g}"
            shares.plot(first, column, label=name)
        shares.set_xlabel("logit of class 1")
        shares.set_ylabel("probability")
        shares.set_title("They sum to one")
        shares.legend(loc="upper left", fontsize=7.5)
        loss.semilogx(self.probabilities[:, 0], self.losses, color=style.ORANGE)
        loss.set_xlabel("probability of the right class")
        loss.set_ylabel("cross-entropy")
        loss.set_title("The loss has no upper bound")
        slope.plot(first, self.slopes, color=style.ORANGE, label="cross-entropy")
        slope.plot(first, self.squared_slopes, color=style.BLUE, label="squared error")
        slope.set_xlabel("logit of class 1")
        slope.set_ylabel("derivative of the loss by it")
        slope.set_title("Utterly wrong: who still pulls?")
        slope.legend(loc="lower right", fontsize=8)
        return figure


def softmax_cross_entropy(
    others: Sequence[float] = (0.0, 1.0, -1.0),
    reach: float = 16.0,
    points: int = 321,
    engine: str = "auto",
) -> Probabilities:
    """Move one logit, keep the others, and see what softmax and the losses make of it.

    Parameters
    ----------
    others : sequence of float
        The other logits.
    reach : float
        The first runs from -reach to reach.
    points : int
    engine : str

    Returns
    -------
    Probabilities
    """
    points = checks.whole("points", points)
    name = load_engine(engine).NAME
    logits = np.empty((points, 1 + len(others)))
    logits[:, 0], logits[:, 1:] = np.linspace(-reach, reach, points), others
    probabilities = kernels.activation_forward(logits, "softmax", engine=name)
    right = np.zeros(points, np.int64)
    # the kernel's loss is the mean over rows: each row is asked for alone
    losses = [
        kernels.loss_value_and_delta(logits[k : k + 1], right[:1], "cross_entropy", engine=name)[0]
        for k in range(points)
    ]
    _, delta = kernels.loss_value_and_delta(logits, right, "cross_entropy", engine=name)
    one_hot = np.eye(logits.shape[1])[right]
    _, pull = kernels.loss_value_and_delta(probabilities, one_hot, "sum_squares", engine=name)
    squared = kernels.activation_backward(logits, pull, "softmax", engine=name)
    return Probabilities(
        logits, probabilities, np.array(losses), points * delta[:, 0], squared[:, 0]
    )


# --------------------------------------------------------------------------- regression


@dataclass(frozen=True, eq=False)
class Regression:
    """A network with an identity output on a table of numbers.

    Attributes
    ----------
    truth, answers : ndarray (tests,)
        In the target's unit.
    losses, validation_losses : ndarray (epochs,)
        Mean squared error of the scaled target.
    r2, linear_r2 : float
        On rows never shown: of the network, and of the same without hidden layers.
    """

    truth: Array
    answers: Array
    losses: Array
    validation_losses: Array
    r2: float
    linear_r2: float

    def summary(self) -> str:
        """The figures in a sentence."""
        return (
            f"R² = {self.r2:.3f} on {len(self.truth)} patients never shown (a single linear "
            f"layer: {self.linear_r2:.3f})"
        )

    @style.styled
    def plot(self) -> Any:
        """Losses by epoch, and answers against the truth."""
        figure = style.new_figure(10, 4.2, "Numbers instead of classes: identity output and MSE")
        left, right = figure.subplots(1, 2)
        left.plot(self.losses, color=style.BLUE, label="training rows")
        left.plot(self.validation_losses, color=style.ORANGE, label="validation rows")
        best = int(np.argmin(self.validation_losses))
        left.axvline(best, color=style.FAINT, lw=1, ls="--", label="best: kept")
        left.set_xlabel("epoch")
        left.set_ylabel("mean squared error (target scaled)")
        left.set_ylim(bottom=0)
        left.legend()
        right.plot(self.truth, self.answers, "o", ms=4, color=style.BLUE, alpha=0.75)
        span = [self.truth.min(), self.truth.max()]
        right.plot(span, span, color=style.FAINT, lw=1.2, ls="--")
        right.set_xlabel("disease progression after a year, measured")
        right.set_ylabel("predicted")
        right.set_title(f"Patients never shown: R² = {self.r2:.2f}")
        return figure


def diabetes(
    hidden: Sequence[int] = (16,), epochs: int = 200, seed: int = 0, engine: str = "auto"
) -> Regression:
    """Predict the progression of diabetes from ten measurements of 442 patients.

    A fifth of the rows is for the test, a fifth of the others for stopping early.

    Parameters
    ----------
    hidden : sequence of int
        Units of the hidden layers; tanh.
    epochs : int
        At most.
    seed : int
    engine : str

    Returns
    -------
    Regression
    """
    data = import_extra("sklearn.datasets", "lab", "the diabetes data")
    X, y = data.load_diabetes(return_X_y=True)
    rest, test = stratified_split(np.zeros(len(y)), 0.2)
    part, check = stratified_split(np.zeros(len(rest)), 0.2, seed=1)
    train, validation = rest[part], rest[check]
    X = (X - X[train].mean(axis=0)) / X[train].std(axis=0)
    middle, scale = y[train].mean(), y[train].std()
    scaled = ((y - middle) / scale)[:, np.newaxis]
    scores, courses = [], []
    for layers in (tuple(hidden), ()):
        model = network(X.shape[1], *layers, 1, seed=seed, engine=engine)
        history = model.fit(
            X[train],
            scaled[train],
            "mse",
            Adam(3e-3),
            epochs=epochs,
            validation_data=(X[validation], scaled[validation]),
            callbacks=[EarlyStopping(patience=40)],
        )
        answers = model.predict(X[test]).astype(np.float64) * scale + middle
        scores.append(r2(y[test][:, np.newaxis], answers, None))
        courses.append((history, answers[:, 0]))
    history, answers = courses[0]
    return Regression(
        y[test],
        answers,
        np.array(history["loss"]),
        np.array(history["val_loss"]),
        float(scores[0]),
        float(scores[1]),
    )
