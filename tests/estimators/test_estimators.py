"""MLPClassifier and MLPRegressor follow scikit-learn's own: checks, steps, attributes, errors.

scikit-learn is the truth here: an estimator of each kind is fitted in the same way, and
everything that it tells is compared. The tolerance of the loss curves is what rounding in
float64 comes to over some hundred steps.
"""

from __future__ import annotations

import functools
import inspect
import operator
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network
from sklearn.datasets import load_breast_cancer, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from small import XD, YD, X, Y, between, classifier, regressor, swishy

from fastnn import Callback, CosineDecay, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

THEIRS = {kind: getattr(neural_network, kind.__name__) for kind in (MLPClassifier, MLPRegressor)}


CHECKED = [
    MLPClassifier(),
    MLPClassifier((10,), "logistic", solver="lbfgs", max_iter=20),
    MLPClassifier((8, 9), ("tanh", "gelu"), solver="adamw", clip_norm=1.0),
    MLPRegressor(),
    MLPRegressor(solver="sgd", momentum=0.5, nesterovs_momentum=False),
    MLPRegressor("huber", (8,), "silu", solver="rmsprop", learning_rate_init=0.01, engine="numpy"),
]


@parametrize_with_checks(CHECKED)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_sklearn_check(estimator: Any, check: Any) -> None:
    check(estimator)


# --------------------------------------------------------------------------- the same fit


CX, CY = load_breast_cancer(return_X_y=True)
MX, MY = make_multilabel_classification(300, random_state=0)
DATA: dict[str, tuple[Any, Any, Any]] = {
    "digits": (MLPClassifier, X, Y),
    "cancer": (MLPClassifier, scale(CX), np.array(["benign", "malignant"])[CY]),
    "multilabel": (MLPClassifier, scale(MX), MY),
    "diabetes": (MLPRegressor, XD, YD),
    "three targets": (MLPRegressor, XD, np.c_[YD, YD**2, -YD]),
    "counts": (MLPRegressor, XD, np.round(3 * np.c_[YD, YD**2])),
}

FITS: dict[str, dict[str, Any]] = {
    "default": {},
    "sgd": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "n_iter_no_change": 1,
        "tol": 0.01,
        "verbose": True,
        "nesterovs_momentum": False,
        "activation": "logistic",
    },
    "no momentum": {"solver": "sgd", "momentum": 0, "shuffle": False, "activation": "identity"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 1, "tol": 0.01, "verbose": True},
    "batches": {"batch_size": 37, "activation": "tanh", "hidden_layer_sizes": (9,), "alpha": 1.0},
    "linear": {"hidden_layer_sizes": ()},
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs tanh": {"solver": "lbfgs", "activation": "tanh", "hidden_layer_sizes": 7},
}

ATTRIBUTES = (
    *("t_", "n_iter_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_"),
    *("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_"),
)


def both(kind: Any, **parameters: Any) -> tuple[Any, Any]:
    """scikit-learn's estimator and ours."""
    parameters = {"random_state": 3, "hidden_layer_sizes": (30, 20), "max_iter": 20, **parameters}
    return THEIRS[kind](**parameters), kind(**parameters)


def assert_equal_fits(theirs: Any, ours: Any, X: Any, rel: float = 1e-9) -> None:
    for name in ATTRIBUTES:
        want, have = (getattr(estimator, name, "nothing") for estimator in (theirs, ours))
        if isinstance(want, (float, list)):
            assert have == pytest.approx(want, rel=rel, abs=1e-12), name
        else:
            assert have == want, name
    for want, have in zip(
        theirs.coefs_ + theirs.intercepts_, ours.coefs_ + ours.intercepts_, strict=True
    ):
        # L-BFGS multiplies rounding by the conditioning of what it inverts
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-8 if rel < 1e-6 else 1e-5)
    if hasattr(ours, "classes_"):
        assert (ours.classes_ == theirs.classes_).all()
        assert (ours.predict(X) != theirs.predict(X)).sum() == 0
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
    else:
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("name", DATA)
def test_the_fit_is_scikit_learns(name: str, fit: str, weighted: bool, capsys: Any) -> None:
    kind, X, y = DATA[name]
    parameters = dict(FITS[fit])
    if name == "counts":
        parameters |= {"loss": "poisson", "learning_rate_init": 0.001}
    estimators = both(kind, **parameters)
    weight = np.random.default_rng(1).uniform(0.1, 3, len(X)) if weighted else None
    told = []
    for estimator in estimators:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            estimator.fit(X, y, weight)
        told.append((capsys.readouterr().out, [str(w.message) for w in said]))
    assert told[1] == told[0]
    assert_equal_fits(*estimators, X, rel=1e-6 if fit.startswith("lbfgs") else 1e-9)


