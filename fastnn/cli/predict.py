"""``fastnn predict``: what a model of ``train``, or any other model file, says about rows."""

from __future__ import annotations

import argparse
import csv
import io
from typing import Any

from ..errors import import_extra
from ..files.safetensors import write_atomically
from . import networks, tables
from .train import is_pipeline


def predict(arguments: argparse.Namespace) -> int:
    """Write what a saved model says about the rows of a table, as CSV."""
    by = _by_pipeline if is_pipeline(arguments.model) else _by_network
    answers = by(arguments)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answers)
    writer.writerows(zip(*(column.tolist() for column in answers.values()), strict=True))
    if arguments.out:
        write_atomically(arguments.out, [text.getvalue().encode()])
    else:
        print(text.getvalue(), end="")
    return 0


def _by_pipeline(arguments: argparse.Namespace) -> dict[str, Any]:
    import_extra("sklearn", "sklearn", "a saved pipeline")
    from . import pipelines  # noqa: PLC0415 - needs the extra

    saved = pipelines.load(arguments.model)
    table = tables.read(arguments.file, saved["features"], None, saved["kinds"])
    X = pipelines.as_input(table, saved["dtype"])
    return {saved["target"]: saved["pipeline"].predict(X)}


def _by_network(arguments: argparse.Namespace) -> dict[str, Any]:
    model, preprocessing = networks.load(arguments.model, arguments.engine)
    is_npz, features = tables.is_npz(arguments.file), arguments.features
    if preprocessing is None:
        outputs = model.predict(tables.read(arguments.file, features, None).X)
        return {f"output_{k}": column for k, column in enumerate(outputs.T)}
    X = tables.read(arguments.file, features if is_npz else preprocessing.features, None).X
    width = len(preprocessing.features)
    if X.shape[1] != width:
        raise ValueError(f"{arguments.file} has {X.shape[1]} features, the model takes {width}")
    output = model.predict(preprocessing.inputs(X, model.dtype))
    return {preprocessing.target: preprocessing.answers(output)}
