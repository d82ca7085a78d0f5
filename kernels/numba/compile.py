"""Compiles kernels for this very processor, and keeps their machine code on disk.

``address(kind, name, itemsize)`` compiles a kernel once, whatever networks come later, and
gives the address of a C function. Its object code goes to a file whose name is a hash of
all that it depends on: the sources, formulas included, the compiler's version, the
processor. So nothing is ever stale, and a file is only ever written whole (os.replace):
processes may start at once. It holds no pickle.

The first directory that can be written is taken: FASTNN_CACHE_DIR (empty: none at all),
NUMBA_CACHE_DIR, beside this file, the user's cache. If there is none, or anything about
a file is wrong, kernels are compiled anew; that is never an error.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from . import rows, tile
from .lane import FLOATS, I8, I64, VOID

#: The C signature of each kind of kernel (P pointer, M pointers, i int64, T number, S scalars),
#: and what writes it: (function, registers) or, for a row, (function, registers, its name).
KINDS: dict[str, tuple[str, Callable[..., None]]] = {
    "multiply": ("PiPiiPiPii", tile.multiply),
    "gradient": ("PPiiiiPiP", tile.gradient),
    "forward": ("PPi", rows.forward),
    "backward": ("PPPi", rows.backward),
    "elements": ("PPPPiT", rows.elements),
    "update": ("PMiPiS", rows.update),
}

#: LLVM's functions that are instructions wherever it compiles for; others call a library.
_INSTRUCTIONS = ("fmuladd", "sqrt", "fabs", "copysign", "prefetch")

_lock = threading.Lock()
_known: dict[tuple[str, str | None, int], int] = {}  # addresses of the kernels that are here

if hasattr(os, "register_at_fork"):  # in the child, the thread that may hold it is gone
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))

# --------------------------------------------------------------------------- the processor


class Target(NamedTuple):
    """A processor as LLVM knows it, and its registers."""

    cpu: str
    features: str
    registers: tile.Registers

    def machine(self) -> Any:
        """What writes code for it; ``cpu`` is whose timings it goes by."""
        return llvm.Target.from_default_triple().create_target_machine(
            cpu=self.cpu, features=self.features, opt=3, codemodel="jitdefault", jit=True
        )


@functools.cache
def host(fuses: bool = True) -> Target:
    """The processor at hand, with the timings of one for which LLVM spills nothing.

    Not so ``znver4``. Unless it ``fuses``, products are rounded before they are summed.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return Target(llvm.get_host_cpu_name(), features.flatten(), tile.Registers(128, 32, fuses))
    cpu, bits, count = "x86-64", 128, 16
    if features.get("avx512vl") and features.get("avx512dq"):
        cpu, bits, count = "skylake-avx512", 512, 32
    elif features.get("avx2"):
        cpu, bits = "haswell", 256
    registers = tile.Registers(bits, count, fuses and bool(features.get("fma")))
    return Target(cpu, features.flatten(), registers)


# --------------------------------------------------------------------------- the cache

_HERE = Path(__file__).parent
_SOURCES = [_HERE / f"{name}.py" for name in ("compile", "lane", "rows", "tile")]
_SOURCES += sorted((_HERE.parent / "formulas").glob("*.py"))


@functools.cache
def _fingerprint(target: Target) -> bytes:
    """A hash of everything that all kernels depend on."""
    facts = (llvmlite.__version__, llvm.llvm_version_info, llvm.get_default_triple(), target)
    digest = hashlib.sha256(repr(facts).encode())
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
    others = (os.environ.get("NUMBA_CACHE_DIR"), f"{_HERE}/__pycache__")
    for candidate in filter(None, (chosen, *others, f"{home}/fastnn")):
        try:
            Path(candidate).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=candidate):
                return Path(candidate)
        except OSError:
            continue
    return None


def _read(path: Path | None) -> bytes | None:
    """Object code, or None if there is no sound file."""
    try:
        digest, code = path.read_bytes().split(b"\n", 1) if path else (b"", b"")
    except (OSError, ValueError):
        return None
    return code if hashlib.sha256(code).hexdigest().encode() == digest else None


def _write(path: Path | None, code: bytes) -> None:
    if path is None:
        return
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(code).hexdigest().encode() + b"\n" + code)
        os.replace(file.name, path)
    except OSError:
        return  # a full disk costs time, nothing else


# --------------------------------------------------------------------------- compiling


def _symbol(kind: str, name: str | None, itemsize: int) -> str:
    return f"fastnn_{kind}_{name or 'of_matrices'}_{8 * itemsize}"


def module(kind: str, name: str | None, itemsize: int, target: Target) -> Any:
    """A kernel as LLVM has it; nothing that it calls is elsewhere."""
    number = FLOATS[8 * itemsize]
    at = number.as_pointer()
    letters = {"P": at, "M": at.as_pointer(), "i": I64, "T": number, "S": I8.as_pointer()}
    signature, write = KINDS[kind]
    text = ir.Module()
    kinds = [letters[letter] for letter in signature]
    function = ir.Function(text, ir.FunctionType(VOID, kinds), _symbol(kind, name, itemsize))
    write(function, target.registers, *([] if name is None else [name]))
    parsed = llvm.parse_assembly(str(text))
    for each in parsed.functions:
        if each.is_declaration and each.name.split(".")[1] not in _INSTRUCTIONS:
            raise AssertionError(f"{kind} {name} calls {each.name}")
    return parsed


@functools.cache
def _linker() -> Any:
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), host().machine())


def _link(kind: str, name: str | None, itemsize: int, target: Target) -> None:
    """Make a kernel's code part of this process; its address goes to ``_known``."""
    with _lock:
        if (kind, name, itemsize) in _known:
            return
        called, folder = _symbol(kind, name, itemsize), directory()
        key = hashlib.sha256(_fingerprint(target) + called.encode()).hexdigest()[:32]
        path = folder and folder / f"fastnn-{key}.o"
        found = _read(path)
        code = found or target.machine().emit_object(module(kind, name, itemsize, target))
        _linker().add_object_file(llvm.ObjectFileRef.from_data(code))
        _linker().finalize_object()
        if found is None:
            _write(path, code)
        _known[kind, name, itemsize] = int(_linker().get_function_address(called))


def address(kind: str, name: str | None, itemsize: int, target: Target) -> int:
    """The address of a kernel's C function for floats of 4 or 8 bytes.

    ``kind`` is a name of ``KINDS``, ``name`` that of a row of ``kernels/formulas``, None for the
    products. It is compiled on a thread of its own: a signal handler's exception, raised in the
    middle of a compiler, may be swallowed there. The calling thread waits where it is not.
    """
    if (kind, name, itemsize) not in _known:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                _link(kind, name, itemsize, target)
            except BaseException as error:  # handed over to the caller
                failures.append(error)

        helper = threading.Thread(target=work, daemon=True)
        helper.start()
        helper.join()
        if failures:
            raise failures[0]
    return _known[kind, name, itemsize]
