"""Parameters and optimizer state of the Numba engine, and inference.

A network is data: records with the addresses of its kernels and buffers. All parameters are
one arena, each moment another of the same shape, in the layout of numba_layer.py.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from .arrays import (
    Array,
    Plan,
    activation_of,
    aligned_zeros,
    block_count,
    bound,
    constant_zeros,
    data_of,
    from_panels,
    is_plain,
    kernel_table,
    name_of,
    plain,
    run,
    to_panels,
)
from .compile import address
from .layer import AREA, BLOCK, NARROW, block_stride
from .losses import LOSS_AREA
from .plan import EVALUATE, GRADIENT, LAYER
from .step import ROW_TILE

MOST_MOMENTS = 2


class Network:
    """Parameters and optimizer state in blocked arenas; see ``fastnn.engines.Network``."""

    def __init__(self, layers: tuple[Any, ...], dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise TypeError("the numba engine takes float32 and float64 arrays")
        self.bits = 8 * self.dtype.itemsize
        self.specs = layers
        self.layers = np.zeros(len(layers), LAYER)
        end = self.size = 0
        for i, (layer, spec) in enumerate(zip(self.layers, layers, strict=True)):
            in_blocks, out_blocks = block_count(spec.inputs), block_count(spec.outputs)
            narrow = spec.outputs <= NARROW
            count = (in_blocks * spec.outputs if narrow else out_blocks * spec.inputs) * BLOCK
            if (end + count) * self.dtype.itemsize >= 1 << 62:
                raise MemoryError("cannot allocate a network of this size")
            name = name_of(spec.activation)
            layer["inputs"], layer["outputs"] = spec.inputs, spec.outputs
            layer["in_blocks"], layer["out_blocks"] = in_blocks, out_blocks
            layer["weight_at"], layer["bias_at"] = end, end + count
            layer["uses_bias"], layer["narrow"] = spec.use_bias, narrow
            layer["forward"], layer["backward"] = activation_of(spec.activation, self.bits)
            layer["is_identity"], layer["is_softmax"] = name == "identity", name == "softmax"
            layer["dropout"] = spec.dropout
            if i > 0 and spec.dropout > 0:  # which hides the layer's output from its way back
                self.layers[i - 1]["backward"] = 0
            end += count + out_blocks * BLOCK
            self.size += (spec.inputs + spec.use_bias) * spec.outputs
        self.arena_size = end + AREA  # a tile may be read past its last row
        self.parameters = self.new_arena()
        self.transposed = [
            aligned_zeros(int(layer["in_blocks"] * layer["outputs"]) * BLOCK, self.dtype)
            if i > 0 and not layer["narrow"]
            else None
            for i, layer in enumerate(self.layers)
        ]
        self.layers["transposed"] = [data_of(copy) for copy in self.transposed]
        self.moments: tuple[Array, ...] = ()
        self.moments_of: str | None = None  # whose moments these are; None: not known yet
        self.updates = np.zeros(1, np.int64)  # made so far, counted by the kernel
        self.workspaces: list[Inference] = []  # of predict, free ones

    def new_arena(self) -> Array:
        """Memory for the parameters or what belongs to each."""
        return aligned_zeros(self.arena_size, self.dtype)

    def weight_panels(self, arena: Array, i: int) -> Array:
        """Layer i's weights in an arena: [in/16][out][16] if it is narrow, or [out/16][in][16]."""
        layer = self.layers[i]
        at, end = int(layer["weight_at"]), int(layer["bias_at"])
        rows = layer["outputs"] if layer["narrow"] else layer["inputs"]
        blocks = layer["in_blocks"] if layer["narrow"] else layer["out_blocks"]
        return arena[at:end].reshape(int(blocks), int(rows), BLOCK)

    def place(self, arena: Array, i: int, weight: Array, bias: Array) -> None:
        """Layer i's parameters into an arena; ``bias`` has no numbers if the layer has none."""
        layer = self.layers[i]
        self.weight_panels(arena, i)[...] = to_panels(weight.T if layer["narrow"] else weight)
        at = int(layer["bias_at"])
        arena[at : at + len(bias)] = bias

    def pack(self, flat: Array, arena: Array) -> None:
        """Flat parameters into an arena, padding included: NaN may have been there."""
        arena[:] = 0
        at = 0
        for i, spec in enumerate(self.specs):
            end = at + spec.inputs * spec.outputs
            last = end + spec.outputs * spec.use_bias
            weight = flat[at:end].reshape(spec.inputs, spec.outputs)
            self.place(arena, i, weight, flat[end:last])
            at = last

    def unpack(self, arena: Array) -> Array:
        """The inverse of ``pack``."""
        pieces = []
        for i, layer in enumerate(self.layers):
            outputs, bias = int(layer["outputs"]), int(layer["bias_at"])
            narrow = layer["narrow"]
            columns = int(layer["inputs"]) if narrow else outputs
            weight = from_panels(self.weight_panels(arena, i), columns)
            pieces.append((weight.T if narrow else weight).ravel())
            if layer["uses_bias"]:
                pieces.append(arena[bias : bias + outputs])
        return np.concatenate(pieces)

    def transpose(self, i: int, to: Array) -> None:
        """Layer i's weights as [in/16][out][16], from its panels."""
        layer = self.layers[i]
        weight = from_panels(self.weight_panels(self.parameters, i), int(layer["outputs"]))
        to.reshape(-1, int(layer["outputs"]), BLOCK)[...] = to_panels(weight.T)

    def _checked_flat(self, flat: Any) -> Array:
        flat = plain(flat, self.dtype, 1)
        if len(flat) != self.size:
            raise ValueError(f"expected {self.size} parameters, got {len(flat)}")
        return flat

    def set_moments(self, count: int) -> None:
        """Have ``count`` moment arenas, all zero, and no steps made."""
        self.moments = tuple(self.new_arena() for _ in range(count))
        self.updates[0] = 0
        self.moments_of = None

    def get_parameters(self) -> Array:
        """A flat copy."""
        return self.unpack(self.parameters)

    def set_parameters(self, flat: Array) -> None:
        """From a flat vector."""
        self.pack(self._checked_flat(flat), self.parameters)
        for i, copy in enumerate(self.transposed):
            if copy is not None:
                self.transpose(i, copy)

    def get_state(self) -> tuple[int, tuple[Array, ...]]:
        """Updates made, and flat copies of the moments."""
        return int(self.updates[0]), tuple(self.unpack(moment) for moment in self.moments)

    def set_state(self, step: int, moments: tuple[Array, ...]) -> None:
        """The inverse of ``get_state``."""
        if len(moments) > MOST_MOMENTS:
            raise ValueError(f"at most {MOST_MOMENTS} moments, got {len(moments)}")
        for moment in moments:
            self._checked_flat(moment)
        self.set_moments(len(moments))
        for moment, arena in zip(moments, self.moments, strict=True):
            self.pack(moment, arena)
        self.updates[0] = step

    def predict(self, X: Array, threads: int = 1) -> Array | None:
        """The output, or None if X is not a plain (n, inputs) matrix."""
        if not is_plain(X, self.dtype, 2) or X.shape[1] != self.specs[0].inputs:
            return None
        out = np.empty((len(X), self.specs[-1].outputs), self.dtype)
        self.predict_into(out, X, threads)
        return out

    def predict_into(self, out: Array, X: Array, threads: int = 1) -> None:
        """The output to a plain array."""
        if threads <= 1 or len(X) <= threads * ROW_TILE:
            self._predict_rows(X, out, 0, len(X))
            return
        bounds = [len(X) * t // threads // BLOCK * BLOCK for t in range(threads)] + [len(X)]
        failures: list[BaseException] = []

        def help_with(first: int, last: int) -> None:
            try:
                self._predict_rows(X, out, first, last, polls=False)
            except MemoryError as error:
                failures.append(error)

        helpers = [
            threading.Thread(target=help_with, args=bounds[t : t + 2], daemon=True)
            for t in range(1, threads)
        ]
        for helper in helpers:
            helper.start()
        try:
            self._predict_rows(X, out, bounds[0], bounds[1])
        finally:
            for helper in helpers:
                helper.join()
        if failures:
            raise failures[0]

    def _predict_rows(
        self, X: Array, out: Array, first: int, last: int, polls: bool = True
    ) -> None:
        try:
            workspace = self.workspaces.pop()
        except IndexError:
            workspace = Inference(self)
        plan = workspace.plan
        plan.X, plan.out = data_of(X), data_of(out)
        plan.first, plan.rows, plan.polls = first, last, polls
        workspace.predict()
        self.workspaces.append(workspace)

    def input_gradient(self, X: Array, outputs: Array) -> Array:
        """d output / d input, (n, len(outputs), inputs)."""
        X, outputs = plain(X, self.dtype, 2), plain(outputs, np.int64, 1)
        inputs, last = self.specs[0].inputs, self.specs[-1].outputs
        if X.shape[1] != inputs:
            raise ValueError(f"X must have {inputs} columns")
        for o in outputs:
            if not 0 <= o < last:
                raise ValueError(f"there is no output {o}")
        result = np.empty((len(X), len(outputs), inputs), self.dtype)
        layers = self.layers.copy()
        first = None
        if not layers["narrow"][0]:
            first = aligned_zeros(
                int(layers["in_blocks"][0] * layers["outputs"][0]) * BLOCK, self.dtype
            )
            self.transpose(0, first)
            layers["transposed"][0] = data_of(first)
        workspace = Workspace(self, layers, BLOCK, 1, with_deltas=True)
        plan = workspace.plan
        widest = int(max(layers["in_blocks"].max(), layers["out_blocks"].max()))
        plan.scratch_size = widest * plan.stride
        scratch = aligned_zeros(2 * int(plan.scratch_size), self.dtype)
        plan.scratch, plan.polls, plan.kind = data_of(scratch), 1, GRADIENT
        plan.X, plan.out, plan.rows = data_of(X), data_of(result), len(X)
        plan.outputs_wanted, plan.wanted_count = data_of(outputs), len(outputs)
        run(address("input_gradient", self.bits), 0, workspace.plan_at)
        return result


def _kernels_of_passes(layers: Array, with_deltas: bool) -> set[str]:
    """What ``forward_pass`` and ``backward_pass`` call for these layers."""
    names = {"forward_pass"}
    if with_deltas or not layers["narrow"].all():
        names.add("multiply_panel")
    if layers["narrow"].any():
        names.add("forward_narrow")
    if layers["is_softmax"].any():
        names |= {"softmax_rows", "softmax_backward"} if with_deltas else {"softmax_rows"}
    if with_deltas:
        if (layers["dropout"] > 0).any():
            names.add("apply_dropout")
        if (layers["backward"] == 0).any():
            names.add("multiply_slope")
    return names


class Workspace:
    """A plan with buffers for the passes over a slab of rows."""

    def __init__(
        self, network: Network, layers: Array, slab: int, threads: int, with_deltas: bool
    ) -> None:
        dtype = network.dtype
        self.plan = Plan()
        self.plan_at = ctypes.addressof(self.plan)
        self.layers = layers
        stride = block_stride(slab)
        blocks = [int(layers["in_blocks"][0]), *(int(n) for n in layers["out_blocks"])]
        self.buffers = np.zeros((2, len(blocks)), np.int64)
        sizes = [count * stride for count in blocks]
        if with_deltas:
            starts = np.concatenate([[0], np.cumsum(sizes + sizes)])[:-1]
            self.memory = aligned_zeros(2 * sum(sizes), dtype)
        else:  # two buffers in turn
            starts = np.arange(2 * len(blocks)) % 2 * max(sizes)
            self.memory = aligned_zeros(2 * max(sizes), dtype)
        self.buffers[...] = (data_of(self.memory) + starts * dtype.itemsize).reshape(2, -1)
        scratch = (ROW_TILE + blocks[-1] * BLOCK) * BLOCK + LOSS_AREA
        self.scratch = aligned_zeros(threads * scratch, dtype) if with_deltas else None
        for name, value in (
            (
                "table",
                data_of(kernel_table(network.bits, *_kernels_of_passes(layers, with_deltas))),
            ),
            ("layers", data_of(layers)),
            ("depth", len(layers)),
            ("parameters", data_of(network.parameters)),
            ("zeros", data_of(constant_zeros())),
            ("activation", data_of(self.buffers)),
            ("delta", data_of(self.buffers[1])),
            ("stride", stride),
            ("slab", slab),
            ("scratch", data_of(self.scratch)),
            ("scratch_size", scratch),
            ("outputs", int(layers["outputs"][-1])),
            ("threads", threads),
        ):
            setattr(self.plan, name, value)


class Inference(Workspace):
    """What one call of ``predict`` works in."""

    def __init__(self, network: Network) -> None:
        super().__init__(network, network.layers, ROW_TILE, 1, with_deltas=False)
        self.plan.kind = EVALUATE
        self.predict = bound(address("predict", network.bits), 0, self.plan_at)
