"""Schedules: the learning rate as a function of the step, a whole epoch at a time.

A schedule is an immutable description. ``rates`` gives the float64 rates of all steps of
an epoch in one array, which the engine then reads: no Python runs per batch. What depends
on the course of a fit (``ReduceOnPlateau``) lives in that fit: see ``watch``.

Durations are epochs and may be fractions. ``train_on_batch``, which knows no epochs,
counts each update as an epoch of one step. Wrong numbers are a TypeError or ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import checks

__all__ = ["Constant", "CosineDecay", "ExponentialDecay", "OneCycle", "ReduceOnPlateau"]
__all__ += ["Schedule", "StepDecay", "WarmUp"]

Array = NDArray[Any]


class Schedule:
    """Base class. A new schedule overrides ``at``, and ``needs_end`` where it does."""

    @property
    def needs_end(self) -> bool:
        """Whether the rates depend on the length of the fit."""
        return False

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """The rates at ``step`` (float64, counted from the start of the fit)."""
        raise NotImplementedError

    def rates(self, epoch: int, steps_per_epoch: int, epochs: int) -> Array:
        """The rates of the steps of ``epoch`` (from 0) in a fit of so many: float64, 1-D."""
        first = epoch * steps_per_epoch
        step = np.arange(first, first + steps_per_epoch, dtype=np.float64)
        return self.at(step, steps_per_epoch, epochs * steps_per_epoch)

    def watch(self) -> Plateau | None:
        """What follows the losses of one fit and scales the rates, if anything does."""
        return None


def as_schedule(learning_rate: Any) -> Schedule:
    """A schedule as it is; a number as the constant schedule."""
    if isinstance(learning_rate, Schedule):
        return learning_rate
    if isinstance(learning_rate, type) and issubclass(learning_rate, Schedule):
        raise TypeError(f"learning_rate is the class {learning_rate.__name__}: give an instance")
    return Constant(learning_rate)


_positive, _length = checks.within(at_least=0), checks.within(above=0)


class _Ours(checks.Checked, Schedule):
    CHECKS: ClassVar[checks.Checks] = {
        **dict.fromkeys(("learning_rate", "final", "min_rate", "min_delta"), _positive),
        **dict.fromkeys(("start_factor", "final_factor"), checks.within(at_least=0, at_most=1)),
        "every": checks.whole,
        "factor": checks.within(above=0, at_most=1),
        "epochs": checks.optional(_length),
        "warm_up": checks.within(above=0, below=1),
        "patience": lambda name, value: checks.whole(name, value, at_least=0),
        "then": lambda name, value: as_schedule(value),
    }

    @property
    def needs_end(self) -> bool:
        """Unless it has a length of its own; or if the schedule within it does."""
        inner = getattr(self, "then", getattr(self, "learning_rate", None))
        is_open = getattr(self, "epochs", 0) is None
        return is_open or (isinstance(inner, Schedule) and inner.needs_end)


@dataclass(frozen=True)
class Constant(_Ours):
    """The same rate at every step."""

    learning_rate: float

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        return np.full(len(step), self.learning_rate)


@dataclass(frozen=True)
class StepDecay(_Ours):
    """learning_rate · factor^⌊epoch / every⌋, with epoch a whole number, factor in (0, 1]."""

    learning_rate: float
    every: int
    factor: float = 0.1

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        rates: Array = self.learning_rate * self.factor ** (step // (self.every * steps_per_epoch))
        return rates


@dataclass(frozen=True)
class ExponentialDecay(_Ours):
    """learning_rate · factor^epoch, epoch growing by a fraction at every step, factor in (0, 1]."""

    learning_rate: float
    factor: float

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        rates: Array = self.learning_rate * self.factor ** (step / steps_per_epoch)
        return rates


def _cosine(start: float, end: float, fraction: Array) -> Array:
    """From ``start`` at 0 to ``end`` at 1 along half a cosine."""
    return end + (start - end) * 0.5 * (1 + np.cos(math.pi * fraction))


@dataclass(frozen=True)
class CosineDecay(_Ours):
    """From ``learning_rate`` to ``final`` along half a cosine, then ``final``.

    Loshchilov & Hutter 2017, "SGDR", one period without restarts. ``epochs`` is the length of
    the decay; None that of the fit.
    """

    learning_rate: float
    final: float = 0.0
    epochs: float | None = None

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        length = total_steps if self.epochs is None else self.epochs * steps_per_epoch
        return _cosine(self.learning_rate, self.final, np.minimum(step / length, 1.0))


@dataclass(frozen=True)
class OneCycle(_Ours):
    """Up to ``learning_rate`` and down to almost nothing, both along half a cosine.

    Smith & Topin 2018, "Super-Convergence", as PyTorch's OneCycleLR has it: the peak is
    at step ``warm_up`` · steps - 1 and the end at the last step.

    Parameters
    ----------
    learning_rate : float
        The peak.
    warm_up : float
        Fraction of the steps until the peak, in (0, 1).
    start_factor, final_factor : float
        The first rate as a fraction of the peak, and the last as a fraction of the first.
    epochs : float or None
        Length of the cycle; None is that of the fit.
    """

    learning_rate: float
    warm_up: float = 0.3
    start_factor: float = 0.04
    final_factor: float = 1e-4
    epochs: float | None = None

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        length = total_steps if self.epochs is None else self.epochs * steps_per_epoch
        start = self.learning_rate * self.start_factor
        last = max(length - 1, 1)
        peak = min(max(self.warm_up * length - 1, 0.0), last - 0.5)
        up = step / peak if peak > 0 else np.ones_like(step)
        down = np.minimum((step - peak) / (last - peak), 1.0)
        return np.where(
            step < peak,
            _cosine(start, self.learning_rate, up),
            _cosine(self.learning_rate, start * self.final_factor, down),
        )


@dataclass(frozen=True)
class WarmUp(_Ours):
    """A linear rise over the first ``epochs``, rounded to whole steps, then another schedule.

    The rise ends at the first rate of ``then``, which sees a fit that is shorter by the rise.
    Step s of n has start_factor + (1 - start_factor) · (s + 1) / n of the full rate.
    """

    then: float | Schedule
    epochs: float = 1.0
    start_factor: float = 0.0

    CHECKS: ClassVar[checks.Checks] = {**_Ours.CHECKS, "epochs": _length}

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        rise = max(1, round(self.epochs * steps_per_epoch))
        following = as_schedule(self.then).at(
            np.maximum(step - rise, 0.0), steps_per_epoch, max(1, total_steps - rise)
        )
        risen = np.minimum((step + 1) / rise, 1.0)
        return following * (self.start_factor + (1 - self.start_factor) * risen)

    def watch(self) -> Plateau | None:
        return as_schedule(self.then).watch()


@dataclass(frozen=True)
class ReduceOnPlateau(_Ours):
    """A schedule that is multiplied by ``factor`` whenever the loss stops falling.

    It watches ``val_loss`` if there is validation data, else ``loss``, and starts afresh
    in every fit. It needs epochs: ``train_on_batch`` refuses it.

    Parameters
    ----------
    learning_rate : float or Schedule
    factor : float
        In (0, 1).
    patience : int
        Epochs without improvement that are borne; the next one reduces.
    min_delta : float
        A loss is an improvement if it is below the best one by more than this fraction of it.
    min_rate : float
        No rate is reduced below this.
    """

    learning_rate: float | Schedule
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    min_rate: float = 0.0

    CHECKS: ClassVar[checks.Checks] = {
        **_Ours.CHECKS,
        "learning_rate": lambda name, value: as_schedule(value),
        "factor": checks.within(above=0, below=1),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if as_schedule(self.learning_rate).watch() is not None:
            raise ValueError("ReduceOnPlateau cannot be nested in itself")

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        return as_schedule(self.learning_rate).at(step, steps_per_epoch, total_steps)

    def watch(self) -> Plateau | None:
        return Plateau(self)


@dataclass
class Plateau:
    """How often ``ReduceOnPlateau`` has reduced the rates of one fit, and why."""

    rule: ReduceOnPlateau
    scale: float = 1.0
    best: float = math.inf
    waited: int = 0

    def reduced(self, rates: Array) -> Array:
        """The rates of an epoch after the reductions so far."""
        return np.maximum(rates * self.scale, np.minimum(rates, self.rule.min_rate))

    def observe(self, logs: Mapping[str, float]) -> None:
        """Take note of the losses at the end of an epoch."""
        loss = logs.get("val_loss", logs["loss"])
        if loss < self.best - self.rule.min_delta * abs(self.best) or math.isinf(self.best):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.rule.patience:
            self.scale *= self.rule.factor
            self.waited = 0
