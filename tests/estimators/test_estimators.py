"""MLPClassifier and MLPRegressor follow scikit-learn's own: checks, steps, attributes, errors.

scikit-learn is the truth here: an estimator of each kind is fitted in the same way, and
everything that it tells is compared. The tolerance of the loss curves is what rounding in
float64 comes to over some hundred steps.
"""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
    make_multilabel_classification,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from fastnn import SGD, Callback, MLPClassifier, MLPRegressor

Array = np.ndarray

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread() -> Iterator[None]:
    """Threads of a BLAS that wait by spinning make small fits crawl on a busy machine."""
    with threadpool_limits(1):
        yield


THEIRS = {
    MLPClassifier: neural_network.MLPClassifier,
    MLPRegressor: neural_network.MLPRegressor,
}


@parametrize_with_checks(
    [
        MLPClassifier(),
        MLPClassifier((10,), "logistic", solver="lbfgs", max_iter=20),
        MLPClassifier((8, 9), ("tanh", "gelu"), solver="adamw", clip_norm=1.0),
        MLPRegressor(),
        MLPRegressor(solver="sgd", momentum=0.5, nesterovs_momentum=False),
        MLPRegressor(
            "huber", (8,), "silu", solver="rmsprop", learning_rate_init=0.01, engine="numpy"
        ),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_sklearn_check(estimator: Any, check: Any) -> None:
    check(estimator)


# --------------------------------------------------------------------------- the same fit


@functools.cache
def data(name: str) -> tuple[Array, Array]:
    """A data set of scikit-learn, or one made of it."""
    if name == "digits":
        return load_digits(return_X_y=True)
    if name == "cancer":
        X, y = load_breast_cancer(return_X_y=True)
        return scale(X), np.array(["benign", "malignant"])[y]
    if name == "multilabel":
        X, y = make_multilabel_classification(300, random_state=0)
        return scale(X), y
    X, y = load_diabetes(return_X_y=True)
    y = y / 100
    if name == "counts":
        return scale(X), np.round(3 * y)
    return scale(X), (y if name == "diabetes" else np.c_[y, y**2, -y])


DATA = {
    "digits": MLPClassifier,
    "cancer": MLPClassifier,
    "multilabel": MLPClassifier,
    "diabetes": MLPRegressor,
    "three targets": MLPRegressor,
    "counts": MLPRegressor,
}

FITS: dict[str, dict[str, Any]] = {
    "default": {},
    "sgd": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "n_iter_no_change": 1,
        "tol": 0.01,
        "nesterovs_momentum": False,
        "activation": "logistic",
    },
    "no momentum": {"solver": "sgd", "momentum": 0, "shuffle": False, "activation": "identity"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3, "alpha": 0.1},
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
        want = getattr(theirs, name, "nothing")
        have = getattr(ours, name, "nothing")
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
        assert (ours.predict(X) == theirs.predict(X)).all()
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
    else:
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("name", DATA)
def test_the_fit_is_scikit_learns(name: str, fit: str, weighted: bool) -> None:
    X, y = data(name)
    parameters = dict(FITS[fit])
    if name == "counts":
        parameters |= {"loss": "poisson", "learning_rate_init": 0.001}
    theirs, ours = both(DATA[name], **parameters)
    weight = np.random.default_rng(1).uniform(0.1, 3, len(X)) if weighted else None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        theirs.fit(X, y, weight)
    with warnings.catch_warnings(record=True) as says:
        warnings.simplefilter("always")
        ours.fit(X, y, weight)
    assert [str(w.message) for w in says] == [str(w.message) for w in said]
    assert_equal_fits(theirs, ours, X, rel=1e-6 if fit.startswith("lbfgs") else 1e-9)


def test_partial_fit_and_warm_start_go_on_as_there() -> None:
    X, y = data("digits")
    theirs, ours = both(MLPClassifier, random_state=0)
    for estimator in (theirs, ours):
        for first in range(0, 900, 300):
            estimator.partial_fit(
                X[first : first + 300], y[first : first + 300], classes=np.unique(y)
            )
        for row in range(40):
            estimator.partial_fit(X[row : row + 1].copy(), y[row : row + 1].copy())
    assert_equal_fits(theirs, ours, X)

    theirs, ours = both(MLPRegressor, warm_start=True, max_iter=5, solver="sgd")
    X, y = data("diabetes")
    for estimator in (theirs, ours):
        estimator.random_state = np.random.RandomState(4)  # goes on from call to call
        for _ in range(3):
            estimator.fit(X, y)
        estimator.partial_fit(X, y)
        for row in range(40):
            estimator.partial_fit(X[row : row + 1].copy(), y[row : row + 1].copy())
    assert_equal_fits(theirs, ours, X)


@pytest.mark.parametrize("how", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "change", [{"activation": "tanh"}, {"activation": "logistic"}, {"alpha": 100.0}], ids=str
)
def test_a_changed_parameter_acts_on_the_weights_there_are(
    change: dict[str, Any], how: str
) -> None:
    X, y = data("cancer")
    theirs, ours = both(MLPClassifier, warm_start=True, max_iter=3)
    for estimator in (theirs, ours):
        train = functools.partial(getattr(estimator, how), X, y)
        train(**({"classes": np.unique(y)} if how == "partial_fit" else {}))
        estimator.set_params(**change)
        train()
        train()
    assert_equal_fits(theirs, ours, X)


def test_one_plain_row_takes_the_short_way() -> None:
    """… and gives what the long way gives; a changed parameter is noticed."""
    for name, kind in DATA.items():
        X, y = data(name)
        loss = {"loss": "poisson"} if name == "counts" else {}
        short, long = (
            kind(hidden_layer_sizes=(5,), random_state=0, max_iter=2, **loss).fit(X, y)
            for _ in "ab"
        )
        for row in range(3, 9):
            x, t = X[row : row + 1].copy(), y[row : row + 1].copy()
            short.partial_fit(x, t)
            long.partial_fit(x.tolist(), t.tolist())
            assert (short.predict(x) == long.predict(x.tolist())).all()
        assert short.loss_curve_ == long.loss_curve_
        assert short.t_ == long.t_ == 2 * len(X) + 6
        for have, want in zip(short.coefs_, long.coefs_, strict=True):
            assert (have == want).all()
        for estimator in (short, long):
            estimator.alpha = 5.0
            estimator.partial_fit(*((x, t) if estimator is short else (x.tolist(), t.tolist())))
        assert short.loss_ == long.loss_


def test_short_way_refuses_what_the_long_one_refuses() -> None:
    X, y = data("digits")
    model = MLPClassifier((5,), random_state=0, max_iter=2).fit(X, y)
    model.partial_fit(X[:1].copy(), y[:1].copy())
    bad = X[:1].copy()
    bad[0, 3] = np.nan
    for call in (model.predict, model.predict_proba, lambda x: model.partial_fit(x, y[:1])):
        with pytest.raises(ValueError, match="NaN"):
            call(bad)
        with pytest.raises(ValueError, match="features"):
            call(X[:1, 1:].copy())
    with pytest.raises(ValueError, match="classes not in"):
        model.partial_fit(X[:1].copy(), np.array([17]))
    model.partial_fit(sparse.csr_matrix(X[:1]), y[:1].copy())
    with pytest.raises(ValueError, match="0 sample"):
        model.predict(X[:0])


def test_float32_stays_float32() -> None:
    X, y = data("digits")
    X = X / 16
    model = MLPClassifier((20,), max_iter=3, random_state=0).fit(X.astype(np.float32), y)
    assert {array.dtype for array in model.coefs_ + model.intercepts_} == {np.dtype("float32")}
    assert model.predict_proba(X[:3].astype(np.float32)).dtype == np.float32
    double = MLPClassifier((20,), max_iter=3, random_state=0).fit(X, y)
    assert model.loss_curve_ == pytest.approx(double.loss_curve_, rel=1e-4)


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_float32_follows_as_long_as_nothing_has_a_kink(activation: str) -> None:
    """At relu's kink a rounding would decide about a gradient."""
    X, y = data("digits")
    theirs, ours = both(MLPClassifier, activation=activation)
    curves = [
        estimator.fit(X.astype(np.float32) / 16, y).loss_curve_ for estimator in (theirs, ours)
    ]
    assert curves[1] == pytest.approx(curves[0], rel=1e-6)


def test_sparse_rows_are_the_dense_ones() -> None:
    X, y = data("digits")
    dense = MLPClassifier((20,), max_iter=3, random_state=0).fit(X, y)
    for form in (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array):
        model = MLPClassifier((20,), max_iter=3, random_state=0).fit(form(X), y)
        assert model.loss_curve_ == pytest.approx(dense.loss_curve_, rel=1e-14)
        np.testing.assert_allclose(model.predict_proba(form(X)), dense.predict_proba(X), atol=1e-14)
    model = MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", max_iter=5, random_state=0)
    assert model.fit(sparse.csr_array(X), y).loss_ == pytest.approx(model.fit(X, y).loss_, rel=1e-9)


@pytest.mark.parametrize("dtype", ["U3", object, "int16", "float64"])
def test_labels_of_any_kind(dtype: Any) -> None:
    X, digits = data("digits")
    y = (digits + 100).astype(str).astype(dtype)
    model = MLPClassifier((10,), max_iter=2, random_state=0).fit(X, y)
    assert model.predict(X).dtype == model.classes_.dtype
    assert set(model.predict(X)) <= set(y)
    two = np.isin(digits, (1, 2))
    model = MLPClassifier((10,), max_iter=60, random_state=0).fit(X[two], y[two])
    assert model.score(X[two], y[two]) > 0.95


def test_one_class_and_multilabel_output() -> None:
    X, _ = data("digits")
    theirs, ours = both(MLPClassifier, max_iter=2)
    ones = np.ones(len(X), int)
    assert (ours.fit(X, ones).predict(X) == theirs.fit(X, ones).predict(X)).all()
    X, y = data("multilabel")
    for target in (y, sparse.csr_matrix(y)):
        theirs.fit(X, target), ours.fit(X, target)
        have, want = ours.predict(X), theirs.predict(X)
        assert type(have) is type(want)
        assert (have != want).sum() == 0
        assert ours.score(X, y) == theirs.score(X, y)


def test_parameters_have_the_names_order_and_defaults() -> None:
    import inspect  # noqa: PLC0415

    for ours, theirs in THEIRS.items():
        want = list(inspect.signature(theirs).parameters.values())
        have = list(inspect.signature(ours).parameters.values())[: len(want)]
        assert [(p.name, p.default, p.kind) for p in have] == [
            (p.name, p.default, p.kind) for p in want
        ]
        for method in ("fit", "partial_fit"):
            want_names = list(inspect.signature(getattr(theirs(), method)).parameters)
            have_names = list(inspect.signature(getattr(ours(), method)).parameters)
            assert have_names[: len(want_names)] == want_names


def test_verbose_prints_what_scikit_learn_prints(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = data("cancer")
    for parameters in (
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
        {"early_stopping": True, "n_iter_no_change": 1, "tol": 0.1},
    ):
        printed = []
        for estimator in both(MLPClassifier, verbose=True, **parameters):
            estimator.fit(X, y)
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1] != ""


def test_pickle_goes_on() -> None:
    X, y = data("digits")
    model = MLPClassifier((20,), max_iter=3, random_state=0, solver="sgd").fit(X, y)
    model.partial_fit(X[:1].copy(), y[:1].copy())
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict_proba(X) == model.predict_proba(X)).all()
    for _ in range(2):
        model.partial_fit(X, y)
        again.partial_fit(X, y)
    assert again.loss_curve_ == model.loss_curve_


def test_a_pickle_of_another_layout_says_what_to_do() -> None:
    state = MLPClassifier().__getstate__() | {"_state_version": 999}
    with pytest.raises(ValueError, match=r"layout 999.*save\(\) and load\(\)"):
        MLPClassifier().__setstate__(state)


def test_an_interrupt_keeps_whole_steps() -> None:
    class Interrupt(Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    X, y = data("digits")
    model = MLPClassifier((20,), random_state=0, callbacks=[Interrupt()])
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X, y)
    three = MLPClassifier((20,), random_state=0, max_iter=3).fit(X, y)
    assert model.loss_curve_ == three.loss_curve_
    assert (model.predict(X) == three.predict(X)).all()


@pytest.mark.parametrize("loader", [load_digits, load_breast_cancer, load_wine, load_diabetes])
def test_scores_are_not_below(loader: Any) -> None:
    """On unseen rows, with other seeds than theirs: no worse than three standard errors."""
    X, y = loader(return_X_y=True)
    kind = MLPRegressor if loader is load_diabetes else MLPClassifier
    scores: dict[Any, list[float]] = {kind: [], THEIRS[kind]: []}
    train, test, t_train, t_test = train_test_split(X, y, random_state=0)
    scaler = StandardScaler().fit(train)
    for made, results in scores.items():
        for seed in range(5):
            estimator = made(learning_rate_init=0.01, max_iter=25, random_state=seed)
            estimator.fit(scaler.transform(train), t_train)
            results.append(estimator.score(scaler.transform(test), t_test))
    ours, theirs = scores[kind], scores[THEIRS[kind]]
    assert np.mean(ours) >= np.mean(theirs) - 3 * np.std(theirs) / 5**0.5 - 0.005


# --------------------------------------------------------------------------- mistakes

X5 = np.arange(20.0).reshape(10, 2)
Y5 = np.array([0, 1, 0, 1, 2] * 2)

#: Parameters, and data if it is not (X5, Y5), that scikit-learn refuses too.
MISTAKES: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "hidden 0": ({"hidden_layer_sizes": 0}, ()),
    "hidden -1": ({"hidden_layer_sizes": (3, -1)}, ()),
    "hidden text": ({"hidden_layer_sizes": "ten"}, ()),
    "activation": ({"activation": "ghost"}, ()),
    "solver": ({"solver": "hadoken"}, ()),
    "alpha": ({"alpha": -1}, ()),
    "batch_size": ({"batch_size": 0}, ()),
    "batch_size text": ({"batch_size": "all"}, ()),
    "learning_rate": ({"learning_rate": "ghost"}, ()),
    "learning_rate_init": ({"learning_rate_init": -1}, ()),
    "learning_rate_init 0": ({"learning_rate_init": 0}, ()),
    "power_t": ({"power_t": -0.5}, ()),
    "max_iter": ({"max_iter": -1}, ()),
    "max_iter float": ({"max_iter": 1.5}, ()),
    "shuffle": ({"shuffle": "true"}, ()),
    "random_state": ({"random_state": "seed"}, ()),
    "tol": ({"tol": -1e-4}, ()),
    "warm_start": ({"warm_start": None}, ()),
    "momentum 2": ({"momentum": 2}, ()),
    "momentum -0.5": ({"momentum": -0.5}, ()),
    "nesterovs": ({"nesterovs_momentum": "yes"}, ()),
    "early_stopping": ({"early_stopping": "yes"}, ()),
    "fraction 1": ({"validation_fraction": 1, "early_stopping": True}, ()),
    "fraction -0.1": ({"validation_fraction": -0.1, "early_stopping": True}, ()),
    "beta_1": ({"beta_1": 1}, ()),
    "beta_2": ({"beta_2": -0.5}, ()),
    "epsilon": ({"epsilon": -0.5}, ()),
    "n_iter_no_change": ({"n_iter_no_change": 0}, ()),
    "max_fun": ({"max_fun": 0}, ()),
    "verbose": ({"verbose": "no"}, ()),
    "X one-dimensional": ({}, (Y5, Y5)),
    "X three-dimensional": ({}, (np.zeros((10, 2, 2)), Y5)),
    "X empty": ({}, (X5[:0], Y5[:0])),
    "X without columns": ({}, (X5[:, :0], Y5)),
    "X NaN": ({}, (X5 * np.nan, Y5)),
    "X inf": ({}, (X5 + np.inf, Y5)),
    "X text": ({}, (np.full((10, 2), "a"), Y5)),
    "X complex": ({}, (X5 + 1j, Y5)),
    "y missing": ({}, (X5, None)),
    "y too short": ({}, (X5, Y5[:5])),
    "y NaN": ({}, (X5, Y5 * np.nan)),
    "weights too short": ({}, (X5, Y5, np.ones(3))),
    "weights NaN": ({}, (X5, Y5, np.full(10, np.nan))),
    "validation set of one": (
        {"early_stopping": True, "validation_fraction": 0.05, "hidden_layer_sizes": 3},
        (X5, Y5 * 1.0),
    ),
}


