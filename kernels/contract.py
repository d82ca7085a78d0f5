"""The contract between the model API and the engines: rows, specifications, protocols.

An engine is a module that provides the kernels below on plain arrays, and a ``Network``
whose ``Trainer`` runs whole epochs. What is above ``fastnn.kernels`` knows engines by this
page alone; what is below never imports from above, which is why arguments are duck-typed
there. Each fact about an activation, a loss, an optimizer or a kind of layer stands in its
row here, once; formulas are in ``formulas/``, the reference's own in ``numpy/``.

Invariants, stated here once
----------------------------
* ``dtype`` is float32 or float64. Every float array that reaches an engine has the
  network's dtype, is native, aligned and C-contiguous: *plain*. Labels are plain
  int64. Engines never write to their inputs and never keep references to them.
* Shapes: X (n, inputs), weight W (inputs, outputs), bias b (outputs,),
  output and delta (n, outputs). Flat parameters are the tensors of the first layer in the
  order of its row, each row-major, then those of the second, …: W0, b0, W1, b1, … of
  dense layers. ``views`` takes such a vector apart, and nothing else knows its layout.
* A target is (n, outputs) in the dtype, or (n,) int64 labels for losses that take
  labels. A sample weight is (n,) in the dtype, or None.
* Losses: Σ w·ℓ over rows and outputs, divided as the row's ``divisor`` says. A batch
  whose weights sum to zero has loss 0 and gradient 0.
* Arithmetic treats subnormal numbers as zero where the hardware allows, NaN and inf
  flow through.
* Equal seeds give equal runs: shuffles and dropout masks are those specified in
  ``fastnn.kernels.random``, whatever the engine and the number of threads.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]

# --------------------------------------------------------------------------- activations


class Activation(NamedTuple):
    """Facts about y = f(z); the formula is in ``formulas/activations.py``.

    ``initializer`` is what "auto" stands for in front of it. ``kinks``: where f′ jumps, at
    which it is PyTorch's. ``is_probability``: its values are probabilities, so that a
    cross-entropy takes them as such.
    """

    initializer: str = "glorot_uniform"
    kinks: tuple[float, ...] = ()
    is_probability: bool = False
    names: tuple[str, ...] = ()  # others by which users know it


#: ``softmax`` acts on rows and only on the last layer, all others element by element.
ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(names=("linear",)),
    "relu": Activation("he_normal", kinks=(0.0,)),
    "leaky_relu": Activation("he_normal", kinks=(0.0,)),
    "elu": Activation("he_normal"),
    "selu": Activation("lecun_normal", kinks=(0.0,)),
    "gelu": Activation("he_normal"),
    "silu": Activation("he_normal", names=("swish",)),
    "mish": Activation("he_normal"),
    "softplus": Activation("he_normal"),
    "sigmoid": Activation(is_probability=True, names=("logistic",)),
    "tanh": Activation(),
    "softsign": Activation(),
    "hard_sigmoid": Activation(kinks=(-3.0, 3.0), is_probability=True),
    "hard_swish": Activation("he_normal", kinks=(-3.0, 3.0)),
    "hard_tanh": Activation(kinks=(-1.0, 1.0)),
    "sine": Activation(),
    "softmax": Activation(is_probability=True),
}

# --------------------------------------------------------------------------- losses


class Loss(NamedTuple):
    """Facts about a loss ℓ(output, target); the formula is in ``formulas/losses.py``.

    ``divisor``: Σ w·ℓ is divided by Σ w · outputs ("elements"), Σ w ("rows"), or not
    ("none"). ``low`` … ``high`` bound its targets, ``values`` lists them, ``meaning`` says
    what they are. ``fused_with`` is the activation with which it is computed from the
    logits, ``of_probabilities`` the row that takes the values of the others that give
    probabilities. ``decides_at`` is where an output says yes, if the loss decides by each
    output alone (at ½ where it is fused). ``parameter`` names its number, with its
    ``default``. ``is_kinked``: ℓ′ jumps.
    """

    divisor: str = "elements"
    takes_labels: bool = False
    low: float = -math.inf
    high: float = math.inf
    values: tuple[float, ...] = ()
    meaning: str = ""
    fused_with: str | None = None
    of_probabilities: str | None = None
    decides_at: float | None = None
    parameter: str | None = None
    default: float = 0.0
    is_kinked: bool = False
    is_public: bool = True
    names: tuple[str, ...] = ()  # what others call it: the nearest match in errors

    @property
    def takes_any_target(self) -> bool:
        """Whether every finite target is a good one."""
        return not (
            self.takes_labels or self.values or self.low > -math.inf or self.high < math.inf
        )


_PROBABILITIES = "probabilities, from 0 to 1"

#: ``cross_entropy`` and ``binary_cross_entropy`` take logits; the forms
#: ``…_of_probabilities`` take what a softmax, sigmoid or hard_sigmoid gave.
LOSSES: dict[str, Loss] = {
    "mse": Loss(names=("mean_squared_error", "MSELoss", "squared_error", "l2")),
    "mae": Loss(is_kinked=True, names=("mean_absolute_error", "L1Loss", "absolute_error", "l1")),
    "huber": Loss(parameter="delta", default=1.0, names=("HuberLoss", "smooth_l1", "SmoothL1Loss")),
    "quantile": Loss(parameter="q", default=0.5, is_kinked=True, names=("pinball",)),
    "log_cosh": Loss(names=("logcosh", "LogCosh")),
    "poisson": Loss(low=0.0, meaning="counts, ≥ 0", names=("PoissonNLLLoss",)),
    "hinge": Loss(
        values=(-1.0, 0.0, 1.0), meaning="labels -1 and 1, or 0 and 1", decides_at=0.0,
        is_kinked=True, names=("Hinge", "max_margin"),
    ),
    "sum_squares": Loss("none", names=("sum_of_squares", "sse")),
    "cross_entropy": Loss(
        "rows", takes_labels=True, low=0.0, high=1.0, meaning=_PROBABILITIES, fused_with="softmax",
        of_probabilities="cross_entropy_of_probabilities",
        names=(
            "categorical_crossentropy", "sparse_categorical_crossentropy", "CrossEntropyLoss",
            "NLLLoss", "log_loss",
        ),
    ),
    "binary_cross_entropy": Loss(
        low=0.0, high=1.0, meaning=_PROBABILITIES, fused_with="sigmoid",
        of_probabilities="binary_cross_entropy_of_probabilities", decides_at=0.0,
        names=("binary_crossentropy", "BCELoss", "BCEWithLogitsLoss"),
    ),
    "cross_entropy_of_probabilities": Loss(
        "rows", takes_labels=True, low=0.0, high=1.0, meaning=_PROBABILITIES, is_public=False
    ),
    "binary_cross_entropy_of_probabilities": Loss(
        low=0.0, high=1.0, meaning=_PROBABILITIES, decides_at=0.5, is_public=False
    ),
}  # fmt: skip

# --------------------------------------------------------------------------- optimizers


class Optimizer(NamedTuple):
    """Facts about an update rule; its formulas are in ``formulas/optimizers.py``.

    ``moments`` is the number of arrays, shaped as the parameters, that it keeps from step
    to step; ``numbers`` names what it needs beside the learning rate; ``state`` is the
    rule whose moments mean the same as its own.
    """

    moments: int
    numbers: tuple[str, ...] = ()
    state: str = ""


#: Rows of one rule differ in what they keep: SGD with momentum has a moment, without none.
#: Three rows give the conventions of scikit-learn's networks: in ``velocity`` (and its
#: ``nesterov_velocity``) the velocity is momentum·v + rate·g, and the step is the velocity
#: itself; ``adam_hat`` adds epsilon to the root of v before its bias correction (Kingma & Ba
#: 2015, end of section 2).
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(0),
    "momentum": Optimizer(1, ("momentum",)),
    "nesterov": Optimizer(1, ("momentum",), state="momentum"),
    "velocity": Optimizer(1, ("momentum",)),
    "nesterov_velocity": Optimizer(1, ("momentum",), state="velocity"),
    "rmsprop": Optimizer(1, ("beta_2", "epsilon")),
    "rmsprop_momentum": Optimizer(2, ("beta_2", "epsilon", "momentum")),
    "adagrad": Optimizer(1, ("epsilon",)),
    "adam": Optimizer(2, ("beta_1", "beta_2", "epsilon")),
    "adamw": Optimizer(2, ("beta_1", "beta_2", "epsilon")),
    "adam_hat": Optimizer(2, ("beta_1", "beta_2", "epsilon"), state="adam"),
    "nadam": Optimizer(2, ("beta_1", "beta_2", "epsilon", "momentum_decay")),
    "lion": Optimizer(1, ("beta_1", "beta_2")),
}

# --------------------------------------------------------------------------- kinds of layers


class Kind(NamedTuple):
    """Facts about a kind of layer.

    ``tensors`` names its parameters in the order of the flat vector; a layer may lack
    some. ``penalised`` are those that l2 acts on, ``starts`` the value at which each of the
    others starts. ``numbers`` names its own numbers. ``flops`` counts the operations of a
    forward pass, for one row and one number of the tensors.
    """

    tensors: tuple[str, ...]
    starts: dict[str, float]
    penalised: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    flops: int = 2


KINDS: dict[str, Kind] = {
    "dense": Kind(("weight", "bias"), {"bias": 0.0}, penalised=("weight",)),
    "layer_norm": Kind(
        ("scale", "shift"), {"scale": 1.0, "shift": 0.0}, numbers=("epsilon",), flops=5
    ),
    "scale": Kind(("scale",), {"scale": 1.0}, flops=1),
}

#: FLOPs of a training step by those of a forward pass: forward, deltas and gradient.
STEP = 3

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
        """The C function on arrays of 4- or 8-byte floats, see ``kernels/numba/users.py``.

        An activation is ``void (T *inout, T *slope, int64_t n)``: y = f(y) in place, slope
        (may be NULL) receives f'(z). A loss is ``void (const T *output, const T *target,
        T *value, T *derivative, int64_t n, T parameter)``.
        """

    def value(self, *arrays: Array) -> Array:
        """The plain Python function of each element: of z, or of output and target."""

    def slope(self, *arrays: Array) -> Array:
        """The derivative by the first argument."""


class TensorSpec(NamedTuple):
    """One array of parameters, by its name in the kind's row.

    The factors multiply the learning rate and the weight decay of an update.
    """

    name: str
    shape: tuple[int, ...]
    rate_factor: float = 1.0
    decay_factor: float = 1.0

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


class LayerSpec(NamedTuple):
    """One layer that has parameters; made by ``dense``, ``layer_norm`` and ``scale``.

    ``dropout`` is the rate applied to its input while training. ``numbers`` are the kind's.
    """

    kind: str
    inputs: int
    outputs: int
    tensors: tuple[TensorSpec, ...]
    activation: str | CustomFunction = "identity"
    dropout: float = 0.0
    numbers: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def flops(self) -> int:
        """Operations of a forward pass for one row."""
        return KINDS[self.kind].flops * self.size


#: (rate_factor, decay_factor) of a tensor
Factors = tuple[float, float]
_NO_FACTORS: Factors = (1.0, 1.0)


def dense(
    inputs: int,
    outputs: int,
    activation: str | CustomFunction = "identity",
    use_bias: bool = True,
    dropout: float = 0.0,
    factors: Factors = _NO_FACTORS,
    bias_factors: Factors | None = None,
) -> LayerSpec:
    """f(X W + b); the bias has the weight's factors unless it has its own."""
    tensors = [TensorSpec("weight", (inputs, outputs), *factors)]
    if use_bias:
        tensors.append(TensorSpec("bias", (outputs,), *(bias_factors or factors)))
    return LayerSpec("dense", inputs, outputs, tuple(tensors), activation, dropout)


