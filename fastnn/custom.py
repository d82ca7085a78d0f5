"""Activations and losses that users write as plain Python functions of single numbers.

``fastnn.activation`` and ``fastnn.loss`` turn a function into an object that stands where
the name of a built-in one would. Numba compiles it, with its derivative by dual numbers,
into a function on arrays, which the compiled engines call within their epochs; the NumPy
engine calls the Python function itself.

An object is checked when it is made: the function compiles, its compiled value is
Python's, and its derivative agrees with central differences. What the function refers to
(globals, closure) is read then, once. Objects are equal if their functions' code and all
that it refers to are, and equal objects share what was compiled.
"""

from __future__ import annotations

import importlib
import inspect
import linecache
import math
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from types import FunctionType
from typing import Any, ClassVar, Self
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from .errors import import_extra
from .kernels.numba import capture

__all__ = ["activation", "loss"]

Array = NDArray[Any]
Function = Callable[..., float]

#: Where derivatives are checked: numbers that nobody chooses as a threshold.
_POINTS = (
    *(-5.2137, -2.6719, -1.8843, -1.1371, -0.6271, -0.2713, -0.0417),
    *(0.0371, 0.3119, 0.7151, 1.3171, 1.7237, 2.3173, 4.1193, 6.6937),
)
_TARGETS = (-1.2931, 0.0, 0.4127, 1.0, 2.1391)

#: What Python raises where a compiled function gives NaN or inf.
_FAULTS = (ArithmeticError, ValueError, TypeError)

#: (type, identity, itemsize) -> the kernel that objects of that identity share
_KERNELS: WeakValueDictionary[Any, Any] = WeakValueDictionary()


