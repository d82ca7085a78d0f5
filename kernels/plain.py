"""Checks and allocation around the engines' kernels: what ``fastnn.kernels`` exports.

An engine's kernel takes plain arrays (native, aligned, C-contiguous, one dtype) and an
output that overlaps no input; here everything else is brought into that form, and what
cannot be is refused before anything is written.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

_ENGINES = ("cython", "numba", "numpy")
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


@functools.cache
def _load(name: str | None) -> ModuleType:
    """The engine of that name; None: the first that can be imported."""
    if name is not None and name not in _ENGINES:
        raise ValueError(f"unknown engine {name!r}; known: {', '.join(_ENGINES)}")
    for candidate in _ENGINES if name is None else (name,):
        try:
            return importlib.import_module(f"{__package__}.{candidate}.engine")
        except ImportError as error:
            if name is not None or "FASTNN_ISA" in str(error):
                raise
    raise ImportError("no engine can be imported")  # pragma: no cover - numpy always can


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


def _plain(array: Array, dtype: np.dtype[Any]) -> Array:
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.aligned:
        return array
    return np.require(array, dtype, ["C", "A"])


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
        if given is not None:
            if not isinstance(given, np.ndarray):
                raise TypeError(f"{name} must be an array, not {type(given).__name__}")
            if given.shape != shape or given.dtype != dtype:
                raise ValueError(
                    f"{name} must be {dtype} of shape {shape}, not {given.dtype} of {given.shape}"
                )
            if not given.flags.writeable:
                raise ValueError(f"{name} is read-only")
        usable = (
            given is not None
            and given.flags.carray
            and given.dtype.isnative
            and not any(x is not None and np.may_share_memory(given, x) for x in inputs)
        )
        self.array: Array = given if given is not None and usable else np.empty(shape, dtype)

    def result(self) -> Array:
        if self.given is None or self.given is self.array:
            return self.array
        self.given[...] = self.array
        return self.given


def _known(kind: str, name: str, table: Sequence[str]) -> None:
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(table)}")


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
    X : array (n, inputs)
    weight : array (inputs, outputs)
    bias : array (outputs,), optional
    activation : str
        A name of ``fastnn.engines.ACTIVATIONS``; softmax acts on rows.
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
    _known("activation", activation, module.ACTIVATIONS)
    x = _shaped("X", X, (None, None))
    w = _shaped("weight", weight, (x.shape[1], None))
    b = None if bias is None else _shaped("bias", bias, (w.shape[1],))
    dtype = _common_dtype((x, w, b))
    target = _Output("out", out, (x.shape[0], w.shape[1]), dtype, (x, w, b))
    module.linear_forward(
        _plain(x, dtype),
        _plain(w, dtype),
        None if b is None else _plain(b, dtype),
        activation,
        target.array,
    )
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
    X : array (n, inputs)
    weight : array (inputs, outputs)
    delta : array (n, outputs)
        d loss / d (X W + b).
    input_delta, weight_gradient, bias_gradient : arrays, optional
        Outputs to fill, of the shapes below.

    Returns
    -------
    input_delta : array (n, inputs)
        delta Wᵀ.
    weight_gradient : array (inputs, outputs)
        Xᵀ delta.
    bias_gradient : array (outputs,)
        The sum of delta over rows.
    """
    module = _load(engine)
    x = _shaped("X", X, (None, None))
    w = _shaped("weight", weight, (x.shape[1], None))
    d = _shaped("delta", delta, (x.shape[0], w.shape[1]))
    dtype = _common_dtype((x, w, d))
    inputs = (x, w, d)
    outputs = (
        _Output("input_delta", input_delta, x.shape, dtype, inputs),
        _Output("weight_gradient", weight_gradient, w.shape, dtype, inputs),
        _Output("bias_gradient", bias_gradient, (w.shape[1],), dtype, inputs),
    )
    arrays = (_plain(array, dtype) for array in inputs)
    module.linear_backward(*arrays, *(output.array for output in outputs))
    first, second, third = (output.result() for output in outputs)
    return first, second, third


