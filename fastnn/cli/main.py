"""The command line: ``fastnn train``, ``predict``, ``bench``, ``lab`` and ``info``.

Results go to stdout, progress to stderr; with ``--json`` stdout is one JSON object. A
mistake of the user's is one line on stderr and exit code 2, an interrupt exit code 130.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import __version__
from ..bench.command import bench
from ..bench.workloads import WORKLOADS
from ..kernels.contract import ACTIVATIONS
from ..optimizers import OPTIMIZERS, Optimizer
from . import say
from .info import info
from .predict import predict
from .tables import TASKS
from .train import train


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; ``argv`` without the program's name. Returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        say("fastnn: interrupted")
        return 130
    except BrokenPipeError:  # the reader has enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error
        say(f"fastnn: error: {what}")
    except (ValueError, ImportError) as error:
        say("fastnn: error: " + " ".join(str(error).split()))
    return 2


def lab(arguments: argparse.Namespace) -> int:
    """List the experiments on how networks learn, or run some and draw their pictures."""
    from ..lab import command  # noqa: PLC0415 - no other command needs the lab

    return command.lab(arguments)


class _Parser(argparse.ArgumentParser):
    """A mistake is one line, as for every other mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _sizes(text: str) -> list[int]:
    """The widths of the hidden layers: "128,64"; "" is none."""
    return [int(size) for size in text.split(",") if size.strip()]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


_NUMBER: Any = {"metavar": "N"}
_ENGINE: Any = {"metavar": "NAME", "default": "auto", "help": "cython, numba or numpy (auto)"}
_JSON: Any = {"action": "store_true", "help": "print one JSON object"}
_CHOICE: Any = {"metavar": "NAME", "help": "one of %(choices)s (%(default)s)"}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastnn", description="Dense neural networks at the speed of the CPU.")
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        return command

    hidden = [name for name in ACTIVATIONS if name != "softmax"]
    first_order = [name for name, kind in OPTIMIZERS.items() if issubclass(kind, Optimizer)]
    command = add(train)
    command.add_argument("data", metavar="DATA", help="digits (shipped), FILE.csv or FILE.npz")
    option = command.add_argument_group("what to learn").add_argument
    option("--target", metavar="NAME", help="column of the CSV file, or array of the npz file (y)")
    option("--features", metavar="NAMES", type=_names, help="columns (all others), or array (X)")
    option("--task", choices=TASKS, default="auto", help="auto: fractions are regressed")
    option = command.add_argument_group("how; the defaults are in brackets").add_argument
    option("--hidden", metavar="SIZES", type=_sizes, default="256", help="as 128,64 (%(default)s)")
    option("--activation", choices=hidden, default="relu", **_CHOICE)
    option("--epochs", type=int, default=40, help="passes over the data (%(default)s)", **_NUMBER)
    option("--batch-size", type=int, default=32, help="rows of a step (%(default)s)", **_NUMBER)
    option("--optimizer", choices=first_order, default="adam", **_CHOICE)
    option("--lr", type=float, help="learning rate (the optimizer's own)", **_NUMBER)
    option("--seed", type=int, default=0, help="of weights and order (%(default)s)", **_NUMBER)
    option("--dtype", choices=("float32", "float64"), default="float32", **_CHOICE)
    option("--threads", type=int, help="(as many as a step is worth)", **_NUMBER)
    option("--engine", **_ENGINE)
    option = command.add_argument_group("results").add_argument
    option("--save", metavar="MODEL", help="write the trained model to this file (safetensors)")
    option("--report", metavar="DIR", help="a CSV file's report with a picture, and its pipeline")
    option("--json", **_JSON)

    command = add(predict)
    command.add_argument("model", metavar="MODEL", help="a file that train --save wrote")
    command.add_argument("file", metavar="FILE", help="rows: FILE.csv or FILE.npz")
    option = command.add_argument
    option("--features", metavar="NAME", type=_names, help="array of the npz file (X)")
    option("--out", metavar="FILE", help="write here instead of to stdout")
    option("--engine", **_ENGINE)

    option = add(bench).add_argument
    option("--workloads", metavar="NAMES", type=_names, help=f"some of {', '.join(WORKLOADS)}")
    option("--threads", type=int, default=1, help="of both sides (%(default)s)", **_NUMBER)
    option("--engine", **_ENGINE)
    option("--plot", metavar="FILE.png", help="draw a picture of the result (matplotlib)")
    option("--json", **_JSON)

    option = add(lab).add_argument
    option("names", metavar="NAME", nargs="*", help="an experiment; without any: list them")
    option("--all", action="store_true", help="the whole gallery")
    option("--out", metavar="DIR", help="write pictures and index.html here (matplotlib)")
    option("--gallery", metavar="FILE.md", help="write the captions into this page")
    option("--engine", **_ENGINE)

    add(info).add_argument("--json", **_JSON)
    return parser
