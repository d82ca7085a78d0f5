"""kernels/formulas on NumPy numbers against mpmath, and what is made of it for C."""

from __future__ import annotations

import operator as o
from pathlib import Path
from runpy import run_path
from typing import Any

import coefficients
import mpmath as mp
import numpy as np
import pytest
from fastnn.kernels import contract
from fastnn.kernels.formulas import elementary, lane
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.formulas.losses import LOSSES
from fastnn.kernels.formulas.optimizers import OPTIMIZERS

mp.mp.dps = 50
FLOATS, INTEGERS = {32: np.float32, 64: np.float64}, {32: np.int32, 64: np.int64}
OPERATIONS: dict[str, Any] = {
    "+": o.add, "-": o.sub, "*": o.mul, "/": o.truediv, "negative": o.neg, "<": o.lt, "<=": o.le,
    ">": o.gt, ">=": o.ge, "==": o.eq, "!=": o.ne, "&": o.and_, "|": o.or_, "^": o.xor,
    "<<": o.lshift, ">>": o.rshift, "choose": np.where, "like": np.full_like, "absolute": np.abs,
    "copy_sign": np.copysign, "square_root": np.sqrt, "floor": np.floor,
}  # fmt: skip


class Numbers(lane.Lane):
    """The formulas' reader that computes with NumPy."""

    def __init__(self, value: Any, bits: int = 64) -> None:
        self.value, self.bits, self.is_fused = value, bits, False

    def apply(self, name: str, *operands: Any) -> Numbers:
        bits = {"narrowed": operands[-1], "widened": 64}.get(name, self.bits)
        kind = (INTEGERS if np.asarray(self.value).dtype.kind == "i" else FLOATS)[bits]
        if name in ("narrowed", "widened"):
            return Numbers(self.value.astype(kind), bits)
        if name in ("as_bits", "as_float"):
            return Numbers(self.value.view((INTEGERS if name == "as_bits" else FLOATS)[bits]), bits)
        numbers = (x[bits] if isinstance(x, dict) else x for x in operands)
        values = [x.value if isinstance(x, Numbers) else kind(x) for x in numbers]
        return Numbers(OPERATIONS[name](*values), bits)


SCALE, ALPHA = mp.mpf("1.0507009873554804934"), mp.mpf("1.6732632423543772848")  # SELU's
#: What elementary functions and activations are, from where to where, and the ulp they may err.
TRUTHS: dict[str, tuple[Any, float, float, float]] = {
    "exp": (mp.exp, -87, 88, 3),
    "expm1": (mp.expm1, -90, 88, 3),
    "exp2": (lambda x: mp.mpf(2) ** x, -126, 127, 3),
    "sinh": (mp.sinh, -85, 85, 4),
    "cosh": (mp.cosh, -85, 85, 4),
    "log": (mp.log, 1e-42, 1e30, 3),
    "log1p": (mp.log1p, -0.999, 1e30, 3),
    "log10": (mp.log10, 1e-30, 1e30, 3),
    "asinh": (mp.asinh, -1e10, 1e10, 4),
    "acosh": (mp.acosh, 1, 1e10, 4),
    "atanh": (mp.atanh, -0.999, 0.999, 4),
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), -1e30, 1e30, 3),
    "cos": (mp.cos, -1e6, 1e6, 4),
    "tan": (mp.tan, -1e6, 1e6, 5),
    "atan": (mp.atan, -1e10, 1e10, 3),
    "asin": (mp.asin, -1, 1, 4),
    "acos": (mp.acos, -0.999, 1, 4),
    "erf": (mp.erf, -5, 5, 3),
    "erfc": (mp.erfc, -5, 9, 4),
    "relu": (lambda z: max(z, 0), -9, 9, 0),
    "leaky_relu": (lambda z: max(z, z / 100), -9, 9, 1),
    "elu": (lambda z: max(z, 0) + mp.expm1(min(z, 0)), -50, 9, 3),
    "selu": (lambda z: SCALE * (max(z, 0) + ALPHA * mp.expm1(min(z, 0))), -50, 9, 3),
    "gelu": (lambda z: z * mp.ncdf(z), -12, 12, 4),
    "silu": (lambda z: z / (1 + mp.exp(-z)), -80, 20, 4),
    "mish": (lambda z: z * mp.tanh(mp.log1p(mp.exp(z))), -80, 30, 5),
    "softplus": (lambda z: mp.log1p(mp.exp(z)), -80, 20, 4),
    "sigmoid": (lambda z: 1 / (1 + mp.exp(-z)), -87, 90, 3),
    "tanh": (mp.tanh, -12, 12, 3),
    "softsign": (lambda z: z / (1 + abs(z)), -1e9, 1e9, 3),
    "hard_sigmoid": (lambda z: min(max(z + 3, 0), 6) / 6, -9, 9, 3),
    "hard_swish": (lambda z: z * min(max(z + 3, 0), 6) / 6, -9, 9, 4),
    "hard_tanh": (lambda z: min(max(z, -1), 1), -9, 9, 0),
    "sine": (mp.sin, -1e6, 1e6, 4),
} | dict.fromkeys(("identity", "softmax"), (lambda z: z, -9, 9, 0))


