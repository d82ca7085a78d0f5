"""The picture of ``peers.py``: how much longer the others take, on a scale of ratios.

A panel for each kind of work, in it a group for each workload, in that a line for each
peer, from 1 (fastnn's time) to its own. ``python benchmarks/picture.py out.json FILE.png``
draws from stored results.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastnn.bench.command import significant

_INK, _FAINT, _GRID = "#20262b", "#6f7982", "#e6e9eb"

#: Library (the name up to its variant) -> colour.
_COLOURS = {
    "fastnn": "#2b6cb0",
    "NumPy": "#8c8c8c",
    "JAX": "#7b3fa0",
    "PyTorch": "#d1492e",
    "scikit-learn": "#e08e0b",
    "ONNX Runtime": "#2f7d4f",
}

Row = dict[str, Any]


def draw(report: dict[str, Any], path: str) -> None:
    """Write the picture; its format follows the name of the file."""
    panels: dict[tuple[str, int, int], dict[str, list[Row]]] = {}
    for row in report["results"]:
        rows = row["batch_size"] if row["task"] == "predict" else 0
        panel = panels.setdefault((row["task"], rows, row["threads"]), {})
        panel.setdefault(row["workload"], []).append(row)
    lines = [sum(len(group) - 0.4 for group in panel.values()) for panel in panels.values()]
    columns = min(3, len(panels))
    count = -(-len(panels) // columns)
    heights = [max(lines[k * columns : (k + 1) * columns]) for k in range(count)]
    figure = Figure(
        figsize=(1 + 4.2 * columns, 1.4 + sum(0.2 * height + 0.8 for height in heights)),
        dpi=150,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    grid = figure.subplots(count, columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for k, (axes, (key, panel)) in enumerate(zip(grid.flat, panels.items(), strict=False)):
        _draw_panel(axes, key, panel)
        axes.set_ylim(heights[k // columns] - 1, -0.7)  # lines lie alike in panels side by side
    where = f"{report['processor']}, {report['isa']}"
    figure.suptitle(
        f"How many times as long as fastnn the others take: {where}", weight="bold", color=_INK
    )
    figure.savefig(path)


def _draw_panel(axes: Axes, key: tuple[str, int, int], panel: dict[str, list[Row]]) -> None:
    task, rows, threads = key
    what = "Training" if task == "train" else f"Inference, {rows:,} row{'s' * (rows > 1)}"
    count = "1 thread" if threads == 1 else f"{threads} threads"
    axes.set_title(f"{what}, {count}", loc="left", size=10, weight="bold", color=_INK)
    places, names, largest, smallest, place = [], [], 1.5, 0.8, 0.0
    for workload, group in panel.items():
        timed = [row for row in group if "times_fastnn" in row]
        own = next((row for row in timed if row["peer"] == "fastnn"), None)
        if own is None:
            continue
        places.append(place)
        unit = "a step" if task == "train" else "a call"
        names.append(f"{workload}\n{_microseconds(own['microseconds'])} {unit}")
        for row in timed:
            if row is not own:
                _draw_peer(axes, place, row)
                largest = max(largest, row["times_fastnn"])
                smallest = min(smallest, row["times_fastnn"] / 1.1)
                place += 1
        axes.axhline(place - 0.2, color=_GRID, lw=0.8)
        place += 0.6
    axes.axvline(1, color=_INK, lw=1.2)
    axes.set_xscale("log")
    axes.set_xlim(smallest, largest * (largest / smallest) ** 0.75)
    steps = (1,) if largest > 100 else (1, 3) if largest > 10 else (1, 2, 5)
    ticks = [s * 10**k for k in range(-1, 5) for s in steps if smallest <= s * 10**k <= largest]
    axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks(places, names, size=8, va="center")
    axes.tick_params(length=0, which="both", colors=_INK, labelsize=8)
    axes.grid(axis="x", color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _draw_peer(axes: Axes, place: float, row: Row) -> None:
    ratio = row["times_fastnn"]
    colour = _COLOURS[row["peer"].partition(",")[0]]
    axes.hlines(place, *sorted((1, ratio)), color=colour, lw=2.4)
    axes.plot(ratio, place, "o", color=colour, ms=4.5)
    axes.annotate(
        f"{row['peer']}  {significant(ratio)}",
        (max(ratio, 1), place),
        (6, 0),
        textcoords="offset points",
        va="center",
        size=7.5,
        color=colour,
    )


def _microseconds(number: float) -> str:
    return f"{significant(number / 1e3)} ms" if number >= 1e4 else f"{significant(number)} µs"


if __name__ == "__main__":
    results, picture = sys.argv[1:]
    draw(json.loads(Path(results).read_text(encoding="utf-8")), picture)
