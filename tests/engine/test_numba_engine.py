"""What only the Numba engine has: generated code, a cache on disk, a life in other processes.

That it computes what the contract says is tested with the other engines (conftest.py).
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from fastnn.kernels.contract import LossSpec, dense, optimizer
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.formulas.lane import floor
from fastnn.kernels.formulas.losses import LOSSES
from fastnn.kernels.formulas.optimizers import OPTIMIZERS, SCALARS
from fastnn.kernels.numba import compile as numba_compile
from fastnn.kernels.numba import engine as numba_engine
from fastnn.kernels.numba.compile import KINDS, Target, host, module
from fastnn.kernels.numba.tile import Registers

ROWS = [("forward", name) for name in ACTIVATIONS]
ROWS += [("backward", name) for name, (_, slope) in ACTIVATIONS.items() if slope]
ROWS += [("elements", name) for name, formula in LOSSES.items() if formula]
ROWS += [("update", name) for name in OPTIMIZERS]

AVX2, AVX512 = "avx2 fma bmi2", "avx512f avx512bw avx512cd avx512dq avx512vl"
IS_X86 = llvm.get_default_triple().startswith("x86_64")


def _target(cpu: str, features: str, bits: int, count: int) -> Target:
    text = ",".join(f"+{feature}" for feature in features.split())
    return Target(cpu, text, Registers(bits, count, "fma" in features))


#: What it compiles for, pinned: their code is the same wherever it is generated.
TARGETS = {
    "avx512": _target("skylake-avx512", f"{AVX2} {AVX512}", 512, 32),
    "avx2": _target("haswell", AVX2, 256, 16),
    "sse2": _target("x86-64", "", 128, 16),
} if IS_X86 else {"host": host()}  # fmt: skip
HERE = {k: t for k, t in TARGETS.items() if t.registers.bits <= host().registers.bits}

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
each_target_here = pytest.mark.parametrize("target", HERE.values(), ids=HERE)


# --------------------------------------------------------------------------- generated code


def _assembly(kind: str, name: str | None, itemsize: int, target: Target) -> tuple[str, str]:
    """And what LLVM calls the widest registers there."""
    register = {128: "xmm", 256: "ymm", 512: "zmm"}[target.registers.bits] if IS_X86 else "v"
    return target.machine().emit_assembly(module(kind, name, itemsize, target)), register


@each_target
@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("kind", ["multiply", "gradient"])
def test_no_sum_leaves_its_register(kind: str, itemsize: int, target: Target) -> None:
    """Between the products of any tile; and its vectors are as wide as there are."""
    assembly, register = _assembly(kind, None, itemsize, target)
    fetching, wide = kind == "multiply", target.registers.hold_three_panels(8 * itemsize)
    tiles = len(re.findall(r"^_?tile_\w+:", assembly, re.MULTILINE))
    assert tiles == 5 + fetching + wide * (1 + fetching)
    if IS_X86:
        product = "vfmadd" if target.registers.fuse else "mulp"
        found = re.findall(rf"\s{product}\w*[sd]\s.*%{register}", assembly)
        assert len(found) >= (16 + 8 + 4 + 2 + 1) * 128 * itemsize / target.registers.bits
        assert not re.findall(r"\bv?mov\w+\s+%[xyz]mm\d+, [^(\n]*\(%rsp", assembly)


@each_target
def test_rows_call_nothing(target: Target) -> None:
    """No library of mathematics; and they work on vectors of full width."""
    for itemsize in (4, 8):
        for kind, name in ROWS:
            assembly, register = _assembly(kind, name, itemsize, target)
            assert not re.search(r"^\s+(callq?|blr?)\s", assembly, re.MULTILINE), (kind, name)
            assert register in assembly


def test_what_calls_a_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATIONS, "tanh", (floor, floor))
    with pytest.raises(AssertionError, match=r"forward tanh calls llvm\.floor"):
        module("forward", "tanh", 4, host())


@pytest.mark.parametrize("name", [name for name in TARGETS if IS_X86])
def test_timings_are_of_a_processor_with_which_nothing_spills(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever LLVM calls the one at hand."""
    kind, names = type(llvm.get_host_cpu_features()), TARGETS[name].features.replace("+", "")
    features = kind(dict.fromkeys(names.split(","), True))
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "znver5")
    assert host.__wrapped__()[::2] == TARGETS[name][::2]


# --------------------------------------------------------------------------- values


@functools.cache
def _kernel(kind: str, name: str | None, dtype: np.dtype, target: Target) -> Callable[..., None]:
    """The C function for a target that runs here; it takes arrays for pointers."""
    linker = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target.machine())
    text = module(kind, name, dtype.itemsize, target)
    code = target.machine().emit_object(text)
    linker.add_object_file(llvm.ObjectFileRef.from_data(code))
    kinds = {"i": ctypes.c_int64, "T": np.ctypeslib.as_ctypes_type(dtype)}
    signature = [kinds.get(letter, ctypes.c_void_p) for letter in KINDS[kind][0]]
    symbol = numba_compile._symbol(kind, name, dtype.itemsize)
    function = ctypes.CFUNCTYPE(None, *signature)(linker.get_function_address(symbol))

    def call(*arguments: np.ndarray | float | None, linker=linker) -> None:
        function(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments))

    return call


