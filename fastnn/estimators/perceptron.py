"""What the classifier and the regressor share: parameters, their checks, the fit.

A fit is planned whole before anything changes, then it runs in ``course``. What an estimator
does with its network afterwards stands in ``trained``.
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
from sklearn.base import _fit_context
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from .. import checks
from ..fit.callbacks import Callbacks
from ..kernels.contract import ACTIVATIONS, Trainer
from ..errors import unknown_name
from ..layers import Dense, Dropout, Layer
from ..model import Sequential
from ..optimizers import LBFGS, OPTIMIZERS, Optimizer
from ..fit.progress import Progress
from ..schedules import Schedule
from . import conventions, course
from .conventions import Loss, Rule
from .course import Data, Watch
from .trained import SPARSE, Trained, in_order

try:  # scikit-learn's experimental callbacks, from 1.9 on
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # pragma: no cover - older scikit-learn

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for what this scikit-learn does not have."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["Perceptron", "one_at_a_time", "with_callbacks"]

Array = NDArray[Any]
Method = TypeVar("Method", bound=Callable[..., Any])

#: What a fit keeps for going on with training, and a stripped estimator does not have.
_TRAINING_STATE = (
    "_rule",
    "_best_parameters",
    "_no_improvement_count",
    "loss_curve_",
    "validation_scores_",
    "validation_loss_curve_",
)

#: Results that a new fit begins without; a stripped estimator keeps them.
_RESULTS = ("best_loss_", "best_validation_score_")


def one_at_a_time(method: Method) -> Method:
    """A method that trains; RuntimeError while another of the same estimator does."""

    @wraps(method)
    def training(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A claim, no lock: KeyboardInterrupt comes after calls, and to give it up needs none.
        me = object()
        try:
            if self.__dict__.setdefault("_claim", me) is not me:
                raise RuntimeError(
                    f"this {type(self).__name__} is being trained already: one training at a time"
                )
            return method(self, *args, **kwargs)
        finally:
            if self._claim is me:
                del self._claim

    return cast(Method, training)


class _Plan(NamedTuple):
    """A fit whose every argument has been found good."""

    data: Data
    held_out: Data | None
    rule: Rule | None  # None for L-BFGS
    random_state: Any
    callbacks: Callbacks


class _Online(NamedTuple):
    """What ``partial_fit`` of one plain row needs, while no parameter changes."""

    trainer: Trainer
    loss: Loss
    read: Callable[[Any], tuple[Any, ...]]  # the parameters of an estimator, as they are now
    parameters: tuple[Any, ...]  # compared by identity


class Perceptron(CallbackSupportMixin, Trained):  # type: ignore[misc]
    """Base class of the estimators: made by its subclasses only.

    A subclass says what a target is: ``_validate_target``, ``_validate_held_out``,
    ``_encode``, ``_quick_target``, ``_decoded``, ``_output_count``, ``_out_activation``,
    ``_loss``, ``_validation_score`` and ``_is_stratified``.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"logistic", *ACTIVATIONS} - {"softmax"}), tuple, list, callable],
        "solver": [StrOptions(set(OPTIMIZERS)), Optimizer, LBFGS],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), Schedule],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "scoring": [str, callable, None],
        "callbacks": [HasMethods("__iter__"), None],
        "progress": ["boolean"],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
        "engine": [str],
    }

    loss: Any  # a parameter of both, in different places
    _claim: object = None  # who trains
    _rule: Rule
    _online: _Online
    _is_own_validation: bool
    _best_parameters: Array | None
    _no_improvement_count: int
    classes_: Array
    loss_curve_: list[float]
    best_loss_: float | None
    best_validation_score_: float | None
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None

    # ------------------------------------------------------------------ parameters

    def _store(self, arguments: dict[str, Any]) -> None:
        """Keep the arguments of a constructor, and nothing else."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        if not hasattr(sizes, "__iter__"):
            sizes = [sizes]
        sizes = list(sizes)
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [checks.whole("a number of hidden_layer_sizes", size) for size in sizes]

    def _activations(self, hidden: int) -> tuple[Any, ...]:
        """The activation of each hidden layer."""
        wanted = self.activation
        if not isinstance(wanted, (tuple, list)):
            wanted = (wanted,) * hidden
        if len(wanted) != hidden:
            raise ValueError(f"activation names {len(wanted)} layers, there are {hidden} hidden")
        for name in wanted:
            if isinstance(name, str) and name not in ("logistic", *ACTIVATIONS):
                raise unknown_name("activation", name, ("logistic", *ACTIVATIONS))
        conventions.check_activations(wanted)
        return tuple(wanted)

    def _dropouts(self, hidden: int) -> tuple[float, ...]:
        """The dropout after each hidden layer."""
        if isinstance(self.dropout, Real):
            return (float(self.dropout),) * hidden
        rates = tuple(checks.real("dropout", rate, at_least=0, below=1) for rate in self.dropout)
        if len(rates) != hidden:
            raise ValueError(f"dropout has {len(rates)} rates, there are {hidden} hidden layers")
        return rates

    def _check_solver(self) -> bool:
        if conventions.is_lbfgs(self.solver):
            raise AttributeError(
                "partial_fit is only available for stochastic"
                f" optimizers. {self.solver} is not stochastic."
            )
        return True

    @property
    def _wants_validation_loss(self) -> bool:
        by_loss = isinstance(self.scoring, str) and self.scoring == course.LOSS
        return self._is_own_validation or (self.early_stopping and by_loss)

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
        validation = (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, incremental=False, validation=validation)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        incremental: bool,
        validation: tuple[Any, Any, Any] = (None, None, None),
    ) -> Self:
        """Check everything, build the network if there is none, and train it."""
        self._drop_online()
        before = dict(self.__dict__)
        try:
            plan = self._plan(X, y, sample_weight, incremental=incremental, validation=validation)
        except BaseException:  # what could not begin has changed nothing
            self.__dict__ = before
            raise
        loss = self._loss(self._model.dtype)
        epochs = 1 if incremental else self.max_iter
        watch = Watch(plan.callbacks, Progress(int(self.progress), epochs), self._tasks())
        if plan.rule is None:
            course.run_lbfgs(self, plan.data, loss=loss, watch=watch)
        else:
            self._follow(plan.rule, incremental)
            self._begin_curves()
            course.run(
                self,
                plan.data,
                plan.held_out,
                rule=self._rule,
                loss=loss,
                random_state=plan.random_state,
                watch=watch,
                incremental=incremental,
            )
        self._check_weights()
        if incremental and len(plan.data.target) == 1:
            self._keep_online(loss)
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
        incremental: bool,
        validation: tuple[Any, Any, Any],
    ) -> _Plan:
        """Everything that may find a mistake; it leaves the network that is to be trained."""
        sizes = self._hidden_sizes()
        activations, dropouts = self._activations(len(sizes)), self._dropouts(len(sizes))
        conventions.check_loss(self.loss)
        callbacks = Callbacks(() if self.callbacks is None else self.callbacks)
        is_first = "_model" not in self.__dict__ or not (self.warm_start or incremental)
        X, y = self._validate_target(X, y, incremental=incremental, reset=is_first)
        dtype = X.dtype if is_first else self._model.dtype
        if is_first and conventions.is_lbfgs(self.solver):
            dtype = np.dtype(np.float64)  # as there, where SciPy's float64 vector takes over
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=dtype)
        target = self._encode(y, dtype)
        data = Data(in_order(X, dtype), target, self._row_weights(y, sample_weight, dtype))
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        rule = conventions.rule(self)
        random_state = check_random_state(self.random_state)
        held_out = self._own_validation(validation, dtype)
        self._is_own_validation = held_out is not None
        self._check_callbacks(callbacks, rule is not None)
        self.out_activation_ = self._out_activation()
        outputs = self._output_count(target)
        layers = conventions.layers(sizes, activations, dropouts, outputs, self.out_activation_)
        if is_first:
            self._draw(layers, X.shape[1], random_state, dtype)
        else:
            self._go_on(layers, random_state)
        if self.early_stopping and held_out is None and rule is not None:
            data, held_out = self._split(data, y, random_state)
        if held_out is not None and held_out.X.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        return _Plan(data, held_out, rule, random_state, callbacks)

    def _follow(self, rule: Rule, incremental: bool) -> None:
        """Start with the rule afresh; or go on with the last, but for what is no part of its state.

        scikit-learn reads the penalty at every step, and the rest when it makes an optimizer.
        """
        last = self.__dict__.get("_rule")
        if incremental and last is not None:
            last.spec = last.spec._replace(l2=rule.spec.l2, clip_norm=rule.spec.clip_norm)
        else:
            self._rule = rule
            self._model._prepare_state(rule.spec, resume=False)

    def _draw(self, layers: list[Layer], features: int, random_state: Any, dtype: Any) -> None:
        """Draw a new network and forget the last fit."""
        dense = [layer for layer in layers if isinstance(layer, Dense)]
        units = [features, *(layer.units for layer in dense)]
        names = [layer.activation for layer in dense[:-1]]
        names.append(names[-1] if names else self.activation)
        parameters = conventions.initial_parameters(units, names, random_state, dtype)
        model = self._network(layers, random_state, dtype)
        model._build(features, parameters)
        self._model = model
        self.n_iter_ = 0
        self.t_ = 0
        self.n_outputs_ = units[-1]
        self.n_layers_ = len(units)
        for name in (*_TRAINING_STATE, *_RESULTS):
            self.__dict__.pop(name, None)

    def _network(self, layers: list[Layer], random_state: Any, dtype: Any) -> Sequential:
        """Without parameters yet."""
        # a draw only where it is used: without dropout the draws stay scikit-learn's
        has_dropout = any(isinstance(layer, Dropout) for layer in layers)
        seed = int(random_state.randint(2**31 - 1)) if has_dropout else 0
        return Sequential(layers, dtype=dtype.name, seed=seed, engine=self.engine)

    def _go_on(self, layers: list[Layer], random_state: Any) -> None:
        """Keep weights and optimizer; what else a network has is as the parameters say now."""
        last = self._model
        have = [spec.outputs for spec in last.specs]
        units = [layer.units for layer in layers if isinstance(layer, Dense)]
        if have != units:
            raise ValueError(
                f"the fitted network has hidden layers of {have[:-1]} units and {have[-1]} "
                f"outputs, not {units[:-1]} and {units[-1]}: it cannot be trained further"
            )
        if (tuple(layers), self.engine) == (last.layers, last._engine_wanted):
            return
        model = self._network(layers, random_state, last.dtype)
        model._build(last.specs[0].inputs, last.parameters)
        model.set_optimizer_state(last.optimizer_state())
        self._model = model

    def _begin_curves(self) -> None:
        """Start the records of a fit; a warm start goes on with those that are there."""
        has_scores = self.early_stopping or self._is_own_validation
        wanted = {
            "loss_curve_": [],
            "_no_improvement_count": 0,
            "_best_parameters": None,
            "validation_scores_": [] if has_scores else None,
            "validation_loss_curve_": [] if self._wants_validation_loss else None,
            "best_validation_score_": -np.inf if self.early_stopping else None,
            "best_loss_": None if self.early_stopping else np.inf,
        }
        for name, start in wanted.items():
            if self.__dict__.get(name) is None:
                setattr(self, name, start)

    def _check_callbacks(self, callbacks: Callbacks, has_rate: bool) -> None:
        """Refuse callbacks that would wait for what never comes."""
        if callbacks.has("on_batch_end"):
            raise ValueError("on_batch_end is not called: an estimator's epochs run in the engine")
        names = ["loss"]
        if has_rate:
            names.append("learning_rate")
            if self.early_stopping or self._is_own_validation:
                names.append("val_score")
            if self._wants_validation_loss:
                names.append("val_loss")
        callbacks.check(names)

    def _row_weights(self, y: Any, sample_weight: Any, dtype: Any) -> Array | None:
        """The weights of the rows in the model's dtype, or None; ``y`` as the user has it."""
        return None if sample_weight is None else np.ascontiguousarray(sample_weight, dtype)

    def _own_validation(self, given: tuple[Any, Any, Any], dtype: Any) -> Data | None:
        X, y, weight = given
        if X is None and y is None:
            if weight is not None:
                raise ValueError("sample_weight_val needs X_val and y_val")
            return None
        if X is None or y is None:
            raise ValueError("give both X_val and y_val, or neither")
        if conventions.is_lbfgs(self.solver):
            raise ValueError("X_val is for stochastic solvers: lbfgs has no epochs")
        X, y = self._validate_held_out(X, y)
        if weight is not None:
            weight = _check_sample_weight(weight, X, dtype=dtype)
        return Data(in_order(X, dtype), self._encode(y, dtype), weight, y)

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

    def _split(self, data: Data, y: Any, random_state: Any) -> tuple[Data, Data]:
        """Rows to learn from and rows to watch, split as scikit-learn splits them."""
        rows = np.arange(data.X.shape[0])
        # in a column: the split's groups are then named, and ordered, as there
        groups = data.target.astype(bool).reshape(-1, 1) if self._is_stratified() else None
        train, test = train_test_split(
            rows, random_state=random_state, test_size=self.validation_fraction, stratify=groups
        )

        def part(chosen: Array) -> Data:
            weight = None if data.weight is None else data.weight[chosen]
            return Data(data.X[chosen], data.target[chosen], weight, y[chosen])

        return part(train), part(test)

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
        self._drop_online()
        for name in _TRAINING_STATE:
            self.__dict__.pop(name, None)
        self._model.set_optimizer_state(None)
        return self

    # ------------------------------------------------------------------ one plain row

    def _keep_online(self, loss: Loss) -> None:
        """Have a trainer ready for the next row; nothing that observes the fit may be there."""
        if self.verbose or self.callbacks or hasattr(self, "_skl_callbacks"):
            return
        if self._rule.schedule is not None or "feature_names_in_" in self.__dict__:
            return
        trainer = self._model._trainer(loss.row, self._rule.spec, 1, 1)
        read = operator.attrgetter(*self.get_params(deep=False))
        self._online = _Online(trainer, loss, read, read(self))

    def _drop_online(self) -> None:
        online = self.__dict__.pop("_online", None)
        if online is not None:
            online.trainer.__exit__(None, None, None)

    def _has_learned(self, X: Any, target: Array | None) -> bool:
        """Make the update for one plain row, if it is one and no parameter has changed."""
        online = self.__dict__.get("_online")
        if online is None or target is None or type(X) is not np.ndarray or len(X) != 1:
            return False
        if not all(map(operator.is_, online.read(self), online.parameters)):
            return False
        value = online.trainer.step(X, target, None, self._rule.rate)
        if value is None:
            return False
        constants = online.loss.constants(target)
        constant = 0.0 if constants is None else float(constants[0])
        self.n_iter_ = 0
        self.loss_ = online.loss.reported(value, online.trainer.penalty, constant)
        course.end_epoch(self, self._rule, 1, _nothing)
        if not math.isfinite(value):  # finite weights had led to it; a look at all takes longer
            self._check_weights()
        return True


def _nothing() -> None:
    """No validation."""
