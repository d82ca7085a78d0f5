"""LayerNorm, Scale, factors of tensors and other names, as users meet them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import LBFGS, SGD, Adam, AdamW, Dense, Dropout, LayerNorm, Scale, Sequential
from fastnn.files.safetensors import read_safetensors

GENERATOR = np.random.default_rng(3)
X, Y = GENERATOR.normal(size=(17, 4)), GENERATOR.normal(size=(17, 2))


def network(engine_name: str, *layers: Any, **options: Any) -> Sequential:
    options = {"input_size": 4, "dtype": "float64", "seed": 2} | options
    return Sequential([*layers, Dense(2)], engine=engine_name, **options)


def kinds(engine_name: str, **options: Any) -> Sequential:
    """Every kind and what may be left out of it, with parameters that are nothing special."""
    layers = [Scale(), Dropout(0.2), Dense(6, "tanh"), LayerNorm(1e-3), Dense(5, use_bias=False)]
    norms = [LayerNorm(shift=False), LayerNorm(scale=False), LayerNorm(scale=False, shift=False)]
    model = network(engine_name, *layers, *norms, **options)
    model.parameters = 0.5 + np.random.default_rng(4).random(model.size)
    return model


def normal(x: np.ndarray, epsilon: float = 1e-5) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)


def test_the_output_is_the_formula(engine_name: str) -> None:
    model = kinds(engine_name)
    (a,), (W, b), (scale, shift), (V, none), (scale_2, _), (_, shift_2), nothing, (U, c) = (
        model.weights
    )
    assert none is None
    assert nothing == (None, None)
    hidden = normal(np.tanh(X * a @ W + b), 1e-3) * scale + shift
    expected = normal(normal(normal(hidden @ V) * scale_2) + shift_2) @ U + c
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-12, atol=1e-13)


def test_gradients_are_central_differences(engine_name: str) -> None:
    model = kinds(engine_name)
    _, gradient = model.loss_and_gradient(X, Y, "mse")
    start, numeric = model.parameters, np.empty(model.size)
    for k in range(model.size):
        values = []
        for step in (1e-5, -1e-5):
            moved = start.copy()
            moved[k] += step
            model.parameters = moved
            values.append(model.evaluate(X, Y, "mse"))
        numeric[k] = (values[0] - values[1]) / 2e-5
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)  # curved more than a dense network
    model.parameters = start
    J = model.input_gradient(X)
    for i in range(4):
        h = np.eye(4)[i] * 1e-5
        numeric = (model.predict(X + h) - model.predict(X - h)) / 2e-5
        np.testing.assert_allclose(J[:, :, i], numeric, atol=1e-8)


def test_parameters_start_where_their_kind_says(engine_name: str) -> None:
    model = network(engine_name, Scale(), LayerNorm())
    (a,), (scale, shift), _ = model.weights
    assert a.tolist() == scale.tolist() == [1.0] * 4
    assert shift.tolist() == [0.0] * 4
    lines = [line.split() for line in model.summary().splitlines()[2:4]]
    assert lines == [["Scale", "(n,", "4)", "4"], ["LayerNorm", "(n,", "4)", "8"]]
    assert network(engine_name, LayerNorm(), input_size=None).summary().count("?") == 4


def test_they_are_stored_and_copied(engine_name: str, tmp_path: Path) -> None:
    model = kinds(engine_name)
    model.fit(X, Y, "mse", Adam(0.01), epochs=2, batch_size=5)
    model.save(tmp_path / "m", optimizer_state=True)
    names = "0.scale 1.weight 1.bias 2.scale 2.shift 3.weight 4.scale 5.shift 7.weight 7.bias"
    names += " optimizer.0 optimizer.1"
    assert set(read_safetensors(tmp_path / "m")[0]) == set(names.split())
    loaded = fastnn.load(tmp_path / "m", engine=engine_name)
    config = json.loads(json.dumps(model.get_config()))
    again = Sequential.from_config(config, engine=engine_name)
    again.weights = model.weights
    assert model.layers == loaded.layers == again.layers
    assert repr(loaded) == repr(model)
    assert np.array_equal(again.parameters, model.parameters)
    runs = (model, loaded, copy.deepcopy(model))
    for each in runs:
        each.fit(X, Y, "mse", Adam(0.01), epochs=2, batch_size=5, resume=True)
    assert all(np.array_equal(each.parameters, model.parameters) for each in runs)


def step(model: Sequential, optimizer: Any) -> list[np.ndarray]:
    """What one update changes, tensor by tensor."""
    before = model.weights
    model.train_on_batch(X, Y, "mse", optimizer)
    pairs = zip(before, model.weights, strict=True)
    return [new - old for a, b in pairs for old, new in zip(a, b, strict=True) if old is not None]


FACTORS = [
    Scale(learning_rate_factor=0.5),
    LayerNorm(learning_rate_factor=0, weight_decay_factor=2),
    Dense(3, "tanh", learning_rate_factor=2, weight_decay_factor=0, bias_learning_rate_factor=0.25),
    Dense(3, bias_weight_decay_factor=3),
]
RATES = np.array([0.5, 0, 0, 2, 0.25, 1, 1, 1, 1])
DECAYS = np.array([1, 2, 2, 0, 0, 1, 3, 1, 1])
PENALISED = np.array([0, 0, 0, 1, 0, 1, 0, 1, 0])


def with_and_without(engine_name: str) -> tuple[Sequential, Sequential]:
    plain = [Scale(), LayerNorm(), Dense(3, "tanh"), Dense(3)]
    models = network(engine_name, *FACTORS), network(engine_name, *plain)
    for model in models:
        model.parameters = np.random.default_rng(1).normal(size=model.size)
    return models


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, 0.9, clip_norm=0.5), Adam(0.1)])
def test_rates_have_factors(engine_name: str, optimizer: Any) -> None:
    model, plain = with_and_without(engine_name)
    for change, expected, factor in zip(
        step(model, optimizer), step(plain, optimizer), RATES, strict=True
    ):
        np.testing.assert_allclose(change, factor * expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_decays_have_factors_and_l2_spares_all_but_weights(engine_name: str, kind: type) -> None:
    for options, shares in (({"weight_decay": 0.2}, DECAYS), ({"l2": 0.2}, PENALISED)):
        if kind is AdamW and "l2" in options:
            continue  # its gradient is divided by a root of itself
        model, free = with_and_without(engine_name)[0], with_and_without(engine_name)[0]
        tensors = [t for layer in model.weights for t in layer]
        changes = step(model, kind(0.1, **options))
        none = step(free, kind(0.1, **dict.fromkeys(options, 0.0)))
        for k, tensor in enumerate(tensors):
            expected = none[k] - 0.1 * 0.2 * shares[k] * RATES[k] * tensor
            np.testing.assert_allclose(changes[k], expected, rtol=1e-11, atol=1e-15)


def test_lbfgs_decays_by_factors(engine_name: str) -> None:
    layers = [Dense(2, weight_decay_factor=2, bias_weight_decay_factor=0)]
    model = Sequential(layers, dtype="float64", seed=0, engine=engine_name)
    rule = LBFGS(gradient_tolerance=1e-10, loss_tolerance=0, weight_decay=0.2, l2=0.1)
    model.fit(X, Y, "mse", rule, epochs=200)
    A = np.c_[X, np.ones(17)]
    # mse averages 34 elements: stationary where AᵀA p / 17 + diag(decay) p = AᵀY / 17
    decay = np.diag([0.5, 0.5, 0.5, 0.5, 0.0])
    exact = np.linalg.solve(A.T @ A / 17 + decay, A.T @ Y / 17)
    np.testing.assert_allclose(model.parameters.reshape(5, 2), exact, atol=1e-8)


def test_other_names_of_activations() -> None:
    assert Dense(3, "swish") == Dense(3, "silu")
    assert Dense(3, "linear").activation == "identity"
