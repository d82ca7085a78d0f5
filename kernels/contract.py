"""The contract between the model API and the engines, and the choice among them.

An engine is a module that provides the rows below: kernels on plain arrays, and a
``Network`` whose ``Trainer`` runs whole epochs. Everything above this page knows
engines only by these names; everything below it (``fastnn.kernels``) never imports
from above, which is why arguments are duck-typed there.

Invariants, stated here once
----------------------------
* ``dtype`` is float32 or float64. Every float array that reaches an engine has the
  network's dtype, is native, aligned and C-contiguous: *plain*. Labels are plain
  int64. Engines never write to their inputs and never keep references to them.
* Shapes: X (n, inputs), weight W (inputs, outputs), bias b (outputs,),
  output and delta (n, outputs). Flat parameters are W0 row-major, b0, W1, b1, …;
  a layer without bias contributes no b.
* A target is (n, outputs) in the dtype, or (n,) int64 labels for the cross-entropy
  rows. A sample weight is (n,) in the dtype, or None.
* Losses: Σ w·ℓ / (Σ w · outputs) where ℓ is summed over outputs; the two forms of
  cross-entropy, and whatever is ``per_row``, Σ w·ℓ / Σ w; ``sum_squares`` Σ w·ℓ. A batch
  whose weights sum to zero has loss 0 and gradient 0.
* Arithmetic treats subnormal numbers as zero where the hardware allows, NaN and inf
  flow through.
* Equal seeds give equal runs: shuffles and dropout masks are those specified in
  ``fastnn.kernels.random``, whatever the engine and the number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]

# --------------------------------------------------------------------------- rows

#: y = f(z), element by element; ``softmax`` acts on rows and only on the last layer.
ACTIVATIONS = (
    "identity",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "sigmoid",
    "tanh",
    "softsign",
    "hard_sigmoid",
    "hard_swish",
    "softmax",
)

#: ``cross_entropy`` and ``binary_cross_entropy`` take logits; the forms
#: ``…_of_probabilities`` take what a softmax, sigmoid or hard_sigmoid gave.
LOSSES = (
    "mse",
    "mae",
    "huber",
    "quantile",
    "poisson",
    "sum_squares",
    "cross_entropy",
    "binary_cross_entropy",
    "cross_entropy_of_probabilities",
    "binary_cross_entropy_of_probabilities",
)

OPTIMIZERS = ("sgd", "rmsprop", "adagrad", "adam", "adamw")

#: Functions on plain arrays that every engine has, with equal signatures.
KERNELS = (
    "linear_forward",
    "linear_backward",
    "activation_forward",
    "activation_backward",
    "loss_value_and_delta",
    "optimizer_update",
    "all_finite",
)

# --------------------------------------------------------------------------- specifications


class CustomFunction(Protocol):
    """A user's activation or loss, in the place of a row's name; a loss is a mean of elements.

    A network or trainer keeps the object for as long as it uses an address of it.
    """

    @property
    def name(self) -> str:
        """What the user calls it."""

    def address(self, itemsize: int) -> int:
        """The C function on arrays of 4- or 8-byte floats, see ``kernels/array_kernels.py``.

        An activation is ``void (T *inout, T *slope, int64_t n)``: y = f(y) in place, slope
        (may be NULL) receives f'(z). A loss is ``void (const T *output, const T *target,
        T *value, T *derivative, int64_t n, T parameter)``.
        """

    def value(self, *arrays: Array) -> Array:
        """The plain Python function of each element: of z, or of output and target."""

    def slope(self, *arrays: Array) -> Array:
        """The derivative by the first argument."""


class LayerSpec(NamedTuple):
    """One dense layer. ``dropout`` is the rate applied to its input while training."""

    inputs: int
    outputs: int
    activation: str | CustomFunction
    use_bias: bool
    dropout: float = 0.0


class LossSpec(NamedTuple):
    """A row of ``LOSSES`` with its parameter.

    The parameter is huber's delta, quantile's q, and for the cross-entropies of logits the
    most that a row (an element of the binary one) counts in the value, 0 for no bound; the
    derivative knows no bound.

    ``fused``: the loss takes z = X W + b of the last layer, whose activation is left
    out of training and evaluation (softmax before ``cross_entropy``, sigmoid before
    ``binary_cross_entropy``); otherwise it takes the network's output. ``per_row``: a
    mean over elements becomes the mean over rows of sums over outputs.
    """

    name: str | CustomFunction
    parameter: float = 0.0
    fused: bool = False
    per_row: bool = False


class OptimizerSpec(NamedTuple):
    """A row of ``OPTIMIZERS`` with every number that any of them needs.

    ``moments`` is the number of arrays, shaped as the parameters, that the update
    keeps from step to step. ``l2`` adds l2·W to the gradient of weights only, then
    the gradient is clipped to ``clip_norm`` (0: never), then ``weight_decay`` acts.

    Three switches give the conventions of scikit-learn's networks. ``epsilon_hat``: Adam
    adds epsilon to the root of v before its bias correction (Kingma & Ba 2015, end of
    section 2). ``rate_in_velocity``: SGD's velocity is momentum·v + rate·g, and the step
    is the velocity itself. ``l2_by_weight``: the penalty is l2·‖W‖² / (2 Σ w) with the
    sample weights w of the batch; its value joins the loss that a step reports.
    """

    name: str
    moments: int
    momentum: float = 0.0
    nesterov: bool = False
    beta_1: float = 0.0
    beta_2: float = 0.0
    epsilon: float = 0.0
    weight_decay: float = 0.0
    l2: float = 0.0
    clip_norm: float = 0.0
    epsilon_hat: bool = False
    rate_in_velocity: bool = False
    l2_by_weight: bool = False


# --------------------------------------------------------------------------- protocols


class Trainer(Protocol):
    """Layers, loss and optimizer compiled to one plan; made by ``Network.trainer``.

    A trainer changes its network's parameters and state in place. It is a context
    manager: leaving it ends its threads. One step is one optimizer update.
    """

    steps: int  #: updates made by this trainer, counted where they are made
    penalty: float  #: the part of the last epoch's or step's loss that is ``l2_by_weight``

    def epoch(
        self,
        X: Array,
        target: Array,
        weight: Array | None,
        epoch: int,
        rates: Array,
        shuffle: bool | Array,
    ) -> float:
        """Train on every row once, in batches; return the epoch's loss.

        ``rates`` (steps,) float64 holds the learning rate of each step. The last
        batch may be short. ``epoch`` keys the shuffle and the dropout masks. An
        array (n,) of int64 row numbers in the place of ``shuffle`` is the order
        itself. The loss is the mean over batches weighted by their rows, measured
        before each update (their sum for ``sum_squares``). After an interrupt the
        parameters are those of a whole step.
        """
        ...

    def step(self, X: Array, target: Array, weight: Array | None, rate: float) -> float | None:
        """One update on all rows as one batch; return the loss before it.

        Dropout masks are keyed by the number of updates made so far. Returns None,
        and changes nothing, if an argument is not plain, does not fit, or is not
        finite, or a label is out of range: the caller then says what is wrong.
        """
        ...

    def evaluate(self, X: Array, target: Array, weight: Array | None) -> float:
        """The loss over all rows, without dropout."""
        ...

    def gradient(self, X: Array, target: Array, weight: Array | None) -> tuple[float, Array]:
        """The loss over all rows and its flat gradient, without dropout or l2."""
        ...

    def __enter__(self) -> Trainer: ...
    def __exit__(self, *exc: object) -> None: ...


class Network(Protocol):
    """Parameters and optimizer state in the engine's own layout, and inference."""

    def __init__(self, layers: tuple[LayerSpec, ...], dtype: Any) -> None: ...

    size: int  #: number of parameters

    def get_parameters(self) -> Array:
        """A flat copy of all parameters."""
        ...

    def set_parameters(self, flat: Array) -> None: ...

    def get_state(self) -> tuple[int, tuple[Array, ...]]:
        """Updates made so far, and the moments as flat copies."""
        ...

    def set_state(self, step: int, moments: tuple[Array, ...]) -> None: ...

    def predict(self, X: Array, threads: int = 1) -> Array | None:
        """The output (n, outputs), or None if X is not a plain (n, inputs) matrix."""
        ...

    def input_gradient(self, X: Array, outputs: Array) -> Array:
        """d output[r, o] / d X[r, i] for o in ``outputs`` (int64): (n, len(outputs), inputs)."""
        ...

    def trainer(
        self,
        loss: LossSpec,
        optimizer: OptimizerSpec,
        batch_size: int,
        seed: int,
        threads: int = 1,
        exactly: bool = True,
    ) -> Trainer:
        """Compile a plan. Keeps the state if its moments match, else starts afresh.

        ``batch_size`` bounds the rows of a step of ``Trainer.epoch``; ``Trainer.step``
        takes any number of rows. Unless it is to be ``exactly`` so many threads, an epoch
        may use fewer where that proves faster.
        """
        ...


