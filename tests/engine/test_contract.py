"""Every engine has every row of the contract, with the same signatures and manners."""

from __future__ import annotations

import inspect
import tracemalloc
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastnn.kernels import contract
from fastnn.kernels.contract import ACTIVATIONS, LOSSES, LossSpec, OptimizerSpec, TensorSpec
from fastnn.kernels.loader import load
from networks import OPTIMIZERS as SPECS
from networks import layouts

LAYERS = (
    contract.dense(3, 5, "tanh"),
    contract.layer_norm(5),
    contract.scale(5),
    contract.dense(5, 4, "softmax", use_bias=False),
)
SIZE = (3 * 5 + 5) + (5 + 5) + 5 + 5 * 4


def public_methods(protocol: type) -> dict[str, Any]:
    methods = {name: value for name, value in vars(protocol).items() if inspect.isfunction(value)}
    return {name: value for name, value in methods.items() if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any]]:
    """Names and defaults, without self."""
    signature = inspect.signature(function)
    table = [(p.name, p.default) for p in signature.parameters.values()]
    return table[1:] if table and table[0][0] == "self" else table


def network_of(engine: ModuleType, dtype: Any = "float64") -> Any:
    network = engine.Network(LAYERS, np.dtype(dtype))
    network.set_parameters(np.random.default_rng(0).normal(size=SIZE).astype(dtype))
    return network


def data_of(dtype: Any) -> list[np.ndarray]:
    """X, target and weight of six rows, read-only."""
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=(6, 3)), rng.normal(size=(6, 4)), rng.uniform(size=6)]
    arrays = [array.astype(dtype) for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    return arrays


def state_of(network: Any) -> list[Any]:
    """Step, parameters and moments, to compare."""
    step, moments = network.get_state()
    return [step, network.get_parameters().tolist(), *(m.tolist() for m in moments)]


# --------------------------------------------------------------------------- the page itself


def test_layers_name_their_tensors() -> None:
    dense, norm = contract.dense, contract.layer_norm
    own = dense(2, 3, factors=(2.0, 0.0), bias_factors=(0.5, 1.0))
    assert dense(2, 3, use_bias=False).tensors == (TensorSpec("weight", (2, 3)),)
    assert own.tensors == (TensorSpec("weight", (2, 3), 2, 0), TensorSpec("bias", (3,), 0.5, 1))
    assert dense(2, 3, factors=(2.0, 0.0)).tensors[1] == TensorSpec("bias", (3,), 2, 0)
    bare = [norm(3, scale=False), norm(3, shift=False), norm(3, scale=False, shift=False)]
    names = [[tensor.name for tensor in spec.tensors] for spec in bare]
    assert names == [["shift"], ["scale"], []]
    for spec in (own, norm(3), contract.scale(3)):
        row = contract.KINDS[spec.kind]
        assert tuple(tensor.name for tensor in spec.tensors) == row.tensors
        assert {*row.starts, "weight"} >= {*row.tensors} >= {*row.penalised}
        assert len(spec.numbers) == len(row.numbers)
        assert spec.flops == row.flops * spec.size


def test_views_take_a_flat_vector_apart() -> None:
    flat = np.arange(SIZE)
    assert contract.size(LAYERS) == SIZE
    views = contract.views(LAYERS, flat)
    shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in views]
    middle = [{"scale": (5,), "shift": (5,)}, {"scale": (5,)}]
    assert shapes == [{"weight": (3, 5), "bias": (5,)}, *middle, {"weight": (5, 4)}]
    assert [x for tensors in views for t in tensors.values() for x in t.flat] == flat.tolist()
    views[1]["shift"][0] = -1
    assert flat[25] == -1


def test_optimizers_take_their_numbers_by_name() -> None:
    spec = contract.optimizer("adam_hat", epsilon=3, beta_1=1, beta_2=2, l2=0.5)
    assert spec == OptimizerSpec("adam_hat", (1, 2, 3), l2=0.5)
    assert (spec.number("beta_2"), spec.moments, spec.state) == (2, 2, "adam")
    assert contract.optimizer("sgd") == OptimizerSpec("sgd", (), 0, 0, 0, False)
    with pytest.raises(KeyError, match="epsilon"):
        contract.optimizer("adam", beta_1=1, beta_2=2)
    with pytest.raises(TypeError, match="sgd has no momentum"):
        contract.optimizer("sgd", momentum=0.9)


