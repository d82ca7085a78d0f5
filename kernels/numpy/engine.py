"""The NumPy engine: the clearest statement of what every engine computes.

It is the reference for the compiled engines and runs wherever NumPy runs. Forward,
backward and update are written as in a textbook, a new array for each result; only the
rows live elsewhere, in ``kinds`` and ``rows``. A training step ends by putting one new
``_State`` in the place of the old, so an interrupt at any moment leaves the parameters and
moments of a whole step. Threads are accepted and not used. What functions and methods
promise is documented where the contract has them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

import numpy as np

from .. import contract, random
from ..contract import LayerSpec, LossSpec, OptimizerSpec
from . import kinds, rows
from .rows import Array, Moments

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

NAME = "numpy"
ISA = f"numpy {np.__version__}"

ACTIVATIONS = tuple(rows.ACTIVATIONS)
LOSSES = tuple(rows.LOSSES)
OPTIMIZERS = tuple(rows.OPTIMIZERS)
KINDS = tuple(kinds.KINDS)

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
    Z = X @ weight if bias is None else X @ weight + bias
    out[...] = rows.ACTIVATIONS[activation].function(Z)


@_quiet
def linear_backward(
    X: Array,
    weight: Array,
    delta: Array,
    input_delta: Array | None,
    weight_gradient: Array | None,
    bias_gradient: Array | None,
) -> None:
    if input_delta is not None:
        input_delta[...] = delta @ weight.T
    if weight_gradient is not None:
        weight_gradient[...] = X.T @ delta
    if bias_gradient is not None:
        bias_gradient[...] = delta.sum(axis=0)


@_quiet
def activation_forward(Z: Array, activation: str, out: Array) -> None:
    out[...] = rows.ACTIVATIONS[activation].function(Z)


@_quiet
def activation_backward(Z: Array, output_delta: Array, activation: str, out: Array) -> None:
    out[...] = rows.ACTIVATIONS[activation].backward(Z, output_delta)


@_quiet
def loss_value_and_delta(
    output: Array, target: Array, weight: Array | None, loss: str, parameter: float, out: Array
) -> float:
    spec = LossSpec(loss, parameter)
    divisor = _divisor(spec, _weight_sum(weight, len(output)), output.shape[1])
    value, out[...] = _loss_share(output, target, weight, spec, divisor)
    return value


@_quiet
def optimizer_update(
    parameters: Array,
    gradient: Array,
    moments: Moments,
    optimizer: OptimizerSpec,
    rate: float,
    step: int,
) -> None:
    new, new_moments = _updated(parameters, gradient, moments, optimizer, rate, step, _Shares())
    parameters[...] = new
    for moment, new_moment in zip(moments, new_moments, strict=True):
        moment[...] = new_moment


def all_finite(values: Array) -> bool:
    pieces = np.nditer(values, flags=["external_loop", "buffered", "zerosize_ok"], order="K")
    return all(bool(np.isfinite(piece).all()) for piece in pieces)


# --------------------------------------------------------------------------- loss and update


def _weight_sum(weight: Array | None, rows: int) -> float:
    return float(rows if weight is None else weight.sum(dtype=np.float64))


def _divisor(loss: LossSpec, weight_sum: float, outputs: int) -> float:
    """What Σ w·ℓ is divided by; 0 if all the weights are 0."""
    elements = weight_sum * (1 if loss.per_row else outputs)
    divisors = {"elements": elements, "rows": weight_sum, "none": 1.0}
    return divisors[loss.row.divisor] if weight_sum else 0.0


def _loss_share(
    output: Array, target: Array, weight: Array | None, loss: LossSpec, divisor: float
) -> tuple[float, Array]:
    """What these rows add to the loss, Σ w·ℓ / divisor, and its derivative (n, outputs)."""
    if divisor == 0:
        return 0.0, np.zeros_like(output)
    row = rows.loss(loss.name)
    if target.ndim == 1:
        target = np.eye(output.shape[1], dtype=output.dtype)[target]
    value = row.value(output, target, loss.parameter)
    delta = row.derivative(output, target, loss.parameter)
    if weight is not None:
        value = value * weight[:, np.newaxis]
        delta = delta * weight[:, np.newaxis]
    return float(value.sum(dtype=np.float64)) / divisor, delta / divisor


class _Shares(NamedTuple):
    """Of each parameter in l2, the learning rate and the weight decay: (size,) or one for all."""

    penalty: Any = 1.0
    rate: Any = 1.0
    decay: Any = 1.0


def _shares(layers: tuple[LayerSpec, ...], dtype: np.dtype[Any]) -> _Shares:
    shares = _Shares(*(np.ones(contract.size(layers), dtype) for _ in _Shares._fields))
    views = zip(*(contract.views(layers, share) for share in shares), strict=True)
    for spec, (penalty, rate, decay) in zip(layers, views, strict=True):
        for tensor in spec.tensors:
            penalty[tensor.name][...] = tensor.name in contract.KINDS[spec.kind].penalised
            rate[tensor.name][...] = tensor.rate_factor
            decay[tensor.name][...] = tensor.decay_factor
    # a share that is 1 everywhere costs no rounding
    return _Shares(*(1.0 if (share == 1).all() else share for share in shares))


def _updated(
    parameters: Array,
    gradient: Array,
    moments: Moments,
    optimizer: OptimizerSpec,
    rate: float,
    step: int,
    shares: _Shares,
) -> tuple[Array, Moments]:
    """The parameters and moments after the update of number ``step`` (from 1)."""
    if optimizer.l2:
        gradient = gradient + optimizer.l2 * shares.penalty * parameters
    if optimizer.clip_norm:
        norm = np.sqrt(np.square(gradient, dtype=np.float64).sum())
        gradient = gradient * float(np.minimum(1.0, optimizer.clip_norm / (norm + 1e-6)))
    rule = rows.OPTIMIZERS[optimizer.name]
    rates, decay = rate * shares.rate, optimizer.weight_decay * shares.decay
    if rule.decoupled:
        parameters = parameters * (1 - rates * decay)
    else:
        gradient = gradient + decay * parameters
    change, moments = rule.change(gradient, moments, rates, step, *optimizer.numbers)
    return parameters - change, moments


# --------------------------------------------------------------------------- network


class _State(NamedTuple):
    """All that training changes; replaced as one."""

    parameters: Array  # flat: W0 row-major, b0, W1, …
    step: int  # updates made so far
    moments: Moments  # each shaped as parameters


class _Pass(NamedTuple):
    """What the backward pass needs of one layer's forward pass."""

    saved: Any  # what the kind's backward asks for
    Z: Array  # (n, outputs) before the activation
    kept: Array | None  # (n, inputs) bool, or None without dropout


