"""The kernels on plain arrays, for those who embed single ones in a pipeline of their own.

Every function takes NumPy arrays of float32 or float64, in any layout, read-only or not,
checks them once, and calls the kernel of that name of an engine: the best that there is, or
the one given as ``engine`` ("cython", "numba", "numpy"). ``out`` arguments are filled and
returned; without them new arrays are. What cannot be taken is refused before anything is
written. A sum over nothing is zero: arrays may have axes of length 0.

An engine's kernel takes plain arrays (native, aligned, C-contiguous, one dtype), none of
them empty, and an output that overlaps no input; what engines promise is in ``contract``.
"""

from __future__ import annotations

if __name__ == "kernels":
    raise ImportError(
        "the folder kernels/ of a checkout is not a package of its own: "
        "install the project (pip install -e .) and import fastnn.kernels"
    )

import functools
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import loader
from .contract import ACTIVATIONS, KERNELS, LOSSES, OPTIMIZERS, OptimizerSpec
from .errors import unknown_name

__all__ = [*KERNELS]  # noqa: PLE0604 - the names of functions

Array = NDArray[Any]

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


@functools.cache
def _load(engine: str | None) -> ModuleType:
    return loader.load(engine or "auto")


# --------------------------------------------------------------------------- checks


def _common_dtype(arrays: Iterable[Array | None]) -> np.dtype[Any]:
    present = [array for array in arrays if array is not None]
    first = present[0].dtype
    if first in _DTYPES and all(array.dtype == first for array in present):
        return first
    for array in present:
        if array.dtype.kind not in "biuf":
            raise TypeError(f"kernels take real numbers, not {array.dtype}")
    dtype = np.result_type(*(array.dtype for array in present), np.float32)
    if dtype not in _DTYPES:
        raise TypeError(f"kernels take float32 and float64, not {dtype}")
    return dtype


def _plain(array: Any, dtype: np.dtype[Any]) -> Any:
    """The array, or None, as engines take it."""
    if array is None:
        return None
    is_plain = array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
    return array if is_plain else np.require(array, dtype, ["C", "A"])


def _shaped(name: str, array: ArrayLike, shape: tuple[int | None, ...]) -> Array:
    """``array`` as an array whose shape matches; None stands for any length."""
    result = np.asarray(array)
    fits = result.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(result.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} must have shape ({wanted}), not {result.shape}")
    return result


class _Output:
    """Where a kernel writes: the caller's array if it is plain and apart, else a new one."""

    def __init__(
        self,
        name: str,
        given: Array | None,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        inputs: Iterable[Array | None],
    ) -> None:
        self.given = given
        if given is None:
            self.array: Array = np.empty(shape, dtype)
            return
        if not isinstance(given, np.ndarray):
            raise TypeError(f"{name} must be an array, not {type(given).__name__}")
        if given.shape != shape or given.dtype != dtype:
            raise ValueError(
                f"{name} must be {dtype} of shape {shape}, not {given.dtype} of {given.shape}"
            )
        if not given.flags.writeable:
            raise ValueError(f"{name} is read-only")
        usable = given.flags.carray and given.dtype.isnative
        apart = not any(x is not None and np.may_share_memory(given, x) for x in inputs)
        self.array = given if usable and apart else np.empty(shape, dtype)

    def result(self) -> Array:
        if self.given is None or self.given is self.array:
            return self.array
        self.given[...] = self.array
        return self.given


def _known(kind: str, name: str, table: Iterable[str]) -> None:
    if name not in table:
        raise unknown_name(kind, name, table)


def _rows(array: Array) -> Array:
    """Any shape as (rows, last axis)."""
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


# --------------------------------------------------------------------------- kernels


