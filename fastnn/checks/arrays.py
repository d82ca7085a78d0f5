"""The one gate for arrays: what users give becomes what engines take, or one clear error.

Engines take *plain* arrays: the model's dtype, native, aligned, C-contiguous. An array
that is plain already passes as it is; anything else that holds real numbers is converted
once. A scan for NaN and inf runs in the engine and needs no temporary array; only the
path to an error may allocate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.contract import LayerSpec, LossSpec
from ..errors import unknown_name

Array = NDArray[Any]

_LABEL_LOSSES = ("cross_entropy", "cross_entropy_of_probabilities")

#: Losses whose targets have bounds, with what the bounds are called.
_BOUNDS: dict[str, tuple[float, float, str]] = {
    "cross_entropy": (0.0, 1.0, "probabilities, from 0 to 1"),
    "cross_entropy_of_probabilities": (0.0, 1.0, "probabilities, from 0 to 1"),
    "binary_cross_entropy": (0.0, 1.0, "probabilities, from 0 to 1"),
    "binary_cross_entropy_of_probabilities": (0.0, 1.0, "probabilities, from 0 to 1"),
    "poisson": (0.0, np.inf, "counts, ≥ 0"),
}

#: How far a row of probabilities may sum from 1: float16 rows come this close.
_ROW_SUM_TOLERANCE = 1e-3


def float_dtype(dtype: Any) -> np.dtype[Any]:
    """float32 or float64, native, from anything that names one of them."""
    for found in (np.dtype(np.float32), np.dtype(np.float64)):
        try:
            if dtype is not None and found == dtype:
                return found
        except TypeError:
            break
    raise unknown_name("dtype", dtype, ("float32", "float64"))


def matrix(
    value: Any, dtype: Any, columns: int | None, engine: Any, *, name: str = "X", learn: bool = True
) -> Array:
    """A plain (rows, columns) array of ``dtype``.

    Parameters
    ----------
    value : array_like
        Numbers or bools of any dtype, byte order, strides and alignment.
    dtype : dtype
        float32 or float64.
    columns : int or None
        The width that it must have; None accepts any width ≥ 1.
    engine : Engine
        Whose ``all_finite`` scans it.
    name : str
        What errors call it.
    learn : bool
        Whether NaN, inf and a lack of rows are refused; ``predict`` lets them flow.

    Returns
    -------
    ndarray
        ``value`` itself if it is plain.

    Raises
    ------
    TypeError
        Not an array of real numbers.
    ValueError
        Wrong shape, no rows, NaN or inf, or too large for ``dtype``.
    """
    array = numbers(value, name)
    if array.ndim != 2:
        hint = (
            f": use {name}.reshape(-1, 1) for one column or {name}.reshape(1, -1) for one row"
            if array.ndim == 1
            else ""
        )
        raise ValueError(f"{name} must be 2-D, (rows, columns), not of shape {array.shape}{hint}")
    if array.shape[1] == 0:
        raise ValueError(f"{name} has no columns: shape {array.shape}")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"{name} has {array.shape[1]} columns, the network {columns} inputs")
    if learn and len(array) == 0:
        raise ValueError(f"{name} has no rows: shape {array.shape}")
    return plain(array, dtype, engine, name, finite=learn)


def target(
    value: Any, loss: LossSpec, shape: tuple[int, int], dtype: Any, engine: Any, *, name: str = "y"
) -> Array:
    """The target of ``loss``: plain (rows, outputs), or int64 labels (rows,).

    Labels, one-hot rows and rows of probabilities are for the cross-entropy; a 1-D array
    stands for one column where the network has one output.

    Parameters
    ----------
    value : array_like
    loss : LossSpec
    shape : (int, int)
        Rows of X and outputs of the network.

    Raises
    ------
    TypeError, ValueError
        As ``matrix``; labels out of range, targets that the loss cannot take.
    """
    rows, outputs = shape
    array = numbers(value, name)
    if array.ndim == 0 or len(array) != rows:
        raise ValueError(f"{name} must have one row for each of X: {rows}, not {array.shape}")
    is_labels = loss.name in _LABEL_LOSSES and array.ndim == 1
    if is_labels:
        return _labels(array, outputs, name)
    if array.ndim == 1 and outputs == 1:
        array = array.reshape(-1, 1)
    if array.shape != (rows, outputs):
        raise ValueError(_shape_error(array, loss, (rows, outputs), name))
    array = plain(array, dtype, engine, name)
    if isinstance(loss.name, str) and loss.name in _BOUNDS:
        low, high, meaning = _BOUNDS[loss.name]
        if array.min() < low or array.max() > high:
            raise ValueError(f"{name} must hold {meaning}, for {loss.name}")
    if loss.name in _LABEL_LOSSES:
        error = np.abs(array.sum(axis=1, dtype=np.float64) - 1).max()
        if error > _ROW_SUM_TOLERANCE:
            raise ValueError(f"each row of {name} must sum to 1, or {name} be 1-D labels")
    return array


def sample_weight(value: Any, rows: int, dtype: Any, engine: Any, name: str) -> Array:
    """Plain weights (rows,): finite, not negative, not all zero."""
    array = numbers(value, name)
    if array.shape != (rows,):
        raise ValueError(f"{name} must be of shape ({rows},), not {array.shape}")
    array = plain(array, dtype, engine, name)
    if array.min() < 0:
        raise ValueError(f"{name} must not be negative")
    if array.max() == 0:
        raise ValueError(f"{name} is zero everywhere: there is nothing to learn from")
    return array


def shaped(value: Any, shape: tuple[int, ...], dtype: Any, engine: Any, name: str) -> Array:
    """A plain and finite array of exactly ``shape``."""
    array = numbers(value, name)
    if array.shape != shape:
        raise ValueError(f"{name} must be of shape {shape}, not {array.shape}")
    return plain(array, dtype, engine, name)


def flat_weights(value: Any, specs: tuple[LayerSpec, ...], dtype: Any, engine: Any) -> Array:
    """Flat parameters from a list of (W, b) for the dense layers ``specs``."""
    if isinstance(value, (str, np.ndarray)) or not isinstance(value, Iterable):
        raise TypeError("weights must be a list of pairs (W, b)")
    pairs = list(value)
    if len(pairs) != len(specs):
        raise ValueError(f"weights has {len(pairs)} pairs, the network {len(specs)} dense layers")
    pieces: list[Array] = []
    for index, (spec, pair) in enumerate(zip(specs, pairs, strict=True)):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"weights[{index}] must be a pair (W, b)")
        names = f"W of weights[{index}]", f"b of weights[{index}]"
        shape = (spec.inputs, spec.outputs)
        pieces.append(shaped(pair[0], shape, dtype, engine, names[0]).ravel())
        if spec.use_bias:
            pieces.append(shaped(pair[1], (spec.outputs,), dtype, engine, names[1]))
        elif pair[1] is not None and np.any(numbers(pair[1], names[1])):
            raise ValueError(f"{names[1]} must be None: the layer has use_bias=False")
    return np.concatenate(pieces)


def numbers(value: Any, name: str) -> Array:
    """``value`` as a base-class array of bools, integers or real floats, of any layout."""
    if type(value) is not np.ndarray:
        if value is None:
            raise TypeError(f"{name} is missing (None)")
        if hasattr(value, "toarray") and not hasattr(value, "__array__"):
            raise TypeError(f"{name} is sparse: use {name}.toarray()")
        if hasattr(value, "filled"):
            raise TypeError(f"{name} is a masked array: use {name}.filled(…)")
        try:
            value = np.asarray(value)
        except (ValueError, TypeError, RuntimeError) as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"{name} cannot be read as an array: {error}") from error
    array: Array = value
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, not dtype {array.dtype}")
    return array


def plain(array: Array, dtype: Any, engine: Any, name: str, *, finite: bool = True) -> Array:
    """``array`` itself if it is plain, else a converted copy; scanned as asked."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.require(array, dtype, ["C", "A"])
    is_narrowed = array.dtype.kind == "f" and array.dtype.itemsize > result.dtype.itemsize
    if array.dtype.kind == "f" and (finite or is_narrowed) and not engine.all_finite(result):
        _explain(array, result, name, finite)
    return result


