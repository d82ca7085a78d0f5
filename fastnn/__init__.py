"""Dense neural networks on CPUs, trained at the speed of the hardware.

>>> from fastnn import Sequential, Dense
>>> model = Sequential([Dense(16, activation="relu"), Dense(1)], input_size=4)

Public names are loaded when they are first used (PEP 562), so that ``import fastnn``
costs little more than NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .kernels.loader import engines

if TYPE_CHECKING:
    from . import kernels as kernels
    from .fit.callbacks import Callback as Callback
    from .fit.callbacks import CSVLogger as CSVLogger
    from .fit.callbacks import EarlyStopping as EarlyStopping
    from .fit.callbacks import ModelCheckpoint as ModelCheckpoint
    from .fit.callbacks import TerminateOnNaN as TerminateOnNaN
    from .custom import activation as activation
    from .custom import loss as loss
    from .estimators import MLPClassifier as MLPClassifier
    from .estimators import MLPRegressor as MLPRegressor
    from .files.models import load_model as load
    from .layers import Dense as Dense
    from .layers import Dropout as Dropout
    from .losses import Huber as Huber
    from .losses import Quantile as Quantile
    from .model import Sequential as Sequential
    from .optimizers import LBFGS as LBFGS
    from .optimizers import SGD as SGD
    from .optimizers import Adagrad as Adagrad
    from .optimizers import Adam as Adam
    from .optimizers import AdamW as AdamW
    from .optimizers import RMSprop as RMSprop
    from .schedules import Constant as Constant
    from .schedules import CosineDecay as CosineDecay
    from .schedules import ExponentialDecay as ExponentialDecay
    from .schedules import OneCycle as OneCycle
    from .schedules import ReduceOnPlateau as ReduceOnPlateau
    from .schedules import Schedule as Schedule
    from .schedules import StepDecay as StepDecay
    from .schedules import WarmUp as WarmUp
    from .fit.training import History as History

__version__ = "0.1.0"

#: module -> the public names in it.
_PUBLIC = {
    "fit.callbacks": ("Callback", "CSVLogger", "EarlyStopping", "ModelCheckpoint", "TerminateOnNaN"),
    "custom": ("activation", "loss"),
    "estimators": ("MLPClassifier", "MLPRegressor"),
    "layers": ("Dense", "Dropout"),
    "losses": ("Huber", "Quantile"),
    "model": ("Sequential",),
    "optimizers": ("LBFGS", "SGD", "Adagrad", "Adam", "AdamW", "RMSprop"),
    "schedules": (
        "Constant",
        "CosineDecay",
        "ExponentialDecay",
        "OneCycle",
        "ReduceOnPlateau",
        "Schedule",
        "StepDecay",
        "WarmUp",
    ),
    "fit.training": ("History",),
}
_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}

#: Need an extra: ``from fastnn import *`` leaves them out, since it must work without.
_EXTRAS = {*_PUBLIC["estimators"]}

__all__ = ["__version__", "engines", "kernels", "load", *(_HOMES.keys() - _EXTRAS)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "kernels":
        return importlib.import_module(".kernels", __name__)
    if name == "load":
        value = importlib.import_module(".files.models", __name__).load_model
    elif name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted((*__all__, *_EXTRAS))
