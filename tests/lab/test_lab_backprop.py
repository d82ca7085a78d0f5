"""Backpropagation, opened: every factor right, and their average the engine's gradient."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from networks import relative_error

from fastnn import Dense, Sequential, lab
from fastnn.kernels.contract import ACTIVATIONS
from fastnn.lab.networks import network

HIDDEN = [name for name in ACTIVATIONS if name != "softmax"]


def random_model(engine: str, activation: str, last: str, use_bias: bool = True) -> Sequential:
    layers = [Dense(5, activation, use_bias), Dense(4, activation, use_bias), Dense(3, last)]
    model = Sequential(layers, input_size=6, dtype="float64", seed=0, engine=engine)
    model.parameters = np.random.default_rng(3).normal(0, 0.7, model.size)
    return model


@pytest.mark.parametrize("activation", HIDDEN)
def test_the_average_is_the_gradient_of_the_engine(engine: ModuleType, activation: str) -> None:
    """S5, S13: to 1e-12, with C the sum over outputs: outputs × mse."""
    model = random_model(engine.NAME, activation, activation)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 6)), rng.standard_normal((20, 3))
    traces = [lab.backprop_trace(model, *example) for example in zip(X, y, strict=True)]
    loss, gradient = model.loss_and_gradient(X, y, "mse")
    assert relative_error(lab.average_gradient(traces), 3 * gradient) < 1e-12
    assert np.mean([trace.cost for trace in traces]) == pytest.approx(3 * loss, rel=1e-12)


@pytest.mark.parametrize("cost", ["squared", "cross_entropy"])
def test_softmax_and_missing_biases(engine: ModuleType, cost: str) -> None:
    model = random_model(engine.NAME, "tanh", "softmax", use_bias=False)
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((20, 6)), rng.integers(3, size=20)
    y = np.eye(3)[labels]
    traces = [lab.backprop_trace(model, x, row, cost) for x, row in zip(X, y, strict=True)]
    loss = "mse" if cost == "squared" else "cross_entropy"
    _, gradient = model.loss_and_gradient(X, y, loss)
    outputs = 3 if cost == "squared" else 1
    assert relative_error(lab.average_gradient(traces), outputs * gradient) < 1e-12
    for trace in traces:
        last = trace.layers[-1]
        np.testing.assert_allclose(last.a.sum(), 1, rtol=1e-14)
        # the matrix of ∂a_k/∂z_i is diag(a) - a aᵀ, and the chain rule goes through it
        np.testing.assert_allclose(
            last.slope, np.diag(last.a) - np.outer(last.a, last.a), rtol=0, atol=1e-15
        )
        np.testing.assert_allclose(last.delta, last.dC_da @ last.slope, rtol=0, atol=1e-14)
        assert trace.layers[0].dC_db is None
        assert trace.layers[0].bias_nudges is None


def test_every_factor(engine: ModuleType) -> None:
    """S5, S13: each line of the chain rule, written out with loops over neurons."""
    model = random_model(engine.NAME, "sigmoid", "sigmoid")
    x, y = np.random.default_rng(1).standard_normal((2, 6))
    y = y[:3]
    trace = lab.backprop_trace(model, x, y)
    a = x
    for layer, (W, b) in zip(trace.layers, model.weights, strict=True):
        assert b is not None
        np.testing.assert_array_equal(layer.a_in, a)
        z = [sum(a[j] * W[j, k] for j in range(len(a))) + b[k] for k in range(len(b))]
        np.testing.assert_allclose(layer.z, z, rtol=1e-12)
        np.testing.assert_allclose(layer.a, 1 / (1 + np.exp(-layer.z)), rtol=1e-12)
        np.testing.assert_allclose(layer.slope, layer.a * (1 - layer.a), rtol=1e-12)
        np.testing.assert_allclose(layer.delta, layer.slope * layer.dC_da, rtol=1e-12)
        np.testing.assert_allclose(layer.dC_dW, np.outer(a, layer.delta), rtol=1e-12)
        np.testing.assert_allclose(layer.dC_db, layer.delta, rtol=1e-12)
        passed_on = [sum(W[j, k] * layer.delta[k] for k in range(len(b))) for j in range(len(a))]
        np.testing.assert_allclose(layer.dC_da_in, passed_on, rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(layer.weight_nudges, -layer.dC_dW)
        np.testing.assert_array_equal(layer.input_nudges, -layer.dC_da_in)
        a = layer.a
    np.testing.assert_allclose(trace.layers[-1].dC_da, 2 * (a - y), rtol=1e-12)
    assert trace.cost == pytest.approx(np.sum((a - y) ** 2), rel=1e-12)
    for below, above in zip(trace.layers, trace.layers[1:], strict=False):
        np.testing.assert_array_equal(below.dC_da, above.dC_da_in)


def test_a_nudge_moves_the_cost_as_it_says(engine: ModuleType) -> None:
    """S14: the sign says up or down, the size how much: central differences of C."""
    model = random_model(engine.NAME, "tanh", "sigmoid")
    x, y = np.full(6, 0.3), np.array([0.0, 1.0, 0.5])
    trace = lab.backprop_trace(model, x, y)
    start, step = model.parameters, 1e-6
    slopes = []
    for k in range(model.size):
        costs = []
        for sign in (1, -1):
            model.parameters = start + sign * step * np.eye(model.size)[k]
            costs.append(np.sum((model.predict(x[np.newaxis])[0] - y) ** 2))
        slopes.append((costs[0] - costs[1]) / (2 * step))
    # what rounding of C leaves over a step of 1e-6, and the step's own square
    np.testing.assert_allclose(trace.gradient, slopes, rtol=0, atol=1e-9)


def test_the_chain_of_single_neurons(engine: ModuleType) -> None:
    """S13: ∂C/∂w = a⁽ᴸ⁻¹⁾ σ′(z) 2(a - y), as written."""
    result = lab.chain(x=0.4, y=0.9, neurons=4, engine=engine.NAME)
    layers = result.trace.layers
    last, before = layers[-1], layers[-2]
    sigma = 1 / (1 + np.exp(-last.z[0]))
    by_hand = before.a[0] * sigma * (1 - sigma) * 2 * (last.a[0] - 0.9)
    assert last.dC_dW[0, 0] == pytest.approx(by_hand, rel=1e-12)
    assert last.dC_db is not None
    assert last.dC_db[0] == pytest.approx(by_hand / before.a[0], rel=1e-12)
    for layer, factors in zip(layers, result.factors(), strict=True):
        assert np.prod(factors) == pytest.approx(layer.dC_dW[0, 0], rel=1e-12)
    # one layer further down: the same chain, longer by w σ′
    slope = before.a[0] * (1 - before.a[0])
    longer = before.a_in[0] * slope * last.W[0, 0] * by_hand / before.a[0]
    assert before.dC_dW[0, 0] == pytest.approx(longer, rel=1e-12)


def test_what_digits_ask_for(engine: ModuleType) -> None:
    """S13, S14: each digit wants its own neuron up and all others down."""
    result = lab.nudges(examples=40, engine=engine.NAME)
    assert result.error < 1e-12
    for label, trace in zip(result.labels, result.traces, strict=True):
        asked = trace.layers[-1].bias_nudges
        assert asked is not None
        assert asked[label] > 0
        assert (np.delete(asked, label) < 0).all()
        # by the weights in proportion to the activations that feed them
        last = trace.layers[-1]
        np.testing.assert_allclose(last.weight_nudges, last.a_in[:, np.newaxis] * asked, rtol=1e-12)
    largest = result.largest(5)
    sizes = [abs(value) for _, value in largest]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == np.abs(result.gradient).max()
    name, value = largest[0]
    piece, place = name.rstrip("]").split("[")
    assert result.pieces()[piece][tuple(map(int, place.split(",")))] == value
    assert sum(part.size for part in result.pieces().values()) == len(result.gradient)


def test_mistakes() -> None:
    model = network(2, 3, 2, engine="numpy")
    for arguments, message in (
        (([1.0], [0.0, 0.0]), r"x must have shape \(2,\)"),
        (([1.0, 2.0], [0.0]), r"y must have shape \(2,\)"),
        (([1.0, 2.0], [0.0, 1.0], "squarred"), "did you mean 'squared'"),
        (([1.0, 2.0], [0.0, 1.0], "cross_entropy"), "softmax"),
    ):
        with pytest.raises(ValueError, match=message):
            lab.backprop_trace(model, *arguments)
