"""``fastnn.kernels``: the public kernels take any layout, refuse what does not fit, write in place.

Numbers are checked where the engines are (test_kernels_agree.py); here it is the checks and
the allocation around them, with NumPy expressions as the truth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import kernels

ENGINES = [None, "cython", "numba", "numpy"]


@pytest.fixture(params=ENGINES, ids=str)
def engine(request: pytest.FixtureRequest) -> str | None:
    return request.param


def forms(array: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers in every layout that a caller may have."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1] + 3), array.dtype)
    wide[..., 1 : 2 * array.shape[-1] + 1 : 2] = array
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    raw[...] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    return {
        "plain": array,
        "fortran": np.asfortranarray(array),
        "strided": wide[..., 1 : 2 * array.shape[-1] + 1 : 2],
        "reversed": np.ascontiguousarray(array[::-1])[::-1],
        "unaligned": raw,
        "read-only": read_only,
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", list(forms(np.zeros((1, 1)))))
def test_layouts_give_equal_results(engine: str | None, dtype: str, form: str) -> None:
    rng = np.random.default_rng(0)
    X, W, d = (rng.normal(size=s).astype(dtype) for s in ((9, 5), (5, 7), (9, 7)))
    b, w = rng.normal(size=7).astype(dtype), rng.random(9).astype(dtype)
    x_, W_, d_, b_, w_ = (forms(a)[form] for a in (X, W, d, b, w))

    def same(have: Any, want: Any) -> None:
        have, want = np.asarray(have), np.asarray(want)
        assert have.dtype == want.dtype
        assert (have == want).all()

    forward = kernels.linear_forward(X, W, b, "tanh", engine=engine)
    # terms of size 4 that cancel leave 4 roundings of 2**-24 each
    assert np.allclose(forward, np.tanh(X @ W + b), rtol=1e-5, atol=1e-6)
    assert forward.dtype == dtype
    same(kernels.linear_forward(x_, W_, b_, "tanh", engine=engine), forward)
    backward = kernels.linear_backward(X, W, d, engine=engine)
    for have, want in zip(backward, (d @ W.T, X.T @ d, d.sum(0)), strict=True):
        assert np.allclose(have, want, rtol=1e-4, atol=1e-5)
    for have, want in zip(
        kernels.linear_backward(x_, W_, d_, engine=engine), backward, strict=True
    ):
        same(have, want)
    same(
        kernels.activation_forward(d_, "gelu", engine=engine),
        kernels.activation_forward(d, "gelu", engine=engine),
    )
    same(
        kernels.activation_backward(d_, d_, "softmax", engine=engine),
        kernels.activation_backward(d, d, "softmax", engine=engine),
    )
    for target, target_ in ((forward, forms(forward)[form]), (np.arange(9) % 7,) * 2):
        value, delta = kernels.loss_value_and_delta(
            d, target, "cross_entropy", weight=w, engine=engine
        )
        value_, delta_ = kernels.loss_value_and_delta(
            d_, target_, "cross_entropy", weight=w_, engine=engine
        )
        assert value == value_
        same(delta_, delta)
    assert kernels.all_finite(x_, engine=engine)


def test_out_is_filled_and_returned(engine: str | None) -> None:
    rng = np.random.default_rng(1)
    X, W = rng.normal(size=(6, 4)), rng.normal(size=(4, 3))
    want = kernels.linear_forward(X, W, activation="relu", engine=engine)
    for out in forms(np.full((6, 3), np.nan)).values():
        if out.flags.writeable and out.dtype.isnative:
            assert kernels.linear_forward(X, W, None, "relu", out, engine) is out
            assert (out == want).all()
    Z = X.copy()
    assert kernels.activation_forward(Z, "elu", Z, engine) is Z
    assert (Z == kernels.activation_forward(X, "elu", engine=engine)).all()
    square = rng.normal(size=(4, 4))  # an output that overlaps an input
    apart = kernels.linear_forward(square, square, engine=engine)
    assert (kernels.linear_forward(square, square, out=square, engine=engine) == apart).all()


def test_other_numbers_become_floats(engine: str | None) -> None:
    counts = np.arange(6).reshape(2, 3)
    result = kernels.linear_forward(counts, counts.T, engine=engine)
    assert result.dtype == np.float64
    assert (result == counts @ counts.T).all()
    assert kernels.activation_forward([True, False], "identity", engine=engine).dtype == np.float32
    assert kernels.activation_forward(np.float16([1, -1]), "relu", engine=engine).tolist() == [1, 0]


def test_one_update_of_each_optimizer(engine: str | None) -> None:
    rng = np.random.default_rng(2)
    for optimizer in (
        fastnn.SGD(0.1),
        fastnn.SGD(0.1, momentum=0.9, nesterov=True),
        fastnn.Adam(0.1, clip_norm=0.5),
        fastnn.Adagrad(0.1, l2=0.1),
    ):
        spec = optimizer.spec()
        p, g = rng.normal(size=37), rng.normal(size=37)
        moments = tuple(np.zeros(37) for _ in range(spec.moments))
        have, have_moments = p.copy(), tuple(m.copy() for m in moments)
        kernels.optimizer_update(have, g, have_moments, spec, 0.1, 1, engine=engine)
        want, want_moments = p.copy(), tuple(m.copy() for m in moments)
        kernels.optimizer_update(want, g, want_moments, spec, 0.1, 1, engine="numpy")
        assert np.allclose(have, want, rtol=1e-12, atol=1e-14)
        for a, b in zip(have_moments, want_moments, strict=True):
            assert np.allclose(a, b, rtol=1e-12, atol=1e-14)


X34, W42 = np.zeros((3, 4)), np.zeros((4, 2))
SPEC = fastnn.Adam(0.1).spec()
REFUSED = {
    "inner sizes": (lambda: kernels.linear_forward(X34, W42.T), ValueError, "weight must have"),
    "1-D X": (lambda: kernels.linear_forward(X34[0], W42), ValueError, "X must have shape"),
    "bias": (lambda: kernels.linear_forward(X34, W42, np.zeros(3)), ValueError, "bias must"),
    "activation": (
        lambda: kernels.linear_forward(X34, W42, activation="rellu"),
        ValueError,
        "unknown activation 'rellu'",
    ),
    "engine": (lambda: kernels.all_finite(X34, engine="fast"), ValueError, "unknown engine"),
    "complex": (lambda: kernels.activation_forward([1j], "relu"), TypeError, "real numbers"),
    "object": (lambda: kernels.all_finite(np.array([None])), TypeError, "real numbers"),
    "text": (lambda: kernels.linear_forward(X34, W42.astype(str)), TypeError, "real numbers"),
    "long double": (
        lambda: kernels.activation_forward(np.zeros(2, np.longdouble), "relu"),
        TypeError,
        "float32 and float64",
    ),
    "out shape": (
        lambda: kernels.linear_forward(X34, W42, out=np.zeros((3, 3))),
        ValueError,
        "out must be",
    ),
    "out dtype": (
        lambda: kernels.linear_forward(X34, W42, out=np.zeros((3, 2), "f4")),
        ValueError,
        "out must be",
    ),
    "out list": (lambda: kernels.linear_forward(X34, W42, out=[0]), TypeError, "must be an array"),
    "out read-only": (
        lambda: kernels.linear_forward(X34, W42, out=np.broadcast_to(0.0, (3, 2))),
        ValueError,
        "read-only",
    ),
    "delta": (lambda: kernels.linear_backward(X34, W42, X34), ValueError, "delta must have"),
    "label": (
        lambda: kernels.loss_value_and_delta(X34, [0, 1, 4], "cross_entropy"),
        ValueError,
        "labels must lie between 0 and 3",
    ),
    "labels of mse": (
        lambda: kernels.loss_value_and_delta(X34, [0, 1, 2], "mse"),
        ValueError,
        "target must have",
    ),
    "weights": (
        lambda: kernels.loss_value_and_delta(X34, X34, "mse", weight=[1.0]),
        ValueError,
        "weight must have",
    ),
    "loss": (lambda: kernels.loss_value_and_delta(X34, X34, "l2"), ValueError, "unknown loss"),
    "moments": (
        lambda: kernels.optimizer_update(np.zeros(3), np.zeros(3), (), SPEC, 0.1, 1),
        ValueError,
        "keeps 2 moments",
    ),
    "step": (
        lambda: kernels.optimizer_update(
            np.zeros(3), np.zeros(3), (np.zeros(3), np.zeros(3)), SPEC, 0.1, 0
        ),
        ValueError,
        "counts from 1",
    ),
    "parameters": (
        lambda: kernels.optimizer_update([0.0], np.zeros(1), (), SPEC, 0.1, 1),
        TypeError,
        "parameters must be",
    ),
    "integer parameters": (
        lambda: kernels.optimizer_update(
            np.zeros(3, int), np.zeros(3), (np.zeros(3, int),) * 2, SPEC, 0.1, 1
        ),
        TypeError,
        "must be float32 or float64",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refusals(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()