class Network:
    """Parameters and optimizer state, and inference."""

    def __init__(self, layers: tuple[LayerSpec, ...], dtype: Any) -> None:
        self.layers = tuple(layers)
        self.dtype = np.dtype(dtype)
        self.size = contract.size(self.layers)
        self.state = _State(np.zeros(self.size, self.dtype), 0, ())

    def get_parameters(self) -> Array:
        return self.state.parameters.copy()

    def set_parameters(self, flat: Array) -> None:
        self.state = self.state._replace(parameters=np.array(flat, self.dtype))

    def get_state(self) -> tuple[int, Moments]:
        return self.state.step, tuple(moment.copy() for moment in self.state.moments)

    def set_state(self, step: int, moments: Moments) -> None:
        copies = tuple(np.array(moment, self.dtype) for moment in moments)
        self.state = self.state._replace(step=int(step), moments=copies)

    def predict(self, X: Array, threads: int = 1) -> Array | None:
        if not _is_plain(X, self.dtype, (None, self.layers[0].inputs)):
            return None
        return self.forward(X)[0]

    @_quiet
    def input_gradient(self, X: Array, outputs: Array) -> Array:
        output, passes = self.forward(X)
        gradient = np.empty((len(X), len(outputs), X.shape[1]), self.dtype)
        for k, o in enumerate(outputs):
            delta = np.zeros_like(output)
            delta[:, o] = 1
            gradient[:, k, :] = self.backward(passes, delta)[1]
        return gradient

    def trainer(
        self,
        loss: LossSpec,
        optimizer: OptimizerSpec | None,
        batch_size: int,
        seed: int,
        threads: int = 1,
        exactly: bool = True,
    ) -> Trainer:
        return Trainer(self, loss, optimizer, batch_size, seed)

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
        parameters = contract.views(self.layers, self.state.parameters)
        for index, (spec, tensors) in enumerate(zip(self.layers, parameters, strict=True)):
            kept = None
            if dropout_key is not None and spec.dropout > 0:
                (seed, epoch, first), (rows_, features) = dropout_key, Y.shape
                kept = random.dropout_mask(seed, epoch, index, first, rows_, features, spec.dropout)
                Y = np.where(kept, Y * (1 / (1 - spec.dropout)), 0)
            Z, saved = kinds.KINDS[spec.kind].forward(spec, tensors, Y)
            passes.append(_Pass(saved, Z, kept))
            Y = rows.activation(spec.activation).function(Z)
        return (passes[-1].Z if fused else Y), passes

    @_quiet
    def backward(
        self, passes: list[_Pass], output_delta: Array, fused: bool = False
    ) -> tuple[Array, Array]:
        """The flat gradient and d loss / d X, from d loss / d output."""
        gradient = np.zeros(self.size, self.dtype)
        parameters = contract.views(self.layers, self.state.parameters)
        gradients = contract.views(self.layers, gradient)
        delta = output_delta  # of the layer's output, going down
        for index, spec in reversed(list(enumerate(self.layers))):
            saved, Z, kept = passes[index]
            is_last = index == len(self.layers) - 1
            if not (is_last and fused):
                delta = rows.activation(spec.activation).backward(Z, delta)
            found, delta = kinds.KINDS[spec.kind].backward(spec, parameters[index], saved, delta)
            for name, into in gradients[index].items():
                into[...] = found[name]
            if kept is not None:
                delta = np.where(kept, delta * (1 / (1 - spec.dropout)), 0)
        return gradient, delta