def layer_norm(
    features: int,
    epsilon: float = 1e-5,
    scale: bool = True,
    shift: bool = True,
    dropout: float = 0.0,
    factors: Factors = _NO_FACTORS,
) -> LayerSpec:
    """(x - mean) / √(variance + epsilon) over a row's features, times scale, plus shift."""
    present = [name for name, is_there in (("scale", scale), ("shift", shift)) if is_there]
    tensors = tuple(TensorSpec(name, (features,), *factors) for name in present)
    return LayerSpec("layer_norm", features, features, tensors, dropout=dropout, numbers=(epsilon,))


def scale(features: int, dropout: float = 0.0, factors: Factors = _NO_FACTORS) -> LayerSpec:
    """x times a factor for each feature."""
    tensors = (TensorSpec("scale", (features,), *factors),)
    return LayerSpec("scale", features, features, tensors, dropout=dropout)


def size(layers: tuple[LayerSpec, ...]) -> int:
    """Number of parameters."""
    return sum(layer.size for layer in layers)


def views(layers: tuple[LayerSpec, ...], flat: Array) -> list[dict[str, Array]]:
    """The tensors of each layer by name, as views of flat parameters."""
    found: list[dict[str, Array]] = []
    start = 0
    for layer in layers:
        tensors = {}
        for tensor in layer.tensors:
            tensors[tensor.name] = flat[start : start + tensor.size].reshape(tensor.shape)
            start += tensor.size
        found.append(tensors)
    return found


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

    @property
    def divisor(self) -> str:
        """The row's, unless ``per_row``."""
        return "rows" if self.per_row and self.row.divisor == "elements" else self.row.divisor

    @property
    def row(self) -> Loss:
        """The facts; a user's own loss is a mean of elements that takes any target."""
        return LOSSES[self.name] if isinstance(self.name, str) else Loss(is_kinked=True)


