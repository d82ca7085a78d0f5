"""``fastnn bench``: how fast this machine trains, beside a hand-written NumPy loop.

For each workload the engine and the loop train the same network on the same data, by turns,
shuffle and gather included; the engine's time is that of the whole ``fit``. Both must first
find the gradient of the NumPy reference in float64. The peak that percentages refer to is
measured in the same run, between the turns: what a core does when it multiplies and adds
in registers and touches no memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, checks
from ..errors import import_extra
from ..kernels.loader import load as load_engine
from .contest import Contestant, by_turns
from .workloads import Workload, agreement, chosen

_SECONDS = 6.0  # for a workload; five of them and their preparation stay under a minute
_RUN = 0.25  # seconds of a run of the NumPy loop, if that is at most ten epochs
_PEAK_SECONDS = 0.02  # of one look at the peak

Facts = dict[str, Any]  # of a whole run, or on one workload


def bench(arguments: argparse.Namespace) -> int:
    """Measure training speed on this machine against a hand-written NumPy loop."""
    if arguments.plot:
        import_extra("matplotlib.figure", "plot", "--plot")
        if not Path(arguments.plot).resolve().parent.is_dir():
            raise ValueError(f"there is no folder for {arguments.plot}")
    workloads = chosen(arguments.workloads)
    threads = checks.whole("threads", arguments.threads, at_most=1024)
    engine = load_engine(arguments.engine)
    report = {
        "fastnn": __version__,
        "numpy": np.__version__,
        "processor": processor(),
        "engine": engine.NAME,
        "isa": engine.ISA,
        "threads": threads,
        "results": [_race(workload, engine.NAME, threads) for workload in workloads],
    }
    if arguments.plot:
        draw(report, arguments.plot)
    print(json.dumps(report, allow_nan=False) if arguments.json else describe(report))
    return 0


def _race(workload: Workload, engine: str, threads: int) -> Facts:
    """One workload: the gradient first, then the times."""
    heading = f"{workload.name}: {workload.network}, {workload.rows} rows"
    print(heading, file=sys.stderr, flush=True)
    model = workload.model(engine)
    who, loss = f"the {engine} engine", workload.loss
    error = agreement(workload, lambda X, y: model.loss_and_gradient(X, y, loss)[1], who)
    first, (X, y) = model.parameters, workload.data()

    def train() -> float:
        model.parameters = first
        start = time.perf_counter()
        history = model.fit(X, y, epochs=epochs, threads=threads, **workload.recipe)
        elapsed = time.perf_counter() - start
        if not math.isfinite(history["loss"][-1]):
            raise ValueError(f"{who} diverged on {workload.name}: it is not timed")
        return elapsed

    task = {"workload": workload.name, "dtype": workload.dtype}
    program = ["-P", "-m", "fastnn.bench.numpy_peer"]
    with Contestant("the NumPy loop", program, task, threads=threads) as loop:
        one_epoch = min(loop.run(epochs=1)["seconds"] for _ in range(2))
        epochs = int(np.clip(_RUN / one_epoch, 1, 10))
        peak = Peak(workload.dtype)
        runs = {"numpy": lambda: float(loop.run(epochs=epochs)["seconds"])}
        runs |= {"engine": train, "peak": peak.look}
        best = by_turns(runs, _SECONDS, threads=threads)
    steps, gflops = epochs * workload.steps, workload.epoch_flops * epochs / best["engine"] / 1e9
    return {
        "workload": workload.name,
        "network": workload.network,
        "batch_size": workload.batch_size,
        "optimizer": type(workload.optimizer).__name__,
        "dtype": workload.dtype,
        "engine": engine,
        "threads": threads,
        "us_per_step": best["engine"] / steps * 1e6,
        "samples_per_second": epochs * workload.rows / best["engine"],
        "gflops": gflops,
        "peak_gflops": peak.gflops,
        "percent_of_peak": peak.percent(gflops, threads),
        "numpy_us_per_step": best["numpy"] / steps * 1e6,
        "speedup_over_numpy": best["numpy"] / best["engine"],
        "gradient_error": error,
    }


class Peak:
    """GFLOP/s of a core that only multiplies and adds, by the compiled engine.

    The highest look counts; ``gflops`` is None if there is nothing to measure it with.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.gflops: float | None = None
        self._probe: Callable[[str, float], float] | None = None
        with contextlib.suppress(ImportError):
            self._probe = load_engine("cython").fma_peak

    def look(self) -> float:
        """Measure for a moment; the time that it takes is no contestant's, hence 0."""
        if self._probe is not None:
            self.gflops = max(self.gflops or 0.0, self._probe(self.dtype, _PEAK_SECONDS))
        return 0.0

    def percent(self, gflops: float, threads: int) -> float | None:
        """The part of the peak of so many cores."""
        return None if self.gflops is None else 100 * gflops / (threads * self.gflops)


