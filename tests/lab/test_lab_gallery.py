"""``fastnn lab`` and its gallery: every picture drawn, the page, the table in the docs."""

from __future__ import annotations

import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

import fastnn
from fastnn import lab
from fastnn.cli import main as cli
from fastnn.lab import command, gallery, style
from fastnn.lab.gallery import EXPERIMENTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
PICTURES = [picture for row in EXPERIMENTS.values() for picture in row.pictures]

#: A few hundredths of the full size: enough for something to be drawn.
SMALL: dict[Any, dict[str, Any]] = {
    lab.random_networks: {"count": 3}, lab.learning_rates: {}, lab.towers_by_hand: {"points": 21},
    lab.more_examples: {"examples": 1000, "states_per_decade": 2}, lab.nudges: {"examples": 12},
    lab.architectures: {"hidden": ((1,), (2, 2)), "starts": 1, "epochs": 2, "rows": 64},
    lab.two_weights: {"starts": 3, "steps": 6, "points": 31}, lab.diabetes: {"epochs": 3},
    lab.real_network: {"epochs": 2, "rows": 50, "points": 7, "starts": 2, "steps": 5},
    lab.mini_batches: {"sizes": (8, 32), "updates": 60, "full_updates": 20, "points": 7},
    lab.stuck_starts: {"widths": (4, 5), "starts": 3, "epochs": 3, "rows": 32}, lab.chain: {},
    lab.equivalent_solutions: {"networks": 3, "epochs": 2, "rows": 64},
    lab.approximation: {"sides": (1, 2, 4), "epochs": 2, "rows": 128, "points": 12},
    lab.read_digits: {"source": "small", "epochs": 2, "noises": 20},
    lab.softmax_cross_entropy: {"points": 21},
}  # fmt: skip
IMPOSSIBLE = [
    (lab.random_networks, "count", 0), (lab.more_examples, "examples", 9),
    (lab.more_examples, "states_per_decade", 0), (lab.architectures, "starts", 0),
    (lab.learning_rates, "steps", 0), (lab.two_weights, "starts", 0),
    (lab.real_network, "hidden", 1), (lab.mini_batches, "sizes", (0,)),
    (lab.stuck_starts, "starts", 0), (lab.equivalent_solutions, "networks", 0),
    (lab.towers_by_hand, "points", 1), (lab.approximation, "sides", (0,)),
    (lab.stuck_starts, "widths", (3,)), (lab.read_digits, "noises", 0),
    (lab.chain, "neurons", 10), (lab.nudges, "examples", 1798),
    (lab.softmax_cross_entropy, "points", 0), (lab.diabetes, "epochs", 0),
]  # fmt: skip


def test_the_whole_gallery_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture of the table is drawn and shown on the page, with its figures."""
    monkeypatch.setitem(style._RC, "figure.dpi", 40)
    monkeypatch.setattr(style, "_GIF_DPI", 30)
    said: list[str] = []
    files = lab.run(EXPERIMENTS, tmp_path / "new", arguments=SMALL, say=said.append)
    assert [path.name for path in files] == [picture.file for picture in PICTURES] + ["index.html"]
    page = files[-1].read_text(encoding="utf-8")
    for path in files[:-1]:
        with Image.open(path) as opened:
            assert min(opened.size) > 80
            assert (getattr(opened, "n_frames", 1) > 1) == (path.suffix == ".gif"), path
        assert f'src="{path.name}"' in page
    assert len(said) == len(SMALL), "each function runs once"
    assert all(re.search(r"\d", line.partition(": ")[2]) for line in said)
    assert "nan" not in " ".join(said)
    assert all(f">{row.title}</h2>" in page for row in EXPERIMENTS.values())


def test_the_table() -> None:
    functions = {picture.function for picture in PICTURES}
    assert functions == SMALL.keys() == {function for function, _, _ in IMPOSSIBLE}
    assert all(getattr(lab, function.__name__) is function for function in functions)
    assert set(dir(lab)) >= set(lab.__all__)
    assert len({picture.file for picture in PICTURES}) == len(PICTURES)
    for name, row in EXPERIMENTS.items():
        moving = [picture for picture in row.pictures if picture.file.endswith(".gif")]
        stills = [picture for picture in row.pictures if picture.file.endswith(".png")]
        assert len(stills) >= (2 if name in ("landscape", "digits", "backprop") else 1)
        assert len(moving) == (name in ("more-examples", "landscape", "digits"))
        assert all(inspect.isgeneratorfunction(picture.draw) for picture in moving)
        assert all(all(picture.texts()) for picture in stills)


def test_the_page_in_the_docs_is_written_from_the_code(tmp_path: Path) -> None:
    """Its captions; and its pictures are in the folder, and small."""
    page = tmp_path / "gallery.md"
    page.write_text("before <!-- pictures -->\n<!-- /pictures --> after", encoding="utf-8")
    gallery.write_gallery(page)
    assert re.fullmatch("before (<!.*>) after", page.read_text("utf-8"), re.DOTALL)[1] in PAGE
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="has no <!-- pictures -->"):
        gallery.write_gallery(page)
    shown = re.findall(r"!\[[^\]]+\]\(gallery/([^)]+)\)", PAGE)
    assert shown == [picture.file for picture in PICTURES]
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "gallery").iterdir()}
    assert sorted(sizes) == sorted(shown)
    most = {".png": 150_000, ".gif": 500_000}
    assert all(size < most[Path(name).suffix] for name, size in sizes.items())
    assert sum(sizes.values()) < 2_500_000


def test_the_map_of_the_docs_is_complete() -> None:
    """Each of S1 to S16 names experiments, functions and tests that exist and say so."""
    table = re.findall(r"^\| (S\d+) \|(.*)\|$", PAGE, flags=re.MULTILINE)
    assert [row for row, _ in table] == [f"S{k}" for k in range(1, 17)]
    paths = (ROOT / "tests" / "lab").glob("test_*.py")
    tests = "".join(path.read_text(encoding="utf-8") for path in paths)
    claims = dict(re.findall(r'def (test_\w+)\([^"]*"""((?:S\d+, )*S\d+): ', tests))
    named = []
    for row, cells in table:
        _, experiments, functions, proofs = cells.split("|")
        named += re.findall(r"`([\w-]+)`", experiments)
        assert all(callable(getattr(lab, f)) for f in re.findall(r"`lab\.(\w+)", functions))
        proven = re.findall(r"`(test_\w+)`", proofs)
        assert proven, row
        assert all(row in claims[name].split(", ") for name in proven), row
    assert set(named) == EXPERIMENTS.keys()


