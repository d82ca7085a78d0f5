"""Layers: immutable descriptions, without parameters, that a model is built from.

The parameters belong to the model (one flat vector in the engine), so a layer can be
shared, compared, printed and stored. What may follow what is checked here, once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from . import checks
from .custom import CustomActivation
from .kernels.contract import ACTIVATIONS, LayerSpec
from .initializers import INITIALIZERS

Array = NDArray[Any]

#: Layers are numbered by 16 bits of the dropout key, units by 32 bits.
_MOST_LAYERS = 2**16
MOST_UNITS = 2**31 - 1


@dataclass(frozen=True)
class Dense:
    """A dense layer: f(X W + b), W of shape (inputs, units), b of shape (units,).

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str or CustomActivation, default "identity"
        A row of ``fastnn.engines.ACTIVATIONS``, "softmax" only in the last layer; or what
        ``fastnn.activation`` made.
    use_bias : bool, default True
    initializer : str, default "auto"
        Where W starts: "glorot_uniform", "he_normal", "lecun_normal", "normal" or
        "zeros"; "auto" chooses by the activation. Biases start at zero.

    Raises
    ------
    TypeError, ValueError
    """

    units: int
    activation: str | CustomActivation = "identity"
    use_bias: bool = True
    initializer: str = "auto"

    def __post_init__(self) -> None:
        units = checks.whole("units", self.units, at_most=MOST_UNITS)
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "use_bias", checks.flag("use_bias", self.use_bias))
        if not isinstance(self.activation, CustomActivation):
            if callable(self.activation):
                raise TypeError(
                    f"activation must be a name or fastnn.activation(f), not {self.activation!r}"
                )
            checks.choice("activation", self.activation, ACTIVATIONS)
        checks.choice("initializer", self.initializer, ("auto", *INITIALIZERS))


@dataclass(frozen=True)
class Dropout:
    """Sets each unit to zero with probability ``rate`` while training; identity otherwise.

    The kept units are scaled by 1 / (1 - rate), so that the expected value stays
    (Srivastava et al. 2014, in the inverted form).

    Parameters
    ----------
    rate : float
        0 ≤ rate < 1.

    Raises
    ------
    TypeError, ValueError
    """

    rate: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", checks.real("rate", self.rate, at_least=0, below=1))


Layer = Dense | Dropout

_TYPES: dict[str, type[Dense] | type[Dropout]] = {"Dense": Dense, "Dropout": Dropout}


def check(layers: Any) -> tuple[Layer, ...]:
    """The layers of a network, or the error that says what cannot be.

    At least one Dense, and a Dense last; no two Dropout layers in a row; softmax in the
    last layer only.
    """
    if isinstance(layers, (str, Dense, Dropout)) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list of Dense and Dropout, not {layers!r}")
    found = tuple(layers)
    for layer in found:
        checks.instance("a layer", layer, (Dense, Dropout), "Dense(…) or Dropout(…)")
    if not found:
        raise ValueError("a network needs at least one Dense layer; layers is empty")
    if len(found) > _MOST_LAYERS:
        raise ValueError(f"a network has at most {_MOST_LAYERS} layers, not {len(found)}")
    if isinstance(found[-1], Dropout):
        raise ValueError("Dropout cannot be the last layer: it would remove outputs")
    for layer, following in pairwise(found):
        if isinstance(layer, Dropout) and isinstance(following, Dropout):
            raise ValueError("two Dropout layers in a row: one of the combined rate does the same")
        if isinstance(layer, Dense) and layer.activation == "softmax":
            raise ValueError("activation 'softmax' is for the last layer only")
    return found


def specifications(layers: tuple[Layer, ...], inputs: int) -> tuple[LayerSpec, ...]:
    """The dense layers as engines take them; a Dropout becomes a number of the next layer."""
    specs: list[LayerSpec] = []
    dropout = 0.0
    for layer in layers:
        if isinstance(layer, Dropout):
            dropout = layer.rate
        else:
            row = LayerSpec(inputs, layer.units, layer.activation, layer.use_bias, dropout)
            specs.append(row)
            inputs, dropout = layer.units, 0.0
    return tuple(specs)


def size(specs: tuple[LayerSpec, ...]) -> int:
    """Number of parameters."""
    return sum((spec.inputs + spec.use_bias) * spec.outputs for spec in specs)


def check_memory(specs: tuple[LayerSpec, ...], itemsize: int) -> None:
    """Refuse parameters that this machine could never hold."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return  # the system does not tell
    needed = size(specs) * itemsize
    if needed > memory:
        raise ValueError(
            f"the network would have {size(specs):,} parameters, {needed / 2**30:,.0f} GiB; "
            f"this machine has {memory / 2**30:,.0f} GiB"
        )


