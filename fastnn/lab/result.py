"""What all results of the lab share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, dataclass_transform

from numpy.typing import NDArray

from . import style

Array = NDArray[Any]


@dataclass_transform(frozen_default=True, eq_default=False)
class Result:
    """What an experiment found: arrays, a sentence, pictures.

    A subclass lists its fields and is a frozen dataclass thereby. Its methods ``plot…``
    return a matplotlib figure in the style of the lab, ``frames`` yields those of an
    animation; ``pictures`` names their files, in this order. The first line of their
    docstring says what is to be seen, the rest is the caption in the gallery, where the
    arguments are the defaults.
    """

    pictures: ClassVar[dict[str, Callable[[Any], Any]]]  #: file -> what draws it

    def __init_subclass__(cls, pictures: Sequence[str] = ()) -> None:
        dataclass(frozen=True, eq=False, repr=False)(cls)
        for name, method in list(vars(cls).items()):
            if name.startswith("plot"):
                setattr(cls, name, style.styled(method))
        drawn = [m for name, m in vars(cls).items() if name.startswith(("plot", "frames"))]
        cls.pictures = dict(zip(pictures, drawn, strict=True))

    def summary(self) -> str:
        """The figures in a sentence."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.summary()}"
