"""``fastnn train`` on tables of numbers, text and gaps: a scikit-learn pipeline, and its report.

Numbers are imputed and standardised, text is one-hot encoded, labels stay what they are. The
fitted pipeline is a joblib file: a pickle, to be loaded from those alone whom one trusts.
"""

from __future__ import annotations

import json
import math
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
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    confusion_matrix,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from ..datasets import stratified_split
from ..kernels.loader import load as load_engine
from ..errors import import_extra
from ..files.models import FileFormatError
from .tables import Cells
from ..fit.training import STEP_FLOPS
from ..estimators import MLPClassifier, MLPRegressor

Array = NDArray[Any]

_FORMAT = "fastnn pipeline"
_MOST_CLASSES_DRAWN = 30


def train(
    cells: Cells,
    task: str,
    held_out: float,
    *,
    report: str | None,
    save: str | None,
    **network: Any,
) -> dict[str, Any]:
    """Fit a pipeline on a table, measure it on held-out rows, save and report.

    Parameters
    ----------
    cells : Cells
        The table, with its target.
    task : {"auto", "classification", "regression"}
    held_out : float
        The share of the rows that is measured.
    report : str or None
        A folder for report.json, report.txt, a picture, and the pipeline.
    save : str or None
        A file for the pipeline.
    **network
        ``hidden``, ``activation``, ``epochs``, ``batch_size``, ``optimizer``, ``lr``,
        ``seed``, ``dtype``, ``threads``, ``engine``, as the command line has them.

    Returns
    -------
    dict
        Plain data.

    Raises
    ------
    ValueError
        If the table cannot be learned from.
    """
    if report:
        import_extra("matplotlib", "plot", "--report")
    values = cells.target(task)
    is_class = values.dtype.kind != "f"
    rows, held = stratified_split(values if is_class else np.zeros(len(values)), held_out, 0)
    _check(cells.target_name, values, is_class, held)
    X = cells.features(network["dtype"])
    model = _pipeline(cells.kinds, is_class, **network)
    start = time.perf_counter()
    with warnings.catch_warnings():  # it runs as many epochs as it was told
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[rows], values[rows])
    seconds = time.perf_counter() - start
    answer = model.predict(X[held])
    net = network_of(model)
    measured = _measures(values[held], answer, is_class)
    if not all(map(math.isfinite, (net.loss_, *measured.values()))):
        raise ValueError("the loss became infinite or NaN: try a smaller --lr")
    found = {
        "data": cells.name,
        "network": "-".join(map(str, [net.n_features_in_, *network["hidden"], net.n_outputs_])),
        "columns": dict(zip(cells.names, cells.kinds, strict=True)),
        "parameters": net._model.size,
        "train_rows": len(rows),
        "test_rows": len(held),
        **measured,
        "loss": float(net.loss_),
        "epochs": net.n_iter_,
        "seconds": seconds,
        "samples_per_second": len(rows) * net.n_iter_ / seconds,
        "engine": net._model.engine,
        "isa": load_engine(net._model.engine).ISA,
        "threads": net._thread_count(STEP_FLOPS * min(network["batch_size"], len(rows))),
        "dtype": network["dtype"],
        "seed": network["seed"],
        "saved": save,
        "report": report,
    }
    content = {
        "format": _FORMAT,
        "features": cells.names,
        "kinds": cells.kinds,
        "target": cells.target_name,
        "dtype": network["dtype"],
        "pipeline": model,
    }
    if save:
        joblib.dump(content, save)
    if report:
        _write_report(Path(report), found, content, values[held], answer)
    return found


def network_of(model: Any) -> Any:
    """The fitted network at the end of a pipeline of ``train``."""
    last = model[-1]
    return last.regressor_ if isinstance(last, TransformedTargetRegressor) else last


