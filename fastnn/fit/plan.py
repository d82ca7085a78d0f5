"""What a fit needs to know: every argument found good before anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks, layers, losses, metrics, optimizers
from ..checks import threads
from ..errors import unknown_name
from ..kernels import contract
from ..kernels.contract import LossSpec
from ..optimizers import LBFGS
from .callbacks import Callbacks
from .learner import Data, Learner
from .progress import Progress

Array = NDArray[Any]


class Plan:
    """A fit whose every argument has been found good.

    ``asked`` has the arguments of ``Sequential.fit`` by their names.
    """

    def __init__(self, learner: Learner, asked: SimpleNamespace) -> None:
        self.loss = losses.resolve(asked.loss, learner.last.activation)
        self.optimizer = optimizers.resolve(asked.optimizer)
        self.epochs = checks.whole("epochs", asked.epochs)
        self.shuffle = checks.flag("shuffle", asked.shuffle)
        self.resume = checks.flag("resume", asked.resume)
        batch_size = checks.optional(checks.whole)("batch_size", asked.batch_size)
        self.callbacks = Callbacks(asked.callbacks)
        self.progress = Progress(asked.verbose, self.epochs)
        self.data = check_data(learner, asked.X, asked.y, asked.sample_weight, self.loss)
        n, inputs = self.data.X.shape
        self.batch_size = min(batch_size or n, n)
        self.steps_per_epoch = -(-n // self.batch_size)  # a short last batch included
        specs = layers.specifications(learner.layers, inputs)
        flops = contract.STEP * sum(spec.flops for spec in specs) * self.batch_size
        self.threads = threads.choose(asked.threads, flops, learner.dtype)
        self.exactly = asked.threads is not None  # so many threads; else at most
        self.metrics = metrics.resolve(asked.metrics, self.loss, self.data.target)
        self.metric_weight = self.data.weight  # without the weights of classes
        names = ["loss", *self.metrics]
        self.validation: Data | None = None
        if asked.validation_data is not None:
            self.validation = _validation(learner, asked.validation_data, self.loss, inputs)
            metrics.resolve(asked.metrics, self.loss, self.validation.target)
            names += [f"val_{name}" for name in names]
        if isinstance(self.optimizer, LBFGS):
            self.optimizer.check(specs)
        else:
            names.append("learning_rate")
        self.callbacks.check(names)
        if asked.class_weight is not None:
            weight = class_factors(asked.class_weight, self.data.target, learner.last.units)
            if self.data.weight is not None:
                weight = weight * self.data.weight
            weight = learner.gate.sample_weight(weight, n, "class_weight")
            self.data = self.data._replace(weight=weight)


def check_data(
    learner: Learner, X: Any, y: Any, weight: Any, loss: LossSpec, *, prefix: str = ""
) -> Data:
    """Plain arrays, or the error that says what is wrong."""
    gate, outputs = learner.gate, learner.last.units
    if not isinstance(loss.name, str) and gate.engine.NAME != "numpy":
        # compile it now: without Numba nothing has changed yet
        loss.name.address(gate.dtype.itemsize)
    X = gate.matrix(X, learner.inputs, name=f"{prefix}X")
    target = gate.target(y, loss, (len(X), outputs), name=f"{prefix}y")
    if weight is not None:
        weight = gate.sample_weight(weight, len(X), f"{prefix}sample_weight")
    return Data(X, target, weight)


def _validation(learner: Learner, given: Any, loss: LossSpec, inputs: int) -> Data:
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise TypeError("validation_data must be (X, y) or (X, y, sample_weight)")
    X, y, weight = (*given, None)[:3]
    data = check_data(learner, X, y, weight, loss, prefix="validation ")
    if data.X.shape[1] != inputs:
        raise ValueError(f"validation X has {data.X.shape[1]} columns, X has {inputs}")
    return data


def class_factors(class_weight: Any, target: Array, outputs: int) -> Array:
    """The weight of each row's class, (n,) in float64.

    ``class_weight`` maps labels to weights ≥ 0, 1 for a label that is not there; "balanced" is
    n / (classes · count). The target is labels (n,), rows whose largest entry is the class, or
    a column of 0 and 1.
    """
    if target.ndim == 1:
        labels = target
    elif outputs > 1:
        labels = target.argmax(axis=1)
    else:
        labels = target[:, 0].astype(np.int64)
        if not ((target[:, 0] == 0) | (target[:, 0] == 1)).all():
            raise ValueError("class_weight needs classes: labels, one-hot rows, or 0 and 1")
    classes = max(outputs, 2)
    factors = np.ones(classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise unknown_name("class_weight", class_weight, ("balanced",))
        counts = np.bincount(labels, minlength=classes)
        present = counts > 0
        factors[present] = len(labels) / (present.sum() * counts[present])
    elif isinstance(class_weight, Mapping):
        for label, weight in class_weight.items():
            index = checks.whole("a label of class_weight", label, 0, classes - 1)
            factors[index] = checks.real(f"class_weight[{label!r}]", weight, at_least=0)
    else:
        raise TypeError(f"class_weight must be a dict or 'balanced', not {class_weight!r}")
    rows: Array = factors[labels]
    return rows