class _Custom:
    """What activations and losses have in common; see ``kernels.contract.CustomFunction``.

    ``function`` is as it was given, and calling the object calls it; ``derivative`` is by the
    first argument, None if by dual numbers; ``name`` is for errors, tables and model files.
    """

    KIND: ClassVar[str]
    ARGUMENTS: ClassVar[tuple[str, ...]]
    POINTS: ClassVar[tuple[tuple[float, ...], ...]]  # where it is checked

    def __init__(
        self, function: Function, derivative: Function | None = None, name: str | None = None
    ) -> None:
        call = f"fastnn.{self.KIND}"
        function, derivative = capture.unwrapped(function), capture.unwrapped(derivative)
        _check_signature(call, function, self.ARGUMENTS)
        if derivative is not None:
            _check_signature(f"the derivative of {call}", derivative, self.ARGUMENTS)
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"name must be a string, not {name!r}")
        self.function, self.derivative = function, derivative
        self.name: str = name or function.__name__
        self.__module__, self.__qualname__ = function.__module__, function.__qualname__
        self.__doc__, self.__wrapped__ = function.__doc__, function
        given = (function, derivative)
        try:
            self._value, self._slope = (f and capture.copied(f) for f in given)
        except RecursionError as error:
            raise ValueError(f"the {self.KIND} {self.name!r} cannot be compiled: {error}") from None
        self._identity = (type(self), *(f and capture.identity(f) for f in given))
        self._kernels: dict[int, Any] = {}
        self._check()

    # ------------------------------------------------------------------ for engines

    def address(self, itemsize: int) -> int:
        """The compiled function on arrays of 4- or 8-byte floats; valid while this object lives.

        ImportError without Numba, ValueError if it cannot be compiled: it says where.
        """
        return int(self._kernel(itemsize).address)

    def value(self, *arrays: Array) -> Array:
        """The Python function of each element, in the dtype of the arrays.

        Where Python raises (log of 0, overflow), what the compiled function gives.
        """
        return self._elements(self._value, arrays, 0)

    def slope(self, *arrays: Array) -> Array:
        """The derivative by the first argument, of each element: the given one, or the compiled."""
        if self._slope is None:
            return self._compiled(arrays)[1]
        return self._elements(self._slope, arrays, 1)

    def _elements(self, function: Function, arrays: tuple[Array, ...], index: int) -> Array:
        rows = zip(*(array.ravel().tolist() for array in arrays), strict=True)
        faults: list[int] = []
        numbers = np.empty(arrays[0].size)
        with np.errstate(all="ignore"):
            for k, row in enumerate(rows):
                try:
                    numbers[k] = function(*row)
                except _FAULTS:
                    faults.append(k)
            result = numbers.astype(arrays[0].dtype).reshape(arrays[0].shape)
        if faults:
            result.flat[faults] = self._compiled(arrays)[index].flat[faults]
        return result

    def _compiled(self, arrays: tuple[Array, ...]) -> tuple[Array, Array]:
        """Value and slope of each element from the kernel."""
        kernel = self._kernel(arrays[0].dtype.itemsize)
        plain = [np.array(array, order="C") for array in arrays]
        value = plain[0] if len(plain) == 1 else np.empty_like(plain[0])
        slope = np.empty_like(plain[0])
        outputs = [slope] if len(plain) == 1 else [value, slope]
        kernel(*(array.ctypes.data for array in (*plain, *outputs)), value.size)
        return value, slope

    def _kernel(self, itemsize: int) -> Any:
        if itemsize not in self._kernels:
            key = (*self._identity, itemsize)
            kernel = _KERNELS.get(key)
            self._kernels[itemsize] = _KERNELS[key] = kernel or self._build(itemsize)
        return self._kernels[itemsize]

    def _build(self, itemsize: int) -> Any:
        import_extra("numba", "numba", f"the {self.KIND} {self.name!r}")
        users = importlib.import_module(".kernels.numba.users", __package__)
        try:
            return users.kernel(self._value, self._slope, itemsize, len(self.ARGUMENTS))
        except users.CompileError as error:
            where = ""
            if error.line:
                source = linecache.getline(error.filename, error.line).strip()
                where = f" (line {error.line}: {source or 'source not at hand'})"
            way_out = "write it with numbers, math and plain functions"
            if self.derivative is None and error.needs_derivative:
                call = f"fastnn.{self.KIND}({self.function.__name__}, derivative=g)"
                way_out = f"give the derivative, {call}"
            what = f"the {self.KIND} {self.name!r} cannot be compiled"
            raise ValueError(f"{what}: {error.reason}{where}; {way_out}") from error

    # ------------------------------------------------------------------ checks

    def _check(self) -> None:
        """Compile in float64 and compare value and derivative at sample points."""
        columns = tuple(np.array(column) for column in zip(*self.POINTS, strict=True))
        try:
            self._kernel(8)
        except ImportError:
            if self._slope is None:
                raise
            slopes = self.slope(*columns)  # enough for the NumPy engine
        else:
            values, slopes = self._compiled(columns)
            for point, value in zip(self.POINTS, values, strict=True):
                expected = _number(self._value, point)
                is_close = math.isclose(expected, value, rel_tol=1e-9, abs_tol=1e-9)
                if math.isfinite(expected) and not is_close:
                    raise ValueError(
                        f"the {self.KIND} {self.name!r} is {value:.9g} when compiled and "
                        f"{expected:.9g} in Python at {self._at(point)}"
                    )
        for point, slope in zip(self.POINTS, slopes, strict=True):
            difference = _central_difference(self._value, point)
            if difference is None or abs(slope - difference) <= 1e-4 * max(1, abs(difference)):
                continue
            given = "given" if self.derivative is not None else "compiled"
            raise ValueError(
                f"the derivative {given} for the {self.KIND} {self.name!r} is wrong: at "
                f"{self._at(point)} it is {slope:.6g}, central differences give {difference:.6g}"
            )

    def _at(self, point: tuple[float, ...]) -> str:
        return ", ".join(f"{n} = {x:g}" for n, x in zip(self.ARGUMENTS, point, strict=True))

    # ------------------------------------------------------------------ as a value

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Custom):
            return NotImplemented
        return self._identity == other._identity and self.name == other.name

    def __hash__(self) -> int:
        return hash(self._identity)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<fastnn.{self.KIND} {self.name}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> Any:
        """By name where a module's name leads here, as for a decorated function; else by its parts.

        What stands in ``__main__`` goes by its parts, which cloudpickle takes by value, since
        a worker's ``__main__`` is another. Plain pickle finds the function within this object.
        """
        found: Any = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is self and self.__module__ != "__main__":
            return self.__qualname__
        if found is self:
            self.function.__qualname__ = f"{self.__qualname__}.function"
        return type(self), (self.function, self.derivative, self.name)