def test_names_mean_one_row() -> None:
    for table in (ACTIVATIONS, LOSSES):
        names = [*table, *(name for row in table.values() for name in row.names)]
        assert len(names) == len(set(names))
    assert {row.fused_with for row in LOSSES.values()} <= {None, *ACTIVATIONS}
    assert {row.of_probabilities for row in LOSSES.values()} <= {None, *LOSSES}


# --------------------------------------------------------------------------- rows


def test_engine_has_every_row(engine: ModuleType) -> None:
    for table in ("ACTIVATIONS", "LOSSES", "OPTIMIZERS", "KINDS"):
        assert tuple(getattr(engine, table)) == tuple(getattr(contract, table))
    assert load(engine.NAME) is engine
    assert isinstance(engine.ISA, str)
    assert engine.ISA


def test_signatures(engine: ModuleType) -> None:
    with network_of(engine).trainer(LossSpec("mse"), SPECS["adam"], 2, 0) as trainer:
        homes = {"Engine": engine, "Network": engine.Network, "Trainer": type(trainer)}
    for protocol, home in homes.items():
        for name, wanted in public_methods(getattr(contract, protocol)).items():
            assert parameters(getattr(home, name)) == parameters(wanted), name
    assert tuple(public_methods(contract.Engine)) == contract.KERNELS


# --------------------------------------------------------------------------- networks


def test_parameters_and_state_are_copied(engine: ModuleType, dtype: np.dtype) -> None:
    network = engine.Network(LAYERS, dtype)
    assert network.size == SIZE
    flat = np.arange(SIZE, dtype=dtype)
    moment = np.linspace(0, 1, SIZE).astype(dtype)
    network.set_parameters(flat)
    network.set_state(12, (moment, 2 * moment))
    wanted = [12, flat.tolist(), moment.tolist(), (2 * moment).tolist()]
    flat[:] = moment[:] = -1
    assert state_of(network) == wanted
    for copy in (network.get_parameters(), *network.get_state()[1]):
        assert copy.dtype == dtype
        copy[:] = -1
    assert state_of(network) == wanted


@pytest.mark.parametrize(
    ("optimizer", "is_kept"), [("adamw", True), ("nadam", True), (None, True), ("adagrad", False)]
)
def test_trainer_keeps_a_state_that_fits(
    engine: ModuleType, dtype: np.dtype, optimizer: str | None, is_kept: bool
) -> None:
    """One without an optimizer leaves it alone, also when it has evaluated."""
    network = network_of(engine, dtype)
    kept = np.linspace(0, 1, SIZE).astype(dtype)
    network.set_state(9, (kept, kept))
    before = state_of(network)
    spec = None if optimizer is None else SPECS[optimizer]
    with network.trainer(LossSpec("mse"), spec, 4, 0) as trainer:
        assert trainer.gradient(*data_of(dtype))[0] == trainer.evaluate(*data_of(dtype)) > 0
    if not is_kept:
        before = [0, before[1], [0.0] * SIZE]
    assert state_of(network) == before


def test_a_run_cut_in_two_is_the_same_run(engine: ModuleType, dtype: np.dtype) -> None:
    """The state carries on: 3 + 3 epochs in two trainers equal 6 in one, bit by bit."""
    rng = np.random.default_rng(1)
    X, target = rng.normal(size=(20, 3)).astype(dtype), rng.integers(4, size=20)
    loss, rates = LossSpec("cross_entropy", fused=True), np.full(3, 0.01)
    results = []
    for parts in [(range(6),), (range(3), range(3, 6))]:
        network = network_of(engine, dtype)
        for part in parts:
            with network.trainer(loss, SPECS["nadam"], 8, 5) as trainer:
                for epoch in part:
                    trainer.epoch(X, target, None, epoch, rates, True)
            assert trainer.steps == 3 * len(part)
        results.append(state_of(network))
    assert results[0][0] == 18
    assert results[0] == results[1]


