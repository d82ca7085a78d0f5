"""The compiled kernels on plain arrays against wider arithmetic, around the vector width.

u is the unit roundoff of the dtype, half its eps. Truth is computed from the very numbers
that the kernel gets: products and losses in the next wider dtype, activations by mpmath.
Results below the smallest normal number count as zero.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType

import mpmath
import numpy as np
import pytest
from mpmath import mp
from networks import HIDDEN, KINKS, OPTIMIZERS, random_target

from fastnn.kernels.contract import LOSSES

SIZES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 47, 64, 65, 100, 130)
WIDER = {"float32": np.float64, "float64": np.longdouble}


def unit_roundoff(dtype: np.dtype) -> float:
    return float(np.finfo(dtype).eps) / 2


def read_only(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    for array in arrays:
        array.flags.writeable = False
    return arrays


def shapes() -> Iterator[tuple[int, int, int]]:
    """(rows, inputs, outputs): every pair of sizes as (inputs, outputs), rows in turn."""
    k = 0
    for inputs in SIZES:
        for outputs in SIZES:
            yield SIZES[(5 * k + k // len(SIZES)) % len(SIZES)], inputs, outputs
            k += 1


# --------------------------------------------------------------------------- products


@pytest.mark.parametrize("use_bias", [True, False])
def test_linear_forward(compiled: ModuleType, dtype: np.dtype, use_bias: bool) -> None:
    """|error| ≤ (k + 2) u (|X| |W| + |b|), element by element: k products, and the bias."""
    rng = np.random.default_rng(0)
    wide, u = WIDER[dtype.name], unit_roundoff(dtype)
    for rows, inputs, outputs in shapes():
        X, W = rng.normal(size=(rows, inputs)), rng.normal(size=(inputs, outputs))
        b = rng.normal(size=outputs) if use_bias else np.zeros(outputs)
        X, W, b = read_only(X.astype(dtype), W.astype(dtype), b.astype(dtype))
        out = np.full((rows, outputs), np.nan, dtype)
        compiled.linear_forward(X, W, b if use_bias else None, "identity", out)
        truth = X.astype(wide) @ W.astype(wide) + b
        bound = (inputs + 2) * u * (np.abs(X) @ np.abs(W) + np.abs(b))
        assert (np.abs(out - truth) <= bound).all(), (rows, inputs, outputs)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "softmax"])
def test_linear_forward_applies_the_activation(
    compiled: ModuleType, dtype: np.dtype, activation: str
) -> None:
    """Fused or not, the result is the same but for rounding of z: 3 u k at most here."""
    rng = np.random.default_rng(1)
    for outputs in SIZES:
        X, W = rng.normal(size=(9, 8)).astype(dtype), rng.normal(size=(8, outputs)).astype(dtype)
        fused, z = np.empty((9, outputs), dtype), np.empty((9, outputs), dtype)
        compiled.linear_forward(X, W, None, activation, fused)
        compiled.linear_forward(X, W, None, "identity", z)
        compiled.activation_forward(z, activation, z)
        np.testing.assert_allclose(fused, z, rtol=0, atol=64 * unit_roundoff(dtype))


def test_linear_backward(compiled: ModuleType, dtype: np.dtype) -> None:
    """Each of the three results within (k + 2) u of the sum of absolute products."""
    rng = np.random.default_rng(2)
    wide, u = WIDER[dtype.name], unit_roundoff(dtype)
    for rows, inputs, outputs in shapes():
        X, W = rng.normal(size=(rows, inputs)), rng.normal(size=(inputs, outputs))
        delta = rng.normal(size=(rows, outputs))
        X, W, delta = read_only(X.astype(dtype), W.astype(dtype), delta.astype(dtype))
        dX, dW, db = (np.full_like(a, np.nan) for a in (X, W, W[0]))
        compiled.linear_backward(X, W, delta, dX, dW, db)
        for have, left, right, k in [
            (dX, delta, W.T, outputs),
            (dW, X.T, delta, rows),
            (db, np.ones(rows, dtype), delta, rows),
        ]:
            truth = left.astype(wide) @ right.astype(wide)
            bound = (k + 2) * u * (np.abs(left) @ np.abs(right))
            assert (np.abs(have - truth) <= bound).all(), (rows, inputs, outputs)


@pytest.mark.parametrize("chosen", range(8))
def test_linear_backward_computes_what_is_asked(
    compiled: ModuleType, dtype: np.dtype, chosen: int
) -> None:
    rng = np.random.default_rng(3)
    X, W, delta = (rng.normal(size=shape).astype(dtype) for shape in [(10, 7), (7, 3), (10, 3)])
    everything = [np.empty_like(a) for a in (X, W, W[0])]
    compiled.linear_backward(X, W, delta, *everything)
    some = [np.empty_like(a) if chosen >> i & 1 else None for i, a in enumerate(everything)]
    compiled.linear_backward(X, W, delta, *some)
    for have, want in zip(some, everything, strict=True):
        assert have is None or (have == want).all()


def test_no_rows(compiled: ModuleType, dtype: np.dtype) -> None:
    X, W, b = np.empty((0, 5), dtype), np.ones((5, 18), dtype), np.ones(18, dtype)
    Z = np.empty((0, 18), dtype)
    compiled.linear_forward(X, W, b, "tanh", Z)
    dX, dW, db = np.empty_like(X), np.ones_like(W), np.ones_like(b)
    compiled.linear_backward(X, W, Z, dX, dW, db)
    assert (dW == 0).all()
    assert (db == 0).all()
    for activation in ("gelu", "softmax"):
        compiled.activation_forward(Z, activation, Z)
        compiled.activation_backward(Z, Z, activation, Z)
    for loss in LOSSES:
        assert compiled.loss_value_and_delta(Z, Z, None, loss, 0.5, Z) == 0
    assert compiled.all_finite(Z)


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

EXACT: dict[str, Callable[[mpmath.mpf], mpmath.mpf]] = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, 0),
    "leaky_relu": lambda x: x if x > 0 else x / 100,
    "elu": lambda x: x if x > 0 else mp.expm1(x),
    "selu": lambda x: (
        mp.mpf("1.0507009873554804934193349852946")
        * (x if x > 0 else mp.mpf("1.6732632423543772848170429916717") * mp.expm1(x))
    ),
    "gelu": lambda x: x * mp.ncdf(x),
    "silu": lambda x: x / (1 + mp.exp(-x)),
    "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "tanh": mp.tanh,
    "softsign": lambda x: x / (1 + abs(x)),
    "hard_sigmoid": lambda x: min(max(x + 3, 0), 6) / 6,
    "hard_swish": lambda x: x * min(max(x + 3, 0), 6) / 6,
}

#: Bounds of |error| / (u |f|), u half an ulp: six for exp, tanh and the like, which may err
#: by three ulps, and one or two for each operation around them.
VALUE_BOUND = {
    "identity": 0,
    "relu": 0,
    "leaky_relu": 2,
    "elu": 6,
    "selu": 8,
    "gelu": 8,
    "silu": 8,
    "mish": 12,
    "softplus": 8,
    "sigmoid": 6,
    "tanh": 6,
    "softsign": 4,
    "hard_sigmoid": 4,
    "hard_swish": 6,
}


@functools.cache
def sample(name: str) -> np.ndarray:
    """Arguments in the dtype of that name: dense near 0, out to where exp overflows."""
    rng = np.random.default_rng(4)
    small = np.logspace(-30, 3, 67)
    wide = 80 if name == "float32" else 700
    points = [rng.normal(0, 3, 150), np.linspace(-20, 20, 81), small, -small]
    points += [np.linspace(-wide, wide, 41), np.linspace(-3.2, -2.8, 41), np.linspace(2.8, 3.2, 41)]
    return np.concatenate(points).astype(name)


def long_double(x: mpmath.mpf) -> np.longdouble:
    """Rounded from mpmath, whose exponents have no end."""
    return np.longdouble(0 if abs(x) < 1e-320 else mp.nstr(x, 25))


@functools.cache
def exact(activation: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return f and f′ at the sample as long doubles; f′ is NaN within 1e-12 of a kink."""
    f = EXACT[activation]
    values, slopes = [], []
    with mp.workdps(40):
        for x in sample(name).tolist():
            values.append(long_double(f(mp.mpf(x))))
            near = any(abs(x - kink) < 1e-12 for kink in KINKS.get(activation, ()))
            slope = mp.nan if near else mp.diff(f, mp.mpf(x))
            slopes.append(long_double(slope))
    return np.array(values), np.array(slopes)


