"""The command line: ``fastnn train``, ``predict``, ``bench``, ``lab`` and ``info``.

Results go to stdout, progress to stderr; with ``--json`` stdout is one JSON object. A
mistake of the user's is one line on stderr and exit code 2, an interrupt exit code 130.
``train`` reports how well the network does on rows that it never saw, and how the engine
compares with the NumPy reference: both are measured, on this machine, in this run.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import __version__, metrics
from ..files import models as files
from . import tables
from ..checks import threads
from ..bench.command import bench
from ..fit.callbacks import Callback
from ..bench.comparison import gradient_error, speedup
from ..datasets import stratified_split
from ..kernels.contract import ACTIVATIONS
from ..kernels.loader import engines
from ..kernels.loader import load as load_engine
from ..errors import import_extra
from ..layers import Dense
from ..model import Sequential
from ..optimizers import OPTIMIZERS, Optimizer
from .tables import Preprocessing, Table
from ..fit.training import STEP_FLOPS
from ..bench.workloads import WORKLOADS

Array = NDArray[Any]

PREPROCESSING = "preprocessing"  # its name in the metadata of a model file

_HELD_OUT = 0.2
_SPLIT_SEED = 0  # the same rows are held out whatever the seed of the training
_COMPARED_ROWS = 4096  # for the gradient's agreement
_HIDDEN_ACTIVATIONS = [name for name in ACTIVATIONS if name != "softmax"]
_FIRST_ORDER = [name for name, kind in OPTIMIZERS.items() if issubclass(kind, Optimizer)]


# --------------------------------------------------------------------------- train


class Problem(NamedTuple):
    """What is to be learned from a table: arrays that a network takes, and their meaning."""

    name: str
    preprocessing: Preprocessing
    X: Array  # (n, features), prepared
    y: Array  # labels (n,), or (n, 1) prepared numbers
    train: NDArray[np.int64]  # rows
    test: NDArray[np.int64]

    @property
    def outputs(self) -> int:
        """Units of the last layer."""
        classes = self.preprocessing.classes
        return 1 if classes is None else len(classes)

    @property
    def loss(self) -> str:
        """The loss that fits the target."""
        return "mse" if self.preprocessing.classes is None else "cross_entropy"


def train(arguments: argparse.Namespace) -> int:
    """Train on a table, test on held-out rows, compare with NumPy, save, report."""
    if arguments.save and not os.path.isdir(os.path.dirname(arguments.save) or "."):
        raise ValueError(f"there is no folder for {arguments.save}")
    if (cells := _cells(arguments)) is not None:
        return _train_pipeline(cells, arguments)
    problem = _problem(arguments)
    inputs = len(problem.preprocessing.features)
    last = "identity" if problem.preprocessing.classes is None else "softmax"
    hidden = [Dense(units, arguments.activation) for units in arguments.hidden]
    model = Sequential(
        [*hidden, Dense(problem.outputs, last)],
        input_size=inputs,
        dtype=arguments.dtype,
        seed=arguments.seed,
        engine=arguments.engine,
    )
    batch_size = min(arguments.batch_size, len(problem.train))
    flops = STEP_FLOPS * model.size * batch_size
    rates = {} if arguments.lr is None else {"learning_rate": arguments.lr}
    recipe = {
        "loss": problem.loss,
        "optimizer": OPTIMIZERS[arguments.optimizer](**rates),
        "batch_size": batch_size,
        "threads": threads.choose(arguments.threads, flops, arguments.dtype),
    }
    X, y = problem.X[problem.train], problem.y[problem.train]
    sizes = "-".join(str(size) for size in (inputs, *arguments.hidden, problem.outputs))
    heading = [
        f"{problem.name}: {len(X)} rows to learn from, {len(problem.test)} held out",
        f"network {sizes}: {model.size} parameters, {arguments.activation}",
    ]

    start = time.perf_counter()
    progress = _Progress(heading, arguments.epochs)
    history = model.fit(X, y, epochs=arguments.epochs, callbacks=[progress], **recipe)
    seconds = time.perf_counter() - start
    score = _score(problem, model)
    if not all(map(math.isfinite, (history["loss"][-1], *score.values()))):
        raise ValueError("the loss became infinite or NaN: try a smaller --lr")
    if arguments.save:
        metadata = {PREPROCESSING: problem.preprocessing.to_json()}
        files.save_model(model, arguments.save, metadata=metadata)

    report = {
        "data": problem.name,
        "network": sizes,
        "parameters": model.size,
        "train_rows": len(problem.train),
        "test_rows": len(problem.test),
        **score,
        "loss": history["loss"][-1],
        "epochs": arguments.epochs,
        "seconds": seconds,
        "samples_per_second": len(X) * arguments.epochs / seconds,
        "speedup_over_numpy": speedup(model, X, y, **recipe),
        "gradient_error": _gradient_error(problem, model),
        "engine": model.engine,
        "isa": load_engine(model.engine).ISA,
        "threads": recipe["threads"],
        "dtype": arguments.dtype,
        "seed": arguments.seed,
        "saved": arguments.save,
    }
    print(json.dumps(report, allow_nan=False) if arguments.json else _describe(report))
    return 0


def _is_pipeline(path: str | None) -> bool:
    """Whether the name is that of a pipeline's file."""
    return path is not None and path.lower().endswith((".joblib", ".pkl", ".pickle"))


