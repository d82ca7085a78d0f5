"""Write the README's table of ratios from the results of ``peers.py``.

    python benchmarks/peers.py --json out.json
    python benchmarks/readme_table.py out.json

It replaces what stands between ``<!-- ratios -->`` and ``<!-- /ratios -->``, and nothing
else. Where a library has several variants the fastest one counts; of PyTorch and ONNX
Runtime the plain one stands beside it. A cell is empty if the library was not there.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from fastnn.bench.command import significant
from fastnn.bench.workloads import WORKLOADS

README = Path(__file__).parents[1] / "README.md"
OPEN, CLOSE = "<!-- ratios -->\n", "<!-- /ratios -->"

#: heading -> the peers of which the fastest counts.
TRAINING = {
    "× NumPy": ("NumPy",),
    "× JAX": ("JAX", "JAX, flat"),
    "× PyTorch": ("PyTorch",),
    "× PyTorch, its fastest": ("PyTorch", "PyTorch, fused", "PyTorch, compile"),
    "× scikit-learn": ("scikit-learn",),
}
INFERENCE = {
    "× NumPy": ("NumPy",),
    "× ONNX Runtime": ("ONNX Runtime",),
    "× ONNX Runtime, bound": ("ONNX Runtime, bound",),
    "× PyTorch": ("PyTorch",),
}

Times = dict[str, dict[str, Any]]  # peer -> its row of the results
Key = tuple[str, str, int, int]  # task, workload, rows of an inference, threads


def collect(report: dict[str, Any]) -> dict[Key, Times]:
    """The times of each heat."""
    heats: dict[Key, Times] = {}
    for row in report["results"]:
        if "microseconds" in row:
            rows = row["batch_size"] if row["task"] == "predict" else 0
            key = row["task"], row["workload"], rows, row["threads"]
            heats.setdefault(key, {})[row["peer"]] = row
    return {key: times for key, times in heats.items() if "fastnn" in times}


def ratios(times: Times, columns: dict[str, tuple[str, ...]]) -> list[str]:
    """How many times as long the peers of each column take."""
    fastest = (
        min((times[peer]["times_fastnn"] for peer in peers if peer in times), default=None)
        for peers in columns.values()
    )
    return ["" if ratio is None else significant(ratio) for ratio in fastest]


def own(times: Times) -> float:
    """Microseconds of fastnn."""
    return times["fastnn"]["microseconds"]


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def training_table(heats: dict[Key, Times]) -> str:
    """A row for each workload on one thread, and what more threads bring to fastnn."""
    several = max((key[3] for key in heats if key[0] == "train"), default=1)
    headings = ["training, 1 thread", "batch, optimizer", "µs a step", "% of peak", *TRAINING]
    if several > 1:
        headings.append(f"{several} threads")
    rows = []
    for name, workload in WORKLOADS.items():
        if times := heats.get(("train", name, 0, 1)):
            network = f"{name}: {'-'.join(map(str, workload.sizes))} {workload.activation}"
            recipe = f"{workload.batch_size}, {type(workload.optimizer).__name__}"
            percent = times["fastnn"]["percent_of_peak"]
            use = "" if percent is None else f"{percent:.0f}%"
            row = [network, recipe, significant(own(times)), use, *ratios(times, TRAINING)]
            if several > 1:
                more = heats.get(("train", name, 0, several))
                row.append(f"{own(times) / own(more):.2f} ×" if more else "")
            rows.append(row)
    return markdown(headings, rows)


def inference_table(heats: dict[Key, Times]) -> str:
    """Two rows for each network on one thread."""
    rows = [
        [name, f"{count:,}", significant(own(times)), *ratios(times, INFERENCE)]
        for (task, name, count, threads), times in heats.items()
        if task == "predict" and threads == 1
    ]
    return markdown(["inference, 1 thread", "rows", "µs a call", *INFERENCE], rows) if rows else ""


def section(report: dict[str, Any]) -> str:
    """What stands between the markers."""
    heats = collect(report)
    versions = {peer.partition(",")[0]: text for peer, text in report["versions"].items()}
    del versions["fastnn"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    source = (
        f"Measured on {report['processor']} ({report['isa']}) against {libraries}, by "
        "`python benchmarks/peers.py`; [docs/performance.md](docs/performance.md) says how."
    )
    wrapped = textwrap.fill(source, 100, break_long_words=False, break_on_hyphens=False)
    parts = (training_table(heats), inference_table(heats), wrapped + "\n")
    return "\n".join(part for part in parts if part)


def main() -> None:
    """Rewrite the README."""
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    head, _, rest = README.read_text(encoding="utf-8").partition(OPEN)
    _, _, tail = rest.partition(CLOSE)
    README.write_text(head + OPEN + section(report) + CLOSE + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
