"""The NumPy reference against central differences, dual numbers and published rules.

Every other engine is measured against the reference, so here it is measured against
things that share nothing with it. Where that costs nothing, so is every engine.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import oracle
import pytest
from fastnn.kernels import contract, random
from fastnn.kernels.contract import LossSpec, OptimizerSpec
from networks import OPTIMIZERS, Case, float32_values, random_case, relative_error, seeds


def central_differences(case: Case, reference: ModuleType, step: float = 1e-5) -> np.ndarray:
    """(L(p + h) - L(p - h)) / 2h for each parameter; its error is O(h²) + O(u / h)."""
    network, p = case.network(reference), case.parameters
    with network.trainer(case.loss, None, 1, 0) as trainer:

        def loss_at(parameters: np.ndarray) -> float:
            network.set_parameters(parameters)
            return trainer.evaluate(*case.data(np.float64))

        steps = step * np.eye(network.size)
        return np.array([loss_at(p + h) - loss_at(p - h) for h in steps]) / (2 * step)


@pytest.mark.parametrize("seed", seeds())
def test_gradient(seed: int, reference: ModuleType) -> None:
    case = random_case(seed, small=True)
    # 1e-7: central differences with h = 1e-5 leave about 1e-9
    gradient = case.gradient(reference)[1]
    assert relative_error(central_differences(case, reference), gradient) <= 1e-7
    # 1e-12: some hundred roundings of 1.1e-16, and cancellation in the oracle's formulas
    usual = [spec._replace(numbers=(1e-5,) * len(spec.numbers)) for spec in case.layers]
    for layers in {case.layers, tuple(usual)}:
        case = case._replace(layers=layers)
        value, gradient = case.gradient(reference)
        true_value, truth = oracle.loss_and_gradient(*case[:3], *case.data(np.float64))
        assert value == pytest.approx(true_value, rel=1e-12, abs=1e-15)
        assert relative_error(gradient, truth) <= 1e-12


@pytest.mark.parametrize("seed", seeds())
def test_input_gradient(seed: int, reference: ModuleType) -> None:
    case = random_case(seed, small=True)
    network, X = case.network(reference), case.X
    outputs = np.arange(case.layers[-1].outputs)[::-2].copy()
    gradient = network.input_gradient(X, outputs)
    assert gradient.shape == (len(X), len(outputs), X.shape[1])
    truth = oracle.output(case.layers, case.parameters, X, by="inputs")  # (inputs, n, outputs)
    slope = (truth.imag / oracle.STEP)[..., outputs].transpose(1, 2, 0)
    assert relative_error(network.predict(X), truth[0].real) <= 1e-12
    assert relative_error(gradient, slope) <= 1e-12


#: f′ where it jumps, as PyTorch has it.
KINKED = [
    ("relu", 0, 0), ("leaky_relu", 0, 0.01), ("elu", 0, 1), ("softsign", 0, 1),
    ("selu", 0, 1.0507009873554805 * 1.6732632423543772), ("hard_sigmoid", -3, 0),
    ("hard_sigmoid", 3, 0), ("hard_swish", -3, 0), ("hard_swish", 3, 1), ("hard_tanh", -1, 0),
    ("hard_tanh", 1, 0),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "z", "wanted"), KINKED)
def test_derivative_at_a_kink(
    engine: ModuleType, dtype: np.dtype, activation: str, z: float, wanted: float
) -> None:
    Z, ones, out = np.full((1, 1), z, dtype), np.ones((1, 1), dtype), np.empty((1, 1), dtype)
    engine.activation_backward(Z, ones, activation, out)
    assert out[0, 0] == pytest.approx(wanted, rel=4 * float(np.finfo(dtype).eps))


ANY_TARGET = [name for name, row in contract.LOSSES.items() if row.takes_any_target]

#: A loss, a row of outputs and of targets, the value, and the derivatives.
HARD = [
    # no error, no derivative, at the kink of |o - t| too
    *((name, [0.25], [0.25], 0, [0]) for name in ANY_TARGET),
    # PyTorch's BCELoss: logarithms of at least -100, denominators of at least 1e-12
    ("binary_cross_entropy_of_probabilities", [0, 1], [1, 0], 100, [-0.5e12, 0.5e12]),
    ("cross_entropy_of_probabilities", [0, 1], [1, 0], 100, [-1e12, 0]),
    # logits of ±1e4 cost what they should and overflow nowhere
    ("binary_cross_entropy", [1e4, -1e4], [0, 1], 1e4, [0.5, -0.5]),
    ("binary_cross_entropy", [1e4, -1e4], [1, 0], 0, [0, 0]),
    ("cross_entropy", [1e4, -1e4], [0, 1], 2e4, [1, -1]),
    ("cross_entropy", [1e4, -1e4], [1, 0], 0, [0, 0]),
    # a logit of -inf is a probability of 0, which a target of 0 agrees with
    ("cross_entropy", [0.5, -np.inf, 0.5], [0.5, 0, 0.5], math.log(2), [0, 0, 0]),
    # labels of both kinds; nothing to do at a margin of one or more
    ("hinge", [0.5, 0.5, -2, 1, -1.5], [1, -1, 0, 1, 1], 0.9, [-0.2, 0.2, 0, 0, -0.2]),
    ("log_cosh", [1e4, -1e4], [0, 0], 1e4 - math.log(2), [0.5, -0.5]),
]


@pytest.mark.parametrize(("loss", "o", "t", "value", "wanted"), HARD)
def test_hard_rows(
    engine: ModuleType, dtype: np.dtype, loss: str, o: Any, t: Any, value: float, wanted: Any
) -> None:
    output, target = np.array([o], dtype), np.array([t], dtype)
    delta, eps = np.full_like(output, np.nan), float(np.finfo(dtype).eps)
    parameter = contract.LOSSES[loss].default
    have = engine.loss_value_and_delta(output, target, None, loss, parameter, delta)
    assert have == pytest.approx(value, rel=4 * eps, abs=eps if loss == "log_cosh" else 0)
    assert delta[0] == pytest.approx(wanted, rel=1e-6, abs=eps if np.inf in np.abs(o) else 0)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_a_bound_of_the_value(engine: ModuleType, loss: str, dtype: np.dtype) -> None:
    """A row that is surely wrong counts no more than the bound; the derivative is as without."""
    rng = np.random.default_rng(12)
    o = (rng.normal(size=(40, 3 if loss == "cross_entropy" else 1)) * 9).astype(dtype)
    target = rng.integers(3, size=40)
    if loss == "binary_cross_entropy":
        target = (target.reshape(-1, 1) > 0).astype(dtype)
    free, bounded = np.empty_like(o), np.empty_like(o)
    each = (slice(i, i + 1) for i in range(40))
    rows = [engine.loss_value_and_delta(o[i], target[i], None, loss, 0.0, free[i]) for i in each]
    assert sum(value > 5 for value in rows) in range(5, 36)
    engine.loss_value_and_delta(o, target, None, loss, 0.0, free)
    value = engine.loss_value_and_delta(o, target, None, loss, 5.0, bounded)
    assert value == pytest.approx(np.minimum(rows, 5).mean(), rel=float(20 * np.finfo(dtype).eps))
    assert (free == bounded).all()


# --------------------------------------------------------------------------- optimizers


def published_update(
    p: Any, g: Any, s: dict[str, Any], spec: OptimizerSpec, rate: Any, decay: Any, t: int
) -> Any:
    """Parameters after update t, of an array or a single one; their memory in ``s``.

    Written from the algorithm boxes of PyTorch's documentation of SGD, RMSprop, Adagrad,
    Adam (Kingma & Ba 2015), AdamW (Loshchilov & Hutter 2019) and NAdam (Dozat 2016), and
    from algorithm 2 of Chen et al. 2023 (Lion), whose λ is the decay and η the rate.
    """
    n = dict(zip(contract.OPTIMIZERS[spec.name].numbers, spec.numbers, strict=True))
    momentum, beta_1, beta_2 = n.get("momentum", 0), n.get("beta_1", 0), n.get("beta_2", 0)
    if spec.name == "lion":
        c = beta_1 * s["m"] + (1 - beta_1) * g
        s["m"] = beta_2 * s["m"] + (1 - beta_2) * g
        return p - rate * (np.sign(c) + decay * p)
    if spec.name == "adamw":
        p = p - rate * decay * p
    else:
        g = g + decay * p
    if spec.name == "sgd":
        return p - rate * g
    if "velocity" in spec.name:  # Sutskever et al. 2013, equations 1 to 4, with v = -b
        s["b"] = momentum * s["b"] + rate * g
        return p - (momentum * s["b"] + rate * g if "nesterov" in spec.name else s["b"])
    if spec.name in ("momentum", "nesterov"):
        s["b"] = momentum * s["b"] + g if t > 1 else g
        return p - rate * (g + momentum * s["b"] if spec.name == "nesterov" else s["b"])
    if spec.name == "adagrad":
        s["v"] = s["v"] + g * g
        return p - rate * g / (np.sqrt(s["v"]) + n["epsilon"])
    s["v"] = beta_2 * s["v"] + (1 - beta_2) * g * g
    if spec.name.startswith("rmsprop"):
        s["b"] = momentum * s["b"] + g / (np.sqrt(s["v"]) + n["epsilon"])
        return p - rate * s["b"]
    s["m"] = beta_1 * s["m"] + (1 - beta_1) * g
    second = s["v"] / (1 - math.pow(beta_2, t))
    if spec.name == "adam_hat":
        rate = rate * math.sqrt(1 - math.pow(beta_2, t)) / (1 - math.pow(beta_1, t))
        return p - rate * s["m"] / (np.sqrt(s["v"]) + n["epsilon"])
    first = s["m"] / (1 - math.pow(beta_1, t))
    if spec.name == "nadam":
        psi, steps = n["momentum_decay"], range(1, t + 2)
        mu = [beta_1 * (1 - 0.5 * math.pow(0.96, i * psi)) for i in steps]
        product = math.prod(mu[:t])
        first = mu[t] * s["m"] / (1 - product * mu[t]) + (1 - mu[t - 1]) * g / (1 - product)
    return p - rate * first / (np.sqrt(second) + n["epsilon"])


def clipped(gradient: np.ndarray, clip_norm: float) -> np.ndarray:
    """As torch.nn.utils.clip_grad_norm_ documents it."""
    norm = math.sqrt(math.fsum(g * g for g in gradient.tolist()))
    return gradient * min(1.0, clip_norm / (norm + 1e-6)) if clip_norm else gradient


@pytest.mark.parametrize("option", [{}, {"l2": 0.5}, {"clip_norm": 1.0}, {"clip_norm": 100.0}])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_update(
    engine: ModuleType, dtype: np.dtype, name: str, option: dict[str, float]
) -> None:
    """Four updates of any number of parameters by the kernel.

    Parameters are of the size of one, and an update rounds some ten times; what rounding
    does to g may count 1 / ε times in a step, which is 100 times the rate.
    """
    rng, u = np.random.default_rng(3), float(np.finfo(dtype).eps) / 2
    spec = OPTIMIZERS[name]._replace(**option)
    for size in (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 47, 64, 65, 100, 130):
        p = rng.normal(size=size).astype(dtype)
        moments = tuple(np.zeros(size, dtype) for _ in range(spec.moments))
        truth, memory = p.astype(np.float64), dict.fromkeys("bvm", np.zeros(size))
        for t in range(1, 5):
            g = rng.normal(size=size).astype(dtype)
            g.flags.writeable = False
            engine.optimizer_update(p, g, moments, spec, 0.1 / t, t)
            wide = clipped(g.astype(np.float64) + spec.l2 * truth, spec.clip_norm)
            truth = published_update(truth, wide, memory, spec, 0.1 / t, spec.weight_decay, t)
        np.testing.assert_allclose(p, truth, rtol=100 * u, atol=40 * u)
        for have in moments:  # which of the memory is which is the rule's affair
            wanted = [np.abs(have - m).max(initial=0) for m in memory.values()]
            assert min(wanted) <= 40 * u * max(1, np.abs(have).max(initial=0))


#: Layers of every kind, all tensors with factors of their own.
MIXED = (
    contract.scale(3, factors=(2.0, 0.5)),
    contract.dense(3, 37, "tanh", factors=(0.5, 1.0), bias_factors=(3.0, 0.0)),
    contract.layer_norm(37, factors=(1.5, 2.0)),
    contract.dense(37, 2, bias_factors=(0.0, 1.0)),
)
TENSORS = [tensor for spec in MIXED for tensor in spec.tensors]
IS_WEIGHT = np.concatenate([np.full(t.size, t.name == "weight") for t in TENSORS])


def pieces(flat: np.ndarray) -> list[np.ndarray]:
    return np.split(flat, np.cumsum([tensor.size for tensor in TENSORS])[:-1])


@pytest.mark.parametrize("by_weight", [False, True])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0, 1.0, 0.25], [0.0] * 5])
@pytest.mark.parametrize("loss", [LossSpec("mse", per_row=True), LossSpec("sum_squares")])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_applies_l2_then_clip_then_decay(
    engine: ModuleType, name: str, loss: LossSpec, weights: list[float] | None, by_weight: bool
) -> None:
    """L2 on weights alone, the norm over everything, factors by tensor.

    With ``l2_by_weight``, value and gradient of l2 ‖W‖² / (2 Σ w) join those of the loss.
    """
    rng = np.random.default_rng(5)
    data = rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), weights and np.array(weights)
    spec = OPTIMIZERS[name]._replace(l2=0.3, clip_norm=0.6, l2_by_weight=by_weight)
    network = engine.Network(MIXED, np.dtype("float64"))
    network.set_parameters(rng.normal(size=network.size))
    total = 5.0 if weights is None else sum(weights)
    l2 = 0.3 / (total or np.inf) if by_weight else 0.3
    memory = [dict.fromkeys("bvm", 0.0) for _ in TENSORS]
    with network.trainer(loss, spec, 5, 0) as trainer:
        for t in range(1, 5):
            p, (value, gradient) = network.get_parameters(), trainer.gradient(*data)
            penalty = 0.5 * l2 * (p**2 * IS_WEIGHT).sum() if by_weight else 0.0
            g = clipped(gradient + l2 * p * IS_WEIGHT, 0.6)
            truth = []
            for tensor, *part in zip(TENSORS, pieces(p), pieces(g), memory, strict=True):
                rate, decay = 0.05 * tensor.rate_factor, spec.weight_decay * tensor.decay_factor
                truth.append(published_update(*part, spec, rate, decay, t))
            assert trainer.step(*data, 0.05) == pytest.approx(value + penalty, rel=1e-13)
            assert trainer.penalty == pytest.approx(penalty, rel=1e-13)
            have = network.get_parameters()
            np.testing.assert_allclose(have, np.concatenate(truth), rtol=1e-12, atol=1e-14)


# --------------------------------------------------------------------------- training


def descended(
    case: Case, rows: np.ndarray, epoch: int, first: int, rate: float
) -> tuple[float, Case]:
    """Loss before, and the case after, a step of gradient descent with dropout, by the oracle."""
    scales = []
    for index, spec in enumerate(case.layers):
        place = (case.seed, epoch, index, first, len(rows))
        kept = random.dropout_mask(*place, spec.inputs, spec.dropout)
        scales.append(kept / (1 - spec.dropout))
    data = case.rows(rows, 1).data(np.float64)
    loss, gradient = oracle.loss_and_gradient(*case[:3], *data, tuple(scales))
    return loss, case._replace(parameters=case.parameters - rate * gradient)


def dropout_case(loss: str = "mse", rows: int = 23) -> Case:
    layers = (
        contract.scale(6, 0.25),
        contract.dense(6, 20, "tanh", dropout=0.2),
        contract.layer_norm(20, 0.1, dropout=0.5),
        contract.dense(20, 18, "silu", dropout=0.4),
        contract.dense(18, 2, dropout=0.1),
    )
    rng = np.random.default_rng(11)
    arrays = [rng.normal(size=(rows, 6)), rng.normal(size=(rows, 2)), rng.uniform(0.2, 2, rows)]
    arrays = [float32_values(array) for array in arrays]
    parameters = rng.normal(0, 0.4, contract.size(layers))
    return Case(layers, parameters, LossSpec(loss), OptimizerSpec("sgd"), *arrays, 5, 99)


@pytest.mark.parametrize("loss", ["mse", "sum_squares"])
@pytest.mark.parametrize("shuffle", [True, False, np.random.default_rng(8).permutation(23)])
def test_epoch(engine: ModuleType, shuffle: bool | np.ndarray, loss: str) -> None:
    """The order, the short last batch, the masks by position, the loss over batches.

    The masks of a step that follows are keyed by the updates before it.
    """
    case = dropout_case(loss)
    network = case.network(engine)
    rates = np.linspace(0.004, 0.002, 5)  # a sum of squares needs small ones
    with case.trainer(network) as trainer:
        value = trainer.epoch(*case.data(np.float64), 7, rates, shuffle)
        assert trainer.steps == 5
        parameters = network.get_parameters()
        last = trainer.step(*case.data(np.float64), 0.002)
    order = shuffle
    if isinstance(shuffle, bool):
        order = random.permutation(99, 7, 23) if shuffle else np.arange(23)
    total = 0.0
    for k, rate in enumerate(rates):
        rows = order[5 * k : 5 * k + 5]
        loss_k, case = descended(case, rows, 7, 5 * k, rate)
        total += loss_k if loss == "sum_squares" else loss_k * len(rows) / 23
    assert value == pytest.approx(total, rel=1e-12)
    assert relative_error(parameters, case.parameters) <= 1e-12
    loss_of_all, case = descended(case, np.arange(23), 5, 0, 0.002)
    assert last == pytest.approx(loss_of_all, rel=1e-12)
    assert relative_error(network.get_parameters(), case.parameters) <= 1e-12
    assert network.get_state() == (6, ())


def test_an_order_that_is_none(engine: ModuleType) -> None:
    """Short, of int32, with too large and with negative numbers."""
    case = dropout_case()
    network = case.network(engine)
    with case.trainer(network) as trainer:
        for order in (
            np.arange(22),
            np.arange(23, dtype="i4"),
            np.arange(1, 24),
            np.arange(-1, 22),
        ):
            with pytest.raises(ValueError, match="the order must"):
                trainer.epoch(*case.data(np.float64), 0, np.full(5, 0.1), order)
    assert (network.get_parameters() == case.parameters).all()


@pytest.mark.parametrize("weighted", [True, False])
def test_evaluate_and_gradient_of_many_rows(engine: ModuleType, weighted: bool) -> None:
    """10 000 rows, processed in pieces, have the loss and gradient of the whole."""
    case = dropout_case(rows=10_000)
    case = case if weighted else case._replace(weight=None)
    weight = case.weight if weighted else np.ones(len(case.X))
    shares = np.add.reduceat(weight, range(0, len(weight), 1000)) / weight.sum()
    with case.trainer(case.network(engine)) as trainer:
        value, gradient = trainer.gradient(*case.data(np.float64))
        assert trainer.evaluate(*case.data(np.float64)) == pytest.approx(value, rel=1e-13)
        for share, rows in zip(shares, np.split(np.arange(len(weight)), 10), strict=True):
            part = trainer.gradient(*case.rows(rows, 1).data(np.float64))
            value, gradient = value - share * part[0], gradient - share * part[1]
    assert abs(value) <= 1e-12
    assert np.linalg.norm(gradient) <= 1e-12