def _cells(arguments: argparse.Namespace) -> tables.Cells | None:
    """The table as text, if it is one for a pipeline: with text, with gaps, or to be reported.

    Where scikit-learn is missing such a table is left to the reader of plain numbers,
    which says what is wrong with it; what was asked for by an option is an ImportError.
    """
    is_wanted = arguments.report is not None or _is_pipeline(arguments.save)
    if arguments.data == "digits" or arguments.data.lower().endswith(".npz"):
        if is_wanted:
            raise ValueError("--report and a saved pipeline are for CSV files")
        return None
    if arguments.target is None:
        return None
    if is_wanted:
        import_extra("sklearn", "sklearn", "--report and a saved pipeline")
    elif importlib.util.find_spec("sklearn") is None:
        return None
    cells = tables.read_cells(arguments.data, arguments.features, arguments.target)
    return cells if is_wanted or not cells.is_plain else None


def _train_pipeline(cells: tables.Cells, arguments: argparse.Namespace) -> int:
    if arguments.save and not _is_pipeline(arguments.save):
        raise ValueError(
            f"a pipeline with text or gaps is saved as FILE.joblib, not as {arguments.save}"
        )
    from . import pipelines as tabular  # noqa: PLC0415 - needs the extra

    names = ("hidden", "activation", "epochs", "batch_size", "optimizer", "lr", "seed", "dtype")
    report = tabular.train(
        cells,
        arguments.task,
        _HELD_OUT,
        report=arguments.report,
        save=arguments.save,
        threads=arguments.threads,
        engine=arguments.engine,
        **{name: getattr(arguments, name) for name in names},
    )
    print(json.dumps(report, allow_nan=False) if arguments.json else _describe(report))
    return 0


def _problem(arguments: argparse.Namespace) -> Problem:
    """Read the table, hold rows back, and learn the preprocessing from the others."""
    table = _training_table(arguments)
    assert table.target is not None
    is_class = table.target.dtype.kind != "f"
    rows = len(table.X)
    if is_class:
        classes = len(np.unique(table.target))
        if classes == 1:
            raise ValueError(f"{table.target_name!r} has the same value in every row")
        if classes > rows // 2:
            raise ValueError(
                f"{table.target_name!r} has {classes} different values in {rows} rows: "
                "too many classes; if it is a quantity, use --task regression"
            )
    elif np.ptp(table.target) == 0:
        raise ValueError(f"{table.target_name!r} has the same value in every row")
    groups = table.target if is_class else np.zeros(rows)
    train_rows, test_rows = stratified_split(groups, _HELD_OUT, _SPLIT_SEED)
    if len(test_rows) == 0:
        raise ValueError(f"{rows} rows are too few to hold some back for the test")
    preprocessing = Preprocessing.learn(table, train_rows)
    return Problem(
        arguments.data,
        preprocessing,
        preprocessing.inputs(table, arguments.dtype),
        preprocessing.targets(table.target, arguments.dtype),
        train_rows,
        test_rows,
    )


def _training_table(arguments: argparse.Namespace) -> Table:
    if arguments.data == "digits":
        return tables.digits()
    target = arguments.target
    if target is None and not arguments.data.lower().endswith(".npz"):
        raise ValueError("which column is to be predicted? Give --target COLUMN")
    table = tables.read_table(arguments.data, arguments.features, target or "y")
    return tables.with_task(table, arguments.task)


def _gradient_error(problem: Problem, model: Sequential) -> float:
    """Agreement on held-out rows: where training ends, those of the training rows cancel."""
    rows = problem.test[:_COMPARED_ROWS]
    return gradient_error(model, problem.X[rows], problem.y[rows], problem.loss)


def _score(problem: Problem, model: Sequential) -> dict[str, float]:
    """What the network does on the rows that it has not seen."""
    output, target = model.predict(problem.X[problem.test]), problem.y[problem.test]
    if problem.preprocessing.classes is not None:
        return {"test_accuracy": float(np.mean(output.argmax(axis=1) == target))}
    return {"test_r2": metrics.r2(target, output, None)}


