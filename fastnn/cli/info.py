"""``fastnn info``: versions, engines and threads."""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any

import numpy as np

from .. import __version__
from ..checks import threads
from ..kernels.loader import engines
from . import align


def info(arguments: argparse.Namespace) -> int:
    """What is installed, and what the package makes of this machine."""
    variables = ("FASTNN_ENGINE", "FASTNN_ISA", "OMP_NUM_THREADS")
    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": threads.available_threads(),
        "environment": {name: os.environ[name] for name in variables if name in os.environ},
        "engines": engines(),
    }
    print(json.dumps(facts) if arguments.json else _describe(facts))
    return 0


def _describe(facts: dict[str, Any]) -> str:
    versions = f"{facts['version']} (Python {facts['python']}, NumPy {facts['numpy']})"
    lines = [("fastnn", versions), ("platform", facts["platform"])]
    lines += [("threads", f"at most {facts['threads']}"), *facts["environment"].items()]
    for name, state in facts["engines"].items():
        default = " (default)" if state["default"] else ""
        lines.append((f"engine {name}", f"{state['isa'] or state['reason']}{default}"))
    return align(lines)
