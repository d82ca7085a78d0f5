"""The NumPy engine: the clearest statement of what every engine computes.

It is the reference for the compiled engines and runs wherever NumPy runs. Forward,
backward and update are written as in a textbook, a new array for each result; only the
rows (activations, losses, optimizers) live elsewhere, in ``numpy_rows``. A training step
ends by putting one new ``_State`` in the place of the old, so an interrupt at any moment
leaves the parameters and moments of a whole step. Threads are accepted and not used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

import numpy as np

from .. import random
from . import rows as numpy_rows
from .rows import Array, Moments

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

NAME = "numpy"
ISA = f"numpy {np.__version__}"

ACTIVATIONS = tuple(numpy_rows.ACTIVATIONS)
LOSSES = tuple(numpy_rows.LOSSES)
OPTIMIZERS = tuple(numpy_rows.OPTIMIZERS)

_LABEL_LOSSES = ("cross_entropy", "cross_entropy_of_probabilities")
_CHUNK = 4096  # rows that ``evaluate`` and ``gradient`` hold at a time


def _quiet(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function without NumPy's warnings: NaN and inf flow through."""

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return call


# --------------------------------------------------------------------------- kernels


@_quiet
def linear_forward(
    X: Array, weight: Array, bias: Array | None, activation: str, out: Array
) -> None:
    """Set ``out`` to f(X W + b)."""
    Z = X @ weight if bias is None else X @ weight + bias
    out[...] = numpy_rows.ACTIVATIONS[activation].function(Z)


@_quiet
def linear_backward(
    X: Array,
    weight: Array,
    delta: Array,
    input_delta: Array | None,
    weight_gradient: Array | None,
    bias_gradient: Array | None,
) -> None:
    """input_delta = delta Wᵀ; weight_gradient = Xᵀ delta; bias_gradient = Σ_rows delta."""
    if input_delta is not None:
        input_delta[...] = delta @ weight.T
    if weight_gradient is not None:
        weight_gradient[...] = X.T @ delta
    if bias_gradient is not None:
        bias_gradient[...] = delta.sum(axis=0)


@_quiet
def activation_forward(Z: Array, activation: str, out: Array) -> None:
    """Set ``out``, which may be Z, to f(Z)."""
    out[...] = numpy_rows.ACTIVATIONS[activation].function(Z)


@_quiet
def activation_backward(Z: Array, output_delta: Array, activation: str, out: Array) -> None:
    """Set ``out``, which may be ``output_delta``, to d loss / d Z."""
    out[...] = numpy_rows.ACTIVATIONS[activation].backward(Z, output_delta)


@_quiet
def loss_value_and_delta(
    output: Array, target: Array, weight: Array | None, loss: str, parameter: float, out: Array
) -> float:
    """Return the loss; out = d loss / d output, normalised as the loss is."""
    divisor = _divisor(loss, _weight_sum(weight, len(output)), output.shape[1])
    value, out[...] = _loss_share(output, target, weight, loss, parameter, divisor)
    return value


@_quiet
def optimizer_update(
    parameters: Array,
    gradient: Array,
    moments: Moments,
    optimizer: Any,
    rate: float,
    step: int,
) -> None:
    """One update in place; ``step`` counts from 1. All entries count as weights."""
    new_parameters, new_moments = _updated(
        parameters, gradient, moments, optimizer, rate, step, is_weight=True
    )
    parameters[...] = new_parameters
    for moment, new_moment in zip(moments, new_moments, strict=True):
        moment[...] = new_moment


def all_finite(values: Array) -> bool:
    """Whether no element is NaN or infinite; any strides, no temporary copy."""
    pieces = np.nditer(values, flags=["external_loop", "buffered", "zerosize_ok"], order="K")
    return all(bool(np.isfinite(piece).all()) for piece in pieces)


# --------------------------------------------------------------------------- loss and update


def _weight_sum(weight: Array | None, rows: int) -> float:
    return float(rows if weight is None else weight.sum(dtype=np.float64))


def _divisor(loss: Any, weight_sum: float, outputs: int, per_row: bool = False) -> float:
    """What Σ w·ℓ is divided by; 0 if all the weights are 0."""
    if per_row:
        outputs = 1
    return numpy_rows.loss(loss).divisor(weight_sum, outputs) if weight_sum else 0.0