class _Progress(Callback):
    """About ten lines on the way, or one every two seconds where epochs are long."""

    def __init__(self, heading: list[str], epochs: int) -> None:
        self.heading = heading
        self.epochs = epochs
        self.last = time.monotonic()

    def on_train_begin(self) -> None:
        for line in (*self.heading, "epoch       loss"):
            _say(line)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        done = epoch + 1
        is_due = done * 10 // self.epochs > epoch * 10 // self.epochs
        if is_due or time.monotonic() - self.last > 2:
            self.last = time.monotonic()
            _say(f"{done:5d}  {logs['loss']:9.4g}")


def _describe(report: Mapping[str, Any]) -> str:
    """The report for people."""
    if "test_accuracy" in report:
        right = round(report["test_accuracy"] * report["test_rows"])
        head = f"{report['test_accuracy']:.2%} of held-out rows ({right} of {report['test_rows']})"
        rows = [("test accuracy", head)]
    else:
        head = f"{report['test_r2']:.4f} on {report['test_rows']} held-out rows"
        rows = [("test R²", head)]
    count = "thread" if report["threads"] == 1 else "threads"
    rate = f"{report['samples_per_second']:,.0f} samples/s"
    rows += [
        ("training", f"{report['seconds']:.3f} s for {report['epochs']} epochs, {rate}"),
    ]
    if "gradient_error" in report:
        speed = f"{report['speedup_over_numpy']:.1f} × the NumPy reference, same network"
        error = f"{report['gradient_error']:.1e} relative difference from it in float64"
        rows += [("speed", speed), ("gradient", error)]
    rows += [
        ("engine", f"{report['engine']} ({report['isa']}), {report['threads']} {count}"),
    ]
    for name in ("saved", "report"):
        if report.get(name):
            rows.append((name, report[name]))
    return _align(rows)


# --------------------------------------------------------------------------- predict


def predict(arguments: argparse.Namespace) -> int:
    """Write what a saved model says about the rows of a table, as CSV."""
    if _is_pipeline(arguments.model):
        header, columns = _pipeline_answers(arguments)
    else:
        header, columns = _model_answers(arguments)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    if arguments.out:
        files.write_atomically(arguments.out, [text.getvalue().encode()])
    else:
        print(text.getvalue(), end="")
    return 0


def _pipeline_answers(arguments: argparse.Namespace) -> tuple[list[str], list[Array]]:
    import_extra("sklearn", "sklearn", "a saved pipeline")
    from . import pipelines as tabular  # noqa: PLC0415 - needs the extra

    content = tabular.load(arguments.model)
    cells = tables.read_cells(arguments.file, content["features"], None)
    return [content["target"]], [tabular.predict(content, cells)]


def _model_answers(arguments: argparse.Namespace) -> tuple[list[str], list[Array]]:
    metadata = files.read_metadata(arguments.model)
    model = files.load_model(arguments.model, engine=arguments.engine)
    if PREPROCESSING in metadata:
        return _answers(model, Preprocessing.from_json(metadata[PREPROCESSING]), arguments)
    table = tables.read_table(arguments.file, arguments.features, None)
    columns = list(model.predict(table.X).T)
    return [f"output_{k}" for k in range(len(columns))], columns


def _answers(
    model: Sequential, preprocessing: Preprocessing, arguments: argparse.Namespace
) -> tuple[list[str], list[Array]]:
    """Name and content of the columns to write."""
    outputs = 1 if preprocessing.classes is None else len(preprocessing.classes)
    widths = len(preprocessing.features), outputs
    if (model.input_size, model.output_size) != widths:
        raise files.FileFormatError("the description of the inputs does not fit the network")
    is_npz = arguments.file.lower().endswith(".npz")
    features = arguments.features if is_npz else preprocessing.features
    table = tables.read_table(arguments.file, features, None)
    if table.X.shape[1] != widths[0]:
        raise ValueError(
            f"{arguments.file} has {table.X.shape[1]} features, the model takes {widths[0]}"
        )
    output = model.predict(preprocessing.inputs(table, model.dtype.name))
    return [preprocessing.target], [preprocessing.answers(output)]


# --------------------------------------------------------------------------- info


def info(arguments: argparse.Namespace) -> int:
    """What is installed, and what the package makes of this machine."""
    names = ("FASTNN_ENGINE", "FASTNN_ISA", "OMP_NUM_THREADS")
    facts: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": threads.available_threads(),
        "environment": {name: os.environ[name] for name in names if name in os.environ},
        "engines": engines(),
    }
    if arguments.json:
        print(json.dumps(facts))
        return 0
    versions = f"{facts['version']} (Python {facts['python']}, NumPy {facts['numpy']})"
    rows = [("fastnn", versions), ("platform", facts["platform"])]
    rows.append(("threads", f"at most {facts['threads']}"))
    rows += list(facts["environment"].items())
    for name, row in facts["engines"].items():
        default = " (default)" if row["default"] else ""
        rows.append((f"engine {name}", f"{row['isa'] or row['reason']}{default}"))
    print(_align(rows))
    return 0


