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

from harness import heats
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastnn.bench.command import GRID, INK, count_threads, significant

#: Library (the name up to its variant) -> colour.
_COLOURS = {
    "fastnn": "#2b6cb0",
    "NumPy": "#8c8c8c",
    "JAX": "#7b3fa0",
    "PyTorch": "#d1492e",
    "scikit-learn": "#e08e0b",
    "ONNX Runtime": "#2f7d4f",
}

_TEXT: Any = {"textcoords": "offset points", "va": "center", "size": 7.5}
Key = tuple[str, int, int]  # task, rows of an inference, threads
Groups = dict[str, dict[str, dict[str, Any]]]  # workload -> peer -> its result


def draw(report: dict[str, Any], path: str) -> None:
    """Write the picture; its format follows the name of the file."""
    panels: dict[Key, Groups] = {}
    for (task, workload, rows, threads), results in heats(report).items():
        panels.setdefault((task, rows, threads), {})[workload] = results
    lines = [sum(len(results) - 0.4 for results in groups.values()) for groups in panels.values()]
    columns = min(3, len(panels))
    heights = [max(lines[k : k + columns]) for k in range(0, len(panels), columns)]
    size = 1 + 4.2 * columns, 1.4 + sum(0.2 * height + 0.8 for height in heights)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for k, (axes, (key, groups)) in enumerate(zip(grid.flat, panels.items(), strict=False)):
        _draw_panel(axes, key, groups)
        axes.set_ylim(heights[k // columns] - 1, -0.7)  # lines lie alike in panels side by side
    where = f"{report['processor']}, {report['isa']}"
    title = f"How many times as long as fastnn the others take: {where}"
    figure.suptitle(title, weight="bold", color=INK)
    figure.savefig(path)


def _draw_panel(axes: Axes, key: Key, groups: Groups) -> None:
    task, rows, threads = key
    what, unit = "Training", "a step"
    if task == "predict":
        what, unit = f"Inference, {rows:,} row{'s' * (rows > 1)}", "a call"
    title = f"{what}, {count_threads(threads)}"
    axes.set_title(title, loc="left", size=10, weight="bold", color=INK)
    places, names, largest, smallest, place = [], [], 1.5, 0.8, 0.0
    for workload, results in groups.items():
        places.append(place)
        own = results["fastnn"]["microseconds"]
        time = f"{significant(own / 1e3)} ms" if own >= 1e4 else f"{significant(own)} µs"
        names.append(f"{workload}\n{time} {unit}")
        for peer, ratio in ((peer, one["times_fastnn"]) for peer, one in results.items()):
            if peer != "fastnn":
                colour = _COLOURS[peer.partition(",")[0]]
                axes.hlines(place, *sorted((1, ratio)), color=colour, lw=2.4)
                axes.plot(ratio, place, "o", color=colour, ms=4.5)
                text, end = f"{peer}  {significant(ratio)}", max(ratio, 1)
                axes.annotate(text, (end, place), (6, 0), color=colour, **_TEXT)
                largest, smallest = max(largest, ratio), min(smallest, ratio / 1.1)
                place += 1
        axes.axhline(place - 0.2, color=GRID, lw=0.8)
        place += 0.6
    axes.axvline(1, color=INK, lw=1.2)
    axes.set_xscale("log")
    axes.set_xlim(smallest, largest * (largest / smallest) ** 0.75)
    steps = (1,) if largest > 100 else (1, 3) if largest > 10 else (1, 2, 5)
    ticks = [s * 10**k for k in range(-1, 5) for s in steps if smallest <= s * 10**k <= largest]
    axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks(places, names, size=8, va="center")
    axes.tick_params(length=0, which="both", colors=INK, labelsize=8)
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    results, picture = sys.argv[1:]
    draw(json.loads(Path(results).read_text(encoding="utf-8")), picture)
