"""The command line: what a user types and reads. (What they get wrong: ``test_cli_mistakes``.)

A few commands run in a process of their own, where exit codes, streams and signals are the
system's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import column, report, run, write_csv

import fastnn
from fastnn.bench.comparison import gradient_error, speedup
from fastnn.cli import networks, tables
from fastnn.cli.networks import Preprocessing
from fastnn.cli.tables import NUMBER, TEXT, Table, TableError
from fastnn.datasets import load_digits, stratified_split

CURVE = [fastnn.Dense(3, "tanh"), fastnn.Dense(1)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; commands in this process spend no time on being timed."""
    monkeypatch.setattr(networks, "speedup", lambda *arguments, **options: 1.5)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_digits(folder: Path) -> None:
    found = report("train digits")
    assert found["test_accuracy"] >= 0.97
    assert found["train_rows"] + found["test_rows"] == 1797
    assert (found["epochs"], found["speedup_over_numpy"]) == (40, 1.5)
    assert min(found["threads"], found["samples_per_second"]) > 0
    # float32 carries 24 bits; the sums over rows and layers cost a few of them.
    assert 0 < found["gradient_error"] < 1e-5
    (default,) = ((name, one["isa"]) for name, one in fastnn.engines().items() if one["default"])
    assert (found["engine"], found["isa"]) == default
    assert os.listdir(folder) == []


def test_train_prints_for_people() -> None:
    ran = run("train digits --epochs 12")
    lines, err = ran.text.splitlines(), ran.err
    names = ["test", "training", "speed", "gradient", "engine"]
    assert [line.split()[0] for line in lines] == names
    starts = {line.index(line.split("  ", 1)[1].strip()) for line in lines}
    assert len(starts) == 1, "the values are aligned"
    assert "1438 rows" in err and "network 64-256-10: 19210 parameters" in err  # noqa: PT018
    shown = [int(line.split()[0]) for line in err.splitlines()[3:]]
    # Ten lines on the way; more only where an epoch takes seconds, as under emulation.
    assert {2, 3, 4, 5, 6, 8, 9, 10, 11, 12} <= set(shown)
    assert shown == sorted(set(shown))


def test_the_options_reach_the_fit() -> None:
    options = "--hidden 12,7 --activation tanh --epochs 3 --batch-size 50 --lr 0.02"
    options += " --optimizer sgd --seed 5 --threads 2 --engine numpy --dtype float64 --save m"
    found = report(f"train digits {options}")
    model = fastnn.load("m")
    layers = [(layer.units, layer.activation) for layer in model.layers]
    assert layers == [(12, "tanh"), (7, "tanh"), (10, "softmax")]
    assert (model.dtype, model.seed) == (np.float64, 5)
    # The same by hand gives the same parameters, bit for bit.
    X, y = load_digits()
    train, test = stratified_split(y)
    X = X.astype(np.float64)
    scale = X[train].std(axis=0)
    X = (X - X[train].mean(axis=0)) / np.where(scale > 0, scale, 1)
    again = fastnn.Sequential.from_config(model.get_config(), engine="numpy")
    recipe = {"loss": "cross_entropy", "optimizer": fastnn.SGD(0.02)}
    again.fit(X[train], y[train], epochs=3, batch_size=50, **recipe)
    np.testing.assert_array_equal(again.parameters, model.parameters)
    assert found["test_accuracy"] == (again.predict(X[test]).argmax(axis=1) == y[test]).mean()
    assert (found["engine"], found["threads"], found["epochs"]) == ("numpy", 2, 3)
    assert found["gradient_error"] == 0, "float64 NumPy is the reference itself"


def test_equal_seeds_give_equal_models() -> None:
    for name, seed in zip("abc", (1, 1, 2), strict=True):
        report(f"train digits --epochs 1 --seed {seed} --save {name}")
    a, b, c = (fastnn.load(name).parameters for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_text_labels() -> None:
    """Three kinds that two of four columns tell apart; one column does not vary."""
    random = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], 50)
    centre = np.array([[0, 0], [100, 0.001], [0, 0.002]])
    X = centre[kind] + random.standard_normal((150, 2)) * [10, 0.0001]
    names = np.array(["iris, blue", "rosé", "tulip"])[kind]
    columns = {"width": X[:, 0], "kind": names, "depth": X[:, 1], "constant": np.full(150, 3)}
    write_csv("f.csv", columns | {"noise": random.random(150)})
    assert report("train f.csv --target kind --save m")["test_accuracy"] == 1.0
    answers = column(run("predict m f.csv").text, "kind")
    assert answers == column(Path("f.csv").read_text(encoding="utf-8"), "kind")
    found = report("train f.csv --target kind --features depth,width --epochs 1")
    assert found["network"].startswith("2-")


