"""fastnn's estimators beside scikit-learn's of the same names, as a user calls them.

    python benchmarks/estimators.py --cases fashion,digits --threads 1 --json out.json

* Both get the same data, ``random_state`` and parameters: the defaults, but for the hidden
  layers and, where ``max_iter`` is given below, the number of epochs. So they make the same
  steps, and before anything is timed the loss curves of a short training must agree.
* What is timed is the whole call. A turn of ``predict`` and ``partial_fit`` is many calls.
* Each library lives in a process of its own. They take turns; the fastest turn counts, and
  the median stands beside it.
* ``--threads 1`` pins both to one processor and tells every library to use one thread; ``all``
  leaves the choice to each.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn import neural_network
from sklearn.datasets import load_digits, make_classification

import fastnn
from fastnn.bench.command import processor
from fastnn.bench.contest import Contestant, by_turns, serve
from fastnn.lab.digits import load_images

LIBRARIES = {
    "fastnn": (fastnn.MLPClassifier, fastnn.__version__),
    "scikit-learn": (neural_network.MLPClassifier, sklearn.__version__),
}


def fashion() -> tuple[np.ndarray, np.ndarray]:
    """Debian's package dataset-fashion-mnist: 60,000 × 784."""
    images = load_images("fashion")
    return images.X, images.y


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 × 64."""
    X, y = load_digits(return_X_y=True)
    return X, y


def table() -> tuple[np.ndarray, np.ndarray]:
    """10,000 × 20, two classes."""
    X, y = make_classification(10_000, 20, n_informative=10, random_state=0)
    return X, y


class Case(NamedTuple):
    """One thing to compare; ``target`` is how many times faster we mean to be."""

    name: str
    work: str  # of WORKS
    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    dtype: str
    target: float
    parameters: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it


CASES = (
    Case("fashion-100", "fit", fashion, "float32", 3.3, {"max_iter": 3}),
    Case(
        "fashion-256-128",
        "fit",
        fashion,
        "float32",
        3.3,
        {"hidden_layer_sizes": (256, 128), "max_iter": 2},
    ),
    Case("digits", "fit", digits, "float64", 3.5),
    Case("digits", "fit", digits, "float32", 6),
    Case("table", "fit", table, "float64", 5, {"hidden_layer_sizes": (32, 32), "max_iter": 50}),
    Case("table", "fit", table, "float32", 9, {"hidden_layer_sizes": (32, 32), "max_iter": 50}),
    Case("predict-row", "predict", digits, "float64", 10),
    Case("partial-fit-row", "partial_fit", digits, "float64", 20),
)

#: How far losses may be from each other, relatively. Roundings differ, and grow from step to
#: step, in float32 suddenly where one decides about a kink: the check is some fifty steps.
BOUNDS = {"float32": 1e-4, "float64": 1e-6}
_ROWS, _EPOCHS = 2000, 5  # of a short fit

_TURN = 0.03  # seconds of calls that are shorter


# --------------------------------------------------------------------------- a contestant

#: An estimator with the case's parameters, and others.
Make = Callable[..., Any]

#: Losses that must be the other's too, and the call to be timed.
Work = tuple[list[float], Callable[[], Any]]


def fit(make: Make, X: np.ndarray, y: np.ndarray) -> Work:
    """The whole data set."""
    short = make(max_iter=_EPOCHS).fit(X[:_ROWS], y[:_ROWS])
    estimator = make()
    return short.loss_curve_, lambda: estimator.fit(X, y)


def predict(make: Make, X: np.ndarray, y: np.ndarray) -> Work:
    """The class of one row."""
    estimator, row = make(max_iter=_EPOCHS).fit(X[:_ROWS], y[:_ROWS]), X[:1]
    return estimator.loss_curve_, lambda: estimator.predict(row)


def partial_fit(make: Make, X: np.ndarray, y: np.ndarray) -> Work:
    """One more row."""
    estimator, row, label = make(), X[:1], y[:1]
    for k in range(50):
        estimator.partial_fit(X[k : k + 1], y[k : k + 1], classes=np.unique(y) if k == 0 else None)
    return list(estimator.loss_curve_), lambda: estimator.partial_fit(row, label)


WORKS = {"fit": fit, "predict": predict, "partial_fit": partial_fit}


def prepare(library: str, index: int) -> tuple[dict[str, Any], Callable[..., dict[str, Any]]]:
    """The losses to be compared, and what a turn is."""
    warnings.simplefilter("ignore")  # that so few epochs have not converged
    case = CASES[index]
    X, y = case.data()
    make = functools.partial(LIBRARIES[library][0], random_state=0, **case.parameters)
    losses, call = WORKS[case.work](make, X.astype(case.dtype), y)
    calls = 1
    if case.work != "fit":
        start = time.perf_counter()
        for _ in range(100):
            call()
        calls = math.ceil(100 * _TURN / (time.perf_counter() - start))

    def turn() -> dict[str, Any]:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return {"seconds": (time.perf_counter() - start) / calls}

    return {"losses": losses}, turn


# --------------------------------------------------------------------------- the contest


def compete(index: int, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The result of a case."""
    case = CASES[index]
    times: dict[str, list[float]] = {name: [] for name in LIBRARIES}
    contestants: dict[str, Contestant] = {}

    def turn(name: str) -> float:
        times[name].append(contestants[name].run()["seconds"])
        return times[name][-1]

    try:
        for name in LIBRARIES:
            contestants[name] = Contestant(
                name,
                [__file__, "--contestant"],
                {"library": name, "index": index},
                threads=threads,
                cpus={max(os.sched_getaffinity(0))} if threads == 1 else None,
            )
        ours, theirs = (np.array(one.facts["losses"]) for one in contestants.values())
        error = float(np.abs(ours / theirs - 1).max())
        if not error <= BOUNDS[case.dtype]:
            raise SystemExit(f"{case.name}: the losses differ, {ours} and {theirs}")
        runs = {name: functools.partial(turn, name) for name in LIBRARIES}
        best = by_turns(runs, arguments.seconds, arguments.rounds, threads)
    finally:
        for one in contestants.values():
            one.close()
    middle = {name: statistics.median(times[name]) for name in LIBRARIES}
    return {
        "case": case.name,
        "work": case.work,
        "dtype": case.dtype,
        "parameters": case.parameters,
        "threads": threads,
        "loss_error": error,
        "turns": len(times["fastnn"]),
        "seconds": best,
        "median_seconds": middle,
        "times_faster": best["scikit-learn"] / best["fastnn"],
        "median_times_faster": middle["scikit-learn"] / middle["fastnn"],
        "target": case.target,
    }


