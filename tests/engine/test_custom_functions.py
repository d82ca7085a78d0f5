"""User functions: their derivatives, what is refused, and their life in every engine.

The oracle is mpmath: the same Python function runs with mpmath's functions and 40 digits,
and its derivative is taken numerically there. It shares nothing with the dual numbers.
"""

from __future__ import annotations

import copy
import functools
import math
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

import fastnn
from fastnn import Adam, Dense, Sequential
from fastnn.custom import CustomActivation, CustomLoss
from fastnn.kernels.contract import LayerSpec, LossSpec, OptimizerSpec

#: Bits that the oracle works with: central differences keep more than 1e-16 of them.
DIGITS = 40


def _name(function) -> str:
    return function.__qualname__.replace(".<locals>.", ".")


@pytest.fixture
def with_mpmath(monkeypatch: pytest.MonkeyPatch):
    """Has the gallery's functions compute with mpmath's numbers."""

    def where(condition, yes, no):
        return yes if condition else no

    shim = SimpleNamespace(
        **{
            name: getattr(mp, name) for name in ("exp", "sin", "cos", "tanh", "sqrt", "erf", "erfc")
        },
        **{name: getattr(mp, name) for name in ("asin", "asinh", "atanh", "atan", "atan2", "sinh")},
        **{
            name: getattr(mp, name) for name in ("cosh", "expm1", "log1p", "hypot", "floor", "ceil")
        },
        pi=mp.pi,
        log=lambda x, base=mp.e: mp.log(x, base),
        log2=lambda x: mp.log(x, 2),
        log10=mp.log10,
        abs=abs,
        copysign=lambda x, y: abs(x) * (1 if y >= 0 else -1),
        square=lambda x: x * x,
        where=where,
        clip=lambda x, low, high: min(max(x, low), high),
        maximum=max,
        logaddexp=lambda a, b: mp.log(mp.exp(a) + mp.exp(b)),
    )
    monkeypatch.setattr(gallery, "math", shim)
    monkeypatch.setattr(gallery, "np", shim)
    with mp.workdps(DIGITS):
        yield