def load(path: str) -> dict[str, Any]:
    """What ``train`` saved: the pipeline, and the columns that it takes."""
    try:
        content = joblib.load(path)
    except OSError:
        raise
    except Exception as error:
        raise FileFormatError(f"{path} is no saved pipeline: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise FileFormatError(f"{path} is no pipeline of fastnn train")
    return content


def predict(content: dict[str, Any], cells: Cells) -> Array:
    """The pipeline's answers for the rows of a table, (n,)."""
    X = cells.with_kinds(content["kinds"]).features(content["dtype"])
    answers: Array = content["pipeline"].predict(X)
    return answers


# --------------------------------------------------------------------------- inside


def _check(name: str, values: Array, is_class: bool, held: Array) -> None:
    different = len(np.unique(values))
    if different == 1:
        raise ValueError(f"{name!r} has the same value in every row")
    if is_class and different > len(values) // 2:
        raise ValueError(
            f"{name!r} has {different} different values in {len(values)} rows: "
            "too many classes; if it is a quantity, use --task regression"
        )
    if len(held) < 2:
        raise ValueError(f"{len(values)} rows are too few to hold some back for the test")


def _pipeline(kinds: list[str], is_class: bool, **network: Any) -> Pipeline:
    """Columns by kind → numbers → the network."""
    numbers = [k for k, kind in enumerate(kinds) if kind == "number"]
    texts = [k for k, kind in enumerate(kinds) if kind == "text"]
    dtype = np.dtype(network["dtype"])
    as_dtype = FunctionTransformer(np.asarray, kw_args={"dtype": dtype})
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "texts",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="(missing)"),
                    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                ),
                texts,
            ),
        ]
    )
    rate = {} if network["lr"] is None else {"learning_rate_init": network["lr"]}
    parameters = {
        "hidden_layer_sizes": tuple(network["hidden"]),
        "activation": network["activation"],
        "solver": network["optimizer"],
        "batch_size": network["batch_size"],
        "max_iter": network["epochs"],
        "n_iter_no_change": network["epochs"],
        "random_state": network["seed"],
        "threads": network["threads"],
        "engine": network["engine"],
        **rate,
    }
    last: Any
    if is_class:
        last = MLPClassifier(**parameters)
    else:
        last = TransformedTargetRegressor(MLPRegressor(**parameters), transformer=StandardScaler())
    return Pipeline([("columns", columns), ("dtype", as_dtype), ("network", last)])


def _measures(truth: Array, answer: Array, is_class: bool) -> dict[str, float]:
    if is_class:
        return {"test_accuracy": float(accuracy_score(truth, answer))}
    return {
        "test_r2": float(r2_score(truth, answer)),
        "test_rmse": float(root_mean_squared_error(truth, answer)),
        "test_mae": float(mean_absolute_error(truth, answer)),
    }


def _write_report(
    folder: Path, found: dict[str, Any], content: dict[str, Any], truth: Array, answer: Array
) -> None:
    """report.json, report.txt, confusion.png or residuals.png, pipeline.joblib."""
    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(content, folder / "pipeline.joblib")
    (folder / "report.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    lines = [f"{name}: {value}" for name, value in found.items() if name != "columns"]
    if "test_accuracy" in found:
        lines += ["", classification_report(truth, answer, zero_division=0)]
        _draw_confusion(folder / "confusion.png", truth, answer, content["target"])
    else:
        _draw_residuals(folder / "residuals.png", truth, answer, content["target"])
    (folder / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _figure() -> Any:
    """A figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_confusion(path: Path, truth: Array, answer: Array, name: str) -> None:
    """Counts of each class (rows) and what was answered for it (columns)."""
    labels = np.unique(np.concatenate([truth, answer]))
    counts = confusion_matrix(truth, answer, labels=labels)
    figure = _figure()
    axes = figure.add_subplot()
    image = axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues")
    figure.colorbar(image, label="share of the class")
    if len(labels) <= _MOST_CLASSES_DRAWN:
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        for (i, j), count in np.ndenumerate(counts):
            color = "white" if count * 2 > counts[i].sum() else "black"
            axes.text(j, i, count, ha="center", va="center", color=color)
    axes.set(
        xlabel=f"predicted {name}",
        ylabel=f"true {name}",
        title="held-out rows",
    )
    figure.savefig(path, dpi=120)


def _draw_residuals(path: Path, truth: Array, answer: Array, name: str) -> None:
    """What is left over, against the answer, and its distribution."""
    residuals = truth - answer
    figure = _figure()
    above, below = figure.subplots(2)
    above.scatter(answer, residuals, s=8, alpha=0.6)
    above.axhline(0, color="black", linewidth=0.8)
    above.set(xlabel=f"predicted {name}", ylabel="residual", title="residuals, held-out rows")
    below.hist(residuals, bins=min(50, max(5, len(residuals) // 5)))
    below.set(xlabel=f"{name} - prediction", ylabel="rows")
    figure.savefig(path, dpi=120)
