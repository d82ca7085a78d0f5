"""How many threads a fit takes: the limits of the process, and the size of a step."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from fastnn.checks import threads


@pytest.fixture(autouse=True)
def _four_free_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_affinity_is_a_limit() -> None:
    assert threads.available_threads() == 4


@pytest.mark.parametrize(
    ("value", "expected"), [("2", 2), ("3,2", 3), ("1", 1), ("64", 4), ("", 4), ("0", 4), ("x", 4)]
)
def test_omp_num_threads_is_a_limit(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads.available_threads() == expected


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.5, 2), (2.0, 2), (9.0, 4)])
def test_the_quota_is_a_limit(monkeypatch: pytest.MonkeyPatch, quota: float, expected: int) -> None:
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    assert threads.available_threads() == expected


def test_without_affinity_the_count_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert threads.available_threads() == 3


V2 = {"proc/self/cgroup": "0::/"}
V1 = {"proc/self/cgroup": "3:cpu,cpuacct:/a\n2:memory:/a"}
CPU = "sys/fs/cgroup/cpu/"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (V2, None),
        (V2 | {"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        (V2 | {"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        (
            {"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "100000 100000"}
            | {"sys/fs/cgroup/a/b/cpu.max": "300000 100000"},
            1.0,
        ),
        (
            V1
            | {CPU + "a/cpu.cfs_quota_us": "250000", CPU + "a/cpu.cfs_period_us": "100000"}
            | {CPU + "cpu.cfs_quota_us": "-1", CPU + "cpu.cfs_period_us": "100000"},
            2.5,
        ),
    ],
)
def test_quotas_of_both_kinds_of_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: float | None
) -> None:
    monkeypatch.undo()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert threads.cgroup_quota(str(tmp_path)) == expected


def test_a_short_step_stays_on_one_thread() -> None:
    assert threads.choose(None, 2.4e6, "float32") == 1  # 24 µs at 100 GFLOP/s
    assert threads.choose(None, 2.6e6, "float32") == 4
    assert threads.choose(None, 1.2e6, "float64") == 1
    assert threads.choose(None, 1.3e6, "float64") == 4


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_given_number_is_taken(count: int) -> None:
    assert threads.choose(count, 0.0, "float32") == count
    assert threads.choose(count, math.inf, "float32") == count
