"""Bad input: one clear error for each mistake, and nothing has changed afterwards.

The table is the specification of what users read. Every case runs on a model that has
been trained; its parameters, optimizer state, count of epochs and NumPy's global random
state are compared before and after, and it must go on training as its twin does.
"""
# ruff: noqa: F403, F405

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastnn import *

GENERATOR = np.random.default_rng(5)
X, Y = GENERATOR.normal(size=(12, 3)), GENERATOR.normal(size=(12, 2))
LABELS = GENERATOR.integers(0, 2, size=12)
NAN, INF = float("nan"), float("inf")


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    """A copy with one entry replaced."""
    changed = array.copy()
    changed.flat[4] = value
    return changed


class Sparse:
    """As much of a sparse matrix as matters."""

    def toarray(self) -> np.ndarray:
        return X


class Case(NamedTuple):
    """What is done to a model, and the error it must give."""

    call: Callable[[Any], Any]
    message: str
    error: type[Exception]


def V(call: Callable[[Any], Any], message: str) -> Case:
    return Case(call, message, ValueError)


def T(call: Callable[[Any], Any], message: str) -> Case:
    return Case(call, message, TypeError)


def fit(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    return lambda m: m.fit(*args, **kwargs)


def mse(**kwargs: Any) -> Callable[[Any], Any]:
    return fit(X, Y, "mse", **kwargs)


def rows(X: Any = X, Y: Any = Y, loss: Any = "mse") -> Callable[[Any], Any]:
    return fit(X, Y, loss)


def fresh(model: Sequential, first: Any) -> Sequential:
    return Sequential([first, Dense(2)], engine=model.engine)


def of_labels(y: Any = LABELS, **kwargs: Any) -> Callable[[Any], Any]:
    return fit(X, y, "cross_entropy", **kwargs)


def assign(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda m: setattr(m, name, value)


def make(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    return lambda m: function(*args, **kwargs)


DATA = [
    V(rows(X[:, 0]), "X must be 2-D"),
    V(rows(X[:, 0]), "X.reshape(-1, 1) for one column"),
    V(rows(X[None]), "not of shape (1, 12, 3)"),
    V(rows(3.0), "not of shape ()"),
    V(rows(np.ones((12, 4))), "X has 4 columns, the network 3 inputs"),
    V(rows(np.ones((12, 0))), "X has no columns"),
    V(rows(X[:0], Y[:0]), "X has no rows"),
    T(rows(None), "X is missing (None)"),
    T(rows(X + 0j), "must hold real numbers, not dtype complex128"),
    T(rows(X.astype(object)), "not dtype object"),
    T(rows(X.astype(str)), "X must hold real numbers, not dtype <U"),
    T(rows(X.astype("S5")), "not dtype |S5"),
    T(rows(X.astype("M8[s]")), "not dtype datetime64[s]"),
    T(rows(X.astype("m8[s]")), "not dtype timedelta64[s]"),
    T(rows(np.zeros((12, 3), "f4,f4")), "X must hold real numbers"),
    V(rows([[1, 2, 3], [4]]), "X cannot be read as an array"),
    T(rows({"a": 1}), "not dtype object"),
    T(rows(x for x in X), "not dtype object"),
    T(rows([[1, 2, None]] * 12), "not dtype object"),
    T(rows([[10**30] * 3] * 12), "not dtype object"),
    T(rows(Sparse()), "X is sparse: use X.toarray()"),
    T(rows(np.ma.masked_less(X, 0)), "X is a masked array"),
    V(rows(with_value(X, NAN)), "X has NaN or infinity, first at (1, 1)"),
    V(rows(with_value(X, INF)), "X has NaN or infinity, first at (1, 1)"),
    V(rows(with_value(X, -INF)), "X has NaN or infinity"),
    V(rows(with_value(X, NAN)[::-1]), "first at (10, 1)"),
    V(rows(with_value(X, 1e300)), "too large for float32"),
    V(rows(X, Y[:5]), "y must have one row for each of X: 12"),
    V(rows(X[:5], Y), "y must have one row for each of X: 5"),
    V(rows(X, Y[:, :1]), "y must be of shape (12, 2), not (12, 1)"),
    V(rows(X, Y[:, 0]), "y must be of shape (12, 2)"),
    V(rows(X, LABELS), "labels are for cross_entropy"),
    V(rows(X, 1.0), "y must have one row for each of X"),
    T(rows(X, None), "y is missing (None)"),
    V(rows(X, with_value(Y, NAN)), "y has NaN or infinity"),
    V(rows(X, with_value(Y, -1e39)), "y has values too large"),
    T(of_labels(["a"] * 12), "y must hold real numbers"),
    V(of_labels(LABELS + 1), "y has label 2; with 2"),
    V(of_labels(LABELS - 1), "y has label -1"),
    V(of_labels(np.full(12, 2**64 - 1, np.uint64)), "y has label 18446744073709551615"),
    T(of_labels(LABELS * 1.0), "y.astype(int)"),
    V(of_labels(LABELS[:, None]), "y.ravel()"),
    V(of_labels(np.eye(2)[LABELS] * 2), "y must hold probabilities"),
    V(of_labels(np.eye(2)[LABELS] / 2), "each row of y must sum to 1"),
    V(rows(X, np.abs(Y) + 1, "binary_cross_entropy"), "y must hold probabilities"),
    V(rows(X, -np.abs(Y), "poisson"), "y must hold counts"),
    V(rows(X, Y, "hinge"), "y must hold labels -1 and 1, or 0 and 1, for hinge"),
    V(rows(X, np.resize([-1.0, 0.0, 1.0], (12, 2)), "hinge"), "or 0 and 1, for hinge"),
    V(mse(sample_weight=np.ones(5)), "sample_weight must be of shape (12,)"),
    V(mse(sample_weight=np.ones((12, 1))), "of shape (12,), not (12, 1)"),
    V(mse(sample_weight=-np.ones(12)), "must not be negative"),
    V(mse(sample_weight=np.full(12, NAN)), "sample_weight has NaN"),
    V(mse(sample_weight=np.zeros(12)), "zero everywhere"),
    T(mse(sample_weight=[None] * 12), "not dtype object"),
    T(mse(validation_data=X), "validation_data must be (X, y)"),
    T(mse(validation_data=(X, Y, Y, Y)), "validation_data must be"),
    V(mse(validation_data=(with_value(X, NAN), Y)), "validation X has NaN"),
    V(mse(validation_data=(np.ones((2, 4)), Y[:2])), "validation X has 4 columns"),
    V(of_labels(validation_data=(X, LABELS + 5)), "validation y has label"),
    V(mse(validation_data=(X, Y, -np.ones(12))), "validation sample_weight must not be negative"),
]

OPTIONS = [
    T(lambda m: m.fit(X, Y), "required positional argument: 'loss'"),
    V(rows(X, Y, "mes"), "unknown loss 'mes': did you mean 'mse'?"),
    V(rows(X, Y, "mean_squared_error"), "did you mean 'mse'?"),
    V(rows(X, Y, "CrossEntropyLoss"), "did you mean 'cross_entropy'?"),
    V(rows(X, Y, "zzz"), "unknown loss 'zzz' (known: mse, mae"),
    V(rows(X, Y, "cross_entropy_of_probabilities"), "unknown loss"),
    T(rows(X, Y, 3), "loss must be a name such as 'mse'"),
    T(rows(X, Y, Huber), "loss is the class Huber: give an instance"),
    V(mse(optimizer="adma"), "did you mean 'adam'?"),
    T(mse(optimizer=Adam), "optimizer is the class Adam"),
    T(mse(optimizer=0.1), "optimizer must be a name"),
    V(mse(epochs=0), "epochs must be ≥ 1, not 0"),
    V(mse(epochs=-1), "epochs must be ≥ 1, not -1"),
    T(mse(epochs=1.5), "epochs must be an integer, not 1.5"),
    T(mse(epochs=True), "epochs must be an integer, not True"),
    V(mse(batch_size=0), "batch_size must be ≥ 1"),
    V(mse(batch_size=-32), "batch_size must be ≥ 1"),
    T(mse(batch_size="32"), "batch_size must be an integer"),
    T(mse(shuffle="no"), "shuffle must be True or False"),
    T(mse(resume=1), "resume must be True or False"),
    V(mse(verbose=3), "verbose must be ≥ 0 and ≤ 2"),
    V(mse(threads=0), "threads must be ≥ 1"),
    V(mse(threads=10**6), "threads must be ≥ 1 and ≤ 1024"),
    T(mse(threads="2"), "threads must be an integer"),
    T(mse(epoch=3), "unexpected keyword argument 'epoch'"),
    V(mse(metrics=["acuracy"]), "did you mean 'accuracy'?"),
    T(mse(metrics=[3]), "metric must be a name"),
    T(mse(metrics=3), "metrics must be a list"),
    V(mse(metrics=["r2", "r2"]), "would be called 'r2'"),
    V(of_labels(metrics="r2"), "metric 'r2' needs rows as targets"),
    T(mse(callbacks=[object()]), "is no callback"),
    T(mse(callbacks=[Callback]), "callback Callback is a class"),
    T(mse(callbacks=EarlyStopping()), "callbacks must be a list"),
    V(mse(callbacks=[EarlyStopping()]), "to monitor 'val_loss'"),
    V(
        mse(callbacks=[ModelCheckpoint("{epoc}.st")]),
        "unknown field of the path 'epoc': did you mean 'epoch'?",
    ),
    V(of_labels(class_weight={2: 1.0}), "a label of class_weight must be ≥ 0 and ≤ 1"),
    V(of_labels(class_weight={0: -1.0}), "class_weight[0] must be finite and ≥ 0"),
    V(of_labels(class_weight="balance"), "did you mean 'balanced'?"),
    T(of_labels(class_weight=[1, 2]), "class_weight must be a dict"),
    V(of_labels(class_weight={0: 0, 1: 0}), "class_weight is zero everywhere"),
    V(mse(optimizer=LBFGS()), "not with Dropout"),
    V(lambda m: fresh(m, Scale(learning_rate_factor=2)).fit(X, Y, "mse", "lbfgs"), "no learning"),
    V(lambda m: fresh(m, LayerNorm()).fit(X[:, :1], Y, "mse"), "LayerNorm of one feature"),
    V(lambda m: m.train_on_batch(X, Y, "mse", LBFGS()), "use fit"),
    V(
        lambda m: m.train_on_batch(X, Y, "mse", SGD(ReduceOnPlateau(0.1))),
        "ReduceOnPlateau needs epochs",
    ),
    V(
        lambda m: m.train_on_batch(X, Y, "mse", SGD(CosineDecay(0.1))),
        "CosineDecay needs epochs= outside of fit",
    ),
]

USE = [
    V(lambda m: m.train_on_batch(with_value(X, NAN), Y, "mse"), "X has NaN"),
    V(lambda m: m.train_on_batch(X, with_value(Y, NAN), "mse"), "y has NaN"),
    V(lambda m: m.train_on_batch(X, Y[:3], "mse"), "one row for each"),
    V(lambda m: m.train_on_batch(X, LABELS + 7, "cross_entropy"), "y has label"),
    V(lambda m: m.train_on_batch(X[:0], Y[:0], "mse"), "X has no rows"),
    V(
        lambda m: m.train_on_batch(X, Y, "mse", "adam", -np.ones(12)),
        "sample_weight must not be negative",
    ),
    V(lambda m: m.predict(X[0]), "X.reshape(1, -1) for one row"),
    V(lambda m: m.predict(np.ones((2, 4))), "X has 4 columns"),
    T(lambda m: m.predict([["a", "b", "c"]]), "X must hold real"),
    V(lambda m: m.predict(with_value(X, 1e300)), "too large for float32"),
    V(lambda m: m.predict(X, threads=-1), "threads must be ≥ 1"),
    V(lambda m: m.evaluate(with_value(X, NAN), Y, "mse"), "X has NaN"),
    V(lambda m: m.evaluate(X[:0], Y[:0], "mse"), "X has no rows"),
    V(lambda m: m.loss_and_gradient(X, with_value(Y, INF), "mse"), "y has NaN"),
    V(lambda m: m.input_gradient(with_value(X, NAN)), "X has NaN"),
    V(lambda m: m.input_gradient(X, 2), "output must be ≥ 0 and ≤ 1"),
    V(lambda m: m.input_gradient(X, [-1]), "output must be ≥ 0"),
    V(lambda m: m.input_gradient(X, []), "names no output"),
    V(assign("parameters", np.ones(3)), "of shape (26,), not (3,)"),
    V(assign("parameters", np.full(26, NAN)), "parameters has NaN"),
    T(assign("parameters", ["a"] * 26), "real numbers"),
    T(assign("weights", np.ones(26)), "list of tuples such as (W, b)"),
    V(
        assign("weights", [(np.ones((3, 4)), np.ones(4))]),
        "weights has 1 tuples, the network 2 layers",
    ),
    T(
        assign("weights", [np.ones((3, 4)), np.ones((4, 2))]),
        "weights[0] must be a tuple (weight, bias)",
    ),
    V(
        assign("weights", [(np.ones((4, 3)), np.ones(4)), (np.ones((4, 2)), np.ones(2))]),
        "weight of weights[0] must be of shape (3, 4)",
    ),
    V(
        assign("weights", [(np.ones((3, 4)), np.ones(4)), (np.ones((4, 2)), [INF, 1])]),
        "bias of weights[1] has NaN or infinity",
    ),
    T(
        assign("weights", [(np.ones((3, 4)), None), (np.ones((4, 2)), np.ones(2))]),
        "bias of weights[0] is missing",
    ),
    V(
        lambda m: m.set_optimizer_state((1, (), m.optimizer_state()[2])),
        "adam has 2 moments here, not 0",
    ),
    V(lambda m: m.set_optimizer_state((-1, *m.optimizer_state()[1:])), "step must be ≥ 0"),
    V(
        lambda m: m.set_optimizer_state((1, (np.ones(2),) * 2, m.optimizer_state()[2])),
        "moments[0] must be of shape (26,)",
    ),
]

MAKING = [
    V(make(Sequential, []), "at least one Dense layer"),
    T(make(Sequential, Dense(3)), "layers must be a list"),
    T(make(Sequential, [3]), "a layer must be one of Dense, Dropout"),
    T(make(Sequential, [Dense]), "a layer is the class Dense"),
    V(make(Sequential, [Dense(3), Dropout(0.5)]), "Dropout cannot be the last"),
    V(make(Sequential, [Dense(3), LayerNorm()]), "LayerNorm cannot be the last"),
    V(make(Sequential, [Dense(1), LayerNorm(), Dense(1)]), "LayerNorm of one feature"),
    V(make(LayerNorm, 0.0), "epsilon must be finite and > 0"),
    T(make(LayerNorm, scale=1), "scale must be True or False"),
    V(make(Scale, learning_rate_factor=-1), "learning_rate_factor must be finite and ≥ 0"),
    V(make(Dense, 2, bias_weight_decay_factor=INF), "bias_weight_decay_factor must be finite"),
    V(make(NAdam, momentum_decay=-1.0), "momentum_decay must be finite and ≥ 0"),
    V(make(Lion, beta_2=1.0), "beta_2 must be finite and ≥ 0 and < 1"),
    V(make(Sequential, [Dropout(0.5), Dropout(0.5), Dense(1)]), "two Dropout layers in a row"),
    V(make(Sequential, [Dense(3, activation="softmax"), Dense(1)]), "for the last layer only"),
    V(make(Dense, 0), "units must be ≥ 1"),
    V(make(Dense, -3), "units must be ≥ 1"),
    T(make(Dense, 2.0), "units must be an integer"),
    V(make(Dense, 10**15), "units must be ≥ 1 and ≤ 2147483647"),
    V(
        make(Sequential, [Dense(2**30), Dense(2**30)], input_size=2**30),
        "the network would have 2,305,843,",
    ),
    V(make(Dense, 3, activation="rleu"), "did you mean 'relu'?"),
    T(make(Dense, 3, activation=None), "activation must be a name"),
    V(make(Dense, 3, initializer="glorot"), "did you mean 'glorot_uniform'?"),
    T(make(Dense, 3, use_bias="no"), "use_bias must be True or False"),
    V(make(Dropout, 1.0), "rate must be finite and ≥ 0 and < 1, not 1.0"),
    V(make(Dropout, NAN), "rate must be finite"),
    T(make(Dropout, "half"), "rate must be a number"),
    V(make(Sequential, [Dense(1)], input_size=0), "input_size must be ≥ 1"),
    V(make(Sequential, [Dense(1)], dtype="float16"), "unknown dtype 'float16'"),
    V(make(Sequential, [Dense(1)], dtype=None), "unknown dtype None"),
    V(make(Sequential, [Dense(1)], dtype=">f4"), "unknown dtype '>f4'"),
    V(make(Sequential, [Dense(1)], seed=-1), "seed must be ≥ 0"),
    V(make(Sequential, [Dense(1)], seed=2**64), "seed must be ≥ 0 and ≤"),
    T(make(Sequential, [Dense(1)], seed=0.5), "seed must be an integer"),
    V(make(Sequential, [Dense(1)], engine="cpython"), "did you mean 'cython'?"),
    T(make(Sequential, [Dense(1)], engine=3), "engine must be a name"),
    V(make(Huber, 0), "delta must be finite and > 0"),
    V(make(Quantile, 1.0), "q must be finite and > 0 and < 1"),
    V(make(SGD, -0.1), "learning_rate must be finite and ≥ 0"),
    V(make(SGD, INF), "learning_rate must be finite"),
    T(make(SGD, "0.1"), "learning_rate must be a number"),
    V(make(SGD, 10**400), "learning_rate must be finite"),
    T(make(SGD, CosineDecay), "learning_rate is the class CosineDecay"),
    V(make(SGD, 0.1, momentum=1.5), "momentum must be finite and ≥ 0 and ≤ 1"),
    V(make(SGD, 0.1, nesterov=True), "nesterov needs a momentum"),
    V(make(Adam, beta_1=1.0), "beta_1 must be finite and ≥ 0 and < 1"),
    V(make(Adam, epsilon=1e-40), "epsilon must be finite and ≥ 1e-30"),
    V(make(RMSprop, rho=-0.1), "rho must be finite and ≥ 0"),
    V(make(AdamW, clip_norm=0.0), "clip_norm must be finite and > 0"),
    V(make(Adagrad, l2=-1), "l2 must be finite and ≥ 0"),
    T(make(Adam, weight_decay=None), "weight_decay must be a number"),
    V(make(LBFGS, memory=0), "memory must be ≥ 1"),
    V(make(StepDecay, 0.1, every=0), "every must be ≥ 1"),
    V(make(ExponentialDecay, 0.1, factor=1.5), "factor must be finite"),
    V(make(OneCycle, 0.1, warm_up=0.0), "warm_up must be finite and > 0"),
    V(make(WarmUp, 0.1, epochs=0), "epochs must be finite and > 0"),
    V(make(CosineDecay, 0.1, epochs=-1), "epochs must be finite and > 0"),
    V(make(ReduceOnPlateau, ReduceOnPlateau(0.1)), "cannot be nested"),
    V(make(EarlyStopping, patience=-1), "patience must be ≥ 0"),
    V(make(EarlyStopping, mode="maximum"), "unknown mode 'maximum'"),
    T(make(EarlyStopping, monitor=None), "monitor must be a name"),
    T(make(CSVLogger, 3.5), "expected str, bytes or os.PathLike"),
    T(make(Sequential.from_config, []), "must be a dict"),
    T(make(Sequential.from_config, {"seed": 0}), "must list its layers"),
    V(
        make(Sequential.from_config, {"layers": [{"type": "Dens"}]}),
        "unknown layer type 'Dens': did you mean 'Dense'?",
    ),
]


def trained(engine_name: str) -> Sequential:
    layers = [Dense(4, activation="tanh"), Dropout(0.3), Dense(2)]
    model = Sequential(layers, input_size=3, seed=1, engine=engine_name)
    model.fit(X, Y, "mse", "adam", epochs=1)
    return model


def snapshot(model: Sequential) -> SimpleNamespace:
    state = model.optimizer_state()
    assert state is not None
    return SimpleNamespace(
        parameters=model.parameters.tolist(),
        step=state[0],
        moments=[m.tolist() for m in state[1]],
        described=state[2],
        seed=model.seed,
        history=copy.deepcopy(model.history),
        numpy_random=str(np.random.get_state()),  # noqa: NPY002 - that it is left alone
    )


def each(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case.message for case in cases])


@each(DATA + OPTIONS + USE + MAKING)
def test_a_mistake_is_refused_and_changes_nothing(engine_name: str, case: Case) -> None:
    model, twin = trained(engine_name), trained(engine_name)
    before = snapshot(model)
    with pytest.raises(case.error) as caught:
        case.call(model)
    assert type(caught.value) is case.error
    assert case.message in str(caught.value)
    assert snapshot(model) == before
    for m in (model, twin):
        m.fit(X, Y, "mse", "adam", epochs=1, resume=True)
    assert np.array_equal(model.parameters, twin.parameters)


# no width is wrong before there is a network
@each([case for case in DATA + OPTIONS if "columns, the network" not in case.message])
def test_a_refused_first_fit_builds_nothing(engine_name: str, case: Case) -> None:
    layers = [Dense(4, activation="tanh"), Dropout(0.3), Dense(2)]
    model = Sequential(layers, seed=1, engine=engine_name)
    with pytest.raises(case.error):
        case.call(model)
    assert model.input_size is None
    assert model.history is None


@pytest.mark.parametrize(
    "use",
    [
        lambda m: m.predict(X),
        lambda m: m.evaluate(X, Y, "mse"),
        lambda m: m.loss_and_gradient(X, Y, "mse"),
        lambda m: m.input_gradient(X),
        lambda m: m.parameters,
        lambda m: m.weights,
        lambda m: m.size,
        lambda m: m.optimizer_state(),
        lambda m: setattr(m, "parameters", [1.0]),
        lambda m: setattr(m, "weights", []),
    ],
)
def test_a_model_without_parameters_says_so(engine_name: str, use: Any) -> None:
    with pytest.raises(ValueError, match="no parameters yet: give input_size, or fit it first"):
        use(Sequential([Dense(1)], engine=engine_name))


def test_the_fast_path_refuses_too(engine_name: str) -> None:
    """With a trainer in place the engine looks at arrays first: the same errors."""
    model = trained(engine_name)
    X32, Y32, optimizer = X.astype(np.float32), Y.astype(np.float32), Adam()
    model.train_on_batch(X32, Y32, "mse", optimizer)
    before = snapshot(model)
    for wrong_X, wrong_Y, message in [
        (with_value(X32, NAN), Y32, "X has NaN"),
        (X32, with_value(Y32, INF), "y has NaN or infinity"),
        (X32, Y32[:3], "one row for each"),
        (X32[:, :2], Y32, "X has 2 columns"),
        (X32[:0], Y32[:0], "X has no rows"),
        (X32[0], Y32[0], "X must be 2-D"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.train_on_batch(wrong_X, wrong_Y, "mse", optimizer)
        assert snapshot(model) == before


@pytest.mark.parametrize(
    ("loss", "right", "wrong", "message"),
    [
        ("cross_entropy", LABELS, LABELS + 2, "y has label"),
        ("cross_entropy", LABELS, LABELS - 1, "y has label -1"),
        ("cross_entropy", np.eye(2)[LABELS], np.eye(2)[LABELS] * 3, "must hold probabilities"),
        ("binary_cross_entropy", np.eye(2)[LABELS], np.eye(2)[LABELS] * 3, "probabilities"),
        ("poisson", np.abs(Y), -np.abs(Y), "must hold counts"),
    ],
)
def test_the_fast_path_looks_at_targets(
    engine_name: str, loss: str, right: np.ndarray, wrong: np.ndarray, message: str
) -> None:
    model = trained(engine_name)
    X32, optimizer = X.astype(np.float32), Adam()
    dtype = np.int64 if right.ndim == 1 else np.float32
    for _ in range(2):
        model.train_on_batch(X32, right.astype(dtype), loss, optimizer)
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(X32, wrong.astype(dtype), loss, optimizer)
    assert snapshot(model) == before
