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
from fnmatch import filter as matching
from pathlib import Path
from typing import Any

from harness import Heats, heats, markdown

from fastnn.bench.command import percent, significant
from fastnn.bench.workloads import WORKLOADS

README = Path(__file__).parents[1] / "README.md"
OPEN, CLOSE = "<!-- ratios -->\n", "<!-- /ratios -->"

#: heading -> the peers of which the fastest counts.
TRAINING = {
    "× NumPy": "NumPy",
    "× JAX": "JAX*",
    "× PyTorch": "PyTorch",
    "× PyTorch, its fastest": "PyTorch*",
    "× scikit-learn": "scikit-learn",
}
INFERENCE = {
    "× NumPy": "NumPy",
    "× ONNX Runtime": "ONNX Runtime",
    "× ONNX Runtime, bound": "ONNX Runtime, bound",
    "× PyTorch": "PyTorch",
}


def cells(results: dict[str, Any], columns: dict[str, str]) -> list[str]:
    """How many times as long the peers of each column take."""
    times = [
        [results[peer]["times_fastnn"] for peer in matching(results, pattern)]
        for pattern in columns.values()
    ]
    return [significant(min(column)) if column else "" for column in times]


def training_table(found: Heats) -> str:
    """A line for each workload on one thread, and what more threads bring to fastnn."""
    several = max((threads for task, *_, threads in found if task == "train"), default=1)
    headings = ["training, 1 thread", "batch, optimizer", "µs a step", "% of peak", *TRAINING]
    headings += [f"{several} threads"] * (several > 1)
    lines = []
    for name, workload in WORKLOADS.items():
        if results := found.get(("train", name, 0, 1)):
            recipe = f"{workload.batch_size}, {type(workload.optimizer).__name__}"
            one, own = results["fastnn"], results["fastnn"]["microseconds"]
            line = [f"{name}: {workload.network}", recipe, significant(own)]
            line += [percent(one["percent_of_peak"]), *cells(results, TRAINING)]
            if several > 1:
                more = found.get(("train", name, 0, several))
                line.append(f"{own / more['fastnn']['microseconds']:.2f} ×" if more else "")
            lines.append(line)
    return markdown(headings, lines)


def inference_table(found: Heats) -> str:
    """Two lines for each network on one thread."""
    lines = []
    for (task, name, rows, threads), results in found.items():
        if task == "predict" and threads == 1:
            own = significant(results["fastnn"]["microseconds"])
            lines.append([name, f"{rows:,}", own, *cells(results, INFERENCE)])
    return markdown(["inference, 1 thread", "rows", "µs a call", *INFERENCE], lines)


def section(report: dict[str, Any]) -> str:
    versions = {peer.partition(",")[0]: text for peer, text in report["versions"].items()}
    del versions["fastnn"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    source = (
        f"Measured on {report['processor']} ({report['isa']}) against {libraries}, by "
        "`python benchmarks/peers.py`; [docs/performance.md](docs/performance.md) says how."
    )
    wrapped = textwrap.fill(source, 100, break_long_words=False, break_on_hyphens=False)
    found = heats(report)
    parts = (training_table(found), inference_table(found), wrapped + "\n")
    return "\n".join(part for part in parts if part)


if __name__ == "__main__":
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    head, _, rest = README.read_text(encoding="utf-8").partition(OPEN)
    _, _, tail = rest.partition(CLOSE)
    README.write_text(head + OPEN + section(report) + CLOSE + tail, encoding="utf-8")