def test_layers_without_tensors_train_none(engine: ModuleType, dtype: np.dtype) -> None:
    """A network of them alone has no parameter, and an output."""
    layers = (contract.layer_norm(4, 0.5, scale=False, shift=False, dropout=0.5),)
    network = engine.Network(layers, dtype)
    X = np.array([[1, 1, 3, 3], [2, 2, 2, 2]], dtype)
    wanted = np.array([[-1, -1, 1, 1], [0] * 4]) / np.sqrt(1.5)
    assert network.predict(X) == pytest.approx(wanted, rel=1e-6)
    with network.trainer(LossSpec("mse"), SPECS["adam"], 1, 0) as trainer:
        value, gradient = trainer.gradient(X, np.zeros_like(X), None)
        assert value == pytest.approx(1 / 3, rel=1e-6)
        assert gradient.shape == network.get_parameters().shape == (0,)
        trainer.epoch(X, X, None, 0, np.full(2, 0.1), True)
        assert trainer.steps == 2


def odd_forms(X: np.ndarray) -> list[Any]:
    """Forms of a matrix that are not plain."""
    other = "float32" if X.dtype == "float64" else "float64"
    forms = layouts(X)
    odd = [forms[name] for name in ("fortran", "strided", "reversed", "unaligned", "big-endian")]
    return [*odd, X.astype(other), X.astype(np.int64), X.ravel(), X[np.newaxis], X.tolist(), None]


def test_predict_takes_plain_matrices_only(engine: ModuleType, dtype: np.dtype) -> None:
    """Of any numbers: NaN and inf flow."""
    network, (X, _, _) = network_of(engine, dtype), data_of(dtype)
    wanted = network.predict(X)
    assert wanted.shape == (6, 4)
    assert wanted.dtype == dtype
    for odd in odd_forms(X):
        assert network.predict(odd) is None
    assert network.predict(np.zeros((6, 4), dtype)) is None
    assert network.predict(np.zeros((0, 3), dtype)).shape == (0, 4)
    odd = X.copy()
    odd[1, 0], odd[2, 2] = np.nan, np.inf
    output = network.predict(odd)
    assert (output[3:] == wanted[3:]).all()
    assert np.isfinite(output[2]).all()  # tanh(inf) is 1
    assert np.isnan(output[1]).all()


def with_last(array: np.ndarray, *values: float) -> list[np.ndarray]:
    """Copies whose last element is one of the values."""
    copies = [np.append(array.ravel()[:-1], value).astype(array.dtype) for value in values]
    return [copy.reshape(array.shape) for copy in copies]


@pytest.mark.parametrize("labels", [True, False])
def test_step_refuses_and_changes_nothing(
    engine: ModuleType, dtype: np.dtype, labels: bool
) -> None:
    """None for every argument that is not plain, does not fit or is not finite."""
    X, target, weight = data_of(dtype)
    target = target.argmax(axis=1) if labels else target
    odd = np.nan, np.inf, -np.inf

    bad_X = [*odd_forms(X), X[:5], X[:, :2].copy(), *with_last(X, *odd)]
    bad_weight = [weight[:5], weight[:, np.newaxis], weight[::-1], weight.tolist()]
    bad_weight += [weight.astype(np.int64), *with_last(weight, *odd)]
    if labels:
        bad_target = [target[::-1], target.astype(np.int32), target.astype(dtype), target.tolist()]
        bad_target += [*with_last(target, 4, -1), target[:5], target[:, np.newaxis], None]
    else:  # mse takes no labels
        bad_target = [*odd_forms(target), *with_last(target, *odd), np.zeros(6, np.int64)]
        bad_target += [target[:5], target[:, :3].copy()]

    network = network_of(engine, dtype)
    loss = LossSpec("cross_entropy", fused=True) if labels else LossSpec("mse")
    with network.trainer(loss, SPECS["adam"], 4, 0) as trainer:
        trainer.step(X, target, weight, 0.01)
        before = state_of(network)
        for batch in [
            *((bad, target, weight) for bad in bad_X),
            *((X, bad, weight) for bad in bad_target),
            *((X, target, bad) for bad in bad_weight),
            (X[:0], target[:0], None),
        ]:
            assert trainer.step(*batch, 0.01) is None
        assert trainer.steps == 1
        assert state_of(network) == before
        assert trainer.step(X, target, None, 0.01) is not None
        assert trainer.steps == 2


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_that_sum_to_zero(engine: ModuleType, dtype: np.dtype, loss: str) -> None:
    """Loss and gradient are zero, also where they would be infinite."""
    largest, zeros = np.finfo(dtype).max, np.zeros(3, dtype)
    target = np.zeros((3, 4), dtype)
    for number in (dtype.type(0.5), largest):
        output, delta = np.full((3, 4), number, dtype), np.ones((3, 4), dtype)
        assert engine.loss_value_and_delta(output, target, zeros, loss, 0.5, delta) == 0
        assert (delta == 0).all()
        network = engine.Network((contract.dense(1, 4),), dtype)
        network.set_parameters(np.array([0.0] * 4 + [number] * 4, dtype))
        X = np.ones((3, 1), dtype)
        with network.trainer(LossSpec(loss, 0.5), SPECS["momentum"], 3, 0) as trainer:
            assert trainer.evaluate(X, target, zeros) == 0
            value, gradient = trainer.gradient(X, target, zeros)
            assert gradient.dtype == dtype
            assert (value, gradient.tolist()) == (0, [0.0] * 8)
            assert trainer.epoch(X, target, zeros, 0, np.array([0.1]), False) == 0


