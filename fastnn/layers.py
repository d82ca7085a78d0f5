"""Layers: immutable descriptions, without parameters, that a model is built from.

The parameters belong to the model (one flat vector in the engine), so a layer can be
shared, compared, printed and stored. What may follow what is checked here, once; wrong
values are a TypeError or ValueError. A new kind is a class here, which makes its own
``LayerSpec``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any, ClassVar

from . import checks
from .custom import CustomActivation
from .initializers import INITIALIZERS
from .kernels import contract
from .kernels.contract import ACTIVATIONS, LayerSpec

__all__ = ["Dense", "Dropout", "LayerNorm", "Scale"]

#: Layers are numbered by 16 bits of the dropout key, units by 32 bits.
_MOST_LAYERS = 2**16
MOST_UNITS = 2**31 - 1

#: What else an activation is called -> the row's name.
_OTHER_NAMES = {other: name for name, row in ACTIVATIONS.items() for other in row.names}


def _activation(name: str, value: Any) -> Any:
    if isinstance(value, CustomActivation):
        return value
    if callable(value):
        raise TypeError(f"{name} must be a name or fastnn.activation(f), not {value!r}")
    known = _OTHER_NAMES.get(value, value) if isinstance(value, str) else value
    return checks.choice(name, known, ACTIVATIONS)


_factor = checks.within(at_least=0)


class Layer(checks.Checked):
    CHECKS: ClassVar[checks.Checks] = {
        "units": lambda name, value: checks.whole(name, value, at_most=MOST_UNITS),
        "activation": _activation,
        **dict.fromkeys(("use_bias", "scale", "shift"), checks.flag),
        "initializer": lambda name, value: checks.choice(name, value, ("auto", *INITIALIZERS)),
        "epsilon": checks.within(above=0),
        "rate": checks.within(at_least=0, below=1),
        **dict.fromkeys(("learning_rate_factor", "weight_decay_factor"), _factor),
        "bias_learning_rate_factor": checks.optional(_factor),
        "bias_weight_decay_factor": checks.optional(_factor),
    }

    initializer: str = "auto"  #: where those parameters start that its kind does not tell

    def outputs(self, inputs: int | None) -> int | None:
        """Its outputs; None is a number not yet known."""
        return inputs

    def spec(self, inputs: int, dropout: float = 0.0) -> LayerSpec | None:
        """The layer as engines take it, after a dropout of its input; None for no layer there.

        ValueError if it cannot have so many inputs.
        """
        raise NotImplementedError

    def __str__(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        """The call, without the fields that have their defaults."""
        shown: list[str] = []
        for item in sorted(fields(self), key=lambda item: bool(item.kw_only)):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if item.default is MISSING:
                shown.append(repr(value))
            elif value != item.default:
                shown.append(f"{item.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class _Learned(Layer):
    learning_rate_factor: float = field(default=1.0, kw_only=True)
    weight_decay_factor: float = field(default=1.0, kw_only=True)

    @property
    def factors(self) -> contract.Factors:
        return self.learning_rate_factor, self.weight_decay_factor


@dataclass(frozen=True, repr=False)
class Dense(_Learned):
    """A dense layer: f(X W + b), W of shape (inputs, units), b of shape (units,).

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str or CustomActivation, default "identity"
        A row of ``fastnn.kernels.contract.ACTIVATIONS``, "softmax" only in the last layer;
        or what ``fastnn.activation`` made.
    use_bias : bool, default True
    initializer : str, default "auto"
        Where W starts: "glorot_uniform", "he_normal", "lecun_normal", "normal" or
        "zeros"; "auto" chooses by the activation. Biases start at zero.
    learning_rate_factor, weight_decay_factor : float, default 1
        ≥ 0: they multiply the optimizer's learning rate and weight decay, here.
    bias_learning_rate_factor, bias_weight_decay_factor : float or None
        The same for b; None takes those of W.
    """

    units: int
    activation: str | CustomActivation = "identity"
    use_bias: bool = True
    initializer: str = "auto"
    bias_learning_rate_factor: float | None = field(default=None, kw_only=True)
    bias_weight_decay_factor: float | None = field(default=None, kw_only=True)

    def outputs(self, inputs: int | None) -> int:
        return self.units

    def spec(self, inputs: int, dropout: float = 0.0) -> LayerSpec:
        own = self.bias_learning_rate_factor, self.bias_weight_decay_factor
        rate, decay = (w if b is None else b for w, b in zip(self.factors, own, strict=True))
        return contract.dense(
            *(inputs, self.units, self.activation, self.use_bias, dropout),
            factors=self.factors,
            bias_factors=(rate, decay),
        )

    def __str__(self) -> str:
        return f"Dense {self.activation}"


@dataclass(frozen=True, repr=False)
class LayerNorm(_Learned):
    """(x - mean) / √(variance + epsilon) over the features of a row, times scale, plus shift.

    Ba, Kiros & Hinton 2016; mean and (biased) variance are those of the row, so that rows do
    not depend on each other. The parameters ``scale`` and ``shift``, one for each feature, start
    at 1 and 0; either may be left out. The factors are as in ``Dense``, for both.
    """

    epsilon: float = 1e-5
    scale: bool = True
    shift: bool = True

    def spec(self, inputs: int, dropout: float = 0.0) -> LayerSpec:
        if inputs == 1:
            raise ValueError("LayerNorm of one feature: its output would not depend on it")
        return contract.layer_norm(
            inputs, self.epsilon, self.scale, self.shift, dropout, self.factors
        )


@dataclass(frozen=True, repr=False)
class Scale(_Learned):
    """Each feature times a learned factor, which starts at 1; other factors as in ``Dense``."""

    def spec(self, inputs: int, dropout: float = 0.0) -> LayerSpec:
        return contract.scale(inputs, dropout, self.factors)


@dataclass(frozen=True, repr=False)
class Dropout(Layer):
    """Sets each unit to zero with probability ``rate`` < 1 while training; identity otherwise.

    The kept units are scaled by 1 / (1 - rate), so that the expected value stays
    (Srivastava et al. 2014, in the inverted form).
    """

    rate: float

    def spec(self, inputs: int, dropout: float = 0.0) -> None:
        return  # it becomes a number of the next one

    def __str__(self) -> str:
        return f"Dropout {self.rate:g}"


_TYPES: dict[str, type[Layer]] = {name: globals()[name] for name in __all__}


def check(layers: Any) -> tuple[Layer, ...]:
    """The layers of a network, or the error that says what cannot be.

    A Dense last, with softmax there only; no two Dropout layers in a row.
    """
    if isinstance(layers, (str, Layer)) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list of Dense, Dropout and such, not {layers!r}")
    found = tuple(layers)
    for layer in found:
        checks.instance("a layer", layer, Layer, f"one of {', '.join(_TYPES)}, such as Dense(3)")
    if not found:
        raise ValueError("a network needs at least one Dense layer; layers is empty")
    if len(found) > _MOST_LAYERS:
        raise ValueError(f"a network has at most {_MOST_LAYERS} layers, not {len(found)}")
    if not isinstance(found[-1], Dense):
        raise ValueError(f"{type(found[-1]).__name__} cannot be the last layer: end with a Dense")
    for layer, following in pairwise(found):
        if isinstance(layer, Dropout) and isinstance(following, Dropout):
            raise ValueError("two Dropout layers in a row: one of the combined rate does the same")
        if getattr(layer, "activation", None) == "softmax":
            raise ValueError("activation 'softmax' is for the last layer only")
    specifications(found, None)
    return found


def specifications(layers: Iterable[Layer], inputs: int | None) -> tuple[LayerSpec, ...]:
    """The layers as engines take them; a Dropout becomes a number of the next one.

    Those before the first Dense are left out where the inputs are not known (None).
    """
    specs: list[LayerSpec] = []
    dropout = 0.0
    for layer in layers:
        if inputs is not None:
            spec = layer.spec(inputs, dropout)
            if spec is not None:
                specs.append(spec)
        dropout = layer.rate if isinstance(layer, Dropout) else 0.0
        inputs = layer.outputs(inputs)
    return tuple(specs)


def check_memory(specs: tuple[LayerSpec, ...], itemsize: int) -> None:
    """Refuse parameters that this machine could never hold."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return  # the system does not tell
    size = contract.size(specs)
    if size * itemsize > memory:
        raise ValueError(
            f"the network would have {size:,} parameters, {size * itemsize / 2**30:,.0f} GiB; "
            f"this machine has {memory / 2**30:,.0f} GiB"
        )


