"""The model: layers, their parameters in an engine, and everything a user does with them.

``Sequential`` is thin. It checks what it is given, once; it owns the parameters, the
optimizer's state and the random seed; and it calls an engine. Arrays in the model's dtype
and C order go to the engine as they are. ``predict`` may run in any number of threads;
what changes parameters by training may run once at a time, and a second caller gets a
RuntimeError instead of a mixture.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import arrays, threads
from . import checks, losses, optimizers
from .fit import lbfgs, training
from . import layers as layers_
from .fit import online as online_
from .custom import CustomActivation
from .kernels.contract import LayerSpec, LossSpec, Network, OptimizerSpec, Trainer
from .kernels.loader import load as load_engine
from .initializers import initial_parameters
from .layers import Dense, Layer
from .optimizers import LBFGS
from .fit.training import NO_STATE, History

Array = NDArray[Any]

_MOST_SEED = 2**64 - 1

#: Rows whose activations ``evaluate`` and ``loss_and_gradient`` keep at a time.
_ROWS_AT_ONCE = 256

#: FLOPs by parameter and row: of a forward pass, and of a gradient.
_FORWARD, _GRADIENT = 2, training.STEP_FLOPS

OptimizerState = tuple[int, tuple[Array, ...], dict[str, Any]]


class Sequential:
    """A stack of dense layers.

    Parameters
    ----------
    layers : sequence of Dense and Dropout
        From input to output; the last is a Dense.
    input_size : int, optional
        Columns of X. Without it the parameters are drawn at the first ``fit``.
    dtype : {"float32", "float64"}
        Of the parameters and of all arithmetic.
    seed : int, optional
        0 ≤ seed < 2**64: it determines initial weights, shuffles and dropout masks. None
        takes one from the operating system; ``model.seed`` tells which.
    engine : {"auto", "cython", "numba", "numpy"}
        A named engine is never replaced by another.

    Attributes
    ----------
    layers : tuple
    specs : tuple of LayerSpec
        The dense layers with their shapes; empty before there are parameters.
    seed, size, output_size : int
    input_size : int or None
    dtype : numpy.dtype
    engine : str
        The engine in use.
    history : History or None
        Of the last fit, also of one that was interrupted.
    stop_training : bool
        Set by callbacks to end a fit.

    Raises
    ------
    TypeError, ValueError, ImportError
        The last if the engine is not available.

    Examples
    --------
    >>> model = Sequential([Dense(16, activation="tanh"), Dense(1)], input_size=2, seed=0)
    >>> model.predict([[0.0, 0.0]])
    array([[0.]], dtype=float32)
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        input_size: int | None = None,
        dtype: Any = "float32",
        seed: int | None = None,
        engine: str = "auto",
    ) -> None:
        self.layers = layers_.check(layers)
        self.dtype = arrays.float_dtype(dtype)
        if seed is None:
            seed = int.from_bytes(os.urandom(8), "little")
        self.seed = checks.whole("seed", seed, at_least=0, at_most=_MOST_SEED)
        if input_size is not None:
            input_size = checks.whole("input_size", input_size, at_most=layers_.MOST_UNITS)
        if not isinstance(engine, str):
            raise TypeError(f"engine must be a name such as 'auto', not {engine!r}")
        self._engine_wanted = engine
        self._engine = load_engine(engine)
        # Who trains, under "training". Not a lock: KeyboardInterrupt comes after calls, so
        # it may fall between acquire() and try, or into a context manager. This claim is
        # made inside the try and given up by a finally that makes no call before it.
        self._claims: dict[str, object] = {}
        self._network: Network | None = None
        self._online: online_.Online | None = None
        self._state_spec = NO_STATE
        self._epochs = 0
        self._serial_size = 0
        self.specs: tuple[LayerSpec, ...] = ()
        self.history: History | None = None
        self.stop_training = False
        if input_size is not None:
            self._build(input_size)

    # ------------------------------------------------------------------ training

    def fit(
        self,
        X: Any,
        y: Any,
        loss: Any,
        optimizer: Any = "adam",
        *,
        epochs: int = 10,
        batch_size: int | None = 32,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_data: Any = None,
        callbacks: Iterable[Any] = (),
        metrics: Any = (),
        threads: int | None = None,
        verbose: int = 0,
        resume: bool = False,
    ) -> History:
        """Train on rows of X and y.

        Parameters
        ----------
        X : array_like (n, inputs)
            Finite numbers. Not copied if in the model's dtype and C order.
        y : array_like
            Labels (n,), or rows (n, outputs); (n,) too if there is one output.
        loss : str, Huber, Quantile or CustomLoss
            What ``fastnn.loss`` made, or "mse", "mae", "huber", "quantile", "poisson",
            "sum_squares", "cross_entropy" or "binary_cross_entropy".
        optimizer : str or optimizer
            "sgd", "rmsprop", "adagrad", "adam", "adamw" or "lbfgs" with their default
            numbers, or SGD(…), Adam(…), …
        epochs : int
            How often to go through all rows; iterations of LBFGS.
        batch_size : int or None
            Rows of an update; None takes all. LBFGS always takes all.
        shuffle : bool
            Visit the rows in another order in each epoch.
        sample_weight : array_like (n,), optional
            Not negative; the loss is Σwℓ/Σw.
        class_weight : dict or "balanced", optional
            label -> weight (1 if not there), times the sample weights; "balanced" weighs
            the classes equally.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated at the end of each epoch.
        callbacks : iterable
            Objects with hooks such as ``on_epoch_end(epoch, logs)``.
        metrics : sequence of str and callable
            "accuracy", "mse", "mae", "r2", or f(target, output) -> float; measured at the
            end of each epoch.
        threads : int or None
            Exactly so many; None chooses by the size of a step and what the process may
            use. The result does not depend on it.
        verbose : {0, 1, 2}
            Nothing, a bar, or a line per epoch, on stderr.
        resume : bool
            Go on with the optimizer's state and the count of epochs of the last fit. The
            state is kept if the optimizer is of the same kind. A schedule goes on too, as
            in one fit of all the epochs.

        Returns
        -------
        History
            "loss": the mean over the epoch's batches, before each update.

        Raises
        ------
        TypeError, ValueError
            Before anything changes.
        RuntimeError
            If another fit of this model is running.
        """
        me = object()
        try:
            if self._claims.setdefault("training", me) is not me:
                raise _busy()
            plan = training.plan(
                self,
                X,
                y,
                loss=loss,
                optimizer=optimizer,
                epochs=epochs,
                batch_size=batch_size,
                shuffle=shuffle,
                sample_weight=sample_weight,
                class_weight=class_weight,
                validation_data=validation_data,
                callbacks=callbacks,
                metrics_wanted=metrics,
                threads_wanted=threads,
                verbose=verbose,
                resume=resume,
            )
            optimize = lbfgs.import_scipy() if isinstance(plan.optimizer, LBFGS) else None
            self._build(plan.data.X.shape[1])
            if optimize is not None:
                return lbfgs.run(self, plan, optimize)
            return training.run(self, plan)
        finally:
            if self._claims == {"training": me}:
                self._claims.clear()

    def train_on_batch(
        self, X: Any, y: Any, loss: Any, optimizer: Any = "adam", sample_weight: Any = None
    ) -> float:
        """One update on these rows; go on from the optimizer's state.

        Fastest with plain arrays (the model's dtype, C order; int64 labels) and the same
        ``loss`` and ``optimizer`` objects in every call. Runs on the calling thread. In a
        schedule each update counts as an epoch of one step.

        Parameters
        ----------
        X, y, loss, optimizer, sample_weight
            As in ``fit``; not LBFGS.

        Returns
        -------
        float
            The loss before the update.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As ``fit``.
        """
        me = object()
        try:
            if self._claims.setdefault("training", me) is not me:
                raise _busy()
            online = self._online
            if (
                online is not None
                and loss is online.loss
                and optimizer is online.optimizer
                and online.rate is not None
                and sample_weight is None
                and (online.is_any_target or (type(y) is np.ndarray and y.ndim == 1))
            ):
                value = online.trainer.step(X, y, None, online.rate)
                if value is not None:
                    return value
            return online_.train(
                self, X, y, loss=loss, optimizer=optimizer, sample_weight=sample_weight
            )
        finally:
            if self._claims == {"training": me}:
                self._claims.clear()

    # ------------------------------------------------------------------ use

    def predict(self, X: Any, threads: int | None = None) -> Array:
        """The output of the network; NaN and inf flow through.

        May run in several threads at once.

        Parameters
        ----------
        X : array_like (n, inputs)
            n may be 0.
        threads : int or None
            As in ``fit``.

        Returns
        -------
        ndarray (n, outputs)
            In the model's dtype.

        Raises
        ------
        TypeError, ValueError
            Also for numbers that are finite but too large for the model's dtype.
        """
        network = self._network
        if (
            network is not None
            and type(X) is np.ndarray
            and (X.size <= self._serial_size if threads is None else threads == 1)
            and type(threads) is not bool
        ):
            output = network.predict(X)
            if output is not None:
                return output
        return self._predict_checked(X, threads)

    def _predict_checked(self, X: Any, wanted: int | None) -> Array:
        network = self._built()
        X = arrays.matrix(X, self.dtype, self.input_size, self._engine, learn=False)
        if len(X) == 0:
            return np.empty((0, self.output_size), self.dtype)
        output = network.predict(X, self._choose_threads(wanted, _FORWARD * len(X)))
        assert output is not None, "the engine refuses a matrix that has been checked"
        return output

    def evaluate(
        self, X: Any, y: Any, loss: Any, sample_weight: Any = None, *, threads: int | None = None
    ) -> float:
        """The loss over all rows, without dropout.

        Parameters
        ----------
        X, y, loss, sample_weight, threads
            As in ``fit``.

        Returns
        -------
        float
        """
        data, trainer = self._measure(X, y, loss, sample_weight, wanted=threads, flops=_FORWARD)
        with trainer:
            return trainer.evaluate(*data)

    def loss_and_gradient(
        self, X: Any, y: Any, loss: Any, sample_weight: Any = None, *, threads: int | None = None
    ) -> tuple[float, Array]:
        """The loss over all rows and its gradient by the parameters, without dropout.

        Parameters
        ----------
        X, y, loss, sample_weight, threads
            As in ``fit``.

        Returns
        -------
        loss : float
        gradient : ndarray (size,)
            Ordered as ``parameters``.
        """
        data, trainer = self._measure(X, y, loss, sample_weight, wanted=threads, flops=_GRADIENT)
        with trainer:
            return trainer.gradient(*data)

    def _measure(
        self, X: Any, y: Any, loss: Any, sample_weight: Any, *, wanted: int | None, flops: int
    ) -> tuple[training.Data, Trainer]:
        self._built()
        row = losses.resolve(loss, self.last_activation)
        data = training.check_data(self, X, y, sample_weight, row)
        n = len(data.X)
        count = self._choose_threads(wanted, flops * n)
        return data, self._trainer(row, self._state_spec, min(n, _ROWS_AT_ONCE), count)

    def input_gradient(self, X: Any, output: int | Sequence[int] | None = None) -> Array:
        """The derivatives of the final output by the input, without dropout.

        Parameters
        ----------
        X : array_like (n, inputs)
        output : int, sequence of int, or None
            Which outputs; None is all of them.

        Returns
        -------
        ndarray (n, len(output), inputs)
            Entry [r, k, i] is d output[r, o_k] / d X[r, i].
        """
        network = self._built()
        if output is None:
            chosen = list(range(self.output_size))
        else:
            several = output if isinstance(output, Iterable) else [output]
            top = self.output_size - 1
            chosen = [checks.whole("output", o, at_least=0, at_most=top) for o in several]
            if not chosen:
                raise ValueError("output names no output")
        X = arrays.matrix(X, self.dtype, self.input_size, self._engine)
        return network.input_gradient(X, np.array(chosen, np.int64))

    # ------------------------------------------------------------------ parameters

    @property
    def parameters(self) -> Array:
        """All parameters, a flat copy: W0 row-major, b0, W1, b1, …; assign to set them."""
        return self._built().get_parameters()

    @parameters.setter
    def parameters(self, values: Any) -> None:
        self._built()
        self._set_parameters(
            arrays.shaped(values, (self.size,), self.dtype, self._engine, "parameters")
        )

    @property
    def weights(self) -> list[tuple[Array, Array | None]]:
        """(W, b) of each dense layer, copies; b is None without a bias. Assign to set them."""
        return layers_.views(self.specs, self.parameters)

    @weights.setter
    def weights(self, values: Any) -> None:
        self._built()
        self._set_parameters(arrays.flat_weights(values, self.specs, self.dtype, self._engine))

    def _set_parameters(self, flat: Array) -> None:
        """Without the checks: what training once gave may hold NaN."""
        self._built().set_parameters(flat)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self._built().size

    @property
    def input_size(self) -> int | None:
        """Columns of X, or None before there are parameters."""
        return self.specs[0].inputs if self.specs else None

    @property
    def output_size(self) -> int:
        """Columns of the output."""
        return self._last_layer.units

    @property
    def last_activation(self) -> str | CustomActivation:
        """The activation of the last layer."""
        return self._last_layer.activation

    @property
    def _last_layer(self) -> Dense:
        last = self.layers[-1]
        assert isinstance(last, Dense)
        return last

    @property
    def engine(self) -> str:
        """The name of the engine in use."""
        return str(self._engine.NAME)

    def summary(self) -> str:
        """A table of layers, shapes and numbers of parameters, to be printed."""
        dtype, engine = self.dtype.name, f"{self.engine} ({self._engine.ISA})"
        return f"{layers_.table(self.layers, self.specs)}\n{dtype}, engine {engine}"

    def __repr__(self) -> str:
        """The call that makes such a model."""
        layers = ", ".join(map(repr, self.layers))
        return (
            f"Sequential([{layers}], input_size={self.input_size}, "
            f"dtype={self.dtype.name!r}, seed={self.seed}, engine={self._engine_wanted!r})"
        )

    # ------------------------------------------------------------------ storage

    def save(self, path: str | os.PathLike[str], optimizer_state: bool = False) -> None:
        """Write the model to a safetensors file, atomically; ``fastnn.load`` reads it.

        Parameters
        ----------
        path : str or path
        optimizer_state : bool
            With the optimizer's moments, so that a fit can be resumed.
        """
        from .files.models import save_model  # noqa: PLC0415 - files stand above the model

        save_model(self, path, checks.flag("optimizer_state", optimizer_state))

    def get_config(self) -> dict[str, Any]:
        """The model without its parameters, as plain data for JSON.

        Raises
        ------
        ValueError
            If two different custom activations have one name.
        """
        layers_.check_custom_names(self.layers)
        return {
            "input_size": self.input_size,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "layers": [layers_.to_config(layer) for layer in self.layers],
        }

    @classmethod
    def from_config(
        cls,
        config: Any,
        engine: str = "auto",
        custom: Mapping[str, CustomActivation] | None = None,
    ) -> Sequential:
        """A new model from what ``get_config`` gave; raises as the constructor does.

        ``custom`` holds the custom activations by name.
        """
        if not isinstance(config, dict):
            raise TypeError(f"the description of a model must be a dict, not {config!r}")
        arguments = dict(config)
        descriptions = arguments.pop("layers", None)
        if not isinstance(descriptions, list):
            raise TypeError("the description of a model must list its layers")
        found = [layers_.from_config(description, custom) for description in descriptions]
        return cls(found, engine=engine, **arguments)

    def optimizer_state(self) -> OptimizerState | None:
        """Updates made, moments (each flat), and what they belong to; None before any update.

        The last is plain data for JSON: the optimizer's numbers and the epochs done.
        """
        step, moments = self._built().get_state()
        if step == 0:
            return None
        return step, moments, {"rule": self._state_spec._asdict(), "epochs": self._epochs}

    def set_optimizer_state(self, state: OptimizerState | None) -> None:
        """Put back what ``optimizer_state`` gave; ``fit(resume=True)`` goes on from it.

        Raises
        ------
        TypeError, ValueError, KeyError
            Before anything changes.
        """
        network = self._built()
        if state is None:
            self._prepare_state(NO_STATE, resume=False)
            return
        step, moments, config = state
        step = checks.whole("step", step, at_least=0)
        epochs = checks.whole("epochs", config["epochs"], at_least=0)
        spec = optimizers.spec_from_config(config["rule"])
        if len(moments) != spec.moments:
            raise ValueError(f"{spec.name} has {spec.moments} moments here, not {len(moments)}")
        shape = (self.size,)
        plain = tuple(
            arrays.shaped(moment, shape, self.dtype, self._engine, f"moments[{k}]")
            for k, moment in enumerate(moments)
        )
        self._drop_online()
        network.set_state(step, plain)
        self._state_spec, self._epochs = spec, epochs

    def __getstate__(self) -> dict[str, Any]:
        """Everything that a copy needs; the engine is found again by its name."""
        network = self._network
        return {
            "layers": self.layers,
            "arguments": {"dtype": self.dtype.name, "seed": self.seed},
            "input_size": self.input_size,
            "engine": self._engine_wanted,
            "parameters": None if network is None else network.get_parameters(),
            "state": None if network is None else network.get_state(),
            "state_spec": tuple(self._state_spec),
            "epochs": self._epochs,
            "history": self.history,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the model anew."""
        model = type(self)(state["layers"], engine=state["engine"], **state["arguments"])
        self.__dict__.update(model.__dict__)
        if state["parameters"] is not None:
            self._build(state["input_size"], state["parameters"])
            self._built().set_state(*state["state"])
        self._state_spec = OptimizerSpec(*state["state_spec"])
        self._epochs, self.history = state["epochs"], state["history"]

    # ------------------------------------------------------------------ inside

    def _build(self, inputs: int, parameters: Array | None = None) -> None:
        """Make the network, unless it is there; draw its parameters, unless they are given."""
        if self._network is not None:
            return
        specs = layers_.specifications(self.layers, inputs)
        layers_.check_memory(specs, self.dtype.itemsize)
        network: Network = self._engine.Network(specs, self.dtype)
        if parameters is None:
            names = tuple(layer.initializer for layer in self.layers if isinstance(layer, Dense))
            parameters = initial_parameters(specs, names, self.seed, self.dtype)
        network.set_parameters(parameters)
        flops = threads.ONE_CALL * threads.SERIAL_FLOPS[self.dtype.itemsize]
        self._serial_size = int(flops / (_FORWARD * network.size) * inputs)
        self._network, self.specs = network, specs

    def _built(self) -> Network:
        if self._network is None:
            raise ValueError("the model has no parameters yet: give input_size, or fit it first")
        return self._network

    def _choose_threads(self, wanted: int | None, flops_per_parameter: float) -> int:
        """For a call that starts its own threads."""
        flops = flops_per_parameter * self.size / threads.ONE_CALL
        return threads.choose(wanted, flops, self.dtype)

    def _trainer(
        self,
        loss: LossSpec,
        optimizer: OptimizerSpec,
        batch_size: int,
        count: int,
        exactly: bool = True,
    ) -> Trainer:
        return self._built().trainer(loss, optimizer, batch_size, self.seed, count, exactly)

    def _prepare_state(self, spec: OptimizerSpec, resume: bool) -> None:
        """Start afresh, or keep the state of the same kind of optimizer."""
        self._drop_online()
        is_same = (spec.name, spec.moments) == (self._state_spec.name, self._state_spec.moments)
        if not (resume and is_same):
            self._built().set_state(0, ())
        if not resume:
            self._epochs = 0
        self._state_spec = spec

    def _drop_online(self) -> None:
        """Forget the trainer of ``train_on_batch``: its plan is for another state."""
        if self._online is not None:
            self._online.trainer.__exit__(None, None, None)
            self._online = None


def _busy() -> RuntimeError:
    return RuntimeError("this model is being trained already: one training at a time")
