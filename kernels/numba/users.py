"""From a plain Python function of one or two numbers to a C function on arrays.

    activation   void act(T *inout, T *slope, int64_t n)
    loss         void loss(const T *output, const T *target, T *value, T *derivative,
                           int64_t n, T parameter)

``act`` replaces z by f(z) and leaves f'(z) in ``slope`` unless that is NULL; ``derivative``
may be NULL too, ``parameter`` is not used. Numba compiles the user's function for dual
numbers (``duals.py``); the loop around it is written here as LLVM instructions, which
spares most of Numba's time and gives the loop the form that LLVM turns into vectors.

Elements go through it in chunks of ``CHUNK``, a short last chunk by way of a buffer of that
length: so there is one loop, without a scalar rest, and an element's result does not depend
on its place. Engines may call a kernel from any thread without the GIL; it allocates
nothing and raises nothing.
"""

from __future__ import annotations

import ctypes
import dataclasses
import dis
import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.compiler import Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from .capture import copied, reached_from
from .duals import Dual, DualType, packed, unpacked
from .lane import FLOATS, I1, I64, VOID, Lane, Pointer, call_named, opened, repeat

CHUNK = 64  # elements; a multiple of every vector's length

_NUMBERS = itertools.count()
_OPTIONS = {
    "error_model": "numpy",  # division by zero gives inf or NaN, without a branch
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

Function = Callable[..., Any]


@dataclasses.dataclass(eq=False)
class CompileError(ValueError):
    """Numba cannot compile a function for duals."""

    reason: str
    filename: str
    line: int  #: 0 if it is not known
    needs_derivative: bool = False  #: whether one that is given may be the way out


class Kernel:
    """A compiled C function and its address; the code lives as long as this object."""

    def __init__(self, library: Any, name: str, pointers: int) -> None:
        self._library, self.address = library, int(library.get_pointer_to_function(name))
        kinds = [ctypes.c_void_p] * pointers + [ctypes.c_int64]
        self._call = ctypes.CFUNCTYPE(None, *kinds)(self.address)

    def __call__(self, *arguments: int | None) -> None:
        """Call it with addresses, None for NULL, and the number of elements."""
        self._call(*arguments)  # the parameter of a loss is not used, so it need not be there


@global_compiler_lock
def kernel(function: Function, derivative: Function | None, itemsize: int, inputs: int) -> Kernel:
    """Of an activation (one input) or a loss (two), for floats of 4 or 8 bytes; or CompileError.

    The functions are plain ones of so many numbers. Without ``derivative``, which is that by
    the first of them, it comes from dual numbers.
    """
    bits = 8 * itemsize
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    name = f"fastnn_custom_{next(_NUMBERS)}"
    library = cpu_target.target_context.codegen().create_library(name)
    if derivative is None:
        kinds = [DualType(bits, True), *[DualType(bits, False)] * (inputs - 1)]
        pair = _compiled(function, kinds, library)
    else:
        value, slope = (_without_slope(f, bits, inputs, library) for f in (function, derivative))

        def pair(builder: Any, arguments: list[Any]) -> tuple[Any, Any]:
            return value(builder, arguments)[0], slope(builder, arguments)[0]

    module = library.create_ir_module(name)
    _write(module, name, FLOATS[bits], inputs, pair)
    library.add_ir_module(module)
    library.finalize()
    for outside in re.findall(r"^declare .*@\"?([\w.]+)", library.get_llvm_str(), re.MULTILINE):
        if outside.startswith(("Py", "_Py", "NRT_", "numba_")):
            reason, code = "it makes or uses objects, where only numbers can be", function.__code__
            raise CompileError(reason, code.co_filename, code.co_firstlineno)
    return Kernel(library, name, 2 * inputs)


def _without_slope(function: Function, bits: int, inputs: int, library: Any) -> Any:
    """Compiled for reals; where those lack a function, for Numba's floats and with its rules."""
    try:
        return _compiled(function, [DualType(bits, False)] * inputs, library)
    except CompileError:
        return _compiled(function, [DualType(bits, False).real] * inputs, library)


def _compiled(function: Function, kinds: list[Any], library: Any) -> Any:
    """The function compiled for ``kinds``: (builder, values) -> (value, slope or None)."""
    context, flags = cpu_target.target_context, Flags()
    for option, value in _OPTIONS.items():
        setattr(flags, option, value)
    others = list(inspect.signature(function).parameters.values())[len(kinds) :]
    defaults = [types.Omitted(parameter.default) for parameter in others]
    _refuse_raising(function)
    try:
        compiled = compile_extra(
            cpu_target.typing_context,
            context,
            copied(function, njit(**_OPTIONS)),
            (*kinds, *defaults),
            kinds[0],
            flags,
            {},
        )
    except Exception as error:  # mostly a NumbaError, yet not for all that Numba lacks
        raise _explained(error, function) from error
    library.add_linking_library(compiled.library)

    def call(builder: Any, arguments: list[Any]) -> tuple[Any, Any]:
        given = list(arguments)
        for k, kind in enumerate(kinds):
            if isinstance(kind, DualType):  # derivatives are by the first argument
                x = Lane(builder, given[k], kind.bits)
                given[k] = packed(context, builder, Dual(x, x.made(x.of(float(k == 0)))), kind)
        _, result = context.call_internal_no_propagate(
            builder, compiled.fndesc, compiled.signature, given + [None] * len(defaults)
        )
        if not isinstance(kinds[0], DualType):
            return result, None
        dual = unpacked(context, builder, kinds[0], result)
        return dual.value.value, dual.slope and dual.slope.value

    return call


def _refuse_raising(function: Function) -> None:
    """A kernel runs without the GIL, where nothing can be raised."""
    for reached in reached_from(function):
        for instruction in dis.get_instructions(reached):
            if instruction.opname == "RAISE_VARARGS":
                positions = instruction.positions
                raise CompileError(
                    "it raises an exception, where it can only return math.nan",
                    reached.__code__.co_filename,
                    (positions and positions.lineno) or 0,
                )


#: What Numba says, by pattern; what it means here; whether a given derivative can help.
_REASONS = (
    (r"exception_match", "it has try … except", False),
    (
        r"No implementation of function Function\(<?(?:(?:built-in function|class|ufunc) )?"
        r"'?([\w.]+)",
        "there is no rule for {}",
        True,
    ),
    (r"Unknown attribute '(\w+)' of type", "there is no {}", False),
    (r"[nN]ame '(\w+)' is not defined", "{} is not defined", False),
    (r"Untyped global name '(\w+)'", "{} is nothing that can be compiled", False),
    (r"Can't unify return type|from none to", "not every path returns a number", False),
    (r"Cannot unify|[cC]annot convert|No conversion", "a number is expected", False),
)


def _explained(error: Exception, function: Function) -> CompileError:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if "nopython" not in line]
    reason, can_help = next(filter(None, lines), "Numba gives no reason"), True
    for pattern, meaning, helps in _REASONS:
        found = re.search(pattern, text)
        if found:
            reason, can_help = meaning.format(*found.groups()), helps
            break
    location = getattr(error, "loc", None)
    if location is None or not location.line:
        return CompileError(reason, function.__code__.co_filename, 0, can_help)
    return CompileError(reason, location.filename, location.line, can_help)


