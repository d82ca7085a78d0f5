"""Every engine has every row of the contract, with the same signatures and manners."""

from __future__ import annotations

import inspect
import signal
import tracemalloc
from types import ModuleType
from typing import Any

import conftest
import numpy as np
import pytest
from networks import OPTIMIZERS as SPECS

from fastnn.kernels.contract import (
    _MODULES,
    ACTIVATIONS,
    KERNELS,
    LOSSES,
    OPTIMIZERS,
    Engine,
    LayerSpec,
    LossSpec,
    Network,
    OptimizerSpec,
    Trainer,
    load,
)

LAYERS = (LayerSpec(3, 5, "tanh", True), LayerSpec(5, 4, "softmax", False))
SIZE = 3 * 5 + 5 + 5 * 4


def public_methods(protocol: type) -> list[str]:
    names = [name for name, value in vars(protocol).items() if inspect.isfunction(value)]
    return [name for name in names if not name.startswith("_")]


def parameters(function: Any) -> list[tuple[str, Any]]:
    """Names and defaults, without self."""
    signature = inspect.signature(function)
    table = [(p.name, p.default) for p in signature.parameters.values()]
    return table[1:] if table and table[0][0] == "self" else table


def network_of(engine: ModuleType, dtype: Any = "float64") -> Any:
    network = engine.Network(LAYERS, np.dtype(dtype))
    network.set_parameters(np.random.default_rng(0).normal(size=SIZE).astype(dtype))
    return network


# --------------------------------------------------------------------------- rows


def test_every_tested_engine_is_one_of_the_contract() -> None:
    assert set(conftest.ENGINES) <= set(_MODULES)
    assert "numpy" in conftest.ENGINES


def test_engine_has_every_row(engine: ModuleType) -> None:
    assert engine.ACTIVATIONS == ACTIVATIONS
    assert engine.LOSSES == LOSSES
    assert engine.OPTIMIZERS == OPTIMIZERS
    assert load(engine.NAME) is engine
    assert isinstance(engine.ISA, str)
    assert engine.ISA


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_signature(engine: ModuleType, kernel: str) -> None:
    assert parameters(getattr(engine, kernel)) == parameters(getattr(Engine, kernel))


def test_the_contract_names_its_kernels() -> None:
    assert tuple(public_methods(Engine)) == KERNELS


@pytest.mark.parametrize("method", public_methods(Network))
def test_network_signature(engine: ModuleType, method: str) -> None:
    wanted = parameters(getattr(Network, method))
    assert parameters(getattr(engine.Network, method)) == wanted


@pytest.mark.parametrize("method", public_methods(Trainer))
def test_trainer_signature(engine: ModuleType, method: str) -> None:
    trainer = network_of(engine).trainer(LossSpec("mse"), SPECS["adam"], 2, 0)
    with trainer:
        have = parameters(getattr(type(trainer), method))
    assert have == parameters(getattr(Trainer, method))