def worst(y: Any, truth: Any, x: Any) -> float:
    """The largest error in ulp of the truth."""
    exact = [truth(mp.mpf(float(v))) for v in x]
    ulp = np.spacing(np.abs(np.array(exact, float).astype(x.dtype))).astype(float)
    return float(max(np.abs(np.array([mp.mpf(float(v)) for v in y]) - exact) / ulp))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", TRUTHS)
def test_elementary_functions_and_activations(name: str, bits: int) -> None:
    truth, low, high, bound = TRUTHS[name]
    random = np.random.default_rng(0)
    size = np.exp(random.uniform(np.log(1e-6), np.log(max(abs(low), abs(high))), 200))
    x = np.concatenate([random.uniform(low, high, 200), size, -size])
    x = x[(x >= low) & (x <= high)].astype(FLOATS[bits])
    f, slope_of = ACTIVATIONS[name] if name in ACTIVATIONS else (getattr(elementary, name), None)
    found = f(Numbers(x, bits))
    y, slope = found if isinstance(found, tuple) else (found, slope_of and slope_of(found))
    assert worst(y.value, truth, x) <= bound
    if slope:
        slopes = [float(mp.diff(truth, mp.mpf(float(v)), h=mp.mpf(10) ** -25)) for v in x]
        np.testing.assert_allclose(slope.value, slopes, atol=64 * np.finfo(x.dtype).eps, rtol=0)


def test_special_values() -> None:
    a, b = np.array([-2, -2, -8, 0, 1, 4, 4, 5.0]), np.array([3, 2.5, 1, -1, np.nan, 0.5, -0.5, 7])
    edges = Numbers(np.array([-np.inf, -1.0, 0.0, np.inf, np.nan]))
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(elementary.power(Numbers(a), Numbers(b)).value, a**b, rtol=1e-15)
        np.testing.assert_allclose(elementary.atan2(Numbers(a), Numbers(b)).value, np.arctan2(a, b))
        for name in ("exp", "log", "tanh", "log1p", "sin"):
            y, truth = getattr(elementary, name)(edges).value, getattr(np, name)(edges.value)
            np.testing.assert_allclose(y, truth)


def test_log_cosh_has_no_cancellation() -> None:
    x = np.geomspace(1e-8, 50, 300) * np.tile([1, -1], 150)
    value, derivative = LOSSES["log_cosh"](Numbers(x), Numbers(np.zeros(300)), 0)
    assert worst(value.value, lambda e: mp.log(mp.cosh(e)), x) <= 8
    assert worst(derivative.value, mp.tanh, x) <= 6


def test_the_contract_has_the_same_rows() -> None:
    assert list(ACTIVATIONS) == list(contract.ACTIVATIONS)
    assert list(LOSSES) == list(contract.LOSSES)
    facts = {name: (len(x.moments), x.numbers) for name, x in OPTIMIZERS.items()}
    assert facts == {name: (x.moments, x.numbers) for name, x in contract.OPTIMIZERS.items()}
    assert TRUTHS.keys() > ACTIVATIONS.keys()


def test_coefficients() -> None:
    text = Path(lane.__file__).with_name("coefficients.py").read_text(encoding="utf-8")
    assert text.endswith(f"# fmt: off\n{coefficients.tables()}\n")


def test_the_header_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "include" / "formulas.h"
    write = run_path(str(Path(__file__).parents[2] / "kernels/cython/to_c.py"))["write"]
    write(path)
    first = path.stat().st_mtime_ns
    write(path)
    assert path.stat().st_mtime_ns == first
    assert "INLINE V gelu(V z, V *slope)\n{\n    V e;\n" in path.read_text(encoding="utf-8")
