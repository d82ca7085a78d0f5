"""The compiled kernels on plain arrays against wider arithmetic, around the vector width.

u is the unit roundoff of the dtype, half its eps. Truth is computed from the very numbers
that the kernel gets: products and losses in the next wider dtype, activations by mpmath.
Results below the smallest normal number count as zero. Optimizers: test_reference.py.
"""

from __future__ import annotations

import functools
import itertools
from types import ModuleType
from typing import Any

import numpy as np
import oracle
import pytest
from fastnn.kernels.contract import LOSSES
from mpmath import mp
from networks import HIDDEN, KINKS, cast, random_target

SIZES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 47, 64, 65, 100, 130)
WIDER = {"float32": np.float64, "float64": np.longdouble}


def unit_roundoff(dtype: np.dtype) -> float:
    return float(np.finfo(dtype).eps) / 2


def normal(rng: np.random.Generator, dtype: np.dtype, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Read-only arrays of standard normal numbers."""
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    for array in arrays:
        array.flags.writeable = False
    return arrays


# --------------------------------------------------------------------------- products


def test_linear(compiled: ModuleType, dtype: np.dtype) -> None:
    """|error| ≤ (k + 2) u (|A| |B|), element by element: k products, and the bias."""
    rng = np.random.default_rng(0)
    wide, u = WIDER[dtype.name], unit_roundoff(dtype)
    for k, (inputs, outputs) in enumerate(itertools.product(SIZES, SIZES)):
        n = SIZES[(5 * k + k // len(SIZES)) % len(SIZES)]  # rows in turn
        sizes = ((n, inputs), (inputs, outputs), (outputs,), (n, outputs))
        X, W, b, delta = normal(rng, dtype, *sizes)
        Z, without, dX, dW, db = (np.full_like(a, np.nan) for a in (delta, delta, X, W, b))
        compiled.linear_forward(X, W, b, "identity", Z)
        compiled.linear_forward(X, W, None, "identity", without)
        compiled.linear_backward(X, W, delta, dX, dW, db)
        ones = np.ones((n, 1), dtype)
        for have, left, right, terms in [
            (Z, np.hstack([X, ones]), np.vstack([W, b]), inputs),
            (without, X, W, inputs),
            (dX, delta, W.T, outputs),
            (dW, X.T, delta, n),
            (db, ones[:, 0], delta, n),
        ]:
            truth = left.astype(wide) @ right.astype(wide)
            bound = (terms + 2) * u * (np.abs(left) @ np.abs(right))
            assert (np.abs(have - truth) <= bound).all(), (n, inputs, outputs)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "softmax"])
def test_linear_forward_applies_the_activation(
    compiled: ModuleType, dtype: np.dtype, activation: str
) -> None:
    """Fused or not, the result is the same but for rounding of z: 3 u k at most here."""
    rng = np.random.default_rng(1)
    for outputs in SIZES:
        X, W = normal(rng, dtype, (9, 8), (8, outputs))
        fused, z = np.empty((9, outputs), dtype), np.empty((9, outputs), dtype)
        compiled.linear_forward(X, W, None, activation, fused)
        compiled.linear_forward(X, W, None, "identity", z)
        compiled.activation_forward(z, activation, z)
        np.testing.assert_allclose(fused, z, rtol=0, atol=64 * unit_roundoff(dtype))


@pytest.mark.parametrize("chosen", range(8))
def test_linear_backward_computes_what_is_asked(
    compiled: ModuleType, dtype: np.dtype, chosen: int
) -> None:
    X, W, delta = normal(np.random.default_rng(3), dtype, (10, 7), (7, 3), (10, 3))
    everything = [np.empty_like(a) for a in (X, W, W[0])]
    compiled.linear_backward(X, W, delta, *everything)
    some = [np.empty_like(a) if chosen >> i & 1 else None for i, a in enumerate(everything)]
    compiled.linear_backward(X, W, delta, *some)
    for have, want in zip(some, everything, strict=True):
        assert have is None or (have == want).all()


def test_nan_stays_in_its_row(compiled: ModuleType, dtype: np.dtype) -> None:
    """A row with a NaN gives a row of NaN, and leaves its neighbours alone."""
    for rows, inputs, outputs in [(1, 1, 1), (3, 5, 2), (17, 33, 20), (65, 16, 47)]:
        rng = np.random.default_rng(rows)
        X, W = rng.normal(size=(rows, inputs)).astype(dtype), np.ones((inputs, outputs), dtype)
        clean, out = np.empty((rows, outputs), dtype), np.empty((rows, outputs), dtype)
        compiled.linear_forward(X, W, None, "identity", clean)
        X[rows // 2, inputs - 1] = np.nan
        compiled.linear_forward(X, W, None, "identity", out)
        assert np.isnan(out[rows // 2]).all()
        out[rows // 2] = clean[rows // 2]
        assert (out == clean).all()


# --------------------------------------------------------------------------- activations

#: Bounds of |error| / (u |f|), u half an ulp: six for exp, tanh and the like, which may err
#: by three ulps, and one or two for each operation around them.
BOUND = {
    "identity": 0, "relu": 0, "leaky_relu": 2, "elu": 6, "selu": 8, "gelu": 8, "silu": 8,
    "mish": 12, "softplus": 8, "sigmoid": 6, "tanh": 6, "softsign": 4, "hard_sigmoid": 4,
    "hard_swish": 6, "hard_tanh": 0, "sine": 6,
}  # fmt: skip


@functools.cache
def sample(name: str) -> np.ndarray:
    """Arguments in the dtype of that name: dense near 0, out to where exp overflows."""
    rng = np.random.default_rng(4)
    small = np.logspace(-30, 3, 67)
    wide = 80 if name == "float32" else 700
    points = [rng.normal(0, 3, 150), np.linspace(-20, 20, 81), small, -small]
    points += [np.linspace(-wide, wide, 41)]
    points += [np.linspace(kink - 0.2, kink + 0.2, 41) for kink in (-3, -1, 1, 3)]
    return np.concatenate(points).astype(name)


def long_double(x: Any) -> np.longdouble:
    """Rounded from mpmath, whose exponents have no end."""
    return np.longdouble(0 if abs(x) < 1e-320 else mp.nstr(x, 25))


@functools.cache
def exact(activation: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return f and f′ at the sample as long doubles; f′ is NaN within 1e-12 of a kink."""
    values, slopes = [], []
    with mp.workdps(60):  # the oracle's formulas cancel

        def f(x: Any) -> Any:
            return oracle.ACTIVATIONS[activation](x, oracle.Exact)

        for x in map(mp.mpf, sample(name).tolist()):
            near = any(abs(x - kink) < 1e-12 for kink in KINKS.get(activation, ()))
            values.append(long_double(f(x)))
            slopes.append(long_double(mp.nan if near else mp.diff(f, x)))
    return np.array(values), np.array(slopes)


@pytest.mark.parametrize("activation", HIDDEN)
def test_activation(compiled: ModuleType, dtype: np.dtype, activation: str) -> None:
    truth, slope = exact(activation, dtype.name)
    u, tiny = unit_roundoff(dtype), float(np.finfo(dtype).tiny)
    Z, of_value = sample(dtype.name), BOUND[activation]
    # A slope is measured against 1, the size of the largest. Where it holds z(1 - σ) or the
    # like, rounding of 1 - σ is magnified by z until 1 - σ vanishes (|z| near 20). That of
    # tanh, 1 - y², has twice the error of y.
    product = activation in ("gelu", "silu", "mish", "hard_swish")
    of_slope = 2 * of_value + 2 if activation == "tanh" else 6
    of_slope = of_slope * (1 + product * np.minimum(np.abs(Z), 20))
    # a factor of z below the smallest normal number counts as zero
    flushed = tiny * (np.maximum(1, np.abs(Z)) if product else 1)
    known = ~np.isnan(slope)
    for width in SIZES:
        z = np.resize(Z, (-(-len(Z) // width), width))  # the last row filled up from the front
        z.flags.writeable = False
        out = np.full_like(z, np.nan)
        compiled.activation_forward(z, activation, out)
        error = np.abs(out.ravel()[: len(Z)] - truth)
        assert (error <= of_value * u * np.abs(truth) + flushed).all()
        out = np.full_like(z, np.nan)
        compiled.activation_backward(z, np.ones_like(z), activation, out)
        error = np.abs(out.ravel()[: len(Z)] - slope)
        assert (error <= of_slope * u + flushed)[known].all()


@pytest.mark.parametrize("activation", [*HIDDEN, "softmax"])
def test_activation_in_place(compiled: ModuleType, dtype: np.dtype, activation: str) -> None:
    """``out`` may be Z on the way forward and the delta on the way back."""
    rng = np.random.default_rng(5)
    for width in SIZES:
        Z, dy = normal(rng, dtype, (7, width), (7, width))
        apart, in_place = np.empty_like(Z), Z.copy()
        compiled.activation_forward(Z, activation, apart)
        compiled.activation_forward(in_place, activation, in_place)
        assert (in_place == apart).all()
        in_place = dy.copy()
        compiled.activation_backward(Z, dy, activation, apart)
        compiled.activation_backward(Z, in_place, activation, in_place)
        assert (in_place == apart).all()


@pytest.mark.parametrize("activation", HIDDEN)
def test_special_values(
    compiled: ModuleType, reference: ModuleType, dtype: np.dtype, activation: str
) -> None:
    """NaN, ±inf, ±0, the largest and the smallest, at every place in and after a vector.

    What a product 0·inf makes NaN in the reference, as in PyTorch, is NaN here. Beyond 1e6
    a sine need not be one, but bounded.
    """
    info = np.finfo(dtype)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.max, info.min, info.tiny, -info.tiny]
    special = [*special, info.eps, 1e4, -1e4, *KINKS.get(activation, ())]
    for width in (1, 3, 8, 17, 33):
        for value in special:
            for place in {0, width // 2, width - 1}:
                Z = np.full((2, width), 0.5, dtype)
                plain, wanted, out = np.empty_like(Z), np.empty_like(Z), np.empty_like(Z)
                compiled.activation_forward(Z, activation, plain)
                Z[0, place] = value
                compiled.activation_forward(Z, activation, out)
                reference.activation_forward(Z, activation, wanted)
                have, want = float(out[0, place]), float(wanted[0, place])
                if activation == "sine" and 1e6 < abs(value) < np.inf:
                    have = want if abs(have) <= 1 else have
                same = have == want or abs(have - want) <= 8 * info.eps * abs(want) + info.tiny
                assert same or (np.isnan(have) and np.isnan(want)), value
                out[0, place] = plain[0, place]
                assert (out == plain).all()  # the neighbours do not notice


def test_softmax(compiled: ModuleType, dtype: np.dtype) -> None:
    """Relative error ≤ (8 + largest difference of logits) u: z - max z rounds once."""
    rng = np.random.default_rng(6)
    wide, u = WIDER[dtype.name], unit_roundoff(dtype)
    for width in SIZES:
        Z, dY = normal(rng, dtype, (11, width), (11, width))
        Z = 4 * Z
        Y, dZ = np.empty_like(Z), np.empty_like(Z)
        compiled.activation_forward(Z, "softmax", Y)
        z = Z.astype(wide)
        shifted = z - z.max(axis=1, keepdims=True)
        truth = np.exp(shifted)
        truth /= truth.sum(axis=1, keepdims=True)
        spread = -shifted.min(axis=1, keepdims=True)
        assert (np.abs(Y - truth) <= (8 + spread + width) * u * truth).all()
        assert np.abs(Y.sum(axis=1) - 1).max() <= (8 + width) * u

        compiled.activation_backward(Z, dY, "softmax", dZ)
        slope = truth * (dY - (dY * truth).sum(axis=1, keepdims=True))
        scale = truth * (np.abs(dY) + (np.abs(dY) * truth).sum(axis=1, keepdims=True))
        assert (np.abs(dZ - slope) <= 4 * (8 + spread + width) * u * scale).all()


def test_softmax_of_extremes(compiled: ModuleType, dtype: np.dtype) -> None:
    for width in (2, 5, 16, 17, 40):
        Z = np.zeros((4, width), dtype)
        Z[0, -1], Z[1, :] = 1e4, -1e4
        Z[2, 1:], Z[3, 0] = -np.inf, np.nan
        Y = np.empty_like(Z)
        compiled.activation_forward(Z, "softmax", Y)
        one = [0.0] * (width - 1)
        assert Y[0].tolist() == [*one, 1.0]
        assert Y[1] == pytest.approx(np.full(width, 1 / width), rel=1e-6)
        assert Y[2].tolist() == [1.0, *one]
        assert np.isnan(Y[3]).all()


# --------------------------------------------------------------------------- losses


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss(
    compiled: ModuleType, reference: ModuleType, dtype: Any, loss: str, labels: bool, weighted: bool
) -> None:
    """Against the reference in the wider dtype.

    A delta is measured against its terms, which are of the size of e^o, t and 1 over the
    normaliser; a value against the sum of |ℓ|, here all of one size.
    """
    rng = np.random.default_rng(7)
    wide, u = np.dtype(WIDER[dtype.name]), unit_roundoff(dtype)
    for n in SIZES:
        for outputs in (1, 3, 16, 33):
            output = rng.normal(0, 2, (n, outputs))
            if loss.endswith("probabilities"):
                output = rng.uniform(0.05, 0.95, (n, outputs))  # well inside
            target = random_target(rng, loss, output, rows=not labels)
            weight = rng.uniform(0.5, 2, n) if weighted else None
            data = cast((output, target, weight), dtype)
            delta, truth = np.full((n, outputs), np.nan, dtype), np.empty((n, outputs), wide)
            value = compiled.loss_value_and_delta(*data, loss, 0.75, delta)
            wanted = reference.loss_value_and_delta(*cast(data, wide), loss, 0.75, truth)
            divisor = {"rows": n, "elements": n * outputs, "none": 1}[LOSSES[loss].divisor]
            size = np.exp(np.abs(output)) if loss == "poisson" else 1 + np.abs(output)
            size = size * (1 + np.abs(target if target.ndim == 2 else 1)) * 4 / divisor
            assert (np.abs(delta - truth) <= 8 * u * (size + np.abs(truth))).all()
            # the sum itself may round once a row; poisson's ℓ may cancel, at sizes near 1
            assert abs(value - wanted) <= (n + 64) * u * (abs(wanted) + size.max())
