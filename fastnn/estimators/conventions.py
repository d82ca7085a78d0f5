"""What scikit-learn's parameters mean, in the terms of the model API and the engines.

Facts about ``sklearn.neural_network`` stand here and nowhere else: how weights are drawn,
how a loss and its penalty are counted, which form of Adam and of momentum is meant, how a
learning rate changes between epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import losses, optimizers
from ..fit.epochs import checked_rates
from ..kernels import contract
from ..kernels.contract import ACTIVATIONS, LayerSpec, LossSpec, OptimizerSpec
from ..layers import Dense
from ..optimizers import LBFGS, Optimizer
from ..schedules import Constant, Plateau, Schedule

Array = NDArray[Any]

# --------------------------------------------------------------------------- network


def last_activation(out_activation: str) -> str:
    """The last layer's, for ``out_activation_``; of a log link it gives the logarithm."""
    return "identity" if out_activation == "exp" else out_activation


def initial_parameters(
    specs: tuple[LayerSpec, ...], activation: Any, random_state: Any, dtype: Any
) -> Array:
    """Weights and biases uniform within √(6 / (in + out)), or √(2 / …) for the logistic.

    Drawn layer by layer, weights first, as scikit-learn draws them (after Glorot & Bengio
    2010). The output layer is drawn as if it had the activation of the hidden layers, which
    is ``activation`` where there is none.
    """
    flat: Array = np.empty(contract.size(specs))
    for index, (spec, tensors) in enumerate(zip(specs, contract.views(specs, flat), strict=True)):
        if index < len(specs) - 1:
            activation = spec.activation
        is_logistic = activation in ("sigmoid", *ACTIVATIONS["sigmoid"].names)
        bound = np.sqrt((2.0 if is_logistic else 6.0) / (spec.inputs + spec.outputs))
        for view in tensors.values():
            view[...] = random_state.uniform(-bound, bound, view.shape)
    return flat.astype(dtype, copy=False)


# --------------------------------------------------------------------------- loss

#: By name, those of the package that go with probabilities, and those for numbers.
_ROWS = {name: contract.LOSSES[name] for name in losses.LOSSES}
CLASSIFICATION = {n for n, row in _ROWS.items() if row.decides_at is None or row.of_probabilities}
REGRESSION = {n for n, row in _ROWS.items() if row.decides_at is None and not row.takes_labels}


class Loss(NamedTuple):
    """The engines' row, and how its value becomes the one that scikit-learn reports."""

    spec: LossSpec
    scale: float = 1.0  # reported = scale · value + constant(target)
    is_poisson: bool = False

    def reported(self, value: float, penalty: float = 0.0, constant: float = 0.0) -> float:
        """The loss to report; ``penalty`` is the part of ``value`` that is not scaled."""
        return (value - penalty) * self.scale + penalty + constant

    def constants(self, target: Array) -> Array | None:
        """What each row adds to the loss whatever the network says, (n,); None for nothing.

        Half the Poisson deviance is t log t - t more than the likelihood that is minimised.
        """
        if not self.is_poisson:
            return None
        safe = np.where(target > 0, target, 1.0).astype(np.float64)
        rows: Array = (safe * np.log(safe) * (target > 0) - target).sum(axis=1)
        return rows


def classification_loss(loss: Any, out_activation: str, dtype: Any) -> Loss:
    """The log loss, summed over the outputs; or any loss of the package.

    A probability under the dtype's epsilon counts as epsilon in the reported loss.
    """
    if isinstance(loss, str) and loss == "log_loss":
        most = -math.log(np.finfo(dtype).eps)
        if out_activation == "softmax":
            return Loss(LossSpec("cross_entropy", most, fused=True))
        return Loss(LossSpec("binary_cross_entropy", most, fused=True, per_row=True))
    return Loss(losses.resolve(loss, Dense(1, last_activation(out_activation)).activation))


def regression_loss(loss: Any, outputs: int) -> Loss:
    """Half the squared error or Poisson deviance as scikit-learn has them, or ours.

    Half the squared error is Huber's loss where nothing is an outlier; the slope of "mse" is
    twice its slope. Its gradient sums over the outputs, its reported value averages them.
    """
    if isinstance(loss, str) and loss == "squared_error":
        return Loss(LossSpec("huber", math.inf, per_row=True), 1 / outputs)
    if isinstance(loss, str) and loss == "poisson":
        return Loss(LossSpec("poisson", per_row=True), is_poisson=True)
    return Loss(losses.resolve(loss, "identity"))


# --------------------------------------------------------------------------- optimizer


