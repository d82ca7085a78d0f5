"""Tables for the command line: what a CSV or npz file holds, read with NumPy alone.

Every fault of a file is a ``TableError`` of one line that says where it is.
"""

from __future__ import annotations

import csv
import math
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import load_digits
from ..errors import unknown_name

Array = NDArray[Any]

TASKS = ("auto", "classification", "regression")
NUMBER, TEXT = "number", "text"  # kinds of columns

_GAPS = {"", "?", "na", "n/a", "nan", "null", "none"}
_DELIMITERS = ",;\t"


class TableError(ValueError):
    """A file does not hold the table that was asked for."""


@dataclass(frozen=True, eq=False)
class Table:
    """Samples with named features, and perhaps what is to be predicted from them."""

    name: str  #: of the file
    features: tuple[str, ...]  #: names of the columns of X
    kinds: tuple[str, ...]  #: NUMBER or TEXT, of each column
    X: Array  #: (n, features): float64, or objects, float and str, if there is text; NaN is a gap
    target_name: str
    target: Array  #: (n,): int64 or str are classes, float64 is regressed; (0,) if not asked for

    @property
    def is_complete(self) -> bool:
        """Whether all features are numbers, without gaps, so that a network takes them."""
        return TEXT not in self.kinds and bool(np.isfinite(self.X).all())

    @property
    def has_classes(self) -> bool:
        """Whether the target is a class, not a number to be regressed."""
        return self.target.dtype.kind != "f"

    def for_task(self, task: str) -> Table:
        """The table with a target of the kind that ``task`` names; "auto" leaves it."""
        target, name = self.target, self.target_name
        match task, target.dtype.kind:
            case "regression", "i":
                return replace(self, target=target.astype(np.float64))
            case "regression", "U":
                raise TableError(f"{name!r} holds text: there is nothing to regress")
            case "classification", "f":
                if (target != np.floor(target)).any() or np.abs(target).max() > 2**53:
                    raise TableError(f"{name!r} holds fractions: they are no classes")
                return replace(self, target=target.astype(np.int64))
        return self


def digits() -> Table:
    """The handwritten digits that come with the package, as a table."""
    X, y = load_digits()
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return Table("digits", names, (NUMBER,) * len(names), X.astype(np.float64), "digit", y)


def is_npz(path: str) -> bool:
    """Whether a file is read as an archive of arrays; any other is taken as CSV."""
    return path.lower().endswith(".npz")


def read(
    path: str,
    features: Sequence[str] | None,
    target: str | None,
    kinds: Sequence[str] | None = None,
) -> Table:
    """Read a CSV file with a header row (comma, semicolon or tab), or an npz file.

    Parameters
    ----------
    path : str
    features : sequence of str or None
        CSV: the columns to learn from; None takes all but the target. npz: one name, of an
        array (n, …) whose further axes are flattened; None takes "X".
    target : str or None
        The column, or the array (n,); None reads features only.
    kinds : sequence of str, "auto" or None
        NUMBER or TEXT for each feature of a CSV file; there may be gaps. "auto" lets most of
        a column's cells decide: a word among numbers is a fault. None: numbers, no gaps.

    Raises
    ------
    TableError
        If the file is empty or malformed, a name is not in it, or a cell is not what its
        column holds.
    """
    try:
        if is_npz(path):
            return _read_npz(path, features, target)
        return _Csv(path).table(features, target, kinds)
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not a text file in UTF-8") from error
    except csv.Error as error:
        raise TableError(f"{path} is not a CSV file: {error}") from error


# --------------------------------------------------------------------------- CSV


