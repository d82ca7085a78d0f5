"""What only the Numba engine has: generated code, a cache on disk, and a life without others.

That it computes what the contract says is tested with the other engines (conftest.py).
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from fastnn.kernels import numba_compile, numba_engine, numba_kernels
from fastnn.kernels.numba.tile import vector_bits

from fastnn.kernels.contract import LayerSpec, LossSpec, OptimizerSpec

HOT = (
    "multiply_panel",
    "gradient_tile",
    "bias_gradient",
    "forward tanh",
    "forward sigmoid",
    "forward gelu",
    "forward mish",
    "loss binary_cross_entropy_of_probabilities",
    "update adam/2",
    "update sgd/1",
)

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

#: One activation: what a test compiles that starts from nothing.
PART = """
    import numpy as np
    from fastnn.kernels import activation_forward

    def values():
        Z = np.linspace(-3, 3, 50, dtype=np.float32)
        return activation_forward(Z, "tanh", engine="numba").tobytes().hex()
"""


def run(code: str, **environment: str) -> str:
    """What a fresh interpreter prints; warnings are errors there too."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        textwrap.dedent(FIT + PART) + textwrap.dedent(code),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def expected() -> str:
    """The parameters that ``FIT`` leads to."""
    return run("print(parameters())")


@pytest.fixture(scope="module")
def part() -> str:
    """The values of ``PART``."""
    return run("print(values())")


# --------------------------------------------------------------------------- generated code


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", HOT)
def test_generated_code(name: str, bits: int) -> None:
    """Registers of full width, calls of nothing, in the loops and anywhere else."""
    _, module = numba_compile.optimised(name, bits)
    assembly = numba_compile._engine()[0].emit_assembly(module)
    assert not re.search(r"^\s+(callq?|bl)\s", assembly, re.MULTILINE)
    if numba_compile.llvm.get_default_triple().startswith("x86_64"):
        register = {128: "xmm", 256: "ymm", 512: "zmm"}[vector_bits()]
        suffix = "s" if bits == 32 else "d"
        assert re.search(rf"p{suffix}\s.*%{register}", assembly)
        if name in ("multiply_panel", "gradient_tile") and vector_bits() > 128:
            fused = re.findall(rf"vfmadd\d+p{suffix}\s.*%{register}", assembly)
            assert len(fused) >= 16 * 16  # at least the tall tile, unrolled
            # accumulators stay in registers: nothing is spilled between the products
            stored = re.findall(rf"vmov\w+\s+%{register}\d+, [^(\n]*\(%[re]sp", assembly)
            assert len(stored) == 0


@pytest.mark.parametrize("name", numba_kernels.KERNELS)
def test_kernels_call_nothing_but_the_system(name: str) -> None:
    """No library of mathematics, no error path of Numba's: ``optimised`` refuses them."""
    assert numba_compile.address(name, 32)


def test_a_new_network_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*sizes: int) -> None:
        layers = tuple(LayerSpec(i, o, "relu", True) for i, o in itertools.pairwise(sizes))
        network = numba_engine.Network(layers, np.float32)
        X = np.ones((30, sizes[0]), np.float32)
        target = np.ones((30, sizes[-1]), np.float32)
        with network.trainer(LossSpec("mse"), OptimizerSpec("sgd", 0), 7, 0) as trainer:
            trainer.epoch(X, target, None, 0, np.ones(5), True)
        assert network.predict(X) is not None

    train(3, 20, 18, 2)
    monkeypatch.setattr(numba_kernels, "lower", None)
    monkeypatch.setattr(numba_compile, "_read", None)
    train(40, 5, 33, 1)


def test_integers_of_numpy() -> None:
    """Sizes and epochs reach the kernels as what they are, whoever counted them."""
    one, three = np.int64(1), np.int64(3)
    network = numba_engine.Network((LayerSpec(three, one, "tanh", True),), np.float64)
    X = np.ones((7, 3))
    with network.trainer(LossSpec("mse"), OptimizerSpec("sgd", 0), three, one) as trainer:
        trainer.epoch(X, np.ones((7, 1)), None, one, np.ones(3), True)
        assert trainer.steps == 3


