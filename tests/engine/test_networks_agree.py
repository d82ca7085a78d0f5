"""Random networks in the compiled engines against the reference: gradients and training.

Widths, batches and every option are drawn from seeds (networks.py), and the draw is checked
to meet each row of the contract.
"""

from __future__ import annotations

import functools
import itertools
import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastnn.kernels import contract
from fastnn.kernels.contract import LossSpec
from fastnn.kernels.loader import load
from networks import (
    FEW,
    OPTIMIZERS,
    Case,
    random_case,
    random_parameters,
    relative_error,
    seeds,
)


def traits(case: Case) -> set[str]:
    """What a case has that a formula, a gate or an edge may depend on."""
    found, decay = {case.loss.name, case.optimizer.name}, case.optimizer.weight_decay
    switches = {
        **case.loss._asdict(),
        **case.optimizer._asdict(),
        "labels": case.target.ndim == 1,
        "weighted": case.weight is not None,
        "narrow output": case.layers[-1].outputs <= 4,
        "partial batch": len(case.X) % case.batch_size > 0,
        "several tiles": case.batch_size > 128,
    }
    for place, spec in enumerate(case.layers):
        found |= {spec.activation, f"{spec.kind} as layer {place}"}
        switches[f"{spec.kind} last"] = spec is case.layers[-1]
        switches[f"{spec.kind} with dropout"] = spec.dropout
        switches[f"bare {spec.kind}"] = len(spec.tensors) < len(contract.KINDS[spec.kind].tensors)
        for tensor in spec.tensors:
            switches[f"rate of {tensor.name}"] = tensor.rate_factor != 1
            switches[f"frozen {tensor.name}"] = tensor.rate_factor == 0
            switches[f"decay of {tensor.name}"] = decay and tensor.decay_factor != 1
    return found | {name for name, is_on in switches.items() if is_on}


def test_the_draw_meets_everything() -> None:
    met = set().union(*(traits(random_case(seed)) for seed in range(FEW)))
    wanted = {*contract.ACTIVATIONS, *contract.LOSSES, *contract.OPTIMIZERS}
    wanted |= {"fused", "per_row", "l2", "clip_norm", "l2_by_weight", "labels", "weighted"}
    wanted |= {"narrow output", "partial batch", "several tiles", "bare dense", "bare layer_norm"}
    for kind, row in contract.KINDS.items():
        wanted |= {f"{kind} last", f"{kind} with dropout"}
        wanted |= {f"{kind} as layer {place}" for place in range(4)}
        for tensor in row.tensors:
            wanted |= {f"rate of {tensor}", f"frozen {tensor}", f"decay of {tensor}"}
    assert met >= wanted, wanted - met


# --------------------------------------------------------------------------- inference