# --------------------------------------------------------------------------- the loop


def _write(module: Any, name: str, number: Any, inputs: int, pair: Any) -> None:
    """The C function; an activation's value goes where its input was."""
    at = number.as_pointer()
    kinds = [*[at] * 2 * inputs, I64, *[number] * (inputs - 1)]
    function = ir.Function(module, ir.FunctionType(VOID, kinds), name)
    both, alone = (_chunk(module, f"{name}_{s}", at, inputs, pair, s) for s in (True, False))
    builder, arguments = opened(function)
    arrays, n = arguments[: 2 * inputs], arguments[2 * inputs]
    buffers = [array.made(builder.alloca(number, CHUNK)) for array in arrays]
    wants_slope = cgutils.is_not_null(builder, arrays[-1].value)

    def chunk(start: Lane) -> None:
        left, here = n - start, [array + start for array in arrays]
        is_short = (left < CHUNK).value

        def copy(to: Pointer, source: Pointer) -> None:
            values = [to.bytes(), source.bytes(), (left * (to.bits // 8)).value, I1(0)]
            call_named(builder, "llvm.memcpy.p0.p0.i64", VOID, values)

        with builder.if_then(is_short, likely=False):
            for k in range(inputs):
                copy(buffers[k], here[k])
        parts = [
            builder.select(is_short, buffer.value, array.value)
            for buffer, array in zip(buffers, here, strict=True)
        ]
        builder.call(builder.select(wants_slope, both, alone), parts)
        with builder.if_then(is_short, likely=False):
            copy(here[2 * inputs - 2], buffers[2 * inputs - 2])
            with builder.if_then(wants_slope):
                copy(here[-1], buffers[-1])

    repeat(0, n, CHUNK, chunk)
    builder.ret_void()


def _chunk(module: Any, name: str, at: Any, inputs: int, pair: Any, with_slope: bool) -> Any:
    """A function of CHUNK elements; its pointers never overlap."""
    function = ir.Function(module, ir.FunctionType(VOID, [at] * 2 * inputs), name)
    function.linkage = "internal"
    function.attributes.add("noinline")  # one copy, hence one order of rounding
    function.attributes.add("nounwind")
    # LLVM avoids 512-bit vectors by itself; ``add`` of llvmlite's set knows no such attribute
    set.add(function.attributes, '"prefer-vector-width"="512"')
    for argument in function.args:
        argument.add_attribute("noalias")
    builder, arrays = opened(function)

    def element(i: Lane) -> None:
        places = [(array + i).value for array in arrays]
        value, slope = pair(builder, [builder.load(place) for place in places[:inputs]])
        builder.store(value, places[2 * inputs - 2])
        if with_slope:
            builder.store(slope, places[-1])

    repeat(0, Lane(builder, I64(CHUNK)), 1, element)
    builder.ret_void()
    return function
