"""What learns: a network in an engine, the state of its training, and who trains it.

``Sequential`` and the scikit-learn estimators hold one ``Learner``. They check what users
give them; a learner takes what has been found good. It has the network (``build`` makes it,
once the number of inputs is known), flat ``parameters`` that are set without a check, since
they may hold NaN, the optimizer's state with ``prepare_state``, ``get_state``, ``set_state``
and ``epochs``, and plans of the engine: ``trainer`` makes one, ``evaluate`` and ``gradient``
keep theirs from call to call. These two may run in several threads at once, and beside a
training; of trainings ``claim`` lets one run at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from numpy.typing import NDArray

from .. import checks, initializers, layers, optimizers
from ..checks import threads
from ..checks.arrays import Gate, float_dtype
from ..kernels import contract, loader
from ..kernels.contract import LayerSpec, LossSpec, Network, OptimizerSpec, Trainer
from ..layers import Dense, Dropout, Layer
from ..optimizers import State

Array = NDArray[Any]
Asked = TypeVar("Asked")
Result = TypeVar("Result")

#: The rule of a network that has no moments.
NO_STATE = contract.optimizer("sgd")

#: Rows whose activations ``evaluate`` and ``gradient`` keep at a time.
_ROWS_AT_ONCE = 256


class Data(NamedTuple):
    """Plain arrays that belong together."""

    X: Array  # (n, inputs)
    target: Array  # (n, outputs), or labels (n,)
    weight: Array | None  # (n,)

    def take(self, rows: Array) -> Data:
        """Some of the rows."""
        weight = None if self.weight is None else self.weight[rows]
        return Data(self.X[rows], self.target[rows], weight)


@dataclass(slots=True)
class Online:
    """What learning batch by batch keeps from call to call."""

    loss: Any  # as given: compared by identity
    optimizer: Any
    rows: tuple[LossSpec, OptimizerSpec]
    trainer: Trainer
    rate: float | None  # None: it changes
    first_step: int  # updates made before the trainer was
    takes_any_target: bool


class Claim:
    """Lets one training run at a time; a second caller gets a RuntimeError.

    Not a lock: KeyboardInterrupt comes after calls, so it may fall between acquire() and try,
    or into a context manager. This claim is made inside the try, and given up by a finally
    that makes no call at all. Nor is the token made by a call.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._holder: dict[str, object] = {}  # the token of who trains, under "training"

    def run(self, train: Callable[[Asked], Result], asked: Asked) -> Result:
        """``train(asked)``, or RuntimeError if another one runs."""
        token, holder = [None], self._holder
        try:
            if holder.setdefault("training", token) is not token:
                raise RuntimeError(
                    f"this {self.what} is being trained already: one training at a time"
                )
            return train(asked)
        finally:
            if "training" in holder and holder["training"] is token:
                del holder["training"]


