"""What a checkout and an installation must have; builds and fresh environments are in .ci/run."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_one_version() -> None:
    assert PROJECT["version"] == fastnn.__version__
    assert importlib.metadata.version("fastnn-kernels") == fastnn.__version__
    assert f"## [{fastnn.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_numpy_is_the_only_dependency() -> None:
    assert [name.partition(">")[0] for name in PROJECT["dependencies"]] == ["numpy"]


def test_the_test_extra_has_every_extra() -> None:
    """So that no test needs to be skipped."""
    extras = PROJECT["optional-dependencies"]
    wanted = {"numba", "sklearn", "plot", "lab"}
    assert extras["all"] == ["fastnn-kernels[numba,sklearn,plot,lab]"]
    assert wanted < extras.keys()
    assert extras["test"][0].startswith("fastnn-kernels[all")


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("fastnn", "py.typed"),
        ("fastnn", "data/digits.npz"),
        ("fastnn", "data/LICENSE-digits.txt"),
        ("fastnn.kernels", "py.typed"),
    ],
)
def test_package_data(package: str, name: str) -> None:
    assert resources.files(package).joinpath(name).is_file()


def test_the_command_is_installed() -> None:
    (script,) = (
        entry
        for entry in importlib.metadata.entry_points(group="console_scripts")
        if entry.name == "fastnn"
    )
    assert script.value == PROJECT["scripts"]["fastnn"]
    assert callable(script.load())


def test_the_root_does_not_shadow_the_package() -> None:
    """``import kernels`` beside ``kernels/`` would load every module a second time."""
    found = subprocess.run(
        [sys.executable, "-c", "import kernels"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode != 0
    last = found.stderr.splitlines()[-1]
    assert last.startswith("ImportError")
    assert "fastnn.kernels" in last


def test_scripts_can_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
