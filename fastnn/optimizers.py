"""Optimizers: immutable descriptions of PyTorch's documented update rules.

Moments and step counts live in the model. ``spec`` gives the engines' row; each field of
a description is checked by one table. ``weight_decay`` acts on all parameters, biases
included, as in PyTorch; ``l2`` on weights only; ``clip_norm`` bounds the Euclidean norm of
the whole gradient, after l2 and before weight_decay. Wrong numbers are a TypeError or
ValueError.

A new one is a class here, called as its row is (or with a ``row`` of its own), whose fields
are called as the row's numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpy.typing import NDArray

from . import checks
from .errors import import_extra
from .kernels import contract
from .kernels.contract import OPTIMIZERS as ROWS
from .kernels.contract import LayerSpec, OptimizerSpec
from .schedules import Constant, Schedule, as_schedule

#: What a model keeps of one: updates made, moments (each flat), and plain data: the rule and
#: the epochs done.
State = tuple[int, tuple[NDArray[Any], ...], dict[str, Any]]

__all__ = ["LBFGS", "SGD", "Adagrad", "Adam", "AdamW", "Lion", "NAdam", "RMSprop"]


def _learning_rate(name: str, value: Any) -> Any:
    schedule = as_schedule(value)
    return schedule.learning_rate if isinstance(schedule, Constant) else schedule


_fraction, _positive = checks.within(at_least=0, below=1), checks.within(at_least=0)


class _Checked(checks.Checked):
    CHECKS: ClassVar[checks.Checks] = {
        "learning_rate": _learning_rate,
        "momentum": checks.within(at_least=0, at_most=1),
        "nesterov": checks.flag,
        **dict.fromkeys(("rho", "beta_1", "beta_2"), _fraction),
        "epsilon": checks.within(at_least=1e-30),  # less would be subnormal in float32
        **dict.fromkeys(("weight_decay", "l2", "momentum_decay"), _positive),
        **dict.fromkeys(("gradient_tolerance", "loss_tolerance"), _positive),
        "clip_norm": checks.optional(checks.within(above=0)),
        "memory": checks.whole,
    }


@dataclass(frozen=True)
class Optimizer(_Checked):
    """What all first-order optimizers have; made by its subclasses only.

    Parameters
    ----------
    learning_rate : float or Schedule
        ≥ 0.
    weight_decay : float
        Adds weight_decay · p to the gradient of every parameter (AdamW, Lion: see there).
    l2 : float
        Adds l2 · W to the gradient of weights, not of biases.
    clip_norm : float or None
        The gradient is scaled by min(1, clip_norm / (norm + 1e-6)).
    """

    learning_rate: float | Schedule
    weight_decay: float = field(default=0.0, kw_only=True)
    l2: float = field(default=0.0, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)

    @property
    def schedule(self) -> Schedule:
        """The learning rate as a schedule."""
        return as_schedule(self.learning_rate)

    @property
    def row(self) -> str:
        """The name of the engines' row."""
        return type(self).__name__.lower()

    def spec(self) -> OptimizerSpec:
        """The engines' row with every number of the rule; the rate is given apart."""
        return contract.optimizer(
            self.row,
            weight_decay=self.weight_decay,
            l2=self.l2,
            clip_norm=self.clip_norm or 0.0,
            **{name: getattr(self, name) for name in ROWS[self.row].numbers},
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

    @property
    def row(self) -> str:
        if self.nesterov:
            return "nesterov"
        return "momentum" if self.momentum > 0 else "sgd"


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """p -= rate · g / (√v + epsilon), v = rho · v + (1 - rho) · g² (Hinton 2012).

    With ``momentum`` the quotient goes through a velocity, as in SGD.
    """

    learning_rate: float | Schedule = 1e-2
    rho: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0

    @property
    def row(self) -> str:
        return "rmsprop_momentum" if self.momentum > 0 else "rmsprop"

    @property
    def beta_2(self) -> float:
        """What the engines call rho."""
        return self.rho


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """p -= rate · g / (√Σg² + epsilon) (Duchi, Hazan & Singer 2011)."""

    learning_rate: float | Schedule = 1e-2
    epsilon: float = 1e-10


@dataclass(frozen=True)
class Adam(Optimizer):
    """p -= rate · m̂ / (√v̂ + epsilon), with the bias-corrected moments (Kingma & Ba 2015)."""

    learning_rate: float | Schedule = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam after p -= rate · weight_decay · p (Loshchilov & Hutter 2019)."""

    weight_decay: float = field(default=1e-2, kw_only=True)


@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov's momentum (Dozat 2016).

    β₁ of step t is beta_1 · (1 - ½ · 0.96^(t · momentum_decay)), as in PyTorch.
    """

    learning_rate: float | Schedule = 2e-3
    momentum_decay: float = 4e-3


@dataclass(frozen=True)
class Lion(Optimizer):
    """p -= rate · sign(beta_1 · m + (1 - beta_1) · g), then m = beta_2 · m + (1 - beta_2) · g.

    Before it p -= rate · weight_decay · p (Chen et al. 2023, "Symbolic Discovery of
    Optimization Algorithms"). A rate of a third to a tenth of Adam's suits it.
    """

    learning_rate: float | Schedule = 1e-4
    beta_1: float = 0.9
    beta_2: float = 0.99


@dataclass(frozen=True)
class LBFGS(_Checked):
    """SciPy's L-BFGS-B on the whole data set: an epoch is an iteration.

    It takes no learning rate, no batches and no schedule; the extra "sklearn" brings
    SciPy. The penalties l2/2 · ‖W‖² and weight_decay/2 · ‖p‖² join the objective.

    ``memory`` counts the pairs of vectors that stand for the Hessian. It stops when no component
    of the gradient is larger than ``gradient_tolerance``, or an iteration lowers the objective
    by a fraction that is smaller than ``loss_tolerance``.
    """

    memory: int = 10
    gradient_tolerance: float = 1e-5
    loss_tolerance: float = 2.2e-9
    weight_decay: float = field(default=0.0, kw_only=True)
    l2: float = field(default=0.0, kw_only=True)

    def check(self, layers: tuple[LayerSpec, ...]) -> None:
        """Raise for what cannot be trained so, ImportError without SciPy."""
        if any(layer.dropout for layer in layers):
            raise ValueError("LBFGS needs a loss that does not change: not with Dropout layers")
        if any(tensor.rate_factor != 1 for layer in layers for tensor in layer.tensors):
            raise ValueError("LBFGS has no learning rate: not with learning_rate_factor")
        import_extra("scipy.optimize", "sklearn", "the LBFGS optimizer")


OPTIMIZERS: dict[str, type[Optimizer] | type[LBFGS]] = {
    name.lower(): globals()[name] for name in __all__
}


def resolve(optimizer: Any) -> Optimizer | LBFGS:
    """An optimizer as it is; a name of ``OPTIMIZERS`` as the one with default numbers."""
    if isinstance(optimizer, str):
        return OPTIMIZERS[checks.choice("optimizer", optimizer, OPTIMIZERS)]()  # type: ignore[call-arg]
    example = "a name such as 'adam', or Adam(…)"
    found: Optimizer | LBFGS = checks.instance("optimizer", optimizer, (Optimizer, LBFGS), example)
    return found


def to_config(spec: OptimizerSpec) -> dict[str, Any]:
    """An engines' row as plain data for JSON."""
    numbers = dict(zip(ROWS[spec.name].numbers, spec.numbers, strict=True))
    return spec._asdict() | {"numbers": numbers}


def from_config(config: Any) -> OptimizerSpec:
    """The inverse of ``to_config``; TypeError, ValueError or KeyError for what is none."""
    if not isinstance(config, dict) or not isinstance(config.get("numbers"), dict):
        raise TypeError(f"the optimizer's rule must be a dict with numbers, not {config!r}")
    numbers = config | config["numbers"]
    name = checks.choice("optimizer", numbers.pop("name", None), ROWS)
    del numbers["numbers"]
    for key, value in numbers.items():
        check = checks.flag if key == "l2_by_weight" else checks.within(at_least=0)
        check(key, value)
    return contract.optimizer(name, **numbers)
