"""Every kernel of the Numba engine by name, and its way to LLVM's intermediate code.

``KERNELS[name]()`` gives the function and its C signature (``Kernel``). All of them return
nothing, raise nothing and run without the GIL, except ``enter``, which lets go of it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from numba import cfunc, types
from numba.core.errors import NumbaWarning

from . import layer as numba_layer
from . import losses as numba_losses
from . import plain as numba_plain
from . import random as numba_random
from . import rows as numba_rows
from . import step as numba_step
from .machine import OPTIONS
from .rows import Kernel

_SIGNATURES: dict[Any, dict[str, str]] = {
    numba_layer: {
        "multiply_panel": "PiPiPPi",
        "gradient_tile": "PPiiPiP",
        "forward_narrow": "PPPiPiii",
        "bias_gradient": "PiPP",
        "transpose_weight": "PPPii",
        "softmax_rows": "Piii",
        "softmax_backward": "PiPPiii",
    },
    numba_rows: {"multiply_slope": "PPPi"},
    numba_random: {"shuffle": "iiii", "apply_dropout": "PPidiiii"},
    numba_losses: {"elements_loss": "PPiiiidPi", "cross_entropy": "PPiiiidPi"},
    numba_step: {
        "enter": "iiiiiiiii",
        "serve": "iii",
        "run_together": "iii",
        "forward_pass": "Piiii",
        "backward_pass": "PiiiP",
        "is_sound": "Pi",
        "phase_rows": "PiiidiP",
        "update_tiles": "PiiiiiPii",
        "accumulate_tiles": "PiiiiidP",
        "run": "Pii",
        "predict": "Pi",
        "input_gradient": "Pi",
    },
    numba_plain: {
        "all_finite": "Pii",
        "gradient_plain": "PiiPiPPi",
        "loss_plain": "PPiPPii",
        "update_plain": "PPPPiii",
    },
}

KERNELS: dict[str, Callable[[], Kernel]] = {
    name: functools.partial(Kernel, getattr(module, name), signature)
    for module, rows in _SIGNATURES.items()
    for name, signature in rows.items()
}
for _name, (_, _slope) in numba_rows.ACTIVATIONS.items():
    KERNELS[f"forward {_name}"] = functools.partial(numba_rows.activation_kernel, _name)
    if _slope is not None:
        KERNELS[f"backward {_name}"] = functools.partial(numba_rows.backward_kernel, _name)
for _name, (_formula, _) in numba_rows.LOSSES.items():
    if _formula is not None:
        KERNELS[f"loss {_name}"] = functools.partial(numba_rows.loss_kernel, _name)
for _row in numba_rows.OPTIMIZERS:
    KERNELS["update {}/{}".format(*_row)] = functools.partial(numba_rows.optimizer_kernel, _row)


def lower(name: str, bits: int) -> tuple[str, str]:
    """The symbol of a kernel for a dtype, and the module that defines it, as LLVM text."""
    function, signature = KERNELS[name]()
    number = types.float32 if bits == 32 else types.float64
    letters = {
        "P": types.CPointer(number),
        "T": number,
        "i": types.int64,
        "d": types.float64,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaWarning)  # not every processor is known to it
        compiled = cfunc(types.void(*(letters[letter] for letter in signature)), **OPTIONS)(
            function
        )
    # Numba keeps its function apart from the C function around it; they shall be one, and
    # an attribute must stand in the place of this one: kernels raise nothing
    text = compiled.inspect_llvm().replace(" optnone ", " ")
    return compiled.native_name, text.replace(" noinline ", " nounwind ")
