"""Tables for the command line: rows of a CSV or npz file, and how they meet a network.

A ``Table`` holds what was read, a ``Preprocessing`` how inputs were scaled and what the
outputs mean. The latter is learned from the training rows and travels in the model file,
so that a prediction treats a new row exactly as training treated the old ones.

A file is read with NumPy and the standard library; every fault of it is a ``TableError``
of one line that says where it is.
"""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ..datasets import load_digits
from ..errors import unknown_name
from ..files.models import FileFormatError, parse_json

Array = NDArray[Any]
Floats = NDArray[np.float64]

_BLOCK = 8192  # rows of a CSV file that are text at one time
_MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
_DELIMITERS = ",;\t"


class TableError(ValueError):
    """A file does not hold the table that was asked for."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of numbers, and perhaps what is to be predicted from them.

    Attributes
    ----------
    features : tuple of str
        Names of the columns of ``X``.
    X : ndarray of float64, shape (n, len(features))
        Finite.
    target_name : str
    target : ndarray, shape (n,), or None
        int64 or str for classes, float64 for a number to be regressed; None if not asked for.
    """

    features: tuple[str, ...]
    X: Floats
    target_name: str
    target: Array | None


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a CSV file as text, for columns that are not all numbers.

    Attributes
    ----------
    name : str
        Of the file.
    names : list of str
        The feature columns.
    columns : list of list of str
        Their cells.
    kinds : list of str
        "number" or "text", one for each column, as most of its cells are.
    target_name : str
    answers : list of str
        The cells of the target; empty if it was not asked for.
    lines : list of int
        Where each row stands in the file.
    """

    name: str
    names: list[str]
    columns: list[list[str]]
    kinds: list[str]
    target_name: str
    answers: list[str]
    lines: list[int]

    @property
    def is_plain(self) -> bool:
        """Whether every feature is a number, without gaps."""
        return "text" not in self.kinds and not any(
            _is_missing(cell) for column in self.columns for cell in column
        )

    def features(self, dtype: str) -> Array:
        """(n, columns): numbers as floats, text as str, NaN for what is missing."""
        X = np.empty((len(self.lines), len(self.names)), object)
        for k, (column, kind) in enumerate(zip(self.columns, self.kinds, strict=True)):
            for row, cell in enumerate(column):
                if _is_missing(cell):
                    X[row, k] = np.nan
                elif kind == "text":
                    X[row, k] = cell.strip()
                elif fault := _fault(cell):
                    where = f"line {self.lines[row]}, column {self.names[k]!r}"
                    raise TableError(f"{where}: {fault}")
                else:
                    X[row, k] = float(cell)
        return X.astype(dtype) if "text" not in self.kinds else X

    def target(self, task: str) -> Array:
        """The target as ``with_task`` has it."""
        values = _parse_target(self.answers, self.lines, self.target_name)
        table = Table((), np.empty((0, 0)), self.target_name, values)
        found = with_task(table, task).target
        assert found is not None
        return found

    def with_kinds(self, kinds: list[str]) -> Cells:
        """The same cells, read as columns of ``kinds``."""
        return replace(self, kinds=kinds)


# --------------------------------------------------------------------------- reading


def digits() -> Table:
    """The handwritten digits that come with the package, as a table."""
    X, y = load_digits()
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return Table(names, X.astype(np.float64), "digit", y)


def read_table(path: str, features: Sequence[str] | None, target: str | None) -> Table:
    """Read a CSV file with a header row, or an npz file.

    Parameters
    ----------
    path : str
        ``….npz``; anything else is taken as CSV (comma, semicolon or tab).
    features : sequence of str or None
        CSV: the columns to learn from; None takes all but the target. npz: one name, of an
        array (n, …) whose further axes are flattened; None takes "X".
    target : str or None
        The column, or the array (n,); None reads features only.

    Returns
    -------
    Table

    Raises
    ------
    TableError
        If the file is empty or malformed, a name is not in it, or a feature is missing,
        infinite or no number.
    OSError
        If the file cannot be read.
    """
    if Path(path).suffix.lower() == ".npz":
        return _read_npz(path, features, target)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _read_csv(file, features, target)
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not a text file in UTF-8") from error
    except csv.Error as error:
        raise TableError(f"{path} is not a CSV file: {error}") from error


def _read_csv(file: TextIO, features: Sequence[str] | None, target: str | None) -> Table:
    reader, header, names = _open_csv(file, features, target)
    position = {name: k for k, name in enumerate(header)}
    positions = [position[name] for name in names]
    blocks: list[Floats] = []
    lines: list[int] = []
    answers: list[str] = []
    rows = _rows(reader, len(header))
    while block := list(islice(rows, _BLOCK)):
        lines += [line for line, _ in block]
        blocks.append(_numbers(block, positions, header))
        if target is not None:
            answers += [cells[position[target]].strip() for _, cells in block]
    if not blocks:
        raise TableError(f"{file.name} has a header but no rows")
    values = None if target is None else _parse_target(answers, lines, target)
    return Table(tuple(names), np.concatenate(blocks), target or "", values)


def _open_csv(
    file: TextIO, features: Sequence[str] | None, target: str | None
) -> tuple[Any, list[str], list[str]]:
    """A reader of the rows, the names of all columns, and those of the features."""
    first = file.readline()
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(chain([first], file), delimiter=delimiter)
    header = [name.strip() for name in next(reader, [])]
    if not any(header):
        raise TableError(f"{file.name} has no header row")
    position = {name: k for k, name in enumerate(header)}
    if twice := [name for k, name in enumerate(header) if position[name] != k]:
        raise TableError(f"column {twice[0]!r} stands twice in the header of {file.name}")
    names = [name for name in header if name != target] if features is None else list(features)
    if target in names:
        raise TableError(f"column {target!r} cannot be both a feature and the target")
    for name in names if target is None else [*names, target]:
        if name not in position:
            raise TableError(f"{file.name}: {unknown_name('column', name, header)}")
    if not names:
        raise TableError(f"{file.name} has no column to learn from")
    return reader, header, names


def read_cells(path: str, features: Sequence[str] | None, target: str | None) -> Cells:
    """Read a CSV file as text; parameters and errors as ``read_table``."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader, header, names = _open_csv(file, features, target)
            rows = list(_rows(reader, len(header)))
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not a text file in UTF-8") from error
    except csv.Error as error:
        raise TableError(f"{path} is not a CSV file: {error}") from error
    if not rows:
        raise TableError(f"{path} has a header but no rows")
    position = {name: k for k, name in enumerate(header)}
    columns = [[cells[position[name]] for _, cells in rows] for name in names]
    answers = [] if target is None else [cells[position[target]].strip() for _, cells in rows]
    kinds = ["number" if _is_numeric(column) else "text" for column in columns]
    lines = [line for line, _ in rows]
    return Cells(path, names, columns, kinds, target or "", answers, lines)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _is_numeric(cells: list[str]) -> bool:
    """Whether most cells are numbers, gaps apart: a word among them is then a mistake."""
    there = [cell for cell in cells if not _is_missing(cell)]
    return 2 * sum(_float(cell) is not None for cell in there) > len(there)