@functools.cache
def truth(seed: int) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss and gradient in float64, and the gradient in float32, of the reference."""
    case, reference = random_case(seed), load("numpy")
    return *case.gradient(reference), case.gradient(reference, np.float32)[1]


@pytest.mark.parametrize("seed", seeds())
def test_gradient(compiled: ModuleType, seed: int) -> None:
    case, (true_value, gradient, plain) = random_case(seed), truth(seed)
    value, have = case.gradient(compiled)
    # some 10² to 10⁴ roundings of 1.1e-16, that mostly cancel
    assert relative_error(have, gradient) <= 1e-12
    assert value == pytest.approx(true_value, rel=1e-12, abs=1e-14)

    value, have = case.gradient(compiled, np.float32)
    # 1e-5, or as good as plain NumPy where float32 itself is what hurts
    assert relative_error(have, gradient) <= max(1e-5, 8 * relative_error(plain, gradient))
    assert value == pytest.approx(true_value, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("seed", seeds())
def test_inference(compiled: ModuleType, reference: ModuleType, seed: int) -> None:
    """The output, the loss alone, and the gradient by the inputs, in float64."""
    case = random_case(seed)
    network, true_network = case.network(compiled), case.network(reference)
    assert relative_error(network.predict(case.X), true_network.predict(case.X)) <= 1e-12
    outputs = np.arange(case.layers[-1].outputs)[::7].copy()
    X = case.X[:20].copy()
    wanted = true_network.input_gradient(X, outputs)
    have = network.input_gradient(X, outputs)
    assert have.shape == wanted.shape
    assert relative_error(have, wanted) <= 1e-12
    with network.trainer(case.loss, None, 1, 0) as trainer:
        value = trainer.evaluate(*case.data(np.float64))
    assert value == pytest.approx(truth(seed)[0], rel=1e-12, abs=1e-14)


# --------------------------------------------------------------------------- training


def train(case: Case, engine: ModuleType, epochs: int, rate: float) -> tuple[list, list[float]]:
    """Parameters and moments, and the losses and penalties, after epochs and a single step."""
    network, data = case.network(engine), case.data(np.float64)
    losses = []
    with case.trainer(network) as trainer:
        for epoch in range(epochs):
            rates = np.linspace(1, 0.5, case.steps) * rate
            losses += [trainer.epoch(*data, epoch, rates, True), trainer.penalty]
        losses += [trainer.step(*data, rate), trainer.penalty]
        assert trainer.steps == network.get_state()[0] == epochs * case.steps + 1
    return [network.get_parameters(), *network.get_state()[1]], losses


def assert_same_training(
    case: Case, engines: Any, tolerance: float, of_losses: float, *course: Any
) -> None:
    (have, losses), (want, true_losses) = (train(case, engine, *course) for engine in engines)
    assert np.isfinite(want[0]).all()
    assert losses == pytest.approx(true_losses, rel=of_losses, abs=1e-12)
    for a, b in zip(have, want, strict=True):
        assert relative_error(a, b) <= tolerance


@pytest.mark.parametrize("seed", seeds())
def test_trajectory(compiled: ModuleType, reference: ModuleType, seed: int) -> None:
    """Twenty steps in four epochs of five, the last batch short, and a step of all rows.

    1e-9: differences of 1e-16 grow by the curvature, and by 1 / ε where a moment is tiny.
    A kink is crossed by both engines alike unless z lies within 1e-13 of it.
    """
    case = random_case(seed)
    batch = math.ceil(len(case.X) / 5)
    case = case.rows(np.resize(np.arange(len(case.X)), max(5, 5 * batch - 1)), batch)
    # small enough that no trajectory explodes: a sum has a long gradient, and so has 1 / p
    rate = 1e-3 if case.optimizer.numbers else 1e-2
    rate = 1e-5 if case.loss.name.endswith(("sum_squares", "of_probabilities")) else rate
    assert_same_training(case, (compiled, reference), 1e-9, 1e-9, 4, rate)


LARGE = {
    "mnist": ((784, 128, 10), 300, 128),
    "many tiles": ((70, 400, 333, 40), 150, 150),
    "deep": ((33,) * 13, 40, 17),
    "many rows": ((9, 20, 3), 9001, 4500),  # more than any workspace holds at once
    "many rows, one output": ((5, 33, 1), 5000, 5000),
}


@pytest.mark.parametrize("option", ["plain", "clip", "dropout", "kinds"])
@pytest.mark.parametrize("name", LARGE)
def test_large(compiled: ModuleType, reference: ModuleType, name: str, option: str) -> None:
    """Sizes of real use: gradients in both dtypes, two to four steps of Adam in float64."""
    sizes, n, batch_size = LARGE[name]
    rng = np.random.default_rng(5)
    dropout = 0.2 if option == "dropout" else 0.0
    layers: tuple[Any, ...] = (contract.scale(sizes[0]),) if option == "kinds" else ()
    for inputs, outputs in itertools.pairwise(sizes):
        layers += (contract.dense(inputs, outputs, "tanh", dropout=dropout),)
        if option == "kinds" and outputs > 1:
            layers += (contract.layer_norm(outputs),)
    loss, clip_norm = LossSpec("huber", 1.0), 0.1 * (option == "clip")
    optimizer = OPTIMIZERS["adam"]._replace(l2=1e-3, clip_norm=clip_norm)
    data = rng.normal(size=(n, sizes[0])), rng.normal(size=(n, sizes[-1])), rng.random(n)
    parameters = random_parameters(rng, layers)
    case = Case(layers, parameters, loss, optimizer, *data, batch_size, 17)
    wanted = case.gradient(reference)[1]
    plain = relative_error(case.gradient(reference, np.float32)[1], wanted)
    assert relative_error(case.gradient(compiled)[1], wanted) <= 1e-12
    assert relative_error(case.gradient(compiled, np.float32)[1], wanted) <= max(1e-5, 8 * plain)
    assert_same_training(case, (compiled, reference), 1e-11, 1e-12, 1, 1e-3)