def linear_forward(
    X: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    activation: str = "identity",
    out: Array | None = None,
    engine: str | None = None,
) -> Array:
    """f(X W + b), the forward pass of one dense layer.

    Parameters
    ----------
    X, weight : arrays (n, inputs), (inputs, outputs)
    bias : array (outputs,), optional
    activation : str
        A name of ``fastnn.kernels.contract.ACTIVATIONS``; softmax acts on rows.
    out : array (n, outputs), optional

    Returns
    -------
    array (n, outputs)

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit or an array is not real; nothing has been written then.
    """
    module = _load(engine)
    _known("activation", activation, ACTIVATIONS)
    x = _shaped("X", X, (None, None))
    w = _shaped("weight", weight, (x.shape[1], None))
    b = None if bias is None else _shaped("bias", bias, (w.shape[1],))
    dtype = _common_dtype((x, w, b))
    target = _Output("out", out, (x.shape[0], w.shape[1]), dtype, (x, w, b))
    if target.array.size:
        if not x.shape[1]:  # no features: as one that is zero
            x, w = np.zeros((len(x), 1)), np.zeros((1, w.shape[1]))
        arrays = (_plain(array, dtype) for array in (x, w, b))
        module.linear_forward(*arrays, activation, target.array)
    return target.result()


def linear_backward(
    X: ArrayLike,
    weight: ArrayLike,
    delta: ArrayLike,
    input_delta: Array | None = None,
    weight_gradient: Array | None = None,
    bias_gradient: Array | None = None,
    engine: str | None = None,
) -> tuple[Array, Array, Array]:
    """The three products of backpropagation through X W + b.

    Parameters
    ----------
    X, weight, delta : arrays (n, inputs), (inputs, outputs), (n, outputs)
        ``delta`` is d loss / d (X W + b).
    input_delta, weight_gradient, bias_gradient : arrays, optional
        Outputs to fill, of the shapes below.

    Returns
    -------
    input_delta, weight_gradient, bias_gradient : arrays
        delta Wᵀ (n, inputs), Xᵀ delta (inputs, outputs), and Σ_rows delta (outputs,).
    """
    module = _load(engine)
    x = _shaped("X", X, (None, None))
    w = _shaped("weight", weight, (x.shape[1], None))
    d = _shaped("delta", delta, (x.shape[0], w.shape[1]))
    dtype = _common_dtype((x, w, d))
    outputs = (
        _Output("input_delta", input_delta, x.shape, dtype, (x, w, d)),
        _Output("weight_gradient", weight_gradient, w.shape, dtype, (x, w, d)),
        _Output("bias_gradient", bias_gradient, (w.shape[1],), dtype, (x, w, d)),
    )
    if x.size and d.size:
        arrays = (_plain(array, dtype) for array in (x, w, d))
        module.linear_backward(*arrays, *(output.array for output in outputs))
    else:  # no sum has a term, but that of the bias's gradient if there are rows
        for output, value in zip(outputs, (0, 0, d.sum(axis=0)), strict=True):
            output.array[...] = value
    first, second, third = (output.result() for output in outputs)
    return first, second, third


def activation_forward(
    Z: ArrayLike, activation: str, out: Array | None = None, engine: str | None = None
) -> Array:
    """f(Z) for an array of any shape; softmax acts on its last axis. ``out`` may be Z."""
    module = _load(engine)
    _known("activation", activation, ACTIVATIONS)
    z = np.asarray(Z)
    dtype = _common_dtype((z,))
    target = _Output("out", out, z.shape, dtype, () if out is Z else (z,))
    if z.size:
        module.activation_forward(_rows(_plain(z, dtype)), activation, _rows(target.array))
    return target.result()


def activation_backward(
    Z: ArrayLike,
    output_delta: ArrayLike,
    activation: str,
    out: Array | None = None,
    engine: str | None = None,
) -> Array:
    """d loss / d Z from Z and d loss / d f(Z), of one shape; ``out`` may be ``output_delta``."""
    module = _load(engine)
    _known("activation", activation, ACTIVATIONS)
    z = np.asarray(Z)
    d = _shaped("output_delta", output_delta, z.shape)
    dtype = _common_dtype((z, d))
    target = _Output("out", out, z.shape, dtype, (z,) if out is output_delta else (z, d))
    if z.size:
        rows = (_rows(_plain(array, dtype)) for array in (z, d))
        module.activation_backward(*rows, activation, _rows(target.array))
    return target.result()