def _loss_share(
    output: Array,
    target: Array,
    weight: Array | None,
    loss: Any,
    parameter: float,
    divisor: float,
) -> tuple[float, Array]:
    """What these rows add to the loss, Σ w·ℓ / divisor, and its derivative (n, outputs)."""
    if divisor == 0:
        return 0.0, np.zeros_like(output)
    row = numpy_rows.loss(loss)
    if target.ndim == 1:
        target = np.eye(output.shape[1], dtype=output.dtype)[target]
    value = row.value(output, target, parameter)
    delta = row.derivative(output, target, parameter)
    if weight is not None:
        value = value * weight[:, np.newaxis]
        delta = delta * weight[:, np.newaxis]
    return float(value.sum(dtype=np.float64)) / divisor, delta / divisor


def _updated(
    parameters: Array,
    gradient: Array,
    moments: Moments,
    optimizer: Any,
    rate: float,
    step: int,
    is_weight: Array | bool,
) -> tuple[Array, Moments]:
    """The parameters and moments after the update of number ``step`` (from 1)."""
    if optimizer.l2:
        gradient = gradient + optimizer.l2 * parameters * is_weight
    if optimizer.clip_norm:
        norm = np.sqrt(np.square(gradient, dtype=np.float64).sum())
        gradient = gradient * float(np.minimum(1.0, optimizer.clip_norm / (norm + 1e-6)))
    update = numpy_rows.OPTIMIZERS[optimizer.name]
    return update(parameters, gradient, moments, optimizer, rate, step)


# --------------------------------------------------------------------------- network


class _State(NamedTuple):
    """All that training changes; replaced as one."""

    parameters: Array  # flat: W0 row-major, b0, W1, …
    step: int  # updates made so far
    moments: Moments  # each shaped as parameters


class _Pass(NamedTuple):
    """What the backward pass needs of one layer's forward pass."""

    input: Array  # (n, inputs) after dropout
    Z: Array  # (n, outputs) before the activation
    kept: Array | None  # (n, inputs) bool, or None without dropout