def views(specs: tuple[LayerSpec, ...], flat: Array) -> list[tuple[Array, Array | None]]:
    """(W, b) of each dense layer as views of flat parameters; b is None without a bias."""
    found: list[tuple[Array, Array | None]] = []
    start = 0
    for spec in specs:
        middle = start + spec.inputs * spec.outputs
        stop = middle + spec.use_bias * spec.outputs
        weight = flat[start:middle].reshape(spec.inputs, spec.outputs)
        found.append((weight, flat[middle:stop] if spec.use_bias else None))
        start = stop
    return found


def table(layers: tuple[Layer, ...], specs: tuple[LayerSpec, ...]) -> str:
    """Layers, output shapes and numbers of parameters; ``specs`` may be empty."""
    lines = [("layer", "output", "parameters")]
    remaining = iter(specs)
    for layer in layers:
        if isinstance(layer, Dense):
            spec = next(remaining, None)
            count = "?" if spec is None else f"{size((spec,)):,}"
            lines.append((f"Dense {layer.activation}", f"(n, {layer.units})", count))
        else:
            lines.append((f"Dropout {layer.rate:g}", "", "0"))
    lines.append(("total", "", f"{size(specs):,}" if specs else "?"))
    a, b, c = (max(len(line[k]) for line in lines) for k in range(3))
    text = [f"{line[0]:<{a}}  {line[1]:>{b}}  {line[2]:>{c}}" for line in lines]
    rule = "-" * (a + b + c + 4)
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])


def to_config(layer: Layer) -> dict[str, Any]:
    """The layer as plain data for JSON; a custom activation by its name."""
    config = {"type": type(layer).__name__, **asdict(layer)}
    if isinstance(config.get("activation"), CustomActivation):
        config["activation"] = {"custom": config["activation"].name}
    return config


def from_config(config: Any, custom: Mapping[str, CustomActivation] | None = None) -> Layer:
    """The inverse of ``to_config``; raises as the constructors do.

    ``custom`` holds the custom activations by name.
    """
    if not isinstance(config, dict):
        raise TypeError(f"the description of a layer must be a dict, not {config!r}")
    arguments = dict(config)
    for name in custom_names([config]):
        if name not in (custom or {}):
            raise ValueError(
                f"custom activation {name!r} is needed: give it as custom={{{name!r}: …}}"
            )
        arguments["activation"] = checks.instance(
            f"custom[{name!r}]", (custom or {})[name], CustomActivation, "fastnn.activation(f)"
        )
    kind = _TYPES[checks.choice("layer type", arguments.pop("type", None), _TYPES)]
    return kind(**arguments)


def custom_names(configs: Iterable[Any]) -> list[str]:
    """The names of the custom activations that these descriptions of layers ask for."""
    asked = (config.get("activation") for config in configs if isinstance(config, dict))
    return [found["custom"] for found in asked if isinstance(found, dict) and _is_named(found)]


def _is_named(found: dict[str, Any]) -> bool:
    return found.keys() == {"custom"} and isinstance(found["custom"], str)


def check_custom_names(layers: tuple[Layer, ...]) -> None:
    """Refuse two custom activations of one name, which no description could tell apart."""
    known: dict[str, CustomActivation] = {}
    for layer in layers:
        own = getattr(layer, "activation", None)
        if isinstance(own, CustomActivation) and known.setdefault(own.name, own) != own:
            raise ValueError(
                f"two different activations are called {own.name!r}: "
                "name them, fastnn.activation(f, name=…)"
            )
