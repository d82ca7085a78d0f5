"""The course of an estimator's fit: scikit-learn's, with whole epochs inside the engine.

Between epochs stand its shuffle, its stopping rule and its messages, in its order; the
attributes that end in an underscore are kept up to date on the estimator, as there. So a
fit with the same ``random_state`` makes the same steps.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.utils.optimize import _check_optimize_result

from ..fit.callbacks import Callbacks
from ..kernels.contract import Trainer
from ..layers import views
from ..optimizers import LBFGS
from ..fit.progress import Progress
from ..fit.training import NO_STATE, STEP_FLOPS
from .conventions import Loss, Rule, say

Array = NDArray[Any]

#: What an estimator has that is bound to a process or to a call: no copy takes it over.
RUNNING = ("_online", "_claim")

LOSS = "loss"  # the scoring that is the negative loss of the validation set


class Data(NamedTuple):
    """Rows that belong together."""

    X: Any  # (n, features), plain, or a sparse matrix in CSR form
    target: Array  # labels (n,), or (n, outputs) in the model's dtype
    weight: Array | None  # (n,) in the model's dtype
    y: Any = None  # as the user has it: only of the validation set


class Watch(NamedTuple):
    """What observes a fit and may end it."""

    callbacks: Callbacks  # ours
    progress: Progress
    tasks: Any = None  # scikit-learn's context of the fit, or None


# --------------------------------------------------------------------------- first order


def run(
    estimator: Any,
    data: Data,
    validation: Data | None,
    *,
    rule: Rule,
    loss: Loss,
    random_state: Any,
    watch: Watch,
    incremental: bool,
) -> None:
    """Train a built estimator, one epoch if ``incremental``; its attributes tell the rest."""
    model, n = estimator._model, data.X.shape[0]
    size = batch_size(estimator.batch_size, n)
    threads = estimator._thread_count(STEP_FLOPS * size)
    exactly = estimator.threads is not None
    trainer = model._trainer(loss.row, rule.spec, size, threads, exactly)
    constants = loss.constants(data.target)
    order = np.arange(n)
    epochs = 1 if incremental else estimator.max_iter
    estimator.n_iter_ = 0
    model.stop_training = False
    try:
        with trainer, watch.progress:
            watch.callbacks.call("set_model", model)
            watch.callbacks.call("on_train_begin")
            for _ in range(epochs):
                watch.callbacks.call("on_epoch_begin", rule.epoch, {})
                task = _begin(estimator, watch, "epoch")
                if estimator.shuffle:
                    random_state.shuffle(order)  # the swaps of sklearn.utils.shuffle, unchecked
                rates = rule.rates(-(-n // size), epochs)
                value, penalty = _epoch(trainer, data, rule.epoch, rates, order, size)
                constant = _constant(constants, data.weight, order, size)
                estimator.loss_ = loss.reported(value, penalty, constant)
                may_end = end_epoch(
                    estimator, rule, n, lambda: _validate(estimator, trainer, validation, loss)
                )
                logs = _logs(estimator, rates, validation)
                watch.progress.update(logs)
                watch.callbacks.call("on_epoch_end", rule.epoch - 1, logs)
                if _end(estimator, task, data, logs) or model.stop_training or may_end:
                    break
                if not incremental and estimator.n_iter_ == estimator.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) "
                        "reached and the optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=2,
                    )
            watch.callbacks.call("on_train_end")
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    if estimator.early_stopping and estimator._best_parameters is not None:
        model._set_parameters(estimator._best_parameters)


def batch_size(wanted: Any, rows: int) -> int:
    """The rows of a step; a number that is too large is clipped with a warning."""
    if isinstance(wanted, str):
        return min(200, rows)
    if wanted > rows:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=2,
        )
    return int(min(wanted, rows))


def end_epoch(estimator: Any, rule: Rule, rows: int, validate: Callable[[], Any]) -> bool:
    """Count, report, look for an improvement; return whether the fit may end."""
    estimator.n_iter_ += 1
    estimator.t_ += rows
    estimator.loss_curve_.append(estimator.loss_)
    say(estimator.verbose, f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
    validate()
    if estimator.early_stopping:
        _compare_score(estimator)
        what = "Validation score"
    else:
        _compare_loss(estimator)
        what = "Training loss"
    logs = {"loss": estimator.loss_}
    if estimator.__dict__.get("validation_loss_curve_"):
        logs["val_loss"] = estimator.validation_loss_curve_[-1]
    rule.end_epoch(estimator.t_, logs)
    if estimator._no_improvement_count <= estimator.n_iter_no_change:
        return False
    message = (
        f"{what} did not improve more than tol={estimator.tol:f} "
        f"for {estimator.n_iter_no_change} consecutive epochs."
    )
    if rule.may_stop(message, estimator.verbose):
        return True
    estimator._no_improvement_count = 0
    return False


def _compare_loss(estimator: Any) -> None:
    if estimator.loss_ > estimator.best_loss_ - estimator.tol:
        estimator._no_improvement_count += 1
    else:
        estimator._no_improvement_count = 0
    estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)


def _compare_score(estimator: Any) -> None:
    score = estimator.validation_scores_[-1]
    say(estimator.verbose, f"Validation score: {score:f}")
    if score < estimator.best_validation_score_ + estimator.tol:
        estimator._no_improvement_count += 1
    else:
        estimator._no_improvement_count = 0
    if score > estimator.best_validation_score_:
        estimator.best_validation_score_ = score
        estimator._best_parameters = estimator._model.parameters


def _epoch(
    trainer: Trainer, data: Data, epoch: int, rates: Array, order: Array, size: int
) -> tuple[float, float]:
    """One epoch in the given order; its loss, and the penalty in it.

    Sparse rows become dense one batch at a time.
    """
    if not sparse.issparse(data.X):
        value = trainer.epoch(data.X, data.target, data.weight, epoch, rates, order)
        return value, trainer.penalty
    total = penalty = 0.0
    for rate, rows in zip(rates, _batches(order, size), strict=True):
        weight = None if data.weight is None else data.weight[rows]
        loss = trainer.step(data.X[rows].toarray(), data.target[rows], weight, float(rate))
        assert loss is not None, "the engine refuses a batch of checked data"
        total += loss * len(rows) / len(order)
        penalty += trainer.penalty * len(rows) / len(order)
    return total, penalty


def _batches(order: Array, size: int) -> Iterator[Array]:
    for first in range(0, len(order), size):
        yield order[first : first + size]


def _constant(constants: Array | None, weight: Array | None, order: Array, size: int) -> float:
    """The mean over batches, weighted by rows, of what rows add to the loss in any case."""
    if constants is None:
        return 0.0
    if weight is None:
        return float(constants.mean())
    starts = np.arange(0, len(order), size)
    mass = np.add.reduceat(weight[order].astype(np.float64), starts)
    sums = np.add.reduceat((weight * constants)[order], starts)
    shares = np.diff([*starts, len(order)]) / len(order)
    return float((shares * sums / np.where(mass == 0, 1, mass)).sum())


# --------------------------------------------------------------------------- validation


def _validate(estimator: Any, trainer: Trainer, data: Data | None, loss: Loss) -> None:
    """Append the loss and the score of the validation set."""
    if data is None:
        return
    if estimator._wants_validation_loss:
        X = data.X.toarray() if sparse.issparse(data.X) else data.X
        value = trainer.evaluate(X, data.target, data.weight)
        constants = loss.constants(data.target)
        constant = 0.0 if constants is None else float(np.average(constants, weights=data.weight))
        estimator.validation_loss_curve_.append(loss.reported(value, 0.0, constant))
    scoring = estimator.scoring
    if scoring is None:
        score = estimator._validation_score(data)
    elif isinstance(scoring, str) and scoring == LOSS:
        score = -estimator.validation_loss_curve_[-1]
    else:
        probe = copy.copy(estimator)
        probe.__dict__.pop("feature_names_in_", None)  # the rows here have no names any more
        weights = {} if data.weight is None else {"sample_weight": data.weight}
        score = float(check_scoring(probe, scoring)(probe, data.X, data.y, **weights))
    estimator.validation_scores_.append(score)


# --------------------------------------------------------------------------- observers


def _logs(estimator: Any, rates: Array, validation: Data | None) -> dict[str, float]:
    logs = {"loss": estimator.loss_, "learning_rate": float(rates[-1])}
    if validation is not None:
        logs["val_score"] = estimator.validation_scores_[-1]
        if estimator._wants_validation_loss:
            logs["val_loss"] = estimator.validation_loss_curve_[-1]
    return logs


def _begin(estimator: Any, watch: Watch, name: str) -> Any:
    if watch.tasks is None:
        return None
    return watch.tasks.subcontext(task_name=name).call_on_fit_task_begin(estimator=estimator)


def _end(estimator: Any, task: Any, data: Data, logs: dict[str, float]) -> bool:
    """Tell scikit-learn's callbacks; whether one of them wants the fit to end."""
    if task is None:
        return False
    return bool(
        task.call_on_fit_task_end(
            estimator=estimator,
            X=data.X,
            y=lambda: estimator._decoded(data.target),
            metadata={"sample_weight": data.weight},
            reconstruction_attributes=lambda: _fitted_attributes(estimator),
        )
    )


