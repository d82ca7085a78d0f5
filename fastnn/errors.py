"""How the package words its refusals, so that the same mistake reads the same everywhere.

A wrong value is a ValueError, a wrong type a TypeError, a missing extra an ImportError
that names the command which installs it. All are raised before any state changes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is not in ``known``, with the nearest one that is.

    Parameters
    ----------
    kind : str
        What is being named: "activation", "loss", …
    name : object
        What the caller gave.
    known : iterable of str
        The names that would have been right.

    Returns
    -------
    ValueError
        To be raised by the caller.
    """
    import difflib  # noqa: PLC0415 - only a mistake pays for it

    names = list(known)
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")


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
