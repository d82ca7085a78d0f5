"""Nothing falls back: every combination trains inside the compiled code, step by step.

``Trainer.steps`` of a compiled engine is counted where the compiled code ends a step, and
Python's own profiler counts the Python functions that are called from where an epoch enters
the compiled code: none. An epoch that left for Python, for whatever combination of layer,
activation, loss, optimizer, option and dtype, would show in one of them.
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
from networks import HIDDEN, OPTIMIZERS, PROBABILITIES

from fastnn.kernels.contract import ACTIVATIONS, LOSSES, LayerSpec, LossSpec, OptimizerSpec

ROWS, INPUTS, OUTPUTS, BATCH = 11, 5, 3, 4

#: The Python function from which an engine enters the compiled code, for the whole epoch;
#: without one, the call of ``epoch`` does.
DOOR = {"numba": "_run_part"}

#: What may be switched on: (of the layers, of the optimizer, weights, labels, shuffle).
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], bool, bool, Any]] = {
    "plain": ({}, {}, False, False, True),
    "in order": ({}, {}, False, False, False),
    "labels": ({}, {}, False, True, True),
    "weights": ({}, {}, True, False, True),
    "weights and labels": ({}, {}, True, True, True),
    "dropout": ({"dropout": 0.5}, {}, False, False, True),
    "no bias": ({"use_bias": False}, {}, False, False, True),
    "l2": ({}, {"l2": 0.01}, False, False, True),
    "clip": ({}, {"clip_norm": 0.1}, False, False, True),
    "order": ({}, {}, False, False, np.arange(ROWS)[::-1].copy()),
    "conventions": (
        {},
        {"l2": 0.01, "l2_by_weight": True, "epsilon_hat": True, "rate_in_velocity": True},
        True,
        False,
        True,
    ),
    "all": ({"dropout": 0.2}, {"l2": 0.01, "clip_norm": 0.1}, True, True, True),
}


def losses_for(last: str) -> list[LossSpec]:
    """Every loss that a network with this last activation may have."""
    table = [
        LossSpec(name, 0.75)
        for name in LOSSES
        if last in PROBABILITIES or not name.endswith("probabilities")
    ]
    if last == "softmax":
        table.append(LossSpec("cross_entropy", fused=True))
    if last == "sigmoid":
        table.append(LossSpec("binary_cross_entropy", fused=True))
    return table


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


def steps_of_an_epoch(
    engine: ModuleType,
    layers: tuple[LayerSpec, ...],
    loss: LossSpec,
    optimizer: OptimizerSpec,
    option: str,
    dtype: np.dtype,
) -> tuple[int, list[str]]:
    """Compiled steps, and Python functions called, of an epoch and a step on a little data."""
    of_layers, of_optimizer, weighted, labels, shuffle = OPTIONS[option]
    layers = tuple(spec._replace(**of_layers) for spec in layers)
    network = engine.Network(layers, dtype)
    rng = np.random.default_rng(0)
    network.set_parameters(rng.normal(0, 0.5, network.size).astype(dtype))
    X = rng.normal(size=(ROWS, layers[0].inputs)).astype(dtype)
    target = rng.random((ROWS, layers[-1].outputs)).astype(dtype)
    if labels and loss.name.startswith("cross_entropy"):
        target = rng.integers(layers[-1].outputs, size=ROWS)
    weight = rng.random(ROWS).astype(dtype) if weighted else None
    optimizer = optimizer._replace(**of_optimizer)
    rates = np.full(math.ceil(ROWS / BATCH), 1e-3)
    with network.trainer(loss, optimizer, BATCH, 0) as trainer:
        data = X, target, weight
        mean, names = python_calls(trainer.epoch, *data, 0, rates, shuffle)
        assert math.isfinite(mean)
        assert math.isfinite(trainer.step(*data, 1e-3))
        assert math.isfinite(trainer.evaluate(*data))
        assert np.isfinite(trainer.gradient(*data)[1]).all()
    assert np.isfinite(network.get_parameters()).all()
    assert network.get_state()[0] == len(rates) + 1
    return trainer.steps, names


def assert_compiled(engine: ModuleType, dtype: np.dtype, *combination: Any) -> None:
    steps, names = steps_of_an_epoch(engine, *combination, dtype)
    door = DOOR.get(engine.NAME)
    if door is not None:
        assert names.count(door) == 1, combination
        names = names[names.index(door) + 1 :]
    assert (steps, names) == (4, []), combination


def test_the_profiler_sees_python() -> None:
    """Or the empty lists above would say nothing."""
    assert python_calls(losses_for, "tanh")[1][0] == "losses_for"


@pytest.mark.parametrize("last", ACTIVATIONS)
@pytest.mark.parametrize("option", OPTIONS)
def test_output_activation_loss_optimizer_option(
    compiled: ModuleType, dtype: np.dtype, option: str, last: str
) -> None:
    layers = (LayerSpec(INPUTS, 6, "tanh", True), LayerSpec(6, OUTPUTS, last, True))
    for loss in losses_for(last):
        for optimizer in OPTIMIZERS.values():
            assert_compiled(compiled, dtype, layers, loss, optimizer, option)


@pytest.mark.parametrize("activation", HIDDEN)
@pytest.mark.parametrize("option", OPTIONS)
def test_hidden_activation_optimizer_option(
    compiled: ModuleType, dtype: np.dtype, option: str, activation: str
) -> None:
    """First and middle layers, wide and narrow."""
    for width in (1, 4, 17):
        layers = (
            LayerSpec(INPUTS, width, activation, True),
            LayerSpec(width, 20, activation, True),
            LayerSpec(20, OUTPUTS, "softmax", True),
        )
        for optimizer in OPTIMIZERS.values():
            loss = LossSpec("cross_entropy", fused=True)
            assert_compiled(compiled, dtype, layers, loss, optimizer, option)


@pytest.mark.parametrize("depth", [1, 2, 5, 12])
@pytest.mark.parametrize("width", [1, 3, 16, 130])
def test_depth_and_width(compiled: ModuleType, dtype: np.dtype, width: int, depth: int) -> None:
    layers = tuple(LayerSpec(width, width, "relu", True) for _ in range(depth))
    for option in OPTIONS:
        combination = (layers, LossSpec("mse"), OPTIMIZERS["adam"], option)
        assert_compiled(compiled, dtype, *combination)
