"""Data, functions of a user's own, and estimators that are fitted in no time."""

from __future__ import annotations

import math
from typing import Any

import custom_gallery as gallery
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.preprocessing import scale

import fastnn
from fastnn import MLPClassifier, MLPRegressor

X, Y = load_digits(return_X_y=True)
X = X / 16
XD, YD = load_diabetes(return_X_y=True)
XD, YD = scale(XD), YD / 100
XW, YW = load_wine(return_X_y=True)
XW = scale(XW)

USUAL = {"hidden_layer_sizes": 20, "random_state": 0}

swishy = fastnn.activation(gallery.swishy)


@fastnn.activation
def as_tanh(x: float) -> float:
    """The built-in tanh."""
    return math.tanh(x)


@fastnn.loss
def between(output: float, target: float) -> float:
    """A loss between the absolute and the squared error."""
    e = abs(output - target)
    return e + math.log1p(math.exp(-2 * e)) - math.log(2.0)


@fastnn.loss
def as_mse(output: float, target: float) -> float:
    """The built-in mse."""
    return (output - target) ** 2


def classifier(**parameters: Any) -> MLPClassifier:
    """For digits."""
    return MLPClassifier(**USUAL | {"max_iter": 5} | parameters)


def regressor(**parameters: Any) -> MLPRegressor:
    """For diabetes."""
    return MLPRegressor(**USUAL | {"max_iter": 40, "learning_rate_init": 0.01} | parameters)


def state(estimator: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """All that an estimator is, but for what is inside its network."""
    return dict(vars(estimator)), dict(vars(estimator._record))
