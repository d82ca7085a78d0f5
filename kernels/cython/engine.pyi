"""What the compiled module offers; the meaning is in ``fastnn/engines.py``."""

from typing import Any, final

from numpy.typing import NDArray

Array = NDArray[Any]

NAME: str
ISA: str
ACTIVATIONS: tuple[str, ...]
LOSSES: tuple[str, ...]
OPTIMIZERS: tuple[str, ...]

@final
class Network:
    size: int
    def __init__(self, layers: tuple[Any, ...], dtype: Any) -> None: ...
    def get_parameters(self) -> Array: ...
    def set_parameters(self, flat: Array) -> None: ...
    def get_state(self) -> tuple[int, tuple[Array, ...]]: ...
    def set_state(self, step: int, moments: tuple[Array, ...]) -> None: ...
    def predict(self, X: Array, threads: int = 1) -> Array | None: ...
    def input_gradient(self, X: Array, outputs: Array) -> Array: ...
    def trainer(
        self,
        loss: Any,
        optimizer: Any,
        batch_size: int,
        seed: int,
        threads: int = 1,
        exactly: bool = True,
    ) -> Trainer: ...

@final
class Trainer:
    @property
    def steps(self) -> int: ...
    @property
    def penalty(self) -> float: ...
    def epoch(
        self,
        X: Array,
        target: Array,
        weight: Array | None,
        epoch: int,
        rates: Array,
        shuffle: bool | Array,
    ) -> float: ...
    def step(self, X: Array, target: Array, weight: Array | None, rate: float) -> float | None: ...
    def evaluate(self, X: Array, target: Array, weight: Array | None) -> float: ...
    def gradient(self, X: Array, target: Array, weight: Array | None) -> tuple[float, Array]: ...
    def __enter__(self) -> Trainer: ...
    def __exit__(self, *exc: object) -> None: ...

def linear_forward(
    X: Array, weight: Array, bias: Array | None, activation: str, out: Array
) -> None: ...
def linear_backward(
    X: Array,
    weight: Array,
    delta: Array,
    input_delta: Array | None,
    weight_gradient: Array | None,
    bias_gradient: Array | None,
) -> None: ...
def activation_forward(Z: Array, activation: str, out: Array) -> None: ...
def activation_backward(Z: Array, output_delta: Array, activation: str, out: Array) -> None: ...
def loss_value_and_delta(
    output: Array,
    target: Array,
    weight: Array | None,
    loss: str,
    parameter: float,
    out: Array,
) -> float: ...
def optimizer_update(
    parameters: Array,
    gradient: Array,
    moments: tuple[Array, ...],
    optimizer: Any,
    rate: float,
    step: int,
) -> None: ...
def all_finite(values: Array) -> bool: ...
def fma_peak(dtype: Any, seconds: float = 0.1) -> float: ...
def available_levels() -> tuple[str, ...]: ...
