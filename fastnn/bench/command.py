"""The body of ``fastnn bench``: how fast this machine trains, beside a hand-written NumPy loop.

For each workload the engine and the loop train the same network on the same data, by turns,
shuffle and gather included; the engine's time is that of the whole ``fit``. Both must first
find the gradient of the NumPy reference in float64. The peak that percentages refer to is
measured in the same run, between the turns: what a core does when it multiplies and adds
in registers and touches no memory.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__, checks
from .contest import Contestant, by_turns
from ..kernels.loader import load as load_engine
from ..errors import import_extra
from .workloads import Workload, agreement, chosen, reference

_SECONDS = 6.0  # for a workload; five of them and their preparation stay under a minute
_RUN = 0.25  # seconds of a run of the NumPy loop, if that is at most ten epochs
_MOST_EPOCHS = 10
_PEAK_SECONDS = 0.02  # of one look at the peak

Floats = NDArray[np.float64]
Row = dict[str, Any]
Report = dict[str, Any]


def bench(arguments: argparse.Namespace) -> int:
    """Measure training speed on this machine against a hand-written NumPy loop."""
    if arguments.plot:
        import_extra("matplotlib.figure", "plot", "--plot")
        if not Path(arguments.plot).resolve().parent.is_dir():
            raise ValueError(f"there is no folder for {arguments.plot}")
    found = measure(
        chosen(arguments.workloads),
        arguments.engine,
        arguments.threads,
        _SECONDS,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if arguments.plot:
        draw(found, arguments.plot)
    print(json.dumps(found, allow_nan=False) if arguments.json else describe(found))
    return 0


# --------------------------------------------------------------------------- measuring


def measure(
    workloads: Sequence[Workload],
    engine: str,
    threads: int,
    seconds: float,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Train each workload in the engine and in NumPy.

    Parameters
    ----------
    workloads : sequence of Workload
    engine : str
        As for ``Sequential``.
    threads : int
        Of the engine and of NumPy's BLAS.
    seconds : float
        Roughly how long to measure each workload.
    say : callable
        Gets a line about what is going on.

    Returns
    -------
    dict
        Facts about the run, and under "results" one dict for each workload.

    Raises
    ------
    Disagreement, ValueError, ContestError
        If a gradient is wrong, or a loss is not finite.
    """
    threads = checks.whole("threads", threads, at_most=1024)
    module = load_engine(engine)
    results = []
    for workload in workloads:
        say(f"{workload.name}: {describe_network(workload)}, {workload.rows} rows")
        results.append(_race(workload, module.NAME, threads, seconds))
    return {
        "fastnn": __version__,
        "numpy": np.__version__,
        "processor": processor(),
        "engine": module.NAME,
        "isa": module.ISA,
        "threads": threads,
        "results": results,
    }


def _race(workload: Workload, engine: str, threads: int, seconds: float) -> Row:
    """One workload: the gradient first, then the times."""
    rows = reference(workload)
    model = workload.model(engine)
    _, gradient = model.loss_and_gradient(rows.X, rows.y, loss=workload.loss)
    error = agreement(workload, gradient, f"the {engine} engine")
    first = model.parameters
    X, y = workload.data()

    def train() -> float:
        model.parameters = first
        start = time.perf_counter()
        history = model.fit(
            X,
            y,
            loss=workload.loss,
            optimizer=workload.optimizer,
            epochs=epochs,
            batch_size=workload.batch_size,
            threads=threads,
        )
        elapsed = time.perf_counter() - start
        if not math.isfinite(history["loss"][-1]):
            raise ValueError(f"the {engine} engine diverged on {workload.name}: it is not timed")
        return elapsed

    task = {"workload": workload.name, "dtype": workload.dtype}
    command = ["-P", "-m", "fastnn.bench.numpy_peer"]
    with Contestant("the NumPy loop", command, task, threads=threads) as loop:
        one_epoch = min(loop.run(epochs=1)["seconds"] for _ in range(2))
        epochs = int(np.clip(_RUN / one_epoch, 1, _MOST_EPOCHS))
        peak = Peak(workload.dtype)
        best = by_turns(
            {
                "engine": train,
                "numpy": lambda: float(loop.run(epochs=epochs)["seconds"]),
                "peak": peak.look,
            },
            seconds,
            threads=threads,
        )
    gflops = workload.epoch_flops * epochs / best["engine"] / 1e9
    return {
        "workload": workload.name,
        "network": describe_network(workload),
        "batch_size": workload.batch_size,
        "optimizer": type(workload.optimizer).__name__,
        "dtype": workload.dtype,
        "engine": engine,
        "threads": threads,
        "us_per_step": best["engine"] / (epochs * workload.steps) * 1e6,
        "samples_per_second": epochs * workload.rows / best["engine"],
        "gflops": gflops,
        "peak_gflops": peak.gflops,
        "percent_of_peak": peak.percent(gflops, threads),
        "numpy_us_per_step": best["numpy"] / (epochs * workload.steps) * 1e6,
        "speedup_over_numpy": best["numpy"] / best["engine"],
        "gradient_error": error,
    }


class Peak:
    """What a core can do in multiply-adds, by the compiled engine; the highest look counts.

    Parameters
    ----------
    dtype : str

    Attributes
    ----------
    gflops : float or None
        None if there is nothing to measure it with.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.gflops: float | None = None
        self._probe: Callable[[str, float], float] | None
        try:
            self._probe = load_engine("cython").fma_peak
        except ImportError:
            self._probe = None

    def look(self) -> float:
        """Measure for a moment; the time that it takes is no contestant's, hence 0."""
        if self._probe is not None:
            self.gflops = max(self.gflops or 0.0, self._probe(self.dtype, _PEAK_SECONDS))
        return 0.0

    def percent(self, gflops: float, threads: int) -> float | None:
        """The part of the peak of so many cores."""
        return None if self.gflops is None else 100 * gflops / (threads * self.gflops)


