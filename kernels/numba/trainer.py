"""A plan with all of its memory, and the threads that run it.

Threads are Python threads that enter a kernel and meet there. The calling thread is one of
them, and between the start and the end of a job it runs no Python code.
"""

from __future__ import annotations

import _thread
import ctypes
import os
from time import perf_counter
from typing import Any

import numpy as np

from .arrays import (
    Array,
    activation_of,
    aligned_zeros,
    block_count,
    bound,
    data_of,
    is_plain,
    kernel_table,
    name_of,
    plain,
    run,
    set_loss,
    set_optimizer,
)
from .compile import address
from .layer import BLOCK
from .network import Network, Workspace
from .plan import EVALUATE, GRADIENT, STOP, TRAIN
from .rows import SCALARS
from .step import ROW_TILE
from ..pace import Pace

_LABEL_LOSSES = ("cross_entropy", "cross_entropy_of_probabilities")
_MOST_SLAB = 2048

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
        run(address("serve", 64), gate, end, self.jobs[i + 1])

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
        self.run = bound(address("run_together", 64), jobs, self.meeting.locks, size)
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
            layers["forward"][-1], layers["backward"][-1] = activation_of("identity", bits)
            layers["is_identity"][-1], layers["is_softmax"][-1] = 1, 0
        slab = min(max(block_count(batch_size) * BLOCK, ROW_TILE), _MOST_SLAB)
        self.workspace = workspace = Workspace(network, layers, slab, threads, with_deltas=True)
        plan = self.plan = workspace.plan
        kernel_table(
            bits, "backward_pass", "phase_rows", "gradient_tile", "bias_gradient", "update_tiles"
        )
        if layers["transposed"].any():
            kernel_table(bits, "transpose_weight")
        set_loss(plan, loss.name, bits, loss.per_row)
        set_optimizer(plan, optimizer, bits)
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
        self.takes_labels = name_of(loss.name) in _LABEL_LOSSES
        # compiled before anything runs: a signal in the meantime finds nothing begun
        self.run_kernel, self.shuffle_kernel = address("run", bits), address("shuffle", 64)
        self.run_alone = bound(self.run_kernel, 0, workspace.plan_at, 0)
        self.is_sound = bound(address("is_sound", bits), 0, workspace.plan_at)
        for name in ("serve", "run_together") if threads > 1 else ():
            address(name, 64)
        self.pool: _Pool | None = None
        self.gradient_arena: Array | None = None
        self.order: Array | None = None
        self.tiles = _tiles(layers)
        self.tile_norm, self.tile_squares = np.zeros((2, len(self.tiles)))
        self.row_loss = np.zeros(slab // BLOCK)
        self.scalars = np.zeros(2 * threads, SCALARS)
        self.barrier = aligned_zeros(64, np.int64)
        for name, value in (
            ("tiles", data_of(self.tiles)),
            ("tile_count", len(self.tiles)),
            ("tile_norm", data_of(self.tile_norm)),
            ("tile_squares", data_of(self.tile_squares)),
            ("row_loss", data_of(self.row_loss)),
            ("scalars", data_of(self.scalars)),
            ("barrier", data_of(self.barrier)),
            ("updates", data_of(network.updates)),
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
            kernel_table(network.bits, "accumulate_tiles")
            gradient = self.gradient_arena = network.new_arena()
            plan.gradient = data_of(gradient)
        plan.kind, plan.X, plan.rows, plan.batch = kind, data_of(X), len(X), batch
        plan.target = 0 if labelled else data_of(target)
        plan.labels = data_of(target) if labelled else 0
        plan.weight, plan.order, plan.rates = data_of(weight), data_of(order), data_of(rates)
        plan.epoch = epoch
        plan.loss = plan.penalty = 0.0
        for i, moment in enumerate(network.moments):
            setattr(plan, f"moment_{i}", data_of(moment))

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
        X = plain(X, dtype, 2)
        if not is_plain(target, np.int64, 1):
            target = plain(target, dtype, 2)
        if weight is not None:
            weight = plain(weight, dtype, 1)
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
        if len(plain(rates, np.float64, 1)) < -(-len(X) // self.batch_size):
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
                run(self.shuffle_kernel, order, len(X), self.plan.seed, epoch)
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
    if not is_plain(order, np.int64, 1) or len(order) != rows:
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
