"""Bad input: one clear error for each mistake, and nothing has changed afterwards.

The table is the specification of what users read. Every case runs on a model that has
been trained; its parameters, optimizer state, count of epochs and NumPy's global random
state are compared before and after, and it must go on training as its twin does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastnn import (
    LBFGS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Callback,
    CosineDecay,
    CSVLogger,
    Dense,
    Dropout,
    EarlyStopping,
    ExponentialDecay,
    Huber,
    ModelCheckpoint,
    OneCycle,
    Quantile,
    ReduceOnPlateau,
    RMSprop,
    Sequential,
    StepDecay,
    WarmUp,
)

GENERATOR = np.random.default_rng(5)
X, Y = GENERATOR.normal(size=(12, 3)), GENERATOR.normal(size=(12, 2))
LABELS = GENERATOR.integers(0, 2, size=12)
NAN, INF = float("nan"), float("inf")


VALUE, TYPE = ValueError, TypeError


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
    error: type[Exception]
    message: str


def fit(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    return lambda model: model.fit(*args, **kwargs)


def mse(**kwargs: Any) -> Callable[[Any], Any]:
    return fit(X, Y, "mse", **kwargs)


def rows(X: Any = X, Y: Any = Y, loss: Any = "mse") -> Callable[[Any], Any]:
    return fit(X, Y, loss)


def assign(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda model: setattr(model, name, value)


def make(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    return lambda model: function(*args, **kwargs)


DATA = {
    "X 1-D": Case(rows(X[:, 0]), VALUE, "X must be 2-D"),
    "X 1-D hint": Case(rows(X[:, 0]), VALUE, "X.reshape(-1, 1) for one column"),
    "X 3-D": Case(rows(X[None]), VALUE, "not of shape (1, 12, 3)"),
    "X 0-D": Case(rows(3.0), VALUE, "not of shape ()"),
    "X wide": Case(rows(np.ones((12, 4))), VALUE, "X has 4 columns, the network 3 inputs"),
    "X without columns": Case(rows(np.ones((12, 0))), VALUE, "X has no columns"),
    "X without rows": Case(rows(X[:0], Y[:0]), VALUE, "X has no rows"),
    "X None": Case(rows(None), TYPE, "X is missing (None)"),
    "X complex": Case(rows(X + 0j), TYPE, "must hold real numbers, not dtype complex128"),
    "X objects": Case(rows(X.astype(object)), TYPE, "not dtype object"),
    "X strings": Case(rows(X.astype(str)), TYPE, "X must hold real numbers, not dtype <U"),
    "X bytes": Case(rows(X.astype("S5")), TYPE, "not dtype |S5"),
    "X dates": Case(rows(X.astype("M8[s]")), TYPE, "not dtype datetime64[s]"),
    "X durations": Case(rows(X.astype("m8[s]")), TYPE, "not dtype timedelta64[s]"),
    "X records": Case(rows(np.zeros((12, 3), "f4,f4")), TYPE, "X must hold real numbers"),
    "X ragged": Case(rows([[1, 2, 3], [4]]), VALUE, "X cannot be read as an array"),
    "X a dict": Case(rows({"a": 1}), TYPE, "not dtype object"),
    "X a generator": Case(rows(x for x in X), TYPE, "not dtype object"),
    "X with None": Case(rows([[1, 2, None]] * 12), TYPE, "not dtype object"),
    "X integers too long": Case(rows([[10**30] * 3] * 12), TYPE, "not dtype object"),
    "X sparse": Case(rows(Sparse()), TYPE, "X is sparse: use X.toarray()"),
    "X masked": Case(rows(np.ma.masked_less(X, 0)), TYPE, "X is a masked array"),
    "X NaN": Case(rows(with_value(X, NAN)), VALUE, "X has NaN or infinity, first at (1, 1)"),
    "X inf": Case(rows(with_value(X, INF)), VALUE, "X has NaN or infinity, first at (1, 1)"),
    "X -inf": Case(rows(with_value(X, -INF)), VALUE, "X has NaN or infinity"),
    "X NaN strided": Case(rows(with_value(X, NAN)[::-1]), VALUE, "first at (10, 1)"),
    "X too large": Case(rows(with_value(X, 1e300)), VALUE, "too large for float32"),
    "y short": Case(rows(X, Y[:5]), VALUE, "y must have one row for each of X: 12"),
    "y long": Case(rows(X[:5], Y), VALUE, "y must have one row for each of X: 5"),
    "y narrow": Case(rows(X, Y[:, :1]), VALUE, "y must be of shape (12, 2), not (12, 1)"),
    "y 1-D for two outputs": Case(rows(X, Y[:, 0]), VALUE, "y must be of shape (12, 2)"),
    "labels for mse": Case(rows(X, LABELS), VALUE, "labels are for cross_entropy"),
    "y 0-D": Case(rows(X, 1.0), VALUE, "y must have one row for each of X"),
    "y None": Case(rows(X, None), TYPE, "y is missing (None)"),
    "y NaN": Case(rows(X, with_value(Y, NAN)), VALUE, "y has NaN or infinity"),
    "y too large": Case(rows(X, with_value(Y, -1e39)), VALUE, "y has values too large"),
    "y strings": Case(rows(X, ["a"] * 12, "cross_entropy"), TYPE, "y must hold real numbers"),
    "label too large": Case(rows(X, LABELS + 1, "cross_entropy"), VALUE, "y has label 2; with 2"),
    "label negative": Case(rows(X, LABELS - 1, "cross_entropy"), VALUE, "y has label -1"),
    "label huge": Case(
        rows(X, np.full(12, 2**64 - 1, np.uint64), "cross_entropy"),
        VALUE,
        "y has label 18446744073709551615",
    ),
    "labels as floats": Case(rows(X, LABELS * 1.0, "cross_entropy"), TYPE, "y.astype(int)"),
    "labels as a column": Case(rows(X, LABELS[:, None], "cross_entropy"), VALUE, "y.ravel()"),
    "probabilities beyond 1": Case(
        rows(X, np.eye(2)[LABELS] * 2, "cross_entropy"), VALUE, "y must hold probabilities"
    ),
    "probabilities that do not sum to 1": Case(
        rows(X, np.eye(2)[LABELS] / 2, "cross_entropy"), VALUE, "each row of y must sum to 1"
    ),
    "binary target of 2": Case(
        rows(X, np.abs(Y) + 1, "binary_cross_entropy"), VALUE, "y must hold probabilities"
    ),
    "negative counts": Case(rows(X, -np.abs(Y), "poisson"), VALUE, "y must hold counts"),
    "weight short": Case(
        mse(sample_weight=np.ones(5)), VALUE, "sample_weight must be of shape (12,)"
    ),
    "weight a column": Case(
        mse(sample_weight=np.ones((12, 1))), VALUE, "of shape (12,), not (12, 1)"
    ),
    "weight negative": Case(mse(sample_weight=-np.ones(12)), VALUE, "must not be negative"),
    "weight NaN": Case(mse(sample_weight=np.full(12, NAN)), VALUE, "sample_weight has NaN"),
    "weight zero": Case(mse(sample_weight=np.zeros(12)), VALUE, "zero everywhere"),
    "weight objects": Case(mse(sample_weight=[None] * 12), TYPE, "not dtype object"),
    "validation no pair": Case(mse(validation_data=X), TYPE, "validation_data must be (X, y)"),
    "validation four": Case(mse(validation_data=(X, Y, Y, Y)), TYPE, "validation_data must be"),
    "validation NaN": Case(
        mse(validation_data=(with_value(X, NAN), Y)), VALUE, "validation X has NaN"
    ),
    "validation wide": Case(
        mse(validation_data=(np.ones((2, 4)), Y[:2])), VALUE, "validation X has 4 columns"
    ),
    "validation labels": Case(
        fit(X, LABELS, "cross_entropy", validation_data=(X, LABELS + 5)),
        VALUE,
        "validation y has label",
    ),
    "validation weight": Case(
        mse(validation_data=(X, Y, -np.ones(12))),
        VALUE,
        "validation sample_weight must not be negative",
    ),
}

OPTIONS = {
    "loss missing": Case(lambda m: m.fit(X, Y), TYPE, "required positional argument: 'loss'"),
    "loss misspelt": Case(rows(X, Y, "mes"), VALUE, "unknown loss 'mes': did you mean 'mse'?"),
    "loss unlike any": Case(rows(X, Y, "zzz"), VALUE, "unknown loss 'zzz' (known: mse, mae"),
    "loss internal": Case(rows(X, Y, "cross_entropy_of_probabilities"), VALUE, "unknown loss"),
    "loss a number": Case(rows(X, Y, 3), TYPE, "loss must be a name such as 'mse'"),
    "loss a class": Case(rows(X, Y, Huber), TYPE, "loss is the class Huber: give an instance"),
    "optimizer misspelt": Case(mse(optimizer="adma"), VALUE, "did you mean 'adam'?"),
    "optimizer a class": Case(mse(optimizer=Adam), TYPE, "optimizer is the class Adam"),
    "optimizer a number": Case(mse(optimizer=0.1), TYPE, "optimizer must be a name"),
    "epochs zero": Case(mse(epochs=0), VALUE, "epochs must be ≥ 1, not 0"),
    "epochs negative": Case(mse(epochs=-1), VALUE, "epochs must be ≥ 1, not -1"),
    "epochs a float": Case(mse(epochs=1.5), TYPE, "epochs must be an integer, not 1.5"),
    "epochs a bool": Case(mse(epochs=True), TYPE, "epochs must be an integer, not True"),
    "batch_size zero": Case(mse(batch_size=0), VALUE, "batch_size must be ≥ 1"),
    "batch_size negative": Case(mse(batch_size=-32), VALUE, "batch_size must be ≥ 1"),
    "batch_size a string": Case(mse(batch_size="32"), TYPE, "batch_size must be an integer"),
    "shuffle a string": Case(mse(shuffle="no"), TYPE, "shuffle must be True or False"),
    "resume a number": Case(mse(resume=1), TYPE, "resume must be True or False"),
    "verbose 3": Case(mse(verbose=3), VALUE, "verbose must be ≥ 0 and ≤ 2"),
    "threads zero": Case(mse(threads=0), VALUE, "threads must be ≥ 1"),
    "threads huge": Case(mse(threads=10**6), VALUE, "threads must be ≥ 1 and ≤ 1024"),
    "threads a string": Case(mse(threads="2"), TYPE, "threads must be an integer"),
    "keyword misspelt": Case(mse(epoch=3), TYPE, "unexpected keyword argument 'epoch'"),
    "metric misspelt": Case(mse(metrics=["acuracy"]), VALUE, "did you mean 'accuracy'?"),
    "metric a number": Case(mse(metrics=[3]), TYPE, "metric must be a name"),
    "metrics a number": Case(mse(metrics=3), TYPE, "metrics must be a list"),
    "metric twice": Case(mse(metrics=["r2", "r2"]), VALUE, "would be called 'r2'"),
    "metric of labels": Case(
        fit(X, LABELS, "cross_entropy", metrics="r2"), VALUE, "metric 'r2' needs rows as targets"
    ),
    "callback without hooks": Case(mse(callbacks=[object()]), TYPE, "is no callback"),
    "callback a class": Case(mse(callbacks=[Callback]), TYPE, "callback Callback is a class"),
    "callbacks no list": Case(mse(callbacks=EarlyStopping()), TYPE, "callbacks must be a list"),
    "monitor not there": Case(mse(callbacks=[EarlyStopping()]), VALUE, "to monitor 'val_loss'"),
    "checkpoint field": Case(
        mse(callbacks=[ModelCheckpoint("{epoc}.st")]),
        VALUE,
        "unknown field of the path 'epoc': did you mean 'epoch'?",
    ),
    "class_weight label": Case(
        fit(X, LABELS, "cross_entropy", class_weight={2: 1.0}),
        VALUE,
        "a label of class_weight must be ≥ 0 and ≤ 1",
    ),
    "class_weight negative": Case(
        fit(X, LABELS, "cross_entropy", class_weight={0: -1.0}),
        VALUE,
        "class_weight[0] must be finite and ≥ 0",
    ),
    "class_weight name": Case(
        fit(X, LABELS, "cross_entropy", class_weight="balance"), VALUE, "did you mean 'balanced'?"
    ),
    "class_weight list": Case(
        fit(X, LABELS, "cross_entropy", class_weight=[1, 2]), TYPE, "class_weight must be a dict"
    ),
    "class_weight zero": Case(
        fit(X, LABELS, "cross_entropy", class_weight={0: 0, 1: 0}),
        VALUE,
        "class_weight is zero everywhere",
    ),
    "LBFGS with dropout": Case(mse(optimizer=LBFGS()), VALUE, "not with Dropout"),
    "online LBFGS": Case(lambda m: m.train_on_batch(X, Y, "mse", LBFGS()), VALUE, "use fit"),
    "online plateau": Case(
        lambda m: m.train_on_batch(X, Y, "mse", SGD(ReduceOnPlateau(0.1))),
        VALUE,
        "ReduceOnPlateau needs epochs",
    ),
    "online cosine": Case(
        lambda m: m.train_on_batch(X, Y, "mse", SGD(CosineDecay(0.1))),
        VALUE,
        "CosineDecay needs epochs= outside of fit",
    ),
}

USE = {
    "online NaN": Case(
        lambda m: m.train_on_batch(with_value(X, NAN), Y, "mse"), VALUE, "X has NaN"
    ),
    "online y NaN": Case(
        lambda m: m.train_on_batch(X, with_value(Y, NAN), "mse"), VALUE, "y has NaN"
    ),
    "online short y": Case(lambda m: m.train_on_batch(X, Y[:3], "mse"), VALUE, "one row for each"),
    "online label": Case(
        lambda m: m.train_on_batch(X, LABELS + 7, "cross_entropy"), VALUE, "y has label"
    ),
    "online empty": Case(lambda m: m.train_on_batch(X[:0], Y[:0], "mse"), VALUE, "X has no rows"),
    "online weight": Case(
        lambda m: m.train_on_batch(X, Y, "mse", "adam", -np.ones(12)),
        VALUE,
        "sample_weight must not be negative",
    ),
    "predict 1-D": Case(lambda m: m.predict(X[0]), VALUE, "X.reshape(1, -1) for one row"),
    "predict wide": Case(lambda m: m.predict(np.ones((2, 4))), VALUE, "X has 4 columns"),
    "predict strings": Case(lambda m: m.predict([["a", "b", "c"]]), TYPE, "X must hold real"),
    "predict too large": Case(
        lambda m: m.predict(with_value(X, 1e300)), VALUE, "too large for float32"
    ),
    "predict threads": Case(lambda m: m.predict(X, threads=-1), VALUE, "threads must be ≥ 1"),
    "evaluate NaN": Case(lambda m: m.evaluate(with_value(X, NAN), Y, "mse"), VALUE, "X has NaN"),
    "evaluate empty": Case(lambda m: m.evaluate(X[:0], Y[:0], "mse"), VALUE, "X has no rows"),
    "gradient y inf": Case(
        lambda m: m.loss_and_gradient(X, with_value(Y, INF), "mse"), VALUE, "y has NaN"
    ),
    "input gradient NaN": Case(lambda m: m.input_gradient(with_value(X, NAN)), VALUE, "X has NaN"),
    "input gradient output": Case(
        lambda m: m.input_gradient(X, 2), VALUE, "output must be ≥ 0 and ≤ 1"
    ),
    "input gradient negative": Case(
        lambda m: m.input_gradient(X, [-1]), VALUE, "output must be ≥ 0"
    ),
    "input gradient none": Case(lambda m: m.input_gradient(X, []), VALUE, "names no output"),
    "parameters short": Case(assign("parameters", np.ones(3)), VALUE, "of shape (26,), not (3,)"),
    "parameters NaN": Case(assign("parameters", np.full(26, NAN)), VALUE, "parameters has NaN"),
    "parameters strings": Case(assign("parameters", ["a"] * 26), TYPE, "real numbers"),
    "weights an array": Case(assign("weights", np.ones(26)), TYPE, "list of pairs (W, b)"),
    "weights short": Case(
        assign("weights", [(np.ones((3, 4)), np.ones(4))]),
        VALUE,
        "weights has 1 pairs, the network 2 dense layers",
    ),
    "weights no pair": Case(
        assign("weights", [np.ones((3, 4)), np.ones((4, 2))]), TYPE, "weights[0] must be a pair"
    ),
    "weights turned": Case(
        assign("weights", [(np.ones((4, 3)), np.ones(4)), (np.ones((4, 2)), np.ones(2))]),
        VALUE,
        "W of weights[0] must be of shape (3, 4)",
    ),
    "weights second inf": Case(
        assign("weights", [(np.ones((3, 4)), np.ones(4)), (np.ones((4, 2)), [INF, 1])]),
        VALUE,
        "b of weights[1] has NaN or infinity",
    ),
    "weights without bias": Case(
        assign("weights", [(np.ones((3, 4)), None), (np.ones((4, 2)), np.ones(2))]),
        TYPE,
        "b of weights[0] is missing",
    ),
    "state of another": Case(
        lambda m: m.set_optimizer_state((1, (), m.optimizer_state()[2])),
        VALUE,
        "adam has 2 moments here, not 0",
    ),
    "state negative": Case(
        lambda m: m.set_optimizer_state((-1, *m.optimizer_state()[1:])), VALUE, "step must be ≥ 0"
    ),
    "state short": Case(
        lambda m: m.set_optimizer_state((1, (np.ones(2),) * 2, m.optimizer_state()[2])),
        VALUE,
        "moments[0] must be of shape (26,)",
    ),
}

MAKING = {
    "no layers": Case(make(Sequential, []), VALUE, "at least one Dense layer"),
    "layers no list": Case(make(Sequential, Dense(3)), TYPE, "layers must be a list"),
    "layer a number": Case(make(Sequential, [3]), TYPE, "a layer must be Dense(…)"),
    "layer a class": Case(make(Sequential, [Dense]), TYPE, "a layer is the class Dense"),
    "dropout last": Case(make(Sequential, [Dense(3), Dropout(0.5)]), VALUE, "cannot be the last"),
    "dropout twice": Case(
        make(Sequential, [Dropout(0.5), Dropout(0.5), Dense(1)]),
        VALUE,
        "two Dropout layers in a row",
    ),
    "softmax inside": Case(
        make(Sequential, [Dense(3, activation="softmax"), Dense(1)]),
        VALUE,
        "for the last layer only",
    ),
    "units zero": Case(make(Dense, 0), VALUE, "units must be ≥ 1"),
    "units negative": Case(make(Dense, -3), VALUE, "units must be ≥ 1"),
    "units a float": Case(make(Dense, 2.0), TYPE, "units must be an integer"),
    "units huge": Case(make(Dense, 10**15), VALUE, "units must be ≥ 1 and ≤ 2147483647"),
    "network huge": Case(
        make(Sequential, [Dense(2**30), Dense(2**30)], input_size=2**30),
        VALUE,
        "the network would have 2,305,843,",
    ),
    "activation misspelt": Case(make(Dense, 3, activation="rleu"), VALUE, "did you mean 'relu'?"),
    "activation None": Case(make(Dense, 3, activation=None), TYPE, "activation must be a name"),
    "initializer": Case(
        make(Dense, 3, initializer="glorot"), VALUE, "did you mean 'glorot_uniform'?"
    ),
    "use_bias": Case(make(Dense, 3, use_bias="no"), TYPE, "use_bias must be True or False"),
    "rate 1": Case(make(Dropout, 1.0), VALUE, "rate must be finite and ≥ 0 and < 1, not 1.0"),
    "rate NaN": Case(make(Dropout, NAN), VALUE, "rate must be finite"),
    "rate a string": Case(make(Dropout, "half"), TYPE, "rate must be a number"),
    "input_size zero": Case(
        make(Sequential, [Dense(1)], input_size=0), VALUE, "input_size must be ≥ 1"
    ),
    "dtype float16": Case(
        make(Sequential, [Dense(1)], dtype="float16"), VALUE, "unknown dtype 'float16'"
    ),
    "dtype None": Case(make(Sequential, [Dense(1)], dtype=None), VALUE, "unknown dtype None"),
    "dtype swapped": Case(make(Sequential, [Dense(1)], dtype=">f4"), VALUE, "unknown dtype '>f4'"),
    "seed negative": Case(make(Sequential, [Dense(1)], seed=-1), VALUE, "seed must be ≥ 0"),
    "seed too large": Case(
        make(Sequential, [Dense(1)], seed=2**64), VALUE, "seed must be ≥ 0 and ≤"
    ),
    "seed a float": Case(make(Sequential, [Dense(1)], seed=0.5), TYPE, "seed must be an integer"),
    "engine misspelt": Case(
        make(Sequential, [Dense(1)], engine="cpython"), VALUE, "did you mean 'cython'?"
    ),
    "engine a number": Case(make(Sequential, [Dense(1)], engine=3), TYPE, "engine must be a name"),
    "delta zero": Case(make(Huber, 0), VALUE, "delta must be finite and > 0"),
    "q one": Case(make(Quantile, 1.0), VALUE, "q must be finite and > 0 and < 1"),
    "rate negative": Case(make(SGD, -0.1), VALUE, "learning_rate must be finite and ≥ 0"),
    "rate inf": Case(make(SGD, INF), VALUE, "learning_rate must be finite"),
    "rate text": Case(make(SGD, "0.1"), TYPE, "learning_rate must be a number"),
    "rate too long": Case(make(SGD, 10**400), VALUE, "learning_rate must be finite"),
    "schedule a class": Case(
        make(SGD, CosineDecay), TYPE, "learning_rate is the class CosineDecay"
    ),
    "momentum": Case(
        make(SGD, 0.1, momentum=1.5), VALUE, "momentum must be finite and ≥ 0 and ≤ 1"
    ),
    "nesterov": Case(make(SGD, 0.1, nesterov=True), VALUE, "nesterov needs a momentum"),
    "beta_1": Case(make(Adam, beta_1=1.0), VALUE, "beta_1 must be finite and ≥ 0 and < 1"),
    "epsilon": Case(make(Adam, epsilon=1e-40), VALUE, "epsilon must be finite and ≥ 1e-30"),
    "rho": Case(make(RMSprop, rho=-0.1), VALUE, "rho must be finite and ≥ 0"),
    "clip_norm": Case(make(AdamW, clip_norm=0.0), VALUE, "clip_norm must be finite and > 0"),
    "l2": Case(make(Adagrad, l2=-1), VALUE, "l2 must be finite and ≥ 0"),
    "weight_decay": Case(make(Adam, weight_decay=None), TYPE, "weight_decay must be a number"),
    "memory": Case(make(LBFGS, memory=0), VALUE, "memory must be ≥ 1"),
    "every": Case(make(StepDecay, 0.1, every=0), VALUE, "every must be ≥ 1"),
    "factor": Case(make(ExponentialDecay, 0.1, factor=1.5), VALUE, "factor must be finite"),
    "warm_up": Case(make(OneCycle, 0.1, warm_up=0.0), VALUE, "warm_up must be finite and > 0"),
    "warm-up epochs": Case(make(WarmUp, 0.1, epochs=0), VALUE, "epochs must be finite and > 0"),
    "cosine epochs": Case(
        make(CosineDecay, 0.1, epochs=-1), VALUE, "epochs must be finite and > 0"
    ),
    "plateau twice": Case(make(ReduceOnPlateau, ReduceOnPlateau(0.1)), VALUE, "cannot be nested"),
    "patience": Case(make(EarlyStopping, patience=-1), VALUE, "patience must be ≥ 0"),
    "mode": Case(make(EarlyStopping, mode="maximum"), VALUE, "unknown mode 'maximum'"),
    "monitor": Case(make(EarlyStopping, monitor=None), TYPE, "monitor must be a name"),
    "csv path": Case(make(CSVLogger, 3.5), TYPE, "expected str, bytes or os.PathLike"),
    "config no dict": Case(make(Sequential.from_config, []), TYPE, "must be a dict"),
    "config layers": Case(make(Sequential.from_config, {"seed": 0}), TYPE, "must list its layers"),
    "config layer type": Case(
        make(Sequential.from_config, {"layers": [{"type": "Dens"}]}),
        VALUE,
        "unknown layer type 'Dens': did you mean 'Dense'?",
    ),
}
CASES = DATA | OPTIONS | USE | MAKING


@pytest.fixture
def engine_name(engine: ModuleType) -> str:
    """Each engine's name in turn."""
    return engine.NAME


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


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_refused_and_changes_nothing(engine_name: str, name: str) -> None:
    case = CASES[name]
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


FIRST_FIT = [
    name  # no width is wrong before there is a network
    for name, case in (DATA | OPTIONS).items()
    if "columns, the network" not in case.message
]


@pytest.mark.parametrize("name", FIRST_FIT)
def test_a_refused_first_fit_builds_nothing(engine_name: str, name: str) -> None:
    case = CASES[name]
    layers = [Dense(4, activation="tanh"), Dropout(0.3), Dense(2)]
    model = Sequential(layers, seed=1, engine=engine_name)
    with pytest.raises(case.error):
        case.call(model)
    assert model.input_size is None
    assert model.history is None


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 60


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
