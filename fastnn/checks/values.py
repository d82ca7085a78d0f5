"""Checks of single values (counts, rates, flags, names), worded alike everywhere.

Each takes the argument's name and value and returns the value as a plain Python object.
A bool is no number here: ``epochs=True`` is a mistake, not one epoch.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from numbers import Real
from typing import Any, ClassVar

from ..errors import unknown_name

Check = Callable[[str, Any], Any]
Checks = Mapping[str, Check]


def whole(name: str, value: Any, at_least: int = 1, at_most: int | None = None) -> int:
    """An integer within bounds, both included."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if number < at_least or (at_most is not None and number > at_most):
        upper = "" if at_most is None else f" and ≤ {at_most}"
        raise ValueError(f"{name} must be ≥ {at_least}{upper}, not {number}")
    return number


_RELATIONS = {
    "at_least": ("≥", operator.ge),
    "above": (">", operator.gt),
    "at_most": ("≤", operator.le),
    "below": ("<", operator.lt),
}


def real(name: str, value: Any, **bounds: float) -> float:
    """A finite number within ``at_least``, ``above``, ``at_most`` and ``below``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    within = all(_RELATIONS[key][1](number, bound) for key, bound in bounds.items())
    if not (math.isfinite(number) and within):
        limits = " and ".join(f"{_RELATIONS[key][0]} {bound:g}" for key, bound in bounds.items())
        raise ValueError(f"{name} must be finite{limits and ' and '}{limits}, not {number!r}")
    return number


def flag(name: str, value: Any) -> bool:
    """True or False, NumPy's included."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def choice(
    kind: str, name: Any, known: Iterable[str], also: Mapping[str, str] | None = None
) -> str:
    """One of the names in ``known``; ``also`` has others of them, for the error's hint."""
    known = tuple(known)
    if not isinstance(name, str):
        raise TypeError(f"{kind} must be a name such as {known[0]!r}, not {name!r}")
    if name not in known:
        raise unknown_name(kind, name, known, also)
    return name


def instance(kind: str, value: Any, types: type | tuple[type, ...], example: str) -> Any:
    """An object of one of ``types``; a class in the place of its instance is pointed out."""
    if isinstance(value, type):
        raise TypeError(f"{kind} is the class {value.__name__}: give an instance of it")
    if not isinstance(value, types):
        raise TypeError(f"{kind} must be {example}, not {value!r}")
    return value


def within(**bounds: float) -> Check:
    """The check for a number within ``bounds``, as ``real`` has them."""
    return lambda name, value: real(name, value, **bounds)


def optional(check: Check) -> Check:
    """The check, or None."""
    return lambda name, value: None if value is None else check(name, value)


class Checked:
    """Base of frozen dataclasses: ``CHECKS`` maps fields to what their values go through."""

    CHECKS: ClassVar[Checks] = {}

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            if item.name in self.CHECKS:
                value = self.CHECKS[item.name](item.name, getattr(self, item.name))
                object.__setattr__(self, item.name, value)
