"""Rows of the table of kernels: loops over arrays around a formula, as LLVM instructions.

Each writes the body of a C function; the formula is ``formulas/``'s, on vectors of two
registers. n is a multiple of 16. What is written may be one of the arrays that are read.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..formulas.activations import ACTIVATIONS
from ..formulas.losses import LOSSES
from ..formulas.optimizers import OPTIMIZERS, SCALARS
from .lane import I64, Lane, Pointer, opened, repeat
from .tile import BLOCK, Registers


def _lanes(array: Pointer, registers: Registers) -> int:
    return min(BLOCK, 2 * registers.bits // array.bits)


def forward(function: Any, registers: Registers, name: str) -> None:
    """``ActivationForward``: y = f(y), slope = f'; slope may be NULL."""
    builder, (y, slope, n) = opened(function, registers.fuse)
    (formula, slope_of), lanes = ACTIVATIONS[name], _lanes(y, registers)

    def value(i: Lane) -> Lane:
        """Write it, return the slope."""
        found = formula((y + i).read(lanes))
        pair = found if slope_of is None else (found, slope_of(found))
        (y + i).write(pair[0])
        return pair[1]

    is_null = builder.icmp_unsigned("==", slope.value, ir.Constant(slope.value.type, None))
    with builder.if_else(is_null) as (alone, both):
        with alone:
            repeat(0, n, lanes, lambda i: value(i) and None)
        with both:
            repeat(0, n, lanes, lambda i: (slope + i).write(value(i)))
    builder.ret_void()


def backward(function: Any, registers: Registers, name: str) -> None:
    """``ActivationBackward``: delta = upstream f', which follows from y."""
    builder, (upstream, y, delta, n) = opened(function, registers.fuse)
    slope_of, lanes = ACTIVATIONS[name][1], _lanes(y, registers)

    def each(i: Lane) -> None:
        (delta + i).write((upstream + i).read(lanes) * slope_of((y + i).read(lanes)))

    repeat(0, n, lanes, each)
    builder.ret_void()


def elements(function: Any, registers: Registers, name: str) -> None:
    """``LossElements``: value and derivative of each pair of output and target."""
    builder, (output, target, value, derivative, n, parameter) = opened(function, registers.fuse)
    lanes = _lanes(output, registers)
    number = parameter.spread(lanes)

    def each(i: Lane) -> None:
        pair = LOSSES[name]((output + i).read(lanes), (target + i).read(lanes), number)
        for array, x in zip((value, derivative), pair, strict=True):
            (array + i).write(x)

    repeat(0, n, lanes, each)
    builder.ret_void()


def update(function: Any, registers: Registers, name: str) -> None:
    """``Update``: parameters and moments from a place on follow the gradient.

    ``scalars`` is a struct: clip and decay, a double, and the numbers of ``SCALARS``.
    """
    builder, (parameters, moments, at, gradient, n, scalars) = opened(function, registers.fuse)
    rule, lanes = OPTIMIZERS[name], _lanes(gradient, registers)
    struct = parameters.made(builder.bitcast(scalars, parameters.value.type))

    def number(k: int) -> Lane:
        return (struct + k).read().spread(lanes)

    clip, decay, first = number(0), number(1), 2 + 64 // gradient.bits
    numbers = {key: number(first + SCALARS.index(key)) for key in rule.scalars}
    kept = [builder.load(builder.gep(moments, [I64(k)])) for k in range(len(rule.moments))]
    arrays = [parameters + at, *(parameters.made(array) + at for array in kept)]

    def each(i: Lane) -> None:
        w, *m = ((array + i).read(lanes) for array in arrays)
        g = (gradient + i).read(lanes) * clip + w * decay
        for array, new in zip(arrays, rule.update(w, g, *m, **numbers), strict=True):
            (array + i).write(new)

    repeat(0, n, lanes, each)
    builder.ret_void()
