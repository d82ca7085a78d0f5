"""The Numba engine: the names of the contract, over kernels that Numba compiles.

The design is that of the Cython engine (docs/architecture.md), written in Numba alone: it
works where no compiled extension is, and compiles for this very processor. A network is
data: addresses of kernels and of buffers in records. So a kernel is compiled once per
dtype, and no new network compiles anything but the rows that it is the first to use.

    numba_engine                      this: networks, and single kernels on plain arrays
    numba_trainer, numba_network      memory, plans and threads
    numba_arrays                      arrays become addresses, names become kernels
    numba_compile, numba_kernels      machine code, on disk from then on; the table of kernels
    numba_step, numba_layer, numba_plain      the loops
    numba_rows                        activations, losses and optimizers
    numba_tile                        the micro-tile
    numba_vector, numba_maths, numba_machine  what Numba is taught for them
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, NamedTuple

import numpy as np

if sys.platform == "win32":
    raise ImportError("the numba engine needs POSIX clocks and threads")

from . import network as numba_network, rows as numba_rows
from .arrays import (
    Array,
    Plan,
    activation_of,
    aligned_zeros,
    bits_of,
    block_count,
    data_of,
    from_panels,
    is_plain,
    kernel_table,
    name_of,
    plain,
    run,
    set_loss,
    set_optimizer,
    to_panels,
)
from .compile import address
from .layer import AREA, BLOCK
from .losses import LOSS_AREA
from .network import MOST_MOMENTS
from .plain import STRIDE
from .rows import SCALARS
from .tile import vector_bits
from .trainer import Trainer

NAME = "numba"
ISA = f"{vector_bits()}-bit vectors"

ACTIVATIONS = tuple(numba_rows.ACTIVATIONS)
LOSSES = tuple(numba_rows.LOSSES)
OPTIMIZERS = tuple(dict.fromkeys(name for name, _ in numba_rows.OPTIMIZERS))

_PIECE = 65536  # numbers that are copied at a time where they cannot be read in place


class Network(numba_network.Network):
    """See ``fastnn.engines.Network``."""

    def trainer(
        self,
        loss: Any,
        optimizer: Any,
        batch_size: int,
        seed: int,
        threads: int = 1,
        exactly: bool = True,
    ) -> Trainer:
        """Compile a plan."""
        return Trainer(self, loss, optimizer, batch_size, seed, threads, exactly)


# --------------------------------------------------------------------------- plain kernels


class _OneLayer(NamedTuple):
    """A specification as ``fastnn.engines.LayerSpec`` has it."""

    inputs: int
    outputs: int
    activation: Any
    use_bias: bool
    dropout: float = 0.0


def linear_forward(
    X: Array, weight: Array, bias: Array | None, activation: str, out: Array
) -> None:
    """out = f(X W + b)."""
    X, weight, out = (plain(array, X.dtype, 2) for array in (X, weight, out))
    start = np.zeros(0, X.dtype) if bias is None else plain(bias, X.dtype, 1)
    network = Network((_OneLayer(*weight.shape, activation, bias is not None),), X.dtype)
    network.place(network.parameters, 0, weight, start)
    network.predict_into(out, X)


def linear_backward(
    X: Array,
    weight: Array,
    delta: Array,
    input_delta: Array | None,
    weight_gradient: Array | None,
    bias_gradient: Array | None,
) -> None:
    """The three products of backpropagation; None is not computed."""
    X, weight, delta = (plain(array, X.dtype, 2) for array in (X, weight, delta))
    if input_delta is not None:
        linear_forward(delta, np.ascontiguousarray(weight.T), None, "identity", input_delta)
    if weight_gradient is None and bias_gradient is None:
        return
    (rows, inputs), outputs, bits = X.shape, delta.shape[1], bits_of(X)
    source, in_blocks = (None, 0) if weight_gradient is None else (X, block_count(inputs))
    out_blocks, table = block_count(outputs), kernel_table(bits, "gradient_tile", "bias_gradient")
    at = in_blocks * out_blocks * AREA
    sums = aligned_zeros(at + (out_blocks + BLOCK) * BLOCK, X.dtype)
    space = aligned_zeros((in_blocks + out_blocks) * STRIDE, X.dtype)
    kernel = address("gradient_plain", bits)
    run(kernel, source, rows, inputs, delta, outputs, sums, space, table)
    if weight_gradient is not None:
        tiles = sums[:at].reshape(in_blocks, out_blocks, BLOCK, BLOCK).transpose(0, 2, 1, 3)
        weight_gradient[...] = tiles.reshape(in_blocks * BLOCK, -1)[:inputs, :outputs]
    if bias_gradient is not None:
        bias_gradient[...] = sums[at : at + outputs]


def _padded(array: Array) -> Array:
    """A flat copy, with zeros up to a whole number of blocks."""
    result = aligned_zeros(block_count(array.size) * BLOCK, array.dtype)
    result[: array.size] = array.ravel()
    return result


def activation_forward(Z: Array, activation: str, out: Array) -> None:
    """out = f(Z)."""
    Z, out, bits = plain(Z, Z.dtype, 2), plain(out, Z.dtype, 2), bits_of(Z)
    if name_of(activation) == "softmax":
        out[...] = _softmax(Z)[1]
        return
    y = _padded(Z)
    run(activation_of(activation, bits)[0], y, None, y.size)
    out[...] = y[: Z.size].reshape(Z.shape)


def _softmax(Z: Array) -> tuple[Array, Array]:
    """softmax(Z) as blocks of features, and as rows."""
    rows, columns = Z.shape
    panels = to_panels(Z).copy()
    run(address("softmax_rows", bits_of(Z)), panels, rows * BLOCK, columns, rows)
    return panels, from_panels(panels, columns)


def activation_backward(Z: Array, output_delta: Array, activation: str, out: Array) -> None:
    """out = d loss / d Z from Z and d loss / d f(Z)."""
    Z, upstream, bits = plain(Z, Z.dtype, 2), plain(output_delta, Z.dtype, 2), bits_of(Z)
    out = plain(out, Z.dtype, 2)
    if name_of(activation) == "softmax":
        y, d = _softmax(Z)[0], to_panels(upstream).copy()
        (rows, columns), kernel = Z.shape, address("softmax_backward", bits)
        run(kernel, d, rows * BLOCK, y, d, rows * BLOCK, columns, rows)
        out[...] = from_panels(d, Z.shape[1])
        return
    y, d = _padded(Z), _padded(upstream)
    slope = np.empty_like(y)
    run(activation_of(activation, bits)[0], y, slope, y.size)
    run(address("multiply_slope", bits), d, slope, d, d.size)
    out[...] = d[: Z.size].reshape(Z.shape)


def loss_value_and_delta(
    output: Array,
    target: Array,
    weight: Array | None,
    loss: str,
    parameter: float,
    out: Array,
) -> float:
    """Return the loss; out = d loss / d output."""
    dtype, bits = output.dtype, bits_of(output)
    output, out = plain(output, dtype, 2), plain(out, dtype, 2)
    labelled = is_plain(target, np.int64, 1)
    if not labelled:
        target = plain(target, dtype, 2)
    if weight is not None:
        weight = plain(weight, dtype, 1)
    plan = Plan()
    set_loss(plan, loss, bits)
    plan.parameter = parameter
    plan.rows, plan.outputs = output.shape
    setattr(plan, "labels" if labelled else "target", data_of(target))
    plan.weight = data_of(weight)
    value, group = np.zeros(1), np.zeros(1)
    columns = block_count(output.shape[1])
    buffer, scratch = aligned_zeros(columns * AREA, dtype), aligned_zeros(LOSS_AREA, dtype)
    out[...] = 0
    run(
        address("loss_plain", bits),
        output,
        out,
        ctypes.addressof(plan),
        buffer,
        scratch,
        group,
        value,
    )
    return float(value[0])


def optimizer_update(
    parameters: Array,
    gradient: Array,
    moments: tuple[Array, ...],
    optimizer: Any,
    rate: float,
    step: int,
) -> None:
    """One update in place."""
    bits = bits_of(parameters)
    arrays = (plain(array, parameters.dtype, 1) for array in (parameters, gradient, *moments))
    w, g, *kept = (_padded(array) for array in arrays)
    plan, scalars = Plan(), np.zeros(1, SCALARS)
    rates, steps = np.array([rate], np.float64), np.array([step], np.int64)
    set_optimizer(plan, optimizer, bits)
    plan.rates, plan.updates = data_of(rates), data_of(steps)
    m0, m1 = [*kept, None, None][:MOST_MOMENTS]
    run(address("update_plain", bits), w, g, m0, m1, w.size, ctypes.addressof(plan), scalars)
    for array, new in zip((parameters, *moments), (w, *kept), strict=True):
        array[...] = new[: len(array)]


def all_finite(values: Array) -> bool:
    """Whether no element is NaN or infinite; without a copy of the whole."""
    if not values.flags.c_contiguous or not values.flags.aligned or not values.dtype.isnative:
        if values.ndim > 1:
            return all(all_finite(row) for row in values)
        native = values.dtype.newbyteorder("=")
        pieces = (values[i : i + _PIECE] for i in range(0, len(values), _PIECE))
        return all(all_finite(np.array(piece, native)) for piece in pieces)
    found = np.zeros(1, np.int64)
    run(address("all_finite", bits_of(values)), values, values.size, found)
    return bool(found[0])