def activation_forward(
    Z: ArrayLike, activation: str, out: Array | None = None, engine: str | None = None
) -> Array:
    """f(Z) for an array of any shape; softmax acts on its last axis. ``out`` may be Z."""
    module = _load(engine)
    _known("activation", activation, module.ACTIVATIONS)
    z = np.asarray(Z)
    dtype = _common_dtype((z,))
    target = _Output("out", out, z.shape, dtype, () if out is Z else (z,))
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
    _known("activation", activation, module.ACTIVATIONS)
    z = np.asarray(Z)
    d = _shaped("output_delta", output_delta, z.shape)
    dtype = _common_dtype((z, d))
    target = _Output("out", out, z.shape, dtype, (z,) if out is output_delta else (z, d))
    module.activation_backward(
        _rows(_plain(z, dtype)), _rows(_plain(d, dtype)), activation, _rows(target.array)
    )
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
    """A loss and its derivative with respect to the output.

    Parameters
    ----------
    output : array (n, outputs)
        For ``cross_entropy`` and ``binary_cross_entropy`` the logits.
    target : array (n, outputs), or integer labels (n,) for the cross-entropies
    loss : str
        A name of ``fastnn.engines.LOSSES``.
    weight : array (n,), optional
        Sample weights.
    parameter : float
        huber's delta, quantile's q.
    out : array (n, outputs), optional

    Returns
    -------
    value : float
    delta : array (n, outputs)
        d value / d output.
    """
    module = _load(engine)
    _known("loss", loss, module.LOSSES)
    o = _shaped("output", output, (None, None))
    t = np.asarray(target)
    w = None if weight is None else _shaped("weight", weight, (o.shape[0],))
    if t.ndim == 1 and t.dtype.kind in "iu" and loss.startswith("cross_entropy"):
        _shaped("target", t, (o.shape[0],))
        if t.size and not (0 <= t.min() and t.max() < o.shape[1]):
            raise ValueError(f"labels must lie between 0 and {o.shape[1] - 1}")
        dtype = _common_dtype((o, w))
        t = _plain(t, np.dtype(np.int64))
    else:
        _shaped("target", t, o.shape)
        dtype = _common_dtype((o, t, w))
        t = _plain(t, dtype)
    delta = _Output("out", out, o.shape, dtype, (o, t, w))
    value = module.loss_value_and_delta(
        _plain(o, dtype), t, None if w is None else _plain(w, dtype), loss, parameter, delta.array
    )
    return value, delta.result()


def optimizer_update(
    parameters: Array,
    gradient: ArrayLike,
    moments: tuple[Array, ...],
    optimizer: Any,
    rate: float,
    step: int,
    engine: str | None = None,
) -> None:
    """One optimizer update in place.

    Parameters
    ----------
    parameters : array (n,)
        Changed in place: float32 or float64, writeable, contiguous.
    gradient : array (n,)
    moments : tuple of arrays (n,)
        ``optimizer.moments`` of them, zero before the first step; changed in place.
    optimizer : fastnn.engines.OptimizerSpec
        As ``fastnn.Adam(...).spec()`` returns it.
    rate : float
        The learning rate.
    step : int
        Counts from 1.
    """
    module = _load(engine)
    _known("optimizer", optimizer.name, module.OPTIMIZERS)
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
    dtype = _common_dtype((parameters,))
    if dtype != parameters.dtype:
        raise TypeError(f"parameters must be float32 or float64, not {parameters.dtype}")
    g = _plain(_shaped("gradient", gradient, parameters.shape), dtype)
    module.optimizer_update(parameters, g, tuple(moments), optimizer, rate, step)


def all_finite(values: ArrayLike, engine: str | None = None) -> bool:
    """Whether no element is NaN or infinite; any shape and strides, no copy of float arrays."""
    array = np.asarray(values)
    dtype = _common_dtype((array,))
    if array.dtype != dtype:
        array = _plain(array, dtype)
    return bool(_load(engine).all_finite(array))
