"""Custom activations and losses as parameters of the estimators."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import custom_gallery as gallery
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale

pytest.importorskip("numba")

import fastnn
from fastnn import MLPClassifier, MLPRegressor
from fastnn.files.models import FileFormatError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

XW, YW = load_wine(return_X_y=True)
XW = scale(XW)
XD, YD = load_diabetes(return_X_y=True)
XD, YD = scale(XD), scale(YD)

swishy = fastnn.activation(gallery.swishy)


@fastnn.activation
def as_tanh(x: float) -> float:
    """The built-in tanh."""
    return math.tanh(x)


@fastnn.loss
def log_cosh(output: float, target: float) -> float:
    """A loss between the absolute and the squared error."""
    e = abs(output - target)
    return e + math.log1p(math.exp(-2 * e)) - math.log(2.0)


@fastnn.loss
def as_mse(output: float, target: float) -> float:
    """The built-in mse."""
    return (output - target) ** 2


CUSTOM = {"swishy": swishy, "as_tanh": as_tanh, "log_cosh": log_cosh}


def classifier(activation: Any, **parameters: Any) -> MLPClassifier:
    """Two hidden layers, for wine."""
    return MLPClassifier(
        (12, 9),
        activation,
        **{"max_iter": 40, "learning_rate_init": 0.01, "random_state": 0} | parameters,
    )


def regressor(loss: Any, activation: Any = "relu", **parameters: Any) -> MLPRegressor:
    """Two hidden layers, for diabetes."""
    return MLPRegressor(
        loss,
        (12, 9),
        activation,
        **{"max_iter": 15, "learning_rate_init": 0.01, "random_state": 0} | parameters,
    )


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_equal_formulas_give_equal_fits(solver: str) -> None:
    """A custom copy of a built-in function trains as the built-in one does."""
    for ours, builtin in (
        (classifier(as_tanh, solver=solver), classifier("tanh", solver=solver)),
        (classifier(("relu", as_tanh), solver=solver), classifier(("relu", "tanh"), solver=solver)),
        (
            classifier("tanh", loss=as_mse, solver=solver),
            classifier("tanh", loss="mse", solver=solver),
        ),
    ):
        ours.fit(XW, YW)
        builtin.fit(XW, YW)
        assert ours.loss_ == pytest.approx(builtin.loss_, rel=1e-5)
        np.testing.assert_array_equal(ours.predict(XW), builtin.predict(XW))
    mine, theirs = (regressor(loss, solver=solver).fit(XD, YD) for loss in (as_mse, "mse"))
    assert mine.loss_ == pytest.approx(theirs.loss_, rel=1e-5)


@pytest.mark.parametrize("engine", ["cython", "numba"])
def test_engines_agree(engine: str) -> None:
    kinds = {"engine": engine}, {"engine": "numpy"}
    for make, X, y in (
        (lambda **k: regressor(log_cosh, ("tanh", swishy), max_iter=2, **k), XD, YD),
        (lambda **k: classifier((swishy, "relu"), loss=log_cosh, max_iter=2, **k), XW, YW),
    ):
        fast, reference = (make(**kind).fit(X, y) for kind in kinds)
        assert fast.loss_curve_ == pytest.approx(reference.loss_curve_, rel=1e-9)


def test_they_learn() -> None:
    assert classifier(swishy).fit(XW, YW).score(XW, YW) > 0.97
    assert regressor(log_cosh, swishy, max_iter=60).fit(XD, YD).score(XD, YD) > 0.5


def test_clone_and_pickle_go_on() -> None:
    for model, X, y in (
        (regressor(log_cosh, ("tanh", swishy)), XD, YD),
        (classifier(swishy, loss=log_cosh), XW, YW),
    ):
        fitted = model.fit(X, y)
        again = clone(fitted).fit(X, y)
        assert again.loss_curve_ == fitted.loss_curve_
        copied = pickle.loads(pickle.dumps(fitted))
        assert copied.get_params() == fitted.get_params()
        assert copied.partial_fit(X, y).loss_ == fitted.partial_fit(X, y).loss_


def test_one_row_takes_the_short_way() -> None:
    model = regressor(log_cosh, swishy).partial_fit(XD[:1], YD[:1])
    slow = regressor(log_cosh, swishy).partial_fit(XD[:1], YD[:1])
    assert model._has_learned(XD[1:2], YD[1:2, None])
    slow.partial_fit(XD[1:2].tolist(), YD[1:2])
    assert model.loss_ == pytest.approx(slow.loss_, rel=1e-12)
    np.testing.assert_allclose(model.predict(XD), slow.predict(XD), rtol=1e-10)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_over_them(n_jobs: int) -> None:
    grid = {"activation": ["relu", swishy, ("tanh", swishy)], "loss": ["squared_error", log_cosh]}
    search = GridSearchCV(regressor("squared_error", max_iter=20), grid, cv=2, n_jobs=n_jobs)
    search.fit(XD, YD)
    assert len(set(search.cv_results_["mean_test_score"])) == 6
    assert search.best_score_ > 0.2
    assert search.best_params_["activation"] in grid["activation"]


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for model, X, y in (
        (regressor(log_cosh, ("tanh", swishy)), XD, YD),
        (classifier(swishy, loss=log_cosh), XW, YW),
        (classifier(["relu", as_tanh]), XW, YW),
    ):
        model.fit(X, y).save(path)
        again = type(model).load(path, custom=CUSTOM)
        assert again.get_params() == model.get_params()
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        again.partial_fit(X, y)  # the functions are those of the network, too
        with pytest.raises(ValueError, match=r"custom function '.*load\(path, custom=\{'"):
            type(model).load(path)
    for custom in ([swishy], {"as_tanh": math.tanh}):
        with pytest.raises(TypeError, match="custom"):
            MLPClassifier.load(path, custom=custom)
    with pytest.raises(FileFormatError, match="holds a MLPClassifier"):
        MLPRegressor.load(path, custom=CUSTOM)


def test_two_functions_of_one_name_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    other = fastnn.activation(gallery.tanh_like, name="swishy")
    loss = fastnn.loss(log_cosh.function, name="swishy")
    for model, X, y in (
        (classifier((swishy, other)), XW, YW),
        (regressor(loss, swishy), XD, YD),
    ):
        model.fit(X, y)
        with pytest.raises(ValueError, match="called 'swishy'"):
            model.save(path)
        assert not path.exists()


#: parameter -> values that are refused, and how
MISTAKES: list[tuple[str, Any, str]] = [
    ("activation", math.tanh, r"a name or fastnn\.activation\(f\)"),
    ("activation", gallery.swishy, r"a name or fastnn\.activation\(f\)"),
    ("activation", log_cosh, r"a name or fastnn\.activation\(f\)"),
    ("activation", ("relu", gallery.swishy), r"a name or fastnn\.activation\(f\)"),
    ("activation", ("relu", None), "activation must be a name"),
    ("activation", (swishy,), "names 1 layers, there are 2"),
    ("activation", ("softmax", swishy), "for the last layer only"),
    ("activation", (swishy, "swishy"), "activation"),
    ("loss", math.hypot, r"fastnn\.loss\(f\)"),
    ("loss", log_cosh.function, r"fastnn\.loss\(f\)"),
    ("loss", swishy, r"fastnn\.loss\(f\)"),
    ("loss", "log_cosh", "loss"),
]


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize(("name", "value", "message"), MISTAKES)
def test_a_mistake_changes_nothing(kind: Any, name: str, value: Any, message: str) -> None:
    X, y = (XW, YW) if kind is MLPClassifier else (XD, YD)
    model = (
        classifier("relu", max_iter=2) if kind is MLPClassifier else regressor("mse", max_iter=2)
    )
    model.fit(X, y)
    before = {k: v for k, v in vars(model).items() if k != name}
    expected = model.predict(X)
    model.set_params(**{name: value})
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(X[:, 1:], y)
    assert {k: v for k, v in vars(model).items() if k != name} == before
    np.testing.assert_array_equal(model.predict(X), expected)