class Network:
    """Parameters and optimizer state, and inference."""

    def __init__(self, layers: tuple[Any, ...], dtype: Any) -> None:
        self.layers = tuple(layers)
        self.dtype = np.dtype(dtype)
        self.size = sum(s.inputs * s.outputs + s.use_bias * s.outputs for s in self.layers)
        self.state = _State(np.zeros(self.size, self.dtype), 0, ())

    def get_parameters(self) -> Array:
        """A flat copy of all parameters."""
        return self.state.parameters.copy()

    def set_parameters(self, flat: Array) -> None:
        """Replace all parameters by a copy of ``flat`` (size,)."""
        self.state = self.state._replace(parameters=np.array(flat, self.dtype))

    def get_state(self) -> tuple[int, Moments]:
        """Updates made so far, and the moments as flat copies."""
        return self.state.step, tuple(moment.copy() for moment in self.state.moments)

    def set_state(self, step: int, moments: Moments) -> None:
        """Replace the update count and the moments (each flat, copied)."""
        copies = tuple(np.array(moment, self.dtype) for moment in moments)
        self.state = self.state._replace(step=int(step), moments=copies)

    def predict(self, X: Array, threads: int = 1) -> Array | None:
        """The output (n, outputs), or None if X is not a plain (n, inputs) matrix."""
        if not _is_plain(X, self.dtype, (None, self.layers[0].inputs)):
            return None
        return self.forward(X)[0]

    @_quiet
    def input_gradient(self, X: Array, outputs: Array) -> Array:
        """Return d output[r, o] / d X[r, i] for o in ``outputs``: (n, len(outputs), inputs)."""
        output, passes = self.forward(X)
        gradient = np.empty((len(X), len(outputs), X.shape[1]), self.dtype)
        for k, o in enumerate(outputs):
            delta = np.zeros_like(output)
            delta[:, o] = 1
            gradient[:, k, :] = self.backward(passes, delta)[1]
        return gradient

    def trainer(
        self,
        loss: Any,
        optimizer: Any,
        batch_size: int,
        seed: int,
        threads: int = 1,
        exactly: bool = True,
    ) -> Trainer:
        """Compile a plan. Keeps the state if its moments match, else starts afresh."""
        return Trainer(self, loss, optimizer, batch_size, seed)

    def layer_parameters(self, flat: Array) -> list[tuple[Array, Array | None]]:
        """Views (W, b) of each layer in a flat vector."""
        views: list[tuple[Array, Array | None]] = []
        start = 0
        for spec in self.layers:
            stop = start + spec.inputs * spec.outputs
            weight = flat[start:stop].reshape(spec.inputs, spec.outputs)
            start = stop + (spec.outputs if spec.use_bias else 0)
            views.append((weight, flat[stop:start] if spec.use_bias else None))
        return views

    @_quiet
    def forward(
        self, X: Array, fused: bool = False, dropout_key: tuple[int, int, int] | None = None
    ) -> tuple[Array, list[_Pass]]:
        """The output (n, outputs) and what ``backward`` needs.

        ``fused`` leaves out the last activation. ``dropout_key`` (seed, epoch, position of
        the first row within the epoch) turns dropout on.
        """
        passes = []
        Y = X
        for index, (spec, (weight, bias)) in enumerate(
            zip(self.layers, self.layer_parameters(self.state.parameters), strict=True)
        ):
            kept = None
            if dropout_key is not None and spec.dropout > 0:
                seed, epoch, first = dropout_key
                rows, features = Y.shape
                kept = random.dropout_mask(seed, epoch, index, first, rows, features, spec.dropout)
                Y = np.where(kept, Y * (1 / (1 - spec.dropout)), 0)
            Z = Y @ weight if bias is None else Y @ weight + bias
            passes.append(_Pass(Y, Z, kept))
            Y = numpy_rows.activation(spec.activation).function(Z)
        return (passes[-1].Z if fused else Y), passes

    @_quiet
    def backward(
        self, passes: list[_Pass], output_delta: Array, fused: bool = False
    ) -> tuple[Array, Array]:
        """The flat gradient and d loss / d X, from d loss / d output."""
        gradient = np.zeros(self.size, self.dtype)
        delta = output_delta  # of the layer's output, going down
        steps = zip(
            self.layers,
            passes,
            self.layer_parameters(self.state.parameters),
            self.layer_parameters(gradient),
            strict=True,
        )
        for index, (spec, layer, (weight, _), (dW, db)) in reversed(list(enumerate(steps))):
            is_last = index == len(self.layers) - 1
            if not (is_last and fused):
                delta = numpy_rows.activation(spec.activation).backward(layer.Z, delta)
            dW[...] = layer.input.T @ delta
            if db is not None:
                db[...] = delta.sum(axis=0)
            delta = delta @ weight.T
            if layer.kept is not None:
                delta = np.where(layer.kept, delta * (1 / (1 - spec.dropout)), 0)
        return gradient, delta


# --------------------------------------------------------------------------- trainer


