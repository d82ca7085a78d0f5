"""JAX among the peers: one compiled call an epoch, with all its steps and gathers inside.

Fair to it: data live on the device; ``lax.scan`` over the batches, so that Python is entered
once an epoch; the order comes from NumPy, whose shuffle is ten times as fast as
``jax.random.permutation`` on a CPU; buffers are donated; gathers promise that indices are in
bounds; the time to compile is not counted. A short last batch is a second, unscanned step
of the same call.

Variants: ``tree`` with one array per weight and bias, ``flat`` with all parameters in one
vector, which spares small networks the overhead of many small operations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Task, serve
from jax.flatten_util import ravel_pytree

from fastnn import SGD

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}


def mse(output: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.mean((output - target) ** 2)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    right = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right)


_LOSSES = {"mse": mse, "cross_entropy": cross_entropy}


def rule_of(optimizer: Any) -> Callable[..., tuple[Any, Any]]:
    """(parameters, gradient, moments, step) -> the next parameters and moments."""
    rate, tree_map = optimizer.learning_rate, jax.tree.map
    if isinstance(optimizer, SGD):

        def sgd(p: Any, g: Any, moments: Any, step: jax.Array) -> tuple[Any, Any]:
            v = tree_map(lambda v, g: optimizer.momentum * v + g, moments[0], g)
            return tree_map(lambda p, v: p - rate * v, p, v), (v,)

        return sgd
    b1, b2, epsilon = optimizer.beta_1, optimizer.beta_2, optimizer.epsilon

    def adam(p: Any, g: Any, moments: Any, step: jax.Array) -> tuple[Any, Any]:
        m = tree_map(lambda m, g: b1 * m + (1 - b1) * g, moments[0], g)
        v = tree_map(lambda v, g: b2 * v + (1 - b2) * g * g, moments[1], g)
        c1, c2 = 1 - b1**step, 1 - b2**step
        return tree_map(
            lambda p, m, v: p - rate * (m / c1) / (jnp.sqrt(v / c2) + epsilon), p, m, v
        ), (m, v)

    return adam


class JaxTraining:
    """The state of the training is one tuple, replaced by each epoch."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.first = [(jnp.array(weight), jnp.array(bias)) for weight, bias in task.layers]
        flat, unravel = ravel_pytree(self.first)
        if task.variant == "flat":
            self.first = flat
        activation, loss = _ACTIVATIONS[task.workload.activation], _LOSSES[task.workload.loss]

        def loss_of(parameters: Any, X: jax.Array, y: jax.Array) -> jax.Array:
            layers = unravel(parameters) if task.variant == "flat" else parameters
            for weight, bias in layers[:-1]:
                X = activation(X @ weight + bias)
            weight, bias = layers[-1]
            return loss(X @ weight + bias, y)

        self.loss_of = jax.jit(jax.value_and_grad(loss_of))
        self.X, self.y = jnp.array(task.X), jnp.array(task.y)
        self.epoch = self._compile(jax.value_and_grad(loss_of))
        self.reset()

    def _compile(self, loss_of: Callable[..., Any]) -> Callable[..., Any]:
        size, update = self.task.workload.batch_size, rule_of(self.task.workload.optimizer)
        n = len(self.task.X)
        whole = n // size * size

        @partial(jax.jit, donate_argnums=0)
        def epoch(
            state: Any, order: jax.Array, X: jax.Array, y: jax.Array
        ) -> tuple[Any, jax.Array]:
            def step(state: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
                parameters, moments, count = state
                count = count + 1
                gather = {"mode": "promise_in_bounds"}
                value, gradient = loss_of(
                    parameters, X.at[rows].get(**gather), y.at[rows].get(**gather)
                )
                parameters, moments = update(parameters, gradient, moments, count)
                return (parameters, moments, count), value * len(rows)

            state, losses = jax.lax.scan(step, state, order[:whole].reshape(-1, size))
            total = losses.sum()
            if whole < n:
                state, last = step(state, order[whole:])
                total += last
            return state, total / n

        return epoch

    def gradient(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        gradient = self.loss_of(self.first, jnp.array(X), jnp.array(y))[1]
        return np.asarray(ravel_pytree(gradient)[0])

    def reset(self) -> None:
        count = self.task.workload.optimizer.spec().moments
        zeros = [jax.tree.map(jnp.zeros_like, self.first) for _ in range(count)]
        copy = jax.tree.map(jnp.copy, self.first)  # the epoch consumes what it is given
        self.state = jax.block_until_ready((copy, tuple(zeros), jnp.float32(0)))

    def train(self, epochs: int) -> float:
        rng, n = np.random.default_rng(0), len(self.task.X)
        for _ in range(epochs):
            order = rng.permutation(n).astype(np.int32)
            self.state, loss = self.epoch(self.state, order, self.X, self.y)
        jax.block_until_ready(self.state)
        return float(loss)


if __name__ == "__main__":
    serve(JaxTraining, None, jax.__version__)
