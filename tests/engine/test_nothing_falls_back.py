"""Nothing falls back: every network trains inside the compiled code, step by step.

``Trainer.steps`` of a compiled engine is counted where the compiled code ends a step, and
Python's own profiler counts the Python functions that are called by an epoch: none. An epoch
that left for Python, for whatever layer, row, option or dtype, would show in one of them.
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pytest
from networks import random_case, seeds


def python_calls(function: Callable[..., Any], *arguments: Any) -> tuple[Any, list[str]]:
    """What the function returns, and the names of the Python functions called for it."""
    names: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            names.append(frame.f_code.co_name)

    gc.disable()  # it has callbacks in Python, of other packages
    sys.setprofile(note)
    try:
        result = function(*arguments)
    finally:
        sys.setprofile(None)
        gc.enable()
    return result, names


def test_the_profiler_sees_python() -> None:
    assert python_calls(random_case, 999)[1][0] == "random_case"


@pytest.mark.parametrize("seed", seeds())
def test_an_epoch(compiled: ModuleType, dtype: np.dtype, seed: int) -> None:
    case = random_case(seed)
    order = [True, False, np.arange(len(case.X))[::-1].copy()][seed % 3]
    network, data = case.network(compiled, dtype), case.data(dtype)
    with case.trainer(network) as trainer:
        rates = np.full(case.steps, 1e-5)
        mean, names = python_calls(trainer.epoch, *data, 0, rates, order)
        assert (trainer.steps, names) == (case.steps, [])
    assert math.isfinite(mean)
    assert np.isfinite(network.get_parameters()).all()
    assert network.get_state()[0] == case.steps