def learn_rows(estimator: Any, X: Any, y: Any) -> None:
    """40 rows, one by one."""
    for row in range(40):
        estimator.partial_fit(X[row : row + 1].copy(), y[row : row + 1].copy())


def test_partial_fit_and_warm_start_go_on_as_there() -> None:
    theirs, ours = both(MLPClassifier, random_state=0)
    for estimator in (theirs, ours):
        for rows in (slice(0, 300), slice(300, 600), slice(600, 900)):
            estimator.partial_fit(X[rows], Y[rows], classes=np.unique(Y))
        learn_rows(estimator, X, Y)
    assert_equal_fits(theirs, ours, X)
    theirs, ours = both(MLPRegressor, warm_start=True, max_iter=5, solver="sgd")
    for estimator in (theirs, ours):
        estimator.random_state = np.random.RandomState(4)  # goes on from call to call
        for _ in range(3):
            estimator.fit(XD, YD)
        estimator.partial_fit(XD, YD)
        learn_rows(estimator, XD, YD)
    assert_equal_fits(theirs, ours, XD)


CHANGES = [{"activation": "tanh"}, {"activation": "logistic"}, {"alpha": 100.0}]


@pytest.mark.parametrize("how", ["fit", "partial_fit"])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_changed_parameter_acts_on_the_weights_there_are(change: Any, how: str) -> None:
    _, X, y = DATA["cancer"]
    theirs, ours = both(MLPClassifier, warm_start=True, max_iter=3)
    for estimator in (theirs, ours):
        train = functools.partial(getattr(estimator, how), X, y)
        train(**({"classes": np.unique(y)} if how == "partial_fit" else {}))
        estimator.set_params(**change)
        train(), train()
    assert_equal_fits(theirs, ours, X)


OF_ONE_ROW: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in DATA),
    ("diabetes", {"loss": "poisson"}),
    ("diabetes", {"learning_rate": CosineDecay(0.01, epochs=20)}),
    ("diabetes", {"loss": between, "activation": swishy}),
]


@pytest.mark.parametrize(("name", "parameters"), OF_ONE_ROW, ids=str)
def test_one_plain_row_takes_the_short_way(name: str, parameters: dict[str, Any]) -> None:
    """… and gives what the long way gives; a changed parameter is noticed."""
    kind, X, y = DATA[name]
    usual = {"hidden_layer_sizes": (5,), "random_state": 0, "max_iter": 2} | parameters
    short, long = (kind(**usual).fit(X, y) for _ in "ab")
    for row in range(3, 9):
        x, t = X[row : row + 1].copy(), y[row : row + 1].copy()
        short.partial_fit(x, t)
        long.partial_fit(x.tolist(), t.tolist())
        assert (short.predict(x) == long.predict(x.tolist())).all()
    is_plain = t.ndim == 1 and "learning_rate" not in parameters
    assert short._has_learned(x, t) == is_plain
    if is_plain:
        long.partial_fit(x.tolist(), t.tolist())
    assert (short.loss_curve_, short.t_) == (long.loss_curve_, long.t_)
    for have, want in zip(short.coefs_, long.coefs_, strict=True):
        assert (have == want).all()
    short.set_params(alpha=5.0).partial_fit(x, t)
    long.set_params(alpha=5.0).partial_fit(x.tolist(), t.tolist())
    assert short.loss_ == long.loss_


