"""What the estimators have beyond scikit-learn's: each parameter does what it says."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import scale

import fastnn
from fastnn import Adam, AdamW, CosineDecay, Dense, Huber, MLPClassifier, MLPRegressor, Quantile
from fastnn.estimators import storage
from fastnn.files.models import FileFormatError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X = X / 16
XD, YD = load_diabetes(return_X_y=True)
XD, YD = scale(XD), YD / 100


def classifier(**parameters: Any) -> MLPClassifier:
    """A small classifier."""
    return MLPClassifier(
        **{"hidden_layer_sizes": 20, "random_state": 0, "max_iter": 5} | parameters
    )


def regressor(**parameters: Any) -> MLPRegressor:
    """A small regressor."""
    return MLPRegressor(
        **{"hidden_layer_sizes": 20, "random_state": 0, "max_iter": 40, "learning_rate_init": 0.01}
        | parameters
    )


def test_the_network_is_the_one_described() -> None:
    model = classifier(
        hidden_layer_sizes=(12, 8), activation=("tanh", "gelu"), dropout=(0.0, 0.5)
    ).fit(X, Y)
    layers = model.to_sequential().layers
    assert layers == (
        Dense(12, "tanh"),
        Dense(8, "gelu"),
        fastnn.Dropout(0.5),
        Dense(10, "softmax"),
    )
    plain = classifier(hidden_layer_sizes=(12, 8), activation=("tanh", "gelu")).fit(X, Y)
    assert plain.loss_ < model.loss_  # dropout costs on the rows it learns from


@pytest.mark.parametrize(
    "solver", ["adamw", "rmsprop", "adagrad", fastnn.SGD(0.1, momentum=0.9), AdamW(0.003)], ids=str
)
def test_solvers_are_the_model_apis(solver: Any) -> None:
    """The same data in the same order, without a penalty: the same network."""
    ours = classifier(solver=solver, alpha=0.0, shuffle=False, epsilon=1e-8, batch_size=100)
    start = copy.deepcopy(ours).set_params(max_iter=1, learning_rate_init=1e-30)
    if not isinstance(solver, str):
        start.solver = type(solver)(1e-30)
    model = start.fit(X, Y).to_sequential()
    ours.fit(X, Y)
    rates = {"learning_rate": 0.001}
    if isinstance(solver, str):
        rates |= {"epsilon": 1e-8}
        optimizer = fastnn.optimizers.OPTIMIZERS[solver](**rates)
    else:
        optimizer = solver
    history = model.fit(X, Y, "cross_entropy", optimizer, epochs=5, batch_size=100, shuffle=False)
    assert ours.loss_curve_ == pytest.approx(history["loss"], rel=1e-9)


def test_a_schedule_acts_on_every_solver() -> None:
    for solver in ("adam", "sgd", "rmsprop"):
        still = classifier(solver=solver, learning_rate=CosineDecay(0.01), max_iter=4).fit(X, Y)
        other = classifier(solver=solver, learning_rate=CosineDecay(0.02), max_iter=4).fit(X, Y)
        assert still.loss_curve_[0] != other.loss_curve_[0]
    by_object = classifier(solver=Adam(CosineDecay(0.01)), max_iter=4).fit(X, Y)
    assert by_object.loss_curve_[-1] < by_object.loss_curve_[0]
    frozen = classifier(learning_rate=fastnn.StepDecay(0.01, every=2, factor=1e-12), max_iter=6)
    coefs = [frozen.set_params(max_iter=n).fit(X, Y).coefs_[0] for n in (2, 6)]
    np.testing.assert_allclose(coefs[0], coefs[1], atol=1e-9)


@pytest.mark.parametrize("loss", ["mae", "huber", Huber(0.5), "quantile", Quantile(0.9), "mse"])
def test_regression_losses(loss: Any) -> None:
    model = regressor(loss=loss, alpha=0.0, max_iter=150).fit(XD, YD)
    reported = model.to_sequential().evaluate(XD, YD, loss)
    assert reported == pytest.approx(model.loss_, rel=0.2)
    if isinstance(loss, Quantile):
        assert np.mean(YD <= model.predict(XD)) == pytest.approx(0.9, abs=0.06)


def test_a_classifier_with_another_loss() -> None:
    assert classifier(loss="mse", max_iter=40).fit(X, Y).score(X, Y) > 0.9
    two = Y < 2
    model = classifier(loss="binary_cross_entropy", max_iter=40).fit(X[two], Y[two])
    assert model.score(X[two], Y[two]) > 0.99


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
    model = classifier(
        early_stopping=True, scoring=scoring, max_iter=300, learning_rate_init=0.02
    ).fit(X[:400], Y[:400], X_val=X[400:], y_val=Y[400:])
    scores = model.validation_scores_
    assert model.n_iter_ == len(scores) < 300
    assert max(scores) == model.best_validation_score_
    from sklearn.metrics import get_scorer  # noqa: PLC0415

    name = "neg_log_loss" if scoring == "loss" else scoring
    best = get_scorer(name)(model, X[400:], Y[400:])  # the best weights are the model's again
    assert best == pytest.approx(model.best_validation_score_, rel=1e-6)


def test_clip_norm_bounds_the_step() -> None:
    steps = []
    for bound in (1e-3, 1e-4):
        model = regressor(solver="sgd", momentum=0, clip_norm=bound, alpha=0, max_iter=1)
        before = copy.deepcopy(model).set_params(learning_rate_init=1e-30).fit(XD, YD)
        after = model.set_params(batch_size=442).fit(XD, YD)
        moved = [b - a for b, a in zip(before.coefs_, after.coefs_, strict=True)]
        moved += [b - a for b, a in zip(before.intercepts_, after.intercepts_, strict=True)]
        steps.append(np.sqrt(sum((m**2).sum() for m in moved)) / 0.01)
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
    assert [epoch for epoch, _, _ in seen] == [0, 1, 2]


def test_callbacks_that_would_wait_in_vain() -> None:
    class EachBatch(fastnn.Callback):
        def on_batch_end(self, batch: int, logs: Any) -> None: ...

    for callback, message in (
        (EachBatch(), "on_batch_end"),
        (fastnn.EarlyStopping("val_loss"), "unknown quantity to monitor 'val_loss'"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier(callbacks=[callback]).fit(X, Y)
    stopping = fastnn.EarlyStopping("val_score", mode="max", patience=0)
    model = classifier(callbacks=[stopping], max_iter=200, learning_rate_init=0.05)
    assert model.fit(X[:200], Y[:200], X_val=X, y_val=Y).n_iter_ < 200
    assert model.score(X, Y) == pytest.approx(max(model.validation_scores_))


def test_scikit_learns_callbacks() -> None:
    callback = pytest.importorskip("sklearn.callback", exc_type=ImportError)

    class Stop:
        def setup(self, estimator: Any, context: Any) -> None:
            seen.append("setup")

        def teardown(self, estimator: Any, context: Any) -> None:
            seen.append("teardown")

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
            seen.append(context.task_name)

        def on_fit_task_end(
            self, estimator: Any, context: Any, *, X: Any, y: Any, fitted_estimator: Any
        ) -> bool:
            seen.append(fitted_estimator.score(X, y))
            return context.task_id == 1

    assert isinstance(Stop(), callback.FitCallback)
    seen: list[Any] = []
    model = classifier(max_iter=50).set_callbacks(Stop()).fit(X, Y)
    assert [item for item in seen if isinstance(item, str)] == [
        *("setup", "fit", "epoch", "epoch", "teardown")
    ]
    assert model.n_iter_ == 2
    assert seen[-2] == model.score(X, Y) != seen[-4]


def test_progress_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    classifier(progress=True, max_iter=2).fit(X, Y)
    out, err = capfd.readouterr()
    assert out == ""
    assert "2/2" in err


def test_threads_and_engines_change_nothing() -> None:
    fits = [classifier(threads=n, hidden_layer_sizes=64).fit(X, Y).loss_curve_ for n in (1, 2, 3)]
    assert fits[0] == fits[1] == fits[2]
    numpy = classifier(engine="numpy", hidden_layer_sizes=64).fit(X, Y)
    assert numpy.loss_curve_ == pytest.approx(fits[0], rel=1e-10)
    assert numpy.to_sequential().engine == "numpy"


@pytest.mark.parametrize("kind", ["softmax", "logistic", "identity", "exp"])
def test_input_gradient(kind: str) -> None:
    if kind == "exp":
        model: Any = regressor(loss="poisson", activation="tanh").fit(XD, np.round(YD))
    elif kind == "identity":
        model = regressor(activation="tanh").fit(XD, np.c_[YD, YD**2])
    else:
        model = classifier(activation="tanh").fit(XD, YD > 1 if kind == "logistic" else YD // 1)
    rows, step = XD[:4].copy(), 1e-6

    def output(rows: Any) -> Any:
        if kind in ("identity", "exp"):
            return model.predict(rows).reshape(4, -1)
        return model.predict_proba(rows)[:, (1 if kind == "logistic" else 0) :]

    gradient = model.input_gradient(rows)
    assert gradient.shape == (4, model.n_outputs_, 10)
    for feature in range(10):
        shift = step * (np.arange(10) == feature)
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
    again.partial_fit(X, labels)
    assert len(again.loss_curve_) == 1
    assert again.loss_ < 0.1


def test_weights_are_read_only_and_can_be_set() -> None:
    model = classifier().fit(X, Y)
    with pytest.raises(ValueError, match="read-only"):
        model.coefs_[0][0, 0] = 1.0
    model.coefs_ = [0 * weight for weight in model.coefs_]
    model.intercepts_ = [0 * bias for bias in model.intercepts_]
    assert model.predict_proba(X) == pytest.approx(0.1)
    with pytest.raises(AttributeError, match="not fitted"):
        _ = classifier().coefs_


@pytest.mark.parametrize(
    "case", ["numbers", "text", "binary", "multilabel", "regression", "counts"]
)
def test_save_and_load(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    if case in ("regression", "counts"):
        loss = "poisson" if case == "counts" else "squared_error"
        model: Any = regressor(loss=loss).fit(XD, np.round(YD))
        x = XD
    else:
        targets = {
            "numbers": Y,
            "text": np.array(list("abcdefghij"))[Y],
            "binary": Y > 4,
            "multilabel": (Y[:, None] & [1, 2, 4]) > 0,
        }
        model, x = classifier(hidden_layer_sizes=(9, 8), dropout=(0.1, 0.0)), X
        model.fit(X, targets[case])
    model.save(path)
    again = type(model).load(path)
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.loss_ == model.loss_
    other = MLPRegressor if isinstance(model, MLPClassifier) else MLPClassifier
    with pytest.raises(FileFormatError, match=f"holds a {type(model).__name__}"):
        other.load(path)
    np.testing.assert_array_equal(fastnn.load(path).predict(x), model.to_sequential().predict(x))


@pytest.mark.parametrize(
    "given",
    [
        {"solver": AdamW(fastnn.OneCycle(0.01, epochs=5), weight_decay=0.1, clip_norm=2)},
        {"solver": fastnn.SGD(0.1, momentum=0.5, nesterov=True)},
        {"solver": fastnn.LBFGS(memory=5)},
        {"learning_rate": fastnn.WarmUp(fastnn.ReduceOnPlateau(fastnn.StepDecay(0.1, 3)), 2)},
        {"loss": Huber(2.5)},
        {"loss": Quantile(0.9), "learning_rate": CosineDecay(0.1)},
    ],
    ids=str,
)
def test_descriptions_are_saved(given: dict[str, Any], tmp_path: Path) -> None:
    """Optimizers, schedules and losses with all of their numbers, schedules within others too."""
    path = tmp_path / "model.safetensors"
    model = regressor(max_iter=3, **given).fit(XD, YD)
    model.save(path)
    again = MLPRegressor.load(path)
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.fit(XD, YD).predict(XD), model.predict(XD))


def test_every_description_can_be_saved() -> None:
    public = [getattr(fastnn, name) for name in fastnn.__all__]
    wanted = {kind.__name__ for kind in public if dataclasses.is_dataclass(kind)}
    assert wanted == set(storage._DESCRIPTIONS) | {"Dense", "Dropout"}


def test_save_names_what_it_cannot_keep(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(NotFittedError):
        classifier().save(path)
    model = classifier(callbacks=[fastnn.TerminateOnNaN()]).fit(X, Y)
    with pytest.raises(TypeError, match="callbacks"):
        model.save(path)
    assert not path.exists()
    model.to_sequential().save(path)
    with pytest.raises(FileFormatError, match="no estimator"):
        MLPClassifier.load(path)


class _Paused(fastnn.Callback):
    """Holds a fit at the end of its first epoch until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.is_there, self.may_go = threading.Event(), threading.Event()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.is_there.set()
        assert self.may_go.wait(30)


