"""What all races have in common: a process that checks a peer and times it; options; a report.

Run as a program, this is the process of one of the ``peers``: before anything is timed the
gradient of a training must agree with the NumPy reference in float64, and so must the output
of an inference.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peers import Task, Training

from fastnn.bench.command import processor
from fastnn.bench.contest import Prepared, serve
from fastnn.bench.workloads import BOUNDS, WORKLOADS, agreement, relative_error

PROCESSORS = len(os.sched_getaffinity(0))

#: Seconds. Shorter trainings are repeated within a turn, and the fastest counts: in the others'
#: turns a process has slept, and its data have left the caches.
_TURN = 0.02


def names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def thread_counts(text: str) -> list[int]:
    """Numbers of threads, from text such as "1,all"."""
    counts = [PROCESSORS if name == "all" else int(name) for name in names(text)]
    if min(counts, default=0) < 1:
        raise ValueError
    return list(dict.fromkeys(counts))


def parser(description: str | None, seconds: float, rounds: int) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=form)
    option = parser.add_argument
    option("--threads", type=thread_counts, default="1,all", metavar="N,…", help="%(default)s")
    option("--rounds", type=int, default=rounds, metavar="N", help="at least (%(default)s)")
    option("--seconds", type=float, default=seconds, metavar="S", help="each, about (%(default)s)")
    option("--json", metavar="FILE", help="write all results")
    return parser


def report(results: list[dict[str, Any]], path: str | None, **facts: Any) -> dict[str, Any]:
    """The results with what they were measured on, written to a file if there is a path."""
    machine = {"processor": processor(), "processors": PROCESSORS}
    found = machine | {"python": platform.python_version()} | facts | {"results": results}
    if path:
        Path(path).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


#: task, workload, rows of an inference (else 0), threads -> peer -> its result
Heats = dict[tuple[str, str, int, int], dict[str, dict[str, Any]]]


def heats(report: dict[str, Any]) -> Heats:
    """What ``peers.py`` found, without those that failed, where fastnn took part."""
    found: Heats = {}
    for one in report["results"]:
        if "microseconds" in one:
            rows = one["batch_size"] if one["task"] == "predict" else 0
            key = one["task"], one["workload"], rows, one["threads"]
            found.setdefault(key, {})[one["peer"]] = one
    return {key: results for key, results in found.items() if "fastnn" in results}


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table, or nothing if it has no lines."""
    table = [f"| {' | '.join(cells)} |\n" for cells in (headings, *lines)]
    table.insert(1, "|---" * len(headings) + "|\n")
    return "".join(table) if lines else ""


def repeat(call: Callable[[], Any], calls: int) -> dict[str, float]:
    """A turn of calls that are short: the seconds of one."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return {"seconds": (time.perf_counter() - start) / calls}


def prepare(library: str, what: str, workload: str, rows: int, **options: Any) -> Prepared:
    """Build a training (of all rows) or an inference, and check it."""
    peer, case = importlib.import_module(f"peers.{library}"), WORKLOADS[workload]
    task = Task(case, case.model("numpy").parameters, *case.data(), **options)
    if what == "train":
        training = peer.Peer(task)
        error, run = agreement(case, training.gradient, "it"), partial(train, training)
        run(1)  # compiles what is compiled at first use
    else:
        task = task._replace(X=task.X[:rows].copy())
        infer = peer.inference(task)
        error, run = output_error(infer(), task), partial(repeat, infer)
        run(10)
    return {"error_of_rounding": error, "version": peer.VERSION}, run


def train(training: Training, epochs: int) -> dict[str, float]:
    best, begin = math.inf, time.perf_counter()
    while time.perf_counter() - begin < _TURN:
        training.reset()
        start = time.perf_counter()
        loss = float(training.train(epochs))
        best = min(best, time.perf_counter() - start)
    return {"seconds": best, "loss": loss}


def output_error(output: Any, task: Task) -> float:
    """The relative error of an inference's output, which must be that of rounding."""
    exact = task.workload._replace(dtype="float64").model("numpy")
    exact.parameters = task.parameters
    error = relative_error(np.asarray(output), exact.predict(task.X))
    if not error <= BOUNDS[task.workload.dtype]:
        raise ValueError(f"its output is wrong on {task.workload.name}: relative error {error:.1e}")
    return error


if __name__ == "__main__":
    serve(prepare)
