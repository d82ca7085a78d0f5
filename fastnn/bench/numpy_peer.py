"""The NumPy loop that speed is measured against: what a careful person writes by hand.

It trains the workloads as fast as NumPy lets one, and is not the reference engine, which
is written to be read. Whatever is as large as a layer is allocated before the first step
and computed in place, by ``out=``; rows are gathered by ``take`` into place. All parameters
lie in one vector, their gradient in another, so that the optimizer is a few calls on whole
vectors; and it keeps moments in units of 1 - beta, which saves two passes over them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import contest
from ..optimizers import SGD, Adam
from .workloads import WORKLOADS, Workload, agreement, reference

Array = NDArray[Any]


class _Batch:
    """Buffers for a number of rows: activations, deltas, and what the loss needs."""

    def __init__(self, workload: Workload, rows: int) -> None:
        self.rows = rows
        shapes = [(rows, size) for size in workload.sizes]
        self.activations = [np.empty(shape, workload.dtype) for shape in shapes]
        self.deltas = [np.empty(shape, workload.dtype) for shape in shapes]
        self.slopes = [np.empty(shape, workload.dtype) for shape in shapes]
        self.column = np.empty((rows, 1), workload.dtype)
        self.ones = np.ones(rows, workload.dtype)
        self.range = np.arange(rows)
        is_mse = workload.loss == "mse"
        self.target: Array = (
            np.empty(shapes[-1], workload.dtype) if is_mse else np.empty(rows, np.int64)
        )


class NumpyPeer:
    """A network that trains in place.

    Parameters
    ----------
    workload : Workload
        With plain Adam, or SGD with or without momentum; relu, tanh or sigmoid.
    parameters : ndarray, optional
        Flat, ordered as ``Sequential.parameters``; the workload's first ones by default.

    Attributes
    ----------
    parameters : ndarray
        Flat; changed in place.
    """

    def __init__(self, workload: Workload, parameters: Array | None = None) -> None:
        if parameters is None:
            parameters = workload.model("numpy").parameters
        rate = workload.optimizer.learning_rate
        if not isinstance(rate, float):
            raise TypeError("the NumPy loop takes a constant learning rate")
        self.workload, self.rate = workload, rate
        self.parameters = parameters.astype(workload.dtype)
        self.flat_gradient = np.zeros_like(self.parameters)
        self.scratch = np.empty_like(self.parameters)
        self.layers = self._views(self.parameters)
        self.gradients = self._views(self.flat_gradient)
        self.batches: dict[int, _Batch] = {}
        self.number = np.dtype(workload.dtype).type  # a Python float would be converted each time
        self.reset_state()

    def reset_state(self) -> None:
        """Start the optimizer afresh."""
        self.step = 0
        self.moments = (np.zeros_like(self.parameters), np.zeros_like(self.parameters))

    def _views(self, flat: Array) -> list[tuple[Array, Array]]:
        views, start = [], 0
        for inputs, outputs in pairwise(self.workload.sizes):
            stop = start + inputs * outputs
            views.append((flat[start:stop].reshape(inputs, outputs), flat[stop : stop + outputs]))
            start = stop + outputs
        return views

    def _batch(self, rows: int) -> _Batch:
        if rows not in self.batches:
            self.batches[rows] = _Batch(self.workload, rows)
        return self.batches[rows]

    # ------------------------------------------------------------------ use

    def fit(self, X: Array, y: Array, epochs: int, seed: int = 0) -> float:
        """Train from the present parameters; return the mean loss of the last epoch."""
        self.reset_state()
        rng = np.random.default_rng(seed)
        order = np.arange(len(X))
        loss = 0.0
        for _ in range(epochs):
            rng.shuffle(order)
            loss = self.epoch(X, y, order)
        return loss

    def epoch(self, X: Array, y: Array, order: Array) -> float:
        """One epoch over the rows in ``order``; return the loss before each update, averaged."""
        size, total = self.workload.batch_size, 0.0
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            batch = self._batch(len(rows))
            # mode="clip" lets take write to out directly; no index is out of bounds
            X.take(rows, axis=0, out=batch.activations[0], mode="clip")
            y.take(rows, axis=0, out=batch.target, mode="clip")
            self._forward(batch, batch.activations[0])
            total += self._backward(batch) * len(rows)
            self._update()
        return total / len(order)

    def gradient(self, X: Array, y: Array) -> tuple[float, Array]:
        """The loss over all rows as one batch, and its flat gradient."""
        batch = self._batch(len(X))
        batch.activations[0][...] = X
        batch.target[...] = y
        self._forward(batch, batch.activations[0])
        return self._backward(batch), self.flat_gradient.copy()

    def predict(self, X: Array) -> Array:
        """The output of the network (n, outputs)."""
        batch = self._batch(len(X))
        self._forward(batch, X)
        if self.workload.loss == "cross_entropy":
            self._shift(batch)
            self._normalise(batch)
        return batch.activations[-1].copy()

    # ------------------------------------------------------------------ the step

    def _forward(self, batch: _Batch, X: Array) -> None:
        """Set the activations after X; the last layer's are left without its softmax."""
        below = X
        for (weight, bias), z in zip(self.layers, batch.activations[1:], strict=True):
            np.dot(below, weight, out=z)
            np.add(z, bias, out=z)
            if z is not batch.activations[-1]:
                self._activate(z)
            below = z

    def _activate(self, z: Array) -> None:
        """z = f(z)."""
        match self.workload.activation:
            case "relu":
                np.maximum(z, self.number(0), out=z)
            case "tanh":
                np.tanh(z, out=z)
            case "sigmoid":
                np.negative(z, out=z)
                np.exp(z, out=z)
                np.add(z, self.number(1), out=z)
                np.reciprocal(z, out=z)

    def _slope(self, y: Array, out: Array) -> None:
        """Set ``out`` to f′ from y = f(z)."""
        match self.workload.activation:
            case "relu":
                np.greater(y, self.number(0), out=out)
            case "tanh":
                np.multiply(y, y, out=out)
                np.subtract(self.number(1), out, out=out)
            case "sigmoid":
                np.subtract(self.number(1), y, out=out)
                np.multiply(out, y, out=out)

    def _shift(self, batch: _Batch) -> None:
        """Subtract the largest logit of each row, so that the exponentials are finite."""
        z = batch.activations[-1]
        np.maximum.reduce(z, axis=1, keepdims=True, out=batch.column)
        np.subtract(z, batch.column, out=z)

    def _normalise(self, batch: _Batch) -> None:
        """Turn logits into probabilities; ``column`` gets the sums of their exponentials."""
        z = batch.activations[-1]
        np.exp(z, out=z)
        np.add.reduce(z, axis=1, keepdims=True, out=batch.column)
        np.divide(z, batch.column, out=z)

    def _loss(self, batch: _Batch) -> float:
        """The mean loss; sets the last delta to its derivative by z."""
        output, delta = batch.activations[-1], batch.deltas[-1]
        if self.workload.loss == "mse":
            np.subtract(output, batch.target, out=delta)
            loss = float(np.vdot(delta, delta)) / delta.size
            np.multiply(delta, self.number(2 / delta.size), out=delta)
            return loss
        self._shift(batch)
        right = output[batch.range, batch.target]
        self._normalise(batch)
        np.log(batch.column, out=batch.column)
        output[batch.range, batch.target] -= self.number(1)
        np.multiply(output, self.number(1 / batch.rows), out=delta)
        return float(batch.column.sum() - right.sum()) / batch.rows

    def _backward(self, batch: _Batch) -> float:
        """Set the gradient from the activations; return the loss."""
        loss = self._loss(batch)
        for k in range(len(self.layers), 0, -1):
            delta, below = batch.deltas[k], batch.activations[k - 1]
            weight_gradient, bias_gradient = self.gradients[k - 1]
            np.dot(below.T, delta, out=weight_gradient)
            np.dot(batch.ones, delta, out=bias_gradient)  # quicker than a sum over axis 0
            if k > 1:
                np.dot(delta, self.layers[k - 1][0].T, out=batch.deltas[k - 1])
                self._slope(below, batch.slopes[k - 1])
                np.multiply(batch.deltas[k - 1], batch.slopes[k - 1], out=batch.deltas[k - 1])
        return loss

    def _update(self) -> None:
        """One step of the workload's optimizer on the whole vector."""
        self.step += 1
        if isinstance(self.workload.optimizer, SGD):
            self._sgd(self.workload.optimizer)
        else:
            assert isinstance(self.workload.optimizer, Adam)
            self._adam(self.workload.optimizer)

    def _sgd(self, rule: SGD) -> None:
        """v = momentum · v + g; p -= rate · v."""
        velocity, _ = self.moments
        np.multiply(velocity, self.number(rule.momentum), out=velocity)
        np.add(velocity, self.flat_gradient, out=velocity)
        np.multiply(velocity, self.number(self.rate), out=self.scratch)
        np.subtract(self.parameters, self.scratch, out=self.parameters)

    def _adam(self, rule: Adam) -> None:
        """Adam with m / (1 - beta_1) and v / (1 - beta_2) for moments.

        rate · m̂ / (√v̂ + ε) is then factor · m / (√v + shift), with the corrections of the
        bias and both units in two numbers.
        """
        first, second = self.moments
        rest_1, rest_2 = 1 - rule.beta_1, 1 - rule.beta_2
        root = ((1 - rule.beta_2**self.step) / rest_2) ** 0.5
        factor = self.rate * rest_1 / (1 - rule.beta_1**self.step) * root
        np.multiply(first, self.number(rule.beta_1), out=first)
        np.add(first, self.flat_gradient, out=first)
        np.multiply(second, self.number(rule.beta_2), out=second)
        np.multiply(self.flat_gradient, self.flat_gradient, out=self.scratch)
        np.add(second, self.scratch, out=second)
        np.sqrt(second, out=self.scratch)
        np.add(self.scratch, self.number(rule.epsilon * root), out=self.scratch)
        np.divide(first, self.scratch, out=self.scratch)
        np.multiply(self.scratch, self.number(factor), out=self.scratch)
        np.subtract(self.parameters, self.scratch, out=self.parameters)


def _prepare(workload: str, dtype: str) -> tuple[dict[str, Any], Callable[..., dict[str, Any]]]:
    """What the process that ``fastnn bench`` starts does: check the gradient, then be timed."""
    case = WORKLOADS[workload]._replace(dtype=dtype)
    peer = NumpyPeer(case)
    first = peer.parameters.copy()
    rows = reference(case)
    error = agreement(case, peer.gradient(rows.X, rows.y)[1], "the NumPy loop")
    X, y = case.data()

    def run(epochs: int) -> dict[str, Any]:
        peer.parameters[...] = first
        start = time.perf_counter()
        loss = peer.fit(X, y, epochs)
        return {"seconds": time.perf_counter() - start, "loss": loss}

    return {"gradient_error": error}, run


if __name__ == "__main__":
    contest.serve(_prepare)