def _points(seed: int, count: int) -> np.ndarray:
    """Numbers up to 7.5, most of them near 0, where kinks are not met by chance."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-7.5, 7.5, count // 2), rng.normal(size=count - count // 2)])


def _assert_close(actual: np.ndarray, expected: list, tolerance: float) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert abs(a - e) <= tolerance * max(1, abs(e)), (a, e)


#: One object for each function, as equal objects share what is compiled while one lives.
_activation = functools.cache(fastnn.activation)


def _value_only(custom: CustomActivation, z: np.ndarray) -> np.ndarray:
    """What the kernel gives where nobody asks for the slope."""
    value = z.copy()
    custom._kernel(z.itemsize)(value.ctypes.data, None, z.size)
    return value


# --------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("function", gallery.ACTIVATIONS, ids=_name)
def test_activation_and_its_slope(function, request: pytest.FixtureRequest) -> None:
    custom = _activation(function)
    z = _points(1, 30)
    value, slope = custom._compiled((z,))
    request.getfixturevalue("with_mpmath")
    _assert_close(value, [function(mp.mpf(x)) for x in z], 1e-12)
    _assert_close(slope, [mp.diff(function, mp.mpf(x)) for x in z], 1e-12)


@pytest.mark.parametrize("function", gallery.LOSSES, ids=_name)
def test_loss_and_its_slope(function, request: pytest.FixtureRequest) -> None:
    custom = fastnn.loss(function)
    output, target = _points(2, 30), _points(3, 30)
    value, slope = custom._compiled((output, target))
    request.getfixturevalue("with_mpmath")
    pairs = [(mp.mpf(o), mp.mpf(t)) for o, t in zip(output, target, strict=True)]
    _assert_close(value, [function(o, t) for o, t in pairs], 1e-12)
    slopes = [mp.diff(lambda o, t=t: function(o, t), o) for o, t in pairs]
    _assert_close(slope, slopes, 1e-12)


@pytest.mark.parametrize("function", gallery.ACTIVATIONS, ids=_name)
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


def test_kinks_are_pytorchs() -> None:
    def slope_at_zero(f) -> float:
        def function(x):
            return f(x)

        return float(fastnn.activation(function)._compiled((np.zeros(1),))[1][0])

    assert slope_at_zero(lambda x: max(x, 0.0)) == 0
    assert slope_at_zero(lambda x: max(0, x)) == 0
    assert slope_at_zero(lambda x: min(x, 0)) == 0
    assert slope_at_zero(abs) == 0
    assert slope_at_zero(lambda x: x if x > 0 else 0.01 * x) == 0.01
    assert slope_at_zero(lambda x: max(x, 3 * x)) == 2  # each of two that vary has half
    assert slope_at_zero(lambda x: x**2 + x**0) == 0


def test_what_saturates_has_no_slope(dtype: np.dtype) -> None:
    z = np.concatenate([-np.geomspace(1, 1e4, 500), [-np.inf]]).astype(dtype)
    for function in (
        gallery.swishy,
        lambda x: 1 / (1 + math.exp(-2 * x)),
        lambda x: 1 / (1 + 2**-x),
    ):
        value, slope = fastnn.activation(function)._compiled((z,))
        assert not np.isnan(slope[:-1]).any()
        assert np.abs(slope[:-1]).max() < 0.5
        assert value[-2] == slope[-2] == 0


def test_special_numbers() -> None:
    def compiled(f, *numbers: float) -> list[float]:
        def function(x):
            return f(x)

        return fastnn.activation(function)._compiled((np.array(numbers),))[0].tolist()

    inf, nan = np.inf, np.nan
    np.testing.assert_equal(compiled(math.exp, -inf, inf, nan, 800.0), [0, inf, nan, inf])
    np.testing.assert_equal(
        compiled(math.log, 0.0, -1.0, inf, nan, 5e-324),
        [-inf, nan, inf, nan, -744.4400719213812],
    )
    np.testing.assert_equal(compiled(math.tanh, -inf, inf, nan), [-1, 1, nan])
    np.testing.assert_equal(compiled(math.sqrt, -1.0, inf, nan), [nan, inf, nan])
    np.testing.assert_equal(compiled(math.erf, -inf, inf, nan), [-1, 1, nan])
    np.testing.assert_equal(compiled(math.sin, inf, nan), [nan, nan])
    np.testing.assert_equal(compiled(math.log1p, -1.0, inf, -2.0), [-inf, inf, nan])
    np.testing.assert_equal(compiled(lambda x: max(x, 0.0), nan, -inf, inf), [nan, 0, inf])
    np.testing.assert_equal(compiled(lambda x: max(0.0, x), nan), [nan])
    np.testing.assert_equal(compiled(lambda x: x**1.5, -2.0, 0.0, inf), [nan, 0, inf])
    np.testing.assert_equal(compiled(lambda x: x**3.0, -2.0, inf), [-8, inf])
    np.testing.assert_equal(compiled(lambda x: x**-1.0, 0.0), [inf])
    np.testing.assert_equal(compiled(lambda x: 1 / x, 0.0), [inf])
    np.testing.assert_equal(compiled(lambda x: math.atan2(0.0, x), -1.0, 1.0), [np.pi, 0])


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
    custom = fastnn.activation(smooth, derivative=slope)
    model = Sequential(
        [Dense(3, activation=custom)], input_size=3, engine=engine.NAME, dtype="float64"
    )
    model.weights = [(np.eye(3), np.zeros(3))]
    X = np.array([[0.5, -1.0, 2.0]])
    expected = [[math.lgamma(x * x + 1) for x in X[0]]]
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-12)
    np.testing.assert_allclose(
        np.diagonal(model.input_gradient(X)[0]), [slope(x) for x in X[0]], rtol=1e-6
    )


def test_a_wrong_derivative_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"wrong: at x = -5\.2137 it is 1, central .* give 0\.5"
    ) as e:
        fastnn.activation(lambda x: x / 2, derivative=lambda x: 1.0, name="half")
    assert "'half'" in str(e.value)
    with pytest.raises(ValueError, match=r"at output = .*, target = .* central differences give"):
        fastnn.loss(gallery.quartic, derivative=lambda o, t: 3 * (o - t) ** 3)


def test_a_right_derivative_is_used() -> None:
    custom = fastnn.activation(gallery.hard_tanh, derivative=lambda x: 1.0 if -1 <= x <= 1 else 0.0)
    for itemsize, dtype in ((4, np.float32), (8, np.float64)):
        z = np.array([-2, -1, 0.5, 1, 3], dtype)
        _, slope = custom._compiled((z,))
        assert slope.tolist() == [0, 1, 1, 1, 0] == custom.slope(z).tolist()  # 0 by duals at ±1
        assert custom.address(itemsize)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fastnn.activation(abs), "plain Python function"),
        (lambda: fastnn.activation(gallery.quartic), r"function of \(x\)"),
        (lambda: fastnn.loss(gallery.swishy), r"function of \(output, target\)"),
        (
            lambda: fastnn.activation(gallery.swishy, derivative=3),
            "derivative of fastnn.activation",
        ),
        (lambda: fastnn.activation(gallery.swishy, name=""), "name must be a string"),
        (lambda: Dense(3, activation=gallery.swishy), r"fastnn\.activation\(f\)"),
        (lambda: Dense(3, activation=fastnn.loss(gallery.quartic)), "must be a name"),
        (lambda: _fit("mse", loss=gallery.quartic), r"fastnn\.loss\(f\)"),
        (lambda: _fit("mse", loss=fastnn.activation(gallery.swishy)), r"fastnn\.loss\(f\)"),
    ],
)
def test_wrong_types(make, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def _fit(_: str, loss) -> None:
    Sequential([Dense(1)], input_size=1).fit([[1.0]], [1.0], loss=loss)


# --------------------------------------------------------------------------- engines

SWISHY, LEAKY = fastnn.activation(gallery.swishy), fastnn.activation(gallery.leaky(0.2))
LOG_COSH = fastnn.loss(gallery.log_cosh)


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
        LayerSpec(i, o, activation, use_bias=True, dropout=0.2 if k == 1 else 0.0)
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
        optimizer = OptimizerSpec("adam", 2, beta_1=0.9, beta_2=0.999, epsilon=1e-8, clip_norm=0.5)
        with network.trainer(LossSpec(loss), optimizer, 16, 7) as trainer:
            value, gradient = trainer.gradient(X, target, weight)
            parts = [network.predict(X), value, gradient, trainer.evaluate(X, target, weight)]
            parts.append(network.input_gradient(X, np.array([0, 2])))
            rates = np.full(5, 1e-3)
            parts += [trainer.epoch(X, target, weight, epoch, rates, True) for epoch in range(3)]
            parts.append(network.get_parameters())
        found.append([np.asarray(part, np.float64) for part in parts])
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for ours, theirs in zip(*found, strict=True):
        assert np.isfinite(theirs).all()
        assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)


def test_the_gradient_is_that_of_central_differences(engine: ModuleType) -> None:
    network, X, target, weight = _network(engine, np.dtype(np.float64), SWISHY)
    with network.trainer(LossSpec(LOG_COSH), OptimizerSpec("sgd", 0), 77, 0) as trainer:
        _, gradient = trainer.gradient(X, target, weight)
        flat, h = network.get_parameters(), 1e-5
        for index in range(0, network.size, 11):
            sides = []
            for step in (h, -h):
                moved = flat.copy()
                moved[index] += step
                network.set_parameters(moved)
                sides.append(trainer.evaluate(X, target, weight))
            assert abs((sides[0] - sides[1]) / (2 * h) - gradient[index]) <= 1e-9


def test_a_custom_mse_is_the_mse(engine: ModuleType, dtype: np.dtype) -> None:
    """The same normalisation: the mean over rows and outputs, with weights."""
    square = fastnn.loss(lambda output, target: (output - target) ** 2)
    network, X, target, weight = _network(engine, dtype, "tanh")
    for w in (weight, None, np.zeros(77, dtype)):
        found = []
        for name in (square, "mse"):
            with network.trainer(LossSpec(name), OptimizerSpec("sgd", 0), 77, 0) as trainer:
                found.append(trainer.gradient(X, target, w))
        (value, gradient), (expected, expected_gradient) = found
        np.testing.assert_allclose(value, expected, rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def test_threads_change_nothing(compiled: ModuleType, dtype: np.dtype) -> None:
    found = set()
    for threads in (1, 2, 3):
        network, X, target, _ = _network(compiled, dtype, SWISHY, (40, 33, 3))
        with network.trainer(LossSpec(LOG_COSH), OptimizerSpec("sgd", 0), 77, 7, threads) as t:
            losses = [t.epoch(X, target, None, e, np.full(1, 0.05), True) for e in range(2)]
        found.add(
            (
                tuple(losses),
                network.get_parameters().tobytes(),
                network.predict(X, threads).tobytes(),
            )
        )
    assert len(found) == 1


@pytest.mark.parametrize("function", gallery.ACTIVATIONS, ids=_name)
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
    z = np.array([0.0, -1.0, 2.0, 800.0])
    log = fastnn.activation(lambda x: math.log(x) + 0)
    exp = fastnn.activation(lambda x: math.exp(x) + 0)
    np.testing.assert_equal(log.value(z)[:2], [-np.inf, np.nan])
    assert log.value(z)[2] == math.log(2.0)
    assert exp.value(z)[3] == np.inf
    inverse = fastnn.activation(lambda x: 1 / x, derivative=lambda x: -1 / x**2)
    np.testing.assert_equal(inverse.value(z)[:1], [np.inf])
    np.testing.assert_equal(inverse.slope(z)[:1], [-np.inf])


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


def test_a_built_in_written_by_hand_trains_alike(engine: ModuleType) -> None:
    X, y = _data()
    found = []
    for activation, loss in (("silu", "mse"), (_silu, _square)):
        model = Sequential(
            [Dense(16, activation=activation, initializer="normal"), Dense(1)],
            input_size=2,
            seed=0,
            engine=engine.NAME,
            dtype="float64",
        )
        found.append((model.fit(X, y, loss=loss, epochs=3)["loss"], model.parameters))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-12)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-9, atol=1e-11)


_silu = fastnn.activation(lambda x: x / (1 + math.exp(-x)))
_square = fastnn.loss(lambda output, target: (output - target) ** 2)


def test_save_names_the_function_and_load_asks_for_it(tmp_path: Path) -> None:
    X, _ = _data()
    model = Sequential([Dense(4, activation=SWISHY), Dense(1, activation=LEAKY)], input_size=2)
    path = tmp_path / "model.safetensors"
    model.save(path)
    with pytest.raises(
        ValueError, match=r"custom activation 'swishy'.*custom=\{'swishy': swishy, 'leak"
    ):
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
    assert a == again
    assert hash(a) == hash(again)
    assert a != b
    assert a.address(8) == again.address(8) != b.address(8)
    assert [f._compiled((np.array([-1.0]),))[0][0] for f in (a, b)] == [-0.2, -0.3]
    assert fastnn.activation(gallery.leaky(1)) != fastnn.activation(gallery.leaky(1.0))
    assert fastnn.activation(gallery.swishy) != fastnn.activation(gallery.swishy, name="other")
    assert fastnn.activation(gallery.swishy) != "swishy"
    long = np.zeros(5000)  # whose repr leaves out the middle
    other = long.copy()
    other[2500] = 1
    assert fastnn.activation(gallery.shifted(long)) != fastnn.activation(gallery.shifted(other))


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

    def refuse(*args, **kwargs):
        raise AssertionError("compiled again")

    from fastnn.kernels import array_kernels  # noqa: PLC0415 - needs Numba

    monkeypatch.setattr(array_kernels, "_build", refuse)
    model.fit(X, y, loss=LOG_COSH, epochs=3)
    twin = Sequential([Dense(9, activation=fastnn.activation(gallery.leaky(0.44)))], input_size=2)
    twin.predict(X)
    with pytest.raises(AssertionError, match="compiled again"):
        fastnn.activation(gallery.leaky(0.45))


def test_decorators_with_and_without_arguments() -> None:
    @fastnn.activation(name="doubled", derivative=lambda x: 2.0)
    def double(x):
        """Twice."""
        return 2 * x

    assert isinstance(double, CustomActivation)
    assert (double.name, double(4), double.__doc__, str(double)) == (
        "doubled",
        8,
        "Twice.",
        "doubled",
    )

    @fastnn.loss()
    def square(output, target):
        return (output - target) ** 2

    assert isinstance(square, CustomLoss)
    assert square(3, 1) == 4
    assert repr(square) == "<fastnn.loss square>"
    nested = fastnn.activation(lambda x: double(x) + 1)
    assert nested._compiled((np.ones(1),))[0][0] == 3


def test_copies_and_pickles() -> None:
    assert pickle.loads(pickle.dumps(nan_at_zero)) is nan_at_zero  # by its name
    again = pickle.loads(pickle.dumps(SWISHY))  # by the name of its function
    assert again == SWISHY
    assert again.address(4) == SWISHY.address(4)
    assert copy.deepcopy(SWISHY) is copy.copy(SWISHY) is SWISHY
    X, y = _data()
    model = Sequential(
        [Dense(4, activation=nan_at_zero), Dense(1, activation=SWISHY)], input_size=2
    )
    model.fit(X, y, loss=LOG_COSH, epochs=1)
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(LEAKY)  # the closure has no name; cloudpickle takes it by value


def test_joblib_workers(tmp_path: Path) -> None:
    """In other processes: functions of a module, of the script itself, and closures."""
    (tmp_path / "functions.py").write_text(
        textwrap.dedent("""
        import math
        import fastnn

        @fastnn.activation
        def swishy(x):
            return x / (1 + math.exp(-1.5 * x))

        def leaky(slope):
            return fastnn.activation(lambda x: x if x > 0 else slope * x)
        """)
    )
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import fastnn, functions, joblib, pickle, numpy as np
        from fastnn import Dense, Sequential

        @fastnn.activation
        def bent(x):
            return x + (x * x + 1) ** 0.5

        if __name__ == "__main__":
            assert pickle.loads(pickle.dumps(bent)) == bent
            X = np.linspace(-1, 1, 6).reshape(3, 2)
            models = [
                Sequential([Dense(2, activation=a)], input_size=2, seed=0)
                for a in (functions.swishy, functions.leaky(0.3), bent)
            ]
            parallel = joblib.Parallel(n_jobs=2)
            found = parallel(joblib.delayed(model.predict)(X) for model in models)
            print([bool((f == m.predict(X)).all()) for f, m in zip(found, models)])
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.strip() == "[True, True, True]", done.stderr


def test_without_numba() -> None:
    """The NumPy engine does with a given derivative; all else names the command."""
    code = """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("numba", "llvmlite"):
                    raise ImportError("blocked " + name)

        sys.meta_path.insert(0, Blocker())
        import fastnn
        from fastnn import Dense, Sequential

        def cube(x):
            return x * x * x

        try:
            fastnn.activation(cube)
        except ImportError as error:
            print(error)
        custom = fastnn.activation(cube, derivative=lambda x: 3 * x * x)
        model = Sequential([Dense(1, activation=custom)], input_size=1, engine="numpy")
        model.fit([[1.0], [0.5]], [1.0, 0.2], "mse", epochs=2)
        try:
            Sequential([Dense(1, activation=custom)], input_size=1, engine="cython")
        except ImportError as error:
            print(error)
        loss = fastnn.loss(lambda o, t: (o - t) ** 2, derivative=lambda o, t: 2 * (o - t))
        model = Sequential([Dense(1)], input_size=1, engine="cython")
        model.train_on_batch([[1.0]], [2.0], "mse")
        before = model.optimizer_state()[0], model.parameters.tolist()
        try:
            model.fit([[1.0]], [1.0], loss=loss)
        except ImportError as error:
            print(error)
        assert before == (model.optimizer_state()[0], model.parameters.tolist())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all('pip install "fastnn-kernels[numba]"' in line for line in lines)


