"""Compiles the kernels, and keeps their machine code on disk.

``address(name, bits)`` compiles a kernel once per dtype, whatever networks come later, and
gives the address of a C function. Its object code goes to a file whose name is a hash of
all that it depends on: this package's kernel sources, the compilers' versions, the
processor, Numba's settings. So nothing is ever stale, and a file is only ever written whole
(os.replace): processes may start at once. It holds no pickle.

The first directory that can be written is taken: FASTNN_CACHE_DIR (empty: none at all),
NUMBA_CACHE_DIR, beside this file, the user's cache. If there is none, or anything about
a file is wrong, kernels are compiled anew; that is never an error.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from . import kernels as numba_kernels

#: The files that determine code; the others only call it.
_CALLERS = ("arrays", "engine", "network", "trainer", "duals", "functions", "array_kernels")
_SOURCES = sorted(
    path for path in Path(__file__).parent.glob("*.py") if path.stem not in _CALLERS
)
#: Numba's settings that change code; others, such as its number of threads, do not.
_SETTINGS = (
    "NUMBA_BOUNDSCHECK",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CPU_NAME",
    "NUMBA_DEBUGINFO",
    "NUMBA_LOOP_VECTORIZE",
    "NUMBA_OPT",
    "NUMBA_SLP_VECTORIZE",
)
_lock = threading.Lock()
_known: dict[tuple[str, int], int] = {}  # the address of each kernel that is here


def _forget_the_lock() -> None:
    """After a fork, the thread that may have held it is gone."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_the_lock)

#: What kernels may call: all of it is in any process that runs Python.
EXTERNAL = (
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyErr_CheckSignals",
    "PyGILState_Ensure",
    "PyGILState_Release",
    "PyThread_acquire_lock",
    "PyThread_release_lock",
    "clock_gettime",
    "memcpy",
    "memmove",
    "memset",
    "sched_yield",
)

# --------------------------------------------------------------------------- the cache


@functools.cache
def _fingerprint() -> bytes:
    """A hash of everything that all kernels depend on."""
    settings = [f"{name}={os.environ.get(name)}" for name in _SETTINGS]
    facts = [
        importlib.metadata.version("numba"),
        llvmlite.__version__,
        sys.version,
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        *settings,
    ]
    digest = hashlib.sha256("\n".join(facts).encode())
    for path in _SOURCES:
        digest.update(path.read_bytes())
    return digest.digest()


@functools.cache
def directory() -> Path | None:
    """Where object code is kept, or None."""
    chosen = os.environ.get("FASTNN_CACHE_DIR")
    if chosen == "":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    candidates = [
        chosen,
        os.environ.get("NUMBA_CACHE_DIR"),
        Path(__file__).parent / "__pycache__",
        Path(home) / "fastnn",
    ]
    for candidate in candidates:
        if candidate is None:
            continue
        try:
            Path(candidate).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=candidate):
                return Path(candidate)
        except OSError:
            continue
    return None


def _path(name: str, bits: int) -> Path | None:
    folder = directory()
    key = hashlib.sha256(_fingerprint() + f"{name}/{bits}".encode()).hexdigest()[:32]
    return folder and folder / f"fastnn-{key}.o"


def _read(path: Path | None) -> tuple[str, bytes] | None:
    """(symbol, object code), or None if there is no sound file."""
    if path is None:
        return None
    try:
        digest, symbol, code = path.read_bytes().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    sound = hashlib.sha256(symbol + code).hexdigest().encode() == digest
    return (symbol.decode(), code) if sound else None


def _write(path: Path | None, symbol: str, code: bytes) -> None:
    if path is None:
        return
    digest = hashlib.sha256(symbol.encode() + code).hexdigest()
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(b"\n".join((digest.encode(), symbol.encode(), code)))
        os.replace(file.name, path)
    except OSError:
        return  # a full disk costs time, nothing else


# --------------------------------------------------------------------------- compiling


@functools.cache
def _engine() -> tuple[Any, Any]:
    """LLVM's target machine for this processor, and an engine that links object code."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()

    def machine() -> Any:
        return llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(),
            features=llvm.get_host_cpu_features().flatten(),
            opt=3,
            codemodel="jitdefault",
            jit=True,
        )

    return machine(), llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())


def optimised(name: str, bits: int) -> tuple[str, Any]:
    """The symbol of a kernel and its module, all calls inlined, as LLVM sees it last."""
    symbol, text = numba_kernels.lower(name, bits)
    module = llvm.parse_assembly(text)
    for function in module.functions:
        if not function.is_declaration and function.name != symbol:
            function.linkage = "internal"
            function.add_function_attribute("alwaysinline")
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    passes = llvm.create_pass_builder(_engine()[0], options)
    passes.getModulePassManager().run(module, passes)
    for function in module.functions:
        known = function.name.startswith("llvm.") or function.name in EXTERNAL
        if function.is_declaration and not known:
            raise AssertionError(f"{name} calls {function.name}")
    return symbol, module


def _object_code(name: str, bits: int) -> tuple[str, bytes]:
    symbol, module = optimised(name, bits)
    return symbol, _engine()[0].emit_object(module)


def _link(name: str, bits: int) -> None:
    """Make the kernel's code part of this process; its address goes to ``_known``."""
    with _lock:
        if (name, bits) in _known:
            return
        path = _path(name, bits)
        found = _read(path)
        symbol, code = found or _object_code(name, bits)
        engine = _engine()[1]
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        if found is None:
            _write(path, symbol, code)
        _known[name, bits] = int(engine.get_function_address(symbol))


def address(name: str, bits: int) -> int:
    """The address of the C function that a kernel is.

    It is compiled on a thread of its own: a signal handler's exception, raised in the
    middle of a compiler, may be swallowed there. The calling thread waits where it is not.

    Parameters
    ----------
    name : str
        A name of ``numba_kernels.KERNELS``.
    bits : int
        32 or 64, of the floats it works on.

    Returns
    -------
    int
    """
    if (name, bits) not in _known:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                _link(name, bits)
            except BaseException as error:  # handed over to the caller
                failures.append(error)

        helper = threading.Thread(target=work, daemon=True)
        helper.start()
        helper.join()
        if failures:
            raise failures[0]
    return _known[name, bits]


@functools.cache
def entry() -> Any:
    """Call a kernel (address, eight arguments) without the GIL, subnormals being zero.

    The interpreter's own pending exception, as an interrupt leaves it, surfaces here.
    """
    return ctypes.PYFUNCTYPE(None, *[ctypes.c_int64] * 9)(address("enter", 64))
