"""User functions: their derivatives, what is refused, and their life in every engine.

The oracle is mpmath: the same Python function runs with mpmath's functions and 40 digits,
and its derivative is taken numerically there. It shares nothing with the dual numbers.
"""

from __future__ import annotations

import copy
import functools
import math
import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace

import custom_gallery as gallery
import mpmath as mp
import numpy as np
import pytest
from fastnn.kernels.contract import LossSpec, dense, optimizer
from fastnn.kernels.numba import compile as numba_compile
from fastnn.kernels.numba import users

import fastnn
from fastnn import Adam, Dense, Sequential
from fastnn.custom import CustomActivation, CustomLoss

DIGITS = 40  # that the oracle works with: central differences keep more than 16 of them
INF, NAN = math.inf, math.nan
QUARTIC = gallery.LOSSES["quartic"]
SWISHY, LEAKY = fastnn.activation(gallery.swishy), fastnn.activation(gallery.leaky(0.2))
LOG_COSH, SGD = fastnn.loss(gallery.LOSSES["log_cosh"]), optimizer("sgd")
MODEL = Sequential([Dense(1)], input_size=1)


@pytest.fixture
def with_mpmath(monkeypatch: pytest.MonkeyPatch):
    """Has the gallery's functions compute with mpmath's numbers."""
    own = {
        "log": lambda x, base=mp.e: mp.log(x, base),
        "log2": lambda x: mp.log(x, 2),
        "exp2": lambda x: mp.power(2, x),
        "abs": abs,
        "copysign": lambda x, y: abs(x) * (1 if y >= 0 else -1),
        "square": lambda x: x * x,
        "reciprocal": lambda x: 1 / x,
        "where": lambda condition, yes, no: yes if condition else no,
        "clip": lambda x, low, high: min(max(x, low), high),
        "maximum": max,
        "logaddexp": lambda a, b: mp.log(mp.exp(a) + mp.exp(b)),
    }
    shim = SimpleNamespace(**{name: getattr(mp, name) for name in dir(mp)} | own)
    monkeypatch.setattr(gallery, "math", shim)
    monkeypatch.setattr(gallery, "np", shim)
    with mp.workdps(DIGITS):
        yield


def _points(seed: int, count: int) -> np.ndarray:
    """Numbers up to 7.5, most of them near 0, where kinks are not met by chance."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-7.5, 7.5, count // 2), rng.normal(size=count - count // 2)])


each_activation = pytest.mark.parametrize(
    "function", gallery.ACTIVATIONS.values(), ids=gallery.ACTIVATIONS
)

#: One object for each function, as equal objects share what is compiled while one lives.
_activation = functools.cache(fastnn.activation)


def _value_only(custom: CustomActivation, z: np.ndarray) -> np.ndarray:
    """What the kernel gives where nobody asks for the slope."""
    value = z.copy()
    custom._kernel(z.itemsize)(value.ctypes.data, None, z.size)
    return value


# --------------------------------------------------------------------------- derivatives


def _check(custom, inputs: list[np.ndarray], request: pytest.FixtureRequest) -> None:
    value, slope = custom._compiled(tuple(inputs))
    request.getfixturevalue("with_mpmath")
    for v, d, row in zip(value, slope, zip(*inputs, strict=True), strict=True):
        x, *rest = map(mp.mpf, row)
        exact = (custom(x, *rest), mp.diff(lambda x, rest=rest: custom(x, *rest), x))
        for ours, theirs in zip((v, d), exact, strict=True):
            assert abs(ours - theirs) <= 1e-12 * max(1, abs(theirs)), row


@each_activation
def test_activation_and_its_slope(function, request: pytest.FixtureRequest) -> None:
    _check(_activation(function), [_points(1, 30)], request)


@pytest.mark.parametrize("function", gallery.LOSSES.values(), ids=gallery.LOSSES)
def test_loss_and_its_slope(function, request: pytest.FixtureRequest) -> None:
    _check(fastnn.loss(function), [_points(2, 30), _points(3, 30)], request)


@each_activation
def test_float32_is_float64_rounded(function) -> None:
    """Within a few units of the last place, as far as the function's slope allows."""
    custom = _activation(function)
    z = _points(4, 200).astype(np.float32)
    value, slope = custom._compiled((z,))
    assert value.dtype == slope.dtype == np.float32
    exact, exact_slope = custom._compiled((z.astype(np.float64),))
    scale = np.maximum(np.abs(exact), np.abs(z * exact_slope)) + 1
    assert (np.abs(value - exact) <= 1e-6 * scale).all()
    assert np.median(np.abs(slope - exact_slope) / (np.abs(exact_slope) + 1)) <= 1e-6


