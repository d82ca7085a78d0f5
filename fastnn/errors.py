"""How the package words its refusals, so that the same mistake reads the same everywhere.

A wrong value is a ValueError, a wrong type a TypeError, a missing extra an ImportError
that names the command which installs it. All are raised before any state changes.
"""

from __future__ import annotations

import importlib
from typing import Any

from .kernels.errors import unknown_name

__all__ = ["import_extra", "unknown_name"]


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """The module of that dotted name, which an extra of the distribution brings."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{purpose} needs {module.partition(".")[0]}: pip install "fastnn-kernels[{extra}]"'
        ) from error