def error_of(call: Any) -> Exception:
    """What the call raises."""
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("no error")


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_mistake_is_reported_as_there(mistake: str, kind: Any) -> None:
    parameters, arguments = MISTAKES[mistake]
    arguments = arguments or (X5, Y5)
    theirs, ours = THEIRS[kind](**parameters), kind(**parameters)
    want, have = (error_of(lambda e=e: e.fit(*arguments)) for e in (theirs, ours))
    assert type(have) is type(want)
    if "must be" in str(want):  # ours takes more names and types
        assert str(have).split("must be")[0] == str(want).split("must be")[0]
    else:
        assert str(have) == str(want)
    with pytest.raises(NotFittedError):
        ours.predict(X5)


def test_mistakes_in_the_course_of_use() -> None:
    X, y = data("digits")
    theirs, ours = both(MLPClassifier, max_iter=1)
    lbfgs = both(MLPClassifier, solver="lbfgs", max_iter=1)
    stopping = both(MLPClassifier, early_stopping=True, max_iter=1)
    warm = both(MLPClassifier, warm_start=True, max_iter=1)
    for pair, act in (
        ((theirs, ours), lambda e: e.predict(X)),
        ((theirs, ours), lambda e: e.partial_fit(X, y)),
        ((theirs, ours), lambda e: e.fit(X, y).partial_fit(X[:2], [17, 18])),
        ((theirs, ours), lambda e: e.fit(X, y).predict(X[:, 1:])),
        ((theirs, ours), lambda e: e.fit(X, y).partial_fit(X, y, classes=[1, 2])),
        (lbfgs, lambda e: e.partial_fit(X, y, classes=np.unique(y))),
        (stopping, lambda e: e.partial_fit(X, y, classes=np.unique(y))),
        (warm, lambda e: e.fit(X, y).fit(X, np.minimum(y, 8))),
    ):
        want, have = (error_of(lambda act=act, e=e: act(e)) for e in pair)
        assert type(have) is type(want)
        assert str(have) == str(want)
    assert not hasattr(lbfgs[1], "partial_fit")
    with pytest.warns(UserWarning, match="larger than sample size"):
        MLPClassifier((3,), batch_size=10**6, max_iter=1).fit(X, y)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(1\) reached"):
        MLPClassifier((3,), max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor(solver="sgd", learning_rate_init=1e200).fit(X, y)
    row = np.full((1, 2), 1e100), np.array([1.0])
    online = MLPRegressor(
        hidden_layer_sizes=(4,), solver="sgd", learning_rate_init=10.0, random_state=0
    )
    online.partial_fit(*row)
    assert np.isfinite(online.loss_)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        online.partial_fit(*row)


OURS: dict[str, tuple[Any, str]] = {
    "too few activations": (MLPClassifier((3, 4), ("relu",)), "names 1 layers, there are 2"),
    "unknown in a tuple": (MLPClassifier((3,), ("reluu",)), "did you mean 'relu'"),
    "dropout 1": (MLPClassifier(dropout=1), "dropout"),
    "too many dropouts": (MLPClassifier((3,), dropout=(0.1, 0.2)), "2 rates, there are 1"),
    "dropout with lbfgs": (MLPClassifier(dropout=0.1, solver="lbfgs"), "not with dropout"),
    "clip with lbfgs": (MLPClassifier(clip_norm=1.0, solver="lbfgs"), "clip_norm"),
    "clip 0": (MLPClassifier(clip_norm=0), "clip_norm"),
    "clip twice": (MLPClassifier(clip_norm=1.0, solver=SGD(clip_norm=1.0)), "clip_norm"),
    "penalty twice": (MLPClassifier(solver=SGD(l2=0.1)), "alpha"),
    "threads 0": (MLPClassifier(threads=0), "threads"),
    "engine": (MLPClassifier(engine="cpython"), "did you mean 'cython'"),
    "loss": (MLPClassifier(loss="hinge"), "loss"),
    "loss of classes": (MLPRegressor(loss="cross_entropy"), "loss"),
    "class_weight": (MLPClassifier(class_weight="even"), "class_weight"),
    "callbacks": (MLPClassifier(callbacks=[3]), "is no callback"),
}


@pytest.mark.parametrize("name", OURS)
def test_mistakes_in_our_own_parameters(name: str) -> None:
    estimator, message = OURS[name]
    with pytest.raises((ValueError, TypeError), match=message):
        clone(estimator).fit(X5, Y5)
