"""The Numba engine: the Cython engine's step with kernels compiled for this very processor.

Memory, plan, passes, threads and signals are the Cython engine's; what they call by address
is installed here, before a network first needs it: the products, and of the activations,
losses and optimizers the rows that are asked for. A network is data, so no new one compiles
anything but these. Users' functions are the same in both engines (``users.py``).

    engine           this: which kernels are needed
    compile          machine code, on disk from then on
    tile             the products of matrices
    rows             loops around the formulas of kernels/formulas
    lane             the formulas as LLVM instructions
    capture, users, duals     users' functions
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    from ..cython import engine as cython
except ImportError as error:
    raise ImportError(f"it runs on the compiled extension: {error}") from error
from ..formulas.activations import ACTIVATIONS as _ACTIVATIONS
from ..formulas.losses import LOSSES as _LOSSES
from .compile import address, host


def _extension_fuses() -> bool:
    """Whether it, whatever its instruction set, rounds x · y + z once; then so do kernels here."""
    x, z = 1 + 2.0**-30, np.zeros((1, 5))
    cython.linear_forward(np.full((1, 1), x), np.full((1, 5), x), np.full(5, -x * x), "identity", z)
    return bool(z[0, 0])


_TARGET = host(_extension_fuses())

NAME = "numba"
ISA = f"{_TARGET.registers.bits}-bit vectors"
ACTIVATIONS, LOSSES = cython.ACTIVATIONS, cython.LOSSES
OPTIMIZERS, KINDS = cython.OPTIMIZERS, cython.KINDS

_kernels = cython.Kernels()
_installed: set[tuple[int, str, str | None]] = set()

_Kernels = tuple[tuple[str, str | None], ...]  # kinds and names, see compile.py
_PRODUCTS: _Kernels = (("multiply", None), ("gradient", None))


def _need(dtype: Any, kernels: _Kernels) -> None:
    """Install what is not there yet; what the extension will refuse is none of ours."""
    itemsize = np.dtype(dtype).itemsize
    for kind, name in kernels if itemsize in (4, 8) else ():
        if (itemsize, kind, name) not in _installed:
            _kernels.install(itemsize, kind, name, address(kind, name, itemsize, _TARGET))
            _installed.add((itemsize, kind, name))


def _of_activation(row: Any) -> _Kernels:
    """Those of a row; where there is none for the way back, slopes are kept."""
    if row not in _ACTIVATIONS:  # a user's, which has an address
        return ()
    return (("forward", row), ("backward", row))[: 1 + (_ACTIVATIONS[row][1] is not None)]


def _of_loss(row: Any) -> _Kernels:
    return (("elements", row),) if _LOSSES.get(row) else ()


class Network(cython.Network):
    """See ``kernels/contract.py``."""

    def __new__(cls, layers: tuple[Any, ...], dtype: Any) -> Network:
        """With the kernels that its layers need."""
        _need(dtype, _PRODUCTS)
        for layer in layers:
            _need(dtype, _of_activation(layer.activation))
        network = super().__new__(cls, layers, dtype, _kernels)
        network.dtype = np.dtype(dtype)
        return network

    def trainer(
        self,
        loss: Any,
        optimizer: Any,
        batch_size: int,
        seed: int,
        threads: int = 1,
        exactly: bool = True,
    ) -> Any:
        """Compile a plan."""
        rule = (("update", optimizer.name),) if optimizer else ()
        _need(self.dtype, _of_loss(loss.name) + rule)
        return super().trainer(loss, optimizer, batch_size, seed, threads, exactly)


# --------------------------------------------------------------------------- plain kernels


def _plain(name: str, needed: Callable[..., tuple[Any, _Kernels]]) -> Callable[..., Any]:
    """The contract's kernel, once what its arguments ask for is installed."""
    call = getattr(_kernels, name)

    @functools.wraps(call)
    def kernel(*arguments: Any, **keywords: Any) -> Any:
        array, kernels = needed(*arguments, **keywords)
        _need(array.dtype, kernels)
        return call(*arguments, **keywords)

    return kernel


def _linear(X, weight, bias, activation, out):
    return X, _PRODUCTS + _of_activation(activation)


def _loss(output, target, weight, loss, parameter, out):
    return output, _of_loss(loss)


def _update(parameters, gradient, moments, optimizer, rate, step):
    return parameters, (("update", optimizer.name),)


linear_forward = _plain("linear_forward", _linear)
linear_backward = _plain("linear_backward", lambda X, *_, **__: (X, _PRODUCTS))
activation_forward = _plain(
    "activation_forward", lambda Z, activation, out: (Z, _of_activation(activation))
)
activation_backward = _plain(
    "activation_backward", lambda Z, output_delta, activation, out: (Z, _of_activation(activation))
)
loss_value_and_delta = _plain("loss_value_and_delta", _loss)
optimizer_update = _plain("optimizer_update", _update)
all_finite = cython.all_finite
