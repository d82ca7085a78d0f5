"""Losses: the names that users give, and which row of the engines each one means.

A cross-entropy is computed from logits wherever it can be. ``resolve`` decides by the
last activation; everything below it takes the decision as given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import checks
from .custom import CustomLoss
from .kernels.contract import CustomFunction, LossSpec


@dataclass(frozen=True)
class Huber:
    """½e² where |e| ≤ ``delta``, else delta·(|e| - ½delta) (Huber 1964); "huber" has delta 1."""

    delta: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", checks.real("delta", self.delta, above=0))


@dataclass(frozen=True)
class Quantile:
    """max(q·e, (q - 1)·e), e = target - output (Koenker & Bassett 1978); "quantile" has q ½."""

    q: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", checks.real("q", self.q, above=0, below=1))


LOSSES = (
    "mse",
    "mae",
    "huber",
    "quantile",
    "poisson",
    "sum_squares",
    "cross_entropy",
    "binary_cross_entropy",
)

_DEFAULTS: dict[str, Huber | Quantile] = {"huber": Huber(), "quantile": Quantile()}

#: The activation with which the loss is computed fused, from the logits.
_FUSED = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}

#: The output of any other activation is the logits of a cross-entropy.
PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")


def resolve(loss: Any, last_activation: str | CustomFunction) -> LossSpec:
    """The engines' row for ``loss`` on a network that ends in ``last_activation``.

    Parameters
    ----------
    loss : str, Huber, Quantile or CustomLoss
        A name of ``LOSSES``, or what ``fastnn.loss`` made.
    last_activation : str or CustomActivation

    Returns
    -------
    LossSpec

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(loss, str):
        loss = _DEFAULTS.get(loss, loss)
    if isinstance(loss, Huber):
        return LossSpec("huber", loss.delta)
    if isinstance(loss, Quantile):
        return LossSpec("quantile", loss.q)
    if isinstance(loss, CustomLoss):
        return LossSpec(loss)
    example = "a name such as 'mse', Huber(…), Quantile(…) or fastnn.loss(f)"
    checks.instance("loss", loss, str, example)
    name = checks.choice("loss", loss, LOSSES)
    if name not in _FUSED or last_activation not in PROBABILITIES:
        return LossSpec(name)
    if last_activation == _FUSED[name]:
        return LossSpec(name, fused=True)
    return LossSpec(f"{name}_of_probabilities")