class Trainer:
    """A network, a loss and an optimizer; changes the network's state in place."""

    def __init__(
        self, network: Network, loss: Any, optimizer: Any, batch_size: int, seed: int
    ) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.seed = seed
        self.steps = 0
        self.penalty = 0.0
        ones_and_zeros = np.zeros(network.size, network.dtype)
        for weight, _ in network.layer_parameters(ones_and_zeros):
            weight[...] = 1
        self._is_weight = ones_and_zeros
        if len(network.state.moments) != optimizer.moments:
            zeros = tuple(np.zeros(network.size, network.dtype) for _ in range(optimizer.moments))
            network.state = network.state._replace(step=0, moments=zeros)

    def __enter__(self) -> Self:
        """Nothing to start."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to end."""

    def epoch(
        self,
        X: Array,
        target: Array,
        weight: Array | None,
        epoch: int,
        rates: Array,
        shuffle: bool | Array,
    ) -> float:
        """Train on every row once, in batches; return the epoch's loss."""
        n = len(X)
        if isinstance(shuffle, np.ndarray):
            order = _checked_order(shuffle, n)
        else:
            order = random.permutation(self.seed, epoch, n) if shuffle else np.arange(n)
        total = penalty = 0.0
        for rate, first in zip(rates, range(0, n, self.batch_size), strict=True):
            rows = order[first : first + self.batch_size]
            w = None if weight is None else weight[rows]
            loss = self._update(X[rows], target[rows], w, float(rate), epoch, first)
            share = 1 if self.loss.name == "sum_squares" else len(rows) / n
            total += loss * share
            penalty += self.penalty * share
        self.penalty = penalty
        return total

    def step(self, X: Array, target: Array, weight: Array | None, rate: float) -> float | None:
        """One update on all rows as one batch; None if an argument is not in order."""
        if not self._in_order(X, target, weight):
            return None
        return self._update(X, target, weight, rate, self.network.state.step, 0)

    @_quiet
    def evaluate(self, X: Array, target: Array, weight: Array | None) -> float:
        """The loss over all rows, without dropout."""
        return sum((value for value, _, _ in self._chunks(X, target, weight)), 0.0)

    @_quiet
    def gradient(self, X: Array, target: Array, weight: Array | None) -> tuple[float, Array]:
        """The loss over all rows and its flat gradient, without dropout or l2."""
        total, gradient = 0.0, np.zeros(self.network.size, self.network.dtype)
        for value, delta, passes in self._chunks(X, target, weight):
            total += value
            gradient += self.network.backward(passes, delta, self.loss.fused)[0]
        return total, gradient

    def _chunks(self, X: Array, target: Array, weight: Array | None) -> Any:
        """For each chunk of rows: its share of the loss, its delta, and the forward pass."""
        outputs = self.network.layers[-1].outputs
        name, parameter, _, per_row = self.loss
        divisor = _divisor(name, _weight_sum(weight, len(X)), outputs, per_row)
        for first in range(0, len(X), _CHUNK):
            rows = slice(first, first + _CHUNK)
            output, passes = self.network.forward(X[rows], self.loss.fused)
            w = None if weight is None else weight[rows]
            yield *_loss_share(output, target[rows], w, name, parameter, divisor), passes

    @_quiet
    def _update(
        self, X: Array, target: Array, weight: Array | None, rate: float, epoch: int, first: int
    ) -> float:
        """One optimizer update on a batch; returns its loss before the update."""
        network = self.network
        parameters, step, moments = network.state
        output, passes = network.forward(X, self.loss.fused, (self.seed, epoch, first))
        name, parameter, fused, per_row = self.loss
        weight_sum = _weight_sum(weight, len(X))
        divisor = _divisor(name, weight_sum, output.shape[1], per_row)
        loss, delta = _loss_share(output, target, weight, name, parameter, divisor)
        gradient, _ = network.backward(passes, delta, fused)
        optimizer, self.penalty = self.optimizer, 0.0
        if optimizer.l2_by_weight:
            optimizer = optimizer._replace(l2=optimizer.l2 / weight_sum if weight_sum else 0.0)
            squares = np.square(parameters, dtype=np.float64) * self._is_weight
            self.penalty = 0.5 * optimizer.l2 * float(squares.sum())
        parameters, moments = _updated(
            parameters, gradient, moments, optimizer, rate, step + 1, self._is_weight
        )
        network.state = _State(parameters, step + 1, moments)
        self.steps += 1
        return loss + self.penalty

    def _in_order(self, X: Array, target: Array, weight: Array | None) -> bool:
        """Whether a batch is plain, fits this network and loss, and is finite."""
        dtype, layers = self.network.dtype, self.network.layers
        outputs = layers[-1].outputs
        if not (_is_plain(X, dtype, (None, layers[0].inputs)) and len(X) and all_finite(X)):
            return False
        n = len(X)
        if not (weight is None or (_is_plain(weight, dtype, (n,)) and all_finite(weight))):
            return False
        if self.loss.name in _LABEL_LOSSES and _is_plain(target, np.dtype(np.int64), (n,)):
            return bool((target >= 0).all() and (target < outputs).all())
        return _is_plain(target, dtype, (n, outputs)) and all_finite(target)


def _checked_order(order: Array, rows: int) -> Array:
    """The order itself, if it is (rows,) int64 row numbers."""
    if not _is_plain(order, np.dtype(np.int64), (rows,)):
        raise ValueError(f"the order must be a plain int64 array of shape ({rows},)")
    if rows and (order.min() < 0 or order.max() >= rows):
        raise ValueError(f"the order must hold row numbers from 0 to {rows - 1}")
    return order


def _is_plain(array: Any, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> bool:
    """Whether it is a native, aligned, C-contiguous array; None in a shape is any length."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and array.flags.c_contiguous
        and array.flags.aligned
        and array.ndim == len(shape)
        and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    )