def test_short_way_refuses_what_the_long_one_refuses() -> None:
    model = classifier().fit(X, 2 * Y).partial_fit(X[:1].copy(), 2 * Y[:1])
    bad = X[:1].copy()
    bad[0, 3] = np.nan
    for call in (model.predict, model.predict_proba, lambda x: model.partial_fit(x, 2 * Y[:1])):
        with pytest.raises(ValueError, match="NaN"):
            call(bad)
        with pytest.raises(ValueError, match="features"):
            call(X[:1, 1:].copy())
    with pytest.raises(ValueError, match="classes not in"):
        model.partial_fit(X[:1], 2 * Y[:1]).partial_fit(X[:1], np.array([17]))
    model.partial_fit(sparse.csr_matrix(X[:1]), 2 * Y[:1])
    with pytest.raises(ValueError, match="0 sample"):
        model.predict(X[:0])


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_float32_stays_and_follows(activation: str) -> None:
    """… as long as nothing has a kink: at relu's a rounding would decide about a gradient."""
    rows = X.astype(np.float32)
    theirs, ours = (e.fit(rows, Y) for e in both(MLPClassifier, activation=activation))
    assert {array.dtype for array in ours.coefs_ + ours.intercepts_} == {np.dtype("float32")}
    assert ours.predict_proba(rows[:3]).dtype == np.float32
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=1e-6)
    assert classifier(solver="lbfgs").fit(rows, Y).coefs_[0].dtype == np.float64  # as there


@pytest.mark.parametrize("loss", ["log_loss", "sum_squares"])
def test_sparse_rows_are_the_dense_ones(loss: str) -> None:
    dense = classifier(loss=loss, max_iter=3).fit(X, Y)
    for form in (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array):
        model = classifier(loss=loss, max_iter=3).fit(form(X), Y)
        assert model.loss_curve_ == pytest.approx(dense.loss_curve_, rel=1e-14)
        np.testing.assert_allclose(model.predict_proba(form(X)), dense.predict_proba(X), atol=1e-14)
    model = MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", max_iter=5, random_state=0)
    assert model.fit(sparse.csr_array(X), Y).loss_ == pytest.approx(model.fit(X, Y).loss_, rel=1e-9)


@pytest.mark.parametrize("dtype", ["U3", object, "int16", "float64"])
def test_labels_of_any_kind(dtype: Any) -> None:
    y = (Y + 100).astype(str).astype(dtype)
    model = classifier(max_iter=2).fit(X, y)
    assert model.predict(X).dtype == model.classes_.dtype
    assert set(model.predict(X)) <= set(y)
    two = np.isin(Y, (1, 2))
    model = classifier(max_iter=60, learning_rate_init=0.01).fit(X[two], y[two])
    assert model.score(X[two], y[two]) > 0.95


def test_one_class_and_sparse_multilabel() -> None:
    _, X, y = DATA["multilabel"]
    for target in (np.ones(len(X), int), sparse.csr_matrix(y)):
        theirs, ours = (e.fit(X, target) for e in both(MLPClassifier, max_iter=2))
        assert_equal_fits(theirs, ours, X)
        assert type(ours.predict(X)) is type(theirs.predict(X))


def test_parameters_have_the_names_order_and_defaults() -> None:
    for ours, theirs in THEIRS.items():
        want = list(inspect.signature(theirs).parameters.values())
        have = list(inspect.signature(ours).parameters.values())[: len(want)]
        facts = operator.attrgetter("name", "default", "kind")
        assert list(map(facts, have)) == list(map(facts, want))
        for method in ("fit", "partial_fit"):
            methods = (getattr(kind(), method) for kind in (theirs, ours))
            expected, names = (list(inspect.signature(m).parameters) for m in methods)
            assert names[: len(expected)] == expected


def test_an_interrupt_keeps_whole_steps() -> None:
    class Interrupt(Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    model = classifier(max_iter=200, callbacks=[Interrupt()])
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X, Y)
    three = classifier(max_iter=3).fit(X, Y)
    assert model.loss_curve_ == three.loss_curve_
    assert (model.predict(X) == three.predict(X)).all()


# --------------------------------------------------------------------------- mistakes

X5 = np.arange(20.0).reshape(10, 2)
Y5 = np.array([0, 1, 0, 1, 2] * 2)