def test_integer_labels() -> None:
    """They come back as they are, whatever their values; columns may be in another order."""
    labels = np.repeat([-7, 1000], 30)
    x = labels + np.random.default_rng(0).standard_normal(60)
    write_csv("d.csv", {"x": x, "y": labels, "z": x * 0})
    assert report("train d.csv --target y --save m")["test_accuracy"] == 1
    write_csv("n.csv", {"unused": ["a"] * 2, "z": [0, 0], "x": [990, -9]})
    assert run("predict m n.csv").text == "y\n1000\n-7\n"


def test_regression() -> None:
    """A smooth function of two columns, far from zero and wide."""
    a, b = np.random.default_rng(1).random((2, 400))
    truth = 5000 + 2000.5 * np.sin(3 * a) * b
    write_csv("d.csv", {"a": a, "b": b, "price": truth})
    found = report("train d.csv --target price --epochs 150 --lr 3e-3 --save m")
    assert found["test_r2"] > 0.99
    assert "test_accuracy" not in found
    answers = np.array(column(run("predict m d.csv").text, "price"), float)
    # Predictions are in the units of the column: within a tenth of its spread.
    assert np.sqrt(np.mean((answers - truth) ** 2)) < 0.1 * truth.std()
    assert 0 < found["test_mae"] <= found["test_rmse"] < 0.1 * truth.std()
    assert "R²" in run("train d.csv --target price --epochs 1").text


def test_npz() -> None:
    X, y = load_digits()
    np.savez("d.npz", X=X.reshape(-1, 8, 8), y=y, images=X, label=y.astype(str))
    first = report("train d.npz --epochs 5 --save m")
    second = report("train d.npz --features images --target label --epochs 5")
    assert first["test_accuracy"] == second["test_accuracy"] > 0.9
    assert run("predict m d.npz --out answers.csv").text == ""
    assert np.mean(np.array(column(Path("answers.csv").read_text(), "y"), int) == y) > 0.95


def test_task_overrides_what_the_target_looks_like() -> None:
    x = np.arange(60)
    write_csv("d.csv", {"x": x, "quantity": x * 2, "flag": (x > 29) * 1.0})
    assert "test_r2" in report("train d.csv --target quantity --task regression --epochs 1")
    command = "train d.csv --target flag --task classification --epochs 1"
    assert "test_accuracy" in report(command)
    assert "test_r2" in report("train digits --task regression --epochs 1 --hidden 4")


@pytest.mark.parametrize("kinds", [None, "auto", [NUMBER]])
@pytest.mark.parametrize(
    "text",
    [
        "x;y\n1;a\n2;b\n3;a\n4;b\n5;a\n6;b\n",
        "x\ty\n1\ta\n2\tb\n3\ta\n4\tb\n5\ta\n6\tb\n",
        '\ufeff"x","y"\r\n1,a\r\n2,b\r\n\r\n3,a\r\n4,b\r\n5, a\r\n" 6 ","b"',
    ],
)
def test_dialects_of_csv(text: str, kinds: Any) -> None:
    Path("d.csv").write_text(text, encoding="utf-8", newline="")
    table = tables.read("d.csv", None, "y", kinds)
    assert (table.features, table.kinds) == (("x",), (NUMBER,))
    assert table.is_complete
    np.testing.assert_array_equal(table.X[:, 0], np.arange(1, 7))
    assert "".join(table.target) == "ababab"


def test_text_and_gaps_are_read_as_they_are() -> None:
    Path("d.csv").write_text("code,size,none\n 01 ,1,\nA,?,na\n02,3e0,NULL\nB,4,\nB,5,\n")
    table = tables.read("d.csv", None, None, "auto")
    assert table.kinds == (TEXT, NUMBER, TEXT)
    assert not table.is_complete
    assert [type(x) for x in table.X[0]] == [str, float, float]
    assert table.X[:, 0].tolist() == ["01", "A", "02", "B", "B"]
    np.testing.assert_array_equal(table.X[:, 1].astype(float), [1, np.nan, 3, 4, 5])
    assert np.isnan(table.X[:, 2].astype(float)).all()
    numbers = tables.read("d.csv", ["size"], "code", "auto")
    assert (numbers.X.dtype, numbers.is_complete) == (np.float64, False)
    assert numbers.target.tolist() == ["01", "A", "02", "B", "B"]


def test_a_fault_is_found_after_many_rows() -> None:
    n = 20_000
    write_csv("d.csv", {"x": range(n), "y": np.arange(n) / 4})
    for kinds in (None, "auto"):
        table = tables.read("d.csv", None, "y", kinds)
        np.testing.assert_array_equal(table.X[:, 0], np.arange(n))
        np.testing.assert_array_equal(table.target, np.arange(n) / 4)
    with open("d.csv", "a", encoding="utf-8") as file:
        file.write("oops,1\n")
    for kinds in (None, "auto"):
        with pytest.raises(TableError, match=rf"line {n + 2}, column 'x': 'oops' is not a number"):
            tables.read("d.csv", None, "y", kinds)


