"""The NumPy loop that speed is measured against: what a careful person writes by hand.

It trains the workloads as fast as NumPy lets one, and is not the reference engine, which
is written to be read. Whatever is as large as a layer is allocated before the first step
and computed in place, by ``out=``; rows are gathered by ``take`` into place. All parameters
lie in one vector, their gradient in another, so that the optimizer is a few calls on whole
vectors; and it keeps moments in units of 1 - beta, which saves two passes over them.
"""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimizers import SGD, Adam
from . import contest
from .workloads import WORKLOADS, Workload, agreement

Array = NDArray[Any]


class _Batch:
    """Buffers for a number of rows: activations, deltas, and what the loss needs."""

    def __init__(self, workload: Workload, rows: int) -> None:
        self.rows = rows
        shapes = [(rows, size) for size in workload.sizes]
        self.activations, self.deltas, self.slopes = (
            [np.empty(shape, workload.dtype) for shape in shapes] for _ in range(3)
        )
        self.column = np.empty((rows, 1), workload.dtype)
        self.ones = np.ones(rows, workload.dtype)
        self.range = np.arange(rows)
        is_mse = workload.loss == "mse"
        self.target: Array = np.empty_like(self.deltas[-1]) if is_mse else np.zeros(rows, np.int64)


class NumpyPeer:
    """A network that trains in place.

    Parameters
    ----------
    workload : Workload
        With plain Adam, or SGD with or without momentum; relu, tanh or sigmoid.
    parameters : ndarray, optional
        Flat, ordered as ``Sequential.parameters``; the workload's first ones by default. The
        attribute of that name changes in place.
    """

    def __init__(self, workload: Workload, parameters: Array | None = None) -> None:
        if parameters is None:
            parameters = workload.model("numpy").parameters
        rate = workload.optimizer.learning_rate
        if not isinstance(rate, float):
            raise TypeError("the NumPy loop takes a constant learning rate")
        self.workload, self.rate = workload, rate
        self.parameters = parameters.astype(workload.dtype)
        self.flat_gradient, self.scratch = (np.zeros_like(self.parameters) for _ in range(2))
        self.layers = workload.views(self.parameters)
        self.gradients = workload.views(self.flat_gradient)
        self._batch = cache(partial(_Batch, workload))
        self.number = np.dtype(workload.dtype).type  # a Python float would be converted each time
        self.zero, self.one = self.number(0), self.number(1)
        self.step = 0
        self.moments = (np.zeros_like(self.parameters), np.zeros_like(self.parameters))

    def fit(self, X: Array, y: Array, epochs: int) -> float:
        """Train from the present parameters; return the mean loss of the last epoch."""
        self.step = 0
        for moment in self.moments:
            moment[...] = 0
        rng, order, loss = np.random.default_rng(0), np.arange(len(X)), 0.0
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

    def gradient(self, X: Array, y: Array) -> Array:
        """The flat gradient of the loss over all rows as one batch."""
        batch = self._batch(len(X))
        batch.activations[0][...] = X
        batch.target[...] = y
        self._forward(batch, batch.activations[0])
        self._backward(batch)
        return self.flat_gradient.copy()

    def predict(self, X: Array) -> Array:
        """The output of the network (n, outputs)."""
        batch = self._batch(len(X))
        self._forward(batch, X)
        if self.workload.loss == "cross_entropy":
            self._softmax(batch)
        return batch.activations[-1].copy()

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
                np.maximum(z, self.zero, out=z)
            case "tanh":
                np.tanh(z, out=z)
            case "sigmoid":
                np.negative(z, out=z)
                np.exp(z, out=z)
                np.add(z, self.one, out=z)
                np.reciprocal(z, out=z)

    def _slope(self, y: Array, out: Array) -> None:
        """Set ``out`` to f′ from y = f(z)."""
        match self.workload.activation:
            case "relu":
                np.greater(y, self.zero, out=out)
            case "tanh":
                np.multiply(y, y, out=out)
                np.subtract(self.one, out, out=out)
            case "sigmoid":
                np.subtract(self.one, y, out=out)
                np.multiply(out, y, out=out)

    def _softmax(self, batch: _Batch) -> Array:
        """Turn logits into probabilities; return the targets', from which the largest was taken."""
        z, column = batch.activations[-1], batch.column
        np.maximum.reduce(z, axis=1, keepdims=True, out=column)
        np.subtract(z, column, out=z)
        right: Array = z[batch.range, batch.target]
        np.exp(z, out=z)
        np.add.reduce(z, axis=1, keepdims=True, out=column)
        np.divide(z, column, out=z)
        return right

    def _loss(self, batch: _Batch) -> float:
        """The mean loss; sets the last delta to its derivative by z."""
        output, delta = batch.activations[-1], batch.deltas[-1]
        if self.workload.loss == "mse":
            np.subtract(output, batch.target, out=delta)
            loss = float(np.vdot(delta, delta)) / delta.size
            np.multiply(delta, self.number(2 / delta.size), out=delta)
            return loss
        right = self._softmax(batch)
        np.log(batch.column, out=batch.column)
        output[batch.range, batch.target] -= self.one
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
        (first, second), gradient, scratch = self.moments, self.flat_gradient, self.scratch
        rule = self.workload.optimizer
        if isinstance(rule, SGD):  # v = momentum · v + g; p -= rate · v
            np.multiply(first, self.number(rule.momentum), out=first)
            np.add(first, gradient, out=first)
            np.multiply(first, self.number(self.rate), out=scratch)
        else:
            # With m / (1 - beta_1) and v / (1 - beta_2) for moments, rate · m̂ / (√v̂ + ε) is
            # factor · m / (√v + shift): two numbers hold the corrections of bias and units.
            assert isinstance(rule, Adam)
            root = ((1 - rule.beta_2**self.step) / (1 - rule.beta_2)) ** 0.5
            factor = self.rate * (1 - rule.beta_1) / (1 - rule.beta_1**self.step) * root
            np.multiply(first, self.number(rule.beta_1), out=first)
            np.add(first, gradient, out=first)
            np.multiply(second, self.number(rule.beta_2), out=second)
            np.multiply(gradient, gradient, out=scratch)
            np.add(second, scratch, out=second)
            np.sqrt(second, out=scratch)
            np.add(scratch, self.number(rule.epsilon * root), out=scratch)
            np.divide(first, scratch, out=scratch)
            np.multiply(scratch, self.number(factor), out=scratch)
        np.subtract(self.parameters, scratch, out=self.parameters)


def _prepare(workload: str, dtype: str) -> contest.Prepared:
    """What the process that ``fastnn bench`` starts does: check the gradient, then be timed."""
    case = WORKLOADS[workload]._replace(dtype=dtype)
    peer = NumpyPeer(case)
    first = peer.parameters.copy()
    error = agreement(case, peer.gradient, "the NumPy loop")
    X, y = case.data()

    def run(epochs: int) -> dict[str, Any]:
        peer.parameters[...] = first
        start = time.perf_counter()
        loss = peer.fit(X, y, epochs)
        return {"seconds": time.perf_counter() - start, "loss": loss}

    return {"gradient_error": error}, run


if __name__ == "__main__":
    contest.serve(_prepare)
