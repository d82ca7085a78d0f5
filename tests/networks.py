"""Seeded random networks with data, loss and optimizer, for the tests of agreement."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.contract import (
    ACTIVATIONS,
    LOSSES,
    LayerSpec,
    LossSpec,
    OptimizerSpec,
)

HIDDEN = tuple(name for name in ACTIVATIONS if name != "softmax")
PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")  # what …_of_probabilities takes

#: Where f′ (or for elu and softsign f″) jumps, so that rounding decides a derivative.
KINKS = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "elu": (0.0,),
    "selu": (0.0,),
    "softsign": (0.0,),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_swish": (-3.0, 3.0),
}

#: Every row of the optimizers, with each of its own options once.
OPTIMIZERS = {
    "sgd": OptimizerSpec("sgd", 0),
    "sgd decayed": OptimizerSpec("sgd", 0, weight_decay=0.02),
    "momentum": OptimizerSpec("sgd", 1, momentum=0.9, weight_decay=0.01),
    "nesterov": OptimizerSpec("sgd", 1, momentum=0.8, nesterov=True),
    "momentum, rate inside": OptimizerSpec("sgd", 1, momentum=0.9, rate_in_velocity=True),
    "nesterov, rate inside": OptimizerSpec(
        "sgd", 1, momentum=0.8, nesterov=True, rate_in_velocity=True, weight_decay=0.01
    ),
    "rmsprop": OptimizerSpec("rmsprop", 1, beta_2=0.99, epsilon=1e-8, weight_decay=0.01),
    "rmsprop momentum": OptimizerSpec("rmsprop", 2, momentum=0.5, beta_2=0.9, epsilon=1e-7),
    "adagrad": OptimizerSpec("adagrad", 1, epsilon=1e-8, weight_decay=0.01),
    "adam": OptimizerSpec("adam", 2, beta_1=0.9, beta_2=0.999, epsilon=1e-8),
    "adam decayed": OptimizerSpec(
        "adam", 2, beta_1=0.8, beta_2=0.95, epsilon=1e-6, weight_decay=0.02
    ),
    "adam, epsilon hat": OptimizerSpec(
        "adam", 2, beta_1=0.9, beta_2=0.99, epsilon=1e-4, epsilon_hat=True
    ),
    "adamw": OptimizerSpec("adamw", 2, beta_1=0.9, beta_2=0.99, epsilon=1e-8, weight_decay=0.05),
}


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

    def data(self, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """X, target and weight in the dtype."""
        target = self.target if self.target.ndim == 1 else self.target.astype(dtype)
        return (
            self.X.astype(dtype),
            target,
            self.weight if self.weight is None else (self.weight.astype(dtype)),
        )

    def network(self, engine: ModuleType, dtype: Any) -> Any:
        """The network with its parameters, in an engine."""
        network = engine.Network(self.layers, np.dtype(dtype))
        network.set_parameters(self.parameters.astype(dtype))
        return network

    def trainer(self, network: Any, threads: int = 1) -> Any:
        """A trainer of the network for this case."""
        return network.trainer(self.loss, self.optimizer, self.batch_size, self.seed, threads)

    def gradient(self, engine: ModuleType, dtype: Any) -> tuple[float, np.ndarray]:
        """Loss and gradient over all rows."""
        with self.trainer(self.network(engine, dtype)) as trainer:
            return trainer.gradient(*self.data(dtype))


def layer_sizes(layers: tuple[LayerSpec, ...]) -> int:
    """The number of parameters."""
    return sum((spec.inputs + spec.use_bias) * spec.outputs for spec in layers)


def random_parameters(rng: np.random.Generator, layers: tuple[LayerSpec, ...]) -> np.ndarray:
    """Weights that keep activations of the order of one, and biases that are not zero."""
    pieces = []
    for spec in layers:
        scale = rng.uniform(0.5, 1.5) / math.sqrt(spec.inputs)
        pieces.append(rng.normal(0, scale, spec.inputs * spec.outputs))
        if spec.use_bias:
            pieces.append(rng.normal(0, 0.3, spec.outputs))
    return np.concatenate(pieces)


def random_target(
    rng: np.random.Generator, loss: str, output: np.ndarray, one_hot: bool
) -> np.ndarray:
    """Targets that suit the loss: labels or probabilities, counts, or numbers."""
    n, outputs = output.shape
    if loss.startswith("cross_entropy"):
        # rows of probabilities need not sum to one
        return rng.random((n, outputs)) if one_hot else rng.integers(outputs, size=n)
    if loss.startswith("binary"):
        return np.where(rng.random((n, outputs)) < 0.8, rng.integers(2, size=output.shape), 0.3)
    if loss == "poisson":
        return rng.poisson(1.0, (n, outputs)).astype(np.float64)
    return output + rng.normal(0, 1, (n, outputs))


def margins(case: Case, reference: ModuleType) -> np.ndarray:
    """For each row, how near any z, or an error, comes to where a derivative jumps."""
    network = case.network(reference, np.float64)
    output, passes = network.forward(case.X, case.loss.fused)
    near = np.full(len(case.X), np.inf)
    for spec, layer in zip(case.layers, passes, strict=True):
        for kink in KINKS.get(spec.activation, ()):
            near = np.minimum(near, np.abs(layer.Z - kink).min(axis=1))
    if case.loss.name in ("mae", "quantile", "huber"):
        at = case.loss.parameter if case.loss.name == "huber" else 0.0
        error = np.abs(output - case.target)
        near = np.minimum(near, np.abs(error - at).min(axis=1))
    return near


def with_data(
    rng: np.random.Generator,
    case: Case,
    reference: ModuleType,
    rows: int,
    margin: float,
    one_hot: bool = False,
) -> Case:
    """The case with ``rows`` random rows that keep their distance from every kink.

    The parameters are drawn afresh until there are enough such rows.
    """
    while True:
        X = rng.normal(size=(2 * rows + 10, case.layers[0].inputs)).astype(np.float32)
        case = case._replace(
            parameters=_float32_values(random_parameters(rng, case.layers)),
            X=X.astype(np.float64),
        )
        output, _ = case.network(reference, np.float64).forward(case.X, case.loss.fused)
        target = random_target(rng, case.loss.name, output, one_hot)
        target = target if target.ndim == 1 else _float32_values(target)
        case = case._replace(target=target)
        chosen = np.flatnonzero(margins(case, reference) > margin)[:rows]
        if len(chosen) == rows:
            return case._replace(X=case.X[chosen], target=target[chosen])


def _float32_values(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)


def random_loss(rng: np.random.Generator) -> tuple[LossSpec, str]:
    """A loss and an activation of the last layer that suits it."""
    name = str(rng.choice(LOSSES))
    fused = name in ("cross_entropy", "binary_cross_entropy") and rng.random() < 0.6
    if fused:
        last = "softmax" if name == "cross_entropy" else "sigmoid"
    elif name.endswith("probabilities"):
        last = str(rng.choice(PROBABILITIES))
    else:
        last = "identity" if rng.random() < 0.3 else str(rng.choice(ACTIVATIONS))
    parameter = {"huber": 0.75, "quantile": 0.3}.get(name, 0.0)
    return LossSpec(name, parameter, fused, per_row=bool(rng.random() < 0.3)), last


def random_case(seed: int, reference: ModuleType, max_rows: int = 200) -> Case:
    """Depth 1-4, widths 1-130, any activation, loss, optimizer and option."""
    rng = np.random.default_rng([2024, seed])
    depth = int(rng.integers(1, 5))
    # half of the widths are small: edges of the vector width are where mistakes live
    widths = [int(rng.integers(1, rng.choice([20, 131]))) for _ in range(depth + 1)]
    loss, last = random_loss(rng)
    activations = [*(str(name) for name in rng.choice(HIDDEN, depth - 1)), last]
    with_dropout = rng.random() < 0.4
    layers = tuple(
        LayerSpec(
            widths[i],
            widths[i + 1],
            activations[i],
            use_bias=bool(rng.random() < 0.8),
            dropout=float(rng.choice([0.0, 0.1, 0.5])) if with_dropout else 0.0,
        )
        for i in range(depth)
    )
    optimizer = OPTIMIZERS[str(rng.choice(list(OPTIMIZERS)))]._replace(
        l2=float(rng.choice([0.0, 0.01])),
        clip_norm=float(rng.choice([0.0, 0.0, 0.5])),
        l2_by_weight=bool(rng.random() < 0.4),
    )
    rows = int(rng.integers(1, max_rows + 1))
    empty = np.empty(0)
    case = Case(layers, empty, loss, optimizer, empty, empty, None, 1, 2**64 - 1 - seed)
    # 1e-4: no float32 rounding of these sizes moves a value across a kink
    case = with_data(rng, case, reference, rows, 1e-4, one_hot=bool(rng.random() < 0.5))
    if rng.random() < 0.4:
        weight = np.where(rng.random(rows) < 0.2, 0, rng.uniform(0.1, 3, rows))
        case = case._replace(weight=_float32_values(weight))
    batch_size = max(1, round(rows / rng.uniform(1.0, 6.0)))
    return case._replace(batch_size=batch_size)


def relative_error(value: np.ndarray, truth: np.ndarray) -> float:
    """‖value - truth‖ / ‖truth‖ in float64; plain ‖value‖ where the truth is zero."""
    difference = np.linalg.norm(np.asarray(value, np.float64) - truth)
    return float(difference / (np.linalg.norm(truth) or 1.0))
