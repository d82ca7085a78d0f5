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

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fastnn import SGD

from . import Task, Training

VERSION = jax.__version__

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    right = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right)


_LOSSES = {"mse": lambda z, y: jnp.mean((z - y) ** 2), "cross_entropy": cross_entropy}


def update(rule: Any, step: jax.Array, p: Any, g: Any, moments: Any) -> tuple[Any, Any]:
    """The next value of an array of parameters, and of its moments."""
    if isinstance(rule, SGD):
        v = rule.momentum * moments[0] + g
        return p - rule.learning_rate * v, (v,)
    m = rule.beta_1 * moments[0] + (1 - rule.beta_1) * g
    v = rule.beta_2 * moments[1] + (1 - rule.beta_2) * g * g
    c1, c2 = 1 - rule.beta_1**step, 1 - rule.beta_2**step
    return p - rule.learning_rate * (m / c1) / (jnp.sqrt(v / c2) + rule.epsilon), (m, v)


class Peer(Training):
    """The state of the training is one tuple, replaced by each epoch."""

    def build(self, task: Task) -> None:
        workload, size = task.workload, task.workload.batch_size
        activation = _ACTIVATIONS[workload.activation]
        loss = _LOSSES[workload.loss]
        flat, pairs_of = ravel_pytree([tuple(map(jnp.array, layer)) for layer in task.layers])
        self.first = (flat,) if task.variant == "flat" else tuple(jax.tree.leaves(pairs_of(flat)))
        self.X, self.y = jnp.array(task.X), jnp.array(task.y)
        n, gather = len(task.X), {"mode": "promise_in_bounds"}

        def loss_of(parameters: Any, X: jax.Array, y: jax.Array) -> jax.Array:
            pairs = zip(parameters[::2], parameters[1::2], strict=False)
            *hidden, last = pairs_of(*parameters) if task.variant == "flat" else pairs
            for weight, bias in hidden:
                X = activation(X @ weight + bias)
            return loss(X @ last[0] + last[1], y)

        @partial(jax.jit, donate_argnums=0)
        def epoch(state: Any, order: jax.Array, X: jax.Array, y: jax.Array) -> tuple[Any, Any]:
            def step(state: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
                parameters, moments, count = state
                batch = X.at[rows].get(**gather), y.at[rows].get(**gather)
                value, gradient = jax.value_and_grad(loss_of)(parameters, *batch)
                new = partial(update, workload.optimizer, count + 1)
                parameters, moments = zip(*map(new, parameters, gradient, moments), strict=True)
                return (parameters, moments, count + 1), value * len(rows)

            whole = n // size * size
            state, losses = jax.lax.scan(step, state, order[:whole].reshape(-1, size))
            total = losses.sum()
            if whole < n:
                state, last = step(state, order[whole:])
                total += last
            return state, total / n

        self.compiled, self.gradient_of = epoch, jax.jit(jax.grad(loss_of))

    def gradient(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ravel(part) for part in self.gradient_of(self.first, X, y)])

    def reset(self) -> None:
        count = 1 if isinstance(self.task.workload.optimizer, SGD) else 2
        copies = tuple(map(jnp.copy, self.first))  # the epoch consumes what it is given
        zeros = tuple(tuple(jnp.zeros_like(p) for _ in range(count)) for p in self.first)
        self.rng = np.random.default_rng(0)
        self.state = jax.block_until_ready((copies, zeros, jnp.float32(0)))

    def epoch(self) -> jax.Array:
        order = self.rng.permutation(len(self.task.X)).astype(np.int32)
        self.state, loss = self.compiled(self.state, order, self.X, self.y)
        return loss
