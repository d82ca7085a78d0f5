"""How the package words its refusals of a name, so that a mistake reads the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def unknown_name(
    kind: str, name: object, known: Iterable[str], also: Mapping[str, str] | None = None
) -> ValueError:
    """The error for a name that is not in ``known``, with the nearest one that is.

    Parameters
    ----------
    kind : str
        What is being named: "activation", "loss", …
    name : object
        What the caller gave.
    known : iterable of str
        The names that would have been right.
    also : mapping of str to str, optional
        Others by which they are known elsewhere -> the one here.

    Returns
    -------
    ValueError
        To be raised by the caller.
    """
    import difflib  # noqa: PLC0415 - only a mistake pays for it

    names = list(known)
    meant = {each.lower(): here for each, here in (also or {}).items()}
    meant |= {each.lower(): each for each in names}
    near = difflib.get_close_matches(str(name).lower(), meant, n=1)
    hint = f": did you mean {meant[near[0]]!r}?" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")