def describe_network(workload: Workload) -> str:
    """As "784-128-10 relu"."""
    return "-".join(map(str, workload.sizes)) + f" {workload.activation}"


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# --------------------------------------------------------------------------- telling

#: heading -> a cell from a row; numbers are set to the right.
_COLUMNS: dict[str, Callable[[Row], str]] = {
    "workload": lambda row: str(row["workload"]),
    "network": lambda row: str(row["network"]),
    "engine": lambda row: str(row["engine"]),
    "µs/step": lambda row: significant(row["us_per_step"]),
    "samples/s": lambda row: f"{row['samples_per_second']:,.0f}",
    "GFLOP/s": lambda row: f"{row['gflops']:.1f}",
    "% of peak": lambda row: (
        "" if row["percent_of_peak"] is None else f"{row['percent_of_peak']:.0f}%"
    ),
    "× NumPy": lambda row: f"{row['speedup_over_numpy']:.2f}",
    "gradient error": lambda row: f"{row['gradient_error']:.1e}",
}
_TEXT = ("workload", "network", "engine")


def significant(number: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:#.3g}"


def describe(report: Report) -> str:
    """The table, with what is needed to read it below."""
    lines = [list(_COLUMNS)]
    lines += [[cell(row) for cell in _COLUMNS.values()] for row in report["results"]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(width) if heading in _TEXT else cell.rjust(width)
            for heading, cell, width in zip(_COLUMNS, line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
    count = "1 thread" if report["threads"] == 1 else f"{report['threads']} threads"
    text += ["", f"{report['processor']}, {report['engine']} ({report['isa']}), {count}"]
    peaks = {row["dtype"]: row["peak_gflops"] for row in report["results"] if row["peak_gflops"]}
    text += [f"peak of a core, {dtype}: {peak:.1f} GFLOP/s" for dtype, peak in peaks.items()]
    return "\n".join(text)


_ENGINE, _NUMPY, _INK, _FAINT, _GRID = "#0b6e99", "#c9ced3", "#20262b", "#6f7982", "#e6e9eb"


def draw(report: Report, path: str) -> None:
    """A picture of the table; its format follows the name of the file.

    On the left the use that is made of the processor, on the right what a user gets of it.
    """
    figure_class = import_extra("matplotlib.figure", "plot", "--plot").Figure
    rows = report["results"]
    places = np.arange(len(rows), dtype=float)
    figure = figure_class(figsize=(10.5, 2 + 0.72 * len(rows)), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    use, gain = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    _draw_use(use, places, rows, report["isa"])
    _draw_gain(gain, places, rows)
    use.invert_yaxis()
    for axes in (use, gain):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0, colors=_INK)
        axes.grid(axis="x", color=_GRID, lw=0.8)
        axes.set_axisbelow(True)
    count = "1 thread" if report["threads"] == 1 else f"{report['threads']} threads"
    title = f"Training speed on {report['processor']}, {count}"
    figure.suptitle(title, weight="bold", color=_INK)
    figure.savefig(path)


def _draw_use(axes: Any, places: Floats, rows: Sequence[Row], isa: str) -> None:
    """Bars of GFLOP/s, in percent of the peak where that is known."""
    has_peak = all(row["percent_of_peak"] is not None for row in rows)
    engine = [row["percent_of_peak"] if has_peak else row["gflops"] for row in rows]
    numpy = [value / row["speedup_over_numpy"] for value, row in zip(engine, rows, strict=True)]
    sides = ((-0.19, engine, _ENGINE, f"fastnn ({isa})"), (0.19, numpy, _NUMPY, "NumPy loop"))
    for shift, values, colour, label in sides:
        axes.barh(places + shift, values, 0.36, color=colour, label=label)
        for place, value in zip(places + shift, values, strict=True):
            text = f"{value:.0f}%" if has_peak else f"{value:.0f}"
            _note(axes, text, (value, place), (4, 0), va="center", size=9, color=_INK)
    names = [f"{row['workload']}\n{row['network']}, batch {row['batch_size']}" for row in rows]
    axes.set_yticks(places, names, size=9)
    if has_peak:
        axes.set_xlim(0, 110)
        axes.axvline(100, color=_INK, lw=1)
        peak = f"% of a core's multiply-add peak, {rows[0]['peak_gflops']:.0f} GFLOP/s"
    axes.set_xlabel(peak if has_peak else "GFLOP/s", color=_INK)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)


def _draw_gain(axes: Any, places: Floats, rows: Sequence[Row]) -> None:
    """Dots for the ratio of the times, with the figures of the engine below."""
    gains = [row["speedup_over_numpy"] for row in rows]
    axes.hlines(places, 1, gains, color=_ENGINE, lw=2)
    axes.plot(gains, places, "o", color=_ENGINE, ms=8)
    for place, value, row in zip(places, gains, rows, strict=True):
        text = f"{significant(value)} ×"
        _note(axes, text, (value, place), (9, 0), va="center", weight="bold", color=_INK)
        figures = f"{significant(row['us_per_step'])} µs a step, "
        figures += f"{row['samples_per_second']:,.0f} samples/s"
        _note(axes, figures, (1, place), (4, -9), va="top", size=8, color=_FAINT)
    axes.axvline(1, color=_INK, lw=1)
    axes.set_xlim(0, 1.3 * max(2.0, *gains))
    axes.set_xlabel("times as fast as the NumPy loop", color=_INK)


def _note(axes: Any, text: str, place: Any, offset: tuple[int, int], **style: Any) -> None:
    """Text beside a point, at an offset in points."""
    axes.annotate(text, place, offset, textcoords="offset points", **style)
