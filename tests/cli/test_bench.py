"""``fastnn bench``: what it reports, what it refuses to time, and the loop it compares with.

No figure of time is tested, only that there is one.
"""

from __future__ import annotations

import json
import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import Ran, report, run
from fastnn.kernels.loader import load

from fastnn import SGD, Adam, Sequential
from fastnn.bench import command, workloads
from fastnn.bench.contest import Contestant, ContestError, by_turns
from fastnn.bench.numpy_peer import NumpyPeer
from fastnn.bench.workloads import WORKLOADS, Disagreement, Workload, agreement, reference

#: As the workloads, but small; a short last batch in each.
SMALL = (
    Workload("curve", (1, 8, 6, 1), "tanh", "mse", 8, Adam(1e-2), 43),
    Workload("two outputs", (3, 8, 2), "sigmoid", "mse", 16, SGD(0.1), 43),
    Workload("digits", (12, 5, 5, 4), "sigmoid", "cross_entropy", 8, SGD(0.1, 0.9), 43),
    Workload("table", (9, 16, 16, 3), "relu", "cross_entropy", 16, Adam(1e-2), 43),
)
small = pytest.mark.parametrize("workload", SMALL, ids=lambda workload: workload.name)

KEYS = """workload network batch_size optimizer dtype engine threads us_per_step samples_per_second
    gflops peak_gflops percent_of_peak numpy_us_per_step speedup_over_numpy gradient_error"""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One round of each, in an empty folder."""
    monkeypatch.setattr(command, "_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)


def bench(options: str) -> Ran:
    return run(f"bench --workloads fit1d {options}")


def test_json() -> None:
    found = report("bench --workloads fit1d --threads 2")
    assert (found["engine"], found["threads"], bool(found["processor"])) == (load().NAME, 2, True)
    (result,) = found["results"]
    assert " ".join(result) == " ".join(KEYS.split())
    assert all(0 < value < math.inf for value in result.values() if isinstance(value, float))
    assert result["gradient_error"] < 1e-5
    # the columns are about one measurement, in units that follow from each other
    step = result["us_per_step"] * 1e-6
    assert result["samples_per_second"] == pytest.approx(32 / step)
    assert result["gflops"] == pytest.approx(WORKLOADS["fit1d"].flops / step / 1e9)
    assert result["percent_of_peak"] == pytest.approx(50 * result["gflops"] / result["peak_gflops"])
    ratio = result["numpy_us_per_step"] / result["us_per_step"]
    assert result["speedup_over_numpy"] == pytest.approx(ratio)


def test_table_and_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = bench("--plot bench.png --engine numpy")
    assert "fit1d" in ran.err
    heading, line, *_ = ran.text.splitlines()
    assert (heading.index("engine"), 0) == (line.index("numpy"), line.index("fit1d"))
    assert "1 thread" in ran.out
    assert Path("bench.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert 'pip install "fastnn-kernels[plot]"' in bench("--plot bench.png").fault


def test_without_a_peak_its_column_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cython", "numba"):
        monkeypatch.setitem(sys.modules, f"fastnn.kernels.{name}.engine", None)
    found = json.loads(bench("--json --plot bench.svg").text)
    (result,) = found["results"]
    assert (result["engine"], result["percent_of_peak"]) == ("numpy", None)
    assert "%" not in command.describe(found).splitlines()[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--workloads mnist127", "did you mean 'mnist128'"),
        ("--threads 0", "threads"),
        ("--engine nunpy", "did you mean 'numpy'"),
        ("--plot no/such/folder/bench.png", "no folder"),
    ],
)
def test_mistakes(options: str, message: str) -> None:
    assert message in bench(options).fault


def test_a_wrong_gradient_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Sequential.loss_and_gradient

    def wrong(self: Sequential, *args: Any, **kwargs: Any) -> tuple[float, np.ndarray]:
        loss, gradient = right(self, *args, **kwargs)
        return loss, gradient if self.engine == "numpy" else gradient * 1.0001

    monkeypatch.setattr(Sequential, "loss_and_gradient", wrong)
    monkeypatch.setattr(Sequential, "fit", lambda *args, **kwargs: pytest.fail("it is timed"))
    code, out, err = bench("")
    assert (code, out, "wrong gradient on fit1d" in err) == (2, "", True)


@small
def test_agreement_sees_every_array(workload: Workload) -> None:
    """A weight or bias gradient that is off by a tenth, and NaN, are refused."""
    truth = reference(workload)[2]
    assert agreement(workload, lambda X, y: truth, "the truth") == 0
    assert agreement(workload, lambda X, y: truth.astype(np.float32), "its rounding") > 0
    copies = [truth.copy() for _ in range(2 * len(workload.sizes) - 1)]
    copies[0][-1] = np.nan
    parts = [part for layer in workload.views(np.arange(truth.size)) for part in layer]
    for wrong, part in zip(copies[1:], parts, strict=True):
        wrong[part] *= 1.1
    assert sorted(k for part in parts for k in part.flat) == list(range(truth.size))
    for wrong in copies:
        with pytest.raises(Disagreement):
            agreement(workload, lambda X, y: wrong, "it")  # noqa: B023


def test_rows_near_a_kink_are_left_out() -> None:
    workload = SMALL[-1]._replace(rows=20_000, batch_size=10_000)
    X, _, _ = reference(workload)
    Y, nearest = X.astype(np.float64), np.inf
    for weight, bias in workload.model("numpy").weights[:-1]:
        Z = Y @ weight + bias
        nearest, Y = min(nearest, np.abs(Z).min()), np.maximum(Z, 0)
    assert nearest > 9.9e-5  # 1e-4 but for rounding
    assert len(X) == 10_000
    assert not np.array_equal(X, workload.data()[0][:10_000]), "some were left out"


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_workloads_are_what_they_say(workload: Workload) -> None:
    """Shapes and sizes; the FLOPs counted product by product."""
    workload = workload._replace(rows=workload.batch_size + 1)
    X, y = workload.data()
    model = workload.model()
    assert (X.shape, len(y)) == ((workload.rows, model.input_size), workload.rows)
    assert X.dtype == model.dtype == workload.dtype
    assert (workload.parameters, workload.steps) == (model.size, 2)
    flops = 0
    for k, (weight, bias) in enumerate(workload.views(model.parameters)):
        assert np.array_equal(weight, model.weights[k][0])
        assert np.array_equal(bias, model.weights[k][1])
        assert bias.all(), "a bias of zero would hide a mistake"
        flops += (2 if k == 0 else 3) * 2 * weight.size * workload.batch_size
    assert workload.flops == flops
    assert workload.epoch_flops == pytest.approx(flops / workload.batch_size * workload.rows)
    last = {"mse": "identity", "cross_entropy": "softmax"}[workload.loss]
    assert [layer.activation for layer in model.layers][-2:] == [workload.activation, last]


@small
def test_the_numpy_loop_trains_as_the_reference(workload: Workload) -> None:
    """Three epochs, a short batch in each, in float64: rounding grows to at most 1e-10."""
    workload = workload._replace(dtype="float64")
    X, y = workload.data()
    peer, model = NumpyPeer(workload), workload.model("numpy")
    assert agreement(workload, peer.gradient, "the loop") <= 1e-12
    history = model.fit(X, y, epochs=3, shuffle=False, **workload.recipe)
    losses = [peer.epoch(X, y, np.arange(len(X))) for _ in range(3)]
    assert workloads.relative_error(peer.parameters, model.parameters) <= 1e-10
    assert losses == pytest.approx(history["loss"], rel=1e-10)
    assert workloads.relative_error(peer.predict(X), model.predict(X)) <= 1e-10


def test_the_numpy_loop_learns_and_starts_afresh() -> None:
    workload = WORKLOADS["fit1d"]._replace(rows=256)
    X, y = workload.data()
    before, peer = X.copy(), NumpyPeer(workload)
    first = peer.parameters.copy()
    losses = [peer.fit(X, y, epochs) for epochs in (1, 60)]
    assert losses[1] < 0.5 * losses[0]
    peer.predict(X)
    peer.parameters[...] = first
    assert peer.fit(X, y, 1) == losses[0], "nothing of the earlier fits is left"
    np.testing.assert_array_equal(X, before)


CHILD = """
import os, sys
from fastnn.bench.contest import serve

