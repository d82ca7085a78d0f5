"""Dense neural networks on CPUs, trained at the speed of the hardware.

>>> from fastnn import Sequential, Dense
>>> model = Sequential([Dense(16, activation="relu"), Dense(1)], input_size=4)

Public names are loaded when they are first used (PEP 562), so that ``import fastnn``
costs little more than NumPy. Classes are those in ``__all__`` of the modules below.
"""
# ruff: noqa: F403

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import kernels as kernels
    from .custom import *
    from .estimators import *
    from .fit.callbacks import *
    from .kernels.loader import engines as engines
    from .layers import *
    from .losses import *
    from .model import *
    from .optimizers import *
    from .schedules import *

__version__ = "0.1.0"

_MODULES = ("layers", "losses", "optimizers", "schedules", "fit.callbacks", "model")

#: What is no class, or needs an extra (``from fastnn import *`` must work without).
_FUNCTIONS = {"activation": "custom", "loss": "custom", "load": "model"}
_FUNCTIONS |= {"engines": "kernels.loader"}
_EXTRAS = {"MLPClassifier": "estimators", "MLPRegressor": "estimators"}


def _module(name: str) -> Any:
    return importlib.import_module(f".{name}", __name__)


def __getattr__(name: str) -> Any:
    if name == "__all__":
        classes = (each for module in _MODULES for each in _module(module).__all__)
        return list(dict.fromkeys(["__version__", "kernels", *_FUNCTIONS, *classes]))
    if name == "kernels":
        return _module(name)
    homes: tuple[str, ...] = ()
    if name in _FUNCTIONS | _EXTRAS:
        homes = ((_FUNCTIONS | _EXTRAS)[name],)
    elif name[:1].isupper():  # imports within the package ask for other names
        homes = _MODULES
    for module in map(_module, homes):
        if name in module.__all__:
            globals()[name] = getattr(module, name)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*__getattr__("__all__"), *_EXTRAS))
