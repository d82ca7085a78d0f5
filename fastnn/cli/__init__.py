"""The command line; here is what its commands print with."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def say(line: str) -> None:
    """Print a line about what is going on, apart from the results."""
    print(line, file=sys.stderr, flush=True)


def align(facts: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    facts = list(facts)
    width = max(len(name) for name, _ in facts) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in facts)
