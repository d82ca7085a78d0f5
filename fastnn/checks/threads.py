"""How many threads to use: what the process may have, and what a step is worth.

Limits come from the affinity mask, the cgroup's CPU quota and OMP_NUM_THREADS (which
joblib sets in its workers). A step under 25 µs gains nothing from a second thread, since
threads meet twice a step; above, a fit that may choose finds out while it runs (see
``fastnn.kernels.pace``).
"""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .values import whole

_MOST = 1024  # more than this is a typing error, not a machine

#: A step of fewer FLOPs stays on one thread, by the item size of the dtype: 25 µs of a
#: core that does 100 (float32) or 50 (float64) GFLOP/s.
SERIAL_FLOPS = {4: 25e-6 * 100e9, 8: 25e-6 * 50e9}

#: A call that starts and ends its own threads must be this much longer than a step.
ONE_CALL = 40.0


def available_threads() -> int:
    """The number of threads that this process may run at once, at least 1.

    The least of the affinity mask, the CPU quota of the cgroup (v1 or v2, rounded up)
    and OMP_NUM_THREADS, which is read at each call.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    limits = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    quota = cgroup_quota()
    if quota is not None:
        limits.append(math.ceil(quota))
    wish = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wish.isdecimal() and int(wish) > 0:
        limits.append(int(wish))
    return max(1, min(limits))


@cache
def cgroup_quota(root: str = "/") -> float | None:
    """CPUs that the cgroup of this process may use, or None without a limit.

    The least quota of the group and its ancestors; read once per process. ``root`` is the
    folder that holds ``proc`` and ``sys``.
    """
    try:
        lines = Path(root, "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, version = Path(root, "sys/fs/cgroup"), 2
        elif "cpu" in controllers.split(","):
            base, version = Path(root, "sys/fs/cgroup/cpu"), 1
        else:
            continue
        folder = base / group.strip("/")
        for level in (folder, *folder.parents):
            if level.is_relative_to(base):
                quotas += _quotas(level, version)
    return min(quotas, default=None)


def _quotas(folder: Path, version: int) -> list[float]:
    """CPUs that a group of this version of cgroups may use: one number, or none."""
    try:
        if version == 2:
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return [float(limit) / float(period)] if float(limit) > 0 else []
    except (OSError, ValueError):  # "max" is no number
        return []


def choose(threads: Any, step_flops: float, dtype: Any) -> int:
    """The number of threads for steps of so many FLOPs between two meetings of the threads.

    A number in ``threads`` is taken, even above that of the cores; None chooses.
    """
    if threads is not None:
        return whole("threads", threads, at_most=_MOST)
    if step_flops < SERIAL_FLOPS[np.dtype(dtype).itemsize]:
        return 1
    return available_threads()
