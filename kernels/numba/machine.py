"""What a compiled loop needs besides arithmetic: addresses, records, calls, threads, signals.

Everything lies in memory that Python owns and is named by its address, an int64. Records
are NumPy's structured dtypes. A kernel is called by its address too: that is why networks
of any shape need no compilation, and why a function of the user's is a kernel like others.

``emitted`` teaches Numba a function by the LLVM instructions that it stands for.
"""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, compiler, types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}
# Numba need not optimise: numba_compile.py does it once for each whole kernel. This saves
# half of the first fit's time, where this Numba has the switch.
if hasattr(compiler.Flags, "dbg_optnone"):
    OPTIONS["_dbg_optnone"] = True

#: A helper that becomes part of the kernels which call it, see ``numba_compile.optimised``.
inlined = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)

I32, I64 = ir.IntType(32), ir.IntType(64)
X86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "i386")
ARM = platform.machine().lower() in ("arm64", "aarch64")


def _as_they_are(*kinds: Any) -> tuple[Any, ...]:
    """Arguments of their own types; whatever counts or is an address, as int64."""
    return tuple(
        types.int64 if isinstance(kind, types.Integer) and kind.signed else kind for kind in kinds
    )


def emitted(result: Any, arguments: Callable[..., tuple[Any, ...]] = _as_they_are) -> Any:
    """Make ``emit(builder, *values)``, which writes instructions, a function for Numba.

    Parameters
    ----------
    result : Numba type, or function of the arguments' types
    arguments : function of the arguments' types
        The types that they are converted to.
    """

    def decorate(emit: Callable[..., Any]) -> Any:
        def typed(typing_context: Any, *kinds: Any) -> Any:
            def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                value = emit(builder, *args)
                return context.get_dummy_value() if value is None else value

            kind = result if isinstance(result, types.Type) else result(*kinds)
            return kind(*arguments(*kinds)), code

        names = list(inspect.signature(emit).parameters.values())
        context = names[0].replace(name="typing_context")
        typed.__signature__ = inspect.Signature([context, *names[1:]])  # type: ignore[attr-defined]
        typed.__name__ = emit.__name__
        return intrinsic(typed)

    return decorate


def first_kind(kind: Any, *_: Any) -> Any:
    """What ``emitted`` returns: the type of its first argument."""
    return kind


# --------------------------------------------------------------------------- addresses


@emitted(first_kind)
def pointer(builder, like, address):
    """The address as a pointer to what ``like`` points to."""
    return builder.inttoptr(address, like.type)


@emitted(first_kind)
def shifted(builder, at, elements):
    """The pointer, so many elements further."""
    return builder.gep(at, [elements])


@emitted(first_kind)
def null(builder, like):
    """No pointer."""
    return ir.Constant(like.type, None)


@emitted(first_kind)
def number_at(builder, like, arena, offset):
    """The pointer to a number of the arena at an address; NULL if there is no arena."""
    base = builder.inttoptr(arena, like.type)
    nothing = builder.icmp_signed("==", arena, I64(0))
    return builder.select(nothing, base, builder.gep(base, [offset]))


@emitted(first_kind)
def rows_of(builder, like, buffers, boundary, first):
    """Where the rows from ``first`` on of a layer boundary begin, in blocks of 16."""
    table = builder.inttoptr(buffers, I64.as_pointer())
    base = builder.inttoptr(builder.load(builder.gep(table, [boundary])), like.type)
    return builder.gep(base, [builder.mul(first, I64(16))])


@emitted(types.int64)
def address_of(builder, at):
    """A pointer as an int64."""
    return builder.ptrtoint(at, I64)


@emitted(types.int64)
def itemsize(builder, at):
    """Bytes of what a pointer points to."""
    return I64(4 if isinstance(at.type.pointee, ir.FloatType) else 8)


def reader(dtype: np.dtype[Any]) -> Any:
    """A function (address, i) -> the i-th record of this dtype from there on."""
    record = from_dtype(dtype)

    @intrinsic
    def item(typing_context, address, i):
        def code(context, builder, sig, args):
            at = builder.add(args[0], builder.mul(args[1], I64(dtype.itemsize)))
            return builder.inttoptr(at, context.get_value_type(record))

        return record(types.int64, types.int64), code

    return item


def numbers_at(kind: types.Type, lane: Any) -> Any:
    """A function address -> pointer to numbers of this type."""

    @emitted(types.CPointer(kind))
    def numbers(builder, address):
        return builder.inttoptr(address, lane.as_pointer())

    return numbers


longs = numbers_at(types.int64, I64)
doubles = numbers_at(types.float64, ir.DoubleType())
words = numbers_at(types.uint32, I32)


