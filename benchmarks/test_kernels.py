"""Kernels on plain arrays: agreement with the float64 reference, then time.

``python -m pytest benchmarks/test_kernels.py -k "tanh and large"``; engines that do the
same thing stand together in the table.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from cases import ENGINES, KERNELS, Call, Kernel
from pytest_benchmark.fixture import BenchmarkFixture

from fastnn.bench.workloads import BOUNDS, TIMES_NUMPY, relative_error


@functools.lru_cache(maxsize=2)  # engines come one after the other for each kernel
def reference(kernel: Kernel, dtype: str) -> list[np.ndarray]:
    """What the NumPy engine finds in the dtype."""
    return kernel.bind(dtype).outputs("numpy")


def check(kernel: Kernel, call: Call, engine: str) -> float:
    """The largest relative error of the outputs, which must be that of rounding."""
    truth = reference(kernel, "float64")
    errors = list(map(relative_error, call.outputs(engine), truth))
    if max(errors) > BOUNDS[kernel.dtype]:
        plain = map(relative_error, reference(kernel, kernel.dtype), truth)
        allowed = [max(BOUNDS[kernel.dtype], TIMES_NUMPY * error) for error in plain]
        assert np.all(np.array(errors) <= allowed), f"{kernel} is wrong: {errors}"
    return max(errors)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.benchmark(min_rounds=3, max_time=0.1)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_kernel(kernel: Kernel, engine: str, benchmark: BenchmarkFixture) -> None:
    benchmark.group = str(kernel)
    call = kernel.bind()
    benchmark.extra_info["error"] = check(kernel, call, engine)
    benchmark(call, engine)
