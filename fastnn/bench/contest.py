"""Contestants in processes of their own, timed by turns.

A library takes its number of threads from the environment when it is loaded, and two
libraries in one process disturb each other. So each contestant lives in its own process,
with its own environment and processors, and does its work when it is told to: the parent
sends a line of JSON to its stdin and waits for the answer. One works, the others sleep.

Taking turns, a busy moment of the machine meets all alike; the fastest of several runs is
the one that was disturbed least.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

#: Where libraries look for their number of threads.
_THREADS = (
    "BLIS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

#: These force a kernel on OpenBLAS that may not be its best.
_FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

#: Seconds. Idle threads look for work before they sleep: OpenBLAS's for 2**28 cycles, which is
#: a tenth of a second and more, those of LLVM's and Intel's OpenMP for a fifth.
_SPIN = 0.25


def environment(threads: int) -> dict[str, str]:
    """The variables of this process, with a number of threads for every library."""
    variables = {key: value for key, value in os.environ.items() if key not in _FORCED}
    return variables | dict.fromkeys(_THREADS, str(threads))


class ContestError(RuntimeError):
    """A contestant could not be prepared, or failed."""


class Contestant:
    """A process that was prepared for one task, and runs it when asked.

    Parameters
    ----------
    name : str
        For messages.
    command : sequence of str
        Arguments of the Python interpreter; the program calls ``serve``.
    task : dict
        Keyword arguments of the program's ``prepare``.
    threads : int
        What libraries are told to use.
    cpus : collection of int, optional
        The processors that it may use; all of this process's by default.
    further : dict, optional
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
        cpus: Collection[int] | None = None,
        further: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        variables = environment(threads) | dict(further or {})
        before = os.sched_getaffinity(0) if cpus is not None else None
        try:
            if cpus is not None:
                os.sched_setaffinity(0, cpus)  # which the process inherits, before any thread of it
            self._process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=variables,
            )
        finally:
            if before is not None:
                os.sched_setaffinity(0, before)
        self.facts = self._ask(task)  #: what ``prepare`` told about itself

    def run(self, **arguments: Any) -> dict[str, Any]:
        """Do the work once; the answer holds at least "seconds", measured by the process."""
        return self._ask(arguments)

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            self.close()
            raise ContestError(f"{self.name}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        """The last line that the process wrote to stderr."""
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ended with exit code {self._process.returncode}"

    def close(self) -> None:
        """End the process."""
        if not self._errors.closed:
            self._process.communicate()  # the end of its stdin is the end of its work
            self._errors.close()

    def __enter__(self) -> Self:
        """The process waits."""
        return self

    def __exit__(self, *exc: object) -> None:
        """The process ends."""
        self.close()


def serve(prepare: Callable[..., tuple[dict[str, Any], Callable[..., dict[str, Any]]]]) -> None:
    """Be a contestant: prepare for the task that comes first, then run as often as asked.

    Parameters
    ----------
    prepare : callable
        ``prepare(**task)`` returns facts about the contestant, and ``run(**arguments)`` that
        returns the seconds of a run and what else there is to tell.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    run: Callable[..., dict[str, Any]] | None = None
    for line in sys.stdin:
        try:
            if run is None:
                answer, run = prepare(**json.loads(line))
            else:
                answer = run(**json.loads(line))
        except Exception as error:  # whatever it is, the parent is told
            traceback.print_exc()
            answer = {"error": " ".join(str(error).split()) or type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


def by_turns(
    runs: Mapping[str, Callable[[], float]],
    seconds: float,
    at_least: int = 1,
    threads: int = 1,
) -> dict[str, float]:
    """The fastest time of each contestant.

    Parameters
    ----------
    runs : mapping
        name -> a function that works once and returns the seconds that it took.
    seconds : float
        Go round until they are over.
    at_least : int
        Rounds, whatever they take.
    threads : int
        Of a contestant. Idle threads of some libraries spin for a while in case there is
        more to do; if there are several, nobody begins before that is over.

    Returns
    -------
    dict
        name -> seconds.
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
