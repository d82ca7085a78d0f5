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
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastnn import SGD

from . import Task, Training

VERSION = sklearn.__version__

_ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}


class Peer(Training):
    """An estimator whose first parameters are the workload's."""

    def build(self, task: Task) -> None:
        is_classifier = task.workload.loss == "cross_entropy"
        self.kind = MLPClassifier if is_classifier else MLPRegressor
        self.factor = 1 if is_classifier else 2
        self.y = task.y if is_classifier else task.y.ravel()
        self.classes = {"classes": np.arange(task.workload.sizes[-1])} if is_classifier else {}

    def estimator(self, **options: Any) -> Any:
        """With the first parameters; the batch size is bounded by the rows of a call."""
        workload = self.task.workload
        options |= {"activation": _ACTIVATIONS[workload.activation], "alpha": 0.0}
        options["hidden_layer_sizes"] = workload.sizes[1:-1]
        estimator = self.kind(random_state=0, **options)
        some = slice(0, workload.batch_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one batch is too few for whatever it expects
            estimator.partial_fit(self.task.X[some], self.y[some], **self.classes)
        for k, (weight, bias) in enumerate(self.task.layers):
            estimator.coefs_[k][...] = weight
            estimator.intercepts_[k][...] = bias
        return estimator

    def gradient(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """What one step of plain descent subtracts, so long that no rounding hides it."""
        rate, options = 1e4, {"solver": "sgd", "momentum": 0, "batch_size": len(X)}
        estimator = self.estimator(learning_rate_init=rate, **options)
        before = self.flat(estimator)
        estimator.partial_fit(X, y.ravel())
        return self.factor / rate * (before - self.flat(estimator))

    def flat(self, estimator: Any) -> np.ndarray:
        pairs = zip(estimator.coefs_, estimator.intercepts_, strict=True)
        return np.concatenate([part.ravel() for pair in pairs for part in pair], dtype=np.float64)

    def reset(self) -> None:
        workload, rule = self.task.workload, self.task.workload.optimizer
        options = {"learning_rate_init": rule.learning_rate, "batch_size": workload.batch_size}
        if isinstance(rule, SGD):
            options |= {"solver": "sgd", "momentum": rule.momentum, "nesterovs_momentum": False}
        else:
            options |= {name: getattr(rule, name) for name in ("beta_1", "beta_2", "epsilon")}
        self.trained = self.estimator(**options)
        del self.trained._optimizer  # the next call starts a fresh one

    def epoch(self) -> float:
        self.trained.partial_fit(self.task.X, self.y)
        return self.factor * self.trained.loss_
