"""What the documents say is true: their programs run, their names and links exist."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from fastnn.kernels.contract import ACTIVATIONS

import fastnn
from fastnn import losses, optimizers
from fastnn.cli import main as cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_programs_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        exec(compile(block, str(page), "exec"), {})


def test_the_ten_lines_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    block, _ = blocks(README, "python")
    assert len([line for line in block.splitlines() if line]) <= 10
    names: dict[str, object] = {}
    exec(block, names)
    assert float(capsys.readouterr().out.split()[-1]) > 0.95
    assert isinstance(fastnn.load("digits.safetensors"), fastnn.Sequential)


EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_examples_run(
    example: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(example), run_name="__main__")
    out = capsys.readouterr().out
    assert out
    assert f"python {example.relative_to(ROOT).as_posix()}" in example.read_text(encoding="utf-8")
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == set(re.findall(r"[\w-]+\.png", out)), "it says what it writes"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the options that stand beside them in the same piece of code."""
    text = page.read_text(encoding="utf-8")
    for command, rest in re.findall(r"\bfastnn (train|predict|bench|lab|info)\b([^`\n]*)", text):
        with pytest.raises(SystemExit, match="0"):
            cli.main([command, "--help"])
        known = capsys.readouterr().out
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in known


def row(name: str) -> set[str]:
    """The names in a row of the README's table of what there is."""
    (line,) = re.findall(rf"^\| {name} \|(.*)\|$", README, flags=re.MULTILINE)
    return set(re.findall(r"`(\w+)`", line))


def test_the_tables_are_complete() -> None:
    assert row("activations") == set(ACTIVATIONS)
    assert row("losses") == set(losses.LOSSES)
    assert row("optimizers") == {kind.__name__ for kind in optimizers.OPTIMIZERS.values()}
    for name in row("layers") | row("optimizers") | row("schedules"):
        assert name in fastnn.__all__
    for name in row("also"):
        assert hasattr(fastnn.Sequential, name)


def test_how_to_add_an_activation_names_real_places() -> None:
    section = README.partition("## Add an activation")[2].partition("\n## ")[0]
    for path in re.findall(r"\]\(([^)]+)\)", section):
        name, _, heading = path.partition("#")
        text = (ROOT / name).read_text(encoding="utf-8")
        wanted = f"## {heading.replace('-', ' ')}" if heading else "hard_swish"
        assert wanted in text.replace("To add", "to add"), "the table is in this file"


def test_the_ratios_have_their_place() -> None:
    """The markers between which a script may write."""
    assert README.count("<!-- ratios -->") == README.count("<!-- /ratios -->") == 1
    assert README.index("<!-- ratios -->") < README.index("<!-- /ratios -->")
