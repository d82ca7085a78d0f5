"""The C part on its own: tests/c/check.c, compiled as setup.py compiles the engine, and run.

Once as it is shipped and once under the address and undefined-behaviour sanitizers. This
needs a C compiler ($CC or cc), which a checkout needs anyway; where there is none, set
FASTNN_WITHOUT_COMPILER=1 to skip.
"""

from __future__ import annotations

import ast
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from runpy import run_path

import pytest
from fastnn.kernels.loader import load

ROOT = Path(__file__).parents[2]
C_PART = ROOT / "kernels/cython/c"
SOURCES = [ROOT / "tests/c/check.c", *sorted(C_PART.glob("*.c"))]
pytestmark = pytest.mark.thorough  # the compiler takes a minute

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def compiler() -> list[str]:
    command = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(command[0]):
        return command
    if os.environ.get("FASTNN_WITHOUT_COMPILER"):
        pytest.skip("no C compiler, and FASTNN_WITHOUT_COMPILER is set")
    pytest.fail(f"no C compiler {command[0]!r}: install one, set CC or FASTNN_WITHOUT_COMPILER=1")


def shipped_flags() -> list[str]:
    """FLAGS of setup.py, which cannot be imported without building."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLAGS":
            return list(ast.literal_eval(node.value))
    raise AssertionError("setup.py defines no FLAGS")


def includes(folder: Path) -> list[str]:
    """Where headers are found; formulas.h is written to the folder."""
    run_path(str(ROOT / "kernels/cython/to_c.py"))["write"](folder / "formulas.h")
    return [f"-I{C_PART}", f"-I{folder}"]


def run(command: Sequence[object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


def build(compiler: list[str], flags: list[str], folder: Path) -> Path:
    """Compile the sources at the same time, then link them."""
    flags = [*flags, *includes(folder)]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        done = run([*compiler, *flags, "-c", source, "-o", target])
        assert done.returncode == 0, done.stderr
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, SOURCES))
    program = folder / "check"
    done = run([*compiler, *flags, *objects, "-o", program, "-lm", "-pthread"])
    assert done.returncode == 0, done.stderr
    return program


def assert_passes(program: Path) -> None:
    """Every instance that this processor runs passes, in silence."""
    levels = load("cython").available_levels()
    done = run([program, levels[0]])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    instances = [line.split()[:2] for line in done.stdout.splitlines()]
    assert instances == [[level, dtype] for level in levels for dtype in ("float32", "float64")]


@pytest.fixture(scope="module")
def shipped(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it is shipped; the assembly of each source lies beside it."""
    folder = tmp_path_factory.mktemp("shipped")
    return build(compiler, [*shipped_flags(), "-save-temps=obj"], folder)


def test_as_shipped(shipped: Path) -> None:
    assert_passes(shipped)


def test_sanitized(compiler: list[str], tmp_path: Path) -> None:
    """Little optimization: what is measured here is where memory is touched."""
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n", encoding="utf-8")
    built = run([*compiler, *SANITIZERS, probe, "-o", tmp_path / "probe"])
    if built.returncode or run([tmp_path / "probe"]).returncode:
        pytest.skip(f"{compiler[0]} has no working sanitizers here")
    plain = [flag for flag in shipped_flags() if flag != "-O3"]
    assert_passes(build(compiler, [*plain, "-O1", *SANITIZERS], tmp_path))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="looks at x86-64's instructions")
@pytest.mark.parametrize("instance", sorted(path.stem for path in SOURCES[1:]))
def test_vectors_stay_whole(shipped: Path, instance: str) -> None:
    """Where the compiler takes a mask or a conversion to pieces, it extracts lane by lane."""
    listing = shipped.with_name(f"{instance}.s").read_text(encoding="utf-8")
    parts = re.split(r"^((?!\.L)[\w.]+):", listing, flags=re.MULTILINE)
    hot = {
        name: body
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
        if re.fullmatch(
            r"((?!plain_)\w+_(forward|backward|elements)|update_\w+|cross_entropy_loss)(\.\w+)*",
            name,
        )
    }
    assert {"tanh_forward", "mse_elements", "cross_entropy_loss", "update_adam"} <= hot.keys()
    pieces = {name: body.count("pextr") for name, body in hot.items()}
    assert not {name: count for name, count in pieces.items() if count}