@pytest.mark.parametrize(("function", "argument", "value"), IMPOSSIBLE)
def test_sizes_that_cannot_be(function: Any, argument: str, value: Any) -> None:
    """One clear error, whichever of the sizes it is."""
    with pytest.raises(ValueError, match=r"must be ≥ \d"):
        function(**{argument: value})
    with pytest.raises(ValueError, match="did you mean 'numpy'"):
        function(engine="nunpy")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["lab", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It lists the experiments, runs those that are named, or all; and writes the captions."""
    code, out, _ = run(capsys)
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, list(EXPERIMENTS))
    page = tmp_path / "page.md"
    page.write_text("<!-- pictures -->\n\n<!-- /pictures -->", encoding="utf-8")
    options = ("--out", tmp_path / "d", "--engine", "numpy", "--gallery", page)
    code, out, err = run(capsys, "random-networks", *options)
    names = [Path(line).name for line in out.splitlines()]
    assert (code, names) == (0, ["random-networks.png", "index.html"])
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == sorted(names)
    assert "12 random sets of weights" in err
    assert gallery.markdown() in page.read_text(encoding="utf-8")
    seen: list[Any] = []
    monkeypatch.setattr(command, "run", lambda *options, say: seen.append(options) or ["a file"])
    assert run(capsys, "--all", "--out", tmp_path)[:2] == (0, "a file\n")
    assert seen == [(EXPERIMENTS, str(tmp_path), "auto")]


def test_mistakes_on_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        ("random-networks", "--out DIR"),
        ("--all", "--out DIR"),
        ("random-network --out d", "did you mean 'random-networks'"),
        ("towers --all --out d", "not both"),
        ("random-networks --out d --engine nunpy", "did you mean 'numpy'"),
        ("--gallery page.md", "page.md"),
    ):
        code, out, err = run(capsys, *arguments.split())
        assert (code, out, len(err.splitlines())) == (2, "", 1), arguments
        assert message in err
    assert list(tmp_path.iterdir()) == []


def test_pictures_need_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing runs, nothing is written; the experiments themselves need no matplotlib."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn-kernels\[lab\]"'):
        lab.run(["random-networks"], tmp_path / "d")
    assert not (tmp_path / "d").exists()
    assert "1 random sets" in lab.random_networks(count=1).summary()


def test_the_lab_is_imported_when_it_is_asked_for() -> None:
    """Neither the package nor the command line loads it, and it loads no extra."""
    code = """
import sys
import fastnn.cli.main
before = [m for m in sys.modules if m.startswith("fastnn.lab")]
import fastnn.lab
extras = [m for m in ("matplotlib", "PIL", "mlxtend", "sklearn", "numba") if m in sys.modules]
print(before, extras)
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("\n")[0] == "[] []"
    assert "lab" not in fastnn.__all__


def test_frames_share_one_picture(tmp_path: Path) -> None:
    """A GIF has as many frames as there are states, and they differ."""
    result = lab.more_examples(300, hidden=(4,), states_per_decade=3)
    style.save_gif(result.frames(), tmp_path / "a.gif", (50, 100))
    with Image.open(tmp_path / "a.gif") as opened:
        frames = ImageSequence.Iterator(opened)
        pictures = [np.asarray(frame.convert("RGB"), int) for frame in frames]
    assert len(pictures) == len(result.counts)
    for before, after in itertools.pairwise(pictures):
        assert 0 < np.mean(np.any(before != after, axis=2)) < 0.2