class Learner:
    """A network and the state of its training; see above.

    ``given`` are layers that ``layers.check`` has let pass; the other arguments are checked.
    """

    def __init__(self, given: tuple[Layer, ...], dtype: Any, seed: int, engine: str) -> None:
        self.layers = given
        self.seed = checks.whole("seed", seed, at_least=0, at_most=2**64 - 1)
        if not isinstance(engine, str):
            raise TypeError(f"engine must be a name such as 'auto', not {engine!r}")
        self.engine_wanted = engine
        self.gate = Gate(float_dtype(dtype), loader.load(engine))
        self.dtype, self.engine = self.gate
        self.claim = Claim("model")
        self.network: Network | None = None
        self.specs: tuple[LayerSpec, ...] = ()
        self.flops = 0  # of a forward pass of a row
        self.serial_size = 0  # numbers in an X whose output is worth one thread only
        self.epochs = 0  # done, over resumed fits
        self.online: Online | None = None
        self._state_of = NO_STATE
        self._kept: dict[Any, Trainer] = {}  # the plan of the last ``evaluate`` or ``gradient``

    # ------------------------------------------------------------------ network

    def build(self, inputs: int, parameters: Array | None = None) -> None:
        """Make the network, unless it is there; draw its parameters, unless they are given.

        ValueError if the layers cannot have so many inputs, or this machine so many parameters.
        """
        if self.network is not None:
            return
        specs = layers.specifications(self.layers, inputs)
        layers.check_memory(specs, self.dtype.itemsize)
        network: Network = self.engine.Network(specs, self.dtype)
        if parameters is None:
            names = [k.initializer for k in self.layers if not isinstance(k, Dropout)]
            parameters = initializers.initial_parameters(specs, names, self.seed, self.dtype)
        network.set_parameters(parameters)
        self.flops = sum(spec.flops for spec in specs)
        flops = threads.ONE_CALL * threads.SERIAL_FLOPS[self.dtype.itemsize]
        self.serial_size = int(flops / self.flops * inputs)
        self.network, self.specs = network, specs

    def built(self) -> Network:
        """The network, or a ValueError that says what to do."""
        if self.network is None:
            raise ValueError("the model has no parameters yet: give input_size, or fit it first")
        return self.network

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.built().size

    @property
    def inputs(self) -> int | None:
        """None before there is a network."""
        return self.specs[0].inputs if self.specs else None

    @property
    def last(self) -> Dense:
        layer = self.layers[-1]
        assert isinstance(layer, Dense)
        return layer

    @property
    def parameters(self) -> Array:
        """All parameters, a flat copy; what is assigned is not checked."""
        return self.built().get_parameters()

    @parameters.setter
    def parameters(self, flat: Array) -> None:
        self.built().set_parameters(flat)

    def thread_count(self, wanted: int | None, passes: float) -> int:
        """For steps of so many forward passes of a row; an update takes ``contract.STEP`` a row.

        A call that starts and ends its own threads divides by ``threads.ONE_CALL``.
        """
        return threads.choose(wanted, self.flops * passes, self.dtype)

    # ------------------------------------------------------------------ state

    def prepare_state(self, spec: OptimizerSpec, resume: bool) -> None:
        """Start afresh, or keep the state of the same kind of optimizer."""
        self.drop_online()
        if not (resume and spec.state == self._state_of.state):
            self.built().set_state(0, ())
        if not resume:
            self.epochs = 0
        self._state_of = spec

    def get_state(self) -> State | None:
        """Updates made, moments, and what they belong to; None before any update."""
        step, moments = self.built().get_state()
        if step == 0:
            return None
        return step, moments, {"rule": optimizers.to_config(self._state_of), "epochs": self.epochs}

    def set_state(self, state: State | None) -> None:
        """Put back what ``get_state`` gave; TypeError, ValueError or KeyError before any change."""
        network = self.built()
        if state is None:
            self.prepare_state(NO_STATE, resume=False)
            return
        step, moments, config = state
        step = checks.whole("step", step, at_least=0)
        epochs = checks.whole("epochs", config["epochs"], at_least=0)
        spec = optimizers.from_config(config["rule"])
        if len(moments) != spec.moments:
            raise ValueError(f"{spec.name} has {spec.moments} moments here, not {len(moments)}")
        plain = tuple(
            self.gate.shaped(moment, (self.size,), f"moments[{k}]")
            for k, moment in enumerate(moments)
        )
        self.drop_online()
        network.set_state(step, plain)
        self._state_of, self.epochs = spec, epochs

    # ------------------------------------------------------------------ plans of the engine

    def trainer(
        self,
        loss: LossSpec,
        optimizer: OptimizerSpec | None,
        rows: int,
        count: int = 1,
        exactly: bool = True,
    ) -> Trainer:
        """A plan for batches of up to ``rows`` rows and ``count`` threads."""
        return self.built().trainer(loss, optimizer, rows, self.seed, count, exactly)

    def evaluate(self, data: Data, loss: LossSpec, count: int = 1) -> float:
        """The loss over all rows, without dropout."""
        with self._reading(loss, len(data.X), count) as trainer:
            return trainer.evaluate(*data)

    def gradient(self, data: Data, loss: LossSpec, count: int = 1) -> tuple[float, Array]:
        """The loss over all rows and its flat gradient, without dropout."""
        with self._reading(loss, len(data.X), count) as trainer:
            return trainer.gradient(*data)

    @contextmanager
    def _reading(self, loss: LossSpec, rows: int, count: int) -> Iterator[Trainer]:
        """A plan without an optimizer; it is kept, and nobody else's while it is in use."""
        key = loss, min(rows, _ROWS_AT_ONCE), count
        trainer = self._kept.pop(key, None) or self.trainer(loss, None, key[1], count)
        with trainer:
            yield trainer
        self._kept = {key: trainer}

    def drop_online(self) -> None:
        """Forget the trainer of single batches: its plan is for another state."""
        if self.online is not None:
            self.online.trainer.__exit__(None, None, None)
            self.online = None

    # ------------------------------------------------------------------ copies

    def __getstate__(self) -> dict[str, Any]:
        network = self.network
        return {
            "arguments": (self.layers, self.dtype.name, self.seed, self.engine_wanted),
            "inputs": self.inputs,
            "parameters": None if network is None else network.get_parameters(),
            "state": None if network is None else network.get_state(),
            "state_of": tuple(self._state_of),
            "epochs": self.epochs,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state["arguments"])  # type: ignore[misc]
        if state["parameters"] is not None:
            self.build(state["inputs"], state["parameters"])
            self.built().set_state(*state["state"])
        self._state_of, self.epochs = OptimizerSpec(*state["state_of"]), state["epochs"]
