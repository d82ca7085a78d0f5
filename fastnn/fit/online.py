"""Learning from one batch at a time: what ``train_on_batch`` does when it must look closely.

The trainer is kept from call to call. ``Sequential.train_on_batch`` uses it directly as
long as the same loss and optimizer objects come with plain arrays; everything else comes
here, is checked, and leaves a trainer for the next call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .. import losses, optimizers
from . import training
from ..kernels.contract import LossSpec, OptimizerSpec, Trainer
from ..optimizers import LBFGS
from ..schedules import Constant

if TYPE_CHECKING:
    from ..model import Sequential

#: Losses that any finite target is good for: a step needs no check of targets in Python.
_ANY_TARGET = ("mse", "mae", "huber", "quantile", "sum_squares")


class Online(NamedTuple):
    """What ``train_on_batch`` keeps from call to call."""

    loss: Any  # as given: compared by identity
    optimizer: Any
    rows: tuple[LossSpec, OptimizerSpec]
    trainer: Trainer
    rate: float | None  # None: it changes
    first_step: int  # updates made before the trainer was
    is_any_target: bool


def train(
    model: Sequential, X: Any, y: Any, *, loss: Any, optimizer: Any, sample_weight: Any
) -> float:
    """One update after all checks; the caller holds the model's lock."""
    rule = optimizers.resolve(optimizer)
    if isinstance(rule, LBFGS):
        raise ValueError("LBFGS takes the whole data set: use fit")
    schedule = rule.schedule
    if schedule.watch() is not None:
        raise ValueError("ReduceOnPlateau needs epochs: use fit")
    if schedule.needs_end:
        raise ValueError(f"{type(schedule).__name__} needs epochs= outside of fit")
    rows = losses.resolve(loss, model.last_activation), rule.spec()
    data = training.check_data(model, X, y, sample_weight, rows[0])
    model._build(data.X.shape[1])
    online = model._online
    if online is None or online.rows != rows:
        model._prepare_state(rows[1], resume=True)
        trainer = model._trainer(*rows, len(data.X), 1)
        first_step = model._built().get_state()[0]
    else:
        trainer, first_step = online.trainer, online.first_step
    rate = schedule.learning_rate if isinstance(schedule, Constant) else None
    is_any_target = not isinstance(rows[0].name, str) or rows[0].name in _ANY_TARGET
    model._online = Online(loss, optimizer, rows, trainer, rate, first_step, is_any_target)
    if rate is None:
        step = first_step + trainer.steps
        rate = float(schedule.rates(step, 1, step + 1)[0])
    value = trainer.step(*data, rate)
    assert value is not None, "the engine refuses a batch that has been checked"
    return value
