"""Learning from one batch at a time, with a trainer that is kept from call to call.

The same loss and optimizer objects with plain arrays go to it directly; everything else is
checked, and leaves a trainer for the next call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import losses, optimizers
from ..optimizers import LBFGS
from ..schedules import Constant
from .learner import Learner, Online
from .plan import check_data


def train(asked: tuple[Learner, Any, Any, Any, Any, Any]) -> float:
    """One update: (learner, X, y, loss, optimizer, sample_weight) -> the loss before it.

    The caller holds the claim.
    """
    learner, X, y, loss, optimizer, sample_weight = asked
    online = learner.online
    if (
        online is not None
        and loss is online.loss
        and optimizer is online.optimizer
        and online.rate is not None
        and sample_weight is None
        # of labels the engine sees whether they are in range, of other targets it does not
        and (online.takes_any_target or (type(y) is np.ndarray and y.ndim == 1))
    ):
        value = online.trainer.step(X, y, None, online.rate)
        if value is not None:
            return value
    return _train_checked(*asked)


def _train_checked(
    learner: Learner, X: Any, y: Any, loss: Any, optimizer: Any, sample_weight: Any
) -> float:
    rule = optimizers.resolve(optimizer)
    if isinstance(rule, LBFGS):
        raise ValueError("LBFGS takes the whole data set: use fit")
    schedule = rule.schedule
    if schedule.watch() is not None:
        raise ValueError("ReduceOnPlateau needs epochs: use fit")
    if schedule.needs_end:
        raise ValueError(f"{type(schedule).__name__} needs epochs= outside of fit")
    rows = losses.resolve(loss, learner.last.activation), rule.spec()
    data = check_data(learner, X, y, sample_weight, rows[0])
    learner.build(data.X.shape[1])
    online = learner.online
    if online is None or online.rows != rows:
        learner.prepare_state(rows[1], resume=True)
        trainer = learner.trainer(*rows, len(data.X))
        first_step = learner.built().get_state()[0]
    else:
        trainer, first_step = online.trainer, online.first_step
    rate = schedule.learning_rate if isinstance(schedule, Constant) else None
    is_any = rows[0].row.takes_any_target
    learner.online = Online(loss, optimizer, rows, trainer, rate, first_step, is_any)
    if rate is None:
        step = first_step + trainer.steps
        rate = float(schedule.rates(step, 1, step + 1)[0])
    value = trainer.step(*data, rate)
    assert value is not None, "the engine refuses a batch that has been checked"
    return value
