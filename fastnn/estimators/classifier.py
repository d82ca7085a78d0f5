"""The classifier: labels, probabilities, and how scikit-learn encodes them."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)

from ..fit.learner import Data
from ..losses import Huber, Quantile
from . import conventions
from .conventions import Loss
from .documentation import documented
from .perceptron import OneRow, Perceptron, one_at_a_time

Array = NDArray[Any]


@documented
class MLPClassifier(ClassifierMixin, Perceptron):  # type: ignore[misc]
    """A neural network that classifies, in the place of scikit-learn's of that name.

    Parameters
    ----------
    {parameters}
    loss : str, Huber, Quantile or callable, default="log_loss"
        The log loss, or a loss of the package on the probabilities.
    class_weight : dict, list of dict, "balanced" or None, default=None
        Class -> weight, times the sample weights; for multilabel targets a list.

    Attributes
    ----------
    classes_ : ndarray
    {attributes}
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Perceptron._parameter_constraints,
        "loss": [StrOptions({"log_loss", *conventions.CLASSIFICATION}), Huber, Quantile, callable],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        loss: Any = "log_loss",
        class_weight: Any = None,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        scoring: Any = None,
        callbacks: Any = None,
        progress: bool = False,
        threads: int | None = None,
        engine: str = "auto",
    ) -> None:
        self._store(locals())

    # ------------------------------------------------------------------ training

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    @one_at_a_time
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch, going on from the present state.

        Parameters
        ----------
        X, y, sample_weight
            As in ``fit``. One row of plain floats, in the dtype of the first call, and a
            label in an array take a way that costs a few microseconds.
        classes : array-like, optional
            All classes that will ever come; needed in the first call.

        Returns
        -------
        self
        """
        is_plain = sample_weight is None and classes is None
        if not (is_plain and self._has_learned(X, y)):
            self._partial_fit(X, y, sample_weight, classes)
        return self

    # ------------------------------------------------------------------ use

    def predict(self, X: Any) -> Array:
        """The most probable class of each row.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        ndarray (n_samples,) or (n_samples, n_outputs)
        """
        return self._decide(self._output(X))

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, (n_samples, n_classes); ordered as ``classes_``."""
        output = self._output(X)
        if self.n_outputs_ > 1:
            return output
        return np.hstack([1 - output, output])

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithm of ``predict_proba``."""
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)

    def _decide(self, output: Array) -> Array:
        """The classes for probabilities (n, outputs)."""
        classes: Array
        if self.out_activation_ == "softmax":
            classes = self.classes_[output.argmax(axis=1)]
        elif self.n_outputs_ == 1 and len(self.classes_) == 2:
            classes = self.classes_[(output[:, 0] > 0.5).astype(np.intp)]
        else:
            column = output.ravel() if self.n_outputs_ == 1 else output
            classes = self._label_binarizer.inverse_transform(column)
        return classes

    # ------------------------------------------------------------------ targets

    def _expect(self, y: Any, classes: Any) -> None:
        if _check_partial_fit_first_call(self, classes):
            is_multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if is_multilabel else classes)

    def _validate(self, X: Any, y: Any, *, reset: bool, is_incremental: bool) -> tuple[Any, Any]:
        """X and y checked, and the classes known."""
        X, y = self._checked(X, y, reset=reset)
        if reset and not is_incremental:
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
            return X, y
        classes = unique_labels(y)
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same "
                    "classes as in the previous call to fit. Previously "
                    f"got {self.classes_}, `y` has {classes}"
                )
        else:
            self._check_known(y, classes)
        return X, y

    def _validate_held_out(self, X: Any, y: Any) -> tuple[Any, Any]:
        X, y = self._checked(X, y, reset=False)
        self._check_known(y, unique_labels(y))
        return X, y

    def _check_known(self, y: Any, classes: Any) -> None:
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _encode(self, y: Any, dtype: Any) -> Array:
        """Labels (n,) int64 for several classes, else columns of zeros and ones."""
        if self._is_multiclass() and self._loss(dtype).spec.row.takes_labels:
            labels: Array = np.searchsorted(self.classes_, y).astype(np.int64)
            return labels
        columns = self._label_binarizer.transform(y)
        return np.require(columns, dtype, ["C", "A"])

    def _is_multiclass(self) -> bool:
        return bool(self._label_binarizer.y_type_ == "multiclass")

    def _quick_target(self, y: Array, known: OneRow) -> Array | None:
        """The target of one row, if its class is plain to see."""
        classes = self.classes_
        if y.dtype.kind != classes.dtype.kind or y.dtype.kind not in "iufbUS":
            return None
        index = int(classes.searchsorted(y[0]))
        if index == len(classes) or classes[index] != y[0] or len(classes) < 2:
            return None
        if self.out_activation_ != "softmax":
            return np.array([[index]], known.dtype) if self.n_outputs_ == 1 else None
        return np.array([index], np.int64) if known.loss.spec.row.takes_labels else None

    def _decoded(self, target: Array) -> Array:
        """The classes that a target stands for."""
        if target.ndim == 1:
            classes: Array = self.classes_[target]
            return classes
        return self._decide(target)

    def _out_activation(self) -> str:
        return "softmax" if self._is_multiclass() else "logistic"

    def _loss(self, dtype: Any) -> Loss:
        return conventions.classification_loss(self.loss, self._out_activation(), dtype)

    def _row_weights(self, y: Any, weight: Array | None, dtype: Any) -> Array | None:
        if self.class_weight is None:
            return weight
        factors = compute_sample_weight(self.class_weight, y)
        return np.ascontiguousarray(factors if weight is None else factors * weight, dtype)

    def _validation_score(self, data: Data) -> float:
        """The accuracy, of whole rows for multilabel."""
        output = self._forward(data.X)
        if not np.isfinite(output).all():
            return float("nan")
        if data.target.ndim == 1:
            is_right = output.argmax(axis=1) == data.target
        elif self.out_activation_ == "softmax":
            is_right = output.argmax(axis=1) == data.target.argmax(axis=1)
        else:
            is_right = ((output > 0.5) == (data.target > 0.5)).all(axis=1)
        return float(np.average(is_right, weights=data.weight))

    def __sklearn_tags__(self) -> Any:
        """Multilabel targets are accepted."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
