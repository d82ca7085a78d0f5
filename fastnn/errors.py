"""How the package words its refusals, so that the same mistake reads the same everywhere.

A wrong value is a ValueError, a wrong type a TypeError, a missing extra an ImportError
that names the command which installs it. All are raised before any state changes.
"""

from __future__ import annotations

import importlib
from typing import Any

from .kernels.errors import unknown_name as unknown_name


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import ``module``, or say which extra of the distribution brings it.

    Parameters
    ----------
    module : str
        Dotted name of a module that is not a run-time dependency.
    extra : str
        The extra that installs it.
    purpose : str
        What needs it, for the message.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        Naming the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{purpose} needs {module.partition(".")[0]}: pip install "fastnn-kernels[{extra}]"'
        ) from error