def _compiled(f, *numbers: float) -> tuple[list[float], list[float]]:
    """Values and slopes of a function that Numba knows, or of a plain one."""

    def function(x):
        return f(x)

    value, slope = fastnn.activation(function)._compiled((np.array(numbers),))
    return value.tolist(), slope.tolist()


def test_kinks_are_pytorchs() -> None:
    expected = [
        (0, abs), (0, lambda x: max(x, 0.0)), (0, lambda x: max(0, x)), (0, lambda x: min(x, 0)),
        (0.01, lambda x: x if x > 0 else 0.01 * x), (0, lambda x: x**2 + x**0),
        (2, lambda x: max(x, 3 * x)),  # each of two that vary has half
    ]  # fmt: skip
    for slope, function in expected:
        assert _compiled(function, 0.0)[1] == [slope]


def test_what_saturates_has_no_slope(dtype: np.dtype) -> None:
    z = np.concatenate([-np.geomspace(1, 1e4, 500), [-np.inf]]).astype(dtype)
    for f in (gallery.swishy, lambda x: 1 / (1 + math.exp(-2 * x)), lambda x: 1 / (1 + 2**-x)):
        value, slope = fastnn.activation(f)._compiled((z,))
        assert not np.isnan(slope[:-1]).any()
        assert np.abs(slope[:-1]).max() < 0.5
        assert value[-2] == slope[-2] == 0


def test_special_numbers() -> None:
    expected = {
        math.exp: {-INF: 0, INF: INF, NAN: NAN, 800.0: INF},
        math.log: {0.0: -INF, -1.0: NAN, INF: INF, NAN: NAN},
        math.tanh: {-INF: -1, INF: 1, NAN: NAN},
        math.sqrt: {-1.0: NAN, INF: INF, NAN: NAN},
        math.erf: {-INF: -1, INF: 1, NAN: NAN},
        math.sin: {INF: NAN, NAN: NAN},
        math.log1p: {-1.0: -INF, INF: INF, -2.0: NAN},
        (lambda x: max(x, 0.0)): {NAN: NAN, -INF: 0, INF: INF},
        (lambda x: max(0.0, x)): {NAN: NAN},
        (lambda x: x**1.5): {-2.0: NAN, 0.0: 0, INF: INF},
        (lambda x: x**3.0): {-2.0: -8, INF: INF},
        (lambda x: x**-1.0): {0.0: INF},
        (lambda x: 1 / x): {0.0: INF},
        (lambda x: math.atan2(0.0, x)): {-1.0: math.pi, 1.0: 0},
    }
    for function, values in expected.items():
        np.testing.assert_equal(_compiled(function, *values)[0], [*values.values()])
    # of a subnormal number too
    assert _compiled(math.log, 5e-324)[0][0] == pytest.approx(math.log(5e-324), rel=4e-16)


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("function", "message", "line"), gallery.REFUSED, ids=lambda v: getattr(v, "__name__", "")
)
def test_refused(function, message: str, line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        fastnn.activation(function)
    assert line in str(caught.value)
    assert function.__name__ in str(caught.value)


def test_a_missing_rule_names_the_way_out_and_it_works(engine: ModuleType) -> None:
    def smooth(x):
        return math.lgamma(x * x + 1)

    def slope(x):
        y, h = x * x + 1, 1e-5
        return (math.lgamma(y + h) - math.lgamma(y - h)) / h * x

    with pytest.raises(ValueError, match=r"fastnn\.activation\(smooth, derivative=g\)"):
        fastnn.activation(smooth)
    layer = Dense(3, activation=fastnn.activation(smooth, derivative=slope))
    model = Sequential([layer], input_size=3, engine=engine.NAME, dtype="float64")
    model.weights = [(np.eye(3), np.zeros(3))]
    X = np.array([[0.5, -1.0, 2.0]])
    np.testing.assert_allclose(model.predict(X), [[smooth(x) for x in X[0]]], rtol=1e-12)
    slopes = np.diagonal(model.input_gradient(X)[0])
    np.testing.assert_allclose(slopes, [slope(x) for x in X[0]], rtol=1e-6)


def test_a_wrong_derivative_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'half'.* at x = -5\.2137 it is 1, central .* 0\.5"):
        fastnn.activation(lambda x: x / 2, derivative=lambda x: 1.0, name="half")
    with pytest.raises(ValueError, match=r"at output = .*, target = .* central differences give"):
        fastnn.loss(QUARTIC, derivative=lambda o, t: 3 * (o - t) ** 3)


def test_a_right_derivative_is_used(dtype: np.dtype) -> None:
    """Which at ±1 is another than that of dual numbers."""
    hard_tanh, z = gallery.ACTIVATIONS["hard_tanh"], np.array([-2, -1, 0.5, 1, 3], dtype)
    custom = fastnn.activation(hard_tanh, derivative=lambda x: 1.0 if -1 <= x <= 1 else 0.0)
    assert custom._compiled((z,))[1].tolist() == [0, 1, 1, 1, 0] == custom.slope(z).tolist()


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("plain Python function", lambda: fastnn.activation(abs)),
        (r"function of \(x\)", lambda: fastnn.activation(QUARTIC)),
        (r"function of \(output, target\)", lambda: fastnn.loss(gallery.swishy)),
        ("derivative of fastnn.act", lambda: fastnn.activation(gallery.swishy, derivative=3)),
        ("name must be a string", lambda: fastnn.activation(gallery.swishy, name="")),
        (r"fastnn\.activation\(f\)", lambda: Dense(3, activation=gallery.swishy)),
        ("must be a name", lambda: Dense(3, activation=fastnn.loss(QUARTIC))),
        (r"fastnn\.loss\(f\)", lambda: MODEL.fit([[1.0]], [1.0], loss=QUARTIC)),
        (r"fastnn\.loss\(f\)", lambda: MODEL.fit([[1.0]], [1.0], loss=SWISHY)),
    ],
)
def test_wrong_types(message: str, make) -> None:
    with pytest.raises(TypeError, match=message):
        make()


