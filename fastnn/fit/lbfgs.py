"""A fit by SciPy's L-BFGS-B: the engine gives losses and gradients, SciPy the steps.

An epoch is an iteration on the whole data set. After each one the model holds that
iterate, and an interrupt or a stop leaves it there: never a trial point of a line search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import layers
from ..errors import import_extra
from ..optimizers import LBFGS
from .training import NO_STATE, Course, History, Plan

if TYPE_CHECKING:
    from ..model import Sequential

Array = NDArray[Any]


class _Stop(Exception):
    """Raised in SciPy's callback when ``stop_training`` is set."""


def import_scipy() -> Any:
    """``scipy.optimize``, or an error that names the extra."""
    return import_extra("scipy.optimize", "sklearn", "the LBFGS optimizer")


def run(model: Sequential, plan: Plan, optimize: Any) -> History:
    """Train a built model; the caller holds the model's lock.

    Parameters
    ----------
    model : Sequential
    plan : Plan
        Whose optimizer is LBFGS.
    optimize : module
        ``scipy.optimize``.
    """
    assert isinstance(plan.optimizer, LBFGS)
    rule = plan.optimizer
    model._prepare_state(NO_STATE, plan.resume)
    course = Course(model, plan)
    is_weight = np.zeros(model.size)
    for weight, _ in layers.views(model.specs, is_weight):
        weight[...] = 1
    decay = rule.weight_decay + rule.l2 * is_weight
    accepted = model.parameters
    latest: tuple[Array, float] = (accepted, 0.0)
    epoch, has_begun = model._epochs, False
    trainer = model._trainer(plan.loss, NO_STATE, plan.batch_size, plan.threads)

    def objective(vector: Array) -> tuple[float, Array]:
        nonlocal latest, has_begun
        if not has_begun:
            has_begun = True
            plan.callbacks.call("on_epoch_begin", epoch, {})
        model._set_parameters(vector.astype(model.dtype))
        loss, gradient = trainer.gradient(*plan.data)
        latest = vector.copy(), loss
        penalty = 0.5 * float(np.sum(decay * vector**2))
        return loss + penalty, gradient.astype(np.float64) + decay * vector

    def end_iteration(vector: Array) -> None:
        nonlocal accepted, epoch, has_begun
        if not np.array_equal(vector, latest[0]):
            objective(vector)
        accepted = vector.astype(model.dtype)
        course.end_epoch(trainer, epoch, latest[1])
        accepted = model.parameters  # as the callbacks left them
        epoch, has_begun = epoch + 1, False
        if model.stop_training:
            raise _Stop

    with trainer, plan.progress:
        course.begin()
        accepted = model.parameters
        try:
            optimize.minimize(
                objective,
                accepted.astype(np.float64),
                jac=True,
                method="L-BFGS-B",
                callback=end_iteration,
                options={
                    "maxiter": plan.epochs,
                    "maxfun": 20 * plan.epochs + 20,
                    "maxcor": rule.memory,
                    "gtol": rule.gradient_tolerance,
                    "ftol": rule.loss_tolerance,
                },
            )
        except _Stop:
            pass
        finally:
            model._set_parameters(accepted)
        plan.callbacks.call("on_train_end")
    return course.history