class OptimizerSpec(NamedTuple):
    """A row of ``OPTIMIZERS`` with its numbers, in the row's order.

    ``l2`` adds l2·W to the gradient of penalised tensors only, then the gradient is clipped
    to ``clip_norm`` (0: never), then ``weight_decay`` acts. ``l2_by_weight``, a convention
    of scikit-learn's networks: the penalty is l2·‖W‖² / (2 Σ w) with the sample weights w
    of the batch; its value joins the loss that a step reports.
    """

    name: str
    numbers: tuple[float, ...] = ()
    weight_decay: float = 0.0
    l2: float = 0.0
    clip_norm: float = 0.0
    l2_by_weight: bool = False

    @property
    def moments(self) -> int:
        """Arrays that the rule keeps."""
        return OPTIMIZERS[self.name].moments

    @property
    def state(self) -> str:
        """Equal for two rules that may go on with each other's moments."""
        return OPTIMIZERS[self.name].state or self.name

    def number(self, name: str) -> float:
        """One of the numbers by its name."""
        return self.numbers[OPTIMIZERS[self.name].numbers.index(name)]


def optimizer(
    name: str,
    *,
    weight_decay: float = 0.0,
    l2: float = 0.0,
    clip_norm: float = 0.0,
    l2_by_weight: bool = False,
    **numbers: float,
) -> OptimizerSpec:
    """A row with its numbers by name."""
    ordered = tuple(float(numbers.pop(key)) for key in OPTIMIZERS[name].numbers)
    if numbers:
        raise TypeError(f"{name} has no {', '.join(numbers)}")
    return OptimizerSpec(name, ordered, weight_decay, l2, clip_norm, l2_by_weight)


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
        optimizer: OptimizerSpec | None,
        batch_size: int,
        seed: int,
        threads: int = 1,
        exactly: bool = True,
    ) -> Trainer:
        """Compile a plan. Keeps the state if its moments match, else starts afresh.

        Without an optimizer it is for ``evaluate`` and ``gradient``, and leaves the state alone.

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