def test_one_training_at_a_time() -> None:
    """A second one is refused; copies, clones and predictions are not."""
    pause = _Paused()
    model = classifier(callbacks=[pause], max_iter=2)
    expected = classifier(max_iter=2).fit(X, Y)
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(model.fit, X, Y)
        try:
            assert pause.is_there.wait(30)
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
            clone(copied).fit(X, Y)
        finally:
            pause.may_go.set()
        fit.result(30)
    assert model.loss_curve_ == expected.loss_curve_
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    model.partial_fit(X, Y)


@pytest.mark.parametrize(
    ("change", "weight", "message"),
    [
        ({}, np.ones(3), "sample_weight"),
        ({"early_stopping": True, "validation_fraction": 0.0005}, None, "test_size"),
        ({"learning_rate": CosineDecay(0.01), "solver": "lbfgs"}, None, "a schedule"),
    ],
    ids=["weights", "split", "rule"],
)
def test_what_cannot_begin_changes_nothing(
    change: dict[str, Any], weight: Any, message: str
) -> None:
    """… of a fitted estimator: not even what it knows of classes and columns."""
    model = classifier().fit(X, Y)
    before, answers = dict(vars(model)), model.predict(X)
    model.set_params(**change)
    with pytest.raises(ValueError, match=message):
        model.fit(X[:, :50], Y < 2, weight)
    model.set_params(**{name: before[name] for name in change})
    assert vars(model) == before
    np.testing.assert_array_equal(model.predict(X), answers)