class CustomActivation(_Custom):
    """An activation, made by ``fastnn.activation``."""

    KIND = "activation"
    ARGUMENTS = ("x",)
    POINTS = tuple(product(_POINTS))


class CustomLoss(_Custom):
    """A loss, made by ``fastnn.loss``."""

    KIND = "loss"
    ARGUMENTS = ("output", "target")
    POINTS = tuple(product(_POINTS, _TARGETS))


def activation(function: Any = None, *, derivative: Any = None, name: Any = None) -> Any:
    """An activation from a plain Python function of one number; also a decorator.

    Parameters
    ----------
    function : function
        f(x), of a float: arithmetic, comparisons, ``if``, loops, ``abs``, ``min``, ``max``,
        ``x**k``, ``math`` and NumPy's functions of single numbers, other plain functions,
        numbers from around it.
    derivative : function, optional
        f′(x). Without it the derivative follows by dual numbers.
    name : str, optional
        What model files call it; the function's name if not given.

    Returns
    -------
    CustomActivation
        For ``Dense(…, activation=…)``; callable as the function.

    Raises
    ------
    ValueError, TypeError
        It cannot be compiled or differentiated, the derivative is wrong, or the arguments are.
    ImportError
        Without Numba; the NumPy engine does without it if ``derivative`` is given.

    Examples
    --------
    >>> @activation
    ... def square_plus(x):
    ...     return (x + (x * x + 4) ** 0.5) / 2
    >>> square_plus(0.0)
    1.0
    """
    if function is None:
        return partial(CustomActivation, derivative=derivative, name=name)
    return CustomActivation(function, derivative, name)


def loss(function: Any = None, *, derivative: Any = None, name: Any = None) -> Any:
    """A loss from a plain Python function of an output and its target; also a decorator.

    The loss of a network is the mean of the function over rows and outputs, weighted by
    the sample weights.

    Parameters
    ----------
    function, derivative : function
        ℓ(output, target) and ∂ℓ/∂output, of floats; all else as in ``activation``.

    Returns
    -------
    CustomLoss
        For ``fit(…, loss=…)`` and wherever else a loss is named.

    Examples
    --------
    >>> @loss
    ... def fourth_power(output, target):
    ...     return (output - target) ** 4
    >>> fourth_power(3.0, 1.0)
    16.0
    """
    if function is None:
        return partial(CustomLoss, derivative=derivative, name=name)
    return CustomLoss(function, derivative, name)


# --------------------------------------------------------------------------- helpers


def _check_signature(call: str, function: Any, arguments: tuple[str, ...]) -> None:
    wanted = f"{call} takes a plain Python function of ({', '.join(arguments)})"
    if not isinstance(function, FunctionType):
        raise TypeError(f"{wanted}, not {function!r}")
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        raise TypeError(f"{wanted}, not {function.__name__}{inspect.signature(function)}") from None


def _number(function: Function, point: tuple[float, ...]) -> float:
    """The value in Python; NaN where it raises."""
    try:
        with np.errstate(all="ignore"):
            return float(function(*point))
    except _FAULTS:
        return math.nan


def _central_difference(function: Function, point: tuple[float, ...]) -> float | None:
    """The derivative by the first argument; None where it cannot be told, as near a kink."""
    x, rest = point[0], point[1:]
    h = 2.0**-13 * max(1.0, abs(x))
    at = {k: _number(function, (x + k * h, *rest)) for k in (-2, -1, 0, 1, 2)}
    if not all(map(math.isfinite, at.values())):
        return None
    wide, narrow = (at[2] - at[-2]) / (4 * h), (at[1] - at[-1]) / (2 * h)
    scale = max(1.0, abs(narrow))
    bend = abs(at[1] - 2 * at[0] + at[-1]) / h  # the slope's change within h
    noise = 1e-13 * max(map(abs, at.values())) / h
    if bend > 1e-2 * scale or abs(wide - narrow) > 1e-5 * scale or noise > 1e-5 * scale:
        return None
    return (4 * narrow - wide) / 3  # Richardson's extrapolation
