"""What the estimators have beyond scikit-learn's: each parameter does what it says.

Activations and losses of a user's own are among the parameters.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import small
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from small import XD, YD, X, Y, between, classifier, regressor, swishy

import fastnn
from fastnn import SGD, Adam, AdamW, CosineDecay, Dense, Huber, Quantile

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_the_network_is_the_one_described() -> None:
    two = {"hidden_layer_sizes": (12, 8), "activation": ("tanh", "swish")}
    model = classifier(**two, dropout=(0.0, 0.5)).fit(X, Y)
    hidden = Dense(12, "tanh"), Dense(8, "silu"), fastnn.Dropout(0.5)
    assert model.to_sequential().layers == (*hidden, Dense(10, "softmax"))
    plain = classifier(**two).fit(X, Y)
    assert plain.loss_ < model.loss_  # dropout costs on the rows it learns from


SOLVERS = ["adamw", "rmsprop", "adagrad", "nadam", "lion", SGD(0.1, momentum=0.9), AdamW(0.003)]


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_solvers_are_the_model_apis(solver: Any) -> None:
    """The same data in the same order, without a penalty: the same network."""
    ours = classifier(solver=solver, alpha=0.0, shuffle=False, batch_size=100)
    still = {"solver": "sgd", "learning_rate_init": 1e-30, "max_iter": 1}
    model, optimizer = classifier(**still).fit(X, Y).to_sequential(), solver
    if isinstance(solver, str):
        kind: Any = fastnn.optimizers.OPTIMIZERS[solver]
        own = {item.name for item in dataclasses.fields(kind)}
        numbers = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
        optimizer = kind(**{name: numbers[name] for name in own & numbers.keys()})
    ours.fit(X, Y)
    history = model.fit(X, Y, "cross_entropy", optimizer, epochs=5, batch_size=100, shuffle=False)
    assert ours.loss_curve_ == pytest.approx(history["loss"], rel=1e-9)


def test_a_schedule_acts_on_every_solver() -> None:
    for solver in ("adam", "sgd", "rmsprop"):
        still, other = (
            classifier(solver=solver, learning_rate=CosineDecay(rate), max_iter=4).fit(X, Y)
            for rate in (0.01, 0.02)
        )
        assert still.loss_curve_[0] != other.loss_curve_[0]
    by_object = classifier(solver=Adam(CosineDecay(0.01)), max_iter=4).fit(X, Y)
    assert by_object.loss_curve_[-1] < by_object.loss_curve_[0]
    frozen = classifier(learning_rate=fastnn.StepDecay(0.01, every=2, factor=1e-12), max_iter=6)
    coefs = [frozen.set_params(max_iter=n).fit(X, Y).coefs_[0] for n in (2, 6)]
    np.testing.assert_allclose(coefs[0], coefs[1], atol=1e-9)


@pytest.mark.parametrize(
    "loss", ["mae", "huber", Huber(0.5), "quantile", Quantile(0.9), "mse", "log_cosh"], ids=str
)
def test_regression_losses(loss: Any) -> None:
    model = regressor(loss=loss, alpha=0.0, max_iter=150).fit(XD, YD)
    reported = model.to_sequential().evaluate(XD, YD, loss)
    assert reported == pytest.approx(model.loss_, rel=0.2)
    if isinstance(loss, Quantile):
        assert np.mean(YD <= model.predict(XD)) == pytest.approx(0.9, abs=0.06)


def test_a_classifier_with_another_loss() -> None:
    two = Y < 2
    for loss, rows, good in (("mse", Y >= 0, 0.9), ("binary_cross_entropy", two, 0.99)):
        model = classifier(loss=loss, max_iter=40).fit(X[rows], Y[rows])
        assert model.score(X[rows], Y[rows]) > good


def test_class_weight_is_a_sample_weight() -> None:
    weights = {0: 5.0, 3: 0.5}
    ours = classifier(class_weight=weights).fit(X, Y)
    rows = np.where(Y == 0, 5.0, np.where(Y == 3, 0.5, 1.0))
    assert ours.loss_curve_ == classifier().fit(X, Y, rows).loss_curve_
    twice = classifier(class_weight=weights).fit(X, Y, rows)
    assert twice.loss_curve_ == classifier().fit(X, Y, rows**2).loss_curve_


def test_ones_own_validation_set() -> None:
    fit = {"X_val": X[1200:], "y_val": Y[1200:]}
    model = classifier().fit(X[:1200], Y[:1200], **fit)
    assert model.loss_curve_ == classifier().fit(X[:1200], Y[:1200]).loss_curve_
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[1200:], Y[1200:]))
    probabilities = model.predict_proba(X[1200:])
    loss = -np.log(probabilities[np.arange(597), Y[1200:]]).mean()
    assert model.validation_loss_curve_[-1] == pytest.approx(loss, rel=1e-9)
    weights = np.random.default_rng(0).uniform(0, 2, 597)
    weighted = classifier().fit(X[:1200], Y[:1200], **fit, sample_weight_val=weights)
    score = weighted.score(X[1200:], Y[1200:], weights)
    assert weighted.validation_scores_[-1] == pytest.approx(score)
    for mistake, message in (
        ({"X_val": X}, "both X_val and y_val"),
        ({"X_val": X[:, 1:], "y_val": Y}, "features"),
        ({"X_val": X, "y_val": Y + 1}, "classes not in"),
        ({"sample_weight_val": weights}, "needs X_val"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier().fit(X, Y, **mistake)


@pytest.mark.parametrize("scoring", ["loss", "f1_macro", "neg_log_loss"])
def test_early_stopping_by_any_score(scoring: str) -> None:
    model = classifier(early_stopping=True, scoring=scoring, max_iter=300, learning_rate_init=0.02)
    model.fit(X[:400], Y[:400], X_val=X[400:], y_val=Y[400:])
    scores = model.validation_scores_
    assert model.n_iter_ == len(scores) < 300
    assert max(scores) == model.best_validation_score_
    scorer = get_scorer("neg_log_loss" if scoring == "loss" else scoring)
    best = scorer(model, X[400:], Y[400:])  # the best weights are the model's again
    assert best == pytest.approx(model.best_validation_score_, rel=1e-6)


def test_clip_norm_bounds_the_step() -> None:
    steps = []
    for bound in (1e-3, 1e-4):
        model = regressor(solver="sgd", momentum=0, clip_norm=bound, alpha=0, max_iter=1)
        before = clone(model).set_params(learning_rate_init=1e-30).fit(XD, YD).to_sequential()
        after = model.set_params(batch_size=442).fit(XD, YD).to_sequential()
        steps.append(np.linalg.norm(after.parameters - before.parameters) / 0.01)
    assert steps == pytest.approx([1e-3, 1e-4], rel=0.02)


def test_callbacks_watch_and_stop() -> None:
    class Watch(fastnn.Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            seen.append((epoch, set(logs), self.model.predict(X[:2]).shape))
            self.model.stop_training = epoch == 2

    seen: list[Any] = []
    model = classifier(callbacks=[Watch()], max_iter=50).fit(X, Y, X_val=X, y_val=Y)
    names = {"loss", "learning_rate", "val_loss", "val_score"}
    assert seen == [(epoch, names, (2, 10)) for epoch in range(3)]
    assert model.n_iter_ == 3
    seen.clear()
    regressor(callbacks=[Watch()], solver="lbfgs").fit(X, Y)
    assert seen == [(epoch, {"loss"}, (2, 1)) for epoch in range(3)]
    stopping = fastnn.EarlyStopping("val_score", mode="max", patience=0)
    model = classifier(callbacks=[stopping], max_iter=200, learning_rate_init=0.05)
    assert model.fit(X[:200], Y[:200], X_val=X, y_val=Y).n_iter_ < 200
    assert model.score(X, Y) == pytest.approx(max(model.validation_scores_))


def test_scikit_learns_callbacks() -> None:
    callback = pytest.importorskip("sklearn.callback", exc_type=ImportError)

    class Stop:
        def setup(self, estimator: Any, context: Any) -> None:
            names.append(context.task_name)

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(
            self, estimator: Any, context: Any, *, X: Any, y: Any, fitted_estimator: Any
        ) -> bool:
            found.append((fitted_estimator, fitted_estimator.score(X, y)))
            return context.task_id == 1

    assert isinstance(Stop(), callback.FitCallback)
    names, found = list[str](), list[Any]()
    model = classifier(max_iter=50).set_callbacks(Stop()).fit(X, Y)
    assert names == ["fit", "fit", "epoch", "epoch", "fit"]
    assert model.n_iter_ == 2
    for epoch, (estimator, score) in enumerate(found):
        assert len(estimator.loss_curve_) == epoch + 1
        assert estimator.score(X, Y) == score
    assert found[1][1] == model.score(X, Y) != found[0][1]


def test_progress_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    classifier(progress=True, max_iter=2).fit(X, Y)
    out, err = capfd.readouterr()
    assert out == ""
    assert "2/2" in err


def test_threads_and_engines_change_nothing() -> None:
    wide = {"hidden_layer_sizes": 64}
    fits = [classifier(threads=n, **wide).fit(X, Y).loss_curve_ for n in (1, 2, 3)]
    assert fits[0] == fits[1] == fits[2]
    numpy = classifier(engine="numpy", **wide).fit(X, Y)
    assert numpy.loss_curve_ == pytest.approx(fits[0], rel=1e-10)
    assert numpy.to_sequential().engine == "numpy"


@pytest.mark.parametrize(
    ("kind", "model", "y"),
    [
        ("exp", regressor(loss="poisson", activation="tanh"), np.round(YD)),
        ("identity", regressor(activation="tanh"), np.c_[YD, YD**2]),
        ("logistic", classifier(activation="tanh"), YD > 1),
        ("softmax", classifier(activation="tanh"), YD // 1),
    ],
)
def test_input_gradient(kind: str, model: Any, y: Any) -> None:
    model = clone(model).fit(XD, y)
    assert model.out_activation_ == kind
    rows, step = XD[:4].copy(), 1e-6

    def output(rows: Any) -> Any:
        if kind in ("identity", "exp"):
            return model.predict(rows).reshape(4, -1)
        return model.predict_proba(rows)[:, (1 if kind == "logistic" else 0) :]

    gradient = model.input_gradient(rows)
    assert gradient.shape == (4, model.n_outputs_, 10)
    for feature, shift in enumerate(step * np.eye(10)):
        slope = (output(rows + shift) - output(rows - shift)) / (2 * step)
        np.testing.assert_allclose(gradient[:, :, feature], slope, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(model.input_gradient(rows, 0), gradient[:, :1])


def test_a_warm_start_takes_up_what_has_changed() -> None:
    """… and the weights stay: the rate is so small that nothing is learned."""
    still = {"warm_start": True, "max_iter": 1, "learning_rate_init": 1e-30}
    model = classifier(**still).fit(X, Y)
    first = model.coefs_
    model.set_params(activation="gelu", dropout=0.5, engine="numpy").fit(X, Y)
    network = model.to_sequential()
    assert network.layers == (Dense(20, "gelu"), fastnn.Dropout(0.5), Dense(10, "softmax"))
    assert network.engine == "numpy"
    for before, after in zip(first, model.coefs_, strict=True):
        np.testing.assert_array_equal(before, after)
    counts = regressor(loss="poisson", **still).fit(XD, YD)
    counts.set_params(loss="squared_error").fit(XD, YD)
    assert counts.out_activation_ == "identity"
    half_squares = 0.5 * np.mean((counts.predict(XD) - YD) ** 2)
    assert counts.set_params(alpha=0.0).fit(XD, YD).loss_ == pytest.approx(half_squares)


def test_weights_are_read_only_and_can_be_set() -> None:
    model = classifier().fit(X, Y)
    with pytest.raises(ValueError, match="read-only"):
        model.coefs_[0][0, 0] = 1.0
    model.coefs_ = [0 * weight for weight in model.coefs_]
    model.intercepts_ = [0 * bias for bias in model.intercepts_]
    assert model.predict_proba(X) == pytest.approx(0.1)
    for name in ("coefs_", "loss_curve_"):
        with pytest.raises(AttributeError, match=r"not fitted|no fit"):
            getattr(classifier(), name)


# --------------------------------------------------------------------------- custom functions

TWO = {"hidden_layer_sizes": (12, 9), "max_iter": 15, "learning_rate_init": 0.01}


COPIES = [
    (classifier, {"activation": small.as_tanh}, {"activation": "tanh"}),
    (classifier, {"activation": ("relu", small.as_tanh)}, {"activation": ("relu", "tanh")}),
    (classifier, {"loss": small.as_mse}, {"loss": "mse"}),
    (regressor, {"loss": small.as_mse}, {"loss": "mse"}),
]


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize(("make", "ours", "builtin"), COPIES)
def test_equal_formulas_give_equal_fits(make: Any, ours: Any, builtin: Any, solver: str) -> None:
    """A custom copy of a built-in function trains as the built-in one does."""
    X, y = (small.XW, small.YW) if make is classifier else (XD, YD)
    given = TWO | {"activation": "tanh", "solver": solver}
    copied, model = (make(**given | own).fit(X, y) for own in (ours, builtin))
    assert copied.loss_ == pytest.approx(model.loss_, rel=1e-5)
    if make is classifier:
        np.testing.assert_array_equal(copied.predict(X), model.predict(X))


@pytest.mark.parametrize("engine", ["cython", "numba"])
@pytest.mark.parametrize("make", [classifier, regressor])
def test_they_learn_in_every_engine_alike(make: Any, engine: str) -> None:
    data, good = ((small.XW, small.YW), 0.97) if make is classifier else ((XD, YD), 0.5)
    given = {**TWO, "loss": between, "activation": ("tanh", swishy)}
    fast, reference = (
        make(**given | {"max_iter": 2}, engine=kind).fit(*data) for kind in (engine, "numpy")
    )
    assert fast.loss_curve_ == pytest.approx(reference.loss_curve_, rel=1e-9)
    assert make(**given | {"max_iter": 60}, engine=engine).fit(*data).score(*data) > good


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_a_search_over_them(n_jobs: int) -> None:
    grid = {"activation": ["relu", swishy, ("tanh", swishy)], "loss": ["squared_error", between]}
    search = GridSearchCV(regressor(**TWO | {"max_iter": 20}), grid, cv=2, n_jobs=n_jobs)
    search.fit(XD, YD)
    assert len(set(search.cv_results_["mean_test_score"])) == 6
    assert search.best_score_ > 0.2
    assert search.best_params_["activation"] in grid["activation"]


NO_ACTIVATION = r"a name or fastnn\.activation\(f\)"
NO_LOSS = r"fastnn\.loss\(f\)"

#: Of both kinds of estimators with two hidden layers, fitted: what is changed, and the error.
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"activation": math.tanh}, NO_ACTIVATION),
    ({"activation": swishy.function}, NO_ACTIVATION),
    ({"activation": between}, NO_ACTIVATION),
    ({"activation": ("relu", swishy.function)}, NO_ACTIVATION),
    ({"activation": ("relu", None)}, "activation must be a name"),
    ({"activation": (swishy,)}, "names 1 layers, there are 2"),
    ({"activation": ("softmax", swishy)}, "for the last layer only"),
    ({"activation": (swishy, "swishy")}, "activation"),
    ({"activation": ("relu", "reluu")}, "did you mean 'relu'"),
    ({"loss": math.hypot}, NO_LOSS),
    ({"loss": between.function}, NO_LOSS),
    ({"loss": swishy}, NO_LOSS),
    ({"loss": "between"}, "loss"),
    ({"loss": "hinge"}, "loss"),
    ({"dropout": 1}, "dropout"),
    ({"dropout": (0.1, 0.2, 0.3)}, "3 rates, there are 2"),
    ({"dropout": 0.1, "solver": "lbfgs"}, "not with dropout"),
    ({"clip_norm": 1.0, "solver": "lbfgs"}, "clip_norm"),
    ({"clip_norm": 0}, "clip_norm"),
    ({"clip_norm": 1.0, "solver": SGD(clip_norm=1.0)}, "clip_norm"),
    ({"solver": SGD(l2=0.1)}, "alpha"),
    ({"learning_rate": CosineDecay(0.01), "solver": "lbfgs"}, "a schedule"),
    ({"learning_rate": CosineDecay(0.01), "solver": SGD(CosineDecay(0.1))}, "has a schedule"),
    ({"early_stopping": True, "validation_fraction": 0.0005}, "test_size|too small"),
    ({"threads": 0}, "threads"),
    ({"engine": "cpython"}, "did you mean 'cython'"),
    ({"callbacks": [3]}, "is no callback"),
    ({"callbacks": [type("EachBatch", (), {"on_batch_end": print})()]}, "on_batch_end"),
    ({"callbacks": [fastnn.EarlyStopping("val_loss")]}, "unknown quantity to monitor 'val_loss'"),
]


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_a_mistake_changes_nothing(make: Any, change: dict[str, Any], message: str) -> None:
    """… of a fitted estimator: not even what it knows of classes and columns."""
    X, y = (small.XW, small.YW) if make is classifier else (XD, YD)
    model = make(**TWO | {"max_iter": 2}).fit(X, y)
    before, expected = small.state(model), model.predict(X)
    model.set_params(**change)
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(X[:, 1:], y > 1)
    model.set_params(**{name: before[0][name] for name in change})
    assert small.state(model) == before
    np.testing.assert_array_equal(model.predict(X), expected)


def test_mistakes_of_one_kind() -> None:
    counts = regressor(loss="poisson").partial_fit(XD[:1], YD[:1])
    for train, arguments, message in (
        (classifier(class_weight="even").fit, (X, Y), "class_weight"),
        (classifier().fit, (X, Y, np.ones(3)), "sample_weight"),
        (regressor(loss="cross_entropy").fit, (XD, YD), "loss"),
        (counts.partial_fit, (XD[:1], -YD[:1]), "must not be negative"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            train(*arguments)


def test_one_training_at_a_time() -> None:
    """A second one is refused, from within too; clones and predictions are not."""
    is_there, may_go = threading.Event(), threading.Event()

    class Pause(fastnn.Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            is_there.set()
            assert may_go.wait(30)
            for train in (lambda: model.fit(X, Y), lambda: self.model.fit(X, Y, "cross_entropy")):
                with pytest.raises(RuntimeError, match="is being trained already"):
                    train()

    model = classifier(callbacks=[Pause()], max_iter=2)
    expected = classifier(max_iter=2).fit(X, Y)
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(model.fit, X, Y)
        try:
            assert is_there.wait(30)
            for second in (
                lambda: model.fit(X, Y),
                lambda: model.fit(X[:, 1:], "nonsense"),
                lambda: model.partial_fit(X, Y),
                lambda: model.partial_fit(X[:1], Y[:1], classes=np.unique(Y)),
            ):
                with pytest.raises(RuntimeError, match="MLPClassifier is being trained already"):
                    second()
            assert model.predict(X).shape == Y.shape
            copied = copy.copy(model).set_params(callbacks=None, warm_start=True)
            with pytest.raises(RuntimeError, match="being trained already"):
                copied.fit(X, Y)  # its network is that of the other
            clone(copied).fit(X, Y)
        finally:
            may_go.set()
        fit.result(30)
    assert model.loss_curve_ == expected.loss_curve_
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    model.partial_fit(X, Y)


def test_a_training_that_fails_leaves_the_next_one_free() -> None:
    model = regressor()
    for train, y in ((model.fit, YD[1:]), (model.partial_fit, YD * np.nan)):
        with pytest.raises(ValueError, match=r"inconsistent|NaN"):
            train(XD, y)
    assert model.fit(XD, YD).partial_fit(XD[:1], YD[:1]).partial_fit(XD[:1], YD[:1]).t_ > 0


def test_rows_from_many_threads_are_whole_updates() -> None:
    """Each row is learned or refused, whoever comes."""
    model = regressor().partial_fit(XD[:1], YD[:1])

    def learn(row: int) -> bool:
        try:
            model.partial_fit(XD[row : row + 1], YD[row : row + 1])
        except RuntimeError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        learned = sum(pool.map(learn, [*range(400)] * 2))
    assert 1 <= learned <= 800
    assert model.t_ == 1 + learned
    assert np.isfinite(model.predict(XD)).all()