class _Csv:
    """A CSV file: in memory as its bytes, of which one line at a time becomes strings."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.content = Path(path).read_bytes()
        first = next(self._lines(), "")
        self.delimiter = max(_DELIMITERS, key=first.count)
        self.header = [name.strip() for name in next(self._reader(), [])]
        if not any(self.header):
            raise TableError(f"{path} has no header row")
        for name in self.header:
            if self.header.count(name) > 1:
                raise TableError(f"column {name!r} stands twice in the header of {path}")

    def _lines(self) -> TextIOWrapper:
        return TextIOWrapper(BytesIO(self.content), encoding="utf-8-sig", newline="")

    def _reader(self) -> Any:
        return csv.reader(self._lines(), delimiter=self.delimiter)

    def _samples(self, names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Line numbers, and the cells of the columns; blank lines are no samples."""
        positions = [self.header.index(name) for name in names]
        reader, width = self._reader(), len(self.header)
        for cells in islice(reader, 1, None):
            if len(cells) == width:
                yield reader.line_num, [cells[k].strip() for k in positions]
            elif cells:
                line = reader.line_num
                raise TableError(f"line {line} has {len(cells)} cells, the header {width}")

    def table(
        self, features: Sequence[str] | None, target: str | None, kinds: Sequence[str] | None
    ) -> Table:
        """As ``read``."""
        names = [n for n in self.header if n != target] if features is None else list(features)
        asked = names if target is None else [*names, target]
        if target in names:
            raise TableError(f"column {target!r} cannot be both a feature and the target")
        for name in asked:
            if name not in self.header:
                raise TableError(f"{self.path}: {unknown_name('column', name, self.header)}")
        if not names:
            raise TableError(f"{self.path} has no column to learn from")
        with_gaps = kinds is not None
        kinds = self._kinds(names) if kinds == "auto" else kinds or [NUMBER] * len(names)
        columns: list[Any] = [array("d") if kind == NUMBER else [] for kind in kinds]
        lines, answers = array("q"), list[str]()
        for line, cells in self._samples(asked):
            lines.append(line)
            answers += cells[len(names) :]
            for name, kind, column, cell in zip(names, kinds, columns, cells, strict=False):
                column.append(_value(cell, kind, with_gaps, line, name))
        if not lines:
            raise TableError(f"{self.path} has a header but no rows")
        X = np.empty((len(lines), len(names)), object if TEXT in kinds else np.float64)
        for k, column in enumerate(columns):
            X[:, k] = column
        values = np.empty(0) if target is None else _target(answers, lines, target)
        return Table(self.path, tuple(names), tuple(kinds), X, target or "", values)

    def _kinds(self, names: Sequence[str]) -> list[str]:
        """A column is text unless more of its cells are numbers than words."""
        excess = [0] * len(names)
        for _, cells in self._samples(names):
            for k, cell in enumerate(cells):
                if not _is_gap(cell):
                    excess[k] += -1 if _float(cell) is None else 1
        return [NUMBER if count > 0 else TEXT for count in excess]


def _value(cell: str, kind: str, with_gaps: bool, line: int, name: str) -> float | str:
    """A finite number, or text; NaN for a gap."""
    if _is_gap(cell):
        if with_gaps:
            return math.nan
        fault = "a value is missing; fill it in or leave the row out"
    elif kind == TEXT:
        return cell
    elif (number := _float(cell)) is None:
        fault = f"{cell!r} is not a number; leave the column out or encode it as numbers"
    elif math.isfinite(number):
        return number
    else:
        fault = f"{cell!r} is not a finite number"
    raise TableError(f"line {line}, column {name!r}: {fault}")


def _is_gap(cell: str) -> bool:
    return cell.lower() in _GAPS


def _float(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _target(cells: list[str], lines: Sequence[int], name: str) -> Array:
    """Integers if all are, else numbers if all are, else text."""
    kind = TEXT if None in map(_float, cells) else NUMBER
    at = zip(cells, lines, strict=True)
    values = np.array([_value(cell, kind, False, line, name) for cell, line in at])
    try:
        return np.array([int(cell) for cell in cells], np.int64)
    except (ValueError, OverflowError):
        return values


# --------------------------------------------------------------------------- npz


def _read_npz(path: str, features: Sequence[str] | None, target: str | None) -> Table:
    name, *others = ["X"] if features is None else features
    if others:
        raise TableError(f"an npz file has its features in one array, not in {len(others) + 1}")
    X = _npz_array(path, name)
    if X.ndim < 2 or X.size == 0 or X.dtype.kind not in "biuf":
        raise TableError(f"{name!r} must hold rows of numbers, not {X.dtype} {X.shape}")
    X = X.reshape(len(X), -1).astype(np.float64)
    y = np.empty(0)
    if target is not None:
        y = _npz_array(path, target)
        if y.shape not in ((len(X),), (len(X), 1)) or y.dtype.kind not in "biufU":
            raise TableError(
                f"{target!r} must hold one number or text for each of the {len(X)} rows, "
                f"not {y.dtype} {y.shape}"
            )
        y = y.reshape(-1).astype({"f": np.float64, "U": np.str_}.get(y.dtype.kind, np.int64))
    for what, values in ((name, X), (target, y)):
        if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
            row = np.argwhere(~finite)[0, 0]
            raise TableError(f"row {row} of {what!r} holds a missing or infinite value")
    columns = tuple(f"{name}[{k}]" for k in range(X.shape[1]))
    return Table(path, columns, (NUMBER,) * len(columns), X, target or "", y)


def _npz_array(path: str, name: str) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if name in archive.files:
                return np.asarray(archive[name])
            known = archive.files
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise TableError(f"{path} is not an npz file of plain arrays: {error}") from error
    raise TableError(f"{path}: {unknown_name('array', name, known)}")