def test_preprocessing_survives_json() -> None:
    X = np.random.default_rng(0).standard_normal((9, 2)) * [1e-9, 1e9]
    table = Table("file", ("ü", "b"), (NUMBER,) * 2, X, "t", np.linspace(0, 1, 9) / 3)
    learned = Preprocessing.learn(table, np.arange(6))
    again = Preprocessing.from_json(learned.to_json())
    inputs = learned.inputs(X, "float64")
    np.testing.assert_array_equal(again.inputs(X, "float64"), inputs)
    # Rounding of two operations on numbers near one.
    np.testing.assert_allclose(inputs[:6].mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(inputs[:6].std(axis=0), 1, atol=1e-14)
    back = again.answers(learned.targets(table.target, "float64"))
    np.testing.assert_allclose(back, table.target, atol=1e-15)


def test_predict_with_a_model_of_the_api() -> None:
    """Without a description of the inputs the outputs are written as they are."""
    model = fastnn.Sequential([fastnn.Dense(2)], input_size=3, seed=0)
    model.save("m")
    X = np.random.default_rng(0).standard_normal((5, 3))
    write_csv("d.csv", {name: X[:, k] for k, name in enumerate("pqr")})
    np.savez("d.npz", rows=X)
    out = run("predict m d.csv").text
    assert out == run("predict m d.npz --features rows").text
    assert out.splitlines()[0] == "output_0,output_1"
    found = np.loadtxt(out.splitlines(), delimiter=",", skiprows=1, dtype=np.float32)
    np.testing.assert_array_equal(found, model.predict(X))


def test_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_ENGINE", "numpy")
    facts = report("info")
    assert facts["version"] == fastnn.__version__
    assert facts["engines"] == fastnn.engines()
    assert facts["engines"]["numpy"]["default"]
    assert facts["environment"]["FASTNN_ENGINE"] == "numpy"
    words = {fastnn.__version__, np.__version__, "cython", "numba", "numpy"}
    assert {word for word in words if word in run("info").text} == words


def test_version_and_help() -> None:
    assert run("--version").text == f"fastnn {fastnn.__version__}\n"
    for command in ("", "train", "predict", "bench", "lab", "info"):
        assert "usage: fastnn" in run(f"{command} --help").text


def process(command: str) -> Any:
    words, pipe = [sys.executable, "-m", "fastnn", *command.split()], subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)


def test_an_interrupt_is_short(folder: Path) -> None:
    """Ctrl-C during a fit: exit code 130, one line after the progress, no traceback."""
    child = process("train digits --epochs 1000000 --save m")
    for line in child.stderr:
        if line.startswith("epoch"):
            break
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "fastnn: interrupted"
    assert "Traceback" not in err
    assert os.listdir(folder) == []


def test_a_reader_that_has_enough() -> None:
    """As `fastnn predict … | head`: no traceback when the pipe is closed."""
    fastnn.Sequential([fastnn.Dense(2)], input_size=1).save("m")
    np.savez("d.npz", X=np.ones((100_000, 1)))
    with process("predict m d.npz") as child:
        assert child.stdout.readline() == "output_0,output_1\n"
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(timeout=30) == 0


def test_stdout_is_one_object() -> None:
    child = process("train digits --epochs 2 --json")
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0
    assert out.count("\n") == 1
    assert json.loads(out)["speedup_over_numpy"] not in (0, 1.5)
    assert "epoch" in err


def test_gradient_error_sees_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fastnn.Sequential(CURVE, input_size=2, seed=0)
    X, y = np.random.default_rng(0).standard_normal((2, 20, 2))
    y = y[:, :1]
    assert gradient_error(model, X, y, "mse") < 1e-5
    exact = model.loss_and_gradient

    def wrong(*arguments: Any, **options: Any) -> Any:
        loss, gradient = exact(*arguments, **options)
        gradient[0] += np.linalg.norm(gradient)
        return loss, gradient

    monkeypatch.setattr(model, "loss_and_gradient", wrong)
    # One entry is off by the norm of all.
    assert gradient_error(model, X, y, "mse") == pytest.approx(1, abs=1e-5)


def test_speedup_leaves_the_model_alone() -> None:
    model, X = fastnn.Sequential(CURVE, input_size=2, seed=0), np.ones((50, 2))
    before = model.parameters
    options = {"loss": "mse", "optimizer": "adam", "batch_size": 16, "threads": 1}
    assert speedup(model, X, X[:, :1], **options, seconds=0.01) > 0
    np.testing.assert_array_equal(model.parameters, before)
    assert model.history is None
