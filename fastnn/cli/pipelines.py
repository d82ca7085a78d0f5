"""Tables of numbers, text and gaps for the command line: a scikit-learn pipeline, and its report.

Numbers are imputed and standardised, text is one-hot encoded, labels stay what they are. The
fitted pipeline is a joblib file: a pickle, to be loaded from those alone whom one trusts.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.metrics import classification_report, confusion_matrix
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from ..estimators import MLPClassifier, MLPRegressor
from ..files import FileFormatError
from .networks import Rows
from .tables import NUMBER, TEXT, Table

Array = NDArray[Any]

_FORMAT = "fastnn pipeline"
_MOST_CLASSES_DRAWN = 30


class PipelineLearner:
    """A pipeline fitted to some rows of a table; it has what ``NetworkLearner`` has."""

    def __init__(self, table: Table, rows: Rows, arguments: argparse.Namespace) -> None:
        self.table, self.folder = table, arguments.report
        self.X = as_input(table, arguments.dtype)
        pipeline = _pipeline(table, arguments)
        start = time.perf_counter()
        with warnings.catch_warnings():  # it runs as many epochs as it was told
            warnings.simplefilter("ignore", ConvergenceWarning)
            pipeline.fit(self.X[rows], table.target[rows])
        seconds = time.perf_counter() - start
        network = pipeline[-1] if table.has_classes else pipeline[-1].regressor_
        sizes = network.n_features_in_, *arguments.hidden, network.n_outputs_
        self.facts = {
            "network": "-".join(map(str, sizes)),
            "parameters": sum(array.size for array in (*network.coefs_, *network.intercepts_)),
            "epochs": network.n_iter_,
            "loss": float(network.loss_),
            "seconds": seconds,
        }
        self.saved = {
            "format": _FORMAT,
            "features": list(table.features),
            "kinds": list(table.kinds),
            "target": table.target_name,
            "dtype": arguments.dtype,
            "pipeline": pipeline,
        }

    def answers(self, rows: Rows) -> Array:
        """Its answers for rows of the table, (n,)."""
        return np.asarray(self.saved["pipeline"].predict(self.X[rows]))

    def save(self, path: str | Path) -> None:
        """Write a file for ``fastnn predict``."""
        joblib.dump(self.saved, path)

    def further(self, held_out: Rows) -> dict[str, Any]:
        """What each column is, and where the report goes."""
        columns = dict(zip(self.table.features, self.table.kinds, strict=True))
        return {"columns": columns, "report": self.folder}

    def write_report(
        self, folder: str, report: dict[str, Any], truth: Array, answers: Array
    ) -> None:
        """report.json, report.txt, confusion.png or residuals.png, pipeline.joblib."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        self.save(path / "pipeline.joblib")
        text = json.dumps(report, indent=1) + "\n"
        (path / "report.json").write_text(text, encoding="utf-8")
        text = "".join(f"{key}: {value}\n" for key, value in report.items() if key != "columns")
        draw, picture = _draw_residuals, "residuals.png"
        if self.table.has_classes:
            draw, picture = _draw_confusion, "confusion.png"
            text += f"\n{classification_report(truth, answers, zero_division=0)}\n"
        (path / "report.txt").write_text(text, encoding="utf-8")
        figure = Figure(figsize=(7, 6), dpi=120, layout="constrained")
        draw(figure, truth, answers, self.table.target_name)
        figure.savefig(path / picture)


def load(path: str) -> dict[str, Any]:
    """What ``train`` saved: the pipeline, and the columns that it takes."""
    try:
        saved = joblib.load(path)
    except OSError:
        raise
    except Exception as error:
        raise FileFormatError(f"{path} is no saved pipeline: {error}") from error
    if not isinstance(saved, dict) or saved.get("format") != _FORMAT:
        raise FileFormatError(f"{path} is no pipeline of fastnn train")
    return saved


def as_input(table: Table, dtype: str) -> Array:
    """Numbers in the network's dtype; objects as they are."""
    return table.X if TEXT in table.kinds else table.X.astype(dtype)


def _pipeline(table: Table, arguments: argparse.Namespace) -> Pipeline:
    """Columns by kind → numbers → the network."""
    impute = SimpleImputer(strategy="constant", fill_value="(missing)")
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = ColumnTransformer(
        [
            (f"{kind}s", treat, [k for k, other in enumerate(table.kinds) if other == kind])
            for kind, treat in ((NUMBER, numbers), (TEXT, make_pipeline(impute, encode)))
        ]
    )
    dtype = FunctionTransformer(np.asarray, kw_args={"dtype": np.dtype(arguments.dtype)})
    rate = {} if arguments.lr is None else {"learning_rate_init": arguments.lr}
    kind = MLPClassifier if table.has_classes else MLPRegressor
    network: Any = kind(
        hidden_layer_sizes=tuple(arguments.hidden),
        activation=arguments.activation,
        solver=arguments.optimizer,
        batch_size=arguments.batch_size,
        max_iter=arguments.epochs,
        n_iter_no_change=arguments.epochs,
        random_state=arguments.seed,
        threads=arguments.threads,
        engine=arguments.engine,
        **rate,
    )
    if not table.has_classes:
        network = TransformedTargetRegressor(network, transformer=StandardScaler())
    return Pipeline([("columns", columns), ("dtype", dtype), ("network", network)])


def _draw_confusion(figure: Any, truth: Array, answers: Array, name: str) -> None:
    """Counts of each class (rows) and what was answered for it (columns)."""
    labels = np.unique(np.concatenate([truth, answers]))
    counts = confusion_matrix(truth, answers, labels=labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes = figure.add_subplot()
    figure.colorbar(axes.imshow(shares, cmap="Blues"), label="share of the class")
    if len(labels) <= _MOST_CLASSES_DRAWN:
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        for (i, j), count in np.ndenumerate(counts):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, count, ha="center", va="center", color=colour)
    axes.set(xlabel=f"predicted {name}", ylabel=f"true {name}", title="held-out rows")


def _draw_residuals(figure: Any, truth: Array, answers: Array, name: str) -> None:
    """What is left over, against the answer, and its distribution."""
    residuals = truth - answers
    above, below = figure.subplots(2)
    above.scatter(answers, residuals, s=8, alpha=0.6)
    above.axhline(0, color="black", linewidth=0.8)
    above.set(xlabel=f"predicted {name}", ylabel="residual", title="residuals, held-out rows")
    below.hist(residuals, bins=min(50, max(5, len(residuals) // 5)))
    below.set(xlabel=f"{name} - prediction", ylabel="rows")
