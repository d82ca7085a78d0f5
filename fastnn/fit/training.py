"""The course of a fit: everything checked first, then epochs inside the engine.

``Plan`` is what a fit needs to know, checked; making one changes nothing. ``run`` then
goes through the epochs: per epoch it hands the engine one array of rates and gets back
one loss, and calls validation, metrics and callbacks. Nothing runs per batch, unless a
callback has ``on_batch_end``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import arrays, threads
from .. import checks, layers, losses, metrics, optimizers
from .callbacks import Callbacks
from ..kernels.contract import LossSpec, OptimizerSpec, Trainer
from ..errors import unknown_name
from ..kernels import random
from ..optimizers import LBFGS, Optimizer
from .progress import Progress
from ..schedules import Constant, Plateau, Schedule

if TYPE_CHECKING:
    from ..model import Sequential

Array = NDArray[Any]

#: FLOPs of a training step by parameter and row: forward, delta and weight gradient.
STEP_FLOPS = 6

#: The rule of a network that has no moments.
NO_STATE = OptimizerSpec("sgd", 0)


class History(dict[str, list[float]]):
    """The course of a fit: name -> one float per epoch.

    "loss", the metrics, "val_loss" and "val_…" of the metrics, and "learning_rate" (of
    the last step of the epoch).

    Attributes
    ----------
    epoch : list of int
        The epochs' numbers, from 0; a resumed fit goes on counting.
    """

    def __init__(self) -> None:
        super().__init__(loss=[])
        self.epoch: list[int] = []

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add the end of an epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.setdefault(name, []).append(value)


class Data(NamedTuple):
    """Plain arrays that belong together."""

    X: Array  # (n, inputs)
    target: Array  # (n, outputs), or labels (n,)
    weight: Array | None  # (n,)


class Plan(NamedTuple):
    """A fit whose every argument has been found good."""

    data: Data
    validation: Data | None
    metric_weight: Array | None  # the sample weights, without the weights of classes
    metrics: dict[str, metrics.Metric]
    loss: LossSpec
    optimizer: Optimizer | LBFGS
    epochs: int
    batch_size: int
    shuffle: bool
    callbacks: Callbacks
    threads: int
    exactly: bool  #: so many threads; else at most
    progress: Progress
    resume: bool

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch, a short last batch included."""
        return -(-len(self.data.X) // self.batch_size)


def check_data(
    model: Sequential, X: Any, y: Any, weight: Any, loss: LossSpec, *, prefix: str = ""
) -> Data:
    """Plain arrays, or the error that says what is wrong."""
    engine, dtype, outputs = model._engine, model.dtype, model.output_size
    if not isinstance(loss.name, str) and engine.NAME != "numpy":
        loss.name.address(dtype.itemsize)  # compile it now: without Numba nothing has changed yet
    X = arrays.matrix(X, dtype, model.input_size, engine, name=f"{prefix}X")
    target = arrays.target(y, loss, (len(X), outputs), dtype, engine, name=f"{prefix}y")
    if weight is not None:
        weight = arrays.sample_weight(weight, len(X), dtype, engine, f"{prefix}sample_weight")
    return Data(X, target, weight)


def plan(
    model: Sequential,
    X: Any,
    y: Any,
    *,
    loss: Any,
    optimizer: Any,
    epochs: Any,
    batch_size: Any,
    shuffle: Any,
    sample_weight: Any,
    class_weight: Any,
    validation_data: Any,
    callbacks: Any,
    metrics_wanted: Any,
    threads_wanted: Any,
    verbose: Any,
    resume: Any,
) -> Plan:
    """Check every argument of ``Sequential.fit``; nothing changes here."""
    loss_spec = losses.resolve(loss, model.last_activation)
    rule = optimizers.resolve(optimizer)
    epochs = checks.whole("epochs", epochs)
    shuffle, resume = checks.flag("shuffle", shuffle), checks.flag("resume", resume)
    if batch_size is not None:
        batch_size = checks.whole("batch_size", batch_size)
    hooks, progress = Callbacks(callbacks), Progress(verbose, epochs)
    data = check_data(model, X, y, sample_weight, loss_spec)
    batch_size = min(batch_size or len(data.X), len(data.X))
    inputs = data.X.shape[1]
    flops = STEP_FLOPS * layers.size(layers.specifications(model.layers, inputs)) * batch_size
    count = threads.choose(threads_wanted, flops, model.dtype)
    functions = metrics.resolve(metrics_wanted, loss_spec, data.target)
    validation = _check_validation(model, validation_data, loss_spec, inputs)
    names = ["loss", *functions]
    if validation is not None:
        names += [f"val_{name}" for name in names]
        metrics.resolve(metrics_wanted, loss_spec, validation.target)
    hooks.check([*names, "learning_rate"] if isinstance(rule, Optimizer) else names)
    if isinstance(rule, LBFGS) and any(isinstance(k, layers.Dropout) for k in model.layers):
        raise ValueError("LBFGS needs a loss that does not change: not with Dropout layers")
    weight = data.weight
    if class_weight is not None:
        factors = class_factors(class_weight, data.target, model.output_size)
        combined = factors if weight is None else factors * weight
        data = data._replace(
            weight=arrays.sample_weight(
                combined, len(data.X), model.dtype, model._engine, "class_weight"
            )
        )
    return Plan(
        data,
        validation,
        weight,
        functions,
        loss_spec,
        rule,
        epochs,
        batch_size,
        shuffle,
        hooks,
        count,
        threads_wanted is not None,
        progress,
        resume,
    )


def _check_validation(
    model: Sequential, validation_data: Any, loss: LossSpec, inputs: int
) -> Data | None:
    if validation_data is None:
        return None
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise TypeError("validation_data must be (X, y) or (X, y, sample_weight)")
    X, y, *weight = validation_data
    data = check_data(model, X, y, weight[0] if weight else None, loss, prefix="validation ")
    if data.X.shape[1] != inputs:
        raise ValueError(f"validation X has {data.X.shape[1]} columns, X has {inputs}")
    return data


def class_factors(class_weight: Any, target: Array, outputs: int) -> Array:
    """The weight of each row's class, (n,) in float64.

    Parameters
    ----------
    class_weight : dict or "balanced"
        label -> weight ≥ 0, 1 for a label that is not there; or n / (classes · count).
    target : ndarray
        Labels (n,), rows whose largest entry is the class, or a column of 0 and 1.
    outputs : int

    Raises
    ------
    TypeError, ValueError
    """
    if target.ndim == 1:
        labels = target
    elif outputs > 1:
        labels = target.argmax(axis=1)
    else:
        labels = target[:, 0].astype(np.int64)
        if not ((target[:, 0] == 0) | (target[:, 0] == 1)).all():
            raise ValueError("class_weight needs classes: labels, one-hot rows, or 0 and 1")
    classes = max(outputs, 2)
    factors = np.ones(classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise unknown_name("class_weight", class_weight, ("balanced",))
        counts = np.bincount(labels, minlength=classes)
        present = counts > 0
        factors[present] = len(labels) / (present.sum() * counts[present])
    elif isinstance(class_weight, Mapping):
        for label, weight in class_weight.items():
            index = checks.whole("a label of class_weight", label, 0, classes - 1)
            factors[index] = checks.real(f"class_weight[{label!r}]", weight, at_least=0)
    else:
        raise TypeError(f"class_weight must be a dict or 'balanced', not {class_weight!r}")
    rows: Array = factors[labels]
    return rows


class Course:
    """What happens around the epochs of a fit, whatever makes their updates."""

    def __init__(self, model: Sequential, plan: Plan) -> None:
        self.model = model
        self.plan = plan
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
        plan, model = self.plan, self.model
        model._epochs = epoch + 1
        logs = {"loss": loss}
        if plan.metrics:
            logs |= self._measure("", plan.data._replace(weight=plan.metric_weight))
        if plan.validation is not None:
            logs["val_loss"] = trainer.evaluate(*plan.validation)
            if plan.metrics:
                logs |= self._measure("val_", plan.validation)
        if rate is not None:
            logs["learning_rate"] = rate
        self.history.append(epoch, logs)
        plan.progress.update(logs)
        plan.callbacks.call("on_epoch_end", epoch, logs)
        return logs

    def _measure(self, prefix: str, data: Data) -> dict[str, float]:
        output = self.model.predict(data.X, threads=self.plan.threads)
        return {
            f"{prefix}{name}": function(data.target, output, data.weight)
            for name, function in self.plan.metrics.items()
        }


def run(model: Sequential, plan: Plan) -> History:
    """Train a built model by a first-order optimizer; the caller holds the model's lock."""
    assert isinstance(plan.optimizer, Optimizer)
    spec, schedule = plan.optimizer.spec(), plan.optimizer.schedule
    model._prepare_state(spec, plan.resume)
    course = Course(model, plan)
    watcher, is_constant = schedule.watch(), isinstance(schedule, Constant)
    first = model._epochs
    by_step = plan.callbacks.has("on_batch_end")
    trainer = model._trainer(plan.loss, spec, plan.batch_size, plan.threads, plan.exactly)
    with trainer, plan.progress:
        course.begin()
        for epoch in range(first, first + plan.epochs):
            plan.callbacks.call("on_epoch_begin", epoch, {})
            if epoch == first or not is_constant:
                rates = _rates(schedule, watcher, plan.steps_per_epoch, epoch, first + plan.epochs)
            if by_step:
                loss = _epoch_by_steps(model, plan, trainer, epoch, rates)
            else:
                loss = trainer.epoch(*plan.data, epoch, rates, plan.shuffle)
            logs = course.end_epoch(trainer, epoch, loss, float(rates[-1]))
            if watcher is not None:
                watcher.observe(logs)
            if model.stop_training:
                break
        plan.callbacks.call("on_train_end")
    return course.history


def _rates(
    schedule: Schedule, watcher: Plateau | None, steps: int, epoch: int, epochs: int
) -> Array:
    """What the schedule gives for ``epoch``, checked: a schedule may be the user's own."""
    rates = np.require(schedule.rates(epoch, steps, epochs), np.float64, ["C", "A"])
    if rates.shape != (steps,) or not np.isfinite(rates).all():
        raise ValueError(f"{schedule!r} must give {steps} finite rates, not {rates!r}")
    return rates if watcher is None else watcher.reduced(rates)


def _epoch_by_steps(
    model: Sequential, plan: Plan, trainer: Trainer, epoch: int, rates: Array
) -> float:
    """One epoch with ``on_batch_end``: the same batches, each a call into the engine.

    Dropout masks are those of single steps, keyed by the number of updates.
    """
    total, seen = 0.0, 0
    for batch, (rows, rate) in enumerate(zip(_batches(model, plan, epoch), rates, strict=True)):
        X, target, weight = (None if a is None else a[rows] for a in plan.data)
        assert X is not None
        assert target is not None
        loss = trainer.step(X, target, weight, float(rate))
        assert loss is not None, "the engine refuses a batch of checked data"
        total += loss if plan.loss.name == "sum_squares" else loss * len(X)
        seen += len(X)
        plan.callbacks.call("on_batch_end", batch, {"loss": loss})
        if model.stop_training:
            break
    return total if plan.loss.name == "sum_squares" else total / seen


def _batches(model: Sequential, plan: Plan, epoch: int) -> Iterator[Array]:
    n = len(plan.data.X)
    order = random.permutation(model.seed, epoch, n) if plan.shuffle else np.arange(n)
    for start in range(0, n, plan.batch_size):
        yield order[start : start + plan.batch_size]
