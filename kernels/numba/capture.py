"""Plain Python functions as values: what they are, apart from their address in memory.

A user's function may refer to numbers and other functions, as globals and as closure.
``copied`` gives a function that holds them as they are now; ``identity`` a key that is
equal for two functions just if their code and all they refer to are.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Hashable, Iterator
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

Function = Callable[..., Any]


def unwrapped(value: Any) -> Any:
    """The plain function within a custom activation or loss; anything else as it is."""
    if not callable(getattr(type(value), "address", None)):
        return value
    inner = getattr(value, "function", None)
    return inner if isinstance(inner, FunctionType) else value


def references(function: FunctionType) -> dict[str, Any]:
    """What the function's code reads of its module's globals, by name."""
    found: dict[str, Any] = {}
    pending: list[CodeType] = [function.__code__]
    while pending:
        code = pending.pop()
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        for instruction in dis.get_instructions(code):
            name = instruction.argval
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and name in function.__globals__:
                found[name] = unwrapped(function.__globals__[name])
    return found


def _cells(function: FunctionType) -> list[Any]:
    return [unwrapped(cell.cell_contents) for cell in function.__closure__ or ()]


def copied(function: Any, wrap: Function = lambda f: f, _above: tuple[Any, ...] = ()) -> Any:
    """A copy that holds what the function refers to; ``wrap`` acts on each plain function there.

    Raises
    ------
    RecursionError
        If it refers to itself.
    """
    if function.__code__ in _above:
        raise RecursionError(f"{function.__name__} calls itself")
    above = (*_above, function.__code__)

    def inside(value: Any) -> Any:
        return wrap(copied(value, wrap, above)) if isinstance(value, FunctionType) else value

    names = {name: inside(value) for name, value in references(function).items()}
    names |= {"__builtins__": function.__builtins__, "__name__": function.__module__}
    cells = tuple(CellType(inside(value)) for value in _cells(function)) or None
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__, copy.__doc__ = function.__qualname__, function.__doc__
    return copy


def reached_from(function: Any) -> Iterator[Any]:
    """The function and every plain function that it refers to."""
    yield function
    for value in (*references(function).values(), *_cells(function)):
        if isinstance(value, FunctionType):
            yield from reached_from(value)


def identity(function: Any) -> Hashable:
    """Equal for functions of equal code that refer to equal values."""
    return (
        function.__code__,
        tuple(map(_value_identity, function.__defaults__ or ())),
        tuple((n, _value_identity(v)) for n, v in (function.__kwdefaults__ or {}).items()),
        tuple(map(_value_identity, _cells(function))),
        tuple((name, _value_identity(value)) for name, value in references(function).items()),
    )


def _value_identity(value: Any) -> Hashable:
    if isinstance(value, FunctionType):
        return identity(value)
    if isinstance(value, (bool, int, float, str, np.generic)):
        return (type(value), repr(value))  # tells 1 from 1.0, 0.0 from -0.0; NaN is NaN
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, tuple):
        return tuple(map(_value_identity, value))
    if isinstance(value, ModuleType):
        return value.__name__
    return _Same(value)


class _Same:
    """Equal to itself alone; keeps its value, so that no other takes its address."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)
