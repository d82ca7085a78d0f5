"""Seeded random networks with data, loss and optimizer: the cases of all tests of agreement.

Rows of the contract come in turn, so that few cases meet all of them, and options as they
fall. A test that takes ``seeds()`` runs on the first few; the others are for ``-m thorough``.
Last, arrays as callers may have them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from fastnn.kernels import contract
from fastnn.kernels.contract import ACTIVATIONS, LOSSES, LayerSpec, LossSpec, OptimizerSpec
from fastnn.kernels.loader import load

FEW, MANY = 78, 500  # 3 for each of the optimizers below

HIDDEN = tuple(name for name in ACTIVATIONS if name != "softmax")
PROBABILITIES = tuple(name for name, row in ACTIVATIONS.items() if row.is_probability)

#: Where rounding decides a derivative; at 0 the second one of others may jump.
KINKS = {name: {0.0, *row.kinks} for name, row in ACTIVATIONS.items() if name != "identity"}

_NUMBERS = {"momentum": 0.9, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3, "momentum_decay": 0.04}

#: Every row of the optimizers, without and with weight decay.
OPTIMIZERS = {
    name + " decayed" * (decay > 0): contract.optimizer(
        name, weight_decay=decay, **{number: _NUMBERS[number] for number in row.numbers}
    )
    for name, row in contract.OPTIMIZERS.items()
    for decay in (0.0, 0.02)
}


def seeds(few: int = FEW, many: int = MANY) -> list[Any]:
    """For ``parametrize``: so many seeds by default, and so many in all."""
    return [pytest.param(i, marks=[pytest.mark.thorough] * (i >= few)) for i in range(many)]


class Case(NamedTuple):
    """A network, what it is trained for, and data; float arrays are float64.

    They hold float32 values, so that both dtypes start from the same numbers.
    """

    layers: tuple[LayerSpec, ...]
    parameters: np.ndarray
    loss: LossSpec
    optimizer: OptimizerSpec
    X: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    batch_size: int
    seed: int

    def data(self, dtype: Any) -> tuple[Any, ...]:
        return cast((self.X, self.target, self.weight), dtype)

    def rows(self, index: np.ndarray, batch_size: int) -> Case:
        """The case with the data of these rows."""
        weight = None if self.weight is None else self.weight[index]
        data = {"X": self.X[index], "target": self.target[index], "weight": weight}
        return self._replace(**data, batch_size=batch_size)

    @property
    def steps(self) -> int:
        """Updates of an epoch."""
        return math.ceil(len(self.X) / self.batch_size)

    def network(self, engine: ModuleType, dtype: Any = np.float64) -> Any:
        network = engine.Network(self.layers, np.dtype(dtype))
        network.set_parameters(self.parameters.astype(dtype))
        return network

    def trainer(self, network: Any, *threads: Any) -> Any:
        return network.trainer(self.loss, self.optimizer, self.batch_size, self.seed, *threads)

    def gradient(self, engine: ModuleType, dtype: Any = np.float64) -> tuple[float, np.ndarray]:
        with self.network(engine, dtype).trainer(self.loss, None, 1, 0) as trainer:
            return trainer.gradient(*self.data(dtype))


def cast(arrays: Iterable[Any], dtype: Any) -> tuple[Any, ...]:
    """All in the dtype, but for labels and what is None."""
    return tuple(a if a is None or a.dtype.kind == "i" else a.astype(dtype) for a in arrays)


def float32_values(values: np.ndarray) -> np.ndarray:
    """The float64 numbers that float32 holds, too."""
    return values.astype(np.float32).astype(np.float64)


def random_parameters(rng: np.random.Generator, layers: tuple[LayerSpec, ...]) -> np.ndarray:
    """Weights that keep activations of the order of one; others not where they start."""
    flat = rng.normal(0, 0.3, contract.size(layers))
    for spec, tensors in zip(layers, contract.views(layers, flat), strict=True):
        for name, tensor in tensors.items():
            if name == "weight":
                tensor[...] *= rng.uniform(1.5, 5) / math.sqrt(spec.inputs)
            else:
                tensor[...] += contract.KINDS[spec.kind].starts[name]
    return float32_values(flat)


def random_target(
    rng: np.random.Generator, loss: str, output: np.ndarray, rows: bool = True
) -> np.ndarray:
    """Targets that suit the loss: labels (unless ``rows``), probabilities, counts, or numbers."""
    (n, outputs), row = output.shape, LOSSES[loss]
    if row.takes_labels and not rows:
        return rng.integers(outputs, size=n)
    if row.takes_labels:
        target = rng.random((n, outputs))  # they need not sum to one
    elif row.high == 1:
        target = np.where(rng.random((n, outputs)) < 0.8, rng.integers(2, size=output.shape), 0.3)
    elif row.values:
        target = rng.choice(row.values, (n, outputs))
    elif row.low == 0:
        target = rng.poisson(1.0, (n, outputs)).astype(np.float64)
    else:
        target = output + rng.normal(0, 1, (n, outputs))
    return float32_values(target)


def _margins(case: Case) -> np.ndarray:
    """For each row, how near any z, or an error, comes to where a derivative jumps."""
    output, passes = case.network(load("numpy")).forward(case.X, case.loss.fused)
    near = np.full(len(case.X), np.inf)
    for spec, layer in zip(case.layers, passes, strict=True):
        for kink in KINKS.get(spec.activation, ()):
            near = np.minimum(near, np.abs(layer.Z - kink).min(axis=1))
    if case.loss.name.endswith("probabilities") and case.layers[-1].activation == "hard_sigmoid":
        near = np.minimum(near, np.minimum(output, 1 - output).min(axis=1) / 100)  # of its pole
    elif case.loss.name == "hinge":
        near = np.minimum(near, np.abs(output - np.where(case.target > 0, 1, -1)).min(axis=1))
    elif case.loss.name in ("mae", "quantile", "huber"):
        at = case.loss.parameter if case.loss.name == "huber" else 0.0
        near = np.minimum(near, np.abs(np.abs(output - case.target) - at).min(axis=1))
    return near


def _random_layers(
    rng: np.random.Generator, turn: int, last: str, is_bound: bool, small: bool
) -> Iterator[LayerSpec]:
    """One to four dense layers; here and there another kind before, between or behind them.

    ``is_bound``: the loss needs the last activation.
    """
    widest, epsilons = (8, (0.05, 0.5)) if small else (130, (1e-5, 1e-3))
    with_dropout, with_factors = rng.random(2) < 0.4

    def width() -> int:  # half are small: edges of the vector width are where mistakes live
        return int(rng.integers(1, rng.choice([min(20, widest), widest]) + 1))

    def factors() -> tuple[float, float]:
        first, second = rng.choice([0.0, 0.5, 1.0, 3.0], 2) if with_factors else (1.0, 1.0)
        return float(first), float(second)

    def dropout() -> float:
        return float(rng.choice([0.0, 0.1, 0.5])) if with_dropout else 0.0

    def others(features: int) -> Iterator[LayerSpec]:
        kind = rng.choice(["layer_norm", "scale", "none"], p=[0.15, 0.15, 0.7])
        if kind == "layer_norm":  # that of a single feature is always its shift
            scale, shift = bool(rng.random() < 0.7), bool(rng.random() < 0.7 or features == 1)
            epsilon = float(rng.choice(epsilons))
            yield contract.layer_norm(features, epsilon, scale, shift, dropout(), factors())
        elif kind == "scale":
            yield contract.scale(features, dropout(), factors())

    inputs, depth = width(), int(rng.integers(1, 5))
    for index in range(depth):
        yield from others(inputs)
        outputs = width()
        if small and index == depth - 1:  # a single class is always right
            outputs = max(2, outputs)
        name = HIDDEN[(turn + 5 * index) % len(HIDDEN)] if index < depth - 1 else last
        use_bias, own = rng.random(2) < (0.8, 0.3)
        bias_factors = factors() if own else None
        yield contract.dense(
            inputs, outputs, name, bool(use_bias), dropout(), factors(), bias_factors
        )
        inputs = outputs
    if not is_bound:
        yield from others(inputs)


@functools.cache
def random_case(seed: int, small: bool = False) -> Case:
    """Widths 1-130, up to 700 rows, any row and option of the contract.

    A small one, for slow truths, has widths and rows 1-8, several outputs, stays farther from
    kinks, and its layer norms do not magnify small differences.
    """
    rng = np.random.default_rng([2024, seed])
    name = list(LOSSES)[seed % len(LOSSES)]
    fused = LOSSES[name].fused_with if rng.random() < 0.6 else None
    of_probabilities = name.endswith("probabilities")
    outer = PROBABILITIES if of_probabilities else list(ACTIVATIONS)
    last = fused or outer[seed % len(outer)]
    is_bound = bool(fused) or of_probabilities or last == "softmax"
    layers = tuple(_random_layers(rng, seed, last, is_bound, small))
    parameter = 0.75 if LOSSES[name].parameter else 0.0
    loss = LossSpec(name, parameter, bool(fused), per_row=bool(rng.random() < 0.3))
    optimizer = list(OPTIMIZERS.values())[seed % len(OPTIMIZERS)]._replace(
        l2=float(rng.choice([0.0, 0.01])),
        clip_norm=float(rng.choice([0.0, 0.0, 0.5])),
        l2_by_weight=bool(rng.random() < 0.4),
    )
    n = int(rng.integers(1, 8 if small else rng.choice([20, 200, 700])))
    one_hot, weighted = rng.random(2) < (0.5, 0.4)
    weight = None
    if weighted:
        weight = float32_values(np.where(rng.random(n) < 0.2, 0, rng.uniform(0.1, 3, n)))
    empty = np.empty(0)
    case = Case(layers, empty, loss, optimizer, empty, empty, weight, 1, 2**64 - 1 - seed)
    # 1e-4: no float32 rounding of these sizes moves a value across a kink
    return with_data(rng, case, n, 2e-3 if small else 1e-4, bool(one_hot))


def with_data(rng: np.random.Generator, case: Case, n: int, margin: float, rows: bool) -> Case:
    """The case with n random rows, and parameters, that keep their distance from every kink."""
    while True:
        X = float32_values(rng.normal(size=(2 * n + 10, case.layers[0].inputs)))
        case = case._replace(parameters=random_parameters(rng, case.layers), X=X)
        output, _ = case.network(load("numpy")).forward(X, case.loss.fused)
        case = case._replace(target=random_target(rng, case.loss.name, output, rows))
        chosen = np.flatnonzero(_margins(case) > margin)[:n]
        if len(chosen) == n:
            break
    batch_size = max(1, round(n / rng.uniform(1.0, 6.0)))
    return case._replace(X=X[chosen], target=case.target[chosen], batch_size=batch_size)


def relative_error(value: np.ndarray, truth: np.ndarray) -> float:
    """‖value - truth‖ / ‖truth‖ in float64; plain ‖value‖ where the truth is zero."""
    difference = np.linalg.norm(np.asarray(value, np.float64) - truth)
    return float(difference / (np.linalg.norm(truth) or 1.0))


def layouts(array: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers in every layout that a caller may have."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1] + 3), array.dtype)
    strided = wide[..., 1 : 2 * array.shape[-1] + 1 : 2]
    unaligned = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    read_only = array.copy()
    strided[...] = unaligned[...] = array
    read_only.flags.writeable = False
    return {
        "plain": array,
        "fortran": np.asfortranarray(array),
        "strided": strided,
        "reversed": np.ascontiguousarray(array[::-1])[::-1],
        "unaligned": unaligned,
        "read-only": read_only,
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
    }
