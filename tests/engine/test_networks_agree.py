"""Random networks in the compiled engines against the reference: gradients and training.

Depths, widths, batches and every option are drawn from seeds (networks.py), and the draw
is checked to meet each row of the contract.
"""

from __future__ import annotations

import collections
import functools
import itertools
import math
from types import ModuleType

import numpy as np
import pytest
from networks import OPTIMIZERS as SPECS
from networks import Case, random_case, random_parameters, relative_error

from fastnn.kernels.contract import ACTIVATIONS, LOSSES, OPTIMIZERS, LayerSpec, LossSpec

NETWORKS = 500
TRAJECTORIES = 150
OPTIONS = ("nesterov", "momentum", "weight_decay", "l2", "clip_norm")
OPTIONS += ("epsilon_hat", "rate_in_velocity", "l2_by_weight")


@functools.cache
def case_and_gradients(
    seed: int, reference: ModuleType
) -> tuple[Case, float, np.ndarray, np.ndarray]:
    """A case, its loss and gradient in float64, and the reference's gradient in float32."""
    case = random_case(seed, reference)
    value, gradient = case.gradient(reference, np.float64)
    return case, value, gradient, case.gradient(reference, np.float32)[1]


def test_the_draw_meets_every_row(reference: ModuleType) -> None:
    met = collections.Counter()
    for seed in range(NETWORKS):
        case = case_and_gradients(seed, reference)[0]
        met[f"depth {len(case.layers)}"] += 1
        met.update({f"hidden {spec.activation}" for spec in case.layers[:-1]})
        met[f"output {case.layers[-1].activation}"] += 1
        met[f"{case.loss.name} {case.loss.fused}"] += 1
        met[case.optimizer.name] += 1
        met["labels"] += case.target.ndim == 1
        met["weighted"] += case.weight is not None
        met["dropout"] += any(spec.dropout for spec in case.layers)
        met["no bias"] += not all(spec.use_bias for spec in case.layers)
        met["narrow output"] += case.layers[-1].outputs <= 4
        met["partial batch"] += len(case.X) % case.batch_size > 0
        met["per_row"] += case.loss.per_row
        for option in OPTIONS:
            met[option] += bool(getattr(case.optimizer, option))
    wanted = {f"depth {depth}" for depth in range(1, 5)}
    wanted |= {f"hidden {name}" for name in ACTIVATIONS if name != "softmax"}
    wanted |= {f"output {name}" for name in ACTIVATIONS}
    wanted |= {f"{name} False" for name in LOSSES}
    wanted |= {"cross_entropy True", "binary_cross_entropy True", *OPTIMIZERS}
    wanted |= {"labels", "weighted", "dropout", "no bias", "narrow output", "partial batch"}
    wanted |= {"per_row", *OPTIONS}
    assert all(met[name] >= 5 for name in wanted), met


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_gradient(compiled: ModuleType, reference: ModuleType, seed: int) -> None:
    case, true_value, truth, plain = case_and_gradients(seed, reference)
    value, gradient = case.gradient(compiled, np.float64)
    # some 10² to 10⁴ roundings of 1.1e-16, that mostly cancel
    assert relative_error(gradient, truth) <= 1e-12
    assert value == pytest.approx(true_value, rel=1e-12, abs=1e-14)

    value, gradient = case.gradient(compiled, np.float32)
    # 1e-5, or as good as plain NumPy where float32 itself is what hurts
    assert relative_error(gradient, truth) <= max(1e-5, 8 * relative_error(plain, truth))
    assert value == pytest.approx(true_value, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("seed", range(0, NETWORKS, 5))
def test_inference(compiled: ModuleType, reference: ModuleType, seed: int) -> None:
    """The output, the loss alone, and the gradient by the inputs, in float64."""
    case, true_value, _, _ = case_and_gradients(seed, reference)
    network, true_network = (case.network(engine, np.float64) for engine in (compiled, reference))
    assert relative_error(network.predict(case.X), true_network.predict(case.X)) <= 1e-12
    outputs = np.arange(case.layers[-1].outputs)[::7].copy()
    X = case.X[:20].copy()
    truth = true_network.input_gradient(X, outputs)
    have = network.input_gradient(X, outputs)
    assert have.shape == truth.shape
    assert relative_error(have, truth) <= 1e-12
    with case.trainer(network) as trainer:
        value = trainer.evaluate(*case.data(np.float64))
    assert value == pytest.approx(true_value, rel=1e-12, abs=1e-14)


def train(case: Case, engine: ModuleType, steps: int) -> tuple[np.ndarray, list[float], list]:
    """Parameters, losses and penalties of epochs, and moments, after ``steps`` updates."""
    network = case.network(engine, np.float64)
    per_epoch = math.ceil(len(case.X) / case.batch_size)
    assert steps % per_epoch == 0
    losses = []
    with case.trainer(network) as trainer:
        for epoch in range(steps // per_epoch):
            rates = np.linspace(1, 0.5, per_epoch) * trajectory_rate(case)
            losses.append(trainer.epoch(*case.data(np.float64), epoch, rates, True))
            losses.append(trainer.penalty)
    assert trainer.steps == steps
    return network.get_parameters(), losses, list(network.get_state()[1])


def trajectory_rate(case: Case) -> float:
    """Small enough that no trajectory explodes: a sum of squares has a long gradient."""
    if case.optimizer.name != "sgd":
        return 1e-3
    return 1e-5 if case.loss.name == "sum_squares" else 1e-2


@pytest.mark.parametrize("seed", range(TRAJECTORIES))
def test_trajectory(compiled: ModuleType, reference: ModuleType, seed: int) -> None:
    """Twenty steps in four epochs of five, the last batch mostly short.

    1e-9: differences of 1e-16 grow by the curvature, and by 1 / ε where a moment is tiny.
    A kink is crossed by both engines alike unless z lies within 1e-13 of it.
    """
    case = case_and_gradients(seed, reference)[0]
    batch = max(1, math.ceil(len(case.X) / 5))
    rows = min(len(case.X), 5 * batch)
    while math.ceil(rows / batch) < 5:  # few rows: repeat some until there are five batches
        rows += 1
    index = np.resize(np.arange(len(case.X)), rows)
    case = case._replace(
        X=case.X[index],
        target=case.target[index],
        weight=None if case.weight is None else case.weight[index],
        batch_size=batch,
    )
    parameters, losses, moments = train(case, compiled, 20)
    truth, true_losses, true_moments = train(case, reference, 20)
    assert np.isfinite(truth).all()
    assert relative_error(parameters, truth) <= 1e-9
    assert losses == pytest.approx(true_losses, rel=1e-9, abs=1e-12)
    for have, want in zip(moments, true_moments, strict=True):
        assert relative_error(have, want) <= 1e-9


LARGE = {
    "mnist": ((784, 128, 10), 300, 128),
    "many tiles": ((70, 400, 333, 40), 150, 150),
    "many rows": ((9, 20, 3), 9001, 4500),  # more than any workspace holds at once
    "many rows, one output": ((5, 33, 1), 5000, 5000),
}


@pytest.mark.parametrize("option", ["plain", "clip", "dropout"])
@pytest.mark.parametrize("name", LARGE)
def test_large(compiled: ModuleType, reference: ModuleType, name: str, option: str) -> None:
    """Sizes of real use: gradients in both dtypes, three steps in float64."""
    sizes, rows, batch_size = LARGE[name]
    rng = np.random.default_rng(5)
    layers = tuple(
        LayerSpec(i, o, "tanh", True, 0.2 if option == "dropout" else 0.0)
        for i, o in itertools.pairwise(sizes)
    )
    optimizer = SPECS["adam"]._replace(clip_norm=0.1 if option == "clip" else 0.0, l2=1e-3)
    case = Case(
        layers,
        random_parameters(rng, layers),
        LossSpec("huber", 1.0),
        optimizer,
        rng.normal(size=(rows, sizes[0])),
        rng.normal(size=(rows, sizes[-1])),
        rng.uniform(size=rows),
        batch_size,
        17,
    )
    truth = case.gradient(reference, np.float64)[1]
    plain = case.gradient(reference, np.float32)[1]
    assert relative_error(case.gradient(compiled, np.float64)[1], truth) <= 1e-12
    error = relative_error(case.gradient(compiled, np.float32)[1], truth)
    assert error <= max(1e-5, 8 * relative_error(plain, truth))

    results = []
    for engine in (compiled, reference):
        network = case.network(engine, np.float64)
        with case.trainer(network) as trainer:
            rates = np.full(math.ceil(rows / batch_size), 1e-3)
            losses = [trainer.epoch(*case.data(np.float64), 3, rates, True)]
            losses.append(trainer.step(*case.data(np.float64), 1e-3))
        results.append((network.get_parameters(), losses))
    (have, losses), (want, true_losses) = results
    assert relative_error(have, want) <= 1e-11  # two to four steps of Adam
    assert losses == pytest.approx(true_losses, rel=1e-12)
