"""The model: building, inference, gradients, parameters, fits and copies."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from fastnn.kernels import random
from fastnn.kernels.contract import ACTIVATIONS, LossSpec

from fastnn import SGD, Adam, Dense, Dropout, Huber, Quantile, Sequential, initializers, losses
from fastnn.checks import threads


def sequential(engine_name: str, *layers: Any, **options: Any) -> Sequential:
    options = {"input_size": 3, "dtype": "float64", "seed": 7} | options
    return Sequential(layers, engine=engine_name, **options)


def network(engine_name: str, **options: Any) -> Sequential:
    """3 inputs, a hidden layer without bias, dropout, 2 outputs."""
    hidden = Dense(5, "tanh", use_bias=False), Dropout(0.2), Dense(4, "sigmoid")
    return sequential(engine_name, *hidden, Dense(2), **options)


def without_dropout(engine_name: str) -> Sequential:
    """The same network, with the same initial parameters."""
    dense = (k for k in network(engine_name).layers if isinstance(k, Dense))
    return sequential(engine_name, *dense)


GENERATOR = np.random.default_rng(2)
X, Y = GENERATOR.normal(size=(21, 3)), GENERATOR.normal(size=(21, 2))
LABELS = GENERATOR.integers(0, 2, size=21)


def forward(model: Sequential, X: np.ndarray) -> np.ndarray:
    """The network of this file, written out."""
    (W0, b0), (W1, b1), (W2, b2) = model.weights
    assert b0 is None
    hidden = 1 / (1 + np.exp(-(np.tanh(X @ W0) @ W1 + b1)))
    return hidden @ W2 + b2


# ----------------------------------------------------------------------- building


def test_input_size_is_taken_from_the_first_fit(engine_name: str) -> None:
    given, found = network(engine_name), network(engine_name, input_size=None)
    assert found.input_size is None
    assert found.specs == ()
    for model in (given, found):
        model.fit(X, Y, "mse", epochs=2)
    assert found.input_size == 3
    assert np.array_equal(given.parameters, found.parameters)
    stepped = network(engine_name, input_size=None)
    stepped.train_on_batch(X, Y, "mse")
    assert stepped.size == 15 + 24 + 10


def test_the_seed_determines_the_run(engine_name: str) -> None:
    def run(seed: int | None) -> np.ndarray:
        model = network(engine_name, seed=seed)
        model.fit(X, Y, "mse", epochs=2)
        return model.parameters

    assert np.array_equal(run(3), run(3))
    assert not np.array_equal(run(3), run(4))
    model = network(engine_name, seed=None)  # one from the system, which can be used again
    assert network(engine_name, seed=None).seed != model.seed
    assert np.array_equal(network(engine_name, seed=model.seed).parameters, model.parameters)


def test_initial_weights_come_from_the_specified_streams(engine_name: str) -> None:
    layers = Dense(4, "relu"), Dense(3, initializer="normal"), Dense(2)
    model = sequential(engine_name, *layers, input_size=6, seed=9)
    (W0, b0), (W1, _), (W2, _) = model.weights
    key = [random.stream_key(9, random.WEIGHTS, k) for k in range(3)]
    assert np.array_equal(W0, np.sqrt(2 / 6) * random.normal(key[0], 24).reshape(6, 4))
    assert np.array_equal(W1, random.normal(key[1], 12).reshape(4, 3))
    limit = np.sqrt(6 / 5)
    assert np.array_equal(W2, limit * (2 * random.uniform(key[2], 6) - 1).reshape(3, 2))
    assert b0 is not None
    assert not b0.any()


DEVIATIONS = {"glorot_uniform": 2 / 700, "he_normal": 2 / 400, "lecun_normal": 1 / 400}
DEVIATIONS = {name: np.sqrt(variance) for name, variance in DEVIATIONS.items()}


@pytest.mark.parametrize(
    ("name", "deviation"), [*DEVIATIONS.items(), ("normal", 1.0), ("zeros", 0.0)]
)
def test_initializers_have_their_deviation(engine_name: str, name: str, deviation: float) -> None:
    model = Sequential([Dense(300, initializer=name)], input_size=400, seed=1, engine=engine_name)
    W = model.weights[0][0].astype(np.float64)
    # 120 000 draws: the deviation is known to 0.2%, the mean to 0.3% of it; five of those.
    assert W.std() == pytest.approx(deviation, rel=0.01)
    assert abs(W.mean()) <= 0.015 * deviation
    if name == "glorot_uniform":
        assert np.abs(W).max() <= np.sqrt(6 / 700)


def test_every_activation_has_an_automatic_initializer() -> None:
    chosen = {name: initializers.automatic(name) for name in ACTIVATIONS}
    assert {chosen[n] for n in ("relu", "leaky_relu", "elu", "gelu", "silu")} == {"he_normal"}
    assert {chosen[n] for n in ("sigmoid", "tanh", "identity", "softmax")} == {"glorot_uniform"}
    assert set(chosen.values()) <= set(initializers.INITIALIZERS)


def test_layers_are_immutable_values() -> None:
    with pytest.raises(AttributeError):
        Dense(3).units = 4  # type: ignore[misc]
    assert Dense(3, "relu") == Dense(np.int64(3), activation="relu")
    shared = Dense(3, activation="tanh")
    assert Sequential([shared, shared, Dense(1)], input_size=3).size == 12 + 12 + 4


def test_summary_and_repr(engine_name: str) -> None:
    model = network(engine_name)
    table = model.summary()
    for text in ("Dense tanh", "Dropout 0.2", "(n, 4)", "49", "float64", engine_name):
        assert text in table
    assert "?" in network(engine_name, input_size=None).summary()
    rebuilt = eval(repr(model), {"Sequential": Sequential, "Dense": Dense, "Dropout": Dropout})
    assert np.array_equal(rebuilt.parameters, model.parameters)


# ----------------------------------------------------------------------- losses


CE, BCE = "cross_entropy", "binary_cross_entropy"


@pytest.mark.parametrize(
    ("loss", "activation", "expected"),
    [
        (CE, "softmax", LossSpec(CE, fused=True)),
        (CE, "identity", LossSpec(CE)),
        (CE, "tanh", LossSpec(CE)),
        (CE, "sigmoid", LossSpec("cross_entropy_of_probabilities")),
        (CE, "hard_sigmoid", LossSpec("cross_entropy_of_probabilities")),
        (BCE, "sigmoid", LossSpec(BCE, fused=True)),
        (BCE, "identity", LossSpec(BCE)),
        (BCE, "softmax", LossSpec("binary_cross_entropy_of_probabilities")),
        ("mse", "softmax", LossSpec("mse")),
        ("hinge", "sigmoid", LossSpec("hinge")),
        ("huber", "identity", LossSpec("huber", 1.0)),
        (Huber(0.3), "identity", LossSpec("huber", 0.3)),
        ("quantile", "identity", LossSpec("quantile", 0.5)),
        (Quantile(0.9), "relu", LossSpec("quantile", 0.9)),
    ],
)
def test_losses_resolve(loss: Any, activation: str, expected: LossSpec) -> None:
    assert losses.resolve(loss, activation) == expected


@pytest.mark.parametrize("last", ["softmax", "identity"])
def test_labels_one_hot_and_probabilities_agree(engine_name: str, last: str) -> None:
    model = sequential(engine_name, Dense(2, last))
    by_label = model.loss_and_gradient(X, LABELS, "cross_entropy")
    by_row = model.loss_and_gradient(X, np.eye(2)[LABELS], "cross_entropy")
    # The same sums, with terms that are exactly zero in between.
    assert by_label[0] == pytest.approx(by_row[0], rel=1e-13)
    np.testing.assert_allclose(by_label[1], by_row[1], rtol=1e-12, atol=1e-15)


def test_loss_values_written_out(engine_name: str) -> None:
    model = network(engine_name)
    output = forward(model, X)
    E = output - Y
    A = np.abs(E)
    w = np.linspace(0.1, 2, 21)
    expected = {
        "mse": np.mean(E**2),
        "mae": np.mean(A),
        "huber": np.mean(np.where(A <= 1, E**2 / 2, A - 0.5)),
        "quantile": np.mean(A / 2),
        "log_cosh": np.mean(np.log(np.cosh(E))),
        "sum_squares": np.sum(E**2),
    }
    for loss, value in expected.items():
        # A few hundred float64 operations.
        assert model.evaluate(X, Y, loss) == pytest.approx(value, rel=1e-12), loss
    weighted = (w @ E**2).sum() / (2 * w.sum())
    assert model.evaluate(X, Y, "mse", sample_weight=w) == pytest.approx(weighted, rel=1e-12)
    logits = output - output.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    value = -log_p[np.arange(21), LABELS].mean()
    assert model.evaluate(X, LABELS, "cross_entropy") == pytest.approx(value, rel=1e-12)
    sign = np.where(Y > 0, 1, -1)
    for target in (sign, (sign > 0).astype(int)):
        value = np.mean(np.maximum(0, 1 - sign * output))
        assert model.evaluate(X, target, "hinge") == pytest.approx(value, rel=1e-12)
    counts = GENERATOR.poisson(2, size=(21, 2))
    assert model.evaluate(X, counts, "poisson") == pytest.approx(
        np.mean(np.exp(output) - counts * output), rel=1e-12
    )


# ----------------------------------------------------------------------- use


def test_predict_is_the_network(engine_name: str) -> None:
    model = network(engine_name)
    output = model.predict(X)
    assert output.dtype == np.float64
    assert output.shape == (21, 2)
    np.testing.assert_allclose(output, forward(model, X), rtol=1e-12)
    assert np.array_equal(model.predict(X, threads=2), output)
    nothing = model.predict(np.empty((0, 3)))
    assert (nothing.shape, nothing.dtype) == ((0, 2), np.float64)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_inf_flow_through_predict(engine_name: str, dtype: str) -> None:
    model = network(engine_name, dtype=dtype)
    X = np.zeros((3, 3))
    X[0, 0], X[1, 1] = np.nan, np.inf
    for given in (X, X.astype(dtype)):
        output = model.predict(given)
        assert np.isnan(output[0]).all()
        assert np.isfinite(output[1:]).all()  # tanh(±inf) = ±1


def test_large_predictions_do_not_depend_on_the_route(engine_name: str) -> None:
    """Above the size that one thread takes, ``predict`` goes through the checked path."""
    model = network(engine_name)
    many = np.tile(X, (2000, 1))
    assert many.size > 21 * 3
    np.testing.assert_allclose(
        model.predict(many), np.tile(model.predict(X), (2000, 1)), rtol=1e-13, atol=1e-15
    )


def test_input_gradients_of_some_outputs(engine_name: str) -> None:
    model = network(engine_name)
    J = model.input_gradient(X)
    assert J.shape == (21, 2, 3)
    assert np.array_equal(model.input_gradient(X, 1), J[:, 1:])
    assert np.array_equal(model.input_gradient(X, [1, 0, 1]), J[:, [1, 0, 1]])


def test_dropout_is_off_outside_training(engine_name: str) -> None:
    model = network(engine_name)
    same = without_dropout(engine_name)
    assert np.array_equal(same.parameters, model.parameters)
    assert np.array_equal(model.predict(X), same.predict(X))
    assert model.evaluate(X, Y, "mse") == same.evaluate(X, Y, "mse")
    gradients = [each.loss_and_gradient(X, Y, "mse")[1] for each in (model, same)]
    assert np.array_equal(*gradients)


# ----------------------------------------------------------------------- parameters


def test_parameters_and_weights_are_copies_and_settable(engine_name: str) -> None:
    model = network(engine_name)
    start = model.parameters
    model.parameters[:] = 0
    model.weights[0][0][:] = 0
    assert np.array_equal(model.parameters, start)
    flat = np.arange(49.0)
    model.parameters = flat
    assert np.array_equal(model.parameters, flat)
    (W0, b0), (W1, b1), (W2, b2) = model.weights
    assert b0 is None
    assert np.array_equal(W0, flat[:15].reshape(3, 5))
    pieces = [W0.ravel(), W1.ravel(), b1, W2.ravel(), b2]
    assert np.array_equal(np.concatenate(pieces), flat)  # type: ignore[arg-type]
    model.weights = [(2 * W0.T.copy().T, None), (W1.tolist(), b1), [W2, b2]]
    flat[:15] *= 2
    assert np.array_equal(model.parameters, flat)
    model.weights = [(W0, np.zeros(5)), *model.weights[1:]]  # zeros stand for no bias
    flat[:15] /= 2
    assert np.array_equal(model.parameters, flat)


# ----------------------------------------------------------------------- fit


def test_one_epoch_is_its_batches(engine_name: str) -> None:
    """The shuffle is the specified one; the loss is weighted by the rows of the batches."""
    fitted, stepped = without_dropout(engine_name), without_dropout(engine_name)
    history = fitted.fit(X, Y, "mse", Adam(0.01), epochs=2, batch_size=8)
    for epoch in range(2):
        order = random.permutation(7, epoch, 21)
        total = 0.0
        for rows in (order[:8], order[8:16], order[16:]):
            total += len(rows) * stepped.train_on_batch(X[rows], Y[rows], "mse", Adam(0.01))
        # The same updates; only sums may be grouped otherwise.
        assert history["loss"][epoch] == pytest.approx(total / 21, rel=1e-12)
    np.testing.assert_allclose(fitted.parameters, stepped.parameters, rtol=1e-12, atol=1e-14)


def test_batch_size_none_is_the_whole_data_set(engine_name: str) -> None:
    runs = []
    for size in (None, 21, 1000):
        model = network(engine_name)
        model.fit(X, Y, "mse", epochs=3, batch_size=size)
        assert model.optimizer_state()[0] == 3  # type: ignore[index]
        runs.append(model.parameters)
    assert np.array_equal(runs[0], runs[1])
    assert np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_do_not_change_the_result(engine_name: str, count: int) -> None:
    expected, model = network(engine_name), network(engine_name)
    expected.fit(X, Y, "mse", epochs=2, batch_size=8)
    history = model.fit(X, Y, "mse", epochs=2, batch_size=8, threads=count)
    assert np.array_equal(expected.parameters, model.parameters)
    assert expected.history == history


def test_weights_of_rows_are_repetitions(engine_name: str) -> None:
    repeated, weighted = network(engine_name), network(engine_name)
    counts = GENERATOR.integers(0, 4, size=21)
    loss, gradient = repeated.loss_and_gradient(
        np.repeat(X, counts, axis=0), np.repeat(Y, counts, axis=0), "mse"
    )
    other = weighted.loss_and_gradient(X, Y, "mse", sample_weight=counts)
    # The same sums in another order.
    assert other[0] == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(other[1], gradient, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("form", ["labels", "one-hot", "column", "a class without rows"])
def test_class_weight_is_a_weight_of_rows(engine_name: str, form: str) -> None:
    outputs = {"column": 1, "a class without rows": 3}.get(form, 2)
    y = np.eye(2)[LABELS] if form == "one-hot" else LABELS
    loss = "binary_cross_entropy" if form == "column" else "cross_entropy"
    own = np.linspace(0.5, 1.5, 21)
    counts = np.bincount(LABELS)
    factors = {
        "dict": (({1: 3.0}), np.where(LABELS == 1, 3.0, 1.0)),
        "balanced": ("balanced", 21 / (2 * counts[LABELS])),
    }
    for class_weight, rows in factors.values():
        runs = []
        for arguments in (
            {"class_weight": class_weight, "sample_weight": own},
            {"sample_weight": own * rows},
        ):
            model = sequential(engine_name, Dense(outputs))
            model.fit(X, y, loss, SGD(0.1), epochs=2, **arguments)
            runs.append(model.parameters)
        assert np.array_equal(runs[0], runs[1])


def test_validation_is_evaluation(engine_name: str) -> None:
    model = network(engine_name)
    w = np.linspace(0.1, 1, 21)
    history = model.fit(X, Y, "mse", epochs=2, validation_data=(X[:9], Y[:9], w[:9]))
    value = model.evaluate(X[:9], Y[:9], "mse", sample_weight=w[:9])
    assert history["val_loss"][-1] == pytest.approx(value, rel=1e-13)
    plain = network(engine_name)
    plain.fit(X, Y, "mse", epochs=2)
    assert np.array_equal(plain.parameters, model.parameters)


def test_verbose_writes_to_stderr(engine_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verbose in (0, False, 1, 2):
        network(engine_name).fit(X, Y, "mse", epochs=3, verbose=verbose)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("loss" in err) == (verbose not in (0, False))
    assert err.splitlines()[2].startswith("epoch 3/3  loss ")


def test_a_network_learns(engine_name: str) -> None:
    """XOR in float32: everything that a user touches, at once."""
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    y = np.array([0, 1, 1, 0])
    layers = [Dense(8, activation="tanh"), Dense(2, activation="softmax")]
    model = Sequential(layers, seed=0, engine=engine_name)
    history = model.fit(X, y, "cross_entropy", Adam(0.05), epochs=200, metrics=["accuracy"])
    assert history["accuracy"][-1] == 1.0
    assert history["loss"][-1] < 0.05
    assert model.predict(X).argmax(axis=1).tolist() == y.tolist()


# ----------------------------------------------------------------------- online


def test_online_routes_agree(engine_name: str) -> None:
    """The fast path (same objects, plain arrays) and the checked path do the same."""
    fast, checked = network(engine_name), network(engine_name)
    optimizer = Adam(0.01)
    for _ in range(4):
        a = fast.train_on_batch(X, Y, "mse", optimizer)
        b = checked.train_on_batch(X.tolist(), Y[::-1][::-1], "mse", Adam(0.01), np.ones(21))
        assert a == pytest.approx(b, rel=1e-13)  # unit weights may be summed otherwise
    np.testing.assert_allclose(fast.parameters, checked.parameters, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rows", [1, 3, 21])
def test_online_batches_may_differ_in_size(engine_name: str, rows: int) -> None:
    model = network(engine_name)
    model.train_on_batch(X[:2], Y[:2], "mse", "sgd")
    value = model.evaluate(X[:rows], Y[:rows], "mse")
    plain = without_dropout(engine_name)
    plain.parameters = model.parameters
    assert plain.train_on_batch(X[:rows], Y[:rows], "mse", "sgd") == pytest.approx(value, rel=1e-13)


def test_online_goes_on_after_a_fit(engine_name: str) -> None:
    model = network(engine_name)
    rule = Adam(0.01)
    model.train_on_batch(X, Y, "mse", rule)
    model.fit(X, Y, "mse", SGD(0.1, momentum=0.9), epochs=2)
    model.train_on_batch(X, Y, "mse", rule)
    step, moments, config = model.optimizer_state()  # type: ignore[misc]
    assert (step, len(moments), config["rule"]["name"]) == (1, 2, "adam")
    assert config["epochs"] == 2


# ----------------------------------------------------------------------- copies


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_goes_on_as_the_original(engine_name: str, duplicate: Any, built: bool) -> None:
    model = network(engine_name, input_size=3 if built else None)
    if built:
        model.fit(X, Y, "mse", Adam(0.01), epochs=2)
    twin = duplicate(model)
    assert twin.engine == model.engine == engine_name
    assert twin.history == model.history
    histories = [m.fit(X, Y, "mse", Adam(0.01), epochs=2, resume=True) for m in (model, twin)]
    assert histories[0] == histories[1]
    assert histories[0].epoch == histories[1].epoch == ([2, 3] if built else [0, 1])
    assert np.array_equal(model.parameters, twin.parameters)
    before = model.parameters
    twin.fit(X, Y, "mse", SGD(1e300), epochs=3)
    assert np.array_equal(model.parameters, before)
    assert not np.isfinite(twin.parameters).all()
    again = duplicate(twin).parameters
    assert np.array_equal(again, twin.parameters, equal_nan=True)


def test_configuration_is_json_and_rebuilds(engine_name: str) -> None:
    model = network(engine_name)
    config = json.loads(json.dumps(model.get_config()))
    twin = Sequential.from_config(config, engine=engine_name)
    assert twin.get_config() == model.get_config()
    assert np.array_equal(twin.parameters, model.parameters)
    model.fit(X, Y, "mse", epochs=1)
    state = model.optimizer_state()
    assert state is not None
    assert json.loads(json.dumps(state[2])) == state[2]


def test_threads_are_chosen_by_the_step(engine_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def choose(wanted: Any, flops: float, dtype: Any) -> int:
        asked.append(flops)
        return 1

    monkeypatch.setattr(threads, "choose", choose)
    model = network(engine_name)
    model.fit(X, Y, "mse", epochs=1, batch_size=10)
    model.fit(X, Y, "mse", epochs=1, batch_size=None)
    assert asked == [6 * 49 * 10, 6 * 49 * 21]
