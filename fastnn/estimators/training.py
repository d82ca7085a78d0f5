"""The course of an estimator's fit: scikit-learn's, with whole epochs inside the engine.

Between epochs stand its shuffle, its stopping rule and its messages, in its order, so that
a fit with the same ``random_state`` makes the same steps. A ``Record`` is what fits have come
to; the estimator shows its results as attributes. A ``Training`` is one call of ``fit`` or
``partial_fit``: it reads the estimator's parameters, moves its network and writes its record.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.utils.optimize import _check_optimize_result

from ..fit.callbacks import Callbacks
from ..fit.epochs import by_steps, in_batches
from ..fit.lbfgs import decays, minimize
from ..fit.learner import NO_STATE, Data
from ..fit.progress import Progress
from ..kernels.contract import STEP, Trainer
from ..optimizers import LBFGS
from .conventions import Loss, Rule, say

Array = NDArray[Any]

LOSS = "loss"  # the scoring that is the negative loss of the validation set


class Record:
    """What the fits of an estimator have come to, and what going on with them takes.

    The names with a final underscore are scikit-learn's; what it lacks, is lacking here.
    """

    rule: Rule | None = None
    best_parameters: Array | None
    no_improvement: int
    loss_: float
    best_loss_: Any  # float, or None where the score counts
    best_validation_score_: Any  # and the other way round
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None

    #: What is left after ``strip``, and in files.
    RESULTS = ("n_iter_", "t_", "loss_", "best_loss_", "best_validation_score_")

    def __init__(self, **results: Any) -> None:
        self.n_iter_ = self.t_ = 0
        vars(self).update(results)

    def strip(self) -> Record:
        """The results alone."""
        return Record(**{name: vars(self)[name] for name in self.RESULTS if name in vars(self)})

    def begin(self, by_score: bool, has_scores: bool, has_losses: bool) -> None:
        """Start the curves of a fit; a warm start goes on with those that are there."""
        starts: dict[str, Any] = {
            "loss_curve_": [],
            "no_improvement": 0,
            "best_parameters": None,
            "validation_scores_": [] if has_scores else None,
            "validation_loss_curve_": [] if has_losses else None,
            "best_validation_score_": -np.inf if by_score else None,
            "best_loss_": None if by_score else np.inf,
        }
        for name, start in starts.items():
            if vars(self).get(name) is None:
                setattr(self, name, start)

    def end_epoch(self, estimator: Any, rows: int, logs: dict[str, float]) -> bool:
        """Count, report, look for an improvement; whether the fit may end.

        ``logs`` has the "loss", and "val_score" and "val_loss" as far as they are measured.
        """
        assert self.rule is not None
        self.n_iter_ += 1
        self.t_ += rows
        self.loss_ = loss = logs["loss"]
        self.loss_curve_.append(loss)
        if estimator.verbose:
            print(f"Iteration {self.n_iter_}, loss = {loss:.8f}")
        if self.validation_scores_ is not None and "val_score" in logs:
            self.validation_scores_.append(logs["val_score"])
        if self.validation_loss_curve_ is not None and "val_loss" in logs:
            self.validation_loss_curve_.append(logs["val_loss"])
        if estimator.early_stopping:
            what, score, best = "Validation score", logs["val_score"], self.best_validation_score_
            say(estimator.verbose, f"Validation score: {score:f}")
            is_better = not score < best + estimator.tol
            if score > best:
                self.best_validation_score_ = score
                self.best_parameters = estimator._model.parameters
        else:
            what, best = "Training loss", self.best_loss_
            is_better, self.best_loss_ = not loss > best - estimator.tol, min(best, loss)
        self.no_improvement = 0 if is_better else self.no_improvement + 1
        self.rule.end_epoch(self.t_, logs)
        if self.no_improvement <= estimator.n_iter_no_change:
            return False
        message = (
            f"{what} did not improve more than tol={estimator.tol:f} "
            f"for {estimator.n_iter_no_change} consecutive epochs."
        )
        if self.rule.may_stop(message, estimator.verbose):
            return True
        self.no_improvement = 0
        return False


class Plan(NamedTuple):
    """A fit whose every argument has been found good."""

    data: Data  # X may be a sparse matrix in CSR form
    held_out: tuple[Data, Any] | None  # and y as the user has it
    has_val_loss: bool
    rule: Rule | None  # None for L-BFGS
    loss: Loss
    random_state: Any
    callbacks: Callbacks  # ours
    is_incremental: bool  # one epoch


class _Dense(Data):
    """Rows that become dense where they are taken."""

    def take(self, rows: Array) -> Data:
        batch = super().take(rows)
        return batch._replace(X=dense(batch.X))


def dense(X: Any) -> Any:
    """Rows of a sparse matrix as an array."""
    return X.toarray() if sparse.issparse(X) else X


class Training:
    """One call of ``fit`` or ``partial_fit``, of a network that is there."""

    def __init__(self, estimator: Any, plan: Plan) -> None:
        self.estimator, self.plan = estimator, plan
        self.record, self.model = estimator._record, estimator._model
        self.learner = self.model.learner
        self.constants = plan.loss.constants(plan.data.target)
        self.epochs = 1 if plan.is_incremental else estimator.max_iter
        self.progress = Progress(int(estimator.progress), self.epochs)
        self.tasks = estimator._tasks()

    def run(self) -> None:
        """Train; the record tells the rest."""
        self.record.n_iter_ = 0
        self.model.stop_training = False
        rule = self.plan.rule
        if rule is None:
            self._run_lbfgs()
            return
        last = self.record.rule
        if self.plan.is_incremental and last is not None:
            # scikit-learn reads the penalty at every step, the rest when it makes an optimizer
            last.spec = last.spec._replace(l2=rule.spec.l2, clip_norm=rule.spec.clip_norm)
        else:
            last = self.record.rule = rule
            self.learner.prepare_state(rule.spec, resume=False)
        self._run_epochs(last)

    # ------------------------------------------------------------------ first order

    def _run_epochs(self, rule: Rule) -> None:
        estimator, plan, record = self.estimator, self.plan, self.record
        by_score, has_scores = estimator.early_stopping, plan.held_out is not None
        record.begin(by_score, has_scores, plan.has_val_loss)
        n = plan.data.X.shape[0]
        size = batch_size(estimator.batch_size, n)
        count = estimator._thread_count(STEP * size)
        exactly = estimator.threads is not None
        trainer = self.learner.trainer(plan.loss.spec, rule.spec, size, count, exactly)
        order = np.arange(n)
        try:
            with trainer, self.progress:
                self._begin()
                for _ in range(self.epochs):
                    plan.callbacks.call("on_epoch_begin", rule.epoch, {})
                    task = self._begin_task("epoch")
                    if estimator.shuffle:
                        plan.random_state.shuffle(order)  # as sklearn.utils.shuffle, unchecked
                    rates = rule.rates(-(-n // size), self.epochs)
                    loss = self._epoch(trainer, rule, rates, order, size)
                    logs = {"loss": loss, "learning_rate": float(rates[-1])}
                    logs |= self._validate(trainer)
                    may_end = record.end_epoch(estimator, n, logs)
                    if self._end_iteration(rule.epoch - 1, logs, task) or may_end:
                        break
                else:
                    if not plan.is_incremental:
                        warnings.warn(
                            f"Stochastic Optimizer: Maximum iterations ({self.epochs}) "
                            "reached and the optimization hasn't converged yet.",
                            ConvergenceWarning,
                            stacklevel=2,
                        )
                plan.callbacks.call("on_train_end")
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        if by_score and record.best_parameters is not None:
            self.learner.parameters = record.best_parameters

    def _epoch(self, trainer: Trainer, rule: Rule, rates: Array, order: Array, size: int) -> float:
        """One epoch in the given order; the loss to report."""
        data, loss = self.plan.data, self.plan.loss
        if sparse.issparse(data.X):
            batches = in_batches(order, size)
            value, penalty = by_steps(trainer, _Dense(*data), batches, rates, loss.spec)
        else:
            value, penalty = trainer.epoch(*data, rule.epoch, rates, order), trainer.penalty
        return loss.reported(value, penalty, self._constant(order, size))

    def _constant(self, order: Array, size: int) -> float:
        """The mean over batches, weighted by rows, of what rows add to the loss in any case."""
        constants, weight = self.constants, self.plan.data.weight
        if constants is None:
            return 0.0
        if weight is None:
            return float(constants.mean())
        starts = np.arange(0, len(order), size)
        mass = np.add.reduceat(weight[order].astype(np.float64), starts)
        sums = np.add.reduceat((weight * constants)[order], starts)
        shares = np.diff([*starts, len(order)]) / len(order)
        return float((shares * sums / np.where(mass == 0, 1, mass)).sum())

    def _validate(self, trainer: Trainer) -> dict[str, float]:
        """The score of the validation set and, if it is wanted, its loss."""
        if self.plan.held_out is None:
            return {}
        (data, y), loss, estimator = self.plan.held_out, self.plan.loss, self.estimator
        losses: dict[str, float] = {}
        if self.plan.has_val_loss:
            value = trainer.evaluate(*data._replace(X=dense(data.X)))
            rows = loss.constants(data.target)
            constant = 0.0 if rows is None else float(np.average(rows, weights=data.weight))
            losses["val_loss"] = loss.reported(value, 0.0, constant)
        scoring = estimator.scoring
        if scoring is None:
            score = estimator._validation_score(data)
        elif isinstance(scoring, str) and scoring == LOSS:
            score = -losses["val_loss"]
        else:
            probe = copy.copy(estimator)
            probe.__dict__.pop("feature_names_in_", None)  # the rows here have no names any more
            weights = {} if data.weight is None else {"sample_weight": data.weight}
            score = float(check_scoring(probe, scoring)(probe, data.X, y, **weights))
        return {"val_score": score, **losses}

    # ------------------------------------------------------------------ L-BFGS

    def _run_lbfgs(self) -> None:
        """On the whole data set; the network is left at the last iterate."""
        estimator, learner, record = self.estimator, self.learner, self.record
        loss, data = self.plan.loss, self.plan.data._replace(X=dense(self.plan.data.X))
        n = len(data.X)
        mass = float(n if data.weight is None else data.weight.sum(dtype=np.float64))
        l2 = estimator.alpha / mass if mass else 0.0
        is_weight = decays(learner.specs, 1.0)
        constant = self._constant(np.arange(n), n)
        is_stopped = False

        def objective(vector: Array) -> tuple[float, Array]:
            value, gradient = trainer.gradient(*data)
            weights = vector * is_weight
            penalty = 0.5 * l2 * float(weights @ weights)
            # scipy minimises what is reported; where its scale is not 1, scikit-learn too hands
            # over a gradient that is not the reported loss's own
            return loss.reported(value, 0.0, constant) + penalty, gradient + l2 * weights

        def end_iteration(value: float) -> bool:
            nonlocal is_stopped
            record.n_iter_ += 1
            say(estimator.verbose, f"Iteration {record.n_iter_}, loss = {value:.8f}")
            task, epoch = self._begin_task("iteration"), record.n_iter_ - 1
            is_stopped = self._end_iteration(epoch, {"loss": value}, task)
            return is_stopped

        solver = estimator.solver
        options = {"maxfun": estimator.max_fun, "maxiter": self.epochs, "gtol": estimator.tol}
        if isinstance(solver, LBFGS):
            options |= {"maxcor": solver.memory, "ftol": solver.loss_tolerance}
            options["gtol"] = solver.gradient_tolerance
        learner.prepare_state(NO_STATE, resume=False)
        trainer = learner.trainer(loss.spec, None, n, estimator._thread_count(STEP * n))
        with trainer, self.progress:
            self._begin()
            result = minimize(learner, objective, end_iteration, options)
            self.plan.callbacks.call("on_train_end")
        record.loss_ = float(result.fun)
        if not is_stopped:
            record.n_iter_ = _check_optimize_result("lbfgs", result, self.epochs)

    # ------------------------------------------------------------------ observers

    def _begin(self) -> None:
        self.plan.callbacks.call("set_model", self.model)
        self.plan.callbacks.call("on_train_begin")

    def _begin_task(self, name: str) -> Any:
        """For scikit-learn's callbacks, if there are any."""
        if self.tasks is None:
            return None
        task = self.tasks.subcontext(task_name=name)
        return task.call_on_fit_task_begin(estimator=self.estimator)

    def _end_iteration(self, epoch: int, logs: dict[str, float], task: Any) -> bool:
        """Tell everyone; whether one of them wants the fit to end."""
        data, estimator = self.plan.data, self.estimator
        self.progress.update(logs)
        self.plan.callbacks.call("on_epoch_end", epoch, logs)
        is_over = task is not None and task.call_on_fit_task_end(
            estimator=estimator,
            X=data.X,
            y=lambda: estimator._decoded(data.target),
            metadata={"sample_weight": data.weight},
            reconstruction_attributes=estimator._fitted_attributes,
        )
        return bool(is_over) or self.model.stop_training


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
