"""A table of numbers learned by a network: scaled inputs, and what the outputs mean.

How to scale is learned from the training rows and travels in the model file, so that a
prediction treats a new row exactly as training treated the old ones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bench.comparison import gradient_error, speedup
from ..checks import threads
from ..files import FileFormatError, read_metadata
from ..files.safetensors import parse_json
from ..kernels import contract
from ..layers import Dense
from ..model import Sequential
from ..model import load as load_model
from ..optimizers import OPTIMIZERS
from . import say
from .tables import Table, TableError

Array = NDArray[Any]
Rows = NDArray[np.int64]

_METADATA = "preprocessing"  # its name in the metadata of a model file
_COMPARED_ROWS = 4096  # for the gradient's agreement


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """How a table becomes a network's input, and a network's output an answer."""

    features: tuple[str, ...]  #: the columns, in the order of the network's inputs
    mean: Array  #: (features,): an input is (x - mean) / scale
    scale: Array
    target: str  #: what is predicted
    classes: tuple[Any, ...] | None  #: int or str, of each output; None if it is a number,
    target_mean: float = 0.0  #: which is output · target_scale + target_mean
    target_scale: float = 1.0

    @classmethod
    def learn(cls, table: Table, rows: Rows) -> Preprocessing:
        """Means and standard deviations of some rows; the classes of all."""
        described = table.features, *_mean_and_scale(table.X[rows], table.features)
        name = table.target_name
        if table.has_classes:
            return cls(*described, name, tuple(np.unique(table.target).tolist()))
        mean, scale = _mean_and_scale(table.target[rows, None], (name,))
        return cls(*described, name, None, float(mean[0]), float(scale[0]))

    @property
    def outputs(self) -> int:
        """Units of the network's last layer."""
        return 1 if self.classes is None else len(self.classes)

    def inputs(self, X: Array, dtype: Any) -> Array:
        """The network's input (n, features) for the columns of a table."""
        return np.asarray((X - self.mean) / self.scale, dtype)

    def targets(self, values: Array, dtype: Any) -> Array:
        """The network's target for what the table holds: labels, or (n, 1) numbers."""
        if self.classes is not None:
            return np.searchsorted(np.array(self.classes), values).astype(np.int64)
        return np.asarray((values - self.target_mean) / self.target_scale, dtype)[:, None]

    def answers(self, output: Array) -> Array:
        """What the network's output (n, outputs) says, in the table's own terms: (n,)."""
        if self.classes is not None:
            return np.asarray(np.array(self.classes)[np.argmax(output, axis=1)])
        return np.asarray(output[:, 0], np.float64) * self.target_scale + self.target_mean

    def to_json(self) -> str:
        """A string for the metadata of the model file."""
        return json.dumps(vars(self) | {"mean": self.mean.tolist(), "scale": self.scale.tolist()})

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """What ``to_json`` wrote; a FileFormatError if it did not write this."""
        match parse_json(text, "the description of the inputs"):
            case {
                "features": list(features),
                "mean": list(mean),
                "scale": list(scale),
                "target": str(target),
                "classes": None | list() as classes,
                "target_mean": float(target_mean),
                "target_scale": float(target_scale),
            } if (
                len(features) == len(mean) == len(scale)
                and set(map(type, features)) == {str}
                and set(map(type, mean)) == set(map(type, scale)) == {float}
                and min(scale) > 0
                and (classes is None or len(classes) > 1)
                and set(map(type, classes or [0])) in ({int}, {str})
            ):
                numbers = np.array(mean), np.array(scale)
                labels = None if classes is None else tuple(classes)
                return cls(tuple(features), *numbers, target, labels, target_mean, target_scale)
        raise FileFormatError("the description of the inputs is not valid")