def test_a_training_from_within_is_refused() -> None:
    class Nested(fastnn.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            model.partial_fit(XD, YD)

    model = regressor(callbacks=[Nested()])
    with pytest.raises(RuntimeError, match="MLPRegressor is being trained already"):
        model.fit(XD, YD)


def test_a_training_that_fails_leaves_the_next_one_free() -> None:
    model = regressor()
    for mistake in (lambda: model.fit(XD, YD[1:]), lambda: model.partial_fit(XD * np.nan, YD)):
        with pytest.raises(ValueError, match=r"inconsistent|NaN"):
            mistake()
    assert model.fit(XD, YD).partial_fit(XD[:1], YD[:1]).partial_fit(XD[:1], YD[:1]).t_ > 0


def test_rows_from_many_threads_are_whole_updates() -> None:
    """Each row is learned or refused, whoever comes."""
    model = regressor().partial_fit(XD[:1], YD[:1])

    def learn(first: int) -> int:
        learned = 0
        for k in range(first, first + 200):
            row = k % len(XD)
            try:
                model.partial_fit(XD[row : row + 1], YD[row : row + 1])
            except RuntimeError:
                continue
            learned += 1
        return learned

    with ThreadPoolExecutor(4) as pool:
        learned = sum(pool.map(learn, range(0, 800, 200)))
    assert 1 <= learned <= 800
    assert model.t_ == 1 + learned
    assert np.isfinite(model.predict(XD)).all()
