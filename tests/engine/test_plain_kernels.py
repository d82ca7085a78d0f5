"""``fastnn.kernels``: the public kernels take any layout, refuse what does not fit, write in place.

Numbers are checked where the engines are (test_kernels_agree.py); here it is the checks and
the allocation around them, with NumPy expressions as the truth.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from networks import OPTIMIZERS, layouts

from fastnn import kernels


@pytest.fixture(params=[None, "cython", "numba", "numpy"], ids=str)
def engine(request: pytest.FixtureRequest) -> str | None:
    return request.param


def results(engine: str | None, arrays: list[np.ndarray]) -> list[Any]:
    """What every kernel makes of X (9, 5), W (5, 7), delta, target (9, 7), b (7,), w (9,)."""
    X, W, d, t, b, w = arrays
    labels = np.arange(9) % 7
    return [
        kernels.linear_forward(X, W, b, "tanh", engine=engine),
        *kernels.linear_backward(X, W, d, engine=engine),
        kernels.activation_forward(d, "gelu", engine=engine),
        kernels.activation_backward(d, t, "softmax", engine=engine),
        *kernels.loss_value_and_delta(d, t, "cross_entropy", w, engine=engine),
        *kernels.loss_value_and_delta(d, labels, "cross_entropy", w, engine=engine),
        kernels.all_finite(X, engine=engine),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layouts_give_equal_results(engine: str | None, dtype: str) -> None:
    rng = np.random.default_rng(0)
    sizes = ((9, 5), (5, 7), (9, 7), (9, 7), (7,), (9,))
    arrays = [rng.random(size).astype(dtype) - 0.2 for size in sizes]
    X, W, d, _, b, _ = arrays
    plain = results(engine, arrays)
    # terms of size 1 that cancel leave some roundings of 2**-24 each
    for have, want in zip(plain, (np.tanh(X @ W + b), d @ W.T, X.T @ d, d.sum(0)), strict=False):
        assert np.allclose(have, want, rtol=1e-5, atol=1e-6)
    for form in layouts(X):
        others = results(engine, [layouts(array)[form] for array in arrays])
        for have, want in zip(others, plain, strict=True):
            assert np.asarray(have).dtype == np.asarray(want).dtype
            assert np.array_equal(have, want), form
    assert {a.dtype.name for a in plain if isinstance(a, np.ndarray)} == {dtype}


def test_out_is_filled_and_returned(engine: str | None) -> None:
    rng = np.random.default_rng(1)
    X, W = rng.normal(size=(6, 4)), rng.normal(size=(4, 3))
    want = kernels.linear_forward(X, W, activation="relu", engine=engine)
    for out in layouts(np.full((6, 3), np.nan)).values():
        if out.flags.writeable and out.dtype.isnative:
            assert kernels.linear_forward(X, W, None, "relu", out, engine) is out
            assert (out == want).all()
    Z = X.copy()
    assert kernels.activation_forward(Z, "elu", Z, engine) is Z
    assert (Z == kernels.activation_forward(X, "elu", engine=engine)).all()
    W = rng.normal(size=(4, 4))
    for first in (0, 1):  # an output that overlaps an input, too long for one tile of rows
        long = rng.normal(size=(1001, 4))
        apart = kernels.linear_forward(long[:-1], W, engine=engine)
        out = long[first : first + 1000]
        assert (kernels.linear_forward(long[:-1], W, out=out, engine=engine) == apart).all()


def test_other_numbers_become_floats(engine: str | None) -> None:
    counts = np.arange(6).reshape(2, 3)
    result = kernels.linear_forward(counts, counts.T, engine=engine)
    assert result.dtype == np.float64
    assert (result == counts @ counts.T).all()
    assert kernels.activation_forward([True, False], "identity", engine=engine).dtype == np.float32
    assert kernels.activation_forward(np.float16([1, -1]), "relu", engine=engine).tolist() == [1, 0]


def test_an_update_is_made_in_place(engine: str | None) -> None:
    start, g = np.abs(np.random.default_rng(2).normal(size=(3, 37))), np.ones(37)
    have, want = start.copy(), start.copy()
    for (p, *moments), by in ((have, engine), (want, "numpy")):
        kernels.optimizer_update(p, g, tuple(moments), SPEC, 0.1, 1, engine=by)
    assert np.allclose(have, want, rtol=1e-12, atol=1e-14)
    assert (have != start).all()


def test_a_sum_over_nothing_is_zero(engine: str | None) -> None:
    """Axes of length 0, in any place; softmax of no class and the mean of no row too."""
    full = np.full
    for n, inputs, outputs in itertools.product((0, 40), (0, 3), (0, 2)):
        X, W, d = np.ones((n, inputs)), np.ones((inputs, outputs)), np.ones((n, outputs))
        for bias in (None, np.ones(outputs)):
            want = full((n, outputs), inputs + (bias is not None))
            have = kernels.linear_forward(X, W, bias, "relu", full((n, outputs), 9.0), engine)
            assert (have == want).all()
        into = [full(shape, 9.0) for shape in ((n, inputs), (inputs, outputs), (outputs,))]
        have = kernels.linear_backward(X, W, d, *into, engine=engine)
        for array, place, value in zip(have, into, (outputs, n, n), strict=True):
            assert array is place
            assert (array == value).all()
        for activation in ("gelu", "softmax"):
            assert kernels.activation_forward(d, activation, engine=engine).shape == d.shape
            assert kernels.activation_backward(d, d, activation, engine=engine).shape == d.shape
        value, delta = kernels.loss_value_and_delta(d, 0 * d, "mse", engine=engine)
        assert (value, delta.shape) == (1.0 if d.size else 0.0, d.shape)
        assert kernels.all_finite(d, engine)
    nothing = np.empty(0)
    kernels.optimizer_update(nothing, nothing, (nothing,) * 2, SPEC, 0.1, 1, engine)


X34, W42 = np.zeros((3, 4)), np.zeros((4, 2))
SPEC = OPTIMIZERS["adam"]
forward, loss_of = kernels.linear_forward, kernels.loss_value_and_delta


def update(p: Any, g: Any, moments: Any, step: int = 1) -> None:
    kernels.optimizer_update(p, g, moments, SPEC, 0.1, step)


REFUSED = {
    "inner sizes": (lambda: forward(X34, W42.T), ValueError, "weight must have"),
    "1-D X": (lambda: forward(X34[0], W42), ValueError, "X must have shape"),
    "bias": (lambda: forward(X34, W42, np.zeros(3)), ValueError, "bias must"),
    "activation": (lambda: forward(X34, W42, None, "relo"), ValueError, "'relo': did you mean 're"),
    "engine": (lambda: kernels.all_finite(X34, engine="fast"), ValueError, "unknown engine"),
    "complex": (lambda: kernels.activation_forward([1j], "relu"), TypeError, "real numbers"),
    "object": (lambda: kernels.all_finite(np.array([None])), TypeError, "real numbers"),
    "text": (lambda: forward(X34, W42.astype(str)), TypeError, "real numbers"),
    "long double": (lambda: forward(X34.astype("g"), W42), TypeError, "float32 and float64"),
    "out shape": (lambda: forward(X34, W42, out=np.zeros((3, 3))), ValueError, "out must be"),
    "out dtype": (lambda: forward(X34, W42, out=np.zeros((3, 2), "f4")), ValueError, "out must be"),
    "out list": (lambda: forward(X34, W42, out=[0]), TypeError, "must be an array"),
    "out read-only": (
        lambda: forward(X34, W42, out=np.broadcast_to(0.0, (3, 2))), ValueError, "read-only"
    ),
    "delta": (lambda: kernels.linear_backward(X34, W42, X34), ValueError, "delta must have"),
    "label": (
        lambda: loss_of(X34, [0, 1, 4], "cross_entropy"), ValueError, "labels must lie .* 0 and 3"
    ),
    "no class": (
        lambda: loss_of(X34[:, :0], [0, 0, 0], "cross_entropy"), ValueError, "labels must lie"
    ),
    "labels": (lambda: loss_of(X34, [0, 1], "cross_entropy"), ValueError, "target must have"),
    "labels of mse": (lambda: loss_of(X34, [0, 1, 2], "mse"), ValueError, "target must have"),
    "weights": (lambda: loss_of(X34, X34, "mse", [1.0]), ValueError, "weight must have"),
    "loss": (lambda: loss_of(X34, X34, "hubert"), ValueError, "did you mean 'huber'"),
    "moments": (lambda: update(np.zeros(3), np.zeros(3), ()), ValueError, "keeps 2 moments"),
    "step": (
        lambda: update(np.zeros(3), np.zeros(3), (np.zeros(3),) * 2, 0), ValueError, "counts from 1"
    ),
    "gradient": (
        lambda: update(np.zeros(3), np.zeros(2), (np.zeros(3),) * 2), ValueError, "gradient must"
    ),
    "parameters": (lambda: update([0.0], np.zeros(1), ()), TypeError, "parameters must be"),
    "integer parameters": (
        lambda: update(np.zeros(3, int), np.zeros(3), (np.zeros(3, int),) * 2), TypeError,
        "must be float32 or float64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()