def _rows(reader: Any, width: int) -> Iterator[tuple[int, list[str]]]:
    """The line number and the cells of each row; blank lines are no rows."""
    for cells in reader:
        if len(cells) == width:
            yield reader.line_num, cells
        elif cells:
            raise TableError(f"line {reader.line_num} has {len(cells)} cells, the header {width}")


def _numbers(block: list[tuple[int, list[str]]], positions: list[int], header: list[str]) -> Floats:
    """The feature columns of some rows, or an error that says where one is no number."""
    try:
        values = np.array([[cells[k] for k in positions] for _, cells in block], np.float64)
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass
    for line, cells in block:
        for k in positions:
            if fault := _fault(cells[k]):
                raise TableError(f"line {line}, column {header[k]!r}: {fault}")
    raise AssertionError("a block of numbers was refused")  # pragma: no cover


def _fault(cell: str) -> str | None:
    """What keeps a cell from being a finite number."""
    if _is_missing(cell):
        return "a value is missing; fill it in or leave the row out"
    number = _float(cell)
    if number is None:
        return f"{cell!r} is not a number; leave the column out or encode it as numbers"
    return None if np.isfinite(number) else f"{cell!r} is not a finite number"


def _float(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _parse_target(cells: list[str], lines: list[int], name: str) -> Array:
    """Integers if all are, else numbers if all are, else text."""
    for cell, line in zip(cells, lines, strict=True):
        if cell.lower() in _MISSING:
            raise TableError(f"line {line}, column {name!r}: the target is missing")
    try:
        return np.array([int(cell) for cell in cells], np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        values = np.array(cells, np.float64)
    except ValueError:
        return np.array(cells)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise TableError(f"line {lines[row]}, column {name!r}: {cells[row]!r} is not finite")
    return values


def _read_npz(path: str, features: Sequence[str] | None, target: str | None) -> Table:
    names = ["X"] if features is None else list(features)
    if len(names) != 1:
        raise TableError(f"an npz file has its features in one array, not in {len(names)}")
    X = _npz_array(path, names[0])
    if X.ndim < 2 or X.size == 0 or X.dtype.kind not in "biuf":
        raise TableError(f"{names[0]!r} must hold rows of numbers, not {X.dtype} {X.shape}")
    X = X.reshape(len(X), -1).astype(np.float64)
    if not np.isfinite(X).all():
        row = int(np.argmin(np.isfinite(X).all(axis=1)))
        raise TableError(f"row {row} of {names[0]!r} holds a missing or infinite value")
    columns = tuple(f"{names[0]}[{k}]" for k in range(X.shape[1]))
    if target is None:
        return Table(columns, X, "", None)
    y = _npz_array(path, target)
    if y.shape not in ((len(X),), (len(X), 1)) or y.dtype.kind not in "biufU":
        raise TableError(
            f"{target!r} must hold one number or text for each of the {len(X)} rows, "
            f"not {y.dtype} {y.shape}"
        )
    kind = {"f": np.float64, "U": np.str_}.get(y.dtype.kind, np.int64)
    y = y.reshape(-1).astype(kind)
    if kind is np.float64 and not np.isfinite(y).all():
        row = int(np.argmin(np.isfinite(y)))
        raise TableError(f"row {row} of {target!r} is missing or infinite")
    return Table(columns, X, target, y)


def _npz_array(path: str, name: str) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if name not in archive.files:
                raise TableError(f"{path}: {unknown_name('array', name, archive.files)}")
            array: Array = archive[name]
            return array
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{path} is not an npz file of plain arrays: {error}") from error


TASKS = ("auto", "classification", "regression")


def with_task(table: Table, task: str) -> Table:
    """The table with a target of the kind that ``task`` names; "auto" leaves it.

    Raises
    ------
    TableError
        If text is to be regressed, or fractions are to be classes.
    """
    target = table.target
    assert target is not None
    kind = target.dtype.kind
    if task == "regression" and kind == "i":
        return replace(table, target=target.astype(np.float64))
    if task == "regression" and kind == "U":
        raise TableError(f"{table.target_name!r} holds text: there is nothing to regress")
    if task == "classification" and kind == "f":
        if (target != np.floor(target)).any() or np.abs(target).max() > 2**53:
            raise TableError(f"{table.target_name!r} holds fractions: they are no classes")
        return replace(table, target=target.astype(np.int64))
    return table


# --------------------------------------------------------------------------- preprocessing


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """How a table becomes a network's input, and a network's output an answer.

    Attributes
    ----------
    features : tuple of str
        The columns, in the order of the network's inputs.
    mean, scale : ndarray of float64, shape (features,)
        An input is (x - mean) / scale.
    target : str
        What is predicted.
    classes : tuple of int or of str, or None
        What each output stands for; None if a number is predicted.
    target_mean, target_scale : float
        The number predicted is output · target_scale + target_mean.
    """

    features: tuple[str, ...]
    mean: Floats
    scale: Floats
    target: str
    classes: tuple[Any, ...] | None
    target_mean: float = 0.0
    target_scale: float = 1.0

    @classmethod
    def learn(cls, table: Table, rows: NDArray[np.int64]) -> Preprocessing:
        """Means and standard deviations of some rows; the classes of all."""
        assert table.target is not None
        mean, scale = _mean_and_scale(table.X[rows], table.features)
        names = table.features, mean, scale, table.target_name
        if table.target.dtype.kind != "f":
            return cls(*names, classes=tuple(np.unique(table.target).tolist()))
        centre, spread = _mean_and_scale(table.target[rows, None], (table.target_name,))
        return cls(
            *names, classes=None, target_mean=float(centre[0]), target_scale=float(spread[0])
        )

    def inputs(self, table: Table, dtype: str) -> Array:
        """The network's input (n, features) for a table with these columns."""
        scaled: Array = (table.X - self.mean) / self.scale
        return scaled.astype(dtype)

    def targets(self, values: Array, dtype: str) -> Array:
        """The network's target for what the table holds: labels, or (n, 1) numbers."""
        if self.classes is not None:
            return np.searchsorted(np.array(self.classes), values).astype(np.int64)
        return (((values - self.target_mean) / self.target_scale)[:, None]).astype(dtype)

    def answers(self, output: Array) -> Array:
        """What the network's output (n, outputs) says, in the table's own terms: (n,)."""
        if self.classes is not None:
            labels: Array = np.array(self.classes)[np.argmax(output, axis=1)]
            return labels
        numbers: Array = output[:, 0].astype(np.float64)
        return numbers * self.target_scale + self.target_mean

    def to_json(self) -> str:
        """A string for the metadata of the model file."""
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        values |= {"mean": self.mean.tolist(), "scale": self.scale.tolist()}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """What ``to_json`` wrote; a FileFormatError if it did not write this."""
        match parse_json(text, "the description of the inputs"):
            case {
                "features": list(features),
                "mean": list(mean),
                "scale": list(scale),
                "target": str(target),
                "classes": None | list() as classes,
                "target_mean": float(target_mean),
                "target_scale": float(target_scale),
            } if (
                len(features) == len(mean) == len(scale)
                and all(isinstance(name, str) for name in features)
                and all(isinstance(value, float) for value in [*mean, *scale])
                and all(value > 0 for value in scale)
                and (classes is None or (len(classes) > 1 and _are_labels(classes)))
            ):
                return cls(
                    tuple(features),
                    np.array(mean),
                    np.array(scale),
                    target,
                    None if classes is None else tuple(classes),
                    target_mean,
                    target_scale,
                )
        raise FileFormatError("the description of the inputs is not valid")


def _are_labels(values: list[Any]) -> bool:
    return {type(value) for value in values} in ({int}, {str})


def _mean_and_scale(values: Floats, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column; 1 for a column that does not vary."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Floats = values.mean(axis=0)
        scale: Floats = values.std(axis=0)
    if not (usable := np.isfinite(mean) & np.isfinite(scale)).all():
        raise TableError(f"the numbers in column {names[np.argmin(usable)]!r} are too large")
    return mean, np.where(scale > 0, scale, 1.0)