# --------------------------------------------------------------------------- engines


@fastnn.activation
def nan_at_zero(x):
    """What padded lanes hold would spread."""
    return math.sin(x) / x


@fastnn.loss
def nan_at_origin(output, target):
    """The same for a loss."""
    return (output - target) ** 2 / (output * output + target * target)


def _network(engine: ModuleType, dtype: np.dtype, activation, widths=(19, 7, 3)):
    """A network whose layers are all padded, and data with a short last batch."""
    inputs = (5, *widths[:-1])
    layers = tuple(
        dense(i, o, activation, dropout=0.2 if k == 1 else 0.0)
        for k, (i, o) in enumerate(zip(inputs, widths, strict=True))
    )
    network = engine.Network(layers, dtype)
    rng = np.random.default_rng(5)
    network.set_parameters(rng.normal(size=network.size).astype(dtype) / 2)
    X, target = rng.normal(size=(77, 5)).astype(dtype), rng.normal(size=(77, 3)).astype(dtype)
    weight = rng.uniform(0, 2, 77).astype(dtype)
    return network, X, target, weight


@pytest.mark.parametrize("activation", [SWISHY, LEAKY, nan_at_zero], ids=str)
@pytest.mark.parametrize("loss", [LOG_COSH, nan_at_origin], ids=str)
def test_engines_agree(
    compiled: ModuleType, reference: ModuleType, dtype, activation, loss
) -> None:
    """Values, gradients, and three epochs with clipping, dropout, weights and a short batch."""
    found = []
    for engine in (compiled, reference):
        network, X, target, weight = _network(engine, dtype, activation)
        clipped = optimizer("momentum", momentum=0.9, clip_norm=0.05)  # Adam would not see it
        with network.trainer(LossSpec(loss), clipped, 16, 7) as trainer:
            value, gradient = trainer.gradient(X, target, weight)
            parts = [network.predict(X), value, gradient, trainer.evaluate(X, target, weight)]
            parts.append(network.input_gradient(X, np.array([0, 2])))
            rates = np.full(5, 0.1)
            parts += [trainer.epoch(X, target, weight, epoch, rates, True) for epoch in range(3)]
            parts.append(network.get_parameters())
        found.append([np.asarray(part, np.float64) for part in parts])
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for ours, theirs in zip(*found, strict=True):
        assert np.isfinite(theirs).all()
        assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)


