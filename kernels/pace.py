"""How many threads a long job should use now, found out while it runs.

What a second thread is worth depends on the machine and on who else uses it: where another
process has a processor, threads that meet twice a step wait for the one that has lost its
turn. So a job that may choose runs in parts, now and then one of them on one thread, and
goes on with what was faster. Results do not depend on it: they are the same for every number
of threads. Every engine with threads uses this; it only decides, it neither runs nor measures.
"""

from __future__ import annotations

import math

#: Seconds of a trial: many steps, many times the cost of waking a thread.
TRIAL = 2e-3

#: Seconds between trials: few after a change, more while nothing changes. Not many: a part is
#: so many steps, and takes as much longer as the machine becomes slower meanwhile.
SHORTEST, LONGEST = 0.05, 0.2

#: A step that takes one thread longer than this is never tried on one: the trial would cost
#: more than waiting does, and a thread that loses its turn gets it back within the step.
LONG_STEP = 0.02


class Pace:
    """A choice between one thread and ``most`` threads.

    Parameters
    ----------
    most : int
        At least 2.
    batch : int
        Rows of a step.
    """

    def __init__(self, most: int, batch: int) -> None:
        self.most, self.batch = most, batch
        self.best = most
        self._rest = SHORTEST
        self._seconds_per_row: dict[int, float] = {}
        # a step to warm up, then both
        self._parts = [(most, 0.0), (most, TRIAL), (1, TRIAL)]  # never empty

    def next_part(self) -> tuple[int, int]:
        """Threads and steps of what to run next."""
        threads, seconds = self._parts[0]
        pace = self._seconds_per_row.get(threads)
        if pace is None:  # serial, not tried yet: as if threads were of no use
            pace = self._seconds_per_row.get(self.most, math.inf)
        if pace * self.batch * self.most > LONG_STEP and threads == 1:
            self._parts = [(self.most, LONGEST)]
            return self.next_part()
        return threads, max(1, int(seconds / (pace * self.batch)) if pace else 1)

    def observe(self, rows: int, seconds: float) -> None:
        """Tell what the part took."""
        threads, _ = self._parts[0]
        self._seconds_per_row[threads] = seconds / rows
        self._parts = self._parts[1:] or self._plan()

    def _plan(self) -> list[tuple[int, float]]:
        """A rest with what is best now, and a trial of the other."""
        if 1 in self._seconds_per_row:
            best = min(self._seconds_per_row, key=self._seconds_per_row.__getitem__)
            self._rest = min(2 * self._rest, LONGEST) if best == self.best else SHORTEST
            self.best = best
        other = 1 if self.best == self.most else self.most
        return [(self.best, self._rest), (other, TRIAL)]
