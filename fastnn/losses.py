"""Losses: the names that users give, and which row of the engines each one means.

A cross-entropy is computed from logits wherever it can be. ``resolve`` decides by the
last activation; everything below it takes the decision as given. A row with a parameter
has a class here, called as the row is and with a field as the parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from . import checks
from .custom import CustomLoss
from .kernels.contract import ACTIVATIONS, CustomFunction, LossSpec
from .kernels.contract import LOSSES as ROWS

__all__ = ["Huber", "Quantile"]


class _WithParameter(checks.Checked):
    CHECKS: ClassVar = {"delta": checks.within(above=0), "q": checks.within(above=0, below=1)}


@dataclass(frozen=True)
class Huber(_WithParameter):
    """½e² where |e| ≤ ``delta``, else delta·(|e| - ½delta) (Huber 1964); "huber" has delta 1."""

    delta: float = ROWS["huber"].default


@dataclass(frozen=True)
class Quantile(_WithParameter):
    """max(q·e, (q - 1)·e), e = target - output (Koenker & Bassett 1978); "quantile" has q ½."""

    q: float = ROWS["quantile"].default


#: What users name.
LOSSES = tuple(name for name, row in ROWS.items() if row.is_public)

_ELSEWHERE = {other: name for name in LOSSES for other in ROWS[name].names}


def resolve(loss: Any, last_activation: str | CustomFunction) -> LossSpec:
    """The engines' row for what the user gave, on a network that ends in ``last_activation``.

    TypeError or ValueError for what is neither a name of ``LOSSES``, nor of a class here, nor
    what ``fastnn.loss`` made.
    """
    if isinstance(loss, CustomLoss):
        return LossSpec(loss)
    if isinstance(loss, _WithParameter):
        name = type(loss).__name__.lower()
        return LossSpec(name, getattr(loss, str(ROWS[name].parameter)))
    example = "a name such as 'mse', Huber(…), Quantile(…) or fastnn.loss(f)"
    checks.instance("loss", loss, str, example)
    name = checks.choice("loss", loss, LOSSES, _ELSEWHERE)
    row = ROWS[name]
    if isinstance(last_activation, str) and ACTIVATIONS[last_activation].is_probability:
        if last_activation == row.fused_with:
            return LossSpec(name, row.default, fused=True)
        name = row.of_probabilities or name
    return LossSpec(name, row.default)
