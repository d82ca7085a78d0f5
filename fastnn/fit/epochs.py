"""The course of a fit: epochs inside the engine, and what stands between them.

Per epoch the engine gets one array of rates and gives back one loss; then come validation,
metrics and callbacks. Nothing runs per batch, unless a callback has ``on_batch_end``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..kernels import random
from ..kernels.contract import LossSpec, Trainer
from ..optimizers import Optimizer
from ..schedules import Constant, Plateau, Schedule
from .callbacks import History, Model
from .learner import Data, Learner
from .plan import Plan

Array = NDArray[Any]


class Course:
    """A fit under way: what happens around its epochs, whatever makes their updates.

    ``model`` is what callbacks get; its history is begun here. The learner is built, and the
    caller has its claim.
    """

    def __init__(self, learner: Learner, model: Model, plan: Plan) -> None:
        self.learner, self.model, self.plan = learner, model, plan
        self.history = model.history = History()
        model.stop_training = False

    def begin(self) -> None:
        """Tell the callbacks that the fit begins."""
        self.plan.callbacks.call("set_model", self.model)
        self.plan.callbacks.call("on_train_begin")

    def end_epoch(
        self, trainer: Trainer, epoch: int, loss: float, rate: float | None = None
    ) -> dict[str, float]:
        """Validate, measure, record and tell; return the logs."""
        plan = self.plan
        self.learner.epochs = epoch + 1
        logs = {"loss": loss} | self._measure("", plan.data._replace(weight=plan.metric_weight))
        if plan.validation is not None:
            logs["val_loss"] = trainer.evaluate(*plan.validation)
            logs |= self._measure("val_", plan.validation)
        if rate is not None:
            logs["learning_rate"] = rate
        self.history.append(epoch, logs)
        plan.progress.update(logs)
        plan.callbacks.call("on_epoch_end", epoch, logs)
        return logs

    def _measure(self, prefix: str, data: Data) -> dict[str, float]:
        if not self.plan.metrics:
            return {}
        output = self.learner.built().predict(data.X, self.plan.threads)
        assert output is not None, "the engine refuses a matrix that has been checked"
        return {
            f"{prefix}{name}": function(data.target, output, data.weight)
            for name, function in self.plan.metrics.items()
        }

    def run(self, rule: Optimizer) -> None:
        """Train by a first-order optimizer."""
        learner, plan, model = self.learner, self.plan, self.model
        spec, schedule = rule.spec(), rule.schedule
        learner.prepare_state(spec, plan.resume)
        watcher, is_constant = schedule.watch(), isinstance(schedule, Constant)
        first, end = learner.epochs, learner.epochs + plan.epochs
        trainer = learner.trainer(plan.loss, spec, plan.batch_size, plan.threads, plan.exactly)
        with trainer, plan.progress:
            self.begin()
            for epoch in range(first, end):
                plan.callbacks.call("on_epoch_begin", epoch, {})
                if epoch == first or not is_constant:
                    rates = checked_rates(schedule, watcher, plan.steps_per_epoch, epoch, end)
                if plan.callbacks.has("on_batch_end"):
                    loss = self._epoch_by_steps(trainer, epoch, rates)
                else:
                    loss = trainer.epoch(*plan.data, epoch, rates, plan.shuffle)
                logs = self.end_epoch(trainer, epoch, loss, float(rates[-1]))
                if watcher is not None:
                    watcher.observe(logs)
                if model.stop_training:
                    break
            plan.callbacks.call("on_train_end")

    def _epoch_by_steps(self, trainer: Trainer, epoch: int, rates: Array) -> float:
        plan, n = self.plan, len(self.plan.data.X)
        order = random.permutation(self.learner.seed, epoch, n) if plan.shuffle else np.arange(n)

        def end_step(batch: int, loss: float) -> bool:
            plan.callbacks.call("on_batch_end", batch, {"loss": loss})
            return self.model.stop_training

        batches = in_batches(order, plan.batch_size)
        return by_steps(trainer, plan.data, batches, rates, plan.loss, end_step)[0]


def checked_rates(
    schedule: Schedule, watcher: Plateau | None, steps: int, epoch: int, epochs: int
) -> Array:
    """What the schedule gives for ``epoch``, checked: a schedule may be the user's own."""
    rates = np.require(schedule.rates(epoch, steps, epochs), np.float64, ["C", "A"])
    if rates.shape != (steps,) or not np.isfinite(rates).all():
        raise ValueError(f"{schedule!r} must give {steps} finite rates, not {rates!r}")
    return rates if watcher is None else watcher.reduced(rates)


# --------------------------------------------------------------------------- step by step


class Rows(Protocol):
    """Data from which batches can be taken."""

    def take(self, rows: Array) -> tuple[Array, Array, Array | None]:
        """Plain X, target and weight of some rows."""


def in_batches(order: Array, size: int) -> Iterator[Array]:
    """The row numbers of each batch; the last may be short."""
    for start in range(0, len(order), size):
        yield order[start : start + size]


def by_steps(
    trainer: Trainer,
    data: Rows,
    batches: Iterator[Array],
    rates: Array,
    loss: LossSpec,
    end_step: Callable[[int, float], bool] = lambda batch, loss: False,
) -> tuple[float, float]:
    """One epoch in which each batch is a call into the engine; its loss, and the penalty in it.

    ``end_step`` gets the number of a batch and its loss, and returns whether to end there.
    Dropout masks are those of single steps, keyed by the number of updates.
    """
    total = penalty = seen = 0.0
    for batch, (rows, rate) in enumerate(zip(batches, rates, strict=True)):
        value = trainer.step(*data.take(rows), float(rate))
        assert value is not None, "the engine refuses a batch of checked data"
        share = 1 if loss.row.divisor == "none" else len(rows)
        total += share * value
        penalty += share * trainer.penalty
        seen += len(rows)
        if end_step(batch, value):
            break
    mass = 1 if loss.row.divisor == "none" else seen
    return total / mass, penalty / mass
