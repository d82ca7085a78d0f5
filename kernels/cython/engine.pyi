"""What the compiled module offers; the meaning is in ``kernels/contract.py``."""

from typing import Any, final

from numpy.typing import NDArray

Array = NDArray[Any]

NAME: str
ISA: str
ACTIVATIONS: tuple[str, ...]
LOSSES: tuple[str, ...]
OPTIMIZERS: tuple[str, ...]
KINDS: tuple[str, ...]

def available_levels() -> tuple[str, ...]: ...
def fma_peak(dtype: Any, seconds: float = 0.1) -> float: ...
def all_finite(values: Array) -> bool: ...

@final
class Kernels:
    def __init__(self) -> None: ...
    def install(self, itemsize: int, kind: str, row: str | None, address: int) -> None: ...
    def linear_forward(
        self, X: Array, weight: Array, bias: Array | None, activation: str, out: Array
    ) -> None: ...
    def linear_backward(
        self,
        X: Array,
        weight: Array,
        delta: Array,
        input_delta: Array | None,
        weight_gradient: Array | None,
        bias_gradient: Array | None,
    ) -> None: ...
    def activation_forward(self, Z: Array, activation: str, out: Array) -> None: ...
    def activation_backward(
        self, Z: Array, output_delta: Array, activation: str, out: Array
    ) -> None: ...
    def loss_value_and_delta(
        self,
        output: Array,
        target: Array,
        weight: Array | None,
        loss: str,
        parameter: float,
        out: Array,
    ) -> float: ...
    def optimizer_update(
        self,
        parameters: Array,
        gradient: Array,
        moments: tuple[Array, ...],
        optimizer: Any,
        rate: float,
        step: int,
    ) -> None: ...

_own: Kernels
linear_forward = _own.linear_forward
linear_backward = _own.linear_backward
activation_forward = _own.activation_forward
activation_backward = _own.activation_backward
loss_value_and_delta = _own.loss_value_and_delta
optimizer_update = _own.optimizer_update

class Network:
    size: int
    def __init__(
        self, layers: tuple[Any, ...], dtype: Any, kernels: Kernels | None = None
    ) -> None: ...
    def get_parameters(self) -> Array: ...
    def set_parameters(self, flat: Array) -> None: ...
    def get_state(self) -> tuple[int, tuple[Array, ...]]: ...
    def set_state(self, step: int, moments: tuple[Array, ...]) -> None: ...
    def predict(self, X: Array, threads: int = 1) -> Array | None: ...
    def input_gradient(self, X: Array, outputs: Array) -> Array: ...
    def trainer(
        self,
        loss: Any,
        optimizer: Any | None,
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
