"""What the classifier and the regressor share: parameters, their checks, the fit.

A fit is planned whole before anything changes, then it runs in ``training``. What an
estimator does with its network afterwards stands in ``trained``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context, is_classifier
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import checks, losses
from ..fit.callbacks import Callbacks
from ..fit.learner import Claim, Data
from ..kernels.contract import ACTIVATIONS, Trainer
from ..layers import Dense, Dropout, Layer, specifications
from ..layers import check as check_layers
from ..model import Sequential
from ..optimizers import LBFGS, OPTIMIZERS, Optimizer
from ..schedules import Schedule
from . import conventions
from .conventions import Loss
from .trained import SPARSE, Trained, in_order
from .training import LOSS, Plan, Record, Training

try:  # scikit-learn's experimental callbacks, from 1.9 on
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # pragma: no cover - older scikit-learn
    CallbackSupportMixin = type("CallbackSupportMixin", (), {})
    with_callbacks = lambda method: method  # noqa: E731

Array = NDArray[Any]
Method = TypeVar("Method", bound=Callable[..., Any])


def one_at_a_time(method: Method) -> Method:
    """A method that trains; RuntimeError while another of the same estimator does."""

    @wraps(method)
    def training(self: Any, *args: Any, **kwargs: Any) -> Any:
        claim = self.__dict__.get("_claim") or self.__dict__.setdefault(
            "_claim", Claim(type(self).__name__)
        )
        return claim.run(lambda estimator: method(estimator, *args, **kwargs), self)

    return cast(Method, training)


class OneRow(NamedTuple):
    """What ``partial_fit`` of one plain row needs, while no parameter changes."""

    trainer: Trainer
    loss: Loss
    dtype: Any
    read: Callable[[Any], tuple[Any, ...]]  # the parameters of an estimator, as they are now
    parameters: tuple[Any, ...]  # compared by identity


#: What names an activation of a hidden layer.
_ACTIVATIONS = {
    name for row in ACTIVATIONS if row != "softmax" for name in (row, *ACTIVATIONS[row].names)
}

_NOT_NEGATIVE = [Interval(Real, 0, None, closed="left")]
_POSITIVE = [Interval(Real, 0, None, closed="neither")]
_FRACTION = [Interval(Real, 0, 1, closed="left")]
_COUNT = [Interval(Integral, 1, None, closed="left")]
_FLAG = ["boolean"]


class Perceptron(CallbackSupportMixin, Trained):  # type: ignore[misc]
    """Base class of the estimators: made by its subclasses only.

    A subclass says what a target is: ``_validate``, ``_validate_held_out``, ``_encode``,
    ``_quick_target``, ``_decoded``, ``_out_activation``, ``_loss`` and ``_validation_score``.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", *_COUNT],
        "activation": [StrOptions(_ACTIVATIONS), tuple, list, callable],
        "solver": [StrOptions(set(OPTIMIZERS)), Optimizer, LBFGS],
        "batch_size": [StrOptions({"auto"}), *_COUNT],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), Schedule],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "n_iter_no_change": [*_COUNT, Options(Real, {np.inf})],
        "dropout": [*_FRACTION, "array-like"],
        "clip_norm": [*_POSITIVE, None],
        "scoring": [str, callable, None],
        "callbacks": [HasMethods("__iter__"), None],
        "threads": [*_COUNT, None],
        "engine": [str],
        **dict.fromkeys(("alpha", "power_t", "tol"), _NOT_NEGATIVE),
        **dict.fromkeys(("learning_rate_init", "epsilon"), _POSITIVE),
        **dict.fromkeys(("validation_fraction", "beta_1", "beta_2"), _FRACTION),
        **dict.fromkeys(("max_iter", "max_fun"), _COUNT),
        **dict.fromkeys(("shuffle", "warm_start", "progress"), _FLAG),
        **dict.fromkeys(("nesterovs_momentum", "early_stopping"), _FLAG),
    }

    loss: Any  # a parameter of both, in different places
    classes_: Array  # of a classifier
    _one_row: OneRow

    # ------------------------------------------------------------------ parameters

    def _store(self, arguments: dict[str, Any]) -> None:
        """Keep the arguments of a constructor, and nothing else."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _hidden_layers(self) -> list[Layer]:
        """The hidden layers, each followed by its dropout."""
        sizes, activations, rates = self.hidden_layer_sizes, self.activation, self.dropout
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        n, found = len(sizes), list[Layer]()
        activations = activations if isinstance(activations, (tuple, list)) else [activations] * n
        if len(activations) != n:
            raise ValueError(f"activation names {len(activations)} layers, there are {n} hidden")
        rates = [rates] * n if isinstance(rates, Real) else list(rates)
        if len(rates) != n:
            raise ValueError(f"dropout has {len(rates)} rates, there are {n} hidden layers")
        for size, activation, rate in zip(sizes, activations, rates, strict=True):
            units = checks.whole("a number of hidden_layer_sizes", size)
            found.append(Dense(units, activation))
            if checks.real("dropout", rate, at_least=0, below=1) > 0:
                found.append(Dropout(rate))
        check_layers([*found, Dense(1)])
        return found

    def _check_solver(self) -> bool:
        if conventions.is_lbfgs(self.solver):
            raise AttributeError(
                "partial_fit is only available for stochastic"
                f" optimizers. {self.solver} is not stochastic."
            )
        return True

    # ------------------------------------------------------------------ fit

    @one_at_a_time
    @with_callbacks  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train on rows of X and what is to be predicted for them, y.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
        y : array-like (n_samples,) or (n_samples, n_outputs)
            For a classifier labels of any sortable kind, or rows of zeros and ones, for
            multilabel; for a regressor numbers.
        sample_weight : array-like (n_samples,), optional
        X_val, y_val : array-like, optional
            A validation set, in the place of the one that early stopping holds back.
        sample_weight_val : array-like, optional

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For what cannot be trained, before anything changes; ValueError also where the
            weights have become NaN or infinite.
        RuntimeError
            If another training of this estimator is running.
        """
        return self._fit(X, y, sample_weight, validation=(X_val, y_val, sample_weight_val))

    @with_callbacks  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        return self._fit(X, y, sample_weight, is_incremental=True, classes=classes)

    def _fit(self, X: Any, y: Any, sample_weight: Any, **how: Any) -> Self:
        """Check everything, build the network if there is none, and train it."""
        self._drop_one_row()
        before = dict(vars(self))
        try:
            plan = self._plan(X, y, sample_weight, **how)
        except BaseException:  # what could not begin has changed nothing
            self.__dict__ = before
            raise
        self._model.learner.claim.run(Training.run, Training(self, plan))
        self._check_weights()
        if plan.is_incremental and len(plan.data.target) == 1:
            self._keep_one_row(plan.loss)
        return self

    def _check_weights(self) -> None:
        if not np.isfinite(self._model.parameters).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may"
                " contain large values and need to be preprocessed."
            )

    def _plan(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        is_incremental: bool = False,
        classes: Any = None,
        validation: tuple[Any, Any, Any] = (None, None, None),
    ) -> Plan:
        """Everything that may find a mistake; it leaves the network that is to be trained."""
        if is_incremental:
            self._expect(y, classes)
        hidden = self._hidden_layers()
        if not isinstance(self.loss, str):
            losses.resolve(self.loss, "identity")
        callbacks = Callbacks(() if self.callbacks is None else self.callbacks)
        is_first = "_model" not in vars(self) or not (self.warm_start or is_incremental)
        X, y = self._validate(X, y, reset=is_first, is_incremental=is_incremental)
        dtype = X.dtype if is_first else self._model.dtype
        if is_first and conventions.is_lbfgs(self.solver):
            dtype = np.dtype(np.float64)  # as there, where SciPy's float64 vector takes over
        data = self._data(X, y, sample_weight, dtype)
        data = data._replace(weight=self._row_weights(y, data.weight, dtype))
        if is_incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        rule = conventions.rule(self)
        random_state = check_random_state(self.random_state)
        held_out = self._own_validation(validation, dtype)
        by_loss = isinstance(self.scoring, str) and self.scoring == LOSS
        has_val_loss = held_out is not None or (self.early_stopping and by_loss)
        has_score = held_out is not None or self.early_stopping
        logs = {"learning_rate": True, "val_score": has_score, "val_loss": has_val_loss}
        _check_callbacks(callbacks, {} if rule is None else logs)
        self.out_activation_ = self._out_activation()
        outputs = len(self.classes_) if data.target.ndim == 1 else data.target.shape[1]
        layers = (*hidden, Dense(outputs, conventions.last_activation(self.out_activation_)))
        if is_first:
            self._draw(layers, X.shape[1], random_state, dtype)
        else:
            self._go_on(layers, random_state)
        if self.early_stopping and held_out is None and rule is not None:
            rows, held_rows = self._split(data, random_state)
            data, held_out = data.take(rows), (data.take(held_rows), y[held_rows])
        if held_out is not None and held_out[0].X.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        return Plan(
            data=data,
            held_out=held_out,
            has_val_loss=has_val_loss,
            rule=rule,
            loss=self._loss(dtype),
            random_state=random_state,
            callbacks=callbacks,
            is_incremental=is_incremental,
        )

    def _expect(self, y: Any, classes: Any) -> None:
        """Note which classes there will be, in ``partial_fit``."""

    def _data(self, X: Any, y: Any, weight: Any, dtype: Any) -> Data:
        """What has been checked, as the engine takes it."""
        if weight is not None:
            weight = np.ascontiguousarray(_check_sample_weight(weight, X, dtype=dtype), dtype)
        return Data(in_order(X, dtype), self._encode(y, dtype), weight)

    def _row_weights(self, y: Any, weight: Array | None, dtype: Any) -> Array | None:
        """The weights of the training rows; ``y`` as the user has it."""
        return weight

    def _draw(
        self, layers: tuple[Layer, ...], features: int, random_state: Any, dtype: Any
    ) -> None:
        """Draw a new network and forget the last fit."""
        specs = specifications(layers, features)
        start = conventions.initial_parameters(specs, self.activation, random_state, dtype)
        self._model = self._network(layers, random_state, dtype)
        self._model.learner.build(features, start)
        self._record = Record()
        self.n_outputs_ = specs[-1].outputs
        self.n_layers_ = len(specs) + 1

    def _network(self, layers: tuple[Layer, ...], random_state: Any, dtype: Any) -> Sequential:
        """Without parameters yet."""
        # a draw only where it is used: without dropout the draws stay scikit-learn's
        has_dropout = any(isinstance(layer, Dropout) for layer in layers)
        seed = int(random_state.randint(2**31 - 1)) if has_dropout else 0
        return Sequential(layers, dtype=dtype.name, seed=seed, engine=self.engine)

    def _go_on(self, layers: tuple[Layer, ...], random_state: Any) -> None:
        """Keep weights and optimizer; what else a network has is as the parameters say now."""
        last = self._model
        have = [spec.outputs for spec in last.specs]
        units = [layer.units for layer in layers if isinstance(layer, Dense)]
        if have != units:
            raise ValueError(
                f"the fitted network has hidden layers of {have[:-1]} units and {have[-1]} "
                f"outputs, not {units[:-1]} and {units[-1]}: it cannot be trained further"
            )
        if (layers, self.engine) == (last.layers, last.learner.engine_wanted):
            return
        model = self._network(layers, random_state, last.dtype)
        model.learner.build(last.specs[0].inputs, last.parameters)
        model.set_optimizer_state(last.optimizer_state())
        self._model = model

    def _own_validation(self, given: tuple[Any, Any, Any], dtype: Any) -> tuple[Data, Any] | None:
        """The user's validation set, and its y as it is given."""
        X, y, weight = given
        if (X is None) != (y is None):
            raise ValueError("give both X_val and y_val, or neither")
        if X is None:
            if weight is not None:
                raise ValueError("sample_weight_val needs X_val and y_val")
            return None
        if conventions.is_lbfgs(self.solver):
            raise ValueError("X_val is for stochastic solvers: lbfgs has no epochs")
        X, y = self._validate_held_out(X, y)
        return self._data(X, y, weight, dtype), y

    def _checked(self, X: Any, y: Any, *, reset: bool, y_numeric: bool = False) -> tuple[Any, Any]:
        """X (n, features), dense or in CSR or CSC form, and y: (n,) instead of a column."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=SPARSE,
            multi_output=True,
            y_numeric=y_numeric,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _split(self, data: Data, random_state: Any) -> Any:
        """Rows to learn from and rows to watch, split as scikit-learn splits them."""
        rows = np.arange(data.X.shape[0])
        # in a column: the split's groups are then named, and ordered, as there
        is_stratified = is_classifier(self) and self.n_outputs_ == 1
        groups = data.target.astype(bool).reshape(-1, 1) if is_stratified else None
        size = self.validation_fraction
        return train_test_split(rows, random_state=random_state, test_size=size, stratify=groups)

    def _tasks(self) -> Any:
        """scikit-learn's context for its callbacks, or None where there are none."""
        if not (hasattr(self, "_skl_callbacks") or hasattr(self, "_parent_callback_ctx")):
            return None
        context = self._init_callback_context(max_subtasks=self.max_iter)
        return context.call_on_fit_task_begin(estimator=self)

    def strip(self) -> Self:
        """Forget what only further training needs: moments, curves, the best weights so far.

        The estimator predicts as before and its pickle is little more than its weights.
        ``partial_fit`` starts with a new optimizer.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        self._drop_one_row()
        self._record = self._record.strip()
        self._model.set_optimizer_state(None)
        return self

    # ------------------------------------------------------------------ one plain row

    def _keep_one_row(self, loss: Loss) -> None:
        """Have a trainer ready for the next row; nothing that observes the fit may be there."""
        rule = self._record.rule
        is_seen = self.verbose or self.callbacks or hasattr(self, "_skl_callbacks")
        if is_seen or rule is None or rule.schedule or "feature_names_in_" in vars(self):
            return
        trainer = self._model.learner.trainer(loss.spec, rule.spec, 1)
        read = operator.attrgetter(*self.get_params(deep=False))
        self._one_row = OneRow(trainer, loss, self._model.dtype, read, read(self))

    def _drop_one_row(self) -> None:
        known = self.__dict__.pop("_one_row", None)
        if known is not None:
            known.trainer.__exit__(None, None, None)

    def _has_learned(self, X: Any, y: Any) -> bool:
        """Make the update for one plain row, if it is one and no parameter has changed."""
        known: OneRow | None = self.__dict__.get("_one_row")
        if known is None or type(X) is not np.ndarray or type(y) is not np.ndarray:
            return False
        if len(X) != 1 or y.shape != (1,):
            return False
        target = self._quick_target(y, known)
        if target is None or not all(map(operator.is_, known.read(self), known.parameters)):
            return False
        record: Any = self._record
        value = known.trainer.step(X, target, None, record.rule.rate)
        if value is None:
            return False
        constants = known.loss.constants(target)
        constant = 0.0 if constants is None else float(constants[0])
        record.n_iter_ = 0
        loss = known.loss.reported(value, known.trainer.penalty, constant)
        record.end_epoch(self, 1, {"loss": loss})
        if not math.isfinite(value):  # finite weights had led to it; a look at all takes longer
            self._check_weights()
        return True


def _check_callbacks(callbacks: Callbacks, logs: dict[str, bool]) -> None:
    """Refuse callbacks that would wait for what never comes."""
    if callbacks.has("on_batch_end"):
        raise ValueError("on_batch_end is not called: an estimator's epochs run in the engine")
    callbacks.check(["loss", *(name for name, is_there in logs.items() if is_there)])
