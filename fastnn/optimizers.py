"""Optimizers: immutable descriptions of PyTorch's documented update rules.

Moments and step counts live in the model. ``spec`` gives the engines' row; each field of
a description is checked against one table. ``weight_decay`` acts on all parameters,
biases included, as in PyTorch; ``l2`` on weights only; ``clip_norm`` bounds the Euclidean
norm of the whole gradient, after l2 and before weight_decay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from . import checks
from .kernels.contract import OPTIMIZERS as ROWS
from .kernels.contract import OptimizerSpec
from .schedules import Schedule, as_schedule


def _clip(name: str, value: Any) -> float | None:
    return None if value is None else checks.real(name, value, above=0)


def _within(**bounds: float) -> Callable[[str, Any], Any]:
    return lambda name, value: checks.real(name, value, **bounds)


def _learning_rate(name: str, value: Any) -> Any:
    as_schedule(value)
    return value if isinstance(value, Schedule) else float(value)


def _count(name: str, value: Any) -> Any:
    return checks.whole(name, value)


#: field -> its check. An epsilon under 1e-30 would vanish among float32's subnormals.
_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "learning_rate": _learning_rate,
    "momentum": _within(at_least=0, at_most=1),
    "nesterov": checks.flag,
    "rho": _within(at_least=0, below=1),
    "beta_1": _within(at_least=0, below=1),
    "beta_2": _within(at_least=0, below=1),
    "epsilon": _within(at_least=1e-30),
    "weight_decay": _within(at_least=0),
    "l2": _within(at_least=0),
    "clip_norm": _clip,
    "memory": _count,
    "gradient_tolerance": _within(at_least=0),
    "loss_tolerance": _within(at_least=0),
}


class _Checked:
    """Checks every field of a frozen dataclass by the table."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = _FIELDS[item.name](item.name, getattr(self, item.name))
            object.__setattr__(self, item.name, value)


@dataclass(frozen=True)
class Optimizer(_Checked):
    """What all first-order optimizers have; made by its subclasses only.

    Parameters
    ----------
    learning_rate : float or Schedule
        ≥ 0.
    weight_decay : float
        Adds weight_decay · p to the gradient of every parameter (AdamW: see there).
    l2 : float
        Adds l2 · W to the gradient of weights, not of biases.
    clip_norm : float or None
        The gradient is scaled by min(1, clip_norm / (norm + 1e-6)).

    Raises
    ------
    TypeError, ValueError
    """

    learning_rate: float | Schedule
    weight_decay: float = field(default=0.0, kw_only=True)
    l2: float = field(default=0.0, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)

    @property
    def schedule(self) -> Schedule:
        """The learning rate as a schedule."""
        return as_schedule(self.learning_rate)

    def spec(self) -> OptimizerSpec:
        """The engines' row with every number of the rule; the rate is given apart."""
        raise NotImplementedError

    def _spec(self, name: str, moments: int, **numbers: Any) -> OptimizerSpec:
        return OptimizerSpec(
            name,
            moments,
            weight_decay=self.weight_decay,
            l2=self.l2,
            clip_norm=self.clip_norm or 0.0,
            **numbers,
        )


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent: v = momentum · v + g; p -= rate · v.

    With ``nesterov`` p -= rate · (g + momentum · v) (Sutskever et al. 2013).
    """

    learning_rate: float | Schedule = 1e-3
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum > 0")

    def spec(self) -> OptimizerSpec:
        """The row "sgd"; without momentum it keeps no moment."""
        moments = 1 if self.momentum > 0 else 0
        return self._spec("sgd", moments, momentum=self.momentum, nesterov=self.nesterov)


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """p -= rate · g / (√v + epsilon), v = rho · v + (1 - rho) · g² (Hinton 2012).

    With ``momentum`` the quotient goes through a velocity, as in SGD.
    """

    learning_rate: float | Schedule = 1e-2
    rho: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0

    def spec(self) -> OptimizerSpec:
        """The row "rmsprop"; rho is its beta_2."""
        moments = 2 if self.momentum > 0 else 1
        numbers = {"beta_2": self.rho, "epsilon": self.epsilon, "momentum": self.momentum}
        return self._spec("rmsprop", moments, **numbers)


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """p -= rate · g / (√Σg² + epsilon) (Duchi, Hazan & Singer 2011)."""

    learning_rate: float | Schedule = 1e-2
    epsilon: float = 1e-10

    def spec(self) -> OptimizerSpec:
        """The row "adagrad"."""
        return self._spec("adagrad", 1, epsilon=self.epsilon)


@dataclass(frozen=True)
class Adam(Optimizer):
    """p -= rate · m̂ / (√v̂ + epsilon), with the bias-corrected moments (Kingma & Ba 2015)."""

    learning_rate: float | Schedule = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    _row = "adam"

    def spec(self) -> OptimizerSpec:
        """The row "adam" (or "adamw")."""
        numbers = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return self._spec(self._row, 2, **numbers)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam after p -= rate · weight_decay · p (Loshchilov & Hutter 2019)."""

    weight_decay: float = field(default=1e-2, kw_only=True)

    _row = "adamw"


@dataclass(frozen=True)
class LBFGS(_Checked):
    """SciPy's L-BFGS-B on the whole data set: an epoch is an iteration.

    It takes no learning rate, no batches and no schedule; the extra "sklearn" brings
    SciPy. The penalties l2/2 · ‖W‖² and weight_decay/2 · ‖p‖² join the objective.

    Parameters
    ----------
    memory : int, default 10
        Pairs of vectors that stand for the Hessian.
    gradient_tolerance : float, default 1e-5
        Stops when no component of the gradient is larger.
    loss_tolerance : float, default 2.2e-9
        Stops when an iteration lowers the objective by a smaller fraction.
    weight_decay, l2 : float, default 0
    """

    memory: int = 10
    gradient_tolerance: float = 1e-5
    loss_tolerance: float = 2.2e-9
    weight_decay: float = field(default=0.0, kw_only=True)
    l2: float = field(default=0.0, kw_only=True)


OPTIMIZERS: dict[str, type[Optimizer] | type[LBFGS]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
    "lbfgs": LBFGS,
}


def resolve(optimizer: Any) -> Optimizer | LBFGS:
    """An optimizer as it is; a name of ``OPTIMIZERS`` as the one with default numbers."""
    if isinstance(optimizer, str):
        return OPTIMIZERS[checks.choice("optimizer", optimizer, OPTIMIZERS)]()  # type: ignore[call-arg]
    example = "a name such as 'adam', or Adam(…)"
    found: Optimizer | LBFGS = checks.instance("optimizer", optimizer, (Optimizer, LBFGS), example)
    return found


def spec_from_config(config: Any) -> OptimizerSpec:
    """An engines' row from plain data, such as a file gives, with every number checked."""
    if not isinstance(config, dict):
        raise TypeError(f"the optimizer's rule must be a dict, not {config!r}")
    spec = OptimizerSpec(**config)
    checks.choice("optimizer", spec.name, ROWS)
    checks.whole("moments", spec.moments, at_least=0)
    for name in ("nesterov", "epsilon_hat", "rate_in_velocity", "l2_by_weight"):
        checks.flag(name, getattr(spec, name))
    for name in ("momentum", "beta_1", "beta_2", "epsilon", "weight_decay", "l2", "clip_norm"):
        checks.real(name, getattr(spec, name), at_least=0)
    return spec
