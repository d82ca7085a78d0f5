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

from .duals import DualType
from .functions import copied, reached_from

CHUNK = 64  # elements; a multiple of every vector's length

_INT64 = ir.IntType(64)
_NUMBERS = itertools.count()
_OPTIONS = {
    "error_model": "numpy",  # division by zero gives inf or NaN, without a branch
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

Function = Callable[..., Any]


class CompileError(ValueError):
    """Numba cannot compile a function for duals.

    Attributes
    ----------
    reason, filename : str
    line : int
        0 if it is not known.
    needs_derivative : bool
        Whether a function given as the derivative may be the way out.
    """

    def __init__(
        self, reason: str, filename: str, line: int, needs_derivative: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.filename, self.line = reason, filename, line
        self.needs_derivative = needs_derivative


class Kernel:
    """A compiled C function; its code lives as long as this object.

    Attributes
    ----------
    address : int
    """

    def __init__(self, library: Any, name: str, pointers: int) -> None:
        self._library = library
        self.address: int = library.get_pointer_to_function(name)
        kinds = [ctypes.c_void_p] * pointers + [ctypes.c_int64]
        self._call = ctypes.CFUNCTYPE(None, *kinds)(self.address)

    @property
    def assembly(self) -> str:
        """What the processor runs."""
        return str(self._library.get_asm_str())

    def __call__(self, *arguments: int | None) -> None:
        """Call it with addresses, None for NULL, and the number of elements."""
        self._call(*arguments)  # the parameter of a loss is not used, so it need not be there


def activation(function: Function, derivative: Function | None, itemsize: int) -> Kernel:
    """The kernel of an activation for elements of ``itemsize`` bytes.

    Parameters
    ----------
    function, derivative : functions of one number
        Without ``derivative`` it comes from dual numbers.
    itemsize : {4, 8}

    Raises
    ------
    CompileError
    """
    return _build(function, derivative, itemsize * 8, 1)


def loss(function: Function, derivative: Function | None, itemsize: int) -> Kernel:
    """The kernel of a loss; ``derivative`` is that by the output, the first argument."""
    return _build(function, derivative, itemsize * 8, 2)


@global_compiler_lock
def _build(function: Function, derivative: Function | None, bits: int, inputs: int) -> Kernel:
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    name = f"fastnn_custom_{next(_NUMBERS)}"
    library = cpu_target.target_context.codegen().create_library(name)
    if derivative is None:
        kinds = [DualType(bits, True), *[DualType(bits, False)] * (inputs - 1)]
        pair = _compiled(function, kinds, library)
    else:
        value = _without_slope(function, bits, inputs, library)
        slope = _without_slope(derivative, bits, inputs, library)

        def pair(builder: Any, arguments: list[Any]) -> tuple[Any, Any]:
            return value(builder, arguments)[0], slope(builder, arguments)[0]

    module = library.create_ir_module(name)
    _write(module, name, bits, inputs, pair)
    library.add_ir_module(module)
    library.finalize()
    for outside in re.findall(r"^declare .*@\"?([\w.]+)", library.get_llvm_str(), re.MULTILINE):
        if outside.startswith(("Py", "_Py", "NRT_", "numba_")):
            raise CompileError(
                "it makes or uses objects, where only numbers can be",
                function.__code__.co_filename,
                function.__code__.co_firstlineno,
            )
    return Kernel(library, name, 2 * inputs)


def _without_slope(function: Function, bits: int, inputs: int, library: Any) -> Any:
    """Compiled for reals; where those lack a function, for Numba's floats and with its rules."""
    try:
        return _compiled(function, [DualType(bits, False)] * inputs, library)
    except CompileError:
        kind = types.float32 if bits == 32 else types.float64
        return _compiled(function, [kind] * inputs, library)


def _compiled(function: Function, kinds: list[Any], library: Any) -> Any:
    """The function compiled for ``kinds``: (builder, values) -> (value, slope or None)."""
    context = cpu_target.target_context
    flags = Flags()
    for option, value in _OPTIONS.items():
        setattr(flags, option, value)
    defaults = [
        types.Omitted(parameter.default)
        for parameter in list(inspect.signature(function).parameters.values())[len(kinds) :]
    ]
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
        given = [
            _wrapped(context, builder, kind, argument, 0.0 if k else 1.0)
            for k, (kind, argument) in enumerate(zip(kinds, arguments, strict=True))
        ]
        given += [None] * len(defaults)
        _, result = context.call_internal_no_propagate(
            builder, compiled.fndesc, compiled.signature, given
        )
        if not isinstance(kinds[0], DualType):
            return result, None
        struct = cgutils.create_struct_proxy(kinds[0])(context, builder, result)
        return struct.value, struct.slope if kinds[0].varies else None

    return call


def _wrapped(context: Any, builder: Any, kind: Any, value: Any, slope: float) -> Any:
    if not isinstance(kind, DualType):
        return value
    struct = cgutils.create_struct_proxy(kind)(context, builder)
    struct.value = value
    if kind.varies:
        struct.slope = ir.Constant(value.type, slope)
    return struct._getvalue()


def _refuse_raising(function: Function) -> None:
    """A kernel runs without the GIL, where nothing can be raised."""
    for reached in reached_from(function):
        for instruction in dis.get_instructions(reached):
            if instruction.opname == "RAISE_VARARGS":
                code, positions = reached.__code__, instruction.positions
                line = positions.lineno if positions and positions.lineno else 0
                raise CompileError(
                    "it raises an exception, where it can only return math.nan",
                    code.co_filename,
                    line,
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


def _write(module: Any, name: str, bits: int, inputs: int, pair: Any) -> None:
    """The C function; an activation's value goes where its input was."""
    real = ir.FloatType() if bits == 32 else ir.DoubleType()
    arrays = 2 * inputs  # (inout, slope) or (output, target, value, derivative)
    outputs = [0] if inputs == 1 else [2]
    parameter = [] if inputs == 1 else [real]
    arguments = [*[real.as_pointer()] * arrays, _INT64, *parameter]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    _set_attributes(function)
    both, value_only = (
        _chunk(module, f"{name}_{bool(slope)}", real, inputs, arrays, pair, slope)
        for slope in (True, False)
    )

    builder = ir.IRBuilder(function.append_basic_block("entry"))
    pointers, n = function.args[:arrays], function.args[arrays]
    length = ir.Constant(_INT64, CHUNK)
    buffers = [cgutils.alloca_once(builder, real, length) for _ in pointers]
    wants_slope = cgutils.is_not_null(builder, pointers[-1])
    with cgutils.for_range_slice(
        builder, ir.Constant(_INT64, 0), n, length, intp=_INT64, inc=True
    ) as (start, _):
        left = builder.sub(n, start)
        is_short = builder.icmp_signed("<", left, length)
        here = [builder.gep(pointer, [start]) for pointer in pointers]
        with builder.if_then(is_short, likely=False):
            for k in range(inputs):
                _copy(builder, here[k], buffers[k], left)
        parts = [builder.select(is_short, *pair) for pair in zip(buffers, here, strict=True)]
        with builder.if_else(wants_slope) as (then, otherwise):
            with then:
                builder.call(both, parts)
            with otherwise:
                builder.call(value_only, parts)
        with builder.if_then(is_short, likely=False):
            for k in outputs:
                _copy(builder, buffers[k], here[k], left)
            with builder.if_then(wants_slope):
                _copy(builder, buffers[-1], here[-1], left)
    builder.ret_void()


def _chunk(
    module: Any, name: str, real: Any, inputs: int, arrays: int, pair: Any, with_slope: bool
) -> Any:
    """A function of CHUNK elements; its pointers never overlap."""
    kind = ir.FunctionType(ir.VoidType(), [real.as_pointer()] * arrays)
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")  # one copy, hence one order of rounding
    _set_attributes(function)
    for argument in function.args:
        argument.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    with cgutils.for_range(builder, ir.Constant(_INT64, CHUNK), intp=_INT64) as loop:
        at = [builder.gep(pointer, [loop.index]) for pointer in function.args]
        value, slope = pair(builder, [builder.load(pointer) for pointer in at[:inputs]])
        builder.store(value, at[0 if inputs == 1 else 2])
        if with_slope:
            builder.store(slope, at[-1])
    builder.ret_void()
    return function


def _set_attributes(function: Any) -> None:
    function.attributes.add("nounwind")
    # LLVM avoids 512-bit vectors by itself; ``add`` of llvmlite's set knows no such attribute.
    set.add(function.attributes, '"prefer-vector-width"="512"')


def _copy(builder: Any, source: Any, target: Any, count: Any) -> None:
    with cgutils.for_range(builder, count, intp=_INT64) as loop:
        number = builder.load(builder.gep(source, [loop.index]))
        builder.store(number, builder.gep(target, [loop.index]))