class Engine(Protocol):
    """What a module must provide to be an engine."""

    NAME: str
    ISA: str  #: the instruction set in use, or the library that stands for it

    Network: type[Network]

    def linear_forward(
        self, X: Array, weight: Array, bias: Array | None, activation: str, out: Array
    ) -> None:
        """out = f(X W + b)."""

    def linear_backward(
        self,
        X: Array,
        weight: Array,
        delta: Array,
        input_delta: Array | None,
        weight_gradient: Array | None,
        bias_gradient: Array | None,
    ) -> None:
        """input_delta = delta Wᵀ; weight_gradient = Xᵀ delta; bias_gradient = Σ_rows delta.

        ``delta`` is d loss / d (X W + b); an output that is None is not computed.
        """

    def activation_forward(self, Z: Array, activation: str, out: Array) -> None:
        """out = f(Z); ``out`` may be Z."""

    def activation_backward(
        self, Z: Array, output_delta: Array, activation: str, out: Array
    ) -> None:
        """out = d loss / d Z from Z and d loss / d f(Z); ``out`` may be ``output_delta``."""

    def loss_value_and_delta(
        self,
        output: Array,
        target: Array,
        weight: Array | None,
        loss: str,
        parameter: float,
        out: Array,
    ) -> float:
        """Return the loss; out = d loss / d output, normalised as the loss is."""

    def optimizer_update(
        self,
        parameters: Array,
        gradient: Array,
        moments: tuple[Array, ...],
        optimizer: OptimizerSpec,
        rate: float,
        step: int,
    ) -> None:
        """One update in place; ``step`` counts from 1. All entries count as weights.

        Clips by the norm of this gradient. ``parameters`` and ``moments`` are 1-D.
        """

    def all_finite(self, values: Array) -> bool:
        """Whether no element is NaN or infinite; any strides, no temporary copy."""
