"""Which engine: the one that is named, or the best that can be imported."""

from __future__ import annotations

import contextlib
import importlib
import os
from types import ModuleType
from typing import Any

from .errors import unknown_name

__all__ = ["engines", "load"]

#: In the order of preference: name -> (module, what to do when it is missing).
_MODULES = {
    "cython": ("fastnn.kernels.cython.engine", "pip install fastnn-kernels"),
    "numba": ("fastnn.kernels.numba.engine", 'pip install "fastnn-kernels[numba]"'),
    "numpy": ("fastnn.kernels.numpy.engine", "pip install numpy"),
}


def load(name: str = "auto") -> ModuleType:
    """The engine called ``name``; "auto" takes the first that can be imported.

    The environment variable FASTNN_ENGINE replaces "auto". A named engine is never
    replaced by another: ImportError says why it is missing and how to get it.
    """
    if name == "auto":
        name = os.environ.get("FASTNN_ENGINE") or "auto"
    if name == "auto":
        for candidate in _MODULES:
            try:
                return load(candidate)
            except ImportError as error:
                if "FASTNN_ISA" in str(error):
                    raise
        raise ImportError("no engine can be imported")  # pragma: no cover - numpy always can
    if name not in _MODULES:
        raise unknown_name("engine", name, ("auto", *_MODULES))
    module, remedy = _MODULES[name]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"engine {name!r} is not available: {error} ({remedy})") from error


def engines() -> dict[str, dict[str, Any]]:
    """What is available: for each engine its state, and which one "auto" takes.

    Returns
    -------
    dict
        name -> ``{"available": bool, "default": bool, "isa": str or None,
        "reason": str or None}``; ``reason`` says why it is not available.
    """
    table: dict[str, dict[str, Any]] = {}
    for name in _MODULES:
        try:
            isa, reason = load(name).ISA, None
        except ImportError as error:
            isa, reason = None, str(error)
        table[name] = {
            "available": reason is None,
            "default": False,
            "isa": isa,
            "reason": reason,
        }
    # without a default if FASTNN_ENGINE or FASTNN_ISA asks for what is not there
    with contextlib.suppress(ImportError, ValueError):
        table[load("auto").NAME]["default"] = True
    return table
