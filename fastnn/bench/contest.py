"""Contestants in processes of their own, timed by turns.

A library takes its number of threads from the environment when it is loaded, and two
libraries in one process disturb each other. So each contestant lives in its own process,
with its own environment and processors, and does its work when it is told to: the parent
sends what to do to its stdin and waits for the answer. One works, the others sleep.

Taking turns, a busy moment of the machine meets all alike; the fastest of several runs is
the one that was disturbed least.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: Where libraries look for their number of threads.
_THREADS = ["BLIS_NUM", "MKL_NUM", "NUMEXPR_NUM", "OMP_NUM", "OPENBLAS_NUM", "VECLIB_MAXIMUM"]

#: These force a kernel on OpenBLAS that may not be its best.
_FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

#: Seconds. Idle threads look for work before they sleep: OpenBLAS's for 2**28 cycles, which is
#: a tenth of a second and more, those of LLVM's and Intel's OpenMP for a fifth.
_SPIN = 0.25

#: What ``prepare(**task)`` returns: facts about the contestant, and ``run(**arguments)`` that
#: returns the "seconds" of a run and what else there is to tell.
Prepared = tuple[dict[str, Any], Callable[..., dict[str, Any]]]


class ContestError(RuntimeError):
    """A contestant could not be prepared, or failed."""


class Contestant(contextlib.AbstractContextManager["Contestant"]):
    """A process that was prepared for one task, and runs it when asked; a context manager.

    Parameters
    ----------
    name : str
        For messages.
    command : sequence of str
        Arguments of the Python interpreter; the program calls ``serve``.
    task : dict
        Arguments of the program's ``prepare``; what that tells about itself is in ``facts``.
    threads : int
        What libraries are told to use.
    is_pinned : bool
        Whether it stays on one processor.
    **variables : str
        Further variables of its environment.

    Raises
    ------
    ContestError
        With the last line of what went wrong, if it cannot be prepared.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        task: Mapping[str, Any],
        *,
        threads: int,
        is_pinned: bool = False,
        **variables: str,
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        inherited = {key: value for key, value in os.environ.items() if key not in _FORCED}
        limits = {f"{library}_THREADS": str(threads) for library in _THREADS}
        cpus = os.sched_getaffinity(0) if is_pinned else set()
        try:
            if cpus:  # which the process inherits, before any thread of it
                os.sched_setaffinity(0, {max(cpus)})
            self._process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=inherited | limits | variables,
            )
        finally:
            if cpus:
                os.sched_setaffinity(0, cpus)
        self.facts = self.run(**task)

    def run(self, **arguments: Any) -> dict[str, Any]:
        """Do the work once; the answer holds at least "seconds", measured by the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump(arguments, self._process.stdin)
            self._process.stdin.flush()
            answer: dict[str, Any] = pickle.load(self._process.stdout)
        except (BrokenPipeError, EOFError):
            code = self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            answer = {"error": lines[-1] if lines else f"ended with exit code {code}"}
        if "error" in answer:
            self.close()
            raise ContestError(f"{self.name}: {answer['error']}")
        return answer

    def close(self, *exc: object) -> None:
        """End the process."""
        if not self._errors.closed:
            self._process.communicate()  # the end of its stdin is the end of its work
            self._errors.close()

    __exit__ = close


def serve(prepare: Callable[..., Prepared]) -> None:
    """Be a contestant: ``prepare`` for the task that comes first, then run as often as asked."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    run: Callable[..., dict[str, Any]] | None = None
    with contextlib.suppress(EOFError):
        while True:
            question = pickle.load(sys.stdin.buffer)
            try:
                if run is None:
                    answer, run = prepare(**question)
                else:
                    answer = run(**question)
            except Exception as error:  # whatever it is, the parent is told
                traceback.print_exc()
                answer = {"error": " ".join(str(error).split()) or type(error).__name__}
            pickle.dump(answer, answers)
            answers.flush()


def by_turns(
    runs: Mapping[str, Callable[[], float]], seconds: float, at_least: int = 1, threads: int = 1
) -> dict[str, float]:
    """The fastest time of each contestant, in seconds.

    Each of ``runs`` works once and returns the seconds that it took. They go round until
    ``seconds`` are over, ``at_least`` so many times. Idle threads of some libraries spin for a
    while in case there is more to do: if a contestant has several, nobody begins before that
    is over.
    """
    best = dict.fromkeys(runs, math.inf)
    start, rounds = time.perf_counter(), 0
    while rounds < at_least or time.perf_counter() - start < seconds:
        for name, run in runs.items():
            if threads > 1:
                time.sleep(_SPIN)
            best[name] = min(best[name], run())
        rounds += 1
    return best