def _mean_and_scale(values: Array, names: tuple[str, ...]) -> tuple[Array, Array]:
    """Mean and standard deviation of each column; 1 for a column that does not vary."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Array = values.mean(axis=0)
        scale: Array = values.std(axis=0)
    if not (usable := np.isfinite(mean) & np.isfinite(scale)).all():
        raise TableError(f"the numbers in column {names[np.argmin(usable)]!r} are too large")
    return mean, np.where(scale > 0, scale, 1.0)


def load(path: str, engine: str) -> tuple[Sequential, Preprocessing | None]:
    """A saved network; a model of the API has no description of its inputs."""
    metadata = read_metadata(path)
    model = load_model(path, engine=engine)
    if _METADATA not in metadata:
        return model, None
    preprocessing = Preprocessing.from_json(metadata[_METADATA])
    sizes = len(preprocessing.features), preprocessing.outputs
    if (model.input_size, model.output_size) != sizes:
        raise FileFormatError("the description of the inputs does not fit the network")
    return model, preprocessing


def step_threads(arguments: argparse.Namespace, parameters: int, rows: int) -> int:
    """Threads of a training, chosen as ``Sequential.fit`` does."""
    flops = 2 * contract.STEP * parameters * min(arguments.batch_size, rows)
    return threads.choose(arguments.threads, flops, arguments.dtype)


class NetworkLearner:
    """A network trained on some rows of a table; ``facts`` are for the report."""

    def __init__(self, table: Table, rows: Rows, arguments: argparse.Namespace) -> None:
        self.preprocessing = Preprocessing.learn(table, rows)
        self.X = self.preprocessing.inputs(table.X, arguments.dtype)
        self.y = self.preprocessing.targets(table.target, arguments.dtype)
        self.rows, epochs = rows, arguments.epochs
        inputs, outputs = self.X.shape[1], self.preprocessing.outputs
        layers = [Dense(units, arguments.activation) for units in arguments.hidden]
        layers.append(Dense(outputs, "softmax" if table.has_classes else "identity"))
        options = {name: getattr(arguments, name) for name in ("dtype", "seed", "engine")}
        self.model = Sequential(layers, input_size=inputs, **options)
        rate = {} if arguments.lr is None else {"learning_rate": arguments.lr}
        self.recipe: dict[str, Any] = {
            "loss": "cross_entropy" if table.has_classes else "mse",
            "optimizer": OPTIMIZERS[arguments.optimizer](**rate),
            "batch_size": min(arguments.batch_size, len(rows)),
            "threads": step_threads(arguments, self.model.size, len(rows)),
        }
        network = "-".join(map(str, (inputs, *arguments.hidden, outputs)))
        heading = (
            f"{table.name}: {len(rows)} rows to learn from, {len(self.X) - len(rows)} held out",
            f"network {network}: {self.model.size} parameters, {arguments.activation}",
        )
        X, y, progress = self.X[rows], self.y[rows], _Progress(heading, epochs)
        start = time.perf_counter()
        history = self.model.fit(X, y, epochs=epochs, callbacks=[progress], **self.recipe)
        self.facts = {
            "network": network,
            "parameters": self.model.size,
            "epochs": epochs,
            "loss": history["loss"][-1],
            "seconds": time.perf_counter() - start,
        }

    def answers(self, rows: Rows) -> Array:
        """What it says about rows of the table, in the table's own terms: (n,)."""
        return self.preprocessing.answers(self.model.predict(self.X[rows]))

    def save(self, path: str) -> None:
        """Write a model file for ``fastnn predict``."""
        self.model.save(path, metadata={_METADATA: self.preprocessing.to_json()})

    def further(self, held_out: Rows) -> dict[str, float]:
        """Speed and gradient beside NumPy's."""
        # Where training ends, the gradients of the rows that it saw cancel.
        rows = held_out[:_COMPARED_ROWS]
        error = gradient_error(self.model, self.X[rows], self.y[rows], self.recipe["loss"])
        ratio = speedup(self.model, self.X[self.rows], self.y[self.rows], **self.recipe)
        return {"speedup_over_numpy": ratio, "gradient_error": error}


class _Progress:
    """About ten lines on the way, or one every two seconds where epochs are long."""

    def __init__(self, heading: tuple[str, ...], epochs: int) -> None:
        self.heading = heading
        self.epochs = epochs
        self.last = time.monotonic()

    def on_train_begin(self) -> None:
        for line in (*self.heading, "epoch       loss"):
            say(line)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        done = epoch + 1
        is_due = done * 10 // self.epochs > epoch * 10 // self.epochs
        if is_due or time.monotonic() - self.last > 2:
            self.last = time.monotonic()
            say(f"{done:5d}  {logs['loss']:9.4g}")