# --------------------------------------------------------------------------- the cache


def test_the_second_process_compiles_nothing(tmp_path: Path, part: str) -> None:
    folder = str(tmp_path / "cache")
    assert run("print(values())", FASTNN_CACHE_DIR=folder) == part
    files = {path: path.stat().st_mtime_ns for path in Path(folder).iterdir()}
    assert files
    code = """
        from fastnn.kernels import numba_kernels
        numba_kernels.lower = None
        print(values())
    """
    assert run(code, FASTNN_CACHE_DIR=folder) == part
    assert {path: path.stat().st_mtime_ns for path in Path(folder).iterdir()} == files


@pytest.mark.parametrize("damage", ["empty", "nonsense", "short"])
def test_damaged_files_are_compiled_anew(tmp_path: Path, part: str, damage: str) -> None:
    run("print(values())", FASTNN_CACHE_DIR=str(tmp_path))
    for path in tmp_path.iterdir():
        whole = path.read_bytes()
        rest = {"empty": b"", "nonsense": b"not\nobject\ncode", "short": whole[:-9]}
        path.write_bytes(rest[damage])
    assert run("print(values())", FASTNN_CACHE_DIR=str(tmp_path)) == part


def test_the_key_knows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change in any file, also one that a kernel only imports, is another key."""
    before = numba_compile._fingerprint()
    for i, source in enumerate(numba_compile._SOURCES):
        changed = tmp_path / source.name
        changed.write_bytes(source.read_bytes() + b"\n")
        sources = [*numba_compile._SOURCES]
        sources[i] = changed
        monkeypatch.setattr(numba_compile, "_SOURCES", sources)
        numba_compile._fingerprint.cache_clear()
        assert numba_compile._fingerprint() != before
    monkeypatch.undo()
    numba_compile._fingerprint.cache_clear()
    assert numba_compile._fingerprint() == before


@pytest.mark.parametrize(("setting", "matters"), [("NUM_THREADS", False), ("OPT", True)])
def test_the_key_knows_the_settings(
    monkeypatch: pytest.MonkeyPatch, setting: str, matters: bool
) -> None:
    """Those that change code, and no other: joblib sets the number of threads in its workers."""
    fingerprint = numba_compile._fingerprint.__wrapped__
    before = fingerprint()
    monkeypatch.setenv(f"NUMBA_{setting}", "1")
    assert (fingerprint() != before) == matters


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is taken, and at last none."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    for name in ("FASTNN_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(blocked / "below"))
    monkeypatch.setattr(numba_compile, "__file__", str(blocked / "numba_compile.py"))
    numba_compile.directory.cache_clear()
    assert numba_compile.directory() is None
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "good"))
    numba_compile.directory.cache_clear()
    assert numba_compile.directory() == tmp_path / "good"
    monkeypatch.undo()
    numba_compile.directory.cache_clear()


def test_without_any_cache(part: str) -> None:
    assert run("print(values())", FASTNN_CACHE_DIR="", HOME="/nonexistent") == part


def test_two_processes_at_once(tmp_path: Path, part: str) -> None:
    """Both compile into one empty directory."""
    code = textwrap.dedent(PART) + "print(values())"
    environment = {**os.environ, "FASTNN_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in both] == [part] * 2
    assert all(path.suffix == ".o" for path in tmp_path.iterdir())


# --------------------------------------------------------------------------- alone

BLOCKER = """
    import sys

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name in {blocked!r}:
                raise ImportError("blocked " + name)

    sys.meta_path.insert(0, Blocker())
    print(parameters())
