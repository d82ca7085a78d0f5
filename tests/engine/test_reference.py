"""The NumPy reference against central differences, dual numbers and published rules.

Every other engine is measured against the reference, so here it is measured against
things that share nothing with it.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import oracle
import pytest
from fastnn.kernels import random
from networks import (
    HIDDEN,
    OPTIMIZERS,
    PROBABILITIES,
    Case,
    relative_error,
    with_data,
)

from fastnn.kernels.contract import ACTIVATIONS, LOSSES, LayerSpec, LossSpec, OptimizerSpec

PARAMETER = {"huber": 0.75, "quantile": 0.3}
FUSED = {("softmax", "cross_entropy"), ("sigmoid", "binary_cross_entropy")}


def pairs() -> list[tuple[str, str, str, bool]]:
    """(activation, position, loss, fused): each activation with each loss it can meet."""
    table = [(name, "hidden", loss, False) for name in HIDDEN for loss in LOSSES]
    for name in ACTIVATIONS:
        for loss in LOSSES:
            if name in PROBABILITIES or not loss.endswith("probabilities"):
                table.append((name, "output", loss, False))
            if (name, loss) in FUSED:
                table.append((name, "output", loss, True))
    return table


def small_case(activation: str, position: str, loss: str, fused: bool, reference: Any) -> Case:
    """A 3-5-4-3 network (hidden position) or 3-5-3 network (output), nine weighted rows.

    Rows keep 2e-3 from every kink; a step of 1e-5 moves no z by more than 1e-4.
    """
    last = "softmax" if loss == "cross_entropy_of_probabilities" else "sigmoid"
    last = last if loss.endswith("probabilities") else "identity"
    if position == "hidden":
        layers = (
            LayerSpec(3, 5, activation, True),
            LayerSpec(5, 4, activation, False),
            LayerSpec(4, 3, last, True),
        )
    else:
        layers = (LayerSpec(3, 5, "tanh", True), LayerSpec(5, 3, activation, True))
    rng = np.random.default_rng([7, len(activation), len(loss), position == "hidden"])
    spec = LossSpec(loss, PARAMETER.get(loss, 0.0), fused)
    none = np.empty(0)
    case = Case(layers, none, spec, OPTIMIZERS["sgd"], none, none, None, 9, 0)
    one_hot = bool(rng.random() < 0.5)
    case = with_data(rng, case, reference, 9, 2e-3, one_hot)
    return case._replace(weight=rng.uniform(0.5, 2, 9))


def central_differences(case: Case, reference: ModuleType, step: float = 1e-5) -> np.ndarray:
    """(L(p + h) - L(p - h)) / 2h for each parameter; its error is O(h²) + O(u / h)."""
    network = case.network(reference, np.float64)
    gradient = np.empty(network.size)
    with case.trainer(network) as trainer:
        for i in range(network.size):
            values = []
            for sign in (1, -1):
                moved = case.parameters.copy()
                moved[i] += sign * step
                network.set_parameters(moved)
                values.append(trainer.evaluate(*case.data(np.float64)))
            gradient[i] = (values[0] - values[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize(("activation", "position", "loss", "fused"), pairs())
def test_gradient(
    activation: str, position: str, loss: str, fused: bool, reference: ModuleType
) -> None:
    case = small_case(activation, position, loss, fused, reference)
    value, gradient = case.gradient(reference, np.float64)
    assert np.linalg.norm(gradient) > 1e-3  # a case that says something

    true_value, true_gradient = oracle.loss_and_gradient(
        case.layers, case.parameters, case.loss, case.X, case.target, case.weight
    )
    assert value == pytest.approx(true_value, rel=1e-12)
    # 1e-12: some hundred roundings of 1.1e-16, and cancellation in the oracle's formulas
    assert relative_error(gradient, true_gradient) <= 1e-12
    # 1e-7: central differences with h = 1e-5 leave about 1e-10
    assert relative_error(central_differences(case, reference), gradient) <= 1e-7


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_input_gradient(activation: str, reference: ModuleType) -> None:
    case = small_case(activation, "output", "mse", False, reference)
    layers = (case.layers[0]._replace(activation="silu"), case.layers[1])
    network = case._replace(layers=layers).network(reference, np.float64)
    outputs = np.array([2, 0], np.int64)
    gradient = network.input_gradient(case.X, outputs)
    assert gradient.shape == (9, 2, 3)
    by_inputs = oracle.output(layers, case.parameters, case.X, by="inputs").slope[:, outputs]
    assert relative_error(gradient, by_inputs) <= 1e-12
    for i in range(3):
        up, down = case.X.copy(), case.X.copy()
        up[:, i] += 1e-5
        down[:, i] -= 1e-5
        difference = (network.predict(up) - network.predict(down))[:, outputs] / 2e-5
        assert relative_error(difference, gradient[:, :, i]) <= 1e-7


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "quantile", "sum_squares"])
def test_no_error_no_derivative(engine: ModuleType, dtype: np.dtype, loss: str) -> None:
    """Where o = t the loss is 0 and so is its derivative, at the kink of |o - t| too."""
    output, delta = np.full((3, 2), 0.25, dtype), np.ones((3, 2), dtype)
    assert engine.loss_value_and_delta(output, output.copy(), None, loss, 0.75, delta) == 0
    assert (delta == 0).all()


@pytest.mark.parametrize(
    ("activation", "z", "wanted"),
    [
        ("relu", 0.0, 0.0),
        ("leaky_relu", 0.0, 0.01),
        ("elu", 0.0, 1.0),
        ("selu", 0.0, 1.0507009873554805 * 1.6732632423543772),
        ("hard_sigmoid", -3.0, 0.0),
        ("hard_sigmoid", 3.0, 0.0),
        ("hard_swish", -3.0, 0.0),
        ("hard_swish", 3.0, 1.0),
        ("softsign", 0.0, 1.0),
    ],
)
def test_derivative_at_a_kink(
    engine: ModuleType, dtype: np.dtype, activation: str, z: float, wanted: float
) -> None:
    Z, ones, out = np.full((1, 1), z, dtype), np.ones((1, 1), dtype), np.empty((1, 1), dtype)
    engine.activation_backward(Z, ones, activation, out)
    assert out[0, 0] == pytest.approx(wanted, rel=4 * float(np.finfo(dtype).eps))


def test_probabilities_of_zero_and_one_are_clamped(engine: ModuleType, dtype: np.dtype) -> None:
    """As PyTorch's BCELoss: logarithms of at least -100, denominators of at least 1e-12."""
    p = np.array([[0.0, 1.0]], dtype)
    delta = np.empty_like(p)
    name = "binary_cross_entropy_of_probabilities"
    value = engine.loss_value_and_delta(p, 1 - p, None, name, 0.0, delta)
    assert value == pytest.approx(100)
    assert delta == pytest.approx(np.array([[-1e12, 1e12]]) / 2, rel=1e-6)
    name = "cross_entropy_of_probabilities"
    value = engine.loss_value_and_delta(p, 1 - p, None, name, 0.0, delta)
    assert value == pytest.approx(100)
    assert delta == pytest.approx(np.array([[-1e12, 0]]), rel=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_extreme_logits(engine: ModuleType, dtype: np.dtype, name: str) -> None:
    """Logits of ±1e4 cost what they should and overflow nowhere."""
    o = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    right, wrong = (o > 0).astype(dtype), (o < 0).astype(dtype)
    delta = np.empty_like(o)
    assert engine.loss_value_and_delta(o, right, None, name, 0.0, delta) == 0
    assert (delta == 0).all()
    cost = 2e4 if name == "cross_entropy" else 1e4
    assert engine.loss_value_and_delta(o, wrong, None, name, 0.0, delta) == pytest.approx(cost)
    size = 2 if name == "cross_entropy" else 4
    assert delta == pytest.approx((right - wrong) / size)


def test_impossible_classes_cost_nothing(engine: ModuleType, dtype: np.dtype) -> None:
    """A logit of -inf is a probability of 0, which a target of 0 agrees with."""
    o = np.array([[0.5, -np.inf, 0.5]], dtype)
    target = np.array([[0.5, 0, 0.5]], dtype)
    delta = np.empty_like(o)
    value = engine.loss_value_and_delta(o, target, None, "cross_entropy", 0.0, delta)
    assert value == pytest.approx(math.log(2))
    assert delta == pytest.approx(np.zeros((1, 3)), abs=float(np.finfo(dtype).eps))


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_a_bound_of_the_value(engine: ModuleType, loss: str, dtype: np.dtype) -> None:
    """A row that is surely wrong counts no more than the bound; the derivative is as without."""
    rng = np.random.default_rng(12)
    o = (rng.normal(size=(40, 3 if loss == "cross_entropy" else 1)) * 9).astype(dtype)
    target = rng.integers(3, size=40)
    if loss == "binary_cross_entropy":
        target = (target.reshape(-1, 1) > 0).astype(dtype)
    free, bounded = np.empty_like(o), np.empty_like(o)
    rows = [
        engine.loss_value_and_delta(o[i : i + 1], target[i : i + 1], None, loss, 0.0, free[:1])
        for i in range(40)
    ]
    assert sum(value > 5 for value in rows) in range(5, 36)
    engine.loss_value_and_delta(o, target, None, loss, 0.0, free)
    value = engine.loss_value_and_delta(o, target, None, loss, 5.0, bounded)
    assert value == pytest.approx(np.minimum(rows, 5).mean(), rel=float(20 * np.finfo(dtype).eps))
    assert (free == bounded).all()


# --------------------------------------------------------------------------- optimizers


def published_update(
    p: float, g: float, s: dict[str, float], spec: OptimizerSpec, rate: float, t: int
) -> float:
    """One scalar parameter after update t, its memory in ``s``.

    Written from the algorithm boxes of PyTorch's documentation of SGD, RMSprop, Adagrad,
    Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019).
    """
    if spec.name == "adamw":
        p -= rate * spec.weight_decay * p
    else:
        g += spec.weight_decay * p
    if spec.name == "sgd":
        if spec.rate_in_velocity:  # Sutskever et al. 2013, equations 1 to 4, with v = -b
            s["b"] = spec.momentum * s["b"] + rate * g
            return p - (spec.momentum * s["b"] + rate * g if spec.nesterov else s["b"])
        s["b"] = spec.momentum * s["b"] + g if t > 1 else g
        step = g + spec.momentum * s["b"] if spec.nesterov else s["b"]
        return p - rate * (step if spec.momentum else g)
    if spec.name == "rmsprop":
        s["v"] = spec.beta_2 * s["v"] + (1 - spec.beta_2) * g * g
        scaled = g / (math.sqrt(s["v"]) + spec.epsilon)
        s["b"] = spec.momentum * s["b"] + scaled
        return p - rate * s["b"]
    if spec.name == "adagrad":
        s["v"] += g * g
        return p - rate * g / (math.sqrt(s["v"]) + spec.epsilon)
    s["m"] = spec.beta_1 * s["m"] + (1 - spec.beta_1) * g
    s["v"] = spec.beta_2 * s["v"] + (1 - spec.beta_2) * g * g
    if spec.epsilon_hat:
        rate *= math.sqrt(1 - math.pow(spec.beta_2, t)) / (1 - math.pow(spec.beta_1, t))
        return p - rate * s["m"] / (math.sqrt(s["v"]) + spec.epsilon)
    first = s["m"] / (1 - math.pow(spec.beta_1, t))
    second = s["v"] / (1 - math.pow(spec.beta_2, t))
    return p - rate * first / (math.sqrt(second) + spec.epsilon)


def clipped(gradient: list[float], clip_norm: float) -> list[float]:
    """As torch.nn.utils.clip_grad_norm_ documents it."""
    if not clip_norm:
        return gradient
    norm = math.sqrt(math.fsum(g * g for g in gradient))
    return [g * min(1.0, clip_norm / (norm + 1e-6)) for g in gradient]


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("clip_norm", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_update(engine: ModuleType, name: str, clip_norm: float, l2: float) -> None:
    """Six updates of 37 parameters by the kernel against one scalar at a time."""
    spec = OPTIMIZERS[name]._replace(clip_norm=clip_norm, l2=l2)
    rng = np.random.default_rng(3)
    parameters = rng.normal(size=37)
    truth = parameters.tolist()
    memory = [dict.fromkeys("bvm", 0.0) for _ in truth]
    moments = tuple(np.zeros(37) for _ in range(spec.moments))
    for t in range(1, 7):
        rate, gradient = 0.1 / t, rng.normal(size=37)
        engine.optimizer_update(parameters, gradient, moments, spec, rate, t)
        g = clipped([g + l2 * p for g, p in zip(gradient.tolist(), truth, strict=True)], clip_norm)
        truth = [published_update(truth[i], g[i], memory[i], spec, rate, t) for i in range(37)]
        # each update rounds about ten times
        np.testing.assert_allclose(parameters, truth, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_applies_l2_then_clip_then_decay(engine: ModuleType, name: str) -> None:
    """A network's step: l2 on weights alone, the norm over everything, decay on everything."""
    layers = (LayerSpec(3, 4, "tanh", True), LayerSpec(4, 2, "identity", True))
    rng = np.random.default_rng(5)
    X, target = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    spec = OPTIMIZERS[name]._replace(l2=0.3, clip_norm=0.6)
    network = engine.Network(layers, np.dtype("float64"))
    network.set_parameters(rng.normal(size=network.size))
    is_weight = [1.0] * 12 + [0.0] * 4 + [1.0] * 8 + [0.0] * 2
    memory = [dict.fromkeys("bvm", 0.0) for _ in is_weight]
    with network.trainer(LossSpec("mse"), spec, 8, 0) as trainer:
        for t in range(1, 5):
            truth = network.get_parameters().tolist()
            gradient = trainer.gradient(X, target, None)[1]
            g = [
                g + 0.3 * p * w for g, p, w in zip(gradient.tolist(), truth, is_weight, strict=True)
            ]
            g = clipped(g, 0.6)
            truth = [
                published_update(p, g[i], memory[i], spec, 0.05, t) for i, p in enumerate(truth)
            ]
            trainer.step(X, target, None, 0.05)
            np.testing.assert_allclose(network.get_parameters(), truth, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("clip_norm", [0.0, 0.05])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0, 1.0, 0.25], [0.0] * 5])
@pytest.mark.parametrize("loss", [LossSpec("mse", per_row=True), LossSpec("sum_squares")])
def test_l2_by_weight(
    engine: ModuleType, loss: LossSpec, weights: list[float] | None, clip_norm: float
) -> None:
    """Value and gradient of l2 ‖W‖² / (2 Σ w), on weights of wide and narrow layers alone."""
    layers = (LayerSpec(3, 37, "tanh", True), LayerSpec(37, 2, "identity", True))
    rng = np.random.default_rng(6)
    X, target = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    weight = None if weights is None else np.array(weights)
    network = engine.Network(layers, np.dtype("float64"))
    network.set_parameters(rng.normal(size=network.size))
    before = network.get_parameters()
    squares = (before[: 3 * 37] ** 2).sum() + (before[4 * 37 : -2] ** 2).sum()
    is_weight = np.repeat([1.0, 0.0, 1.0, 0.0], [3 * 37, 37, 37 * 2, 2])
    total = 5.0 if weight is None else weight.sum()
    share = 0.3 / total if total else 0.0
    spec = OptimizerSpec("sgd", 0, l2=0.3, l2_by_weight=True, clip_norm=clip_norm)
    with network.trainer(loss, spec, 5, 0) as trainer:
        value, gradient = trainer.gradient(X, target, weight)
        reported = trainer.step(X, target, weight, 0.01)
        assert trainer.penalty == pytest.approx(0.5 * share * squares, rel=1e-13)
    assert reported == pytest.approx(value + 0.5 * share * squares, rel=1e-13)
    gradient = np.array(clipped((gradient + share * before * is_weight).tolist(), clip_norm))
    np.testing.assert_allclose(
        network.get_parameters(), before - 0.01 * gradient, rtol=1e-12, atol=1e-14
    )


# --------------------------------------------------------------------------- training


def plain_sgd_step(
    case: Case, rows: np.ndarray, epoch: int, first: int, rate: float
) -> tuple[float, np.ndarray]:
    """Loss and parameters after one step of gradient descent with dropout, by the oracle."""
    scales = []
    for index, spec in enumerate(case.layers):
        kept = random.dropout_mask(
            case.seed, epoch, index, first, len(rows), spec.inputs, spec.dropout
        )
        scales.append(kept / (1 - spec.dropout))
    loss, gradient = oracle.loss_and_gradient(
        case.layers,
        case.parameters,
        case.loss,
        case.X[rows],
        case.target[rows],
        case.weight[rows],
        tuple(scales),
    )
    return loss, case.parameters - rate * gradient


def dropout_case(loss: str) -> Case:
    """A 6-20-18-2 network with dropout before each layer, 23 weighted rows."""
    layers = (
        LayerSpec(6, 20, "tanh", True, 0.25),
        LayerSpec(20, 18, "silu", True, 0.5),
        LayerSpec(18, 2, "identity", True, 0.1),
    )
    rng = np.random.default_rng(11)
    size = 6 * 20 + 20 + 20 * 18 + 18 + 18 * 2 + 2
    return Case(
        layers,
        rng.normal(0, 0.4, size),
        LossSpec(loss),
        OptimizerSpec("sgd", 0),
        rng.normal(size=(23, 6)),
        rng.normal(size=(23, 2)),
        rng.uniform(0.2, 2, 23),
        5,
        99,
    )


@pytest.mark.parametrize("loss", ["mse", "sum_squares"])
@pytest.mark.parametrize("shuffle", [True, False, np.random.default_rng(8).permutation(23)])
def test_epoch(engine: ModuleType, shuffle: bool | np.ndarray, loss: str) -> None:
    """The order, the short last batch, the masks by position, the loss over batches."""
    case = dropout_case(loss)
    network = case.network(engine, np.float64)
    rates = np.linspace(0.004, 0.002, 5)  # a sum of squares needs small ones
    with case.trainer(network) as trainer:
        value = trainer.epoch(*case.data(np.float64), 7, rates, shuffle)
        assert trainer.steps == 5
    order = shuffle
    if isinstance(shuffle, bool):
        order = random.permutation(99, 7, 23) if shuffle else np.arange(23)
    total = 0.0
    for k, rate in enumerate(rates):
        rows = order[5 * k : 5 * k + 5]
        loss_k, parameters = plain_sgd_step(case, rows, 7, 5 * k, rate)
        case = case._replace(parameters=parameters)
        total += loss_k if loss == "sum_squares" else loss_k * len(rows) / 23
    assert value == pytest.approx(total, rel=1e-12)
    assert relative_error(network.get_parameters(), case.parameters) <= 1e-12
    assert network.get_state() == (5, ())


@pytest.mark.parametrize(
    "order",
    [np.arange(22), np.arange(23, dtype=np.int32), np.arange(1, 24), np.arange(-1, 22)],
    ids=["short", "int32", "too large", "negative"],
)
def test_an_order_that_is_none(engine: ModuleType, order: np.ndarray) -> None:
    case = dropout_case("mse")
    network = case.network(engine, np.float64)
    with case.trainer(network) as trainer, pytest.raises(ValueError, match="the order must"):
        trainer.epoch(*case.data(np.float64), 0, np.full(5, 0.1), order)
    assert (network.get_parameters() == case.parameters).all()


def test_step_keys_its_masks_by_the_updates_before_it(engine: ModuleType) -> None:
    case = dropout_case("mse")
    network = case.network(engine, np.float64)
    with case.trainer(network) as trainer:
        for updates in range(3):
            value = trainer.step(*case.data(np.float64), 0.05)
            loss, parameters = plain_sgd_step(case, np.arange(23), updates, 0, 0.05)
            case = case._replace(parameters=parameters)
            assert value == pytest.approx(loss, rel=1e-12)
            assert relative_error(network.get_parameters(), parameters) <= 1e-12


@pytest.mark.parametrize("weighted", [True, False])
def test_evaluate_and_gradient_of_many_rows(engine: ModuleType, weighted: bool) -> None:
    """10 000 rows, processed in pieces, have the loss and gradient of the whole."""
    n, rng = 10_000, np.random.default_rng(1)
    X, target, weight = rng.normal(size=(n, 6)), rng.normal(size=(n, 2)), rng.uniform(0, 2, n)
    case = dropout_case("mse")
    with case.trainer(case.network(engine, np.float64)) as trainer:

        def part(rows: slice) -> tuple[float, np.ndarray, float]:
            w = weight[rows] if weighted else None
            value, gradient = trainer.gradient(X[rows], target[rows], w)
            assert trainer.evaluate(X[rows], target[rows], w) == pytest.approx(value, rel=1e-13)
            return value, gradient, w.sum() if weighted else 1000.0

        parts = [part(slice(k, k + 1000)) for k in range(0, n, 1000)]
        value, gradient, _ = part(slice(None))
    total = sum(share for _, _, share in parts)
    assert value == pytest.approx(sum(v * share for v, _, share in parts) / total, rel=1e-12)
    assert relative_error(gradient, sum(g * share for _, g, share in parts) / total) <= 1e-12


def test_interrupt_leaves_a_whole_step(
    reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt inside the third step leaves the network as the second step left it."""
    case = dropout_case("mse")._replace(optimizer=OPTIMIZERS["adam"])
    whole = case.network(reference, np.float64)
    X, target, weight = case.data(np.float64)
    with case.trainer(whole) as trainer:
        trainer.epoch(X[:10], target[:10], weight[:10], 0, np.full(2, 0.01), False)
    update = reference.numpy_rows.OPTIMIZERS["adam"]
    calls = []

    def interrupted(*args: Any) -> Any:
        calls.append(args)
        result = update(*args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return result

    monkeypatch.setitem(reference.numpy_rows.OPTIMIZERS, "adam", interrupted)
    cut = case.network(reference, np.float64)
    with case.trainer(cut) as trainer, pytest.raises(KeyboardInterrupt):
        trainer.epoch(X, target, weight, 0, np.full(5, 0.01), False)
    assert (cut.get_parameters() == whole.get_parameters()).all()
    assert cut.get_state()[0] == 2
    for have, want in zip(cut.get_state()[1], whole.get_state()[1], strict=True):
        assert (have == want).all()
