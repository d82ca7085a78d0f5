"""The numbers that differ between float32 and float64: name -> {bits: value}.

An int becomes an int64 in compiled code, a float a number of the dtype. The polynomials
are those of the C part (c/coefficients.py computes them), the argument reduction is
Cody & Waite's (1980).
"""

from __future__ import annotations

import math

from .numba_coefficients import COEFFICIENTS

NUMBERS: dict[str, dict[int, float | int | tuple[float, ...]]] = {
    "mantissa_bits": {32: 23, 64: 52},
    "exponent_bias": {32: 127, 64: 1023},
    "exponent_mask": {32: 0x7F800000, 64: 0x7FF0000000000000},
    "upper_bits": {32: -(1 << 12), 64: -(1 << 27)},  # a product of two such is exact
    "ln2_high": {32: 0.693359375, 64: 0.69314718036912381649},  # times any exponent: exact
    "ln2_low": {32: -2.12194440054690583e-4, 64: 1.9082149292705877e-10},
    "rounder": {32: 12582912.0, 64: 6755399441055744.0},  # adding it rounds to an integer
    "exp_lowest": {32: -87.3365447, 64: -708.39641853226408},
    "exp_highest": {32: 88.7228394, 64: 709.78271289338399},
    "smallest_normal": {32: 2.0**-126, 64: 2.0**-1022},
    "tanh_end": {32: 9.5, 64: 20.0},  # beyond, tanh is 1 to the last bit
    "mish_end": {32: 20.0, 64: 40.0},  # beyond, mish(z) is z
    "normal_end": {32: 13.5, 64: 38.6},  # beyond, exp(-z²/2) is 0
    "infinity": {32: math.inf, 64: math.inf},
}
for (_name, _bits), _value in COEFFICIENTS.items():
    _number = float(_value) if isinstance(_value, int) else _value
    NUMBERS.setdefault(_name, {})[_bits] = _number
