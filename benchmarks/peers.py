"""fastnn side by side with PyTorch, JAX, scikit-learn, ONNX Runtime and a NumPy loop.

    python benchmarks/peers.py --workloads fit1d,mnist128 --threads 1 --json out.json

Whatever is not installed is left out, by name. The rules, which are the same for all:

* The same network, first parameters, data (float32, in memory) and optimizer; each epoch
  shuffles, gathers its batches, computes losses and reports their mean.
* A run is ``--epochs`` epochs, timed by the peer inside its own process, from the first
  parameters and a fresh optimizer. fastnn's is the whole of ``fit`` with its checks and its
  set-up; the others' set-up and compilation come before and are not counted.
* A peer whose gradient (for inference: output) is not that of the NumPy reference in float64
  is not timed.
* Peers take turns of at least 20 ms, in which shorter runs are repeated, round after round;
  the fastest run of each counts.
* ``--threads 1`` pins each process to one processor and tells every library to use one
  thread; ``--threads all`` gives all processors, and each library its way to use them.
* What is fair to each library beyond that is written at the head of its file in ``peers/``.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import harness
from peers import PEERS, TASKS

import fastnn
from fastnn import checks
from fastnn.bench.command import Peak, count_threads, percent
from fastnn.bench.contest import Contestant, ContestError, by_turns
from fastnn.bench.workloads import WORKLOADS, Workload, chosen
from fastnn.cli import say

#: XLA has no option of its own for the number of threads.
_ONE_XLA_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

#: Rows of an inference, and the networks that it is measured on.
_ROWS = (1, 1024)
_INFERRED = ("fit1d", "digits3b1b", "mnist128", "tabular")

_CALL_SECONDS = 0.03  # of a run of calls of an inference


class Heat(NamedTuple):
    """Peers that compete in one thing."""

    task: str
    workload: Workload
    rows: int  #: of an inference; 0 for training
    threads: int

    def __str__(self) -> str:
        what = f"predict {self.rows} rows" if self.task == "predict" else "train"
        return f"{what}, {self.workload.name}, {count_threads(self.threads)}"


def heats(arguments: argparse.Namespace) -> Iterable[Heat]:
    for threads, task in product(arguments.threads, arguments.tasks):
        for workload in arguments.workloads:
            if task == "train":
                yield Heat(task, workload, 0, threads)
            elif workload.name in _INFERRED:
                yield from (Heat(task, workload, rows, threads) for rows in _ROWS)


def compete(heat: Heat, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What was found of each peer that takes part in a heat."""
    workload, threads = heat.workload, heat.threads
    facts = {"task": heat.task, "workload": workload.name, "network": workload.network}
    facts |= {"batch_size": heat.rows or workload.batch_size, "threads": threads}
    results: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[], float]] = {}
    with contextlib.ExitStack() as stack:
        for peer in PEERS:
            if heat.task not in peer.tasks or not peer.is_here:
                continue
            result = results[peer.name] = facts | {"peer": peer.name}
            task = {"library": peer.library, "what": heat.task, "workload": workload.name}
            task |= {"rows": heat.rows, "threads": threads, "variant": peer.variant}
            alone = {"is_pinned": True, "XLA_FLAGS": _ONE_XLA_THREAD} if threads == 1 else {}
            try:
                one = Contestant(peer.name, [harness.__file__], task, threads=threads, **alone)
                stack.enter_context(one)
                result |= one.facts
                options = {"epochs": arguments.epochs}
                if heat.task == "predict":
                    calls = _CALL_SECONDS / one.run(calls=10)["seconds"]
                    options = {"calls": int(min(max(calls, 3), 100_000))}
                runs[peer.name] = partial(turn, one, options, result)
            except ContestError as error:
                result["failed"] = str(error)
                say(f"  {error}")
        peak = Peak(workload.dtype)
        turns = runs | {"peak": peak.look}
        best = by_turns(turns, arguments.seconds, arguments.rounds, threads)
    for name in runs:
        result, seconds = results[name], best[name]
        result["times_fastnn"] = seconds / best["fastnn"] if "fastnn" in best else None
        result["microseconds"] = seconds * 1e6
        if heat.task == "train":
            gflops = workload.epoch_flops * arguments.epochs / seconds / 1e9
            result["microseconds"] /= arguments.epochs * workload.steps
            result |= {"gflops": gflops, "percent_of_peak": peak.percent(gflops, threads)}
    return list(results.values())


def turn(contestant: Contestant, options: dict[str, int], result: dict[str, Any]) -> float:
    """A run; what else it tells, such as the loss of a training, is noted."""
    result.update(contestant.run(**options))
    return float(result.pop("seconds"))


def table(results: list[dict[str, Any]]) -> str:
    is_training = results[0]["task"] == "train"
    unit, more = ("µs/step", ["loss", "of peak"]) if is_training else ("µs/call", [])
    lines = [["peer", unit, "× fastnn", "error", *more]]
    for one in results:
        lines.append([one["peer"], "failed"])
        if "failed" not in one:
            ratio = one["times_fastnn"] or 0
            lines[-1][1:] = [f"{one['microseconds']:,.2f}", f"{ratio:.2f}"]
            lines[-1].append(f"{one['error_of_rounding']:.0e}")
        if "loss" in one:
            lines[-1] += [f"{one['loss']:.4f}", percent(one["percent_of_peak"])]
    widths = "  {:<20}", "{:>12}", "{:>10}", "{:>10}", "{:>9}", "{:>9}"
    return "\n".join("".join(widths[: len(line)]).format(*line) for line in lines)


def main() -> int:
    """Run all heats; the exit code is 1 if any peer failed."""
    parser = harness.parser(__doc__, seconds=20, rounds=3)
    option = parser.add_argument
    several = {"type": harness.names, "metavar": "NAMES"}
    option("--workloads", help=", ".join(WORKLOADS), **several)
    option("--tasks", default=",".join(TASKS), help="%(default)s", **several)
    option("--epochs", type=int, default=10, metavar="N", help="of a run (%(default)s)")
    option("--plot", metavar="FILE.png", help="draw a picture (matplotlib)")
    arguments = parser.parse_args()
    try:
        arguments.workloads = chosen(arguments.workloads)
        arguments.tasks = [checks.choice("task", task, TASKS) for task in arguments.tasks]
    except ValueError as error:
        parser.error(str(error))
    results = []
    for heat in heats(arguments):
        say(f"{heat}, {heat.workload.network}")
        found = compete(heat, arguments)
        print(f"{heat}\n{table(found)}\n", flush=True)
        results += found
    isa = next(engine["isa"] for engine in fastnn.engines().values() if engine["default"])
    versions = {one["peer"]: one["version"] for one in results if "version" in one}
    facts = {"isa": isa, "versions": versions, "epochs": arguments.epochs}
    report = harness.report(results, arguments.json, **facts)
    if arguments.plot:
        from picture import draw  # noqa: PLC0415 - matplotlib only where it is wanted

        draw(report, arguments.plot)
    return int(any("failed" in one for one in results))


if __name__ == "__main__":
    raise SystemExit(main())
