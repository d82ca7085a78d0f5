"""Odd arrays that are accepted: the results are equal to those of the plain ones."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastnn.kernels.contract import LossSpec

from fastnn import Dense, Sequential
from fastnn.checks.arrays import Gate

ROWS, INPUTS, OUTPUTS = 10, 4, 3
GENERATOR = np.random.default_rng(6)

#: Small integers: every accepted dtype holds them exactly.
X = GENERATOR.integers(0, 2, size=(ROWS, INPUTS)).astype(np.float64)
Y = GENERATOR.integers(0, 2, size=(ROWS, OUTPUTS)).astype(np.float64)
LABELS = GENERATOR.integers(0, 2, size=ROWS)
WEIGHT = GENERATOR.integers(0, 2, size=ROWS).astype(np.float64)


class Framelike:
    """What NumPy asks of a data frame."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


def misaligned(array: np.ndarray) -> np.ndarray:
    buffer = bytearray(array.nbytes + 1)
    view = np.frombuffer(buffer, array.dtype, array.size, offset=1).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def mapped(array: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / f"{array.size}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def strided(array: np.ndarray) -> np.ndarray:
    wide = np.full([2 * n for n in array.shape], -1, array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def cast(dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array.astype(dtype)


#: On any array, of floats or labels.
LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "reversed": lambda array: np.ascontiguousarray(array[::-1])[::-1],
    "read-only": read_only,
    "misaligned": misaligned,
    "subclass": lambda array: array.view(type("Sub", (np.ndarray,), {})),
    "list": lambda array: array.tolist(),
    "tuple of arrays": tuple,
    "frame-like": Framelike,
    "broadcast": lambda array: np.broadcast_to(array, (2, *array.shape))[1],
}

FLOATS = ["float16", "float32", "float64", "longdouble", ">f4", ">f8"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", ">i4", "bool"]
MAKERS = LAYOUTS | {name: cast(name) for name in FLOATS + INTEGERS}


def results(engine_name: str, dtype: str, data: tuple[Any, Any, str, Any]) -> list[Any]:
    """What everything that takes arrays gives for X, Y, a loss and weights."""
    X, Y, loss, weight = data
    layers = [Dense(5, activation="tanh"), Dense(OUTPUTS)]
    model = Sequential(layers, input_size=INPUTS, dtype=dtype, seed=2, engine=engine_name)
    found: list[Any] = [
        model.predict(X),
        model.evaluate(X, Y, loss, sample_weight=weight),
        *model.loss_and_gradient(X, Y, loss, sample_weight=weight),
        model.input_gradient(X),
    ]
    for _ in range(2):
        found.append(model.train_on_batch(X, Y, loss, "adam", weight))
    history = model.fit(
        X, Y, loss, epochs=2, batch_size=4, sample_weight=weight, validation_data=(X, Y, weight)
    )
    return [*found, *history.values(), model.parameters]


def assert_equal_results(engine_name: str, dtype: str, odd: Any, plain: Any) -> None:
    given, expected = (results(engine_name, dtype, data) for data in (odd, plain))
    for a, b in zip(given, expected, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*MAKERS, "memory-mapped"])
def test_odd_arrays_give_equal_results(
    engine_name: str, dtype: str, name: str, tmp_path: Path
) -> None:
    make = MAKERS.get(name, lambda array: mapped(array, tmp_path))
    plain_X, plain_Y, plain_weight = (array.astype(dtype) for array in (X, Y, WEIGHT))
    odd = make(plain_X), make(plain_Y), "mse", make(plain_weight)
    assert_equal_results(engine_name, dtype, odd, (plain_X, plain_Y, "mse", plain_weight))


@pytest.mark.parametrize("name", [*LAYOUTS, *INTEGERS])
def test_odd_labels_give_equal_results(engine_name: str, name: str) -> None:
    rest = "cross_entropy", None
    odd, plain = (
        (X.astype(np.float32), labels, *rest) for labels in (MAKERS[name](LABELS), LABELS)
    )
    assert_equal_results(engine_name, "float32", odd, plain)


def test_a_column_may_be_one_dimensional(engine_name: str) -> None:
    runs = []
    for y in (Y[:, 0], Y[:, :1], Y[:, 0].tolist(), Y[:, 0].astype(bool)):
        model = Sequential([Dense(1)], input_size=INPUTS, seed=2, engine=engine_name)
        model.fit(X, y, "binary_cross_entropy", epochs=2)
        runs.append(model.parameters)
    assert all(np.array_equal(run, runs[0]) for run in runs)


def test_one_hot_rows_may_be_bools(engine_name: str) -> None:
    model = Sequential([Dense(2)], input_size=INPUTS, seed=2, engine=engine_name)
    rows = np.eye(2)[LABELS]
    assert model.evaluate(X, rows.astype(bool), "cross_entropy") == model.evaluate(
        X, rows, "cross_entropy"
    )


def test_float16_probabilities_may_sum_to_almost_one(engine_name: str) -> None:
    logits = GENERATOR.normal(size=(ROWS, 20))
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    model = Sequential([Dense(20)], input_size=INPUTS, seed=2, engine=engine_name)
    given = model.evaluate(X, rows.astype(np.float16), "cross_entropy")
    assert given == pytest.approx(model.evaluate(X, rows, "cross_entropy"), rel=1e-3)


def test_the_smallest_and_largest_numbers_pass(engine_name: str) -> None:
    model = Sequential([Dense(1)], input_size=1, engine=engine_name)
    largest = float(np.finfo(np.float32).max)
    for value in (largest, -largest, 1e-300, np.nextafter(0, 1), 2**63 - 1):
        assert model.predict([[value]]).shape == (1, 1)
        model.evaluate([[value]], [[0.0]], "mae")


def gate(engine: ModuleType, dtype: str) -> Gate:
    return Gate(np.dtype(dtype), engine)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_plain_arrays_are_not_copied(engine: ModuleType, dtype: str, tmp_path: Path) -> None:
    g, loss = gate(engine, dtype), LossSpec("mse")
    for make in (lambda a: a, read_only, lambda a: mapped(a, tmp_path)):
        plain_X, plain_Y, weight = (make(array.astype(dtype)) for array in (X, Y, WEIGHT))
        assert np.shares_memory(g.matrix(plain_X, INPUTS), plain_X)
        assert np.shares_memory(g.target(plain_Y, loss, (ROWS, OUTPUTS)), plain_Y)
        assert np.shares_memory(g.sample_weight(weight, ROWS, "w"), weight)
    column = Y[:, 0].astype(dtype)
    assert np.shares_memory(g.target(column, loss, (ROWS, 1)), column)
    target = g.target(LABELS, LossSpec("cross_entropy"), (ROWS, 2))
    assert np.shares_memory(target, LABELS)


@pytest.mark.parametrize(
    "make", [cast("float64"), np.asfortranarray, strided, misaligned, cast(">f4")]
)
def test_what_is_converted_is_plain(engine: ModuleType, make: Callable[..., Any]) -> None:
    result = gate(engine, "float32").matrix(make(X.astype(np.float32)), INPUTS)
    assert result.dtype == np.float32
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    assert result.flags.aligned
    assert type(result) is np.ndarray


def test_a_scan_needs_no_temporary_array(engine: ModuleType) -> None:
    big = np.ones((1000, 1000), np.float32)
    tracemalloc.start()
    try:
        gate(engine, "float32").matrix(big, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < big.size / 4  # bytes: a quarter of what even a mask of bools would take