def line(row: dict[str, Any]) -> str:
    """A result for people."""
    text = f"{row['case']:<17}{row['dtype']:<9}{row['threads']:>7}"
    for times in (row["seconds"], row["median_seconds"]):
        text += "".join(f"{1e3 * times[name]:>13,.3f}" for name in LIBRARIES)
    text += f"{row['times_faster']:>9.2f}{row['median_times_faster']:>9.2f}"
    return text + f"{row['target']:>8}{row['loss_error']:>9.0e}"


HEAD = (
    f"{'milliseconds':<33}{'fastnn':>13}{'scikit-learn':>13}{'median':>13}{'median':>13}"
    f"{'times':>9}{'median':>9}{'target':>8}{'losses':>9}"
)


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    names = ", ".join(dict.fromkeys(case.name for case in CASES))
    option("--cases", type=split, default=[""], metavar="NAMES", help=f"by their start: {names}")
    option("--threads", type=split, default="1,all", metavar="1,all", help="%(default)s")
    option("--rounds", type=int, default=5, metavar="N", help="at least (%(default)s)")
    option("--seconds", type=float, default=10, metavar="S", help="a case, about (%(default)s)")
    option("--json", metavar="FILE", help="write all results")
    arguments = parser.parse_args()
    if not set(arguments.threads) <= {"1", "all"}:
        parser.error("--threads takes 1 and all")
    for start in arguments.cases:
        if not any(case.name.startswith(start) for case in CASES):
            parser.error(f"no case begins with {start!r}; there are {names}")
    return arguments


def main() -> None:
    """Run the cases that were asked for."""
    arguments = parse()
    processors = len(os.sched_getaffinity(0))
    rows = []
    print(HEAD)
    for threads in dict.fromkeys(processors if t == "all" else 1 for t in arguments.threads):
        for index, case in enumerate(CASES):
            if any(case.name.startswith(start) for start in arguments.cases):
                rows.append(compete(index, threads, arguments))
                print(line(rows[-1]), flush=True)
    if arguments.json:
        report = {
            "processor": processor(),
            "processors": processors,
            "python": platform.python_version(),
            "versions": {name: version for name, (_, version) in LIBRARIES.items()},
            "results": rows,
        }
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--contestant"]:
        serve(prepare)
    else:
        main()
