"""``fastnn train`` on tables with text and gaps, its report, and predictions of the pipeline."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import joblib
import numpy as np
import pytest
from commandline import column, report, run, write_csv

from fastnn import MLPClassifier

ROWS = 400
TRAIN = "train table.csv --features size,colour,noise --target"


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text and a number, with gaps, decide a label and a price; a text column is noise."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    size = rng.normal(size=ROWS)
    colour = rng.choice(["red", "green", "blue, light"], ROWS)
    answer = np.where((size > 0) ^ (colour == "red"), "ja", "nein")
    price = 100 + 30 * size + np.where(colour == "red", 50, 0)
    is_gap = rng.random((2, ROWS)) < 0.04
    sizes, colours = np.where(is_gap[0], "", size.astype(str)), np.where(is_gap[1], "n/a", colour)
    columns = {"size": sizes, "colour": colours, "noise": rng.choice(["a", "b"], ROWS)}
    write_csv("table.csv", columns | {"answer": answer, "price": price})


def test_labels_from_text_and_gaps() -> None:
    found = report(f"{TRAIN} answer --report report --save m.joblib")
    assert found["test_accuracy"] > 0.85
    assert found["train_rows"] + found["test_rows"] == ROWS
    assert found["columns"] == {"size": "number", "colour": "text", "noise": "text"}
    # a number, three colours, a gap, two of noise; weights and biases
    assert (found["network"], found["parameters"]) == ("7-256-1", 8 * 256 + 257)
    assert found["threads"] >= 1
    assert json.loads(Path("report/report.json").read_text()) == found
    assert "nein" in Path("report/report.txt").read_text()
    assert Path("report/confusion.png").read_bytes()[:4] == b"\x89PNG"
    network = joblib.load("m.joblib")["pipeline"][-1]
    assert (type(network), network.coefs_[0].dtype) == (MLPClassifier, np.float32)
    out = run("predict m.joblib table.csv").text
    truth = column(Path("table.csv").read_text(), "answer")
    assert np.mean(np.array(column(out, "answer")) == truth) > 0.85
    assert run("predict report/pipeline.joblib table.csv").text == out


def test_numbers_from_text_and_gaps() -> None:
    assert "test R²" in run(f"{TRAIN} price --report deep/report --seed 3").text
    found = json.loads(Path("deep/report/report.json").read_text())
    assert found["test_r2"] > 0.6
    assert found["test_mae"] <= found["test_rmse"] < 40
    assert Path("deep/report/residuals.png").read_bytes()[:4] == b"\x89PNG"
    assert report(f"{TRAIN} price --seed 3")["test_r2"] == found["test_r2"]


def test_numbers_alone_as_a_pipeline() -> None:
    """Where one is asked for, it takes a table that a network would have taken."""
    x = np.arange(60)
    write_csv("d.csv", {"x": x, "y": x // 30})
    assert report("train d.csv --target y --save m.pkl")["columns"] == {"x": "number"}
    assert report("train d.csv --target y")["speedup_over_numpy"] > 0
    assert len(column(run("predict m.pkl d.csv").text, "y")) == 60


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("colour,size,noise\nviolet,?,a\n,1.5,\n", None),
        ("colour,size\nred,1\n", "noise"),
        ("colour,size,noise\nred,tall,a\n", "line 2, column 'size': 'tall' is not a number"),
    ],
)
def test_a_new_value_and_a_new_gap_are_no_fault(text: str, fault: str | None) -> None:
    report(f"{TRAIN} answer --epochs 2 --save m.joblib")
    Path("new.csv").write_text(text, encoding="utf-8")
    ran = run("predict m.joblib new.csv")
    assert fault in ran.fault if fault else len(ran.text.splitlines()) == 3


def test_mistakes() -> None:
    joblib.dump({"format": "another"}, "other.joblib")
    Path("broken.joblib").write_bytes(b"what is this")
    write_csv("same.csv", {"a": ["x"] * 10, "b": [1] * 10})
    for command, message in {
        f"{TRAIN} answer --save m.safetensors": "saved as FILE.joblib",
        f"{TRAIN} anser": "did you mean 'answer'",
        f"{TRAIN} answer --task regression": "there is nothing to regress",
        "train same.csv --target b": "same value",
        "train digits --report report": "for CSV files",
        "predict other.joblib table.csv": "no pipeline",
        "predict none.joblib table.csv": "No such file",
        "predict broken.joblib table.csv": "no saved pipeline",
    }.items():
        assert message in run(command).fault
    assert not Path("report").exists()


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text and gaps are refused as where no pipeline can be had for them."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "column 'size': a value is missing" in run(f"{TRAIN} price").fault
    text = run("train table.csv --features colour --target price").fault
    assert "column 'colour': 'green' is not a number" in text
