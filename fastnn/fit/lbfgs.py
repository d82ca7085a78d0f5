"""SciPy's L-BFGS-B: the engine gives losses and gradients, SciPy the steps.

An epoch of a fit is an iteration on the whole data set. After each one the model holds that
iterate, and an interrupt or a stop leaves it there: never a trial point of a line search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import import_extra
from ..kernels import contract
from ..kernels.contract import KINDS, LayerSpec
from ..optimizers import LBFGS
from .epochs import Course
from .learner import NO_STATE, Learner

Array = NDArray[Any]


def decays(layers: tuple[LayerSpec, ...], l2: float, weight_decay: float = 0.0) -> Array:
    """What each parameter's square counts twice in the objective, flat in float64."""
    flat = np.zeros(contract.size(layers))
    for layer, views in zip(layers, contract.views(layers, flat), strict=True):
        for tensor in layer.tensors:
            own = l2 if tensor.name in KINDS[layer.kind].penalised else 0.0
            views[tensor.name][...] = own + weight_decay * tensor.decay_factor
    return flat


def minimize(
    learner: Learner,
    objective: Callable[[Array], tuple[float, Array]],
    end_iteration: Callable[[float], bool],
    options: dict[str, Any],
) -> Any:
    """Go on from the learner's parameters; it is left at the last iterate. SciPy's result.

    ``objective(vector)`` gives value and gradient at flat parameters in float64, which the
    learner holds then. ``end_iteration(value)`` returns whether to stop; the learner holds the
    iterate, and may be given other parameters to be left with. ``options`` are SciPy's.
    """
    optimize = import_extra("scipy.optimize", "sklearn", "the LBFGS optimizer")
    accepted = learner.parameters
    held: Array = accepted.astype(np.float64)

    def evaluate(vector: Array) -> tuple[float, Array]:
        nonlocal held
        held = vector.copy()
        learner.parameters = held.astype(learner.dtype)
        return objective(held)

    def after(intermediate_result: Any) -> None:
        nonlocal accepted
        if not np.array_equal(intermediate_result.x, held):
            evaluate(intermediate_result.x)
        accepted = learner.parameters
        is_over = end_iteration(float(intermediate_result.fun))
        accepted = learner.parameters  # as the callbacks left them
        if is_over:
            raise StopIteration

    try:
        return optimize.minimize(
            evaluate, held, jac=True, method="L-BFGS-B", callback=after, options=options
        )
    finally:
        learner.parameters = accepted


def run(course: Course, rule: LBFGS) -> None:
    """Train by LBFGS."""
    learner, plan = course.learner, course.plan
    learner.prepare_state(NO_STATE, plan.resume)
    decay = decays(learner.specs, rule.l2, rule.weight_decay)
    latest, has_begun = 0.0, False

    def objective(vector: Array) -> tuple[float, Array]:
        nonlocal latest, has_begun
        if not has_begun:
            has_begun = True
            plan.callbacks.call("on_epoch_begin", learner.epochs, {})
        latest, gradient = trainer.gradient(*plan.data)
        penalty = 0.5 * float(np.sum(decay * vector**2))
        return latest + penalty, gradient.astype(np.float64) + decay * vector

    def end_iteration(value: float) -> bool:
        nonlocal has_begun
        course.end_epoch(trainer, learner.epochs, latest)
        has_begun = False
        return course.model.stop_training

    trainer = learner.trainer(plan.loss, None, plan.batch_size, plan.threads)
    with trainer, plan.progress:
        course.begin()
        options = {
            "maxiter": plan.epochs,
            "maxfun": 20 * plan.epochs + 20,
            "maxcor": rule.memory,
            "gtol": rule.gradient_tolerance,
            "ftol": rule.loss_tolerance,
        }
        minimize(learner, objective, end_iteration, options)
        plan.callbacks.call("on_train_end")
