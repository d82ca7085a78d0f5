"""Progress of a fit on stderr: a bar or a line per epoch; stdout stays the caller's."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Mapping
from typing import Any, Self

from .. import checks


class Progress:
    """Shows the logs of each epoch; a context manager, so that a bar is always closed.

    ``verbose`` 0 is nothing, 1 a bar (tqdm's, or lines where it is missing), 2 a line per epoch.
    """

    def __init__(self, verbose: Any, epochs: int) -> None:
        level = int(verbose) if isinstance(verbose, bool) else verbose
        self.verbose = checks.whole("verbose", level, at_least=0, at_most=2)
        self.epochs = epochs
        self._done = 0
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self.verbose == 1:
            with contextlib.suppress(ImportError):
                tqdm = importlib.import_module("tqdm").tqdm
                self._bar = tqdm(total=self.epochs, unit="epoch", file=sys.stderr)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, logs: Mapping[str, float]) -> None:
        """Show the end of an epoch."""
        self._done += 1
        if self.verbose == 0:
            return
        text = "  ".join(f"{name} {value:.4g}" for name, value in logs.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()
        else:
            print(f"epoch {self._done}/{self.epochs}  {text}", file=sys.stderr, flush=True)
