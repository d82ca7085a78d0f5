"""Schedules: the learning rate as a function of the step, a whole epoch at a time.

A schedule is an immutable description. ``rates`` gives the float64 rates of all steps of
an epoch in one array, which the engine then reads: no Python runs per batch. What depends
on the course of a fit (``ReduceOnPlateau``) lives in that fit: see ``watch``.

Durations are epochs and may be fractions. ``train_on_batch``, which knows no epochs,
counts each update as an epoch of one step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import checks

Array = NDArray[Any]


class Schedule:
    """Base class. A new schedule overrides ``at``.

    ``needs_end`` says that the rates depend on the length of the fit.
    """

    needs_end: bool = False

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """The rates at ``step`` (float64, counted from the start of the fit)."""
        raise NotImplementedError

    def rates(self, epoch: int, steps_per_epoch: int, epochs: int) -> Array:
        """The rates of the steps of ``epoch``.

        Parameters
        ----------
        epoch : int
            From 0.
        steps_per_epoch : int
        epochs : int
            Length of the fit.

        Returns
        -------
        ndarray (steps_per_epoch,) of float64
        """
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


def _set(schedule: Schedule, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(schedule, name, value)


def _rate(value: Any, name: str = "learning_rate") -> float:
    return checks.real(name, value, at_least=0)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at every step."""

    learning_rate: float

    def __post_init__(self) -> None:
        _set(self, learning_rate=_rate(self.learning_rate))

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """learning_rate."""
        return np.full(len(step), self.learning_rate)


@dataclass(frozen=True)
class StepDecay(Schedule):
    """learning_rate · factor^⌊epoch / every⌋, with epoch a whole number.

    Parameters
    ----------
    learning_rate : float
    every : int
        Epochs between two drops.
    factor : float, default 0.1
        In (0, 1].
    """

    learning_rate: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _set(
            self,
            learning_rate=_rate(self.learning_rate),
            every=checks.whole("every", self.every),
            factor=checks.real("factor", self.factor, above=0, at_most=1),
        )

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """learning_rate · factor^⌊step / (every · steps_per_epoch)⌋."""
        drops = step // (self.every * steps_per_epoch)
        rates: Array = self.learning_rate * self.factor**drops
        return rates


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """learning_rate · factor^epoch, with epoch growing by a fraction at every step.

    Parameters
    ----------
    learning_rate : float
    factor : float
        What an epoch multiplies the rate by, in (0, 1].
    """

    learning_rate: float
    factor: float

    def __post_init__(self) -> None:
        _set(
            self,
            learning_rate=_rate(self.learning_rate),
            factor=checks.real("factor", self.factor, above=0, at_most=1),
        )

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """learning_rate · factor^(step / steps_per_epoch)."""
        rates: Array = self.learning_rate * self.factor ** (step / steps_per_epoch)
        return rates


