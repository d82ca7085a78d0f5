"""Writes the tables of kernels/formulas/coefficients.py, with 50 digits of mpmath.

    python tests/engine/coefficients.py

prints them; a test compares. Each polynomial interpolates its function at Chebyshev nodes,
which is within a small factor of the best there is. Its largest error is that of the exact
polynomial in units of the last place of 1 (2**-23 or 2**-52); rounding comes on top.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import mpmath as mp

mp.mp.dps = 50
Function = Callable[[Any], Any]
Row = tuple[str, Function, Any, Any, tuple[int, int], Function]


def normal_tail(pole: int) -> Function:
    """Φ(-t) exp(t²/2) (t + pole) as a function of u = (t - pole) / (t + pole), t ≥ 0."""

    def tail(u: Any) -> Any:
        t = pole * (1 + u) / (1 - u)
        return mp.erfc(t / mp.sqrt(2)) / 2 * mp.exp(t * t / 2) * (t + pole)

    return tail


def rows(bits: int) -> list[Row]:
    """Name, function, interval, degrees for both dtypes, and what an error counts for.

    Where a function is odd, it is x p(x²). The hypergeometric forms, which have no holes at
    zero, are those of Abramowitz & Stegun (1964), chapters 9, 13 and 15.
    """
    pole, end = {32: (2, 13.5), 64: (4, 38.6)}[bits]  # beyond the end, exp(-t²/2) is zero
    half = mp.log(2) / 2 * mp.mpf("1.0001")
    narrow = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
    angle = (mp.pi / 4 * mp.mpf({32: "1.1", 64: "1.0001"}[bits])) ** 2

    def atanh(z: Any) -> Any:  # log((1 + s) / (1 - s)) = 2 s p(s²)
        return mp.hyp2f1(0.5, 1, 1.5, z)

    def one(z: Any) -> Any:
        return 1

    return [
        # expm1(r) = r + r² p(r)
        ("EXPM1", lambda r: mp.hyp1f1(1, 3, r) / 2, -half, half, (4, 9), lambda r: r * r),
        ("LOG", atanh, 0, narrow, (3, 7), one),
        ("LOG1P", atanh, 0, mp.mpf(1) / 9, (5, 12), one),
        ("NORMAL_TAIL", normal_tail(pole), -1, mp.mpf(end - pole) / (end + pole), (10, 22),
         lambda u: 1 / normal_tail(pole)(u)),
        ("SIN", lambda z: mp.hyp0f1(1.5, -z / 4), 0, angle, (3, 6), one),
        ("COS", lambda z: mp.hyp0f1(0.5, -z / 4), 0, angle, (4, 7), one),
        ("ATAN", lambda z: mp.hyp2f1(0.5, 1, 1.5, -z), 0, (mp.sqrt(2) - 1) ** 2, (4, 10), one),
        ("ERF", lambda z: mp.hyp1f1(0.5, 1.5, -z) * 2 / mp.sqrt(mp.pi), 0, 1, (6, 13), one),
    ]  # fmt: skip


def interpolated(f: Function, low: Any, high: Any, degree: int) -> list[Any]:
    """The polynomial through f at the Chebyshev nodes, its lowest power first."""
    nodes = [
        (low + high + (high - low) * mp.cos(mp.pi * (k + 0.5) / (degree + 1))) / mp.mpf(2)
        for k in range(degree + 1)
    ]
    powers = mp.matrix([[x**j for j in range(degree + 1)] for x in nodes])
    return list(mp.lu_solve(powers, mp.matrix([f(x) for x in nodes])))


def tables() -> str:
    """The text of the tables."""
    lines = []
    for both in zip(rows(32), rows(64), strict=True):
        texts, errors = [], []
        for bits, (_, f, low, high, degrees, weight) in zip((32, 64), both, strict=True):
            p = interpolated(f, low, high, degrees[bits == 64])
            grid = [low + (high - low) * mp.mpf(k) / 400 for k in range(401)]
            error = max(abs(mp.polyval(p, x, asc=True) - f(x)) * weight(x) for x in grid)
            errors.append(mp.nstr(error * 2 ** {32: 23, 64: 52}[bits], 2))
            numbers = (mp.nstr(c, {32: 10, 64: 18}[bits], strip_zeros=False) for c in p)
            texts.append(f"    {bits}: ({', '.join(numbers)}),")
        lines.append(f"{both[0][0]} = {{  # errors {' and '.join(errors)} ulp")
        for text in (texts[0], texts[1][:-1] + "}"):
            lines += textwrap.wrap(text, 100, subsequent_indent=" " * 9, break_on_hyphens=False)
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