# --------------------------------------------------------------------------- trainer


class Trainer:
    """A network, a loss and an optimizer; changes the network's state in place."""

    def __init__(
        self,
        network: Network,
        loss: LossSpec,
        optimizer: OptimizerSpec | None,
        batch_size: int,
        seed: int,
    ) -> None:
        self.network = network
        self.loss, self.optimizer, self.batch_size, self.seed = loss, optimizer, batch_size, seed
        self.steps, self.penalty = 0, 0.0
        self._shares = _shares(network.layers, network.dtype)
        if optimizer is not None and len(network.state.moments) != optimizer.moments:
            zeros = tuple(np.zeros(network.size, network.dtype) for _ in range(optimizer.moments))
            network.state = network.state._replace(step=0, moments=zeros)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def epoch(
        self,
        X: Array,
        target: Array,
        weight: Array | None,
        epoch: int,
        rates: Array,
        shuffle: bool | Array,
    ) -> float:
        n = len(X)
        if isinstance(shuffle, np.ndarray):
            order = _checked_order(shuffle, n)
        else:
            order = random.permutation(self.seed, epoch, n) if shuffle else np.arange(n)
        total = penalty = 0.0
        for rate, first in zip(rates, range(0, n, self.batch_size), strict=True):
            batch = order[first : first + self.batch_size]
            w = None if weight is None else weight[batch]
            loss = self._update(X[batch], target[batch], w, float(rate), epoch, first)
            share = 1 if self.loss.row.divisor == "none" else len(batch) / n
            total += loss * share
            penalty += self.penalty * share
        self.penalty = penalty
        return total

    def step(self, X: Array, target: Array, weight: Array | None, rate: float) -> float | None:
        if not self._in_order(X, target, weight):
            return None
        return self._update(X, target, weight, rate, self.network.state.step, 0)

    @_quiet
    def evaluate(self, X: Array, target: Array, weight: Array | None) -> float:
        return sum((value for value, _, _ in self._chunks(X, target, weight)), 0.0)

    @_quiet
    def gradient(self, X: Array, target: Array, weight: Array | None) -> tuple[float, Array]:
        total, gradient = 0.0, np.zeros(self.network.size, self.network.dtype)
        for value, delta, passes in self._chunks(X, target, weight):
            total += value
            gradient += self.network.backward(passes, delta, self.loss.fused)[0]
        return total, gradient

    def _chunks(self, X: Array, target: Array, weight: Array | None) -> Any:
        """For each chunk of rows: its share of the loss, its delta, and the forward pass."""
        outputs = self.network.layers[-1].outputs
        divisor = _divisor(self.loss, _weight_sum(weight, len(X)), outputs)
        for first in range(0, len(X), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            output, passes = self.network.forward(X[chunk], self.loss.fused)
            w = None if weight is None else weight[chunk]
            yield *_loss_share(output, target[chunk], w, self.loss, divisor), passes

    @_quiet
    def _update(
        self, X: Array, target: Array, weight: Array | None, rate: float, epoch: int, first: int
    ) -> float:
        """One optimizer update on a batch; returns its loss before the update."""
        network, optimizer = self.network, self.optimizer
        assert optimizer is not None, "a trainer without an optimizer cannot train"
        parameters, step, moments = network.state
        output, passes = network.forward(X, self.loss.fused, (self.seed, epoch, first))
        weight_sum = _weight_sum(weight, len(X))
        divisor = _divisor(self.loss, weight_sum, output.shape[1])
        loss, delta = _loss_share(output, target, weight, self.loss, divisor)
        gradient, _ = network.backward(passes, delta, self.loss.fused)
        self.penalty = 0.0
        if optimizer.l2_by_weight:
            optimizer = optimizer._replace(l2=optimizer.l2 / weight_sum if weight_sum else 0.0)
            squares = np.square(parameters, dtype=np.float64) * self._shares.penalty
            self.penalty = 0.5 * optimizer.l2 * float(squares.sum())
        parameters, moments = _updated(
            parameters, gradient, moments, optimizer, rate, step + 1, self._shares
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
        if self.loss.row.takes_labels and _is_plain(target, np.dtype(np.int64), (n,)):
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
