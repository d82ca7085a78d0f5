"""Fixtures that every test of the engines shares.

A test that takes ``engine`` runs on each engine of ``ENGINES``; one that takes ``compiled``
on each but the NumPy ``reference``, against which they are measured. An engine that cannot
be imported is a failure, never a skip. To have a new engine tested, add its name.
"""

from __future__ import annotations

import os
import signal
from types import ModuleType

import numpy as np
import pytest
from fastnn.kernels.loader import load

ENGINES = ("cython", "numba", "numpy")


@pytest.fixture(autouse=True, scope="session")
def environment() -> None:
    """What child processes inherit.

    Ctrl-C is answered, also where a shell runs the tests in the background and ignores it:
    children inherit what is ignored, and not what is handled. Python finds what lies beside a
    script, also where the environment says not to. OpenBLAS has one thread: on a busy machine
    two wait for each other at every product, and the NumPy engine takes ten times as long.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONSAFEPATH", None)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"


@pytest.fixture(params=ENGINES, scope="session")
def engine(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


@pytest.fixture(params=[name for name in ENGINES if name != "numpy"], scope="session")
def compiled(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    return load("numpy")


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return np.dtype(request.param)