def test_specifications_of_the_tests_cover_every_optimizer() -> None:
    assert {spec.name for spec in SPECS.values()} == set(OPTIMIZERS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_let_nan_through(engine: ModuleType, dtype: np.dtype, activation: str) -> None:
    Z = np.full((1, 21), np.nan, dtype)
    out = np.zeros_like(Z)
    engine.activation_forward(Z, activation, out)
    assert np.isnan(out).all()


# --------------------------------------------------------------------------- networks


def test_parameters_and_state_are_copied(engine: ModuleType, dtype: np.dtype) -> None:
    network = engine.Network(LAYERS, dtype)
    assert network.size == SIZE
    flat = np.arange(SIZE, dtype=dtype)
    network.set_parameters(flat)
    flat[:] = -1
    copy = network.get_parameters()
    assert copy.dtype == dtype
    assert copy.tolist() == list(range(SIZE))
    copy[:] = -1
    assert network.get_parameters().tolist() == list(range(SIZE))

    moment = np.linspace(0, 1, SIZE).astype(dtype)
    network.set_state(12, (moment, 2 * moment))
    step, moments = network.get_state()
    assert step == 12
    assert [m.tolist() for m in moments] == [moment.tolist(), (2 * moment).tolist()]
    assert all(m.dtype == dtype for m in moments)
    moments[0][:] = -1
    assert network.get_state()[1][0].tolist() == moment.tolist()


def test_trainer_keeps_a_state_that_fits(engine: ModuleType, dtype: np.dtype) -> None:
    network = network_of(engine, dtype)
    kept = np.linspace(0, 1, SIZE).astype(dtype)
    network.set_state(9, (kept, kept))
    with network.trainer(LossSpec("mse"), SPECS["adamw"], 4, 0):
        pass
    step, moments = network.get_state()
    assert step == 9
    assert [m.tolist() for m in moments] == [kept.tolist()] * 2
    with network.trainer(LossSpec("mse"), SPECS["adagrad"], 4, 0):
        pass
    step, moments = network.get_state()
    assert step == 0
    assert [m.tolist() for m in moments] == [[0.0] * SIZE]


def test_a_run_cut_in_two_is_the_same_run(engine: ModuleType, dtype: np.dtype) -> None:
    """The state carries on: 3 + 3 epochs in two trainers equal 6 in one, bit by bit."""
    rng = np.random.default_rng(1)
    X, target = rng.normal(size=(20, 3)).astype(dtype), rng.integers(4, size=20)
    loss, rates = LossSpec("cross_entropy", fused=True), np.full(3, 0.01)
    results = []
    for parts in [(range(6),), (range(3), range(3, 6))]:
        network = network_of(engine, dtype)
        for part in parts:
            with network.trainer(loss, SPECS["adam"], 8, 5) as trainer:
                for epoch in part:
                    trainer.epoch(X, target, None, epoch, rates, True)
            assert trainer.steps == 3 * len(part)
        results.append(network.get_parameters())
    assert network.get_state()[0] == 18
    assert (results[0] == results[1]).all()


def odd_forms(X: np.ndarray) -> dict[str, Any]:
    """Forms of a matrix that are not plain."""
    raw = np.zeros(X.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(X.dtype).reshape(X.shape)
    unaligned[...] = X
    return {
        "other dtype": X.astype("float32" if X.dtype == "float64" else "float64"),
        "integers": X.astype(np.int64),
        "big-endian": X.astype(X.dtype.newbyteorder(">")),
        "Fortran order": np.asfortranarray(X),
        "strided": np.repeat(X, 2, axis=0)[::2],
        "unaligned": unaligned,
        "one axis": X.ravel(),
        "three axes": X[np.newaxis],
        "list": X.tolist(),
        "None": None,
    }


def test_predict_takes_plain_matrices_only(engine: ModuleType, dtype: np.dtype) -> None:
    network = network_of(engine, dtype)
    X = np.random.default_rng(0).normal(size=(6, 3)).astype(dtype)
    wanted = network.predict(X)
    assert wanted.shape == (6, 4)
    assert wanted.dtype == dtype
    X.flags.writeable = False
    assert (network.predict(X) == wanted).all()
    for odd in odd_forms(X).values():
        assert network.predict(odd) is None
    assert network.predict(np.zeros((6, 4), dtype)) is None
    assert network.predict(np.zeros((0, 3), dtype)).shape == (0, 4)


def test_predict_lets_nan_and_inf_flow(engine: ModuleType, dtype: np.dtype) -> None:
    network = network_of(engine, dtype)
    X = np.zeros((3, 3), dtype)
    X[1, 0], X[2, 2] = np.nan, np.inf
    output = network.predict(X)
    assert np.isfinite(output[[0, 2]]).all()  # tanh(inf) is 1
    assert np.isnan(output[1]).all()


@pytest.mark.parametrize("labels", [True, False])
def test_step_refuses_and_changes_nothing(
    engine: ModuleType, dtype: np.dtype, labels: bool
) -> None:
    """None for every argument that is not plain, does not fit or is not finite."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(6, 3)).astype(dtype)
    target = rng.integers(4, size=6) if labels else rng.normal(size=(6, 4)).astype(dtype)
    weight = rng.uniform(size=6).astype(dtype)

    def with_value(array: np.ndarray, value: float) -> np.ndarray:
        array = array.copy()
        array.flat[-1] = value
        return array

    bad_X = [*odd_forms(X).values(), X[:5], X[:, :2].copy()]
    bad_X += [with_value(X, value) for value in (np.nan, np.inf, -np.inf)]
    bad_weight = [weight[:5], weight[:, np.newaxis], weight[::-1], weight.tolist()]
    bad_weight += [weight.astype(np.int64), with_value(weight, np.nan), with_value(weight, np.inf)]
    if labels:
        bad_target = [target[:5], target[::-1], target.astype(np.int32), target.astype(dtype)]
        bad_target += [with_value(target, 4), with_value(target, -1), target.tolist(), None]
        bad_target += [target[:, np.newaxis]]
    else:
        bad_target = [*odd_forms(target).values(), target[:5], target[:, :3].copy()]
        bad_target += [with_value(target, value) for value in (np.nan, np.inf, -np.inf)]
        bad_target += [np.zeros(6, np.int64)]  # labels are for the cross-entropies

    network = network_of(engine, dtype)
    loss = LossSpec("cross_entropy", fused=True) if labels else LossSpec("mse")
    with network.trainer(loss, SPECS["adam"], 4, 0) as trainer:
        trainer.step(X, target, weight, 0.01)
        before = network.get_parameters(), *network.get_state()[1]
        for batch in [
            *((bad, target, weight) for bad in bad_X),
            *((X, bad, weight) for bad in bad_target),
            *((X, target, bad) for bad in bad_weight),
            (X[:0], target[:0], None),
        ]:
            assert trainer.step(*batch, 0.01) is None
        assert trainer.steps == 1
        assert network.get_state()[0] == 1
        after = network.get_parameters(), *network.get_state()[1]
        assert all((a == b).all() for a, b in zip(after, before, strict=True))
        assert trainer.step(X, target, None, 0.01) is not None
        assert trainer.steps == 2


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_that_sum_to_zero(engine: ModuleType, dtype: np.dtype, loss: str) -> None:
    network = network_of(engine, dtype)
    X, zeros = np.ones((6, 3), dtype), np.zeros(6, dtype)
    target = np.full((6, 4), 0.5, dtype)
    with network.trainer(LossSpec(loss, 0.5), SPECS["momentum"], 6, 0) as trainer:
        assert trainer.evaluate(X, target, zeros) == 0
        value, gradient = trainer.gradient(X, target, zeros)
        assert value == 0
        assert gradient.dtype == dtype
        assert gradient.tolist() == [0.0] * SIZE
    delta = np.ones((6, 4), dtype)
    assert engine.loss_value_and_delta(target, target, zeros, loss, 0.5, delta) == 0
    assert (delta == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_that_sum_to_zero_hide_an_infinite_loss(
    engine: ModuleType, dtype: np.dtype, loss: str
) -> None:
    largest, zeros = np.finfo(dtype).max, np.zeros(3, dtype)
    output, target = np.full((3, 4), largest, dtype), np.zeros((3, 4), dtype)
    delta = np.ones_like(output)
    assert engine.loss_value_and_delta(output, target, zeros, loss, 0.5, delta) == 0
    assert (delta == 0).all()
    network = engine.Network((LayerSpec(1, 4, "identity", True),), dtype)
    network.set_parameters(np.array([0.0] * 4 + [largest] * 4, dtype))
    X = np.ones((3, 1), dtype)
    with network.trainer(LossSpec(loss, 0.5), SPECS["momentum"], 3, 0) as trainer:
        assert trainer.evaluate(X, target, zeros) == 0
        value, gradient = trainer.gradient(X, target, zeros)
        assert (value, gradient.tolist()) == (0, [0.0] * 8)
        assert trainer.epoch(X, target, zeros, 0, np.array([0.1]), False) == 0


def test_read_only_training_data(engine: ModuleType, dtype: np.dtype) -> None:
    """Engines never write to their inputs, so read-only ones do, and stay what they are."""
    rng = np.random.default_rng(4)
    data = [rng.normal(size=(6, 3)), rng.normal(size=(6, 4)), rng.uniform(size=6)]
    data = [array.astype(dtype) for array in data]
    copies = [array.copy() for array in data]
    for array in data:
        array.flags.writeable = False
    network = network_of(engine, dtype)
    with network.trainer(LossSpec("mse"), SPECS["adam"], 4, 0) as trainer:
        trainer.epoch(*data, 0, np.full(2, 0.01), True)
        trainer.step(*data, 0.01)
        trainer.gradient(*data)
        trainer.evaluate(*data)
    network.predict(data[0])
    network.input_gradient(data[0], np.array([0]))
    assert all((a == b).all() for a, b in zip(data, copies, strict=True))


def test_losses_are_python_floats(engine: ModuleType, dtype: np.dtype) -> None:
    network = network_of(engine, dtype)
    X, target = np.ones((4, 3), dtype), np.array([0, 1, 2, 3])
    with network.trainer(LossSpec("cross_entropy", fused=True), SPECS["sgd"], 4, 0) as trainer:
        values = [
            trainer.epoch(X, target, None, 0, np.array([0.1]), True),
            trainer.step(X, target, None, 0.1),
            trainer.evaluate(X, target, None),
            trainer.gradient(X, target, None)[0],
        ]
    assert [type(value) for value in values] == [float] * 4


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_leaves_whole_steps(engine: ModuleType, threads: int) -> None:
    """A signal in the middle of an epoch: the network is as after the steps it counts.

    The epoch is one of a million steps of one row, of which some are done when the
    signal comes; repeating just those must lead to the same bits.
    """
    layers = (LayerSpec(4, 40, "relu", True), LayerSpec(40, 1, "identity", True))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1_000_000, 4)).astype(np.float32)
    target = X[:, :1].copy()
    start = rng.normal(0, 0.3, 241).astype(np.float32)

    def run(rows: int) -> Any:
        network = engine.Network(layers, np.dtype("float32"))
        network.set_parameters(start)
        with network.trainer(LossSpec("mse"), SPECS["adam"], 1, 0, threads) as trainer:
            try:
                trainer.epoch(X[:rows], target[:rows], None, 0, np.full(rows, 1e-3), False)
            except KeyboardInterrupt:
                assert 0 < trainer.steps < rows
        assert network.get_state()[0] == trainer.steps
        return network

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    run(2)  # the first time, an engine may compile
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        interrupted = run(len(X))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    steps, moments = interrupted.get_state()
    assert steps < len(X)
    repeated = run(steps)
    assert (interrupted.get_parameters() == repeated.get_parameters()).all()
    for have, want in zip(moments, repeated.get_state()[1], strict=True):
        assert (have == want).all()


def test_subnormal_numbers_survive_outside(engine: ModuleType, dtype: np.dtype) -> None:
    """Whatever an engine does to them inside, NumPy has them again afterwards."""
    small = np.full(4, np.finfo(dtype).tiny, dtype)
    network = network_of(engine, dtype)
    X, target = np.ones((50, 3), dtype), np.ones((50, 4), dtype)
    with network.trainer(LossSpec("mse"), SPECS["adam"], 50, 0, 2) as trainer:
        trainer.epoch(X, target, None, 0, np.array([0.1]), True)
        trainer.evaluate(X, target, None)
        network.predict(X, 2)
        network.input_gradient(X, np.array([0]))
        engine.linear_forward(X, np.ones((3, 4), dtype), None, "gelu", target)
        engine.activation_forward(X, "tanh", X)
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
            assert not engine.all_finite(wrong)
            assert not engine.all_finite(wrong.T[::-1])
            assert not engine.all_finite(wrong[:, position[1]])
            assert not engine.all_finite(wrong[(*position, ...)])
        record["value"][39] = bad
        assert not engine.all_finite(record["value"])


def test_all_finite_makes_no_copy(engine: ModuleType) -> None:
    values = np.ones((2000, 1000))
    for form in (values, values[:, ::2], values.T):
        tracemalloc.start()
        assert engine.all_finite(form)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000  # of 8 to 16 MB


def test_optimizer_specification_defaults_do_nothing() -> None:
    """An option left out is an option off."""
    assert OptimizerSpec("sgd", 0) == OptimizerSpec("sgd", 0, 0, False, 0, 0, 0, 0, 0, 0)