def _fitted_attributes(estimator: Any) -> dict[str, Any]:
    """What makes an estimator of equal parameters predict as this one does now."""
    left_out = {*estimator.get_params(deep=False), *RUNNING}
    state = {k: v for k, v in vars(estimator).items() if k not in left_out}
    state = {k: v for k, v in state.items() if "callback" not in k}
    return state | {"_model": copy.deepcopy(estimator._model)}


# --------------------------------------------------------------------------- L-BFGS


def run_lbfgs(estimator: Any, data: Data, *, loss: Loss, watch: Watch) -> None:
    """Train by SciPy's L-BFGS-B on the whole data set; the model is left at its last iterate."""
    model = estimator._model
    X = data.X.toarray() if sparse.issparse(data.X) else data.X
    n = len(X)
    mass = float(n if data.weight is None else data.weight.sum(dtype=np.float64))
    l2 = estimator.alpha / mass if mass else 0.0
    is_weight = np.zeros(model.size)
    for weight, _ in views(model.specs, is_weight):
        weight[...] = 1
    constant = _constant(loss.constants(data.target), data.weight, np.arange(n), n)
    accepted = model.parameters
    trainer = model._trainer(loss.row, NO_STATE, n, estimator._thread_count(STEP_FLOPS * n))

    def objective(vector: Array) -> tuple[float, Array]:
        model._set_parameters(vector.astype(model.dtype))
        value, gradient = trainer.gradient(X, data.target, data.weight)
        weights = vector * is_weight
        penalty = 0.5 * l2 * float(weights @ weights)
        # scipy minimises what is reported; where its scale is not 1, scikit-learn too hands
        # over a gradient that is not the reported loss's own
        return loss.reported(value, 0.0, constant) + penalty, gradient + l2 * weights

    is_stopped = False

    def end_iteration(intermediate_result: Any) -> None:
        nonlocal accepted, is_stopped
        accepted = intermediate_result.x.astype(model.dtype)
        logs = {"loss": float(intermediate_result.fun)}
        estimator.n_iter_ += 1
        say(estimator.verbose, f"Iteration {estimator.n_iter_}, loss = {logs['loss']:.8f}")
        watch.progress.update(logs)
        watch.callbacks.call("on_epoch_end", estimator.n_iter_ - 1, logs)
        task = _begin(estimator, watch, "iteration")
        is_stopped = _end(estimator, task, data, logs) or model.stop_training
        if is_stopped:
            raise StopIteration

    solver = estimator.solver
    own = {"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol}
    if isinstance(solver, LBFGS):
        own |= {
            "maxcor": solver.memory,
            "gtol": solver.gradient_tolerance,
            "ftol": solver.loss_tolerance,
        }
    estimator.n_iter_ = 0
    model.stop_training = False
    with trainer, watch.progress:
        watch.callbacks.call("set_model", model)
        watch.callbacks.call("on_train_begin")
        try:
            result = optimize.minimize(
                objective,
                accepted.astype(np.float64),
                method="L-BFGS-B",
                jac=True,
                callback=end_iteration,
                options=own,
            )
            accepted = result.x.astype(model.dtype)
        finally:
            model._set_parameters(accepted)
        watch.callbacks.call("on_train_end")
    estimator.loss_ = float(result.fun)
    if not is_stopped:
        estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
