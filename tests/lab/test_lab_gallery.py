"""``fastnn lab`` and its gallery: every picture drawn, the page, the table in the docs."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastnn
from fastnn import lab
from fastnn.cli import main as cli
from fastnn.lab import style
from fastnn.lab.gallery import EXPERIMENTS, Picture

ROOT = Path(__file__).parents[2]
GALLERY = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
PICTURES = [picture for row in EXPERIMENTS.values() for picture in row.pictures]

#: A few hundredths of the full size: enough for something to be drawn.
SMALL: dict[Any, dict[str, Any]] = {
    lab.random_networks: {"count": 3},
    lab.more_examples: {"examples": 1000, "states_per_decade": 2},
    lab.architectures: {"hidden": ((1,), (2, 2)), "starts": 1, "epochs": 2, "rows": 64},
    lab.learning_rates: {},
    lab.two_weights: {"starts": 3, "steps": 6, "points": 31},
    lab.real_network: {"epochs": 2, "rows": 50, "points": 7, "starts": 2, "steps": 5},
    lab.mini_batches: {"sizes": (8, 32), "updates": 60, "full_updates": 20, "points": 7},
    lab.stuck_starts: {"widths": (4, 5), "starts": 3, "epochs": 3, "rows": 32},
    lab.equivalent_solutions: {"networks": 3, "epochs": 2, "rows": 64},
    lab.towers_by_hand: {"points": 21},
    lab.approximation: {"sides": (1, 2, 4), "epochs": 2, "rows": 128, "points": 12},
    lab.read_digits: {"source": "small", "epochs": 2, "noises": 20},
    lab.chain: {},
    lab.nudges: {"examples": 12},
    lab.softmax_cross_entropy: {"points": 21},
    lab.diabetes: {"epochs": 3},
}


def size(path: Path) -> tuple[int, int, int]:
    """Width, height and frames of an image file."""
    with Image.open(path) as opened:
        return *opened.size, getattr(opened, "n_frames", 1)


def test_the_whole_gallery_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture of the table is drawn and shown on the page, with its figures."""
    monkeypatch.setitem(style._RC, "figure.dpi", 40)
    monkeypatch.setattr(style, "_GIF_DPI", 30)
    said: list[str] = []
    files = lab.run(EXPERIMENTS, tmp_path / "new", arguments=SMALL, say=said.append)
    assert [path.name for path in files] == [picture.file for picture in PICTURES] + ["index.html"]
    page = files[-1].read_text(encoding="utf-8")
    for path in files[:-1]:
        width, height, frames = size(path)
        assert min(width, height) > 80
        assert (frames > 1) == (path.suffix == ".gif"), path
        assert f'src="{path.name}"' in page
    assert len(said) == len(SMALL), "each function runs once"
    assert all(re.search(r"\d", line.partition(": ")[2]) for line in said)
    assert "nan" not in " ".join(said)
    for row in EXPERIMENTS.values():
        assert f">{row.title}</h2>" in page


def test_the_table() -> None:
    functions = {picture.function for picture in PICTURES}
    assert functions == SMALL.keys()
    assert all(getattr(lab, function.__name__) is function for function in functions)
    assert set(dir(lab)) >= set(lab.__all__)
    files = [picture.file for picture in PICTURES]
    assert len(set(files)) == len(files)
    for name, row in EXPERIMENTS.items():
        stills = [picture for picture in row.pictures if picture.file.endswith(".png")]
        moving = [picture for picture in row.pictures if picture.file.endswith(".gif")]
        assert len(stills) >= (2 if name in ("landscape", "digits", "backprop") else 1)
        assert len(moving) == (name in ("more-examples", "landscape", "digits"))
        assert all(picture.draw == "frames" for picture in moving)


def test_pictures_in_the_docs_are_those_of_the_table() -> None:
    """In the page, in the folder, and small."""
    folder = ROOT / "docs" / "gallery"
    shown = re.findall(r"!\[[^\]]+\]\(gallery/([^)]+)\)", GALLERY)
    assert sorted(shown) == sorted(picture.file for picture in PICTURES)
    assert sorted(path.name for path in folder.iterdir()) == sorted(shown)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert max(kb for name, kb in sizes.items() if name.endswith(".png")) < 150_000
    assert max(kb for name, kb in sizes.items() if name.endswith(".gif")) < 500_000
    assert sum(sizes.values()) < 2_500_000


