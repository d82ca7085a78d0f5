"""``fastnn train`` on tables with text and gaps, its report, and predictions of the pipeline."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from fastnn import MLPClassifier, cli
from fastnn.estimators import tabular

ROWS = 400


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text and a number, with gaps, decide a label and a price; a text column is noise."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    size = rng.normal(size=ROWS)
    colour = rng.choice(["red", "green", "blue, light"], ROWS)
    answer = np.where((size > 0) ^ (colour == "red"), "ja", "nein")
    price = 100 + 30 * size + np.where(colour == "red", 50, 0)
    is_gap = rng.random((2, ROWS)) < 0.04
    with open(tmp_path / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "colour", "noise", "answer", "price"])
        for row in range(ROWS):
            writer.writerow(
                [
                    "" if is_gap[0, row] else size[row],
                    "n/a" if is_gap[1, row] else colour[row],
                    rng.choice(["a", "b"]),
                    answer[row],
                    price[row],
                ]
            )
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code = cli.main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    assert code == 0, streams.err
    return streams.out


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


TRAIN = ("train", "table.csv", "--features", "size,colour,noise", "--target")


def test_labels_from_text_and_gaps(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, *TRAIN, "answer", "--json", "--report", "report", "--save", "m.joblib")
    found = json.loads(out)
    assert found["test_accuracy"] > 0.85
    assert found["train_rows"] + found["test_rows"] == ROWS
    assert found["columns"] == {"size": "number", "colour": "text", "noise": "text"}
    # a number, three colours, a gap, two of noise
    assert found["network"] == "7-256-1"
    assert json.loads((table / "report/report.json").read_text()) == found
    assert "nein" in (table / "report/report.txt").read_text()
    assert is_picture(table / "report/confusion.png")
    network = tabular.network_of(joblib.load(table / "m.joblib")["pipeline"])
    assert isinstance(network, MLPClassifier)
    assert network._model.dtype == np.float32

    answers = run(capsys, "predict", "m.joblib", "table.csv").splitlines()
    assert answers[0] == "answer"
    with open("table.csv", newline="", encoding="utf-8") as file:
        truth = [row["answer"] for row in csv.DictReader(file)]
    assert np.mean(np.array(answers[1:]) == truth) > 0.85
    assert run(capsys, "predict", "report/pipeline.joblib", "table.csv").splitlines() == answers


def test_numbers_from_text_and_gaps(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, *TRAIN, "price", "--report", "deep/report", "--seed", 3)
    assert "test R²" in out
    found = json.loads((table / "deep/report/report.json").read_text())
    assert found["test_r2"] > 0.6
    assert found["test_mae"] <= found["test_rmse"] < 40
    assert is_picture(table / "deep/report/residuals.png")
    again = json.loads(run(capsys, *TRAIN, "price", "--json", "--seed", 3))
    assert again["test_r2"] == found["test_r2"]


def test_a_new_value_and_a_new_gap_are_no_fault(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, *TRAIN, "answer", "--epochs", 2, "--save", "m.joblib")
    Path("new.csv").write_text("colour,size,noise\nviolet,?,a\n,1.5,\n", encoding="utf-8")
    assert len(run(capsys, "predict", "m.joblib", "new.csv").splitlines()) == 3
    Path("new.csv").write_text("colour,size\nred,1\n", encoding="utf-8")
    assert_fault(capsys, "noise", "predict", "m.joblib", "new.csv")
    Path("new.csv").write_text("colour,size,noise\nred,tall,a\n", encoding="utf-8")
    assert_fault(
        capsys, "line 2, column 'size': 'tall' is not a number", "predict", "m.joblib", "new.csv"
    )


def assert_fault(capsys: pytest.CaptureFixture[str], message: str, *arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_mistakes(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[str, tuple[Any, ...]]] = [
        ("saved as FILE.joblib", (*TRAIN, "answer", "--save", "m.safetensors")),
        ("did you mean 'answer'", (*TRAIN, "anser")),
        ("there is nothing to regress", (*TRAIN, "answer", "--task", "regression")),
        ("for CSV files", ("train", "digits", "--report", "report")),
        ("no pipeline", ("predict", "other.joblib", "table.csv")),
        ("No such file", ("predict", "none.joblib", "table.csv")),
        ("no saved pipeline", ("predict", "broken.joblib", "table.csv")),
    ]
    joblib.dump({"format": "another"}, "other.joblib")
    Path("broken.joblib").write_bytes(b"what is this")
    for message, arguments in cases:
        assert_fault(capsys, message, *arguments)
    assert not (table / "report").exists()
    with open("same.csv", "w", encoding="utf-8") as file:
        file.write("a,b\n" + "x,1\n" * 10)
    assert_fault(capsys, "same value", "train", "same.csv", "--target", "b")


def test_without_scikit_learn(
    table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text is refused as ever; what was asked for names the command that installs it."""
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert_fault(capsys, "column 'size': a value is missing", *TRAIN, "price")
    text = ("train", "table.csv", "--features", "colour", "--target", "price")
    assert_fault(capsys, "column 'colour': 'green' is not a number", *text)
