"""The estimators inside larger things: scikit-learn's tools, frames, joblib, loops over rows.

Each on real data, with what the tool promises as the assertion. What is compared with
scikit-learn's own estimator must be equal, since the fits are.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars
import pytest
import sklearn
from sklearn import compose, datasets, ensemble, neural_network
from sklearn import model_selection as selection
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - switches the next on
from sklearn.feature_selection import RFE
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, make_scorer
from sklearn.model_selection import cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from small import XW, YW

from fastnn import MLPClassifier, MLPRegressor
from fastnn.checks import threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CANCER = datasets.load_breast_cancer(as_frame=True)
WINE = datasets.load_wine(return_X_y=True)
DIABETES = datasets.load_diabetes(as_frame=True)
DIGITS = datasets.load_digits(return_X_y=True)


def classifier(kind: Any = MLPClassifier, **parameters: Any) -> Any:
    """Standardised rows into a small network."""
    usual = {"hidden_layer_sizes": (16,), "max_iter": 25, "random_state": 0}
    network = kind(**usual | {"learning_rate_init": 0.01} | parameters)
    return make_pipeline(StandardScaler(), network)


def regressor(kind: Any = MLPRegressor, **parameters: Any) -> Any:
    """The same for numbers."""
    return classifier(kind, **{"max_iter": 60} | parameters)


def test_pipeline_and_cross_validation_are_as_with_scikit_learn() -> None:
    for made, theirs, (X, y) in (
        (classifier, neural_network.MLPClassifier, WINE),
        (regressor, neural_network.MLPRegressor, (DIABETES.data, DIABETES.target / 100)),
    ):
        ours = cross_val_score(made(), X, y, cv=3)
        np.testing.assert_allclose(ours, cross_val_score(made(theirs), X, y, cv=3), atol=1e-9)
        assert ours.mean() > (0.9 if made is classifier else 0.3)


def test_column_transformer_with_mixed_columns() -> None:
    frame = CANCER.data.iloc[:, :6].copy()
    sizes = pd.cut(frame["mean area"], 3, labels=["small", "middle", "large"])
    frame["size"] = sizes.astype(object)
    frame.loc[np.random.default_rng(0).random(len(frame)) < 0.1, "mean radius"] = np.nan
    target = CANCER.target_names[CANCER.target]
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    prepare = compose.make_column_transformer(
        (numbers, compose.make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), ["size"]),
    )
    model = make_pipeline(prepare, classifier()[-1]).fit(frame, target)
    assert model.score(frame, target) > 0.93
    assert set(model.predict(frame[:5])) <= {"benign", "malignant"}
    assert "MLPClassifier" in model._repr_html_()


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_grid_search(n_jobs: int) -> None:
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__hidden_layer_sizes": [(4,), (16,)]}
    search = selection.GridSearchCV(classifier(), grid, n_jobs=n_jobs, cv=3).fit(*WINE)
    scikit_learns = classifier(neural_network.MLPClassifier)
    theirs = selection.GridSearchCV(scikit_learns, grid, cv=3).fit(*WINE)
    assert search.best_params_ == theirs.best_params_
    assert search.best_score_ == pytest.approx(theirs.best_score_)


def test_halving_search() -> None:
    grid = {"mlpclassifier__alpha": [1e-4, 1e-2, 1.0, 100.0]}
    iterations = {"resource": "mlpclassifier__max_iter", "max_resources": 32, "min_resources": 8}
    search = selection.HalvingGridSearchCV(classifier(), grid, cv=3, random_state=0, **iterations)
    search.fit(*WINE)
    assert search.best_params_["mlpclassifier__alpha"] < 100
    assert search.best_score_ > 0.9


def test_cross_val_predict_and_learning_curve() -> None:
    X, y = WINE
    probabilities = selection.cross_val_predict(classifier(), X, y, cv=3, method="predict_proba")
    assert probabilities.shape == (178, 3)
    assert (probabilities.argmax(axis=1) == y).mean() > 0.9
    how = {"cv": 3, "train_sizes": [0.3, 1.0], "shuffle": True, "random_state": 0}
    _, _, scores = selection.learning_curve(classifier(), X, y, **how)
    assert scores[-1].mean() > 0.9


def test_calibration() -> None:
    X, y = CANCER.data.to_numpy(), CANCER.target.to_numpy()
    model = classifier(max_iter=200)
    for made in (model, CalibratedClassifierCV(model, cv=3)):
        probabilities = made.fit(X[:300], y[:300]).predict_proba(X[300:])
        assert brier_score_loss(y[300:], probabilities[:, 1]) < 0.06


def test_ensembles() -> None:
    X, y = DIABETES.data, DIABETES.target
    bag = ensemble.BaggingRegressor(regressor(), n_estimators=4, n_jobs=2, random_state=0)
    assert bag.fit(X, y / 100).score(X, y / 100) > 0.4
    line = make_pipeline(StandardScaler(), LogisticRegression())
    members = [("net", classifier()), ("line", line)]
    stack = ensemble.StackingClassifier(members, cv=3)
    for several in (stack, ensemble.VotingClassifier(members, voting="soft")):
        assert cross_val_score(several, *WINE, cv=3).mean() > 0.9
    targets = MultiOutputRegressor(regressor()).fit(X, X.iloc[:, :2])
    assert targets.predict(X).shape == (442, 2)
    scaled = compose.TransformedTargetRegressor(regressor(), transformer=StandardScaler())
    assert scaled.fit(X, y).score(X, y) > 0.4


def test_feature_names(tmp_path: Path) -> None:
    """Kept, in files too, checked, and used for elimination by the input's gradient."""
    X, y = CANCER.data, CANCER.target
    plain = MLPClassifier((8,), max_iter=5, random_state=0).fit(X, y)
    plain.save(tmp_path / "model")
    for model in (plain, MLPClassifier.load(tmp_path / "model")):
        assert list(model.feature_names_in_) == list(X.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        plain.predict(X[X.columns[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        plain.predict(X.to_numpy())
    scaled = StandardScaler().set_output(transform="pandas").fit_transform(X)
    net = MLPClassifier((8,), max_iter=40, random_state=0, learning_rate_init=0.01)
    names = np.array(X.columns)
    while len(names) > 8:
        model = clone(net).fit(scaled[names], y)
        importance = np.abs(model.input_gradient(scaled[model.feature_names_in_]))
        names = names[np.argsort(importance.mean(axis=(0, 1)))[min(11, len(names) - 8) :]]
    assert clone(net).fit(scaled[names], y).score(scaled[names], y) > 0.93
    worst = permutation_importance(net.fit(scaled, y), scaled, y, n_repeats=2, random_state=0)
    assert worst.importances_mean.max() > 0


def test_rfe_on_the_first_layers_weights() -> None:
    def importance(model: Any) -> Any:
        return np.abs(model.coefs_[0]).sum(axis=1)

    net = classifier(hidden_layer_sizes=(8,), max_iter=40)[-1]
    chosen = RFE(net, n_features_to_select=5, step=4, importance_getter=importance).fit(XW, YW)
    assert chosen.support_.sum() == 5
    assert chosen.score(XW, YW) > 0.9


def test_frames_of_pandas_and_polars() -> None:
    X, y = CANCER.data, CANCER.target
    array = classifier().fit(X.to_numpy(), y.to_numpy())
    table = polars.DataFrame(X.to_dict("list"))
    for kind, rows, labels in (("pandas", X, y), ("polars", table, polars.Series(y.to_list()))):
        model = classifier().set_output(transform=kind).fit(rows, labels)
        assert (model.predict(rows) == array.predict(X.to_numpy())).all()
        assert list(model[-1].feature_names_in_) == list(X.columns)


def test_metadata_routing() -> None:
    X, y = WINE
    weight = np.random.default_rng(0).uniform(0, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        net = classifier()[-1].set_fit_request(sample_weight=True, X_val=False, y_val=False)
        scale = StandardScaler().set_fit_request(sample_weight=False)
        model = Pipeline([("scale", scale), ("net", net)]).fit(X, y, sample_weight=weight)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        weights = {"sample_weight": weight}
        assert cross_val_score(model, X, y, cv=3, scoring=scorer, params=weights).mean() > 0.9
    direct = clone(net).fit(StandardScaler().fit_transform(X), y, weight)
    assert model[-1].loss_curve_ == direct.loss_curve_


def test_a_validation_set_through_a_pipeline() -> None:
    model = classifier(early_stopping=True, max_iter=300, scoring="loss")
    model.fit(*WINE, mlpclassifier__X_val=XW[::3], mlpclassifier__y_val=YW[::3])
    assert len(model[-1].validation_loss_curve_) == model[-1].n_iter_


def threads_of_a_fit() -> int:
    """How many one within a worker would take."""
    model = MLPClassifier((512,), max_iter=1, random_state=0, batch_size=1797)
    return model.fit(*DIGITS)._thread_count(10**9)


def test_workers_do_not_take_more_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: None)
    assert threads_of_a_fit() == 8
    calls = [joblib.delayed(threads_of_a_fit)()] * 3
    with joblib.parallel_config("threading", n_jobs=2):
        assert joblib.Parallel()(calls) == [1, 1, 1]
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        assert joblib.Parallel()(calls) == [1, 1, 1]


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_fits_in_workers_are_the_fits_outside(backend: str) -> None:
    models = [classifier(random_state=seed) for seed in range(4)]
    with joblib.parallel_config(backend, n_jobs=2):
        fitted = joblib.Parallel()(joblib.delayed(model.fit)(*WINE) for model in models)
    for seed, model in enumerate(fitted):
        alone = classifier(random_state=seed).fit(*WINE)
        assert model[-1].loss_curve_ == alone[-1].loss_curve_


def test_predict_in_many_threads_at_once() -> None:
    X, y = DIGITS
    model = MLPClassifier((64,), max_iter=3, random_state=0).fit(X, y)

    def serve(_: int) -> list[Any]:
        return [model.predict(X[row : row + 1])[0] for row in range(0, 1797, 7)]

    expected = list(model.predict(X)[::7])
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(serve, range(4))) == [expected] * 4


def test_a_search_that_prunes_by_partial_fit() -> None:
    """As Optuna's loops do: ask, train an epoch, report, give up on what is behind."""
    rng = np.random.default_rng(0)
    bests: list[float] = []
    history: dict[int, list[float]] = {}
    for _ in range(8):
        rate = float(10 ** rng.uniform(-6, -1))
        model = MLPClassifier((8,), learning_rate_init=rate, random_state=0)
        for epoch in range(30):
            model.partial_fit(XW[::2], YW[::2], classes=np.unique(YW))
            score = model.score(XW[1::2], YW[1::2])
            earlier = history.setdefault(epoch, [])
            is_behind = len(earlier) > 2 and score < np.median(earlier)
            earlier.append(score)
            if is_behind:
                break
        else:
            bests.append(score)
    assert max(bests) > 0.9
    assert len(history[29]) < 8


def test_out_of_core_rows() -> None:
    """A memory-mapped file, chunk by chunk; read-only rows are fine."""
    X, y = DIGITS
    model = MLPClassifier((32,), random_state=0, learning_rate_init=0.01)
    X.flags.writeable = False
    for _ in range(8):
        for first in range(0, 1500, 250):
            model.partial_fit(X[first : first + 250], y[first : first + 250], classes=range(10))
    assert model.score(X[1500:], y[1500:]) > 0.85