def columns(values: np.ndarray, width: int) -> np.ndarray:
    """The values as rows of this width, the last one filled up from the front."""
    return np.resize(values, (-(-len(values) // width), width))


@pytest.mark.parametrize("activation", HIDDEN)
def test_activation(compiled: ModuleType, dtype: np.dtype, activation: str) -> None:
    truth, slope = exact(activation, dtype.name)
    u, tiny = unit_roundoff(dtype), float(np.finfo(dtype).tiny)
    Z = sample(dtype.name)
    # A slope is measured against 1, the size of the largest. Where it holds z(1 - σ) or the
    # like, rounding of 1 - σ is magnified by z until 1 - σ vanishes (|z| near 20). That of
    # tanh, 1 - y², has twice the error of y.
    product = activation in ("gelu", "silu", "mish", "hard_swish")
    slope_bound = 6 * u * (1 + product * np.minimum(np.abs(Z), 20))
    if activation == "tanh":
        slope_bound = (2 * VALUE_BOUND["tanh"] + 2) * u
    # a factor of z below the smallest normal number counts as zero
    flushed = tiny * (np.maximum(1, np.abs(Z)) if product else 1)
    known = ~np.isnan(slope)
    for width in SIZES:
        (z,) = read_only(columns(Z, width))
        out = np.full_like(z, np.nan)
        compiled.activation_forward(z, activation, out)
        out = out.ravel()[: len(Z)]
        bound = VALUE_BOUND[activation] * u * np.abs(truth) + flushed
        assert (np.abs(out - truth) <= bound).all()

        upstream = np.ones_like(z)
        out = np.full_like(z, np.nan)
        compiled.activation_backward(z, upstream, activation, out)
        out = out.ravel()[: len(Z)]
        assert (np.abs(out - slope) <= slope_bound + flushed)[known].all()


@pytest.mark.parametrize("activation", [*HIDDEN, "softmax"])
def test_activation_in_place(compiled: ModuleType, dtype: np.dtype, activation: str) -> None:
    """``out`` may be Z on the way forward and the delta on the way back."""
    rng = np.random.default_rng(5)
    for width in SIZES:
        Z, dy = (rng.normal(size=(7, width)).astype(dtype) for _ in range(2))
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

    What a product 0·inf makes NaN in the reference, as in PyTorch, is NaN here.
    """
    info = np.finfo(dtype)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.max, info.min, info.tiny, -info.tiny]
    special = [*special, info.eps, 1e4, -1e4, -3.0, 3.0]
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
                same = have == want or abs(have - want) <= 8 * info.eps * abs(want) + info.tiny
                assert same or (np.isnan(have) and np.isnan(want)), value
                out[0, place] = plain[0, place]
                assert (out == plain).all()  # the neighbours do not notice


def test_softmax(compiled: ModuleType, dtype: np.dtype) -> None:
    """Relative error ≤ (8 + largest difference of logits) u: z - max z rounds once."""
    rng = np.random.default_rng(6)
    wide, u = WIDER[dtype.name], unit_roundoff(dtype)
    for width in SIZES:
        Z = rng.normal(0, 4, (11, width)).astype(dtype)
        Y, dZ = np.empty_like(Z), np.empty_like(Z)
        dY = rng.normal(size=Z.shape).astype(dtype)
        compiled.activation_forward(*read_only(Z), "softmax", Y)
        z = Z.astype(wide)
        shifted = z - z.max(axis=1, keepdims=True)
        truth = np.exp(shifted)
        total = truth.sum(axis=1, keepdims=True)
        truth /= total
        spread = -shifted.min(axis=1, keepdims=True)
        assert (np.abs(Y - truth) <= (8 + spread + width) * u * truth).all()
        assert np.abs(Y.sum(axis=1) - 1).max() <= (8 + width) * u

        compiled.activation_backward(Z, *read_only(dY), "softmax", dZ)
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


def loss_outputs(rng: np.random.Generator, loss: str, shape: tuple[int, int]) -> np.ndarray:
    """Logits, numbers, or probabilities well inside (0, 1)."""
    return (
        rng.uniform(0.05, 0.95, shape)
        if loss.endswith("probabilities")
        else rng.normal(0, 2, shape)
    )


@pytest.mark.parametrize("form", ["labels", "rows", "weighted labels", "weighted rows"])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss(
    compiled: ModuleType, reference: ModuleType, dtype: np.dtype, loss: str, form: str
) -> None:
    """Against the reference in the wider dtype.

    A delta is measured against its terms, which are of the size of e^o, t and 1 over the
    normaliser; a value against the sum of |ℓ|, here all of one size.
    """
    if "labels" in form and not loss.startswith("cross_entropy"):
        form = form.replace("labels", "rows")
    rng = np.random.default_rng(7)
    wide, u = np.dtype(WIDER[dtype.name]), unit_roundoff(dtype)
    for rows in SIZES:
        for columns_ in (1, 3, 16, 33):
            output = loss_outputs(rng, loss, (rows, columns_)).astype(dtype)
            target = random_target(rng, loss, output.astype(np.float64), "rows" in form)
            target = target if target.ndim == 1 else target.astype(dtype)
            weight = rng.uniform(0.5, 2, rows).astype(dtype) if "weighted" in form else None
            delta = np.full_like(output, np.nan)
            value = compiled.loss_value_and_delta(
                *read_only(output, target), weight, loss, 0.75, delta
            )
            truth = np.empty(output.shape, wide)
            true_value = reference.loss_value_and_delta(
                output.astype(wide),
                target if target.ndim == 1 else target.astype(wide),
                None if weight is None else weight.astype(wide),
                loss,
                0.75,
                truth,
            )
            divisor = {"sum_squares": 1}.get(loss, rows * columns_)
            divisor = rows if loss.startswith("cross") else divisor
            size = np.exp(np.abs(output)) if loss == "poisson" else 1 + np.abs(output)
            size = size * (1 + np.abs(target if target.ndim == 2 else 1)) * 4 / divisor
            assert (np.abs(delta - truth) <= 8 * u * (size + np.abs(truth))).all()
            # the sum itself may round once a row; poisson's ℓ may cancel, at sizes near 1
            assert abs(value - true_value) <= (rows + 64) * u * (abs(true_value) + size.max())


# --------------------------------------------------------------------------- optimizers


@pytest.mark.parametrize("option", ["plain", "l2", "clip_norm"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(
    compiled: ModuleType, reference: ModuleType, dtype: np.dtype, name: str, option: str
) -> None:
    """Three updates of any number of parameters against the reference in float64.

    Parameters are of the size of one and an update rounds some ten times; 40 u is that.
    """
    rng = np.random.default_rng(8)
    spec = OPTIMIZERS[name]
    if option != "plain":
        spec = spec._replace(**{option: 0.5})
    for size in (*SIZES, 1000):
        p = rng.normal(size=size).astype(dtype)
        moments = tuple(np.zeros(size, dtype) for _ in range(spec.moments))
        truth, true_moments = p.astype(np.float64), tuple(m.astype(np.float64) for m in moments)
        for step in (1, 2, 3):
            (g,) = read_only(rng.normal(size=size).astype(dtype))
            compiled.optimizer_update(p, g, moments, spec, 0.05, step)
            reference.optimizer_update(truth, g.astype(np.float64), true_moments, spec, 0.05, step)
        np.testing.assert_allclose(p, truth, rtol=0, atol=40 * unit_roundoff(dtype) * 4)
        for have, want in zip(moments, true_moments, strict=True):
            limit = 40 * unit_roundoff(dtype) * max(1, np.abs(want).max())
            np.testing.assert_allclose(have, want, rtol=0, atol=limit)


def test_optimizer_of_nothing(compiled: ModuleType, dtype: np.dtype) -> None:
    empty = np.empty(0, dtype)
    compiled.optimizer_update(empty, empty, (empty, empty), OPTIMIZERS["adam"], 0.1, 1)