#: Values that scikit-learn refuses too, by parameter.
VALUES: dict[str, tuple[Any, ...]] = {
    "hidden_layer_sizes": (0, (3, -1), "ten"),
    "batch_size": (0, "all"),
    "learning_rate_init": (-1, 0),
    "max_iter": (-1, 1.5),
    "momentum": (2, -0.5),
    "validation_fraction": (1, -0.1),
    "beta_1": (1,),
    "warm_start": (None,),
    **dict.fromkeys(("activation", "solver", "learning_rate", "random_state"), ("ghost",)),
    **dict.fromkeys(("shuffle", "nesterovs_momentum", "early_stopping", "verbose"), ("no",)),
    **dict.fromkeys(("alpha", "power_t", "tol", "beta_2", "epsilon"), (-0.5,)),
    **dict.fromkeys(("n_iter_no_change", "max_fun"), (0,)),
}

#: Data that it refuses.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "X one-dimensional": (Y5, Y5),
    "X three-dimensional": (np.zeros((10, 2, 2)), Y5),
    "X empty": (X5[:0], Y5[:0]),
    "X without columns": (X5[:, :0], Y5),
    "X NaN": (X5 * np.nan, Y5),
    "X inf": (X5 + np.inf, Y5),
    "X text": (np.full((10, 2), "a"), Y5),
    "X complex": (X5 + 1j, Y5),
    "y missing": (X5, None),
    "y too short": (X5, Y5[:5]),
    "y NaN": (X5, Y5 * np.nan),
    "weights too short": (X5, Y5, np.ones(3)),
    "weights NaN": (X5, Y5, np.full(10, np.nan)),
}

MISTAKES: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    f"{name} {value}": ({name: value}, (X5, Y5)) for name in VALUES for value in VALUES[name]
}
MISTAKES |= {name: ({}, arguments) for name, arguments in ARGUMENTS.items()}
MISTAKES["validation set of one"] = (
    {"early_stopping": True, "validation_fraction": 0.05, "hidden_layer_sizes": 3},
    (X5, Y5 * 1.0),
)


def errors_of(act: Any, *estimators: Any) -> list[Exception]:
    """What an act raises for each of them."""
    found = []
    for estimator in estimators:
        with pytest.raises((ValueError, TypeError, AttributeError)) as caught:
            act(estimator)
        found.append(caught.value)
    return found


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_mistake_is_reported_as_there(mistake: str, kind: Any) -> None:
    parameters, arguments = MISTAKES[mistake]
    ours = kind(**parameters)
    want, have = errors_of(lambda e: e.fit(*arguments), THEIRS[kind](**parameters), ours)
    assert type(have) is type(want)
    if "must be" in str(want):  # ours takes more names and types
        assert str(have).split("must be")[0] == str(want).split("must be")[0]
    else:
        assert str(have) == str(want)
    with pytest.raises(NotFittedError):
        ours.predict(X5)


def test_mistakes_in_the_course_of_use() -> None:
    classes = {"classes": np.unique(Y)}
    for parameters, act in (
        ({}, lambda e: e.predict(X)),
        ({}, lambda e: e.partial_fit(X, Y)),
        ({}, lambda e: e.fit(X, Y).partial_fit(X[:2], [17, 18])),
        ({}, lambda e: e.fit(X, Y).predict(X[:, 1:])),
        ({}, lambda e: e.fit(X, Y).partial_fit(X, Y, classes=[1, 2])),
        ({"solver": "lbfgs"}, lambda e: e.partial_fit(X, Y, **classes)),
        ({"early_stopping": True}, lambda e: e.partial_fit(X, Y, **classes)),
        ({"warm_start": True}, lambda e: e.fit(X, Y).fit(X, np.minimum(Y, 8))),
    ):
        want, have = errors_of(act, *both(MLPClassifier, max_iter=1, **parameters))
        assert type(have) is type(want)
        assert str(have) == str(want)
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    with pytest.warns(UserWarning, match="larger than sample size"):
        MLPClassifier((3,), batch_size=10**6, max_iter=1).fit(X, Y)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(1\) reached"):
        MLPClassifier((3,), max_iter=1).fit(X, Y)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor(solver="sgd", learning_rate_init=1e200).fit(X, Y)
    row = np.full((1, 2), 1e100), np.array([1.0])
    online = regressor(solver="sgd", learning_rate_init=10.0).partial_fit(*row)
    assert np.isfinite(online.loss_)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        online.partial_fit(*row)