def _explain(array: Array, result: Array, name: str, finite: bool) -> None:
    """Raise for what is not finite in ``result``; return if NaN and inf may be in ``array``."""
    was_finite = np.isfinite(array)
    if finite and not was_finite.all():
        first = tuple(int(i) for i in np.argwhere(~was_finite)[0])
        raise ValueError(f"{name} has NaN or infinity, first at {first}")
    overflowed = was_finite & ~np.isfinite(result)
    if overflowed.any():
        first = tuple(int(i) for i in np.argwhere(overflowed)[0])
        raise ValueError(f"{name} has values too large for {result.dtype}, first at {first}")


def _labels(array: Array, outputs: int, name: str) -> Array:
    if array.dtype.kind == "f":
        raise TypeError(
            f"{name} must be integer labels or rows of probabilities, not 1-D {array.dtype}: "
            f"use {name}.astype(int) if these are labels"
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= outputs:
        wrong = low if low < 0 else high
        hint = "; for one output use binary_cross_entropy" if outputs == 1 else ""
        raise ValueError(
            f"{name} has label {wrong}; with {outputs} outputs labels are 0 to {outputs - 1}{hint}"
        )
    return np.require(array, np.int64, ["C", "A"])


def _shape_error(array: Array, loss: LossSpec, shape: tuple[int, int], name: str) -> str:
    rows = shape[0]
    if loss.name in _LABEL_LOSSES:
        hint = f": use {name}.ravel() if these are labels" if array.shape == (rows, 1) else ""
        return (
            f"{name} must be labels of shape ({rows},) or rows of shape {shape}, "
            f"not {array.shape}{hint}"
        )
    hint = "; labels are for cross_entropy" if array.ndim == 1 and array.dtype.kind in "iu" else ""
    return f"{name} must be of shape {shape}, not {array.shape}{hint}"
