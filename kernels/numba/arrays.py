"""Between NumPy and the kernels: arrays become addresses and panels, names become kernels.

Where a specification names an activation or a loss, an object with ``name`` and
``address(itemsize)`` may stand instead: the address of a C function as numba_rows.py
describes it. It is kept alive as long as the network or trainer that uses it.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rows as numba_rows
from .compile import address, entry
from .layer import BLOCK
from .plan import PLAN, TABLE

Array = NDArray[Any]

# --------------------------------------------------------------------------- arrays


def data_of(array: Array | None) -> int:
    """The address of an array's data; 0 for None.

    Not by ``__array_interface__``, which swallows an interrupt that comes inside.
    """
    return 0 if array is None else array.ctypes.data


def is_plain(array: Any, dtype: Any, dimensions: int) -> bool:
    """Whether it is what ``fastnn.engines`` calls plain, of this dtype."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and array.ndim == dimensions
        and array.flags.c_contiguous
        and array.flags.aligned
        and array.dtype.isnative
    )


def plain(array: Any, dtype: Any, dimensions: int) -> Array:
    """The array; TypeError if it is not plain."""
    if not is_plain(array, dtype, dimensions):
        raise TypeError(
            f"expected a plain (native, aligned, C-contiguous) {dimensions}-D array of one dtype"
        )
    return array


def aligned_zeros(count: int, dtype: Any) -> Array:
    """Zeroed memory at a multiple of 64 bytes, of 2 MB if it is large, for huge pages.

    More than the machine has is refused at once, since the kernel would promise it and
    kill the process later.
    """
    size = np.dtype(dtype).itemsize
    line = (1 << 21 if count * size > 1 << 20 else 64) // size
    if count * size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE"):
        raise MemoryError(f"cannot allocate {count * size} bytes for the network")
    memory = np.zeros(count + line, dtype)
    skipped = -(data_of(memory) // size) % line
    return memory[skipped : skipped + count]


def block_count(features: int) -> int:
    """Blocks of 16 that hold so many features."""
    return -(-features // BLOCK)


def to_panels(matrix: Array) -> Array:
    """[columns/16][row][16] of a matrix (rows, columns), padded with zeros."""
    rows, columns = matrix.shape
    if columns % BLOCK:
        padded = np.zeros((rows, block_count(columns) * BLOCK), matrix.dtype)
        padded[:, :columns] = matrix
        matrix = padded
    return matrix.reshape(rows, block_count(columns), BLOCK).transpose(1, 0, 2)


def from_panels(panels: Array, columns: int) -> Array:
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


def kernel_table(bits: int, *names: str) -> Array:
    """The addresses of kernels that kernels call, these among them."""
    table = _new_table(bits)
    for name in names:
        if not table[name][0]:
            table[name] = address(name, bits)
    return table


@functools.cache
def constant_zeros() -> Array:
    """A block of zeros for sums to start from, of either dtype."""
    return aligned_zeros(BLOCK, np.float64)


def bound(kernel: int, *arguments: Array | int | None) -> Callable[[], None]:
    """A kernel, by its address, and up to eight arrays or numbers that it is to be called with.

    A call of it runs no Python code before the kernel. It does not keep the arrays.
    """
    values = [data_of(x) if isinstance(x, np.ndarray | None) else int(x) for x in arguments]
    return functools.partial(entry(), kernel, *values, *[0] * (8 - len(values)))


def run(kernel: int, *arguments: Array | int | None) -> None:
    """Call it."""
    bound(kernel, *arguments)()


def name_of(row: Any) -> str:
    """Of a row, or of the object in its place."""
    return row if isinstance(row, str) else row.name


def activation_of(row: Any, bits: int) -> tuple[int, int]:
    """The addresses of the way forward and of the way back, 0 if that needs the slope."""
    if not isinstance(row, str):
        return row.address(bits // 8), 0
    backward = numba_rows.ACTIVATIONS[row][1] is not None
    return address(f"forward {row}", bits), address(f"backward {row}", bits) if backward else 0


def set_loss(plan: Any, row: Any, bits: int, per_row: bool = False) -> None:
    """The kernels of a loss, and what its sum is divided by."""
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


def set_optimizer(plan: Any, spec: Any, bits: int) -> None:
    """The kernel of an optimizer, and all its numbers."""
    plan.update_kernel = address(f"update {spec.name}/{spec.moments}", bits)
    plan.corrects_bias = spec.name in ("adam", "adamw")
    plan.decouples_decay = spec.name == "adamw"
    for name in set(spec._fields) & set(PLAN.names or ()):
        setattr(plan, name, getattr(spec, name))


def bits_of(array: Array) -> int:
    """32 or 64; TypeError for what is no float of this engine."""
    if array.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError("the numba engine takes float32 and float64 arrays")
    return 8 * array.dtype.itemsize
