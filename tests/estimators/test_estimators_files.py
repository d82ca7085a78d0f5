"""Fitted estimators in files, pickles and clones."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from small import XD, YD, X, Y, as_tanh, between, classifier, regressor, swishy

import fastnn
from fastnn import AdamW, CosineDecay, Huber, MLPClassifier, MLPRegressor, Quantile
from fastnn.estimators import storage
from fastnn.files.models import FileFormatError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CUSTOM = {"swishy": swishy, "as_tanh": as_tanh, "between": between}
TWO = {"hidden_layer_sizes": (9, 8)}
BOTH = {**TWO, "activation": ("tanh", swishy), "loss": between}
HELD = {"learning_rate": fastnn.WarmUp(fastnn.ReduceOnPlateau(fastnn.StepDecay(0.1, 3)), 2)}

#: Optimizers, schedules and losses with all of their numbers, schedules within others too.
CASES: dict[str, tuple[Any, Any]] = {
    "numbers": (classifier(**TWO, dropout=(0.1, 0.0)), Y),
    "text": (classifier(), np.array(list("abcdefghij"))[Y]),
    "binary": (classifier(), Y > 4),
    "multilabel": (classifier(), (Y[:, None] & [1, 2, 4]) > 0),
    "class weights": (classifier(class_weight=dict.fromkeys(range(10), 2.0)), Y),
    "squared error": (regressor(max_iter=3), YD),
    "poisson": (regressor(max_iter=3, loss="poisson"), np.round(YD)),
    "AdamW": (regressor(max_iter=3, solver=AdamW(0.1, weight_decay=0.1, clip_norm=2)), YD),
    "OneCycle": (regressor(max_iter=3, solver=fastnn.Adam(fastnn.OneCycle(0.01, epochs=5))), YD),
    "SGD": (regressor(max_iter=3, solver=fastnn.SGD(0.1, momentum=0.5, nesterov=True)), YD),
    "LBFGS": (regressor(max_iter=3, solver=fastnn.LBFGS(memory=5)), YD),
    "held": (regressor(max_iter=3, **HELD), YD),
    "huber": (regressor(max_iter=3, loss=Huber(2.5)), YD),
    "quantile": (regressor(max_iter=3, loss=Quantile(0.9), learning_rate=CosineDecay(0.1)), YD),
    "custom": (regressor(max_iter=3, **BOTH), YD),
    "custom of classes": (classifier(activation=swishy, loss=between), Y),
    "custom in a list": (classifier(**TWO, activation=["relu", as_tanh]), Y),
}


@pytest.mark.parametrize("case", CASES)
def test_save_and_load(case: str, tmp_path: Path) -> None:
    path, (model, y) = tmp_path / "model.safetensors", CASES[case]
    kind, x = type(model), X if len(y) == len(X) else XD
    model = clone(model).fit(x, y)
    model.save(path)
    again = kind.load(path, custom=CUSTOM)
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    for name in ("loss_", "best_loss_", "n_iter_", "t_", "n_layers_", "n_features_in_"):
        assert getattr(again, name, None) == getattr(model, name, None)
    network = fastnn.load(path, custom={"swishy": swishy, "as_tanh": as_tanh})
    np.testing.assert_array_equal(network.predict(x), model.to_sequential().predict(x))
    again.fit(x, y)  # the functions are those of the network, too
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    other = MLPRegressor if kind is MLPClassifier else MLPClassifier
    with pytest.raises(FileFormatError, match=f"holds a {kind.__name__}"):
        other.load(path, custom=CUSTOM)
    for custom in ([swishy], {"as_tanh": 3}):
        with pytest.raises(TypeError, match="custom"):
            kind.load(path, custom=custom)
    if "custom" in case:
        with pytest.raises(ValueError, match=r"custom function '.*load\(path, custom=\{'"):
            kind.load(path)


def test_every_description_can_be_saved() -> None:
    """All that are frozen and no layers."""
    found = (getattr(fastnn, name) for name in fastnn.__all__)
    kinds = [kind for kind in found if dataclasses.is_dataclass(kind)]
    frozen = {kind.__name__ for kind in kinds if kind.__dataclass_params__.frozen}  # type: ignore[union-attr]
    assert frozen - {"Dense", "Dropout", "LayerNorm", "Scale"} == set(storage._DESCRIPTIONS)


def test_save_names_what_it_cannot_keep(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(NotFittedError):
        classifier().save(path)
    other = fastnn.activation(as_tanh.function, name="swishy")
    loss = fastnn.loss(between.function, name="swishy")
    for model, error, message in (
        (classifier(callbacks=[fastnn.TerminateOnNaN()]).fit(X, Y), TypeError, "callbacks"),
        (classifier(**TWO, activation=(swishy, other)).fit(X, Y), ValueError, "called 'swishy'"),
        (regressor(activation=swishy, loss=loss).fit(XD, YD), ValueError, "called 'swishy'"),
    ):
        with pytest.raises(error, match=message):
            model.save(path)
        assert not path.exists()
    classifier().fit(X, Y).to_sequential().save(path)
    with pytest.raises(FileFormatError, match="no estimator"):
        MLPClassifier.load(path)


@pytest.mark.parametrize("case", CASES)
def test_clone_and_pickle_go_on(case: str) -> None:
    model, y = CASES[case]
    x = X if len(y) == len(X) else XD
    fitted, again = (clone(model).fit(x, y) for _ in "ab")
    assert again.loss_ == fitted.loss_
    copied = pickle.loads(pickle.dumps(fitted))
    assert copied.get_params() == fitted.get_params()
    np.testing.assert_array_equal(copied.predict(x), fitted.predict(x))
    if case != "LBFGS":
        for rows in (slice(0, 1), slice(0, 1), slice(0, None)):
            copied.partial_fit(x[rows], y[rows]), fitted.partial_fit(x[rows], y[rows])
        assert copied.loss_curve_ == fitted.loss_curve_
    state = fitted.__getstate__()
    with pytest.raises(ValueError, match=r"layout 999.*save\(\) and load\(\)"):
        copied.__setstate__(state | {"_state_version": 999})


def test_a_stripped_pickle_is_small_and_learns_again() -> None:
    labels = np.array(["a class with quite a long name", *"bcdefghij"])[Y]
    model = classifier(hidden_layer_sizes=(100,), max_iter=200, n_iter_no_change=200).fit(X, labels)
    expected = model.predict_proba(X)
    size = len(pickle.dumps(model))
    assert model.strip() is model
    stripped = pickle.dumps(model)
    assert len(stripped) <= model.to_sequential().size * 8 + 10_000 < size
    again = pickle.loads(stripped)
    assert (again.predict_proba(X) == expected).all()
    assert again.n_iter_ == 200
    again.partial_fit(X, labels)
    assert len(again.loss_curve_) == 1
    assert again.loss_ < 0.1