def test_read_only_training_data(engine: ModuleType, dtype: np.dtype) -> None:
    """Engines never write to their inputs, so read-only ones do, and stay what they are.

    Losses are Python's floats.
    """
    data, copies = data_of(dtype), data_of(dtype)
    network = network_of(engine, dtype)
    with network.trainer(LossSpec("mse"), SPECS["adam"], 4, 0) as trainer:
        values = [
            trainer.epoch(*data, 0, np.full(2, 0.01), True),
            trainer.step(*data, 0.01),
            trainer.gradient(*data)[0],
            trainer.evaluate(*data),
            trainer.penalty,
        ]
    assert [type(value) for value in values] == [float] * 5
    network.predict(data[0])
    network.input_gradient(data[0], np.array([0]))
    assert all((a == b).all() for a, b in zip(data, copies, strict=True))


def test_subnormal_numbers_survive_outside(engine: ModuleType, dtype: np.dtype) -> None:
    """Whatever an engine does to them inside, NumPy has them again afterwards."""
    small = np.full(4, np.finfo(dtype).tiny, dtype)
    network = network_of(engine, dtype)
    X, target, _ = data = data_of(dtype)
    with network.trainer(LossSpec("mse"), SPECS["adam"], 50, 0, 2) as trainer:
        trainer.epoch(*data, 0, np.array([0.1]), True)
        trainer.evaluate(*data)
        network.predict(X, 2)
        network.input_gradient(X, np.array([0]))
        engine.linear_forward(X, np.ones((3, 4), dtype), None, "gelu", np.empty_like(target))
        engine.activation_forward(X, "tanh", np.empty_like(X))
        assert (small / 4 > 0).all()
    assert (small / 4 > 0).all()


# --------------------------------------------------------------------------- all_finite


def test_all_finite(engine: ModuleType, dtype: np.dtype) -> None:
    """NaN and inf are found wherever they are, through strides of any kind."""
    record = np.ones(40, [("name", "S3"), ("value", dtype)])  # strides of no whole number
    values = np.full((40, 30), np.finfo(dtype).max, dtype)
    values.flags.writeable = False
    forms = [values, values.T, values[::3, ::-2], values[:0], values[0, 0, ...], values[None, :, 3]]
    assert all(engine.all_finite(form) for form in [*forms, record["value"]])
    for bad in (np.nan, np.inf, -np.inf):
        for position in [(0, 0), (39, 29), (17, 5)]:
            wrong = np.ones((40, 30), dtype)
            wrong[position] = bad
            forms = [wrong, wrong.T[::-1], wrong[:, position[1]], wrong[(*position, ...)]]
            assert not any(engine.all_finite(form) for form in forms)
        record["value"][39] = bad
        assert not engine.all_finite(record["value"])


def test_all_finite_makes_no_copy(engine: ModuleType) -> None:
    values = np.ones((2000, 1000))
    tracemalloc.start()
    assert all(engine.all_finite(form) for form in (values, values[:, ::2], values.T))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # of 8 to 16 MB