def _cosine(start: float, end: float, fraction: Array) -> Array:
    """From ``start`` at 0 to ``end`` at 1 along half a cosine."""
    return end + (start - end) * 0.5 * (1 + np.cos(math.pi * fraction))


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """From ``learning_rate`` to ``final`` along half a cosine, then ``final``.

    Loshchilov & Hutter 2017, "SGDR", one period without restarts.

    Parameters
    ----------
    learning_rate : float
    final : float, default 0
    epochs : float or None
        Length of the decay; None is the length of the fit.
    """

    learning_rate: float
    final: float = 0.0
    epochs: float | None = None

    def __post_init__(self) -> None:
        _set(
            self,
            learning_rate=_rate(self.learning_rate),
            final=_rate(self.final, "final"),
            epochs=_length(self.epochs),
            needs_end=self.epochs is None,
        )

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """Final + (learning_rate - final) · (1 + cos(π · step / length)) / 2."""
        length = total_steps if self.epochs is None else self.epochs * steps_per_epoch
        return _cosine(self.learning_rate, self.final, np.minimum(step / length, 1.0))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to ``learning_rate`` and down to almost nothing, both along half a cosine.

    Smith & Topin 2018, "Super-Convergence", as PyTorch's OneCycleLR has it: the peak is
    at step ``warm_up`` · steps - 1 and the end at the last step.

    Parameters
    ----------
    learning_rate : float
        The peak.
    warm_up : float, default 0.3
        Fraction of the steps until the peak, in (0, 1).
    start_factor : float, default 1/25
        The first rate as a fraction of the peak.
    final_factor : float, default 1e-4
        The last rate as a fraction of the first.
    epochs : float or None
        Length of the cycle; None is the length of the fit.
    """

    learning_rate: float
    warm_up: float = 0.3
    start_factor: float = 0.04
    final_factor: float = 1e-4
    epochs: float | None = None

    def __post_init__(self) -> None:
        _set(
            self,
            learning_rate=_rate(self.learning_rate),
            warm_up=checks.real("warm_up", self.warm_up, above=0, below=1),
            start_factor=checks.real("start_factor", self.start_factor, at_least=0, at_most=1),
            final_factor=checks.real("final_factor", self.final_factor, at_least=0, at_most=1),
            epochs=_length(self.epochs),
            needs_end=self.epochs is None,
        )

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """Two halves of cosines that meet at the peak."""
        length = total_steps if self.epochs is None else self.epochs * steps_per_epoch
        start = self.learning_rate * self.start_factor
        final = start * self.final_factor
        last = max(length - 1, 1)
        peak = min(max(self.warm_up * length - 1, 0.0), last - 0.5)
        up = step / peak if peak > 0 else np.ones_like(step)
        down = np.minimum((step - peak) / (last - peak), 1.0)
        return np.where(
            step < peak,
            _cosine(start, self.learning_rate, up),
            _cosine(self.learning_rate, final, down),
        )


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A linear rise over the first epochs, then another schedule from its beginning.

    Parameters
    ----------
    then : float or Schedule
        What follows; the rise ends at its first rate, and it sees a fit that is shorter
        by the rise.
    epochs : float, default 1
        Length of the rise, rounded to whole steps, at least one.
    start_factor : float, default 0
        Step s of n has start_factor + (1 - start_factor) · (s + 1) / n of the full rate.
    """

    then: float | Schedule
    epochs: float = 1.0
    start_factor: float = 0.0

    def __post_init__(self) -> None:
        then = as_schedule(self.then)
        _set(
            self,
            then=then,
            epochs=checks.real("epochs", self.epochs, above=0),
            start_factor=checks.real("start_factor", self.start_factor, at_least=0, at_most=1),
            needs_end=then.needs_end,
        )

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """The schedule that follows, shifted, times the rise."""
        rise = max(1, round(self.epochs * steps_per_epoch))
        following = as_schedule(self.then).at(
            np.maximum(step - rise, 0.0), steps_per_epoch, max(1, total_steps - rise)
        )
        risen = np.minimum((step + 1) / rise, 1.0)
        return following * (self.start_factor + (1 - self.start_factor) * risen)

    def watch(self) -> Plateau | None:
        """That of the schedule that follows."""
        return as_schedule(self.then).watch()


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """A schedule that is multiplied by ``factor`` whenever the loss stops falling.

    It watches ``val_loss`` if there is validation data, else ``loss``, and starts afresh
    in every fit. It needs epochs: ``train_on_batch`` refuses it.

    Parameters
    ----------
    learning_rate : float or Schedule
    factor : float, default 0.1
        In (0, 1).
    patience : int, default 10
        Epochs without improvement that are borne; the next one reduces.
    min_delta : float, default 1e-4
        A loss is an improvement if it is below the best one by more than this fraction
        of it.
    min_rate : float, default 0
        No rate is reduced below this.
    """

    learning_rate: float | Schedule
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    min_rate: float = 0.0

    def __post_init__(self) -> None:
        inner = as_schedule(self.learning_rate)
        if inner.watch() is not None:
            raise ValueError("ReduceOnPlateau cannot be nested in itself")
        _set(
            self,
            learning_rate=inner,
            factor=checks.real("factor", self.factor, above=0, below=1),
            patience=checks.whole("patience", self.patience, at_least=0),
            min_delta=checks.real("min_delta", self.min_delta, at_least=0),
            min_rate=_rate(self.min_rate, "min_rate"),
            needs_end=inner.needs_end,
        )

    def at(self, step: Array, steps_per_epoch: int, total_steps: int) -> Array:
        """The rates before any reduction."""
        return as_schedule(self.learning_rate).at(step, steps_per_epoch, total_steps)

    def watch(self) -> Plateau | None:
        """The state of one fit."""
        return Plateau(self)


@dataclass
class Plateau:
    """How often ``ReduceOnPlateau`` has reduced the rates of one fit, and why."""

    rule: ReduceOnPlateau
    scale: float = 1.0
    best: float = math.inf
    waited: int = field(default=0)

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


def _length(epochs: Any) -> float | None:
    return None if epochs is None else checks.real("epochs", epochs, above=0)
