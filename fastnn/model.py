"""The model: layers, their parameters in an engine, and everything a user does with them.

``Sequential`` checks what it is given, once, and hands it to its ``Learner``. Arrays in the
model's dtype and C order go to the engine as they are. ``predict`` may run in any number of
threads; what changes parameters by training may run once at a time, and a second caller gets
a RuntimeError instead of a mixture.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from . import checks, losses
from . import layers as layers_
from .checks.threads import ONE_CALL
from .custom import CustomActivation
from .files import models
from .files.safetensors import FileFormatError
from .fit import lbfgs, online
from .fit.callbacks import History
from .fit.epochs import Course
from .fit.learner import Data, Learner
from .fit.plan import Plan, check_data
from .kernels import contract
from .kernels.contract import LayerSpec, LossSpec
from .kernels.loader import load as load_engine
from .layers import Layer
from .optimizers import LBFGS, State

__all__ = ["Sequential", "load"]

Array = NDArray[Any]


class Sequential:
    """A stack of layers.

    Parameters
    ----------
    layers : sequence of Dense, LayerNorm, Scale and Dropout
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
        found = layers_.check(layers)
        if seed is None:
            seed = int.from_bytes(os.urandom(8), "little")
        if input_size is not None:
            input_size = checks.whole("input_size", input_size, at_most=layers_.MOST_UNITS)
        self._learner = Learner(found, dtype, seed, engine)
        self.history: History | None = None
        self.stop_training = False
        if input_size is not None:
            self._learner.build(input_size)

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
            What ``fastnn.loss`` made, or "mse", "mae", "huber", "quantile", "log_cosh",
            "poisson", "hinge", "sum_squares", "cross_entropy" or "binary_cross_entropy".
        optimizer : str or optimizer
            "sgd", "rmsprop", "adagrad", "adam", "adamw", "nadam", "lion" or "lbfgs" with
            their default numbers, or SGD(…), Adam(…), …
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
            "accuracy", "mse", "mae", "r2", or f(target, output) -> float, at each epoch's end.
        threads : int or None
            Exactly so many; None chooses by the size of a step and what the process may
            use. The result does not depend on it.
        verbose : {0, 1, 2}
            Nothing, a bar, or a line per epoch, on stderr.
        resume : bool
            Go on with the count of epochs of the last fit, its schedule, and its state if
            the optimizer is of the same kind.

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
        return self._learner.claim.run(self._fit, SimpleNamespace(**locals()))

    def _fit(self, asked: SimpleNamespace) -> History:
        plan = Plan(self._learner, asked)
        self._learner.build(plan.data.X.shape[1])
        course = Course(self._learner, self, plan)
        if isinstance(plan.optimizer, LBFGS):
            lbfgs.run(course, plan.optimizer)
        else:
            course.run(plan.optimizer)
        return course.history

    def train_on_batch(
        self, X: Any, y: Any, loss: Any, optimizer: Any = "adam", sample_weight: Any = None
    ) -> float:
        """One update on these rows; go on from the optimizer's state.

        Fastest with plain arrays (the model's dtype, C order; int64 labels) and the same
        ``loss`` and ``optimizer`` objects in every call. Runs on the calling thread. In a
        schedule each update counts as an epoch of one step.

        Parameters, and what is raised, are as in ``fit``; not LBFGS. Returns the loss before
        the update.
        """
        learner = self._learner
        return learner.claim.run(online.train, (learner, X, y, loss, optimizer, sample_weight))

    # ------------------------------------------------------------------ use

    def predict(self, X: Any, threads: int | None = None) -> Array:
        """The output of the network, (n, outputs) in the model's dtype.

        NaN and inf flow through, and n may be 0; finite numbers too large for the dtype are a
        ValueError. May run in several threads at once; ``threads`` is as in ``fit``.
        """
        learner = self._learner
        network = learner.network
        if (
            network is not None
            and type(X) is np.ndarray
            and (
                X.size <= learner.serial_size
                if threads is None
                else threads == 1 and threads is not True
            )
        ):
            output = network.predict(X)
            if output is not None:
                return output
        return self._predict_checked(X, threads)

    def _predict_checked(self, X: Any, wanted: int | None) -> Array:
        learner, network = self._learner, self._learner.built()
        X = learner.gate.matrix(X, learner.inputs, learn=False)
        if len(X) == 0:
            return np.empty((0, self.output_size), self.dtype)
        output = network.predict(X, learner.thread_count(wanted, len(X) / ONE_CALL))
        assert output is not None, "the engine refuses a matrix that has been checked"
        return output

    def evaluate(
        self, X: Any, y: Any, loss: Any, sample_weight: Any = None, *, threads: int | None = None
    ) -> float:
        """The loss over all rows, without dropout; parameters are as in ``fit``.

        May run in several threads at once, as ``loss_and_gradient``.
        """
        data, row = self._checked(X, y, loss, sample_weight)
        count = self._learner.thread_count(threads, len(data.X) / ONE_CALL)
        return self._learner.evaluate(data, row, count)

    def loss_and_gradient(
        self, X: Any, y: Any, loss: Any, sample_weight: Any = None, *, threads: int | None = None
    ) -> tuple[float, Array]:
        """The loss over all rows and its gradient, without dropout; parameters as in ``fit``.

        The gradient is flat, ordered as ``parameters``.
        """
        data, row = self._checked(X, y, loss, sample_weight)
        count = self._learner.thread_count(threads, contract.STEP * len(data.X) / ONE_CALL)
        return self._learner.gradient(data, row, count)

    def _checked(self, X: Any, y: Any, loss: Any, sample_weight: Any) -> tuple[Data, LossSpec]:
        self._learner.built()
        row = losses.resolve(loss, self.last_activation)
        return check_data(self._learner, X, y, sample_weight, row), row

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
        network = self._learner.built()
        top = self.output_size - 1
        several = range(top + 1) if output is None else output
        several = several if isinstance(several, Iterable) else [several]
        chosen = [checks.whole("output", o, at_least=0, at_most=top) for o in several]
        if not chosen:
            raise ValueError("output names no output")
        X = self._learner.gate.matrix(X, self.input_size)
        return network.input_gradient(X, np.array(chosen, np.int64))

    # ------------------------------------------------------------------ parameters

    @property
    def parameters(self) -> Array:
        """All parameters, a flat copy: W0 row-major, b0, W1, b1, …; assign to set them."""
        return self._learner.parameters

    @parameters.setter
    def parameters(self, values: Any) -> None:
        learner = self._learner
        learner.parameters = learner.gate.shaped(values, (learner.size,), "parameters")

    @property
    def weights(self) -> list[tuple[Any, ...]]:
        """A tuple of tensors for each layer but Dropout, copies; assign to set them.

        (W, b) of a Dense, (scale, shift) of a LayerNorm, (scale,) of a Scale; None for what
        the layer does not have.
        """
        views = contract.views(self.specs, self.parameters)
        return [
            tuple(views[k].get(name) for name in contract.KINDS[spec.kind].tensors)
            for k, spec in enumerate(self.specs)
        ]

    @weights.setter
    def weights(self, values: Any) -> None:
        self._learner.built()
        self._learner.parameters = self._learner.gate.weights(values, self.specs)

    @property
    def learner(self) -> Learner:
        """What trains it, for callers who have checked what they give."""
        return self._learner

    @property
    def layers(self) -> tuple[Layer, ...]:
        """From input to output."""
        return self._learner.layers

    @property
    def specs(self) -> tuple[LayerSpec, ...]:
        """The layers with their shapes as engines take them; empty before there are parameters."""
        return self._learner.specs

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self._learner.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the parameters and of all arithmetic."""
        return self._learner.dtype

    @property
    def seed(self) -> int:
        """It determines initial weights, shuffles and dropout masks."""
        return self._learner.seed

    @property
    def input_size(self) -> int | None:
        """Columns of X, or None before there are parameters."""
        return self._learner.inputs

    @property
    def output_size(self) -> int:
        """Columns of the output."""
        return self._learner.last.units

    @property
    def last_activation(self) -> str | CustomActivation:
        """The activation of the last layer."""
        return self._learner.last.activation

    @property
    def engine(self) -> str:
        """The name of the engine in use."""
        return str(self._learner.engine.NAME)

    def summary(self) -> str:
        """A table of layers, shapes and numbers of parameters, to be printed."""
        engine = f"{self.engine} ({self._learner.engine.ISA})"
        table = layers_.table(self.layers, self.input_size)
        return f"{table}\n{self.dtype.name}, engine {engine}"

    def __repr__(self) -> str:
        """The call that makes such a model."""
        layers = ", ".join(map(repr, self.layers))
        return (
            f"Sequential([{layers}], input_size={self.input_size}, "
            f"dtype={self.dtype.name!r}, seed={self.seed}, engine={self._learner.engine_wanted!r})"
        )

    # ------------------------------------------------------------------ storage

    def save(
        self,
        path: str | os.PathLike[str],
        optimizer_state: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write the model to a safetensors file, atomically; ``fastnn.load`` reads it.

        Parameters
        ----------
        path : str or path
            Replaced if it exists, untouched if anything fails.
        optimizer_state : bool
            With the optimizer's moments, so that a fit can be resumed.
        metadata : mapping of str to str, optional
            Further entries for the file's header, such as how inputs were prepared;
            ``fastnn.files.read_metadata`` returns them.

        Raises
        ------
        ValueError, OSError
            If a parameter is NaN or infinite; if the file cannot be written.
        """
        is_wanted = checks.flag("optimizer_state", optimizer_state)
        state = self.optimizer_state() if is_wanted else None
        models.write(path, self.get_config(), self.specs, self.parameters, state, metadata)

    def get_config(self) -> dict[str, Any]:
        """The model without its parameters, as plain data for JSON.

        ValueError if two different custom activations have one name.
        """
        config = {"input_size": self.input_size, "dtype": self.dtype.name, "seed": self.seed}
        return {**config, "layers": layers_.to_configs(self.layers)}

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
        functions = layers_.functions_for(descriptions, custom)
        found = [layers_.from_config(description, functions) for description in descriptions]
        return cls(found, engine=engine, **arguments)

    def optimizer_state(self) -> State | None:
        """Updates made, moments (each flat), and what they belong to; None before any update.

        The last is plain data for JSON: the optimizer's numbers and the epochs done.
        """
        return self._learner.get_state()

    def set_optimizer_state(self, state: State | None) -> None:
        """Put back what ``optimizer_state`` gave; ``fit(resume=True)`` goes on from it.

        TypeError, ValueError or KeyError before anything changes.
        """
        self._learner.set_state(state)

    def __copy__(self) -> Self:
        """A model of its own."""
        return copy.deepcopy(self)


def load(
    path: str | os.PathLike[str],
    engine: str = "auto",
    custom: Mapping[str, CustomActivation] | None = None,
) -> Sequential:
    """Read a model that ``Sequential.save`` wrote, with its optimizer's state if that is there.

    Parameters
    ----------
    path : str or path-like
    engine : str
        The engine to run it on: "auto", "cython", "numba" or "numpy".
    custom : mapping of str to CustomActivation, optional
        The functions that the file names; it holds no code.

    Raises
    ------
    FileFormatError
        A ValueError: the file is not a whole and consistent model file.
    ValueError, OSError
        If ``custom`` lacks what it names; if it cannot be read.
    """
    load_engine(engine)  # a wrong engine is no fault of the file
    stored = models.read(path, custom)
    inputs = stored.config["input_size"]
    try:
        model = Sequential.from_config(stored.config | {"input_size": None}, engine, custom)
        model._learner.build(inputs, stored.parameters)  # without drawing initial weights
        if stored.state is not None:
            model.set_optimizer_state(stored.state)
    except (ValueError, TypeError, KeyError) as error:
        raise FileFormatError(f"the description of the model is not valid: {error}") from error
    return model