@emitted(types.void)
def call(builder, address, arguments):
    """Call the C function at an address with a tuple of arguments; it returns nothing."""
    values = cgutils.unpack_tuple(builder, arguments)
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    builder.call(builder.inttoptr(address, kind.as_pointer()), values)


@emitted(types.void)
def fetch(builder, address):
    """Ask for the cache line at an address."""
    line = builder.inttoptr(address, ir.IntType(8).as_pointer())
    call_named(builder, "llvm.prefetch.p0", ir.VoidType(), [line, I32(0), I32(2), I32(1)])


# --------------------------------------------------------------------------- numbers


def call_named(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an external C function or one of LLVM's own."""
    kind = ir.FunctionType(result, [value.type for value in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


@emitted(types.float64)
def root(builder, x):
    """√x of a float64."""
    return call_named(builder, "llvm.sqrt.f64", x.type, [x])


@emitted(types.uint64)
def multiply_high(builder, a, b):
    """The upper 64 bits of a product of two uint64."""
    wide = ir.IntType(128)
    product = builder.mul(builder.zext(a, wide), builder.zext(b, wide))
    return builder.trunc(builder.lshr(product, wide(64)), I64)


@emitted(types.int64)
def flush_subnormals(builder, wanted):
    """Let subnormals count as zero in this thread, or not; returns whether they did."""
    if X86:
        bits, word = 0x8040, I32  # FTZ and DAZ of MXCSR
        at = cgutils.alloca_once(builder, I32)
        byte = builder.bitcast(at, ir.IntType(8).as_pointer())
        call_named(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [byte])
        before = builder.load(at)
    elif ARM:
        bits, word = 1 << 24, I64  # FZ of FPCR
        before = call_named(builder, "llvm.aarch64.get.fpcr", I64, [])
    else:
        return I64(0)
    cleared, flushed = builder.and_(before, word(~bits)), builder.or_(before, word(bits))
    after = builder.select(builder.icmp_signed("!=", wanted, I64(0)), flushed, cleared)
    if X86:
        builder.store(after, at)
        call_named(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [byte])
    else:
        call_named(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [after])
    did = builder.icmp_unsigned("!=", builder.and_(before, word(bits)), word(0))
    return builder.zext(did, I64)


# --------------------------------------------------------------------------- clock

_CLOCK = 6  # CLOCK_MONOTONIC_COARSE on Linux, CLOCK_MONOTONIC on macOS


@emitted(types.int64)
def now(builder):
    """A monotonic clock, in ns."""
    at = cgutils.alloca_once(builder, I64, size=2)
    call_named(builder, "clock_gettime", I32, [I32(_CLOCK), at])
    seconds = builder.load(at)
    nanoseconds = builder.load(builder.gep(at, [I64(1)]))
    return builder.add(builder.mul(seconds, I64(10**9)), nanoseconds)


# --------------------------------------------------------------------------- threads


@emitted(types.int64)
def atomic_load(builder, address):
    """The int64 at an address; what was written before it was stored is visible."""
    return builder.load_atomic(builder.inttoptr(address, I64.as_pointer()), "acquire", 8)


@emitted(types.void)
def atomic_store(builder, address, value):
    """The counterpart of ``atomic_load``."""
    builder.store_atomic(value, builder.inttoptr(address, I64.as_pointer()), "release", 8)


@emitted(types.int64)
def atomic_add(builder, address, value):
    """Add to the int64 at an address; returns what it was."""
    return builder.atomic_rmw("add", builder.inttoptr(address, I64.as_pointer()), value, "acq_rel")


@emitted(types.void)
def relax(builder):
    """Tell the processor that this is a spinning loop."""
    if X86:
        call_named(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
    elif ARM:
        call_named(builder, "llvm.aarch64.hint", ir.VoidType(), [I32(1)])


def _external(name: str, result: types.Type, *arguments: types.Type) -> Any:
    return types.ExternalFunction(name, result(*arguments))


sched_yield = _external("sched_yield", types.int32)
#: The interpreter's C functions; addresses are int64, which C takes in the same registers.
save_thread = _external("PyEval_SaveThread", types.int64)
restore_thread = _external("PyEval_RestoreThread", types.void, types.int64)
ensure_gil = _external("PyGILState_Ensure", types.int32)
release_gil = _external("PyGILState_Release", types.void, types.int32)
check_signals = _external("PyErr_CheckSignals", types.int32)
acquire_lock = _external("PyThread_acquire_lock", types.int32, types.int64, types.int32)
release_lock = _external("PyThread_release_lock", types.void, types.int64)
