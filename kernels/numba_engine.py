"""The Numba engine: memory, plans and threads around kernels that Numba compiles.

The design is that of the Cython engine (docs/architecture.md), written in Numba alone: it
works where no compiled extension is, and compiles for this very processor. A network is
data: addresses of kernels and of buffers in records. So a kernel is compiled once per
dtype, and no new network compiles anything but the rows that it is the first to use.

    numba_engine     this: arrays become addresses, threads enter the kernels
    numba_compile    machine code, on disk from then on
    numba_kernels    the table of kernels
    numba_step, numba_layer, numba_plain      the loops
    numba_rows       activations, losses and optimizers
    numba_vector, numba_machine               what Numba is taught for them

Where a specification names an activation or a loss, an object with ``name`` and
``address(itemsize)`` may stand instead: the address of a C function as numba_rows.py
describes it. It is kept alive as long as the network or trainer that uses it.
"""

from __future__ import annotations

import _thread
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if sys.platform == "win32":
    raise ImportError("the numba engine needs POSIX clocks and threads")

from . import numba_rows
from .numba_compile import address, entry
from .numba_layer import AREA, BLOCK, NARROW, block_stride
from .numba_plain import STRIDE
from .numba_step import (
    EVALUATE,
    GRADIENT,
    LAYER,
    LOSS_AREA,
    PLAN,
    ROW_TILE,
    SCALARS,
    STOP,
    TABLE,
    TRAIN,
)
from .numba_tile import vector_bits
from .pace import Pace

Array = NDArray[Any]

NAME = "numba"
ISA = f"{vector_bits()}-bit vectors"

ACTIVATIONS = tuple(numba_rows.ACTIVATIONS)
LOSSES = tuple(numba_rows.LOSSES)
OPTIMIZERS = tuple(dict.fromkeys(name for name, _ in numba_rows.OPTIMIZERS))

_LABEL_LOSSES = ("cross_entropy", "cross_entropy_of_probabilities")
_OPTIMIZER_FIELDS = (
    "momentum",
    "nesterov",
    "beta_1",
    "beta_2",
    "epsilon",
    "weight_decay",
    "l2",
    "clip_norm",
    "epsilon_hat",
    "rate_in_velocity",
    "l2_by_weight",
)
_MOST_MOMENTS = 2
_MOST_SLAB = 2048
_PIECE = 65536  # numbers that are copied at a time where they cannot be read in place

# --------------------------------------------------------------------------- arrays


def _at(array: Array | None) -> int:
    """The address of an array's data; 0 for None.

    Not by ``__array_interface__``, which swallows an interrupt that comes inside.
    """
    return 0 if array is None else array.ctypes.data


def _is_plain(array: Any, dtype: Any, dimensions: int) -> bool:
    return (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and array.ndim == dimensions
        and array.flags.c_contiguous
        and array.flags.aligned
        and array.dtype.isnative
    )


def _plain(array: Any, dtype: Any, dimensions: int) -> Array:
    """The array; TypeError if it is not plain."""
    if not _is_plain(array, dtype, dimensions):
        raise TypeError(
            f"expected a plain (native, aligned, C-contiguous) {dimensions}-D array of one dtype"
        )
    return array