def prepare(what):
    print("a library's chatter")
    if what == "fail":
        raise ValueError("cannot do that")
    def run(n=None):
        if n == 0:
            raise ZeroDivisionError("nothing to do")
        threads = os.environ["OMP_NUM_THREADS"], os.environ["VECLIB_MAXIMUM_THREADS"]
        return {"seconds": 1.0 / (n or 8), "threads": threads}
    facts = os.environ.get("OPENBLAS_CORETYPE"), os.environ["MORE"], len(os.sched_getaffinity(0))
    return {"facts": facts}, run

serve(prepare)
"""
start = partial(Contestant, "child", threads=3, MORE="of it")


@pytest.mark.parametrize("is_pinned", [True, False])
def test_a_contestant_runs_and_tells(monkeypatch: pytest.MonkeyPatch, is_pinned: bool) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    cpus = os.sched_getaffinity(0)
    with start(command=["-c", CHILD], task={"what": "work"}, is_pinned=is_pinned) as child:
        assert child.facts == {"facts": (None, "of it", 1 if is_pinned else len(cpus))}
        assert child.run() == {"seconds": 0.125, "threads": ("3", "3")}
        assert child.run(n=4)["seconds"] == 0.25
        with pytest.raises(ContestError, match="child: nothing to do"):
            child.run(n=0)


@pytest.mark.parametrize(
    ("program", "message"),
    [(CHILD, "cannot do that"), ("import no_such_module", "no_such_module"), ("1", "exit code 0")],
)
def test_a_contestant_that_cannot_be_prepared(program: str, message: str) -> None:
    with pytest.raises(ContestError, match=message):
        start(command=["-c", program], task={"what": "fail"})


def test_by_turns_takes_the_fastest_and_alternates() -> None:
    calls: list[str] = []
    times = {"a": iter([3.0, 1.0, 2.0]), "b": iter([5.0, 7.0, 6.0])}

    def work(name: str) -> float:
        calls.append(name)
        return next(times[name])

    runs = {name: partial(work, name) for name in times}
    assert by_turns(runs, seconds=0, at_least=3) == {"a": 1.0, "b": 5.0}
    assert calls == ["a", "b"] * 3
