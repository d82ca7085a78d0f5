"""How the package words its refusals of a name, so that the same mistake reads the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable


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
