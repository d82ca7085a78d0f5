"""``fastnn train``: learn a table, and say how well that went on rows that were held back.

Numbers without gaps go to a network; what has text or gaps, or is to be reported, goes to a
scikit-learn pipeline with one at its end (``pipelines``). A network's speed and gradient are
compared with the NumPy reference: on this machine, in this run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import metrics
from ..datasets import stratified_split
from ..errors import import_extra
from ..kernels.loader import load as load_engine
from . import align, tables
from .networks import NetworkLearner, Rows, step_threads
from .tables import Table

Array = NDArray[Any]

_HELD_OUT = 0.2  # of the rows, the same ones whatever the seed of the training


def train(arguments: argparse.Namespace) -> int:
    """Train on a table, test on held-out rows, compare with NumPy, save, report."""
    if arguments.save and not os.path.isdir(os.path.dirname(arguments.save) or "."):
        raise ValueError(f"there is no folder for {arguments.save}")
    is_for_pipeline = arguments.report is not None or is_pipeline(arguments.save)
    table = _read(arguments, is_for_pipeline)
    rows, held_out = _split(table)
    learn: Any = NetworkLearner
    if is_for_pipeline or not table.is_complete:
        if arguments.save and not is_pipeline(arguments.save):
            what = "a pipeline with text or gaps is saved as FILE.joblib"
            raise ValueError(f"{what}, not as {arguments.save}")
        from . import pipelines  # noqa: PLC0415 - needs the extra

        learn = pipelines.PipelineLearner
    learner = learn(table, rows, arguments)
    facts, truth, answers = learner.facts, table.target[held_out], learner.answers(held_out)
    score = _score(truth, answers)
    if not all(map(math.isfinite, (facts["loss"], *score.values()))):
        raise ValueError("the loss became infinite or NaN: try a smaller --lr")
    if arguments.save:
        learner.save(arguments.save)
    engine = load_engine(arguments.engine)
    report = {
        "data": table.name,
        "train_rows": len(rows),
        "test_rows": len(held_out),
        **score,
        **facts,
        "samples_per_second": len(rows) * facts["epochs"] / facts["seconds"],
        **learner.further(held_out),
        "engine": engine.NAME,
        "isa": engine.ISA,
        "threads": step_threads(arguments, facts["parameters"], len(rows)),
        "dtype": arguments.dtype,
        "seed": arguments.seed,
        "saved": arguments.save,
    }
    if arguments.report:
        learner.write_report(arguments.report, report, truth, answers)
    print(json.dumps(report, allow_nan=False) if arguments.json else _describe(report))
    return 0


def is_pipeline(path: str | None) -> bool:
    """Whether the name is that of a pipeline's file."""
    return (path or "").lower().endswith((".joblib", ".pkl", ".pickle"))


def _read(arguments: argparse.Namespace, is_for_pipeline: bool) -> Table:
    """The table; with its text and gaps, if there is a pipeline for them."""
    data, target = arguments.data, arguments.target
    is_csv = data != "digits" and not tables.is_npz(data)
    if is_for_pipeline and not is_csv:
        raise ValueError("--report and a saved pipeline are for CSV files")
    if is_csv and target is None:
        raise ValueError("which column is to be predicted? Give --target COLUMN")
    if is_for_pipeline:
        import_extra("sklearn", "sklearn", "--report and a saved pipeline")
    if arguments.report:
        import_extra("matplotlib", "plot", "--report")
    if data == "digits":
        return tables.digits().for_task(arguments.task)
    kinds = "auto" if importlib.util.find_spec("sklearn") else None
    return tables.read(data, arguments.features, target or "y", kinds).for_task(arguments.task)


def _split(table: Table) -> tuple[Rows, Rows]:
    """Rows to learn from and rows to hold back, if the target can be learned."""
    name, n, values = table.target_name, len(table.X), len(np.unique(table.target))
    if values == 1:
        raise ValueError(f"{name!r} has the same value in every row")
    if table.has_classes and values > n // 2:
        raise ValueError(
            f"{name!r} has {values} different values in {n} rows: "
            "too many classes; if it is a quantity, use --task regression"
        )
    groups = table.target if table.has_classes else np.zeros(n)
    rows, held_out = stratified_split(groups, _HELD_OUT)
    if len(held_out) == 0:
        raise ValueError(f"{n} rows are too few to hold some back for the test")
    return rows, held_out


def _score(truth: Array, answers: Array) -> dict[str, float]:
    """How right the answers to the held-out rows are; errors in the unit of the target."""
    if truth.dtype.kind != "f":
        return {"test_accuracy": float(np.mean(answers == truth))}
    pair = truth[:, None], answers[:, None], None
    rmse, mae = metrics.mse(*pair) ** 0.5, metrics.mae(*pair)
    return {"test_r2": metrics.r2(*pair), "test_rmse": rmse, "test_mae": mae}


#: Lines of the report for people, by the entry that must be there.
_LINES = {
    "test_accuracy": ("test accuracy", "{:.2%} of held-out rows ({right} of {test_rows})"),
    "test_r2": ("test R²", "{:.4f} on {test_rows} held-out rows"),
    "seconds": ("training", "{:.3f} s for {epochs} epochs, {samples_per_second:,.0f} samples/s"),
    "speedup_over_numpy": ("speed", "{:.1f} × the NumPy reference, same network"),
    "gradient_error": ("gradient", "{:.1e} relative difference from it in float64"),
    "engine": ("engine", "{} ({isa}), {threads} {noun}"),
    "saved": ("saved", "{}"),
    "report": ("report", "{}"),
}


def _describe(report: dict[str, Any]) -> str:
    right = round(report.get("test_accuracy", 0) * report["test_rows"])
    words = report | {"right": right, "noun": "thread" if report["threads"] == 1 else "threads"}
    return align(
        (name, text.format(report[key], **words))
        for key, (name, text) in _LINES.items()
        if report.get(key) not in (None, "")
    )
