"""The estimators inside larger things: scikit-learn's tools, frames, joblib, loops over rows.

Each on real data, with what the tool promises as the assertion. What is compared with
scikit-learn's own estimator must be equal, since the fits are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars
import pytest
import sklearn
from sklearn import datasets, neural_network
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import (
    BaggingRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - switches the next on
from sklearn.feature_selection import RFE
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from fastnn import MLPClassifier, MLPRegressor, threads

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread() -> Iterator[None]:
    """Threads of a BLAS that wait by spinning make small fits crawl on a busy machine."""
    with threadpool_limits(1):
        yield


CANCER = datasets.load_breast_cancer(as_frame=True)
WINE = datasets.load_wine(return_X_y=True)
DIABETES = datasets.load_diabetes(as_frame=True)
DIGITS = datasets.load_digits(return_X_y=True)


def classifier(kind: Any = MLPClassifier, **parameters: Any) -> Any:
    """Standardised rows into a small network."""
    usual = {"hidden_layer_sizes": (16,), "max_iter": 25, "random_state": 0}
    return make_pipeline(
        StandardScaler(), kind(**usual | {"learning_rate_init": 0.01} | parameters)
    )


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
    rng = np.random.default_rng(0)
    frame["size"] = pd.cut(frame["mean area"], 3, labels=["small", "middle", "large"]).astype(
        object
    )
    frame.loc[rng.random(len(frame)) < 0.1, "mean radius"] = np.nan
    target = CANCER.target_names[CANCER.target]
    prepare = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(), StandardScaler()),
                make_column_selector(dtype_include="number"),
            ),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["size"]),
        ]
    )
    model = Pipeline([("prepare", prepare), ("net", classifier()[-1])]).fit(frame, target)
    assert model.score(frame, target) > 0.93
    assert set(model.predict(frame[:5])) <= {"benign", "malignant"}
    assert "MLPClassifier" in model._repr_html_()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(n_jobs: int) -> None:
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__hidden_layer_sizes": [(4,), (16,)]}
    search = GridSearchCV(classifier(), grid, n_jobs=n_jobs, cv=3).fit(*WINE)
    theirs = GridSearchCV(classifier(neural_network.MLPClassifier), grid, cv=3).fit(*WINE)
    assert search.best_params_ == theirs.best_params_
    assert search.best_score_ == pytest.approx(theirs.best_score_)


def test_halving_search() -> None:
    grid = {"mlpclassifier__alpha": [1e-4, 1e-2, 1.0, 100.0]}
    search = HalvingGridSearchCV(
        classifier(),
        grid,
        cv=3,
        random_state=0,
        resource="mlpclassifier__max_iter",
        max_resources=32,
        min_resources=8,
    ).fit(*WINE)
    assert search.best_params_["mlpclassifier__alpha"] < 100
    assert search.best_score_ > 0.9


def test_cross_val_predict_and_learning_curve() -> None:
    X, y = WINE
    probabilities = cross_val_predict(classifier(), X, y, cv=3, method="predict_proba")
    assert probabilities.shape == (178, 3)
    assert (probabilities.argmax(axis=1) == y).mean() > 0.9
    _, _, scores = learning_curve(
        classifier(), X, y, cv=3, train_sizes=[0.3, 1.0], shuffle=True, random_state=0
    )
    assert scores[-1].mean() > 0.9


def test_calibration() -> None:
    X, y = CANCER.data.to_numpy(), CANCER.target.to_numpy()
    plain = classifier(max_iter=200).fit(X[:300], y[:300])
    calibrated = CalibratedClassifierCV(classifier(max_iter=200), cv=3).fit(X[:300], y[:300])
    scores = [
        brier_score_loss(y[300:], m.predict_proba(X[300:])[:, 1]) for m in (plain, calibrated)
    ]
    assert max(scores) < 0.06


def test_ensembles() -> None:
    X, y = DIABETES.data, DIABETES.target / 100
    bag = BaggingRegressor(regressor(), n_estimators=4, n_jobs=2, random_state=0).fit(X, y)
    assert bag.score(X, y) > 0.4
    X, y = WINE
    members = [
        ("net", classifier()),
        ("line", make_pipeline(StandardScaler(), LogisticRegression())),
    ]
    for ensemble in (StackingClassifier(members, cv=3), VotingClassifier(members, voting="soft")):
        assert cross_val_score(ensemble, X, y, cv=3).mean() > 0.9
    several = MultiOutputRegressor(regressor()).fit(DIABETES.data, DIABETES.data.iloc[:, :2])
    assert several.predict(DIABETES.data).shape == (442, 2)
    scaled = TransformedTargetRegressor(regressor(), transformer=StandardScaler())
    assert scaled.fit(DIABETES.data, DIABETES.target).score(DIABETES.data, DIABETES.target) > 0.4


def test_feature_names() -> None:
    """Kept, checked, and used for elimination by the input's gradient."""
    X, y = CANCER.data, CANCER.target
    plain = MLPClassifier((8,), max_iter=5, random_state=0).fit(X, y)
    assert list(plain.feature_names_in_) == list(X.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        plain.predict(X[X.columns[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        plain.predict(X.to_numpy())

    def importance(model: Any) -> Any:
        rows = scaled[list(model.feature_names_in_)]
        return np.abs(model.input_gradient(rows)).mean(axis=(0, 1))

    scaled = StandardScaler().set_output(transform="pandas").fit_transform(X)
    net = MLPClassifier((8,), max_iter=40, random_state=0, learning_rate_init=0.01)
    chosen = _NamedRFE(net, n_features_to_select=8, step=11, importance_getter=importance)
    chosen.fit(scaled, y)
    assert chosen.estimator_.score(scaled.loc[:, chosen.support_], y) > 0.93
    worst = permutation_importance(net.fit(scaled, y), scaled, y, n_repeats=2, random_state=0)
    assert worst.importances_mean.max() > 0


class _NamedRFE(RFE):  # type: ignore[misc]
    """RFE hands over arrays; this one keeps the frame's names, as a loop of one's own would."""

    def fit(self, X: Any, y: Any) -> _NamedRFE:
        names = np.array(X.columns)
        while len(names) > self.n_features_to_select:
            model = clone(self.estimator).fit(X[names], y)
            order = np.argsort(self.importance_getter(model))
            drop = order[: min(self.step, len(names) - self.n_features_to_select)]
            names = np.delete(names, drop)
        self.support_ = np.isin(X.columns, names)
        self.estimator_ = clone(self.estimator).fit(X[names], y)
        return self


def test_rfe_on_the_first_layers_weights() -> None:
    X, y = WINE
    net = MLPClassifier((8,), max_iter=40, random_state=0, learning_rate_init=0.01)
    chosen = RFE(
        net,
        n_features_to_select=5,
        step=4,
        importance_getter=lambda model: np.abs(model.coefs_[0]).sum(axis=1),
    ).fit(StandardScaler().fit_transform(X), y)
    assert chosen.support_.sum() == 5
    assert chosen.score(StandardScaler().fit_transform(X), y) > 0.9


def test_frames_of_pandas_and_polars() -> None:
    X, y = CANCER.data, CANCER.target
    array = classifier().fit(X.to_numpy(), y.to_numpy())
    frame = classifier().set_output(transform="pandas").fit(X, y)
    assert (frame.predict(X) == array.predict(X.to_numpy())).all()
    assert list(frame[-1].feature_names_in_) == list(X.columns)
    table = polars.DataFrame(X.to_dict("list"))
    model = classifier().set_output(transform="polars").fit(table, polars.Series(y.to_list()))
    assert (model.predict(table) == array.predict(X.to_numpy())).all()
    assert list(model[-1].feature_names_in_) == list(X.columns)


def test_metadata_routing() -> None:
    X, y = WINE
    weight = np.random.default_rng(0).uniform(0, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        net = classifier()[-1].set_fit_request(sample_weight=True, X_val=False, y_val=False)
        model = Pipeline(
            [("scale", StandardScaler().set_fit_request(sample_weight=False)), ("net", net)]
        )
        model.fit(X, y, sample_weight=weight)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        scores = cross_val_score(
            model, X, y, cv=3, scoring=scorer, params={"sample_weight": weight}
        )
    assert scores.mean() > 0.9
    direct = clone(net).fit(StandardScaler().fit_transform(X), y, weight)
    assert model[-1].loss_curve_ == direct.loss_curve_


def test_a_validation_set_through_a_pipeline() -> None:
    X, y = WINE
    model = classifier(early_stopping=True, max_iter=300, scoring="loss")
    scaled = StandardScaler().fit_transform(X)
    model.fit(X, y, mlpclassifier__X_val=scaled[::3], mlpclassifier__y_val=y[::3])
    assert len(model[-1].validation_loss_curve_) == model[-1].n_iter_


def test_clone_and_parameters() -> None:
    model = MLPRegressor("huber", (3, 4), dropout=(0.1, 0.2), callbacks=[])
    assert clone(model).get_params() == model.get_params()
    assert clone(model).set_params(loss="mae").loss == "mae"
    assert "hidden_layer_sizes=(3, 4)" in repr(model)


class _Watching(BaseEstimator):  # type: ignore[misc]
    """Reports how many threads a fit within a worker would take."""

    def threads(self) -> int:
        X, y = DIGITS
        model = MLPClassifier((512,), max_iter=1, random_state=0, batch_size=1797).fit(X, y)
        return model._thread_count(10**9)


def test_workers_do_not_take_more_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: None)
    assert _Watching().threads() == 8
    calls = [joblib.delayed(_Watching().threads)() for _ in range(3)]
    with joblib.parallel_config("threading", n_jobs=2):
        assert joblib.Parallel()(calls) == [1, 1, 1]


def test_loky_workers_follow_lokys_limit() -> None:
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        found = joblib.Parallel()(joblib.delayed(_Watching().threads)() for _ in range(2))
    assert found == [1, 1]


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
    expected = model.predict(X)
    wrong: list[int] = []

    def serve() -> None:
        for row in range(0, 1797, 7):
            if model.predict(X[row : row + 1])[0] != expected[row]:
                wrong.append(row)

    workers = [threading.Thread(target=serve) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_a_search_that_prunes_by_partial_fit() -> None:
    """As Optuna's loops do: ask, train an epoch, report, give up on what is behind."""
    X, y = WINE
    X = StandardScaler().fit_transform(X)
    rng = np.random.default_rng(0)
    bests: list[float] = []
    history: dict[int, list[float]] = {}
    for _ in range(8):
        rate = float(10 ** rng.uniform(-6, -1))
        model = MLPClassifier((8,), learning_rate_init=rate, random_state=0)
        for epoch in range(30):
            model.partial_fit(X[::2], y[::2], classes=np.unique(y))
            score = model.score(X[1::2], y[1::2])
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