def _zeros(count: int, dtype: Any) -> Array:
    """Zeroed memory at a multiple of 64 bytes, of 2 MB if it is large, for huge pages.

    More than the machine has is refused at once, since the kernel would promise it and
    kill the process later.
    """
    size = np.dtype(dtype).itemsize
    line = (1 << 21 if count * size > 1 << 20 else 64) // size
    if count * size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE"):
        raise MemoryError(f"cannot allocate {count * size} bytes for the network")
    memory = np.zeros(count + line, dtype)
    skipped = -(_at(memory) // size) % line
    return memory[skipped : skipped + count]


def _blocks(features: int) -> int:
    return -(-features // BLOCK)


def _to_panels(matrix: Array) -> Array:
    """[columns/16][row][16] of a matrix (rows, columns), padded with zeros."""
    rows, columns = matrix.shape
    if columns % BLOCK:
        padded = np.zeros((rows, _blocks(columns) * BLOCK), matrix.dtype)
        padded[:, :columns] = matrix
        matrix = padded
    return matrix.reshape(rows, _blocks(columns), BLOCK).transpose(1, 0, 2)


def _from_panels(panels: Array, columns: int) -> Array:
    """The inverse, (rows, columns)."""
    blocks, rows = panels.shape[:2]
    return panels.transpose(1, 0, 2).reshape(rows, blocks * BLOCK)[:, :columns]


# --------------------------------------------------------------------------- kernels


class Plan(ctypes.Structure):
    """The record ``PLAN``, whose fields are set in less time than NumPy takes for its own."""

    _fields_ = [
        (name, ctypes.c_int64 if PLAN[name].kind == "i" else ctypes.c_double)
        for name in PLAN.names or ()
    ]


@functools.cache
def _new_table(bits: int) -> Array:
    return np.zeros(1, TABLE)


def _table(bits: int, *names: str) -> Array:
    """The addresses of kernels that kernels call, these among them."""
    table = _new_table(bits)
    for name in names:
        if not table[name][0]:
            table[name] = address(name, bits)
    return table


@functools.cache
def _constant_zeros() -> Array:
    return _zeros(BLOCK, np.float64)


def _bound(kernel: int, *arguments: Array | int | None) -> Callable[[], None]:
    """A kernel, by its address, and up to eight arrays or numbers that it is to be called with.

    A call of it runs no Python code before the kernel. It does not keep the arrays.
    """
    values = [x if isinstance(x, int) else _at(x) for x in arguments]
    return functools.partial(entry(), kernel, *values, *[0] * (8 - len(values)))


def _run(kernel: int, *arguments: Array | int | None) -> None:
    """Call it."""
    _bound(kernel, *arguments)()


def _name(row: Any) -> str:
    return row if isinstance(row, str) else row.name


def _activation(row: Any, bits: int) -> tuple[int, int]:
    """The addresses of the way forward and of the way back, 0 if that needs the slope."""
    if not isinstance(row, str):
        return row.address(bits // 8), 0
    backward = numba_rows.ACTIVATIONS[row][1] is not None
    return address(f"forward {row}", bits), address(f"backward {row}", bits) if backward else 0


def _set_loss(plan: Any, row: Any, bits: int, per_row: bool = False) -> None:
    if not isinstance(row, str):
        plan.loss_kernel = row.address(bits // 8)
        plan.normaliser = numba_rows.WEIGHT_TIMES_OUTPUTS
    else:
        formula, plan.normaliser = numba_rows.LOSSES[row]
        plan.loss_kernel = 0 if formula is None else address(f"loss {row}", bits)
    if per_row and plan.normaliser == numba_rows.WEIGHT_TIMES_OUTPUTS:
        plan.normaliser = numba_rows.WEIGHT
    name = "elements_loss" if plan.loss_kernel else "cross_entropy"
    plan.group_loss = address(name, bits)


def _set_optimizer(plan: Any, spec: Any, bits: int) -> None:
    plan.update_kernel = address(f"update {spec.name}/{spec.moments}", bits)
    plan.corrects_bias = spec.name in ("adam", "adamw")
    plan.decouples_decay = spec.name == "adamw"
    for name in _OPTIMIZER_FIELDS:
        setattr(plan, name, getattr(spec, name))


# --------------------------------------------------------------------------- network


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
            in_blocks, out_blocks = _blocks(spec.inputs), _blocks(spec.outputs)
            narrow = spec.outputs <= NARROW
            count = (in_blocks * spec.outputs if narrow else out_blocks * spec.inputs) * BLOCK
            if (end + count) * self.dtype.itemsize >= 1 << 62:
                raise MemoryError("cannot allocate a network of this size")
            name = _name(spec.activation)
            layer["inputs"], layer["outputs"] = spec.inputs, spec.outputs
            layer["in_blocks"], layer["out_blocks"] = in_blocks, out_blocks
            layer["weight_at"], layer["bias_at"] = end, end + count
            layer["uses_bias"], layer["narrow"] = spec.use_bias, narrow
            layer["forward"], layer["backward"] = _activation(spec.activation, self.bits)
            layer["is_identity"], layer["is_softmax"] = name == "identity", name == "softmax"
            layer["dropout"] = spec.dropout
            if i > 0 and spec.dropout > 0:  # which hides the layer's output from its way back
                self.layers[i - 1]["backward"] = 0
            end += count + out_blocks * BLOCK
            self.size += (spec.inputs + spec.use_bias) * spec.outputs
        self.arena_size = end + AREA  # a tile may be read past its last row
        self.parameters = self.new_arena()
        self.transposed = [
            _zeros(int(layer["in_blocks"] * layer["outputs"]) * BLOCK, self.dtype)
            if i > 0 and not layer["narrow"]
            else None
            for i, layer in enumerate(self.layers)
        ]
        self.layers["transposed"] = [_at(copy) for copy in self.transposed]
        self.moments: tuple[Array, ...] = ()
        self.moments_of: str | None = None  # whose moments these are; None: not known yet
        self.updates = np.zeros(1, np.int64)  # made so far, counted by the kernel
        self.workspaces: list[_Inference] = []  # of predict, free ones

    def new_arena(self) -> Array:
        """Memory for the parameters or what belongs to each."""
        return _zeros(self.arena_size, self.dtype)

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
        self.weight_panels(arena, i)[...] = _to_panels(weight.T if layer["narrow"] else weight)
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
            weight = _from_panels(self.weight_panels(arena, i), columns)
            pieces.append((weight.T if narrow else weight).ravel())
            if layer["uses_bias"]:
                pieces.append(arena[bias : bias + outputs])
        return np.concatenate(pieces)

    def transpose(self, i: int, to: Array) -> None:
        """Layer i's weights as [in/16][out][16], from its panels."""
        layer = self.layers[i]
        weight = _from_panels(self.weight_panels(self.parameters, i), int(layer["outputs"]))
        to.reshape(-1, int(layer["outputs"]), BLOCK)[...] = _to_panels(weight.T)

    def _checked_flat(self, flat: Any) -> Array:
        flat = _plain(flat, self.dtype, 1)
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
        if len(moments) > _MOST_MOMENTS:
            raise ValueError(f"at most {_MOST_MOMENTS} moments, got {len(moments)}")
        for moment in moments:
            self._checked_flat(moment)
        self.set_moments(len(moments))
        for moment, arena in zip(moments, self.moments, strict=True):
            self.pack(moment, arena)
        self.updates[0] = step

    def predict(self, X: Array, threads: int = 1) -> Array | None:
        """The output, or None if X is not a plain (n, inputs) matrix."""
        if not _is_plain(X, self.dtype, 2) or X.shape[1] != self.specs[0].inputs:
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
            workspace = _Inference(self)
        plan = workspace.plan
        plan.X, plan.out = _at(X), _at(out)
        plan.first, plan.rows, plan.polls = first, last, polls
        workspace.predict()
        self.workspaces.append(workspace)

    def input_gradient(self, X: Array, outputs: Array) -> Array:
        """d output / d input, (n, len(outputs), inputs)."""
        X, outputs = _plain(X, self.dtype, 2), _plain(outputs, np.int64, 1)
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
            first = _zeros(int(layers["in_blocks"][0] * layers["outputs"][0]) * BLOCK, self.dtype)
            self.transpose(0, first)
            layers["transposed"][0] = _at(first)
        workspace = _Workspace(self, layers, BLOCK, 1, with_deltas=True)
        plan = workspace.plan
        widest = int(max(layers["in_blocks"].max(), layers["out_blocks"].max()))
        plan.scratch_size = widest * plan.stride
        scratch = _zeros(2 * int(plan.scratch_size), self.dtype)
        plan.scratch, plan.polls, plan.kind = _at(scratch), 1, GRADIENT
        plan.X, plan.out, plan.rows = _at(X), _at(result), len(X)
        plan.outputs_wanted, plan.wanted_count = _at(outputs), len(outputs)
        _run(address("input_gradient", self.bits), 0, workspace.plan_at)
        return result

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


class _Workspace:
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
            self.memory = _zeros(2 * sum(sizes), dtype)
        else:  # two buffers in turn
            starts = np.arange(2 * len(blocks)) % 2 * max(sizes)
            self.memory = _zeros(2 * max(sizes), dtype)
        self.buffers[...] = (_at(self.memory) + starts * dtype.itemsize).reshape(2, -1)
        scratch = (ROW_TILE + blocks[-1] * BLOCK) * BLOCK + LOSS_AREA
        self.scratch = _zeros(threads * scratch, dtype) if with_deltas else None
        for name, value in (
            ("table", _at(_table(network.bits, *_kernels_of_passes(layers, with_deltas)))),
            ("layers", _at(layers)),
            ("depth", len(layers)),
            ("parameters", _at(network.parameters)),
            ("zeros", _at(_constant_zeros())),
            ("activation", _at(self.buffers)),
            ("delta", _at(self.buffers[1])),
            ("stride", stride),
            ("slab", slab),
            ("scratch", _at(self.scratch)),
            ("scratch_size", scratch),
            ("outputs", int(layers["outputs"][-1])),
            ("threads", threads),
        ):
            setattr(self.plan, name, value)


class _Inference(_Workspace):
    """What one call of ``predict`` works in."""

    def __init__(self, network: Network) -> None:
        super().__init__(network, network.layers, ROW_TILE, 1, with_deltas=False)
        self.plan.kind = EVALUATE
        self.predict = _bound(address("predict", network.bits), 0, self.plan_at)


# --------------------------------------------------------------------------- threads

_api = ctypes.pythonapi
_allocate_lock = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", _api))
_free_lock = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("PyThread_free_lock", _api))
_acquire_lock = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(
    ("PyThread_acquire_lock", _api)
)
_release_lock = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("PyThread_release_lock", _api))


class _Meeting:
    """What the threads of a pool share; it lives until the last of them has ended."""

    def __init__(self, size: int, jobs: Array) -> None:
        self.jobs = jobs  # (size + 1, 4): run, like, plan, thread
        self.size = size
        self.locks = np.zeros((2, size), np.int64)  # gates: released to begin; ends: when done
        for i in np.ndindex(2, size):
            lock = _allocate_lock()
            if lock is None:
                raise MemoryError("cannot allocate the threads' locks")
            self.locks[i] = lock
            _acquire_lock(lock, 1)

    def serve(self, i: int) -> None:
        gate, end = self.locks[:, i].tolist()
        _run(address("serve", 64), gate, end, self.jobs[i + 1])

    def __del__(self) -> None:
        for lock in self.locks.flat:
            if lock:
                _free_lock(int(lock))


class _Pool:
    """Threads that wait for jobs; they know the meeting, never the pool, which ends them."""

    def __init__(self, size: int, run: int, plan_at: int) -> None:
        self.started = 0
        self.process = os.getpid()
        jobs = np.zeros((size + 1, 4), np.int64)
        jobs[:, 0], jobs[:, 2], jobs[:, 3] = run, plan_at, range(size + 1)
        self.meeting = _Meeting(size, jobs)
        #: The plan on every thread, as thread 0 on this one.
        self.run = _bound(address("run_together", 64), jobs, self.meeting.locks, size)
        for i in range(size):
            _thread.start_new_thread(self.meeting.serve, (i,))
            self.started += 1

    def close(self) -> None:
        """Let the threads end."""
        self.meeting.jobs[:, 0] = 0
        while self.started:
            self.started -= 1
            _release_lock(int(self.meeting.locks[0, self.started]))

    def __del__(self) -> None:
        if self.started:
            self.close()


# --------------------------------------------------------------------------- trainer


class Trainer:
    """A plan with all of its memory, and the threads that run it; see ``fastnn.engines``."""

    def __init__(
        self,
        network: Network,
        loss: Any,
        optimizer: Any,
        batch_size: int,
        seed: int,
        threads: int,
        exactly: bool,
    ) -> None:
        bits, layers = network.bits, network.layers.copy()
        if loss.fused:
            layers["forward"][-1], layers["backward"][-1] = _activation("identity", bits)
            layers["is_identity"][-1], layers["is_softmax"][-1] = 1, 0
        slab = min(max(_blocks(batch_size) * BLOCK, ROW_TILE), _MOST_SLAB)
        self.workspace = workspace = _Workspace(network, layers, slab, threads, with_deltas=True)
        plan = self.plan = workspace.plan
        _table(
            bits, "backward_pass", "phase_rows", "gradient_tile", "bias_gradient", "update_tiles"
        )
        if layers["transposed"].any():
            _table(bits, "transpose_weight")
        _set_loss(plan, loss.name, bits, loss.per_row)
        _set_optimizer(plan, optimizer, bits)
        if len(network.moments) != optimizer.moments or (
            network.moments_of is not None and network.moments_of != optimizer.name
        ):
            network.set_moments(optimizer.moments)
        network.moments_of = optimizer.name
        self.network, self.seed, self.batch_size = network, seed, batch_size
        self.threads = threads
        # which number of threads is best; None: always all
        self.pace = None if exactly or threads == 1 else Pace(threads, batch_size)
        self.loss = loss  # keeps a custom one alive
        self.takes_labels = _name(loss.name) in _LABEL_LOSSES
        # compiled before anything runs: a signal in the meantime finds nothing begun
        self.run_kernel, self.shuffle_kernel = address("run", bits), address("shuffle", 64)
        self.run_alone = _bound(self.run_kernel, 0, workspace.plan_at, 0)
        self.is_sound = _bound(address("is_sound", bits), 0, workspace.plan_at)
        for name in ("serve", "run_together") if threads > 1 else ():
            address(name, 64)
        self.pool: _Pool | None = None
        self.gradient_arena: Array | None = None
        self.order: Array | None = None
        self.tiles = _tiles(layers)
        self.tile_norm, self.tile_squares = np.zeros((2, len(self.tiles)))
        self.row_loss = np.zeros(slab // BLOCK)
        self.scalars = np.zeros(2 * threads, SCALARS)
        self.barrier = _zeros(64, np.int64)
        for name, value in (
            ("tiles", _at(self.tiles)),
            ("tile_count", len(self.tiles)),
            ("tile_norm", _at(self.tile_norm)),
            ("tile_squares", _at(self.tile_squares)),
            ("row_loss", _at(self.row_loss)),
            ("scalars", _at(self.scalars)),
            ("barrier", _at(self.barrier)),
            ("updates", _at(network.updates)),
            ("parameter", loss.parameter),
            ("seed", int(np.uint64(seed).astype(np.int64))),
            ("polls", 1),
        ):
            setattr(plan, name, value)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.pool is not None:
            self.pool.close()
            self.pool = None

    @property
    def steps(self) -> int:
        """Updates made by this trainer, counted by the kernel."""
        return self.plan.steps

    @property
    def penalty(self) -> float:
        """The part of the last epoch's or step's loss that is ``l2_by_weight``."""
        return self.plan.penalty

    def _fits(self, X: Array, target: Array, weight: Array | None) -> bool:
        return (
            X.shape[1] == self.network.specs[0].inputs
            and len(target) == len(X)
            and (
                self.takes_labels
                if target.ndim == 1
                else target.shape[1] == self.network.specs[-1].outputs
            )
            and (weight is None or len(weight) == len(X))
        )

    def _load(
        self,
        kind: int,
        X: Array,
        target: Array,
        weight: Array | None,
        batch: int,
        epoch: int = 0,
        rates: Array | None = None,
        order: Array | None = None,
    ) -> None:
        """Fill in a job; the arrays must outlive it."""
        plan, network, labelled = self.plan, self.network, target.ndim == 1
        gradient = self.gradient_arena
        if gradient is None and (
            kind == GRADIENT or plan.clip_norm > 0 or min(batch, len(X)) > plan.slab
        ):
            _table(network.bits, "accumulate_tiles")
            gradient = self.gradient_arena = network.new_arena()
            plan.gradient = _at(gradient)
        plan.kind, plan.X, plan.rows, plan.batch = kind, _at(X), len(X), batch
        plan.target = 0 if labelled else _at(target)
        plan.labels = _at(target) if labelled else 0
        plan.weight, plan.order, plan.rates = _at(weight), _at(order), _at(rates)
        plan.epoch = epoch
        plan.loss = plan.penalty = 0.0
        for i, moment in enumerate(network.moments):
            setattr(plan, f"moment_{i}", _at(moment))

    def _run(self, pace: Pace | None = None) -> float:
        """Run the job; an interrupt surfaces here."""
        plan = self.plan
        self.barrier[STOP // 8] = 0
        if pace is None:
            self._run_part(self.threads, 0, plan.rows)
        else:
            self._run_at_its_pace(pace, plan.rows, plan.batch)
        return plan.loss + plan.penalty

    def _run_at_its_pace(self, pace: Pace, rows: int, batch: int) -> None:
        """The job in parts, on as many threads as prove to be best."""
        end = 0
        while end < rows:
            threads, steps = pace.next_part()
            first, end = end, min(rows, end + steps * batch)
            start = perf_counter()
            self._run_part(threads, first, end)
            pace.observe(end - first, perf_counter() - start)

    def _run_part(self, threads: int, first: int, end: int) -> None:
        """Rows first <= r < end of the job."""
        plan = self.plan
        plan.threads, plan.first, plan.end = threads, first, end
        if threads == 1:
            self.run_alone()
            return
        if self.pool is None or self.pool.process != os.getpid():
            self.pool = _Pool(self.threads - 1, self.run_kernel, self.workspace.plan_at)
        self.pool.run()

    def _checked(self, X: Any, target: Any, weight: Any) -> tuple[Array, Array, Array | None]:
        dtype = self.network.dtype
        X = _plain(X, dtype, 2)
        if not _is_plain(target, np.int64, 1):
            target = _plain(target, dtype, 2)
        if weight is not None:
            weight = _plain(weight, dtype, 1)
        if not self._fits(X, target, weight):
            raise ValueError("X, target and weight do not fit each other and the network")
        return X, target, weight

    def epoch(
        self,
        X: Array,
        target: Array,
        weight: Array | None,
        epoch: int,
        rates: Array,
        shuffle: bool | Array,
    ) -> float:
        """Train on every row once; the epoch's loss."""
        X, target, weight = self._checked(X, target, weight)
        if len(_plain(rates, np.float64, 1)) < -(-len(X) // self.batch_size):
            raise ValueError("one learning rate is needed for each step")
        order, given = None, isinstance(shuffle, np.ndarray)
        if given:
            _check_order(shuffle, len(X))
        if given or shuffle:
            if len(X) > 0xFFFFFFFF:
                raise ValueError("at most 4294967295 rows can be shuffled")
            if self.order is None or len(self.order) != len(X):
                self.order = np.empty(len(X), np.uint32)
            order = self.order
            if given:
                order[...] = shuffle
            else:
                _run(self.shuffle_kernel, order, len(X), self.plan.seed, epoch)
        self._load(TRAIN, X, target, weight, self.batch_size, epoch, rates, order)
        return self._run(self.pace)

    def step(self, X: Array, target: Array, weight: Array | None, rate: float) -> float | None:
        """One update on all rows as one batch, or None if they are not good for it."""
        try:
            X, target, weight = self._checked(X, target, weight)
        except (TypeError, ValueError):
            return None
        if len(X) == 0:
            return None
        rates, updates = np.array([rate], np.float64), int(self.network.updates[0])
        self._load(TRAIN, X, target, weight, len(X), updates, rates)
        self.is_sound()
        return self._run() if self.plan.is_sound else None

    def evaluate(self, X: Array, target: Array, weight: Array | None) -> float:
        """The loss over all rows."""
        X, target, weight = self._checked(X, target, weight)
        self._load(EVALUATE, X, target, weight, max(len(X), 1))
        return self._run()

    def gradient(self, X: Array, target: Array, weight: Array | None) -> tuple[float, Array]:
        """The loss over all rows and its flat gradient."""
        X, target, weight = self._checked(X, target, weight)
        self._load(GRADIENT, X, target, weight, max(len(X), 1))
        loss = self._run()
        assert self.gradient_arena is not None
        return loss, self.network.unpack(self.gradient_arena)


def _check_order(order: Any, rows: int) -> None:
    """ValueError unless it is (rows,) int64 row numbers."""
    if not _is_plain(order, np.int64, 1) or len(order) != rows:
        raise ValueError(f"the order must be a plain int64 array of shape ({rows},)")
    if rows and (order.min() < 0 or order.max() >= rows):
        raise ValueError(f"the order must hold row numbers from 0 to {rows - 1}")


def _tiles(layers: Array) -> Array:
    """(layer, out block, in block) of every tile; 4 x 4 neighbours share panels in the cache."""
    tiles = [
        (level, o, i)
        for level, layer in enumerate(layers)
        for o0 in range(0, int(layer["out_blocks"]), 4)
        for i0 in range(0, int(layer["in_blocks"]), 4)
        for o in range(o0, min(o0 + 4, int(layer["out_blocks"])))
        for i in range(i0, min(i0 + 4, int(layer["in_blocks"])))
    ]
    return np.array(tiles, np.int64)


# --------------------------------------------------------------------------- plain kernels


def _bits(array: Array) -> int:
    if array.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError("the numba engine takes float32 and float64 arrays")
    return 8 * array.dtype.itemsize


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
    X, weight, out = (_plain(array, X.dtype, 2) for array in (X, weight, out))
    start = np.zeros(0, X.dtype) if bias is None else _plain(bias, X.dtype, 1)
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
    X, weight, delta = (_plain(array, X.dtype, 2) for array in (X, weight, delta))
    if input_delta is not None:
        linear_forward(delta, np.ascontiguousarray(weight.T), None, "identity", input_delta)
    if weight_gradient is None and bias_gradient is None:
        return
    (rows, inputs), outputs, bits = X.shape, delta.shape[1], _bits(X)
    source, in_blocks = (None, 0) if weight_gradient is None else (X, _blocks(inputs))
    out_blocks, table = _blocks(outputs), _table(bits, "gradient_tile", "bias_gradient")
    at = in_blocks * out_blocks * AREA
    sums = _zeros(at + (out_blocks + BLOCK) * BLOCK, X.dtype)
    space = _zeros((in_blocks + out_blocks) * STRIDE, X.dtype)
    kernel = address("gradient_plain", bits)
    _run(kernel, source, rows, inputs, delta, outputs, sums, space, table)
    if weight_gradient is not None:
        tiles = sums[:at].reshape(in_blocks, out_blocks, BLOCK, BLOCK).transpose(0, 2, 1, 3)
        weight_gradient[...] = tiles.reshape(in_blocks * BLOCK, -1)[:inputs, :outputs]
    if bias_gradient is not None:
        bias_gradient[...] = sums[at : at + outputs]


def _padded(array: Array) -> Array:
    """A flat copy, with zeros up to a whole number of blocks."""
    result = _zeros(_blocks(array.size) * BLOCK, array.dtype)
    result[: array.size] = array.ravel()
    return result


def activation_forward(Z: Array, activation: str, out: Array) -> None:
    """out = f(Z)."""
    Z, out, bits = _plain(Z, Z.dtype, 2), _plain(out, Z.dtype, 2), _bits(Z)
    if _name(activation) == "softmax":
        out[...] = _softmax(Z)[1]
        return
    y = _padded(Z)
    _run(_activation(activation, bits)[0], y, None, y.size)
    out[...] = y[: Z.size].reshape(Z.shape)


def _softmax(Z: Array) -> tuple[Array, Array]:
    """softmax(Z) as blocks of features, and as rows."""
    rows, columns = Z.shape
    panels = _to_panels(Z).copy()
    _run(address("softmax_rows", _bits(Z)), panels, rows * BLOCK, columns, rows)
    return panels, _from_panels(panels, columns)


def activation_backward(Z: Array, output_delta: Array, activation: str, out: Array) -> None:
    """out = d loss / d Z from Z and d loss / d f(Z)."""
    Z, upstream, bits = _plain(Z, Z.dtype, 2), _plain(output_delta, Z.dtype, 2), _bits(Z)
    out = _plain(out, Z.dtype, 2)
    if _name(activation) == "softmax":
        y, d = _softmax(Z)[0], _to_panels(upstream).copy()
        (rows, columns), kernel = Z.shape, address("softmax_backward", bits)
        _run(kernel, d, rows * BLOCK, y, d, rows * BLOCK, columns, rows)
        out[...] = _from_panels(d, Z.shape[1])
        return
    y, d = _padded(Z), _padded(upstream)
    slope = np.empty_like(y)
    _run(_activation(activation, bits)[0], y, slope, y.size)
    _run(address("multiply_slope", bits), d, slope, d, d.size)
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
    dtype, bits = output.dtype, _bits(output)
    output, out = _plain(output, dtype, 2), _plain(out, dtype, 2)
    labelled = _is_plain(target, np.int64, 1)
    if not labelled:
        target = _plain(target, dtype, 2)
    if weight is not None:
        weight = _plain(weight, dtype, 1)
    plan = Plan()
    _set_loss(plan, loss, bits)
    plan.parameter = parameter
    plan.rows, plan.outputs = output.shape
    setattr(plan, "labels" if labelled else "target", _at(target))
    plan.weight = _at(weight)
    value, group = np.zeros(1), np.zeros(1)
    columns = _blocks(output.shape[1])
    buffer, scratch = _zeros(columns * AREA, dtype), _zeros(LOSS_AREA, dtype)
    out[...] = 0
    _run(
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
    bits = _bits(parameters)
    arrays = (_plain(array, parameters.dtype, 1) for array in (parameters, gradient, *moments))
    w, g, *kept = (_padded(array) for array in arrays)
    plan, scalars = Plan(), np.zeros(1, SCALARS)
    rates, steps = np.array([rate], np.float64), np.array([step], np.int64)
    _set_optimizer(plan, optimizer, bits)
    plan.rates, plan.updates = _at(rates), _at(steps)
    m0, m1 = [*kept, None, None][:_MOST_MOMENTS]
    _run(address("update_plain", bits), w, g, m0, m1, w.size, ctypes.addressof(plan), scalars)
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
    _run(address("all_finite", _bits(values)), values, values.size, found)
    return bool(found[0])