# --------------------------------------------------------------------------- lab


def lab(arguments: argparse.Namespace) -> int:
    """List the experiments on how networks learn, or run some and draw their pictures."""
    from ..lab import command  # noqa: PLC0415 - no other command needs the lab

    return command.lab(arguments)


# --------------------------------------------------------------------------- arguments


class _Parser(argparse.ArgumentParser):
    """A mistake is one line, as for every other mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _sizes(text: str) -> list[int]:
    """The widths of the hidden layers: "128,64"; "" is none."""
    return [int(size) for size in text.split(",") if size.strip()]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


_NUMBER: dict[str, Any] = {"metavar": "N"}
_CHOICE: dict[str, Any] = {"metavar": "NAME", "help": "one of %(choices)s (%(default)s)"}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastnn", description="Dense neural networks at the speed of the CPU.")
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("train", help=train.__doc__, description=train.__doc__)
    command.set_defaults(run=train)
    command.add_argument("data", metavar="DATA", help="digits (shipped), FILE.csv or FILE.npz")
    option = command.add_argument_group("what to learn").add_argument
    option("--target", metavar="NAME", help="column of the CSV file, or array of the npz file (y)")
    option("--features", metavar="NAMES", type=_names, help="columns (all others), or array (X)")
    option("--task", choices=tables.TASKS, default="auto", help="auto: fractions are regressed")
    option = command.add_argument_group("how; the defaults are in brackets").add_argument
    option("--hidden", metavar="SIZES", type=_sizes, default="256", help="as 128,64 (%(default)s)")
    option("--activation", choices=_HIDDEN_ACTIVATIONS, default="relu", **_CHOICE)
    option("--epochs", type=int, default=40, help="passes over the data (%(default)s)", **_NUMBER)
    option("--batch-size", type=int, default=32, help="rows of a step (%(default)s)", **_NUMBER)
    option("--optimizer", choices=_FIRST_ORDER, default="adam", **_CHOICE)
    option("--lr", type=float, help="learning rate (the optimizer's own)", **_NUMBER)
    option("--seed", type=int, default=0, help="of weights and order (%(default)s)", **_NUMBER)
    option("--dtype", choices=("float32", "float64"), default="float32", **_CHOICE)
    option("--threads", type=int, help="(as many as a step is worth)", **_NUMBER)
    _add_engine(option)
    option = command.add_argument_group("results").add_argument
    option("--save", metavar="MODEL", help="write the trained model to this file (safetensors)")
    option("--report", metavar="DIR", help="a CSV file's report with a picture, and its pipeline")
    option("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser("predict", help=predict.__doc__, description=predict.__doc__)
    command.set_defaults(run=predict)
    command.add_argument("model", metavar="MODEL", help="a file that train --save wrote")
    command.add_argument("file", metavar="FILE", help="rows: FILE.csv or FILE.npz")
    option = command.add_argument
    option("--features", metavar="NAME", type=_names, help="array of the npz file (X)")
    option("--out", metavar="FILE", help="write here instead of to stdout")
    _add_engine(option)

    command = commands.add_parser("bench", help=bench.__doc__, description=bench.__doc__)
    command.set_defaults(run=bench)
    option = command.add_argument
    option("--workloads", metavar="NAMES", type=_names, help=f"some of {', '.join(WORKLOADS)}")
    option("--threads", type=int, default=1, help="of both sides (%(default)s)", **_NUMBER)
    _add_engine(option)
    option("--plot", metavar="FILE.png", help="draw a picture of the result (matplotlib)")
    option("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser("lab", help=lab.__doc__, description=lab.__doc__)
    command.set_defaults(run=lab)
    option = command.add_argument
    option("names", metavar="NAME", nargs="*", help="an experiment; without any: list them")
    option("--all", action="store_true", help="the whole gallery")
    option("--out", metavar="DIR", help="write pictures and index.html here (matplotlib)")
    _add_engine(option)

    command = commands.add_parser("info", help=info.__doc__, description=info.__doc__)
    command.set_defaults(run=info)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_engine(option: Any) -> None:
    option("--engine", metavar="NAME", default="auto", help="cython, numba or numpy (%(default)s)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; ``argv`` without the program's name. Returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _say("fastnn: interrupted")
        return 130
    except BrokenPipeError:  # the reader has enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error
        _say(f"fastnn: error: {what}")
    except (ValueError, ImportError) as error:
        _say("fastnn: error: " + " ".join(str(error).split()))
    return 2


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _align(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in rows)
