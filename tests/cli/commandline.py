"""A command line to type into: commands run in this process, as the installed script runs them."""

from __future__ import annotations

import csv
import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from fastnn.cli.main import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """What it printed; it must have succeeded."""
        assert self.code == 0, self.err
        return self.out

    @property
    def fault(self) -> str:
        """The one line that says what was wrong, beside which there is nothing."""
        assert (self.code, self.out) == (2, "")
        (line,) = self.err.splitlines()
        assert line.startswith("fastnn") and "error: " in line  # noqa: PT018
        return line


def run(command: str) -> Ran:
    """Run a command; words are separated by spaces."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        try:
            code = main(command.split())
        except SystemExit as end:
            code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def report(command: str) -> dict[str, Any]:
    """The one JSON object that a command prints."""
    return json.loads(run(f"{command} --json").text)  # type: ignore[no-any-return]


def write_csv(path: Path | str, columns: dict[str, Any]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def column(text: str, name: str) -> list[str]:
    return [cells[name] for cells in csv.DictReader(text.splitlines())]