@dataclass
class Rule:
    """The update of a fit and its learning rate, which may change between epochs."""

    spec: OptimizerSpec
    rate: float
    kind: str = "constant"  # of sgd's rate: or "invscaling", "adaptive"
    power_t: float = 0.5
    schedule: Schedule | None = None
    epoch: int = 0  # epochs that the schedule has seen
    first_rate: float = field(init=False)
    watcher: Plateau | None = field(init=False)

    def __post_init__(self) -> None:
        self.first_rate = self.rate
        self.watcher = None if self.schedule is None else self.schedule.watch()

    def rates(self, steps: int, epochs: int) -> Array:
        """The learning rate of each step of the next epoch, (steps,)."""
        if self.schedule is not None:
            last = max(epochs, self.epoch + 1)
            return checked_rates(self.schedule, self.watcher, steps, self.epoch, last)
        rates: Array = np.empty(steps)
        rates.fill(self.rate)  # np.full takes some microseconds of every epoch
        return rates

    def end_epoch(self, samples: int, logs: dict[str, float]) -> None:
        """Note the end of an epoch; ``samples`` is the number seen so far."""
        self.epoch += 1
        if self.kind == "invscaling":
            self.rate = self.first_rate / (samples + 1) ** self.power_t
        if self.watcher is not None:
            self.watcher.observe(logs)

    def may_stop(self, message: str, verbose: Any) -> bool:
        """Whether a fit that no longer improves ends, or goes on with a fifth of the rate."""
        if self.kind != "adaptive":
            say(verbose, message + " Stopping.")
            return True
        if self.rate <= 1e-6:
            say(verbose, message + " Learning rate too small. Stopping.")
            return True
        self.rate /= 5.0
        say(verbose, f"{message} Setting learning rate to {self.rate:f}")
        return False


def say(verbose: Any, line: str) -> None:
    """Print a line of scikit-learn's report, if it is wanted."""
    if verbose:
        print(line)


def rule(estimator: Any) -> Rule | None:
    """The rule that an estimator's parameters describe; None for L-BFGS, which has no rate.

    Raises
    ------
    ValueError
        If a penalty, a clipping or a schedule is given twice, or does not go with the solver.
    """
    solver, rate = estimator.solver, estimator.learning_rate
    if is_lbfgs(solver):
        _check_lbfgs(estimator)
        return None
    schedule = rate if isinstance(rate, Schedule) else None
    kind, first = "constant", float(estimator.learning_rate_init)
    if isinstance(solver, Optimizer):
        spec, own = solver.spec(), solver.schedule
        if isinstance(own, Constant):
            first = own.learning_rate
        elif schedule is not None:
            raise ValueError("the solver has a schedule and so has learning_rate: give one")
        else:
            schedule = own
        if spec.l2:
            raise ValueError("give the penalty on weights as alpha, not as the solver's l2")
        if spec.clip_norm and estimator.clip_norm is not None:
            raise ValueError("the solver has a clip_norm and so has the estimator: give one")
    else:
        spec = _named_spec(estimator)
        if solver == "sgd" and schedule is None:
            kind = rate
    spec = spec._replace(l2=float(estimator.alpha), l2_by_weight=True)
    if estimator.clip_norm is not None:
        spec = spec._replace(clip_norm=float(estimator.clip_norm))
    return Rule(spec, first, kind, float(estimator.power_t), schedule)


def _named_spec(estimator: Any) -> OptimizerSpec:
    """scikit-learn's "sgd" and "adam", else the package's of that name."""
    if estimator.solver == "sgd":
        momentum = float(estimator.momentum)
        if momentum == 0:
            return contract.optimizer("sgd")
        row = "nesterov_velocity" if estimator.nesterovs_momentum else "velocity"
        return contract.optimizer(row, momentum=momentum)
    numbers: Any = {
        name: float(getattr(estimator, name)) for name in ("beta_1", "beta_2", "epsilon")
    }
    if estimator.solver == "adam":
        return contract.optimizer("adam_hat", **numbers)
    kind: Any = optimizers.OPTIMIZERS[estimator.solver]
    own = {item.name for item in fields(kind)}
    spec: OptimizerSpec = kind(**{k: v for k, v in numbers.items() if k in own}).spec()
    return spec


def _check_lbfgs(estimator: Any) -> None:
    """Refuse what L-BFGS would silently leave out."""
    if isinstance(estimator.learning_rate, Schedule):
        raise ValueError("a schedule is for stochastic solvers: lbfgs has no learning rate")
    if np.any(np.asarray(estimator.dropout) > 0):
        raise ValueError("lbfgs needs a loss that does not change: not with dropout")
    if estimator.clip_norm is not None:
        raise ValueError("clip_norm is for stochastic solvers: lbfgs searches along lines")
    solver = estimator.solver
    if isinstance(solver, LBFGS) and (solver.l2 or solver.weight_decay):
        raise ValueError("give the penalty on weights as alpha, not in the solver")


def is_lbfgs(solver: Any) -> bool:
    """Whether the solver takes the whole data set at once."""
    return isinstance(solver, LBFGS) or (isinstance(solver, str) and solver == "lbfgs")
