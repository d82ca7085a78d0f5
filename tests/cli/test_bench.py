"""``fastnn bench``: what it reports, what it refuses to time, and the loop it compares with.

No figure of time is tested, only that there is one.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn import SGD, Adam, Sequential, bench, cli
from fastnn.bench.contest import Contestant, ContestError, by_turns
from fastnn.kernels.loader import load
from fastnn.losses import resolve
from fastnn.bench.numpy_peer import NumpyPeer
from fastnn.bench.workloads import (
    WORKLOADS,
    Disagreement,
    Workload,
    agreement,
    reference,
    relative_error,
)

#: As the workloads, but small; a short last batch in each.
SMALL = (
    Workload("curve", (1, 8, 6, 1), "tanh", "mse", 8, Adam(1e-2), 43),
    Workload("two outputs", (3, 8, 2), "sigmoid", "mse", 16, SGD(0.1), 43),
    Workload("digits", (12, 5, 5, 4), "sigmoid", "cross_entropy", 8, SGD(0.1, 0.9), 43),
    Workload("table", (9, 16, 16, 3), "relu", "cross_entropy", 16, Adam(1e-2), 43),
)

KEYS = {
    "workload",
    "network",
    "batch_size",
    "optimizer",
    "dtype",
    "engine",
    "threads",
    "us_per_step",
    "samples_per_second",
    "gflops",
    "peak_gflops",
    "percent_of_peak",
    "numpy_us_per_step",
    "speedup_over_numpy",
    "gradient_error",
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of each."""
    monkeypatch.setattr(bench, "_SECONDS", 0.0)


def run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``fastnn bench`` on the smallest workload."""
    code = cli.main(["bench", "--workloads", "fit1d", *options])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


# --------------------------------------------------------------------------- the report


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--json", "--threads", "2")
    report = json.loads(out)
    assert code == 0
    assert "fit1d" in err
    assert report["processor"]
    assert (report["engine"], report["threads"]) == (load().NAME, 2)
    (row,) = report["results"]
    assert row.keys() == KEYS
    numbers = [value for value in row.values() if isinstance(value, float)]
    assert all(math.isfinite(value) and value > 0 for value in numbers)
    assert row["gradient_error"] < 1e-5
    # the columns are about one measurement, in units that follow from each other
    step = row["us_per_step"] * 1e-6
    assert row["samples_per_second"] == pytest.approx(32 / step)
    assert row["gflops"] == pytest.approx(WORKLOADS["fit1d"].flops / step / 1e9)
    assert row["percent_of_peak"] == pytest.approx(100 * row["gflops"] / row["peak_gflops"] / 2)
    ratio = row["numpy_us_per_step"] / row["us_per_step"]
    assert row["speedup_over_numpy"] == pytest.approx(ratio)


def test_table_and_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "bench.png"
    code, out, _ = run(capsys, "--plot", str(picture), "--engine", "numpy")
    assert code == 0
    heading, row, *_ = out.splitlines()
    assert row.startswith("fit1d")
    assert heading.index("engine") == row.index("numpy")
    assert "1 thread" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_a_peak_its_column_is_empty(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("cython", "numba"):
        monkeypatch.setitem(sys.modules, f"fastnn.kernels.{name}_engine", None)
    code, out, _ = run(capsys, "--json", "--plot", str(tmp_path / "bench.svg"))
    assert code == 0
    report = json.loads(out)
    assert report["results"][0]["engine"] == "numpy"
    assert report["results"][0]["percent_of_peak"] is None
    assert "%" not in bench.describe(report).splitlines()[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workloads", "mnist127"], "did you mean 'mnist128'"),
        (["--threads", "0"], "threads"),
        (["--engine", "nunpy"], "did you mean 'numpy'"),
        (["--plot", "no/such/folder/bench.png"], "no folder"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    code, out, err = run(capsys, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1, "nothing has been measured yet"


def test_a_picture_needs_matplotlib(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = run(capsys, "--plot", "bench.png")
    assert code == 2
    assert 'pip install "fastnn-kernels[plot]"' in err


# --------------------------------------------------------------------------- agreement


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], None]) -> None:
    """Let the engine, but not the reference, find another gradient."""
    right = Sequential.loss_and_gradient

    def wrong(self: Sequential, *args: Any, **kwargs: Any) -> tuple[float, np.ndarray]:
        loss, gradient = right(self, *args, **kwargs)
        if self.engine != "numpy":
            change(gradient)
        return loss, gradient

    monkeypatch.setattr(Sequential, "loss_and_gradient", wrong)


def test_a_wrong_gradient_is_not_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(gradient: np.ndarray) -> None:
        gradient *= 1.0001

    def fit(*args: object, **kwargs: object) -> None:
        raise AssertionError("it is timed")

    spoil(monkeypatch, change)
    monkeypatch.setattr(Sequential, "fit", fit)
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert "wrong gradient on fit1d" in err


@pytest.mark.parametrize("workload", SMALL, ids=lambda workload: workload.name)
def test_agreement_sees_every_array(workload: Workload) -> None:
    """A weight or bias gradient that is off by a tenth, and NaN, are refused."""
    truth = reference(workload).gradient
    assert agreement(workload, truth, "the truth") == 0
    assert agreement(workload, truth.astype(np.float32), "its rounding") > 0
    start = 0
    for inputs, outputs in itertools.pairwise(workload.sizes):
        for size in (inputs * outputs, outputs):
            wrong = truth.copy()
            wrong[start : start + size] *= 1.1
            with pytest.raises(Disagreement):
                agreement(workload, wrong, "it")
            start += size
    assert start == truth.size
    wrong = truth.copy()
    wrong[-1] = np.nan
    with pytest.raises(Disagreement):
        agreement(workload, wrong, "it")


def test_rows_near_a_kink_are_left_out() -> None:
    workload = SMALL[-1]._replace(rows=20_000, batch_size=10_000)
    X, _, _ = reference(workload)
    model = workload._replace(dtype="float64").model("numpy")
    model.parameters = workload.model("numpy").parameters
    Y, nearest = X.astype(np.float64), np.inf
    for weight, bias in model.weights[:-1]:
        Z = Y @ weight + bias
        nearest, Y = min(nearest, np.abs(Z).min()), np.maximum(Z, 0)
    assert nearest > 9.9e-5  # 1e-4 but for rounding
    candidates = workload.data()[0][:15_000]
    assert len(X) == 10_000
    assert not np.array_equal(X, candidates[:10_000]), "some were left out"


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_workloads_are_what_they_say(workload: Workload) -> None:
    """Shapes and sizes; the FLOPs counted product by product."""
    workload = workload._replace(rows=workload.batch_size + 1)
    X, y = workload.data()
    model = workload.model()
    assert X.shape == (workload.rows, model.input_size)
    assert X.dtype == model.dtype == workload.dtype
    assert len(y) == workload.rows
    assert (workload.parameters, workload.steps) == (model.size, 2)
    flops = 0
    for k, (weight, bias) in enumerate(model.weights):
        assert bias is not None
        assert bias.all(), "a bias of zero would hide a mistake"
        products = 2 if k == 0 else 3
        flops += products * 2 * weight.size * workload.batch_size
    assert workload.flops == flops
    assert workload.epoch_flops == pytest.approx(flops / workload.batch_size * workload.rows)
    assert resolve(workload.loss, model.last_activation).name == workload.loss


# --------------------------------------------------------------------------- the NumPy loop


@pytest.mark.parametrize("workload", SMALL, ids=lambda workload: workload.name)
def test_the_numpy_loop_trains_as_the_reference(workload: Workload) -> None:
    """Three epochs, a short batch in each, in float64: rounding grows to at most 1e-10."""
    workload = workload._replace(dtype="float64")
    X, y = workload.data()
    peer = NumpyPeer(workload)
    model = workload.model("numpy")
    rows = reference(workload)
    assert agreement(workload, peer.gradient(rows.X, rows.y)[1], "the loop") <= 1e-12
    history = model.fit(
        X,
        y,
        loss=workload.loss,
        optimizer=workload.optimizer,
        epochs=3,
        batch_size=workload.batch_size,
        shuffle=False,
    )
    losses = [peer.epoch(X, y, np.arange(len(X))) for _ in range(3)]
    assert relative_error(peer.parameters, model.parameters) <= 1e-10
    assert losses == pytest.approx(history["loss"], rel=1e-10)
    assert relative_error(peer.predict(X), model.predict(X)) <= 1e-10


def test_the_numpy_loop_learns_and_starts_afresh() -> None:
    workload = WORKLOADS["fit1d"]._replace(rows=256)
    X, y = workload.data()
    before = X.copy()
    peer = NumpyPeer(workload)
    first = peer.parameters.copy()
    losses = [peer.fit(X, y, epochs) for epochs in (1, 60)]
    assert losses[1] < 0.5 * losses[0]
    peer.predict(X)
    peer.parameters[...] = first
    assert peer.fit(X, y, 1) == losses[0], "nothing of the earlier fits is left"
    np.testing.assert_array_equal(X, before)


# --------------------------------------------------------------------------- contests

CHILD = """
import os, sys
from fastnn.bench.contest import serve