def test_the_map_of_the_docs_is_complete() -> None:
    """Each of S1 to S16 names experiments, functions and tests that exist."""
    table = re.findall(r"^\| (S\d+) \|(.*)\|$", GALLERY, flags=re.MULTILINE)
    assert [row for row, _ in table] == [f"S{k}" for k in range(1, 17)]
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/test_*.py"))
    for row, cells in table:
        _, experiments, functions, proofs = cells.split("|")
        names = re.findall(r"`([\w-]+)`", experiments)
        assert set(names) <= EXPERIMENTS.keys(), row
        assert any(row in EXPERIMENTS[name].rows.split() for name in names), row
        for name in re.findall(r"`lab\.(\w+)", functions):
            assert callable(getattr(lab, name))
        proven = re.findall(r"`(test_\w+)`", proofs)
        assert proven, row
        for name in proven:
            assert f"def {name}(" in tests, name
    for name, experiment in EXPERIMENTS.items():
        assert set(experiment.rows.split()) <= {row for row, _ in table}, name


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    [
        (lab.random_networks, "count", 0),
        (lab.more_examples, "examples", 9),
        (lab.more_examples, "states_per_decade", 0),
        (lab.architectures, "starts", 0),
        (lab.learning_rates, "steps", 0),
        (lab.two_weights, "starts", 0),
        (lab.real_network, "hidden", 1),
        (lab.mini_batches, "sizes", (0,)),
        (lab.stuck_starts, "starts", 0),
        (lab.equivalent_solutions, "networks", 0),
        (lab.towers_by_hand, "points", 1),
        (lab.approximation, "sides", (0,)),
        (lab.read_digits, "noises", 0),
        (lab.chain, "neurons", 10),
        (lab.nudges, "examples", 1798),
        (lab.softmax_cross_entropy, "points", 0),
        (lab.diabetes, "epochs", 0),
    ],
)
def test_sizes_that_cannot_be(function: Any, argument: str, value: Any) -> None:
    """One clear error, whichever of the sizes it is."""
    with pytest.raises(ValueError, match=r"must be ≥ \d"):
        function(**{argument: value})
    with pytest.raises(ValueError, match="did you mean 'numpy'"):
        function(engine="nunpy")


# --------------------------------------------------------------------------- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["lab", *map(str, arguments)])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(EXPERIMENTS)


def test_one_experiment(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "random-networks", "--out", tmp_path / "d", "--engine", "numpy")
    assert code == 0
    names = [Path(line).name for line in out.splitlines()]
    assert names == ["random-networks.png", "index.html"]
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == sorted(names)
    assert "12 random sets of weights" in err


def test_all_is_every_experiment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []

    def pretend(names: Any, folder: Any, engine: str, say: Any) -> list[Path]:
        seen.append((list(names), folder, engine))
        return [Path("index.html")]

    monkeypatch.setattr("fastnn.lab.command.run", pretend)
    code, out, _ = run(capsys, "--all", "--out", tmp_path)
    assert (code, out) == (0, "index.html\n")
    assert seen == [(list(EXPERIMENTS), str(tmp_path), "auto")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random-networks"], "--out DIR"),
        (["--all"], "--out DIR"),
        (["random-network", "--out", "d"], "did you mean 'random-networks'"),
        (["towers", "--all", "--out", "d"], "not both"),
        (["random-networks", "--out", "d", "--engine", "nunpy"], "did you mean 'numpy'"),
    ],
)
def test_mistakes(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_pictures_need_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing runs, nothing is written; the experiments themselves need no matplotlib."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn-kernels\[lab\]"'):
        lab.run(["random-networks"], tmp_path / "d")
    assert not (tmp_path / "d").exists()
    result = lab.random_networks(count=1)
    assert "1 random sets" in result.summary()


def test_the_lab_is_imported_when_it_is_asked_for() -> None:
    """Neither the package nor the command line loads it, and it loads no extra."""
    code = """
import sys
import fastnn.cli
before = [m for m in sys.modules if m.startswith("fastnn.lab")]
import fastnn.lab
extras = [m for m in ("matplotlib", "PIL", "mlxtend", "sklearn", "numba") if m in sys.modules]
print(before, extras)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[0] == "[] []"
    assert "lab" not in fastnn.__all__


def test_frames_share_one_picture(tmp_path: Path) -> None:
    """A GIF has as many frames as there are states, and they differ."""
    result = lab.more_examples(300, hidden=(4,), states_per_decade=3)
    path = tmp_path / "a.gif"
    style.save_gif(result.frames(), path, (50, 100))
    with Image.open(path) as opened:
        pictures = []
        for k in range(opened.n_frames):
            opened.seek(k)
            pictures.append(np.asarray(opened.convert("RGB"), int))
    assert len(pictures) == len(result.counts)
    for before, after in itertools.pairwise(pictures):
        assert 0 < np.mean(np.any(before != after, axis=2)) < 0.2


def test_a_picture_names_a_drawing() -> None:
    for picture in PICTURES:
        assert isinstance(picture, Picture)
        returns = picture.function.__annotations__["return"]
        module = sys.modules[picture.function.__module__]
        assert callable(getattr(getattr(module, returns), picture.draw))
