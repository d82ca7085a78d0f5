"""What scikit-learn's parameters mean, in the terms of the model API and the engines.

Facts about ``sklearn.neural_network`` stand here and nowhere else: how weights are drawn,
how a loss and its penalty are counted, which form of Adam and of momentum is meant, how a
learning rate changes between epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import losses, optimizers
from ..kernels.contract import LossSpec, OptimizerSpec
from ..layers import Dense, Dropout, Layer
from ..layers import check as check_layers
from ..optimizers import LBFGS, Optimizer
from ..schedules import Constant, Plateau, Schedule

Array = NDArray[Any]

#: scikit-learn's name -> the name here, for what has two.
_ACTIVATIONS = {"logistic": "sigmoid"}

#: The activation of the output as ``out_activation_`` has it -> that of the last layer. The
#: network of a log link gives the logarithm.
_OUTPUTS = {
    "softmax": "softmax",
    "logistic": "sigmoid",
    "identity": "identity",
    "exp": "identity",
}

#: Solvers with scikit-learn's own rules; every other name is an optimizer of the package.
_OWN_SOLVERS = ("sgd", "adam")


# --------------------------------------------------------------------------- network


def activation(name: Any) -> Any:
    """The activation as ``Dense`` takes it."""
    return _ACTIVATIONS.get(name, name) if isinstance(name, str) else name


def check_activations(activations: Iterable[Any]) -> None:
    """Raise for what no hidden layer can have."""
    check_layers([*(Dense(1, activation(given)) for given in activations), Dense(1)])


def layers(
    sizes: list[int],
    activations: tuple[Any, ...],
    rates: tuple[float, ...],
    units: int,
    out_activation: str,
) -> list[Layer]:
    """Hidden layers of ``sizes``, each followed by its dropout, and the output layer."""
    found: list[Layer] = []
    for size, name, rate in zip(sizes, activations, rates, strict=True):
        found.append(Dense(size, activation(name)))
        if rate > 0:
            found.append(Dropout(rate))
    return [*found, Dense(units, _OUTPUTS[out_activation])]


def initial_parameters(
    units: list[int], activations: list[Any], random_state: Any, dtype: Any
) -> Array:
    """Weights and biases uniform within √(6 / (in + out)), or √(2 / …) for the logistic.

    Drawn layer by layer, weights first, as scikit-learn draws them (after Glorot & Bengio
    2010). ``activations`` has a name for the output layer too, which is drawn as if it had
    that of the hidden layers.

    Returns
    -------
    ndarray (size,)
        W0 row-major, b0, W1, b1, …
    """
    pieces: list[Array] = []
    for inputs, outputs, name in zip(units[:-1], units[1:], activations, strict=True):
        factor = 2.0 if activation(name) == "sigmoid" else 6.0
        bound = np.sqrt(factor / (inputs + outputs))
        pieces.append(random_state.uniform(-bound, bound, (inputs, outputs)).ravel())
        pieces.append(random_state.uniform(-bound, bound, outputs))
    flat: Array = np.concatenate(pieces).astype(dtype, copy=False)
    return flat


# --------------------------------------------------------------------------- loss


class Loss(NamedTuple):
    """The engines' row, and how its value becomes the one that scikit-learn reports."""

    row: LossSpec
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


def check_loss(loss: Any) -> None:
    """Raise for a callable that is no custom loss; names are among the constraints."""
    if not isinstance(loss, str):
        losses.resolve(loss, "identity")


def classification_loss(loss: Any, out_activation: str, dtype: Any) -> Loss:
    """The log loss, summed over the outputs; or any loss of the package.

    A probability under the dtype's epsilon counts as epsilon in the reported loss.
    """
    if isinstance(loss, str) and loss == "log_loss":
        most = -math.log(np.finfo(dtype).eps)
        if out_activation == "softmax":
            return Loss(LossSpec("cross_entropy", most, fused=True))
        return Loss(LossSpec("binary_cross_entropy", most, fused=True, per_row=True))
    return Loss(losses.resolve(loss, _OUTPUTS[out_activation]))


def regression_loss(loss: Any, outputs: int) -> Loss:
    """Half the squared error or Poisson deviance as scikit-learn has them, or ours.

    Half the squared error is Huber's loss with an infinite δ. Its gradient sums over the
    outputs, its reported value averages them.
    """
    if isinstance(loss, str) and loss == "squared_error":
        return Loss(LossSpec("huber", np.inf, per_row=True), 1 / outputs)
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
        rates: Array
        if self.schedule is None:
            rates = np.empty(steps)
            rates.fill(self.rate)  # np.full takes some microseconds of every epoch
            return rates
        rates = np.require(
            self.schedule.rates(self.epoch, steps, max(epochs, self.epoch + 1)),
            np.float64,
            ["C", "A"],
        )
        return rates if self.watcher is None else self.watcher.reduced(rates)

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
    kind = "constant"
    if isinstance(solver, Optimizer):
        if not isinstance(solver.schedule, Constant):
            if schedule is not None:
                raise ValueError("the solver has a schedule and so has learning_rate: give one")
            schedule = solver.schedule
        first = solver.schedule.learning_rate if isinstance(solver.schedule, Constant) else 0.0
        spec = solver.spec()
        if spec.l2:
            raise ValueError("give the penalty on weights as alpha, not as the solver's l2")
        if spec.clip_norm and estimator.clip_norm is not None:
            raise ValueError("the solver has a clip_norm and so has the estimator: give one")
    else:
        first = float(estimator.learning_rate_init)
        spec = _named_spec(estimator)
        if solver == "sgd" and schedule is None:
            kind = rate
    spec = spec._replace(l2=float(estimator.alpha), l2_by_weight=True)
    if estimator.clip_norm is not None:
        spec = spec._replace(clip_norm=float(estimator.clip_norm))
    return Rule(spec, first, kind, float(estimator.power_t), schedule)


def _named_spec(estimator: Any) -> OptimizerSpec:
    if estimator.solver == "sgd":
        momentum = float(estimator.momentum)
        return OptimizerSpec(
            "sgd",
            1 if momentum > 0 else 0,
            momentum=momentum,
            nesterov=bool(estimator.nesterovs_momentum) and momentum > 0,
            rate_in_velocity=True,
        )
    numbers: dict[str, Any] = {"epsilon": float(estimator.epsilon)}
    if estimator.solver in ("adam", "adamw"):
        numbers |= {"beta_1": float(estimator.beta_1), "beta_2": float(estimator.beta_2)}
    if estimator.solver in _OWN_SOLVERS:
        return OptimizerSpec("adam", 2, **numbers, epsilon_hat=True)
    kind: Any = optimizers.OPTIMIZERS[estimator.solver]
    spec: OptimizerSpec = kind(**numbers).spec()
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