@each_target_here
def test_multiply(target: Target, dtype: np.dtype) -> None:
    """Every height, tail, count of panels and fetch, with NaN wherever nothing is to be read.

    A row is the same to the last bit whatever its company.
    """
    rng, multiply = np.random.default_rng(0), _kernel("multiply", None, dtype, target)
    for depth in (1, 2, 15, 16, 17, 33, 70, 600):
        x = rng.normal(size=(40, depth)).astype(dtype)
        x[7, depth // 2], x[29, 0] = np.inf, np.nan
        blocks = np.full((48, depth // 16 * 16 + 32), np.nan, dtype)
        blocks[:40, :depth] = x
        blocks = np.ascontiguousarray(blocks.reshape(48, -1, 16).transpose(1, 0, 2))
        for count in (1, 2, 3, 4, 7):
            b = rng.normal(size=(count, depth, 16)).astype(dtype)
            init = rng.normal(size=(count, 16)).astype(dtype)
            with np.errstate(invalid="ignore"):
                exact = init + (x.astype(float) @ b.astype(float)).transpose(1, 0, 2)
                size = np.abs(init) + (np.abs(x) @ np.abs(b)).transpose(1, 0, 2)
            bound, good = (depth + 2) * np.finfo(dtype).eps * size, np.isfinite(exact)
            whole = b""
            for rows in (40, 33, 24, 17, 16, 9, 8, 5, 3, 2, 1):
                y = np.zeros((count, 48, 16), dtype)
                multiply(blocks, 48 * 16, b, count, depth, init, 16, y, 48 * 16, rows)
                found, fine = y[:, :rows].transpose(1, 0, 2), good[:rows]
                np.testing.assert_array_equal(np.isnan(found), np.isnan(exact[:rows]))
                assert (np.abs(found[fine] - exact[:rows][fine]) <= bound[:rows][fine]).all()
                whole = whole or found.tobytes()
                assert whole.startswith(found.tobytes())


@each_target_here
def test_gradient(target: Target, dtype: np.dtype) -> None:
    """Every height and width, from one row of init or a tile of it."""
    rng, gradient = np.random.default_rng(0), _kernel("gradient", None, dtype, target)
    init = rng.normal(size=(3, 16, 16)).astype(dtype)
    for rows, width, height in itertools.product((1, 5, 16, 37), (1, 2, 3), (1, 2, 3, 8, 9, 16)):
        left, right = (rng.normal(size=(n, rows, 16)).astype(dtype) for n in (1, width))
        for init_row, start in ((0, init[0, :1]), (16, init[:width])):
            c = np.zeros((width, 16, 16), dtype)
            gradient(left, right, rows * 16, rows, height, width, init, init_row, c)
            exact = start + left.transpose(0, 2, 1).astype(float) @ right
            size = np.abs(start) + np.abs(left.transpose(0, 2, 1)) @ np.abs(right)
            close = np.abs(c - exact) <= (rows + 2) * np.finfo(dtype).eps * size
            assert close[:, :height].all()


@each_target_here
def test_rows_agree_whatever_the_registers(target: Target, dtype: np.dtype) -> None:
    """With or without fused multiply-adds: the same to a few units of the last place.

    Against the truth they are measured in test_accuracy.py, as this processor has them.
    """
    rng, n = np.random.default_rng(1), 160
    z = rng.normal(size=n).astype(dtype) * 5
    z[::20] = [np.inf, -np.inf, np.nan, 0, 0.5, 30, -30, 1]
    p, scalars = rng.random(n).astype(dtype), rng.random(4 + len(SCALARS)).astype(dtype) / 4
    for kind, name in ROWS:
        found = []
        for each in (target, host()):
            call = _kernel(kind, name, dtype, each)
            first, second, third = z.copy(), p.copy(), p.copy()
            if kind == "forward":
                call(first, second, n)
                call(third := z.copy(), None, n)
                assert third.tobytes() == first.tobytes()
            elif kind == "backward":
                call(p, z, second, n)
            elif kind == "elements":
                call(p if "probabilities" in name else z, p[::-1].copy(), first, second, n, 0.5)
            else:
                call(
                    first,
                    np.array([a.ctypes.data for a in (second, third)]),
                    16,
                    p,
                    n - 16,
                    scalars,
                )
            found.append(np.concatenate([first, second, third]))
        eps = 64 * np.finfo(dtype).eps
        np.testing.assert_allclose(*found, eps, eps, err_msg=f"{kind} {name}")


# --------------------------------------------------------------------------- the cache

FIT = """
    import numpy as np
    from fastnn import Adam, Dense, Sequential
    X = np.linspace(-1, 1, 200).reshape(100, 2)

    def parameters():
        layers = [Dense(20, activation="tanh"), Dense(1)]
        model = Sequential(layers, input_size=2, seed=3, engine="numba")
        model.fit(X, X[:, :1] ** 2, "mse", Adam(0.01), epochs=2, threads=2)
        return model.parameters.tobytes().hex()
"""


def run(code: str, **environment: str) -> str:
    """What a fresh interpreter prints; warnings are errors there too."""
    program = textwrap.dedent(FIT) + textwrap.dedent(code)
    command, env = [sys.executable, "-W", "error", "-c", program], {**os.environ, **environment}
    return subprocess.check_output(command, text=True, timeout=120, env=env).strip()


@pytest.fixture(scope="module")
def expected() -> str:
    """The parameters that ``FIT`` leads to."""
    return run("print(parameters())", FASTNN_CACHE_DIR="", HOME="/nonexistent")


def test_the_second_process_compiles_nothing(tmp_path: Path, expected: str) -> None:
    folder = tmp_path / "cache"
    assert run("print(parameters())", FASTNN_CACHE_DIR=str(folder)) == expected
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {path.suffix for path in files} == {".o"}
    code = "import fastnn.kernels.numba.compile as c; c.module = None; print(parameters())"
    assert run(code, FASTNN_CACHE_DIR=str(folder)) == expected
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == files
    for damage in (b"", b"not\nobject code", None):
        for path in files:
            path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
        assert run("print(parameters())", FASTNN_CACHE_DIR=str(folder)) == expected


def test_two_processes_at_once(tmp_path: Path, expected: str) -> None:
    """Both compile into one empty directory."""
    with ThreadPoolExecutor(2) as pool:
        code = ["print(parameters())"] * 2
        both = pool.map(lambda each: run(each, FASTNN_CACHE_DIR=str(tmp_path)), code)
        assert [*both] == [expected] * 2
    assert all(path.suffix == ".o" for path in tmp_path.iterdir())


def test_the_key_knows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change in any file, also in the formulas, is another key; so is another processor."""
    fingerprint, sources = numba_compile._fingerprint.__wrapped__, numba_compile._SOURCES
    names = {path.stem for path in sources}
    assert names > {"tile", "rows", "lane", "elementary", "activations", "losses", "optimizers"}
    keys = [fingerprint(host()), fingerprint(host()._replace(cpu="other"))]
    for i, source in enumerate(sources):
        changed = tmp_path / source.name
        changed.write_bytes(source.read_bytes() + b"\n")
        monkeypatch.setattr(numba_compile, "_SOURCES", [*sources[:i], changed, *sources[i + 1 :]])
        keys.append(fingerprint(host()))
    assert len(set(keys)) == len(sources) + 2


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is taken, and at last none."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    for name in ("FASTNN_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(blocked / "below"))
    monkeypatch.setattr(numba_compile, "_HERE", blocked)
    directory = numba_compile.directory.__wrapped__
    assert directory() is None
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "good"))
    assert directory() == tmp_path / "good"


# --------------------------------------------------------------------------- in company


def test_it_needs_the_extension_and_no_numba(expected: str) -> None:
    """Numba is for users' functions; without the extension, "auto" takes NumPy."""
    assert run("import sys; sys.modules['numba'] = None; print(parameters())") == expected
    code = """
        import sys
        sys.modules["fastnn.kernels.cython.engine"] = None
        import fastnn
        table = fastnn.engines()
        print([name for name, row in table.items() if row["default"]], table["numba"]["reason"])
    """
    output = run(code)
    assert output.startswith("['numpy'] engine 'numba' is not available: it runs on the compiled")


def test_after_a_fork(expected: str) -> None:
    """The child uses kernels that the parent linked, and links others of its own."""
    code = """
        import multiprocessing, warnings
        first = parameters()
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on fork and threads

        def child():
            model = Sequential([Dense(3, activation="mish")], input_size=2, engine="numba")
            model.fit(X, X[:, [0, 0, 1]], "huber", epochs=1)
            return parameters()

        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply(child) == first
        print(first)
    """
    assert run(code) == expected


def test_a_new_network_compiles_nothing(dtype: np.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*widths: int) -> None:
        layers = tuple(dense(*pair, "relu") for pair in itertools.pairwise(widths))
        network = numba_engine.Network(layers, dtype)
        X, target = (np.ones((30, width), dtype) for width in (widths[0], widths[-1]))
        with network.trainer(LossSpec("mse"), optimizer("sgd"), 7, 0) as trainer:
            trainer.epoch(X, target, None, 0, np.ones(5), True)
        assert network.predict(X) is not None

    train(3, 20, 18, 2)
    monkeypatch.setattr(numba_compile, "_link", None)
    train(40, 5, 33, 1)
