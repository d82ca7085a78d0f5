"""fastnn side by side with PyTorch, JAX, scikit-learn, ONNX Runtime and a NumPy loop.

    python benchmarks/peers.py --workloads fit1d,mnist128 --threads 1 --json out.json

Whatever is not installed is left out, by name. The rules, which are the same for all:

* The same network, first parameters, data (float32, in memory) and optimizer; each epoch
  shuffles, gathers its batches, computes losses and reports their mean.
* A run is ``--epochs`` epochs, timed by the peer inside its own process, from the first
  parameters and a fresh optimizer. fastnn's is the whole of ``fit`` with its checks and its
  set-up; the others' set-up and compilation come before and are not counted.
* Each peer's gradient (for inference: its output) is compared with the NumPy reference in
  float64 before it is timed; one that is wrong is not timed.
* Peers take turns, round after round, and the fastest run of each counts. A turn lasts at
  least 20 ms: shorter runs are repeated in it.
* ``--threads 1`` pins each process to one processor and tells every library to use one
  thread; ``--threads all`` gives all processors, and each library its way to use them.
* What is fair to each library beyond that is written at the head of its ``peer_….py``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import fastnn
from fastnn.bench.command import Peak, describe_network, processor
from fastnn.bench.contest import Contestant, ContestError, by_turns
from fastnn.bench.workloads import WORKLOADS, Workload, chosen

HERE = Path(__file__).parent

#: XLA has no option of its own for the number of threads.
_ONE_XLA_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Peer(NamedTuple):
    """A row of the tables below."""

    name: str
    needs: tuple[str, ...]  # modules
    program: str
    variant: str = ""


TRAINING = (
    Peer("fastnn", (), "peer_fastnn.py"),
    Peer("fastnn, numba", ("numba",), "peer_fastnn.py", "numba"),
    Peer("NumPy", (), "peer_numpy.py"),
    Peer("JAX", ("jax",), "peer_jax.py", "tree"),
    Peer("JAX, flat", ("jax",), "peer_jax.py", "flat"),
    Peer("PyTorch", ("torch",), "peer_torch.py", "eager"),
    Peer("PyTorch, fused", ("torch",), "peer_torch.py", "fused"),
    Peer("PyTorch, compile", ("torch",), "peer_torch.py", "compile"),
    Peer("scikit-learn", ("sklearn",), "peer_sklearn.py"),
)
INFERENCE = (
    Peer("fastnn", (), "peer_fastnn.py"),
    Peer("fastnn, numba", ("numba",), "peer_fastnn.py", "numba"),
    Peer("NumPy", (), "peer_numpy.py"),
    Peer("ONNX Runtime", ("onnx", "onnxruntime"), "peer_onnxruntime.py", "run"),
    Peer("ONNX Runtime, bound", ("onnx", "onnxruntime"), "peer_onnxruntime.py", "binding"),
    Peer("PyTorch", ("torch",), "peer_torch.py", "eager"),
)
TASKS = {"train": TRAINING, "predict": INFERENCE}

#: Rows of an inference, and the networks that it is measured on.
_ROWS = (1, 1024)
_INFERRED = ("fit1d", "digits3b1b", "mnist128", "tabular")

_CALL_SECONDS = 0.03  # of a run of calls of an inference


class Heat(NamedTuple):
    """Peers that compete in one thing."""

    task: str
    workload: Workload
    rows: int  # of an inference; 0 for training
    threads: int

    def __str__(self) -> str:
        what = f"predict {self.rows} rows" if self.task == "predict" else "train"
        count = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{what}, {self.workload.name}, {count}"


def heats(arguments: argparse.Namespace) -> Iterable[Heat]:
    """All that was asked for."""
    processors = len(os.sched_getaffinity(0))
    for threads in arguments.threads:
        count = processors if threads == "all" else int(threads)
        for task in arguments.tasks:
            for workload in arguments.workloads:
                if task == "train":
                    yield Heat(task, workload, 0, count)
                elif workload.name in _INFERRED:
                    for rows in _ROWS:
                        yield Heat(task, workload, rows, count)


def compete(heat: Heat, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The results of a heat, a row for each peer that takes part."""
    rows: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[], float]] = {}
    with contextlib.ExitStack() as stack:
        for peer in TASKS[heat.task]:
            if any(importlib.util.find_spec(module) is None for module in peer.needs):
                continue
            rows[peer.name] = row = {
                "task": heat.task,
                "workload": heat.workload.name,
                "network": describe_network(heat.workload),
                "batch_size": heat.rows or heat.workload.batch_size,
                "threads": heat.threads,
                "peer": peer.name,
            }
            try:
                contestant = stack.enter_context(start(peer, heat))
                row |= contestant.facts
                runs[peer.name] = work(contestant, heat, arguments, row)
            except ContestError as error:
                row["failed"] = str(error)
                say(f"  {error}")
        peak = Peak(heat.workload.dtype)
        turns = runs | {"peak": peak.look}
        best = by_turns(turns, arguments.seconds, arguments.rounds, heat.threads)
    for name in runs:
        row, seconds = rows[name], best[name]
        row["times_fastnn"] = seconds / best["fastnn"] if "fastnn" in best else None
        if heat.task == "predict":
            row["microseconds"] = seconds * 1e6
        else:
            gflops = heat.workload.epoch_flops * arguments.epochs / seconds / 1e9
            row["microseconds"] = seconds / (arguments.epochs * heat.workload.steps) * 1e6
            row["gflops"] = gflops
            row["percent_of_peak"] = peak.percent(gflops, heat.threads)
    return list(rows.values())


