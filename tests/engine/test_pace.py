"""The choice between one thread and all, on machines whose speed is known.

That it changes no result: test_threads.py.
"""

from __future__ import annotations

from collections.abc import Callable

from fastnn.kernels.pace import LONGEST, Pace

BATCH = 10


def run(
    pace: Pace, seconds_of_step: Callable[[int, float], float], until: float
) -> dict[int, float]:
    """Train for so many seconds; the share of it that each number of threads had."""
    now, share = 0.0, {1: 0.0, 2: 0.0}
    while now < until:
        threads, steps = pace.next_part()
        assert steps >= 1
        seconds = steps * seconds_of_step(threads, now)
        pace.observe(steps * BATCH, seconds)
        share[threads] += seconds
        now += seconds
    return {threads: seconds / now for threads, seconds in share.items()}


def test_free_processors() -> None:
    pace = Pace(2, BATCH)
    assert run(pace, lambda threads, now: 1e-3 / threads, 10.0)[1] < 0.02
    assert pace.best == 2


def test_a_busy_processor() -> None:
    pace = Pace(2, BATCH)
    assert run(pace, lambda threads, now: 1e-3 if threads == 1 else 4e-3, 10.0)[2] < 0.08
    assert pace.best == 1


def test_a_processor_that_becomes_busy_and_free_again() -> None:
    pace = Pace(2, BATCH)

    def step(threads: int, now: float) -> float:
        return 1e-3 if threads == 1 else 5e-3 if 3 < now else 0.6e-3

    run(pace, step, 2.5)
    assert pace.best == 2
    run(pace, lambda threads, now: step(threads, 2.5 + now), 3.0)
    assert pace.best == 1
    run(pace, lambda threads, now: step(threads, 0.0), 3 * LONGEST)
    assert pace.best == 2


def test_long_steps_are_never_tried_on_one_thread() -> None:
    pace = Pace(2, BATCH)
    assert run(pace, lambda threads, now: 0.1 / threads, 5.0) == {1: 0.0, 2: 1.0}


def test_a_clock_that_stands_still() -> None:
    pace = Pace(2, BATCH)
    for _ in range(100):
        pace.next_part()
        pace.observe(BATCH, 0.0)
