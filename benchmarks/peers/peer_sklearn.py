"""scikit-learn among the peers: ``partial_fit`` on all rows, once an epoch.

Fair to it: data in float32, which it keeps; its penalty is off; ``partial_fit`` shuffles,
gathers and goes through the batches, without the checks of convergence that ``fit`` adds.
Its squared error is half of ours, hence the factor in the check; the work is the same.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import sklearn
from harness import Task, serve
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastnn import SGD

_ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}


class SklearnTraining:
    """An estimator whose first parameters are the workload's."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.is_classifier = task.workload.loss == "cross_entropy"
        self.factor = 1 if self.is_classifier else 2
        self.y = task.y if self.is_classifier else task.y.ravel()
        self.reset()

    def estimator(self, **options: Any) -> Any:
        """With the first parameters; the batch size is bounded by the rows of a call."""
        workload, kind = self.task.workload, MLPClassifier if self.is_classifier else MLPRegressor
        estimator = kind(
            hidden_layer_sizes=workload.sizes[1:-1],
            activation=_ACTIVATIONS[workload.activation],
            alpha=0.0,
            random_state=0,
            **options,
        )
        some = slice(0, workload.batch_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one batch is too few for whatever it expects
            if self.is_classifier:
                classes = np.arange(workload.sizes[-1])
                estimator.partial_fit(self.task.X[some], self.y[some], classes=classes)
            else:
                estimator.partial_fit(self.task.X[some], self.y[some])
        for k, (weight, bias) in enumerate(self.task.layers):
            estimator.coefs_[k][...] = weight
            estimator.intercepts_[k][...] = bias
        return estimator

    def gradient(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """What one step of plain descent subtracts, so long that no rounding hides it."""
        rate = 1e4
        estimator = self.estimator(
            solver="sgd", momentum=0, learning_rate_init=rate, batch_size=len(X)
        )
        before = self.flat(estimator)
        estimator.partial_fit(X, y if self.is_classifier else y.ravel())
        return self.factor / rate * (before - self.flat(estimator))

    @staticmethod
    def flat(estimator: Any) -> np.ndarray:
        pairs = zip(estimator.coefs_, estimator.intercepts_, strict=True)
        return np.concatenate([part.ravel() for pair in pairs for part in pair], dtype=np.float64)

    def reset(self) -> None:
        workload = self.task.workload
        rule = workload.optimizer
        if isinstance(rule, SGD):
            options = {"solver": "sgd", "momentum": rule.momentum, "nesterovs_momentum": False}
        else:
            options = {"solver": "adam", "beta_1": rule.beta_1, "beta_2": rule.beta_2}
            options["epsilon"] = rule.epsilon
        self.trained = self.estimator(
            learning_rate_init=rule.learning_rate, batch_size=workload.batch_size, **options
        )
        del self.trained._optimizer  # the next call starts a fresh one

    def train(self, epochs: int) -> float:
        for _ in range(epochs):
            self.trained.partial_fit(self.task.X, self.y)
        return self.factor * self.trained.loss_


if __name__ == "__main__":
    serve(SklearnTraining, None, sklearn.__version__)
