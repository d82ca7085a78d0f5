"""What a compiled loop needs besides arithmetic: addresses, records, calls, threads, signals.

Everything lies in memory that Python owns and is named by its address, an int64. Records
are NumPy's structured dtypes. A kernel is called by its address too: that is why networks
of any shape need no compilation, and why a function of the user's is a kernel like others.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}

#: A helper that becomes part of the kernel which calls it.
inlined = njit(inline="always", **OPTIONS)

I32, I64 = ir.IntType(32), ir.IntType(64)
X86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "i386")
ARM = platform.machine().lower() in ("arm64", "aarch64")

# --------------------------------------------------------------------------- addresses


@intrinsic
def pointer(typing_context, like, address):
    """The address as a pointer to what ``like`` points to."""

    def code(context, builder, sig, args):
        return builder.inttoptr(args[1], args[0].type)

    return like(like, types.int64), code


@intrinsic
def shifted(typing_context, at, elements):
    """The pointer, so many elements further."""

    def code(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return at(at, types.int64), code


@intrinsic
def null(typing_context, like):
    """No pointer."""

    def code(context, builder, sig, args):
        return ir.Constant(args[0].type, None)

    return like(like), code


@intrinsic
def number_at(typing_context, like, arena, offset):
    """The pointer to a number of the arena at an address; NULL if there is no arena."""

    def code(context, builder, sig, args):
        base = builder.inttoptr(args[1], args[0].type)
        nothing = builder.icmp_signed("==", args[1], I64(0))
        return builder.select(nothing, base, builder.gep(base, [args[2]]))

    return like(like, types.int64, types.int64), code


@intrinsic
def rows_of(typing_context, like, buffers, boundary, first):
    """Where the rows from ``first`` on of a layer boundary begin, in blocks of 16."""

    def code(context, builder, sig, args):
        table = builder.inttoptr(args[1], I64.as_pointer())
        base = builder.inttoptr(builder.load(builder.gep(table, [args[2]])), args[0].type)
        return builder.gep(base, [builder.mul(args[3], I64(16))])

    return like(like, types.int64, types.int64, types.int64), code


@intrinsic
def address_of(typing_context, at):
    """A pointer as an int64."""

    def code(context, builder, sig, args):
        return builder.ptrtoint(args[0], I64)

    return types.int64(at), code


@intrinsic
def itemsize(typing_context, at):
    """Bytes of what a pointer points to."""
    size = at.dtype.bitwidth // 8
    return types.int64(at), lambda context, builder, sig, args: I64(size)


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


def numbers_at(kind: types.Type) -> Any:
    """A function address -> pointer to numbers of this type."""

    @intrinsic
    def numbers(typing_context, address):
        def code(context, builder, sig, args):
            return builder.inttoptr(args[0], context.get_value_type(types.CPointer(kind)))

        return types.CPointer(kind)(types.int64), code

    return numbers


longs = numbers_at(types.int64)
doubles = numbers_at(types.float64)
words = numbers_at(types.uint32)


@intrinsic
def call(typing_context, address, arguments):
    """Call the C function at an address with a tuple of arguments; it returns nothing."""

    def code(context, builder, sig, args):
        values = cgutils.unpack_tuple(builder, args[1])
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), code


@intrinsic
def fetch(typing_context, address):
    """Ask for the cache line at an address."""

    def code(context, builder, sig, args):
        byte = ir.IntType(8).as_pointer()
        arguments = [builder.inttoptr(args[0], byte), I32(0), I32(2), I32(1)]
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(types.int64), code


# --------------------------------------------------------------------------- numbers


@intrinsic
def root(typing_context, x):
    """√x of a float64."""

    def code(context, builder, sig, args):
        return _call(builder, "llvm.sqrt.f64", args[0].type, args)

    return types.float64(types.float64), code


@intrinsic
def multiply_high(typing_context, a, b):
    """The upper 64 bits of a product of two uint64."""

    def code(context, builder, sig, args):
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(x, wide) for x in args))
        return builder.trunc(builder.lshr(product, wide(64)), I64)

    return types.uint64(types.uint64, types.uint64), code


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an external C function or one of LLVM's own."""
    kind = ir.FunctionType(result, [value.type for value in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


@intrinsic
def flush_subnormals(typing_context, wanted):
    """Let subnormals count as zero in this thread, or not; returns whether they did."""

    def code(context, builder, sig, args):
        if X86:
            bits, word = 0x8040, I32  # FTZ and DAZ of MXCSR
            at = cgutils.alloca_once(builder, I32)
            byte = builder.bitcast(at, ir.IntType(8).as_pointer())
            _call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [byte])
            before = builder.load(at)
        elif ARM:
            bits, word = 1 << 24, I64  # FZ of FPCR
            before = _call(builder, "llvm.aarch64.get.fpcr", I64, [])
        else:
            return I64(0)
        cleared, flushed = builder.and_(before, word(~bits)), builder.or_(before, word(bits))
        after = builder.select(builder.icmp_signed("!=", args[0], I64(0)), flushed, cleared)
        if X86:
            builder.store(after, at)
            _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [byte])
        else:
            _call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [after])
        did = builder.icmp_unsigned("!=", builder.and_(before, word(bits)), word(0))
        return builder.zext(did, I64)

    return types.int64(types.int64), code


# --------------------------------------------------------------------------- clock

_CLOCK = 6  # CLOCK_MONOTONIC_COARSE on Linux, CLOCK_MONOTONIC on macOS


@intrinsic
def now(typing_context):
    """A monotonic clock, in ns."""

    def code(context, builder, sig, args):
        at = cgutils.alloca_once(builder, I64, size=2)
        _call(builder, "clock_gettime", I32, [I32(_CLOCK), at])
        seconds = builder.load(at)
        nanoseconds = builder.load(builder.gep(at, [I64(1)]))
        return builder.add(builder.mul(seconds, I64(10**9)), nanoseconds)

    return types.int64(), code


# --------------------------------------------------------------------------- threads


def _atomic(emit: Any, result: Any) -> Any:
    def typed(*kinds: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            at = builder.inttoptr(args[0], I64.as_pointer())
            value = emit(builder, at, *args[1:])
            return context.get_dummy_value() if value is None else value

        return result(*(types.int64 for _ in kinds)), code

    return typed


_load = _atomic(lambda b, at: b.load_atomic(at, "acquire", 8), types.int64)
_add = _atomic(lambda b, at, x: b.atomic_rmw("add", at, x, "acq_rel"), types.int64)


def _store(builder: Any, at: Any, value: Any) -> None:
    builder.store_atomic(value, at, "release", 8)


_write = _atomic(_store, types.void)


@intrinsic
def atomic_load(typing_context, address):
    """The int64 at an address; what was written before it was stored is visible."""
    return _load(address)


@intrinsic
def atomic_store(typing_context, address, value):
    """The counterpart of ``atomic_load``."""
    return _write(address, value)


@intrinsic
def atomic_add(typing_context, address, value):
    """Add to the int64 at an address; returns what it was."""
    return _add(address, value)


@intrinsic
def relax(typing_context):
    """Tell the processor that this is a spinning loop."""

    def code(context, builder, sig, args):
        void = ir.VoidType()
        if X86:
            _call(builder, "llvm.x86.sse2.pause", void, [])
        elif ARM:
            _call(builder, "llvm.aarch64.hint", void, [I32(1)])
        return context.get_dummy_value()

    return types.void(), code


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