def prepare(what):
    print("a library's chatter")
    if what == "fail":
        raise ValueError("cannot do that")
    def run(n):
        if n == 0:
            raise ZeroDivisionError("nothing to do")
        return {"seconds": 1.0 / n, "threads": os.environ["OMP_NUM_THREADS"]}
    return {"forced": "OPENBLAS_CORETYPE" in os.environ}, run

serve(prepare)
"""


def test_a_contestant_runs_and_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    with Contestant("child", ["-c", CHILD], {"what": "work"}, threads=3) as child:
        assert child.facts == {"forced": False}
        assert child.run(n=4) == {"seconds": 0.25, "threads": "3"}
        with pytest.raises(ContestError, match="child: nothing to do"):
            child.run(n=0)


@pytest.mark.parametrize(
    ("program", "message"),
    [(CHILD, "cannot do that"), ("import no_such_module", "no_such_module"), ("1", "exit code 0")],
)
def test_a_contestant_that_cannot_be_prepared(program: str, message: str) -> None:
    with pytest.raises(ContestError, match=message):
        Contestant("child", ["-c", program], {"what": "fail"}, threads=1)


def test_by_turns_takes_the_fastest_and_alternates() -> None:
    calls: list[str] = []

    def contestant(name: str, times: list[float]) -> Callable[[], float]:
        def work() -> float:
            calls.append(name)
            return times[(len(calls) - 1) // 2]

        return work

    runs = {"a": contestant("a", [3.0, 1.0, 2.0]), "b": contestant("b", [5.0, 7.0, 6.0])}
    assert by_turns(runs, seconds=0, at_least=3) == {"a": 1.0, "b": 5.0}
    assert calls == ["a", "b"] * 3