def processor() -> str:
    """The processor's name, as far as the system tells."""
    with contextlib.suppress(OSError):
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if found := re.search(r"^model name\s*:(.*)$", facts, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()


#: heading -> a cell for a result; those of the first three are set to the left.
_COLUMNS: dict[str, Callable[[Facts], str]] = {
    "workload": lambda result: str(result["workload"]),
    "network": lambda result: str(result["network"]),
    "engine": lambda result: str(result["engine"]),
    "µs/step": lambda result: significant(result["us_per_step"]),
    "samples/s": lambda result: f"{result['samples_per_second']:,.0f}",
    "GFLOP/s": lambda result: f"{result['gflops']:.1f}",
    "% of peak": lambda result: percent(result["percent_of_peak"]),
    "× NumPy": lambda result: f"{result['speedup_over_numpy']:.2f}",
    "gradient error": lambda result: f"{result['gradient_error']:.1e}",
}


def significant(number: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:#.3g}"


def percent(number: float | None) -> str:
    """Whole percent; nothing if unknown."""
    return "" if number is None else f"{number:.0f}%"


def count_threads(threads: int) -> str:
    """As "2 threads"."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def describe(report: Facts) -> str:
    """The table, with what is needed to read it below."""
    columns = [[heading, *map(cell, report["results"])] for heading, cell in _COLUMNS.items()]
    for k, column in enumerate(columns):
        width = max(map(len, column))
        columns[k] = [cell.ljust(width) if k < 3 else cell.rjust(width) for cell in column]
    text = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    where = f"{report['processor']}, {report['engine']} ({report['isa']})"
    text += ["", f"{where}, {count_threads(report['threads'])}"]
    peaks = {one["dtype"]: one["peak_gflops"] for one in report["results"] if one["peak_gflops"]}
    text += [f"peak of a core, {dtype}: {peak:.1f} GFLOP/s" for dtype, peak in peaks.items()]
    return "\n".join(text)


INK, FAINT, GRID = "#20262b", "#6f7982", "#e6e9eb"
_ENGINE, _NUMPY = "#0b6e99", "#c9ced3"


def draw(report: Facts, path: str) -> None:
    """A picture of the table; its format follows the name of the file.

    On the left the use that is made of the processor, on the right what a user gets of it.
    """
    results = report["results"]
    figure_class = import_extra("matplotlib.figure", "plot", "--plot").Figure
    figure = figure_class(figsize=(10.5, 2 + 0.72 * len(results)), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    use, gain = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    _draw_use(use, results, report["isa"])
    _draw_gain(gain, results)
    use.invert_yaxis()
    for axes in (use, gain):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0, colors=INK)
        axes.grid(axis="x", color=GRID, lw=0.8)
        axes.set_axisbelow(True)
    title = f"Training speed on {report['processor']}, {count_threads(report['threads'])}"
    figure.suptitle(title, weight="bold", color=INK)
    figure.savefig(path)


def _draw_use(axes: Any, results: Sequence[Facts], isa: str) -> None:
    """Bars of GFLOP/s, in percent of the peak where that is known."""
    has_peak = all(result["percent_of_peak"] is not None for result in results)
    places = np.arange(len(results), dtype=float)
    engine = np.array([result["percent_of_peak" if has_peak else "gflops"] for result in results])
    numpy = engine / [result["speedup_over_numpy"] for result in results]
    sides = {f"fastnn ({isa})": (-0.19, engine, _ENGINE), "NumPy loop": (0.19, numpy, _NUMPY)}
    for label, (shift, values, colour) in sides.items():
        bars = axes.barh(places + shift, values, 0.36, color=colour, label=label)
        axes.bar_label(bars, fmt="%.0f" + "%%" * has_peak, padding=4, size=9, color=INK)
    names = [f"{one['workload']}\n{one['network']}, batch {one['batch_size']}" for one in results]
    axes.set_yticks(places, names, size=9)
    axes.set_xlabel("GFLOP/s", color=INK)
    if has_peak:
        peak = f"{results[0]['peak_gflops']:.0f} GFLOP/s"
        axes.set_xlabel(f"% of a core's multiply-add peak, {peak}", color=INK)
        axes.set_xlim(0, 110)
        axes.axvline(100, color=INK, lw=1)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)


def _draw_gain(axes: Any, results: Sequence[Facts]) -> None:
    """Dots for the ratio of the times, with the figures of the engine below."""
    gains = [result["speedup_over_numpy"] for result in results]
    for place, (gain, result) in enumerate(zip(gains, results, strict=True)):
        axes.hlines(place, 1, gain, color=_ENGINE, lw=2)
        axes.plot(gain, place, "o", color=_ENGINE, ms=8)
        style: Facts = {
            "textcoords": "offset points",
            "va": "center",
            "weight": "bold",
            "color": INK,
        }
        axes.annotate(f"{significant(gain)} ×", (gain, place), (9, 0), **style)
        style |= {"va": "top", "size": 8, "weight": "normal", "color": FAINT}
        rate = f"{result['samples_per_second']:,.0f} samples/s"
        text = f"{significant(result['us_per_step'])} µs a step, {rate}"
        axes.annotate(text, (1, place), (4, -9), **style)
    axes.axvline(1, color=INK, lw=1)
    axes.set_xlim(0, 1.3 * max(2.0, *gains))
    axes.set_xlabel("times as fast as the NumPy loop", color=INK)