def test_a_custom_mse_is_the_mse(engine: ModuleType, dtype: np.dtype) -> None:
    """The same normalisation: the mean over rows and outputs, with weights."""
    square = fastnn.loss(lambda output, target: (output - target) ** 2)
    network, X, target, weight = _network(engine, dtype, "tanh")
    for w in (weight, None, np.zeros(77, dtype)):
        found = []
        for name in (square, "mse"):
            with network.trainer(LossSpec(name), SGD, 77, 0) as trainer:
                found.append(trainer.gradient(X, target, w))
        (value, gradient), (expected, expected_gradient) = found
        np.testing.assert_allclose(value, expected, rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def test_threads_change_nothing(compiled: ModuleType, dtype: np.dtype) -> None:
    found = set()
    for threads in (1, 2, 3):
        network, X, target, _ = _network(compiled, dtype, SWISHY, (40, 33, 3))
        with network.trainer(LossSpec(LOG_COSH), SGD, 77, 7, threads) as t:
            losses = [t.epoch(X, target, None, e, np.full(1, 0.05), True) for e in range(2)]
        arrays = (network.get_parameters(), network.predict(X, threads))
        found.add((*losses, *(array.tobytes() for array in arrays)))
    assert len(found) == 1


@each_activation
def test_an_element_does_not_depend_on_its_place(function) -> None:
    """Whatever the number of elements, and what lies beside."""
    custom = _activation(function)
    z = _points(6, 160).astype(np.float32)
    value, slope = custom._compiled((z,))
    for first, last in ((0, 16), (16, 64), (16, 80), (48, 160), (0, 1), (7, 150)):
        part, part_slope = custom._compiled((z[first:last],))
        assert part.tobytes() == value[first:last].tobytes()
        assert part_slope.tobytes() == slope[first:last].tobytes()
        assert _value_only(custom, z[first:last]).tobytes() == value[first:last].tobytes()


def test_what_python_raises_is_what_ieee_has() -> None:
    log = fastnn.activation(lambda x: math.log(x) + 0).value(np.array([0.0, -1.0, 2.0]))
    np.testing.assert_equal(log, [-INF, NAN, math.log(2.0)])
    assert fastnn.activation(lambda x: math.exp(x) + 0).value(np.array([800.0])) == [INF]
    inverse = fastnn.activation(lambda x: 1 / x, derivative=lambda x: -1 / x**2)
    assert (inverse.value(np.zeros(1)), inverse.slope(np.zeros(1))) == ([INF], [-INF])


# --------------------------------------------------------------------------- models


def _data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    X = rng.uniform(-2, 2, (256, 2))
    return X, np.sin(X[:, :1]) * X[:, 1:]


def test_fit_learns(engine: ModuleType) -> None:
    X, y = _data()
    layers = [Dense(16, activation=SWISHY), Dense(16, activation=LEAKY), Dense(1)]
    model = Sequential(layers, input_size=2, seed=0, engine=engine.NAME)
    history = model.fit(X, y, loss=LOG_COSH, optimizer=Adam(1e-2), epochs=20)
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    assert model.evaluate(X, y, LOG_COSH) < 0.1 * history["loss"][0]
    before = model.train_on_batch(X, y, LOG_COSH, Adam(1e-2))
    assert before == pytest.approx(model.history["loss"][-1], rel=0.5)
    assert model.loss_and_gradient(X, y, LOG_COSH)[1].shape == (model.size,)
    assert "Dense swishy" in model.summary()


def test_save_names_the_function_and_load_asks_for_it(tmp_path: Path) -> None:
    X, _ = _data()
    model = Sequential([Dense(4, activation=SWISHY), Dense(1, activation=LEAKY)], input_size=2)
    path = tmp_path / "model.safetensors"
    model.save(path)
    with pytest.raises(ValueError, match=r"activation 'swishy'.*=\{'swishy': swishy, 'leak"):
        fastnn.load(path)
    with pytest.raises(ValueError, match="custom activation 'leak'"):
        fastnn.load(path, custom={"swishy": SWISHY})
    with pytest.raises(TypeError, match=r"custom\['leak'\]"):
        fastnn.load(path, custom={"swishy": SWISHY, "leak": gallery.leaky(0.2)})
    again = fastnn.load(path, custom={"swishy": SWISHY, "leak": LEAKY})
    assert again.layers == model.layers
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_two_functions_of_one_name_cannot_be_saved(tmp_path: Path) -> None:
    two = [fastnn.activation(gallery.leaky(slope)) for slope in (0.2, 0.3)]
    model = Sequential([Dense(2, activation=a) for a in two], input_size=2)
    with pytest.raises(ValueError, match="two different activations are called 'leak'"):
        model.save(tmp_path / "model")
    named = [fastnn.activation(gallery.leaky(s), name=f"leaky_{s}") for s in (0.2, 0.3)]
    model = Sequential([Dense(2, activation=a) for a in named], input_size=2)
    model.save(tmp_path / "model")
    again = fastnn.load(tmp_path / "model", custom={a.name: a for a in named})
    np.testing.assert_array_equal(again.predict([[1.0, -1.0]]), model.predict([[1.0, -1.0]]))


# --------------------------------------------------------------------------- identity


def test_closures_never_collide_and_equal_ones_share() -> None:
    a, b, again = (fastnn.activation(gallery.leaky(s)) for s in (0.2, 0.3, 0.2))
    assert len({a, b, again}) == 2
    assert a == again != b
    assert a.address(8) == again.address(8) != b.address(8)
    assert [f._compiled((np.array([-1.0]),))[0][0] for f in (a, b)] == [-0.2, -0.3]
    assert fastnn.activation(gallery.leaky(1)) != fastnn.activation(gallery.leaky(1.0))
    assert fastnn.activation(gallery.swishy) != fastnn.activation(gallery.swishy, name="other")
    assert fastnn.activation(gallery.swishy) != "swishy"
    zeros, one = np.zeros(5000), np.eye(1, 5000, 2500)[0]  # whose repr leaves out the middle
    assert fastnn.activation(gallery.shifted(zeros)) != fastnn.activation(gallery.shifted(one))


def test_globals_are_read_at_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fastnn.activation(gallery.branches)
    monkeypatch.setattr(gallery, "SLOPE", 0.5)
    after = fastnn.activation(gallery.branches)
    z = np.array([-1.0])
    for custom, expected in ((before, -0.125), (after, -0.5)):
        assert custom.value(z) == _value_only(custom, z) == [expected]
        assert _value_only(custom, z.astype(np.float32)) == [expected]  # compiled only now
    assert before != after


def test_nothing_is_compiled_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = _data()
    custom = fastnn.activation(gallery.leaky(0.44))
    model = Sequential([Dense(4, activation=custom), Dense(1)], input_size=2)
    model.fit(X, y, loss=LOG_COSH, epochs=1)
    monkeypatch.delattr(users, "kernel")
    model.fit(X, y, loss=LOG_COSH, epochs=3)
    twin = Sequential([Dense(9, activation=fastnn.activation(gallery.leaky(0.44)))], input_size=2)
    twin.predict(X)
    with pytest.raises(AttributeError, match="kernel"):
        fastnn.activation(gallery.leaky(0.45))


def test_decorators_with_and_without_arguments() -> None:
    @fastnn.activation(name="doubled", derivative=lambda x: 2.0)
    def double(x):
        """Twice."""
        return 2 * x

    @fastnn.loss()
    def square(output, target):
        return (output - target) ** 2

    assert (type(double), type(square)) == (CustomActivation, CustomLoss)
    assert (double.name, double(4), double.__doc__, str(double)) == (
        "doubled",
        8,
        "Twice.",
        "doubled",
    )
    assert (square(3, 1), repr(square)) == (4, "<fastnn.loss square>")
    nested = fastnn.activation(lambda x: double(x) + 1)
    assert nested._compiled((np.ones(1),))[0][0] == 3


def test_copies_and_pickles() -> None:
    assert pickle.loads(pickle.dumps(nan_at_zero)) is nan_at_zero  # by its name
    again = pickle.loads(pickle.dumps(SWISHY))  # by the name of its function
    assert (again, again.address(4)) == (SWISHY, SWISHY.address(4))
    assert copy.deepcopy(SWISHY) is copy.copy(SWISHY) is SWISHY
    X, y = _data()
    layers = [Dense(4, activation=nan_at_zero), Dense(1, activation=SWISHY)]
    model = Sequential(layers, input_size=2)
    model.fit(X, y, loss=LOG_COSH, epochs=1)
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(LEAKY)  # the closure has no name; cloudpickle takes it by value


# --------------------------------------------------------------------------- processes


def _output(*arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    command, env = [sys.executable, *arguments], {**os.environ, **environment}
    return subprocess.check_output(command, text=True, timeout=120, env=env).strip()


def test_joblib_workers(tmp_path: Path) -> None:
    """In other processes: functions of a module, of the script itself, and closures."""
    code = """
        import fastnn, joblib, pickle, numpy as np
        from fastnn import Dense, Sequential

        @fastnn.activation
        def bent(x):
            return x + (x * x + 1) ** 0.5

        def leaky(slope):
            return fastnn.activation(lambda x: x if x > 0 else slope * x)

        if __name__ == "__main__":
            import script as module
            assert pickle.loads(pickle.dumps(bent)) == bent
            X = np.linspace(-1, 1, 6).reshape(3, 2)
            models = [
                Sequential([Dense(2, activation=a)], input_size=2, seed=0)
                for a in (module.bent, module.leaky(0.3), bent, leaky(0.4))
            ]
            parallel = joblib.Parallel(n_jobs=2)
            found = parallel(joblib.delayed(model.predict)(X) for model in models)
            print([bool((f == m.predict(X)).all()) for f, m in zip(found, models)])
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(code))
    assert _output(str(tmp_path / "script.py")) == str([True] * 4)


def test_without_numba() -> None:
    """The NumPy engine does with a given derivative; all else names the command."""
    code = """
        import sys
        sys.modules["numba"] = sys.modules["llvmlite"] = None
        import fastnn
        from fastnn import Dense, Sequential

        def cube(x):
            return x * x * x

        def refused(function, *arguments, **keywords):
            try:
                function(*arguments, **keywords)
            except ImportError as error:
                print('pip install "fastnn-kernels[numba]"' in str(error))

        refused(fastnn.activation, cube)
        layers = [Dense(1, activation=fastnn.activation(cube, derivative=lambda x: 3 * x * x))]
        model = Sequential(layers, input_size=1, engine="numpy")
        model.fit([[1.0], [0.5]], [1.0, 0.2], "mse", epochs=2)
        refused(Sequential, layers, input_size=1, engine="cython")
        loss = fastnn.loss(lambda o, t: (o - t) ** 2, derivative=lambda o, t: 2 * (o - t))
        model = Sequential([Dense(1)], input_size=1, engine="cython")
        model.train_on_batch([[1.0]], [2.0], "mse")
        before = model.optimizer_state()[0], model.parameters.tolist()
        refused(model.fit, [[1.0]], [1.0], loss=loss)
        assert before == (model.optimizer_state()[0], model.parameters.tolist())
    """
    assert _output("-W", "error", "-c", textwrap.dedent(code)).split() == ["True"] * 3


def test_intels_vector_mathematics_change_nothing() -> None:
    """SVML, that Numba switches on where it finds the library; here without: nothing calls it."""
    code = """
        import math, sys
        import fastnn, llvmlite.binding, numba, numpy as np

        if sys.argv[1:]:
            llvmlite.binding.set_option("SVML", "-vector-library=SVML")
            numba.config.USING_SVML = True
        swish = fastnn.activation(lambda x: x / (1 + math.exp(-x)))
        print([array.tobytes().hex() for array in swish._compiled((np.linspace(-3, 3, 99),))])
    """
    command = ("-c", textwrap.dedent(code))
    assert _output(*command, "svml") == _output(*command)


# --------------------------------------------------------------------------- generated code


def _loops(custom: CustomActivation, itemsize: int) -> list[str]:
    """The machine code of its loops over a chunk, with slope and without."""
    assembly = custom._kernel(itemsize)._library.get_asm_str()
    found = re.findall(r"^fastnn_custom_\d+_(?:True|False):(.*?)\.Lfunc_end", assembly, re.M | re.S)
    assert len(found) == 2
    return found


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("name", ["swishy", "tanh_like", "gelu_erf", "ternary", "mish", "snake"])
def test_loops_are_vectors_without_calls(name: str, itemsize: int) -> None:
    """Each works on whole vectors of this processor and calls nothing."""
    for body in _loops(_activation(gallery.ACTIVATIONS[name]), itemsize):
        assert not re.search(r"\b(callq?|blr?)\b", body)
        if numba_compile.host().registers.bits == 512:
            assert "%zmm" in body
        assert re.search(r"(div|mul)p[sd]|fmla|fmul\t*\s*v", body)
        assert not re.search(r"\bv?(div|mul|add)s[sd]\b", body)  # no number on its own
        if itemsize == 4:  # a constant is rounded once; the arithmetic is the array's
            assert not re.search(r"\bv?(mul|add|div|fmadd\w*|fnmadd\w*)pd\b", body)
