"""Writes coefficients.h or numba_coefficients.py: the polynomials, from mpmath at 50 digits.

Each polynomial interpolates its function at Chebyshev nodes, which is within a small
factor of the best there is; the comment beside it gives the largest error of the exact
polynomial, in units of the last place of 1 (2**-23 or 2**-52). Rounding comes on top.

    python kernels/c/coefficients.py > kernels/c/coefficients.h      (needs mpmath)
    python kernels/c/coefficients.py python > kernels/numba_coefficients.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 50
ULP = {32: mp.mpf(2) ** -23, 64: mp.mpf(2) ** -52}

PYTHON = sys.argv[1:] == ["python"]

Function = Callable[[mp.mpf], mp.mpf]


def expm1_tail(r: mp.mpf) -> mp.mpf:
    """(expm1(r) - r) / r², so that expm1(r) = r + r²·p(r)."""
    return (mp.expm1(r) - r) / r**2 if abs(r) > 1e-15 else mp.mpf(1) / 2


def atanh_root(z: mp.mpf) -> mp.mpf:
    """atanh(√z) / √z, so that log((1 + s) / (1 - s)) = 2 s p(s²)."""
    return mp.atanh(mp.sqrt(z)) / mp.sqrt(z) if z else mp.mpf(1)


def sin_root(z: mp.mpf) -> mp.mpf:
    """sin(√z) / √z."""
    return mp.sin(mp.sqrt(z)) / mp.sqrt(z) if z else mp.mpf(1)


def cos_root(z: mp.mpf) -> mp.mpf:
    """cos(√z)."""
    return mp.cos(mp.sqrt(z))


def atan_root(z: mp.mpf) -> mp.mpf:
    """atan(√z) / √z."""
    return mp.atan(mp.sqrt(z)) / mp.sqrt(z) if z else mp.mpf(1)


def erf_root(z: mp.mpf) -> mp.mpf:
    """erf(√z) / √z."""
    return mp.erf(mp.sqrt(z)) / mp.sqrt(z) if z else 2 / mp.sqrt(mp.pi)


def normal_tail(shift: int, pole: int) -> Function:
    """Φ(-t)·exp(t²/2)·(t + pole) as a function of u = (t - shift) / (t + pole), t ≥ 0."""

    def tail(u: mp.mpf) -> mp.mpf:
        t = (shift + pole * u) / (1 - u)
        return mp.erfc(t / mp.sqrt(2)) / 2 * mp.exp(t * t / 2) * (t + pole)

    return tail


def interpolate(f: Function, low: mp.mpf, high: mp.mpf, degree: int) -> list[mp.mpf]:
    nodes = [
        (low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * degree + 2))
        for k in range(degree + 1)
    ]
    powers = mp.matrix([[x**j for j in range(degree + 1)] for x in nodes])
    return list(mp.lu_solve(powers, mp.matrix([f(x) for x in nodes])))


def error(f: Function, p: list[mp.mpf], low: mp.mpf, high: mp.mpf, scale: Function) -> mp.mpf:
    grid = [low + (high - low) * mp.mpf(k) / 400 for k in range(401)]
    return max(abs(mp.polyval(p[::-1], x) - f(x)) * scale(x) for x in grid)


def emit(name: str, bits: int, p: list[mp.mpf], note: str) -> None:
    values = [mp.nstr(c, {32: 10, 64: 18}[bits], strip_zeros=False) for c in p]
    if PYTHON:
        print(f"    # {note}\n    ({name.lower()!r}, {bits}): (")
        print("".join(f"        {value},\n" for value in values) + "    ),")
        return
    suffix = {32: "f", 64: ""}[bits]
    print(f"/* {note} */")
    print(f"#define {name}_{bits} {{{', '.join(value + suffix for value in values)}}}\n")


def emit_number(name: str, bits: int, value: int) -> None:
    row, line = f"    ({name.lower()!r}, {bits}): {value},", f"#define {name}_{bits} {value}"
    print(row if PYTHON else line)


def polynomial(
    name: str, bits: int, f: Function, ends: tuple[mp.mpf, mp.mpf], degree: int, scale: Function
) -> None:
    low, high = map(mp.mpf, ends)
    p = interpolate(f, low, high, degree)
    worst = error(f, p, low, high, scale) / ULP[bits]
    emit(name, bits, p, f"{name.lower()}: degree {degree}, error {mp.nstr(worst, 2)} ulp")


def custom_functions(bits: int) -> None:
    """What users' functions call and the built-in activations do not."""
    sin, cos, atan, erf = {32: (3, 4, 4, 6), 64: (6, 7, 10, 13)}[bits]
    eighth = (mp.pi / 4 * mp.mpf("1.0001")) ** 2
    polynomial("SIN", bits, sin_root, (0, eighth), sin, lambda z: mp.mpf(1))
    polynomial("COS", bits, cos_root, (0, eighth), cos, lambda z: mp.mpf(1))
    polynomial("ATAN", bits, atan_root, (0, (mp.sqrt(2) - 1) ** 2), atan, lambda z: mp.mpf(1))
    polynomial("ERF", bits, erf_root, (0, 1), erf, lambda z: mp.mpf(1))


def main() -> None:
    if PYTHON:
        print('"""Written by c/coefficients.py; see there."""\n\nCOEFFICIENTS = {')
    else:
        print("/* Written by coefficients.py; see there. */\n")
    half = mp.log(2) / 2 * mp.mpf("1.0001")
    narrow = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
    for bits, exp, log, log1p, tail, shift, pole, end in (
        (32, 4, 3, 5, 10, 2, 2, 13.5),
        (64, 9, 7, 12, 22, 4, 4, 38.6),
    ):
        polynomial("EXPM1", bits, expm1_tail, (-half, half), exp, lambda r: r * r)
        polynomial("LOG", bits, atanh_root, (0, narrow), log, lambda z: mp.mpf(1))
        polynomial("LOG1P", bits, atanh_root, (0, mp.mpf(1) / 9), log1p, lambda z: mp.mpf(1))
        phi = normal_tail(shift, pole)
        ends = (-mp.mpf(shift) / pole, mp.mpf(end - shift) / (end + pole))
        polynomial("NORMAL_TAIL", bits, phi, ends, tail, lambda u, phi=phi: 1 / phi(u))
        emit_number("NORMAL_TAIL_SHIFT", bits, shift)
        emit_number("NORMAL_TAIL_POLE", bits, pole)
        if PYTHON:
            custom_functions(bits)
        print(end="" if PYTHON else "\n")
    print(end="}\n" if PYTHON else "")


if __name__ == "__main__":
    main()