"""


@pytest.mark.parametrize("blocked", ["scipy", "fastnn.kernels.cython.engine"])
def test_without(blocked: str, expected: str) -> None:
    """SciPy, which Numba's own linear algebra needs; the compiled extension."""
    assert run(BLOCKER.format(blocked=[blocked])) == expected


def test_with_svml(tmp_path: Path, expected: str) -> None:
    """Intel's vector mathematics, that Numba switches on where it finds the library.

    What Numba does then is done here, since only some builds of llvmlite let it; the library
    itself is loaded where ``intel-cmplr-lib-rt`` is installed. Everything is compiled anew.
    """
    code = """
        import contextlib, math
        import fastnn, llvmlite.binding, numba

        with contextlib.suppress(RuntimeError):
            llvmlite.binding.load_library_permanently("libsvml.so")
            print("loaded", end=" ")
        llvmlite.binding.set_option("SVML", "-vector-library=SVML")
        numba.config.USING_SVML = True

        @fastnn.activation
        def swish(x):
            return x / (1 + math.exp(-x))

        layers = [Dense(20, activation=swish), Dense(1)]
        model = Sequential(layers, input_size=2, engine="numba", dtype="float64")
        like = Sequential([Dense(20, "silu"), Dense(1)], input_size=2, dtype="float64")
        like.parameters = model.parameters
        for each in (model, like):
            each.fit(X, X[:, :1], "mse", epochs=2, shuffle=False)
        assert np.allclose(model.parameters, like.parameters, 1e-12, 1e-14)
        print(parameters())
    """
    environment = {"FASTNN_CACHE_DIR": str(tmp_path)}
    try:
        files = importlib.metadata.files("intel-cmplr-lib-rt") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "libsvml.so":
            environment["LD_LIBRARY_PATH"] = str(Path(str(file.locate())).parent)
    output = run(code, **environment)
    assert output.removeprefix("loaded ") == expected
    assert output.startswith("loaded ") or not files


def test_auto_takes_numba_when_there_is_no_extension() -> None:
    code = """
        import fastnn
        print([name for name, row in fastnn.engines().items() if row["default"]])
    """
    blocked = BLOCKER.format(blocked=["fastnn.kernels.cython.engine"])
    output = run(textwrap.dedent(blocked) + textwrap.dedent(code))
    assert output.splitlines()[-1] == "['numba']"


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


# --------------------------------------------------------------------------- custom rows


class Custom:
    """A row as an object: the address of an array kernel, here of a built-in one."""

    def __init__(self, name: str, kernel: str) -> None:
        self.name, self.kernel = name, kernel

    def address(self, itemsize: int) -> int:
        """Of the C function for numbers of this size."""
        return numba_compile.address(self.kernel, 8 * itemsize)


def test_objects_stand_for_names(dtype: np.dtype) -> None:
    """An activation and a loss given by address train as the built-in ones of that code."""
    rng = np.random.default_rng(0)
    X, target = rng.normal(size=(40, 5)).astype(dtype), rng.normal(size=(40, 3)).astype(dtype)

    def train(activation: object, loss: object) -> list[bytes]:
        layers = (LayerSpec(5, 18, activation, True), LayerSpec(18, 3, activation, True))  # type: ignore[arg-type]
        network = numba_engine.Network(layers, dtype)
        network.set_parameters(np.linspace(-1, 1, network.size).astype(dtype))
        spec = LossSpec(loss, 0.7)  # type: ignore[arg-type]
        with network.trainer(spec, OptimizerSpec("sgd", 0), 16, 0) as trainer:
            trainer.epoch(X, target, None, 0, np.full(3, 0.1), True)
            value = trainer.evaluate(X, target, None)
        gradient = network.input_gradient(X, np.arange(3))
        output = network.predict(X)
        parts = [network.get_parameters(), output, gradient, np.array(value)]
        return [part.tobytes() for part in parts]

    custom = train(Custom("wavy", "forward mish"), Custom("bent", "loss huber"))
    assert custom == train("mish", "huber")
