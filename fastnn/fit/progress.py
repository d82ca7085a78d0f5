"""Progress of a fit on stderr: a bar or a line per epoch; stdout stays the caller's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any, Self

from .. import checks


class Progress:
    """Shows the logs of each epoch; a context manager, so that a bar is always closed.

    Parameters
    ----------
    verbose : {0, 1, 2}
        Nothing; a bar (tqdm's, or lines where tqdm is missing); a line per epoch.
    epochs : int
        How many there will be.
    """

    def __init__(self, verbose: Any, epochs: int) -> None:
        level = int(verbose) if isinstance(verbose, bool) else verbose
        self.verbose = checks.whole("verbose", level, at_least=0, at_most=2)
        self.epochs = epochs
        self._done = 0
        self._bar: Any = None

    def __enter__(self) -> Self:
        """Open the bar, if there is to be one."""
        if self.verbose == 1:
            try:
                tqdm = importlib.import_module("tqdm").tqdm
            except ImportError:
                return self
            self._bar = tqdm(total=self.epochs, unit="epoch", file=sys.stderr)
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave the bar as it is."""
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
