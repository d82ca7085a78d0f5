"""The vector maths in ulp: tests/c/accuracy.c, for every instance that this processor runs.

    FASTNN_ACCURACY_POINTS=10000000 python -m pytest -s tests/engine/test_accuracy.py

prints the largest errors over ten million points; without the variable there are few.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fastnn.kernels.loader import load
from test_c_part import ROOT, compiler, includes, run, shipped_flags

__all__ = ["compiler"]  # a fixture

pytestmark = pytest.mark.thorough  # the compiler takes a minute

POINTS = os.environ.get("FASTNN_ACCURACY_POINTS", "20000")
INSTANCES = [f"{level}_f{bits}" for level in load("cython").available_levels() for bits in (32, 64)]


@pytest.mark.parametrize("instance", INSTANCES)
def test_every_function_is_as_near_as_it_promises(
    compiler: list[str], tmp_path: Path, instance: str
) -> None:
    if instance.endswith("64"):
        probe = tmp_path / "probe.c"
        probe.write_text("#include <quadmath.h>\n", encoding="utf-8")
        if run([*compiler, "-c", probe, "-o", tmp_path / "probe.o"]).returncode:
            pytest.skip(f"{compiler[0]} has no libquadmath, which knows the truth")
    program = tmp_path / "accuracy"
    built = run(
        [
            *compiler,
            *shipped_flags(),
            "-Wno-psabi",
            *includes(tmp_path),
            f'-DINSTANCE="{instance}.c"',
            ROOT / "tests/c/accuracy.c",
            "-o",
            program,
            *(["-lquadmath"] if instance.endswith("64") else []),
            "-lm",
        ]
    )
    assert built.returncode == 0, built.stderr
    done = run([program, POINTS])
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) == 15