def start(peer: Peer, heat: Heat) -> Contestant:
    """The peer's process, prepared."""
    task = {
        "what": heat.task,
        "workload": heat.workload.name,
        "rows": heat.rows,
        "threads": heat.threads,
        "variant": peer.variant,
    }
    return Contestant(
        peer.name,
        [str(HERE / peer.program)],
        task,
        threads=heat.threads,
        cpus={max(os.sched_getaffinity(0))} if heat.threads == 1 else None,
        further={"XLA_FLAGS": _ONE_XLA_THREAD} if heat.threads == 1 else {},
    )


def work(
    contestant: Contestant, heat: Heat, arguments: argparse.Namespace, row: dict[str, Any]
) -> Callable[[], float]:
    """What a turn of the contestant is; it notes the loss that a training came to."""
    if heat.task == "predict":
        once = float(contestant.run(calls=10)["seconds"])
        calls = int(min(max(_CALL_SECONDS / once, 3), 100_000))
        return lambda: float(contestant.run(calls=calls)["seconds"])

    def turn() -> float:
        answer = contestant.run(epochs=arguments.epochs)
        row["loss"] = answer["loss"]
        return float(answer["seconds"])

    return turn


# --------------------------------------------------------------------------- telling


def table(rows: list[dict[str, Any]]) -> str:
    """One heat for people."""
    unit = "µs/call" if rows[0]["task"] == "predict" else "µs/step"
    lines = [f"  {'peer':<20}{unit:>12}{'× fastnn':>10}{'error':>10}"]
    if rows[0]["task"] == "train":
        lines[0] += f"{'loss':>9}{'of peak':>9}"
    for row in rows:
        if "failed" in row:
            lines.append(f"  {row['peer']:<20}{'failed':>12}")
            continue
        line = f"  {row['peer']:<20}{row['microseconds']:>12,.2f}{row['times_fastnn'] or 0:>10.2f}"
        line += f"{row['error_of_rounding']:>10.0e}"
        if "loss" in row:
            percent = row["percent_of_peak"]
            line += f"{row['loss']:>9.4f}" + ("" if percent is None else f"{percent:>8.0f}%")
        lines.append(line)
    return "\n".join(lines)


def say(line: str) -> None:
    """Progress, apart from the results."""
    print(line, file=sys.stderr, flush=True)


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--workloads", type=split, metavar="NAMES", help=", ".join(WORKLOADS))
    option("--tasks", type=split, default="train,predict", metavar="NAMES", help="%(default)s")
    option("--threads", type=split, default="1,all", metavar="N,…", help="%(default)s")
    option("--epochs", type=int, default=10, metavar="N", help="of a run (%(default)s)")
    option("--rounds", type=int, default=3, metavar="N", help="at least (%(default)s)")
    option("--seconds", type=float, default=20, metavar="S", help="a heat, about (%(default)s)")
    option("--json", metavar="FILE", help="write all results")
    option("--plot", metavar="FILE.png", help="draw a picture (matplotlib)")
    arguments = parser.parse_args()
    try:
        arguments.workloads = chosen(arguments.workloads)
    except ValueError as error:
        parser.error(str(error))
    if unknown := set(arguments.tasks) - set(TASKS):
        parser.error(f"unknown tasks: {', '.join(unknown)}; known: {', '.join(TASKS)}")
    if not all(count == "all" or (count.isdecimal() and int(count)) for count in arguments.threads):
        parser.error("--threads takes numbers, or all")
    return arguments


def main() -> int:
    """Run all heats; the exit code is 1 if any peer failed."""
    arguments = parse()
    rows = []
    for heat in heats(arguments):
        say(f"{heat}, {describe_network(heat.workload)}")
        found = compete(heat, arguments)
        print(f"{heat}\n{table(found)}\n", flush=True)
        rows += found
    engine = next(row for row in fastnn.engines().values() if row["default"])
    report = {
        "processor": processor(),
        "processors": len(os.sched_getaffinity(0)),
        "isa": engine["isa"],
        "python": platform.python_version(),
        "versions": {row["peer"]: row["version"] for row in rows if "version" in row},
        "epochs": arguments.epochs,
        "results": rows,
    }
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        from picture import draw  # noqa: PLC0415 - matplotlib only where it is wanted

        draw(report, arguments.plot)
    return int(any("failed" in row for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