# --------------------------------------------------------------------------- generated code


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize(
    "function",
    [
        gallery.swishy,
        gallery.tanh_like,
        gallery.gelu_erf,
        gallery.ternary,
        gallery.mish,
        gallery.snake,
    ],
    ids=_name,
)
def test_loops_are_vectors_without_calls(function, itemsize: int) -> None:
    """Each loop over a chunk works on whole vectors of this processor and calls nothing."""
    custom = _activation(function)
    chunks = _functions(custom._kernel(itemsize).assembly, "fastnn_custom_")
    chunks = [body for name, body in chunks.items() if name.endswith(("_True", "_False"))]
    assert len(chunks) == 2
    for body in chunks:
        assert not re.search(r"\b(callq?|blr?)\b", body)
        if _has_avx512():
            assert "%zmm" in body
        assert re.search(r"(div|mul)p[sd]|fmla|fmul\t*\s*v", body)
        assert not re.search(r"\bv?(div|mul|add)s[sd]\b", body)  # no number on its own


def _functions(assembly: str, prefix: str) -> dict[str, str]:
    labels = list(re.finditer(rf"^({prefix}\w+):", assembly, re.MULTILINE))
    ends = [label.start() for label in labels[1:]] + [len(assembly)]
    bodies = {}
    for label, end in zip(labels, ends, strict=True):
        text = assembly[label.end() : end]
        bodies[label.group(1)] = text.partition(".Lfunc_end")[0]
    return bodies


def _has_avx512() -> bool:
    from numba.core.registry import cpu_target  # noqa: PLC0415 - Numba is loaded late

    return "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2]


def test_kernels_hold_no_float64_in_float32() -> None:
    """A constant is rounded once; the arithmetic is the array's."""
    body = SWISHY._kernel(4).assembly
    loops = "".join(b for n, b in _functions(body, "fastnn_custom_").items() if "_" in n)
    assert not re.search(r"\bv?(mul|add|div|fmadd\w*|fnmadd\w*)pd\b", loops)
