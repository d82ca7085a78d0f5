"""What the last layer and the loss are for: classes, and numbers.

Softmax with cross-entropy answers with probabilities; identity with the mean squared error
answers with numbers. The first is looked at as a function, the second on a real table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks, kernels
from ..datasets import stratified_split
from ..errors import import_extra
from ..fit.callbacks import EarlyStopping
from ..kernels.loader import load as load_engine
from ..metrics import r2
from ..optimizers import Adam
from . import style
from .networks import network
from .result import Array, Result


class Probabilities(Result, pictures=["softmax.png"]):
    """Softmax and cross-entropy as one logit moves."""

    logits: Array  #: (points, classes); the first runs, the others stay
    probabilities: Array  #: (points, classes)
    losses: Array  #: (points,), cross-entropy if the first class is right
    slopes: Array  #: (points,), its derivative by the first logit
    squared_slopes: Array  #: (points,), that of Σ (softmax - one-hot)² instead

    def summary(self) -> str:
        return (
            f"probabilities sum to one within {np.abs(self.probabilities.sum(1) - 1).max():.0e}; "
            f"the loss grows to {self.losses.max():.1f} as the right class falls to "
            f"p = {self.probabilities[:, 0].min():.0e}"
        )

    def plot(self) -> Any:
        """Softmax probabilities, cross-entropy and its derivative.

        Softmax turns logits into probabilities. The cross-entropy, −log p of the right class,
        has no upper bound, and its pull on a logit grows to one where the answer is utterly
        wrong; that of a squared error after softmax dies there.
        """
        figure = style.new_figure(11, 3.6, "Softmax and cross-entropy")
        shares, loss, slope = figure.subplots(1, 3)
        first = self.logits[:, 0]
        names = [f"class {k}, logit {other:g}" for k, other in enumerate(self.logits[0], start=1)]
        names[0] = "class 1, the right one"
        shares.plot(first, self.probabilities, label=names)
        shares.set(xlabel="logit of class 1", ylabel="probability", title="They sum to one")
        shares.legend(loc="upper left", fontsize=7.5)
        loss.semilogx(self.probabilities[:, 0], self.losses, color=style.ORANGE)
        loss.set(xlabel="probability of the right class", ylabel="cross-entropy")
        loss.set_title("The loss has no upper bound")
        slope.plot(first, self.slopes, color=style.ORANGE, label="cross-entropy")
        slope.plot(first, self.squared_slopes, color=style.BLUE, label="squared error")
        slope.set(xlabel="logit of class 1", ylabel="derivative of the loss by it")
        slope.set_title("Utterly wrong: who still pulls?")
        slope.legend(loc="lower right", fontsize=8)
        return figure


def softmax_cross_entropy(
    others: Sequence[float] = (0, 1, -1), reach: float = 16, points: int = 321, engine: str = "auto"
) -> Probabilities:
    """Move one logit, keep the others, and see what softmax and the losses make of it.

    Parameters
    ----------
    others : sequence of float
        The other logits.
    reach : float
        The first runs from -reach to reach.
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
    slopes = points * delta[:, 0], squared[:, 0]
    return Probabilities(logits, probabilities, np.array(losses), *slopes)


class Regression(Result, pictures=["diabetes.png"]):
    """A network with an identity output on a table of numbers."""

    truth: Array  #: (tests,), in the target's unit
    answers: Array  #: (tests,), the same
    losses: Array  #: (epochs,), mean squared error of the scaled target
    validation_losses: Array  #: (epochs,)
    r2: float  #: on rows never shown
    linear_r2: float  #: of the same without hidden layers

    def summary(self) -> str:
        return (
            f"R² = {self.r2:.3f} on {len(self.truth)} patients never shown (a single linear "
            f"layer: {self.linear_r2:.3f})"
        )

    def plot(self) -> Any:
        """Losses and predictions on the diabetes data.

        An identity output with the mean squared error, on 442 patients. The network explains
        about half of the variance of rows it never saw, and a single linear layer does a little
        better: with so few rows there is nothing more to be had.
        """
        figure = style.new_figure(10, 4.2, "Numbers instead of classes: identity output and MSE")
        left, right = figure.subplots(1, 2)
        left.plot(self.losses, color=style.BLUE, label="training rows")
        left.plot(self.validation_losses, color=style.ORANGE, label="validation rows")
        best = int(np.argmin(self.validation_losses))
        left.axvline(best, color=style.FAINT, lw=1, ls="--", label="best: kept")
        left.set(xlabel="epoch", ylabel="mean squared error (target scaled)")
        left.set_ylim(bottom=0)
        left.legend()
        right.plot(self.truth, self.answers, "o", ms=4, color=style.BLUE, alpha=0.75)
        span = [self.truth.min(), self.truth.max()]
        right.plot(span, span, color=style.FAINT, lw=1.2, ls="--")
        right.set(xlabel="disease progression after a year, measured", ylabel="predicted")
        right.set_title(f"Patients never shown: R² = {self.r2:.2f}")
        return figure


def diabetes(
    hidden: Sequence[int] = (16,), epochs: int = 200, seed: int = 0, engine: str = "auto"
) -> Regression:
    """Predict the progression of diabetes from ten measurements of 442 patients.

    A fifth of the rows is for the test, a fifth of the others for stopping early.
    """
    data = import_extra("sklearn.datasets", "lab", "the diabetes data")
    X, y = data.load_diabetes(return_X_y=True)
    rest, test = stratified_split(np.zeros(len(y)), 0.2)
    part, check = stratified_split(np.zeros(len(rest)), 0.2, seed=1)
    train, validation = rest[part], rest[check]
    X = (X - X[train].mean(axis=0)) / X[train].std(axis=0)
    middle, scale = y[train].mean(), y[train].std()
    scaled = ((y - middle) / scale)[:, np.newaxis]

    def learn(*layers: int) -> tuple[Array, Any, float]:
        model = network(X.shape[1], *layers, 1, seed=seed, engine=engine)
        recipe: dict[str, Any] = {"epochs": epochs, "callbacks": [EarlyStopping(patience=40)]}
        recipe["validation_data"] = X[validation], scaled[validation]
        history = model.fit(X[train], scaled[train], "mse", Adam(3e-3), **recipe)
        answers = model.predict(X[test]).astype(np.float64) * scale + middle
        return answers[:, 0], history, float(r2(y[test][:, np.newaxis], answers, None))

    answers, history, score = learn(*hidden)
    losses = np.array(history["loss"]), np.array(history["val_loss"])
    return Regression(y[test], answers, *losses, score, learn()[2])