def table(layers: tuple[Layer, ...], inputs: int | None) -> str:
    """Layers, output shapes and numbers of parameters, as far as the inputs tell them."""
    total = "?" if inputs is None else f"{contract.size(specifications(layers, inputs)):,}"
    lines = [("layer", "output", "parameters")]
    for layer in layers:
        spec = None if inputs is None else layer.spec(inputs)
        count = "?" if inputs is None else f"{0 if spec is None else spec.size:,}"
        inputs = layer.outputs(inputs)
        lines.append((str(layer), f"(n, {'?' if inputs is None else inputs})", count))
    lines.append(("total", "", total))
    a, b, c = (max(len(line[k]) for line in lines) for k in range(3))
    text = [f"{line[0]:<{a}}  {line[1]:>{b}}  {line[2]:>{c}}" for line in lines]
    rule = "-" * (a + b + c + 4)
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])


def to_configs(layers: tuple[Layer, ...]) -> list[dict[str, Any]]:
    """The layers as plain data for JSON; custom activations by their names, each of its own."""
    configs: list[dict[str, Any]] = []
    known: dict[str, CustomActivation] = {}
    for layer in layers:
        configs.append({"type": type(layer).__name__, **asdict(layer)})  # type: ignore[call-overload]
        own = configs[-1].get("activation")
        if isinstance(own, CustomActivation):
            if known.setdefault(own.name, own) != own:
                raise ValueError(
                    f"two different activations are called {own.name!r}: "
                    "name them, fastnn.activation(f, name=…)"
                )
            configs[-1]["activation"] = {"custom": own.name}
    return configs