def loss_value_and_delta(
    output: ArrayLike,
    target: ArrayLike,
    loss: str,
    weight: ArrayLike | None = None,
    parameter: float = 0.0,
    out: Array | None = None,
    engine: str | None = None,
) -> tuple[float, Array]:
    """A loss and its derivative by the output.

    Parameters
    ----------
    output : array (n, outputs)
        For ``cross_entropy`` and ``binary_cross_entropy`` the logits.
    target : array (n, outputs), or integer labels (n,) for a loss that takes labels
    loss : str
        A name of ``fastnn.kernels.contract.LOSSES``.
    weight : array (n,), optional
    parameter : float
        huber's delta, quantile's q; see ``fastnn.kernels.contract.LossSpec``.
    out : array (n, outputs), optional

    Returns
    -------
    value : float
    delta : array (n, outputs)
        d value / d output.
    """
    module = _load(engine)
    _known("loss", loss, LOSSES)
    o = _shaped("output", output, (None, None))
    t = np.asarray(target)
    w = None if weight is None else _shaped("weight", weight, (o.shape[0],))
    labels = t.ndim == 1 and t.dtype.kind in "iu" and LOSSES[loss].takes_labels
    _shaped("target", t, o.shape[:1] if labels else o.shape)
    if labels and t.size and not (0 <= t.min() and t.max() < o.shape[1]):
        raise ValueError(f"labels must lie between 0 and {o.shape[1] - 1}")
    dtype = _common_dtype((o, w) if labels else (o, t, w))
    t = _plain(t, np.dtype(np.int64) if labels else dtype)
    delta = _Output("out", out, o.shape, dtype, (o, t, w))
    value = 0.0
    if o.size:
        o, w = _plain(o, dtype), _plain(w, dtype)
        value = module.loss_value_and_delta(o, t, w, loss, parameter, delta.array)
    return value, delta.result()


def optimizer_update(
    parameters: Array,
    gradient: ArrayLike,
    moments: tuple[Array, ...],
    optimizer: OptimizerSpec,
    rate: float,
    step: int,
    engine: str | None = None,
) -> None:
    """One optimizer update in place.

    Parameters
    ----------
    parameters, gradient : arrays (n,)
        The parameters change in place: float32 or float64, writeable, contiguous.
    moments : tuple of arrays (n,)
        ``optimizer.moments`` of them, zero before the first step; changed in place.
    optimizer : fastnn.kernels.contract.OptimizerSpec
        As ``fastnn.Adam(...).spec()`` returns it.
    rate, step : float, int
        The learning rate, and the number of this update, which counts from 1.
    """
    module = _load(engine)
    _known("optimizer", optimizer.name, OPTIMIZERS)
    named = [("parameters", parameters)] + [(f"moment {i}", m) for i, m in enumerate(moments)]
    for name, array in named:
        if not (isinstance(array, np.ndarray) and array.flags.carray and array.dtype.isnative):
            raise TypeError(f"{name} must be a writeable, contiguous array")
        if array.shape != parameters.shape or array.dtype != parameters.dtype or array.ndim != 1:
            raise ValueError(f"{name} must be 1-D, of the shape and dtype of the parameters")
    if len(moments) != optimizer.moments:
        raise ValueError(f"{optimizer.name} keeps {optimizer.moments} moments, got {len(moments)}")
    if step < 1:
        raise ValueError("step counts from 1")
    if parameters.dtype not in _DTYPES:
        raise TypeError(f"parameters must be float32 or float64, not {parameters.dtype}")
    g = _plain(_shaped("gradient", gradient, parameters.shape), parameters.dtype)
    if g.size:
        module.optimizer_update(parameters, g, tuple(moments), optimizer, rate, step)


def all_finite(values: ArrayLike, engine: str | None = None) -> bool:
    """Whether no element is NaN or infinite; any shape and strides, no copy of float arrays."""
    array = np.asarray(values)
    return bool(_load(engine).all_finite(array.astype(_common_dtype((array,)), copy=False)))
