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

import contextlib
import math
import operator
import statistics
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import harness
import numpy as np
import sklearn
from sklearn import neural_network
from sklearn.datasets import load_digits, make_classification

import fastnn
from fastnn.bench.contest import Contestant, Prepared, by_turns, serve
from fastnn.lab.digits import load_images

LIBRARIES = {"fastnn": fastnn, "scikit-learn": neural_network}
VERSIONS = {"fastnn": fastnn.__version__, "scikit-learn": sklearn.__version__}

#: 60,000 × 784, from Debian's package dataset-fashion-mnist; 1,797 × 64; 10,000 × 20.
DATA = {
    "fashion": lambda: operator.attrgetter("X", "y")(load_images("fashion")),
    "digits": lambda: load_digits(return_X_y=True),
    "table": lambda: make_classification(10_000, 20, n_informative=10, random_state=0),
}


class Case(NamedTuple):
    name: str
    work: str  #: of WORKS
    data: str
    dtype: str
    target: float  #: how many times faster we mean to be
    parameters: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it


_TWO_LAYERS = {"hidden_layer_sizes": (256, 128), "max_iter": 2}
_SMALL = {"hidden_layer_sizes": (32, 32), "max_iter": 50}

CASES = (
    Case("fashion-100", "fit", "fashion", "float32", 3.3, {"max_iter": 3}),
    Case("fashion-256-128", "fit", "fashion", "float32", 3.3, _TWO_LAYERS),
    Case("digits", "fit", "digits", "float64", 3.5),
    Case("digits", "fit", "digits", "float32", 6),
    Case("table", "fit", "table", "float64", 5, _SMALL),
    Case("table", "fit", "table", "float32", 9, _SMALL),
    Case("predict-row", "predict", "digits", "float64", 10),
    Case("partial-fit-row", "partial_fit", "digits", "float64", 20),
)

#: How far losses may be from each other, relatively. Roundings differ, and grow from step to
#: step, in float32 suddenly where one decides about a kink: the check is some fifty steps.
BOUNDS = {"float32": 1e-4, "float64": 1e-6}

_ROWS, _EPOCHS = 2000, 5  # of a short fit
_TURN = 0.03  # seconds of calls that are shorter


def prepare(library: str, index: int) -> Prepared:
    """The losses to be compared, and what a turn is."""
    warnings.simplefilter("ignore")  # that so few epochs have not converged
    case = CASES[index]
    X, y = DATA[case.data]()
    X = X.astype(case.dtype)
    make = partial(LIBRARIES[library].MLPClassifier, random_state=0, **case.parameters)
    estimator, row, label = make(), X[:1], y[:1]
    call: Callable[[], Any]
    if case.work == "partial_fit":
        classes = np.unique(y)
        for k in range(50):
            estimator.partial_fit(X[k : k + 1], y[k : k + 1], classes=None if k else classes)
        losses, call = list(estimator.loss_curve_), lambda: estimator.partial_fit(row, label)
    else:
        short = make(max_iter=_EPOCHS).fit(X[:_ROWS], y[:_ROWS])
        works = {"fit": lambda: estimator.fit(X, y), "predict": lambda: short.predict(row)}
        losses, call = short.loss_curve_, works[case.work]
    calls = 1
    if case.work != "fit":
        calls = math.ceil(_TURN / harness.repeat(call, 100)["seconds"])
    return {"losses": losses}, partial(harness.repeat, call, calls)


def compete(index: int, threads: int, seconds: float, rounds: int) -> dict[str, Any]:
    case, times = CASES[index], {name: list[float]() for name in LIBRARIES}

    def turn(contestant: Contestant) -> float:
        times[contestant.name].append(contestant.run()["seconds"])
        return times[contestant.name][-1]

    with contextlib.ExitStack() as stack:
        contestants = {}
        for name in LIBRARIES:
            program, task = [__file__, "serve"], {"library": name, "index": index}
            one = Contestant(name, program, task, threads=threads, is_pinned=threads == 1)
            contestants[name] = stack.enter_context(one)
        ours, theirs = (np.array(one.facts["losses"]) for one in contestants.values())
        error = float(np.abs(ours / theirs - 1).max())
        if not error <= BOUNDS[case.dtype]:
            raise SystemExit(f"{case.name}: the losses differ, {ours} and {theirs}")
        runs = {name: partial(turn, one) for name, one in contestants.items()}
        best = by_turns(runs, seconds, rounds, threads)
    middle = {name: statistics.median(times[name]) for name in LIBRARIES}
    facts = {name: getattr(case, name) for name in ("work", "dtype", "parameters", "target")}
    facts |= {"case": case.name, "threads": threads, "loss_error": error}
    return facts | {
        "turns": len(times["fastnn"]),
        "seconds": best,
        "median_seconds": middle,
        "times_faster": best["scikit-learn"] / best["fastnn"],
        "median_times_faster": middle["scikit-learn"] / middle["fastnn"],
    }


_LINE = "{:<17}{:<9}{:>7}" + 4 * "{:>13}" + "{:>9}{:>9}{:>8}{:>9}"
HEAD = _LINE.format(
    "milliseconds", "", "", *LIBRARIES, "median", "median", "times", "median", "target", "losses"
)


def line(result: dict[str, Any]) -> str:
    case = result["case"], result["dtype"], result["threads"]
    both = (*result["seconds"].values(), *result["median_seconds"].values())
    times = (f"{1e3 * seconds:,.3f}" for seconds in both)
    ratios = f"{result['times_faster']:.2f}", f"{result['median_times_faster']:.2f}"
    return _LINE.format(*case, *times, *ratios, result["target"], f"{result['loss_error']:.0e}")


def main() -> None:
    parser = harness.parser(__doc__, seconds=10, rounds=5)
    known = ", ".join(dict.fromkeys(case.name for case in CASES))
    option = {"type": harness.names, "default": [""], "metavar": "NAMES"}
    parser.add_argument("--cases", **option, help=f"by their start: {known}")
    arguments = parser.parse_args()
    for start in arguments.cases:
        if not any(case.name.startswith(start) for case in CASES):
            parser.error(f"no case begins with {start!r}; there are {known}")
    results = []
    print(HEAD)
    for threads in arguments.threads:
        for index, case in enumerate(CASES):
            if case.name.startswith(tuple(arguments.cases)):
                results.append(compete(index, threads, arguments.seconds, arguments.rounds))
                print(line(results[-1]), flush=True)
    harness.report(results, arguments.json, versions=VERSIONS)


if __name__ == "__main__":
    serve(prepare) if sys.argv[1:] == ["serve"] else main()