def from_config(config: Any, custom: Mapping[str, CustomActivation]) -> Layer:
    """The layer of which a description tells; ``custom`` is what ``functions_for`` gives."""
    if not isinstance(config, dict):
        raise TypeError(f"the description of a layer must be a dict, not {config!r}")
    arguments = dict(config)
    kind = _TYPES[checks.choice("layer type", arguments.pop("type", None), _TYPES)]
    name = _custom_name(config)
    if name is not None:
        arguments["activation"] = custom[name]
    return kind(**arguments)


def _custom_name(config: Any) -> str | None:
    match config:
        case {"activation": {"custom": str(name)}}:
            return name
    return None


def functions_for(configs: Iterable[Any], custom: Any) -> Mapping[str, CustomActivation]:
    """The user's functions, after a look that all are there which these descriptions name."""
    if not isinstance(custom, Mapping | None):
        raise TypeError(f"custom must map names to fastnn.activation(f), not {custom!r}")
    given: Mapping[str, CustomActivation] = custom or {}
    for name, function in given.items():
        checks.instance(f"custom[{name!r}]", function, CustomActivation, "fastnn.activation(f)")
    names = dict.fromkeys(map(_custom_name, configs))
    missing = [name for name in names if name is not None and name not in given]
    if missing:
        example = ", ".join(f"{name!r}: {name}" for name in missing)
        raise ValueError(
            f"the model uses the custom activation {missing[0]!r}, whose code is not stored: "
            f"give custom={{{example}}}"
        )
    return given
