"""Metrics: values against scikit-learn's, and what "accuracy" means for each loss."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error, mean_squared_error, r2_score

from fastnn import Dense, Sequential

GENERATOR = np.random.default_rng(4)
X = GENERATOR.normal(size=(30, 3))
WEIGHT = GENERATOR.uniform(0.1, 2, size=30)


def network(engine_name: str, outputs: int, activation: str = "identity") -> Sequential:
    layers = [Dense(outputs, activation=activation)]
    return Sequential(layers, input_size=3, dtype="float64", seed=1, engine=engine_name)


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_regression_metrics(engine_name: str, outputs: int, weight: np.ndarray | None) -> None:
    Y = GENERATOR.normal(size=(30, outputs))
    model = network(engine_name, outputs)
    history = model.fit(X, Y, "mse", epochs=1, metrics=["mse", "mae", "r2"], sample_weight=weight)
    output = model.predict(X)
    expected = {
        "mse": mean_squared_error(Y, output, sample_weight=weight),
        "mae": mean_absolute_error(Y, output, sample_weight=weight),
        "r2": r2_score(Y, output, sample_weight=weight),
    }
    for name, value in expected.items():
        # Sums of 30 to 120 float64 numbers in another order.
        assert history[name] == [pytest.approx(value, rel=1e-12)]


def test_r2_of_a_constant_target(engine_name: str) -> None:
    model = network(engine_name, 1)
    model.parameters = [0.0, 0.0, 0.0, 1.0]
    for constant, expected in ((1.0, 1.0), (2.0, 0.0)):
        history = model.fit(X, np.full(30, constant), "mse", "sgd", epochs=1, metrics="r2")
        model.parameters = [0.0, 0.0, 0.0, 1.0]
        # An epoch of sgd moves the output of the second case, not to the target.
        assert history["r2"] == [expected]


@pytest.mark.parametrize("activation", ["softmax", "identity", "sigmoid"])
@pytest.mark.parametrize("form", ["labels", "one-hot"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_accuracy_of_classes(
    engine_name: str, activation: str, form: str, weight: np.ndarray | None
) -> None:
    labels = GENERATOR.integers(0, 4, size=30)
    y = labels if form == "labels" else np.eye(4)[labels]
    model = network(engine_name, 4, activation)
    weights = {"sample_weight": weight, "class_weight": {1: 10.0}}  # the latter for the loss alone
    history = model.fit(X, y, "cross_entropy", epochs=1, metrics="accuracy", **weights)
    expected = accuracy_score(labels, model.predict(X).argmax(axis=1), sample_weight=weight)
    assert history["accuracy"] == [pytest.approx(expected, rel=1e-12)]


@pytest.mark.parametrize(
    ("activation", "loss", "threshold"),
    [
        ("identity", "binary_cross_entropy", 0.0),
        ("sigmoid", "binary_cross_entropy", 0.5),
        ("hard_sigmoid", "binary_cross_entropy", 0.5),
        ("identity", "hinge", 0.0),
    ],
)
@pytest.mark.parametrize("outputs", [1, 3])
def test_accuracy_of_independent_decisions(
    engine_name: str, activation: str, loss: str, threshold: float, outputs: int
) -> None:
    y = GENERATOR.integers(0, 2, size=(30, outputs))
    model = network(engine_name, outputs, activation)
    history = model.fit(X, y, loss, epochs=1, metrics="accuracy", validation_data=(X[:9], y[:9]))
    right = (model.predict(X) > threshold) == y
    assert history["accuracy"] == [pytest.approx(right.mean(), rel=1e-12)]
    assert history["val_accuracy"] == [pytest.approx(right[:9].mean(), rel=1e-12)]


def test_accuracy_with_squared_cost(engine_name: str) -> None:
    labels = GENERATOR.integers(0, 4, size=30)
    model = network(engine_name, 4, "sigmoid")
    history = model.fit(X, np.eye(4)[labels], "mse", epochs=1, metrics="accuracy")
    assert history["accuracy"] == [np.mean(model.predict(X).argmax(axis=1) == labels)]


def test_a_function_is_a_metric(engine_name: str) -> None:
    def worst(target: np.ndarray, output: np.ndarray) -> float:
        assert target.shape == output.shape == (30, 1)
        return np.abs(target - output).max()

    model = network(engine_name, 1)
    y = GENERATOR.normal(size=30)
    history = model.fit(X, y, "mse", epochs=1, metrics=[worst, "mae"])
    assert history["worst"] == [np.abs(y - model.predict(X)[:, 0]).max()]
    assert type(history["worst"][0]) is float
