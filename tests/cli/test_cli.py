"""The command line: what a user types, reads and gets wrong.

Commands run in this process through ``main``, as the installed script calls it; a few run
in a process of their own, where exit codes, streams and signals are the system's.
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets

import fastnn
from fastnn.cli import main as cli, tables
from fastnn.bench.comparison import gradient_error, speedup
from fastnn.datasets import load_digits, stratified_split
from fastnn.cli.tables import Preprocessing, Table, TableError


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process do not spend their time on being timed."""
    monkeypatch.setattr(cli, "speedup", lambda *arguments, **options: 1.5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    """Run a command that must succeed; return what it prints on stdout and stderr."""
    code = cli.main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    assert code == 0, streams.err
    return streams.out, streams.err


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The one JSON object that a command prints."""
    return json.loads(run(capsys, *arguments, "--json")[0])


def read_column(path: Path | str, name: str) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


def write_csv(path: Path, columns: dict[str, Any]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def flowers(folder: Path) -> Path:
    """Three kinds that two of four columns tell apart; one column does not vary."""
    random = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], 50)
    centre = np.array([[0, 0], [100, 0.001], [0, 0.002]])
    X = centre[kind] + random.standard_normal((150, 2)) * [10, 0.0001]
    names = np.array(["iris, blue", "rosé", "tulip"])[kind]
    columns = {"width": X[:, 0], "kind": names, "depth": X[:, 1]}
    columns |= {"noise": random.random(150), "constant": np.full(150, 3)}
    return write_csv(folder / "flowers.csv", columns)


@pytest.fixture
def prices(folder: Path) -> Path:
    """A smooth function of two columns, far from zero and wide."""
    random = np.random.default_rng(1)
    a, b = random.random((2, 400))
    return write_csv(
        folder / "prices.csv", {"a": a, "b": b, "price": 5000 + 2000.5 * np.sin(3 * a) * b}
    )


# --------------------------------------------------------------------------- train


def test_train_digits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "train", "digits")
    assert found["test_accuracy"] >= 0.97
    assert found["train_rows"] + found["test_rows"] == 1797
    assert found["epochs"] == 40
    assert found["threads"] >= 1
    assert found["samples_per_second"] > 0
    assert found["speedup_over_numpy"] == 1.5
    # float32 carries 24 bits; the sums over rows and layers cost a few of them.
    assert 0 < found["gradient_error"] < 1e-5
    default = next(name for name, row in fastnn.engines().items() if row["default"])
    assert found["engine"] == default
    assert found["isa"] == fastnn.engines()[default]["isa"]
    assert os.listdir(folder) == []


def test_train_prints_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "train", "digits", "--epochs", 12)
    assert [line.split()[0] for line in out.splitlines()] == [
        "test",
        "training",
        "speed",
        "gradient",
        "engine",
    ]
    starts = {line.index(line.split("  ", 1)[1].strip()) for line in out.splitlines()}
    assert len(starts) == 1, "the values are aligned"
    assert "1438 rows" in err
    assert "network 64-256-10: 19210 parameters" in err
    shown = [int(line.split()[0]) for line in err.splitlines()[3:]]
    # Ten lines on the way; more only where an epoch takes seconds, as under emulation.
    assert {2, 3, 4, 5, 6, 8, 9, 10, 11, 12} <= set(shown)
    assert shown == sorted(set(shown))


def test_the_options_reach_the_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--hidden 12,7 --activation tanh --epochs 3 --batch-size 50 --lr 0.02"
    options += " --optimizer sgd --seed 5 --threads 2 --engine numpy --dtype float64 --save m"
    found = report(capsys, "train", "digits", *options.split())
    model = fastnn.load("m")
    assert [layer.units for layer in model.layers] == [12, 7, 10]
    assert [layer.activation for layer in model.layers] == ["tanh", "tanh", "softmax"]
    assert model.dtype == np.float64
    assert model.seed == 5
    # The same by hand gives the same parameters, bit for bit.
    X, y = load_digits()
    train, test = stratified_split(y)
    X = X.astype(np.float64)
    scale = X[train].std(axis=0)
    X = (X - X[train].mean(axis=0)) / np.where(scale > 0, scale, 1)
    again = fastnn.Sequential.from_config(model.get_config(), engine="numpy")
    again.fit(
        X[train],
        y[train],
        loss="cross_entropy",
        optimizer=fastnn.SGD(0.02),
        epochs=3,
        batch_size=50,
    )
    np.testing.assert_array_equal(again.parameters, model.parameters)
    accuracy = (again.predict(X[test]).argmax(axis=1) == y[test]).mean()
    assert found["test_accuracy"] == accuracy
    assert (found["engine"], found["threads"], found["epochs"]) == ("numpy", 2, 3)
    assert found["gradient_error"] == 0, "float64 NumPy is the reference itself"


def test_equal_seeds_give_equal_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        report(capsys, "train", "digits", "--epochs", 1, "--seed", seed, "--save", name)
    a, b, c = (fastnn.load(name).parameters for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_text_labels(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "train", flowers, "--target", "kind", "--save", "m")
    assert found["test_accuracy"] == 1.0
    out, _ = run(capsys, "predict", "m", flowers)
    answers = [row["kind"] for row in csv.DictReader(out.splitlines())]
    assert answers == read_column(flowers, "kind")


def test_integer_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They come back as they are, whatever their values; rows may be in another order."""
    labels = np.repeat([-7, 1000], 30)
    x = labels + np.random.default_rng(0).standard_normal(60)
    data = write_csv(folder / "d.csv", {"x": x, "y": labels, "z": x * 0})
    assert report(capsys, "train", data, "--target", "y", "--save", "m")["test_accuracy"] == 1
    new = write_csv(folder / "n.csv", {"unused": ["a"] * 2, "z": [0, 0], "x": [990, -9]})
    assert run(capsys, "predict", "m", new)[0] == "y\n1000\n-7\n"


def test_regression(prices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(
        capsys, "train", prices, "--target", "price", "--epochs", 150, "--lr", 3e-3, "--save", "m"
    )
    assert found["test_r2"] > 0.99
    assert "test_accuracy" not in found
    out, _ = run(capsys, "predict", "m", prices)
    answers = np.array([float(row["price"]) for row in csv.DictReader(out.splitlines())])
    truth = np.array(read_column(prices, "price"), float)
    # Predictions are in the units of the column: within a tenth of its spread.
    assert np.sqrt(np.mean((answers - truth) ** 2)) < 0.1 * truth.std()


def test_npz(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    X, y = load_digits()
    np.savez("d.npz", X=X.reshape(-1, 8, 8), y=y, images=X, label=y.astype(str))
    first = report(capsys, "train", "d.npz", "--epochs", 5, "--save", "m")
    names = ("--features", "images", "--target", "label")
    second = report(capsys, "train", "d.npz", *names, "--epochs", 5)
    assert first["test_accuracy"] == second["test_accuracy"] > 0.9
    run(capsys, "predict", "m", "d.npz", "--out", "answers.csv")
    answers = np.array(read_column("answers.csv", "y"), int)
    assert np.mean(answers == y) > 0.95


def test_task_overrides_what_the_target_looks_like(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.arange(60)
    write_csv(folder / "d.csv", {"x": x, "quantity": x * 2, "flag": (x > 29) * 1.0})
    found = report(capsys, "train", "d.csv", "--target", "quantity", "--task", "regression")
    assert "test_r2" in found
    found = report(capsys, "train", "d.csv", "--target", "flag", "--task", "classification")
    assert "test_accuracy" in found


def test_chosen_features(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(
        capsys, "train", flowers, "--target", "kind", "--features", "depth, width", "--epochs", 1
    )
    assert found["network"].startswith("2-")


@pytest.mark.parametrize(
    "text",
    [
        "x;y\n1;a\n2;b\n3;a\n4;b\n5;a\n6;b\n",
        "x\ty\n1\ta\n2\tb\n3\ta\n4\tb\n5\ta\n6\tb\n",
        '\ufeff"x","y"\r\n1,a\r\n2,b\r\n\r\n3,a\r\n4,b\r\n5, a\r\n" 6 ","b"',
    ],
)
def test_dialects_of_csv(folder: Path, text: str) -> None:
    (folder / "d.csv").write_text(text, encoding="utf-8", newline="")
    table = tables.read_table("d.csv", None, "y")
    assert table.features == ("x",)
    np.testing.assert_array_equal(table.X[:, 0], np.arange(1, 7))
    assert table.target is not None
    assert "".join(table.target) == "ababab"


def test_a_long_csv_is_read_in_blocks(folder: Path) -> None:
    n = 20_000
    write_csv(folder / "d.csv", {"x": range(n), "y": np.arange(n) / 4})
    table = tables.read_table("d.csv", None, "y")
    np.testing.assert_array_equal(table.X[:, 0], np.arange(n))
    np.testing.assert_array_equal(table.target, np.arange(n) / 4)
    with open("d.csv", "a", encoding="utf-8") as file:
        file.write("oops,1\n")
    with pytest.raises(TableError, match=rf"line {n + 2}, column 'x': 'oops' is not a number"):
        tables.read_table("d.csv", None, "y")


# --------------------------------------------------------------------------- mistakes

ROWS = "1,2,a\n3,4,b\n" * 20
MISTAKES = {
    "no command": ("", None, "COMMAND"),
    "unknown command": ("trian digits", None, "trian"),
    "unknown option": ("train digits --epoch-count 3", None, "--epoch-count"),
    "missing file": ("train no.csv --target y", None, "no.csv: No such file"),
    "missing npz": ("train no.npz", None, "no.npz: No such file"),
    "a folder": ("train . --target y", None, "Is a directory"),
    "no target": ("train d.csv", f"p,q,y\n{ROWS}", "--target"),
    "unknown target": ("train d.csv --target z", f"p,q,y\n{ROWS}", "known: p, q, y"),
    "near target": ("train d.csv --target prise", "price\n1\n", "did you mean 'price'"),
    "unknown feature": ("train d.csv --target y --features p,r", f"p,q,y\n{ROWS}", "'r'"),
    "target as feature": ("train d.csv --target y --features y", f"p,q,y\n{ROWS}", "both"),
    "empty file": ("train d.csv --target y", "", "no header"),
    "header only": ("train d.csv --target y", "p,q,y\n", "no rows"),
    "target only": ("train d.csv --target y", "y\n1\n2\n", "no column to learn"),
    "same name twice": ("train d.csv --target y", f"p,p,y\n{ROWS}", "'p' stands twice"),
    "short row": ("train d.csv --target y", f"p,q,y\n{ROWS}1,2\n", "line 42 has 2 cells"),
    "long row": ("train d.csv --target y", f"p,q,y\n{ROWS}1,2,3,4\n", "line 42 has 4 cells"),
    "infinity": ("train d.csv --target y", f"p,q,y\n{ROWS}1,inf,a\n", "'inf' is not a finite"),
    "text": ("train d.csv --target y", f"p,q,y\n{ROWS}1,Paris,a\n", "'Paris' is not a number"),
    "too large": ("train d.csv --target y", f"p,q,y\n{ROWS}1,1e308,a\n-1,-1e308,b\n", "too large"),
    "missing target": ("train d.csv --target y", f"p,q,y\n{ROWS}1,2,\n", "the target is missing"),
    "infinite target": ("train d.csv --target q", "p,q\n1,2.5\n2,inf\n", "line 3.*not finite"),
    "one class": ("train d.csv --target y", "p,y\n" + "1,a\n2,a\n" * 9, "same value"),
    "one value": ("train d.csv --target y", "p,y\n" + "1,0.5\n2,0.5\n" * 9, "same value"),
    "too many classes": ("train d.csv --target p", "p,y\n1,2\n2,3\n3,4\n", "too many classes"),
    "text to regress": (
        "train d.csv --target y --task regression",
        f"p,q,y\n{ROWS}",
        "nothing to regress",
    ),
    "fractions as classes": (
        "train d.csv --target y --task classification",
        "p,y\n1,.5\n2,1.5\n",
        "fractions",
    ),
    "too few rows": ("train d.csv --target y", "p,y\n1,a\n2,b\n1,a\n2,b\n", "too few"),
    "bad npz": ("train d.npz", "PK no zip", "d.npz is not an npz file"),
    "unknown engine": ("train digits --engine cyton", None, "did you mean 'cython'"),
    "unknown activation": ("train digits --activation relo", None, "relo"),
    "softmax in the middle": ("train digits --activation softmax", None, "softmax"),
    "unknown optimizer": ("train digits --optimizer adamm", None, "adamm"),
    "unknown dtype": ("train digits --dtype float16", None, "float16"),
    "no epochs": ("train digits --epochs 0", None, "epochs must be"),
    "no rows in a batch": ("train digits --batch-size 0", None, "batch_size must be"),
    "text as epochs": ("train digits --epochs ten", None, "'ten'"),
    "negative rate": ("train digits --lr -1", None, "learning_rate must be"),
    "NaN rate": ("train digits --lr nan", None, "learning_rate must be"),
    "negative seed": ("train digits --seed -1", None, "seed must be"),
    "no threads": ("train digits --threads 0", None, "threads must be"),
    "bad sizes": ("train digits --hidden 12,x", None, "12,x"),
    "size zero": ("train digits --hidden 0", None, "units must be"),
    "divergence": ("train digits --optimizer sgd --lr 1e30 --epochs 2", None, "smaller --lr"),
    "no folder to save in": ("train digits --save no/m", None, "no/m"),
    "no model": ("predict no.safetensors d.csv", "p\n1\n", "no.safetensors: No such file"),
    "no model file": ("predict d.csv d.csv", "p\n1\n", "not a safetensors file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """One line on stderr that says what is wrong, nothing on stdout, exit code 2."""
    command, content, message = MISTAKES[name]
    arguments = command.split()
    before = []
    if content is not None:
        path = next(word for word in arguments if word.startswith("d."))
        Path(path).write_text(content)
        before = [path]
    try:
        code = cli.main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    streams = capsys.readouterr()
    assert code == 2
    assert streams.out == ""
    *progress, error = streams.err.splitlines()
    assert not progress or name == "divergence"
    assert error.startswith("fastnn")
    assert "error: " in error
    assert re.search(message, error), error
    assert os.listdir(folder) == before


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"X": np.ones((9, 2))}, "", "'y'"),
        ({"y": np.ones(9)}, "", "'X'"),
        ({"X": np.ones(9), "y": np.ones(9)}, "", "rows of numbers"),
        ({"X": np.ones((0, 2)), "y": np.ones(0)}, "", "rows of numbers"),
        ({"X": np.ones((9, 2), complex), "y": np.ones(9)}, "", "rows of numbers"),
        ({"X": np.full((9, 2), "a"), "y": np.ones(9)}, "", "rows of numbers"),
        ({"X": np.full((9, 2), np.nan), "y": np.ones(9)}, "", "row 0"),
        ({"X": np.ones((9, 2)), "y": np.ones(8)}, "", "9 rows"),
        ({"X": np.ones((9, 2)), "y": np.ones((9, 2))}, "", "9 rows"),
        ({"X": np.ones((9, 2)), "y": np.full(9, np.inf)}, "", "missing or infinite"),
        ({"X": np.ones((9, 2)), "y": np.ones(9)}, "--features X,Z", "one array"),
        ({"X": np.ones((9, 2)), "Y": np.ones(9)}, "--target Z", "'Z'"),
        ({"X": np.array([[None]]), "y": np.ones(1)}, "", "plain arrays"),
    ],
)
def test_mistakes_in_npz(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arrays: dict[str, Any],
    options: str,
    message: str,
) -> None:
    np.savez("d.npz", **arrays)
    assert cli.main(["train", "d.npz", *options.split()]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"p,y\n1,\xe9t\xe9\n", "not a text file in UTF-8"),
        ("p,y\n1,a\n".encode("utf-16"), "not a text file in UTF-8"),
        (b"p,y\n1," + b"a" * 200_000 + b"\n", "not a CSV file: field larger"),
    ],
)
def test_files_that_are_no_tables(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    (folder / "d.csv").write_bytes(content)
    assert cli.main(["train", "d.csv", "--target", "y"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert re.search(message, error), error


def test_predict_mistakes(flowers: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(capsys, "train", flowers, "--target", "kind", "--epochs", 1, "--save", "m")
    write_csv(folder / "less.csv", {"width": [1]})
    np.savez("wide.npz", X=np.ones((2, 9)))
    content = (folder / "m").read_bytes()
    (folder / "broken").write_bytes(content.replace(b'\\"mean\\"', b'\\"meen\\"'))
    assert (folder / "broken").read_bytes() != content
    for arguments, message in (
        (["m", "less.csv"], "depth"),
        (["m", "wide.npz"], "9 features, the model takes 4"),
        (["broken", "flowers.csv"], "description of the inputs"),
        (["m", "flowers.csv", "--out", "no/file"], "no"),
    ):
        assert cli.main(["predict", *arguments]) == 2
        streams = capsys.readouterr()
        assert streams.out == ""
        (error,) = streams.err.splitlines()
        assert message in error


# --------------------------------------------------------------------------- predict, info


def test_predict_with_a_model_of_the_api(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a description of the inputs the outputs are written as they are."""
    model = fastnn.Sequential([fastnn.Dense(2)], input_size=3, seed=0)
    model.save("m")
    X = np.random.default_rng(0).standard_normal((5, 3))
    write_csv(folder / "d.csv", {name: X[:, k] for k, name in enumerate("pqr")})
    np.savez("d.npz", rows=X)
    out, _ = run(capsys, "predict", "m", "d.csv")
    again, _ = run(capsys, "predict", "m", "d.npz", "--features", "rows")
    assert out == again
    assert out.splitlines()[0] == "output_0,output_1"
    found = np.loadtxt(out.splitlines(), delimiter=",", skiprows=1, dtype=np.float32)
    np.testing.assert_array_equal(found, model.predict(X))


def test_info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_ENGINE", "numpy")
    facts = report(capsys, "info")
    assert facts["version"] == fastnn.__version__
    assert facts["engines"] == fastnn.engines()
    assert facts["engines"]["numpy"]["default"]
    assert facts["environment"]["FASTNN_ENGINE"] == "numpy"
    out, _ = run(capsys, "info")
    for word in (fastnn.__version__, np.__version__, "cython", "numba", "numpy"):
        assert word in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"fastnn {fastnn.__version__}\n"


@pytest.mark.parametrize("command", [[], ["train"], ["predict"], ["info"]])
def test_help(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([*command, "--help"])
    assert "usage: fastnn" in capsys.readouterr().out


# --------------------------------------------------------------------------- processes


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastnn", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_an_interrupt_is_short(folder: Path) -> None:
    """Ctrl-C during a fit: exit code 130, one line after the progress, no traceback."""
    child = process("train", "digits", "--epochs", "1000000", "--save", "m")
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("epoch"):
            break
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "fastnn: interrupted"
    assert "Traceback" not in err
    assert os.listdir(folder) == []


def test_a_reader_that_has_enough(folder: Path) -> None:
    """As `fastnn predict … | head`: no traceback when the pipe is closed."""
    fastnn.Sequential([fastnn.Dense(2)], input_size=1).save("m")
    np.savez("d.npz", X=np.ones((100_000, 1)))
    child = process("predict", "m", "d.npz")
    assert child.stdout is not None
    assert child.stdout.readline() == "output_0,output_1\n"
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait(timeout=30) == 0


def test_stdout_is_one_object(folder: Path) -> None:
    child = process("train", "digits", "--epochs", "2", "--json")
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0
    assert out.count("\n") == 1
    assert json.loads(out)["epochs"] == 2
    assert json.loads(out)["speedup_over_numpy"] not in (0, 1.5)
    assert "epoch" in err


# --------------------------------------------------------------------------- pieces


def test_the_split_is_stratified_and_fixed() -> None:
    y = np.repeat([3, 1, 2], [100, 10, 1])
    train, test = stratified_split(y, 0.2, seed=0)
    assert sorted([*train, *test]) == list(range(111))
    assert {label: int((y[test] == label).sum()) for label in (1, 2, 3)} == {1: 2, 2: 0, 3: 20}
    # Fixed by the specification of the generator: these rows on every machine, for ever.
    _, test = stratified_split(np.zeros(20), 0.2, seed=0)
    assert test.tolist() == [1, 4, 7, 14]
    assert not np.array_equal(stratified_split(y, 0.2, seed=1)[1], stratified_split(y, 0.2)[1])
    names = stratified_split(y.astype(str), 0.2)
    assert len(names[1]) == 22


@pytest.mark.parametrize(
    ("y", "fraction", "seed"),
    [([], 0.2, 0), ([[1], [2]], 0.2, 0), ([1, 2], 0.0, 0), ([1, 2], 1.0, 0), ([1, 2], 0.5, -1)],
)
def test_splits_that_cannot_be(y: Any, fraction: float, seed: int) -> None:
    with pytest.raises(ValueError, match="must"):
        stratified_split(y, fraction, seed)


def test_the_digits_are_the_digits() -> None:
    X, y = load_digits()
    assert (X.shape, X.dtype, y.shape, y.dtype) == ((1797, 64), np.float32, (1797,), np.int64)
    assert X.min() == 0
    assert X.max() == 1
    np.testing.assert_array_equal(X * 16, np.round(X * 16))
    np.testing.assert_array_equal(
        np.bincount(y), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )
    expected = sklearn.datasets.load_digits()
    np.testing.assert_array_equal(X * 16, expected.data)
    np.testing.assert_array_equal(y, expected.target)


def test_preprocessing_survives_json() -> None:
    X = np.random.default_rng(0).standard_normal((9, 2)) * [1e-9, 1e9]
    table = Table(("ü", "b"), X, "t", np.linspace(0, 1, 9) / 3)
    learned = Preprocessing.learn(table, np.arange(6))
    again = Preprocessing.from_json(learned.to_json())
    np.testing.assert_array_equal(again.inputs(table, "float64"), learned.inputs(table, "float64"))
    inputs = learned.inputs(table, "float64")[:6]
    # Rounding of two operations on numbers near one.
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(inputs.std(axis=0), 1, atol=1e-14)
    assert table.target is not None
    back = again.answers(learned.targets(table.target, "float64"))
    np.testing.assert_allclose(back, table.target, atol=1e-15)


def test_gradient_error_sees_an_error() -> None:
    model = fastnn.Sequential([fastnn.Dense(3, "tanh"), fastnn.Dense(1)], input_size=2, seed=0)
    random = np.random.default_rng(0)
    X, y = random.standard_normal((2, 20, 2))
    y = y[:, :1]
    assert gradient_error(model, X, y, "mse") < 1e-5
    exact = model.loss_and_gradient

    def wrong(*arguments: Any, **options: Any) -> Any:
        loss, gradient = exact(*arguments, **options)
        gradient[0] += np.linalg.norm(gradient)
        return loss, gradient

    model.loss_and_gradient = wrong  # type: ignore[method-assign]
    # One entry is off by the norm of all.
    assert gradient_error(model, X, y, "mse") == pytest.approx(1, abs=1e-5)


def test_speedup_leaves_the_model_alone() -> None:
    model = fastnn.Sequential([fastnn.Dense(3, "tanh"), fastnn.Dense(1)], input_size=2, seed=0)
    before = model.parameters
    X = np.ones((50, 2))
    options = {"loss": "mse", "optimizer": "adam", "batch_size": 16, "threads": 1}
    assert speedup(model, X, X[:, :1], **options, seconds=0.01) > 0
    np.testing.assert_array_equal(model.parameters, before)
    assert model.history is None
