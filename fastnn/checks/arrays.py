"""The one gate for arrays: what users give becomes what engines take, or one clear error.

Engines take *plain* arrays: the model's dtype, native, aligned, C-contiguous. An array that
is plain already passes as it is; anything else that holds real numbers is converted once. A
scan for NaN and inf runs in the engine and needs no temporary array; only the path to an
error may allocate. Errors are a TypeError for what holds no real numbers, else a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import unknown_name
from ..kernels import contract
from ..kernels.contract import LayerSpec, LossSpec

Array = NDArray[Any]

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


class Gate(NamedTuple):
    """The gate of a model; ``name`` is what errors call an array."""

    dtype: np.dtype[Any]
    engine: Any  # whose ``all_finite`` scans

    def matrix(
        self, value: Any, columns: int | None, *, name: str = "X", learn: bool = True
    ) -> Array:
        """Plain (rows, columns); with ``columns`` None any width ≥ 1.

        If one is to ``learn`` from it, NaN, inf and a lack of rows are refused.
        """
        array = numbers(value, name)
        if array.ndim != 2:
            call = f"{name}.reshape"
            hint = f": use {call}(-1, 1) for one column or {call}(1, -1) for one row"
            hint = hint if array.ndim == 1 else ""
            raise ValueError(
                f"{name} must be 2-D, (rows, columns), not of shape {array.shape}{hint}"
            )
        if array.shape[1] == 0:
            raise ValueError(f"{name} has no columns: shape {array.shape}")
        if columns is not None and array.shape[1] != columns:
            raise ValueError(f"{name} has {array.shape[1]} columns, the network {columns} inputs")
        if learn and len(array) == 0:
            raise ValueError(f"{name} has no rows: shape {array.shape}")
        return self.plain(array, name, finite=learn)

    def target(
        self, value: Any, loss: LossSpec, shape: tuple[int, int], *, name: str = "y"
    ) -> Array:
        """Plain, of the output's ``shape``; or int64 labels (rows,) for a loss that takes them.

        A 1-D array stands for one column where the network has one output.
        """
        rows, outputs = shape
        array = numbers(value, name)
        if array.ndim == 0 or len(array) != rows:
            raise ValueError(f"{name} must have one row for each of X: {rows}, not {array.shape}")
        if loss.row.takes_labels and array.ndim == 1:
            return _labels(array, outputs, name)
        if array.ndim == 1 and outputs == 1:
            array = array.reshape(-1, 1)
        if array.shape != shape:
            raise ValueError(_shape_error(array, loss, shape, name))
        array = self.plain(array, name)
        if not loss.row.takes_any_target:
            _check_target(array, loss, name)
        return array

    def sample_weight(self, value: Any, rows: int, name: str) -> Array:
        """Plain weights (rows,): not negative, not all zero."""
        array = self.shaped(value, (rows,), name)
        if array.min() < 0:
            raise ValueError(f"{name} must not be negative")
        if array.max() == 0:
            raise ValueError(f"{name} is zero everywhere: there is nothing to learn from")
        return array

    def shaped(self, value: Any, shape: tuple[int, ...], name: str) -> Array:
        """A plain and finite array of exactly ``shape``."""
        array = numbers(value, name)
        if array.shape != shape:
            raise ValueError(f"{name} must be of shape {shape}, not {array.shape}")
        return self.plain(array, name)

    def weights(self, value: Any, layers: tuple[LayerSpec, ...]) -> Array:
        """Flat parameters from a list with a tuple of tensors for each layer, as its kind's row.

        A tensor that a layer lacks is None, or holds what stands for it: zeros for a bias.
        """
        if isinstance(value, (str, np.ndarray)) or not isinstance(value, Iterable):
            raise TypeError("weights must be a list of tuples such as (W, b), one for each layer")
        given = list(value)
        if len(given) != len(layers):
            raise ValueError(f"weights has {len(given)} tuples, the network {len(layers)} layers")
        flat: Array = np.empty(contract.size(layers), self.dtype)
        views = contract.views(layers, flat)
        for index, (spec, tensors) in enumerate(zip(layers, given, strict=True)):
            kind = contract.KINDS[spec.kind]
            if not isinstance(tensors, (tuple, list)) or len(tensors) != len(kind.tensors):
                raise TypeError(f"weights[{index}] must be a tuple ({', '.join(kind.tensors)})")
            for tensor, array in zip(kind.tensors, tensors, strict=True):
                name, view = f"{tensor} of weights[{index}]", views[index].get(tensor)
                if view is not None:
                    view[...] = self.shaped(array, view.shape, name)
                elif array is not None and np.any(numbers(array, name) != kind.starts[tensor]):
                    raise ValueError(f"{name} must be None: the layer has none")
        return flat

    def plain(self, array: Array, name: str, *, finite: bool = True) -> Array:
        """``array`` itself if it is plain, else a converted copy; scanned as asked."""
        with np.errstate(over="ignore", invalid="ignore"):
            result = np.require(array, self.dtype, ["C", "A"])
        is_float = array.dtype.kind == "f"
        is_scanned = is_float and (finite or array.dtype.itemsize > result.dtype.itemsize)
        if is_scanned and not self.engine.all_finite(result):
            _explain(array, result, name, finite)
        return result


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


def _explain(array: Array, result: Array, name: str, finite: bool) -> None:
    """Raise for what is not finite in ``result``; return if NaN and inf may be in ``array``."""
    was_finite = np.isfinite(array)
    for wrong, what in (
        (~was_finite & finite, "NaN or infinity"),
        (was_finite & ~np.isfinite(result), f"values too large for {result.dtype}"),
    ):
        if wrong.any():
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(f"{name} has {what}, first at {first}")


def _labels(array: Array, outputs: int, name: str) -> Array:
    if array.dtype.kind == "f":
        raise TypeError(
            f"{name} must be integer labels or rows of probabilities, not 1-D {array.dtype}: "
            f"use {name}.astype(int) if these are labels"
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= outputs:
        hint = "; for one output use binary_cross_entropy" if outputs == 1 else ""
        raise ValueError(
            f"{name} has label {low if low < 0 else high}; "
            f"with {outputs} outputs labels are 0 to {outputs - 1}{hint}"
        )
    return np.require(array, np.int64, ["C", "A"])


def _check_target(array: Array, loss: LossSpec, name: str) -> None:
    """Raise for what the loss cannot take as targets."""
    row = loss.row
    is_wrong = array.min() < row.low or array.max() > row.high
    if row.values:
        found = {value for value in row.values if (array == value).any()}
        # all but the last say the same in different codes: one of them may be there
        is_mixed = found.issuperset(row.values[:-1])
        is_wrong = is_mixed or not np.isin(array, row.values).all()
    if is_wrong:
        raise ValueError(f"{name} must hold {row.meaning}, for {loss.name}")
    if row.takes_labels:
        error = np.abs(array.sum(axis=1, dtype=np.float64) - 1).max()
        if error > _ROW_SUM_TOLERANCE:
            raise ValueError(f"each row of {name} must sum to 1, or {name} be 1-D labels")


def _shape_error(array: Array, loss: LossSpec, shape: tuple[int, int], name: str) -> str:
    rows = shape[0]
    if loss.row.takes_labels:
        hint = f": use {name}.ravel() if these are labels" if array.shape == (rows, 1) else ""
        wanted = f"be labels of shape ({rows},) or rows of shape {shape}"
        return f"{name} must {wanted}, not {array.shape}{hint}"
    hint = "; labels are for cross_entropy" if array.ndim == 1 and array.dtype.kind in "iu" else ""
    return f"{name} must be of shape {shape}, not {array.shape}{hint}"
