"""A network that is there: its output, its gradient, its weights, its storage.

The parameters of a fitted estimator live in a ``Sequential``, ``_model``; ``coefs_`` and
``intercepts_`` are copies of them. A row or two of plain floats takes a short way past
scikit-learn's validation, which costs a hundred times what the network does: the engine
checks such arrays itself.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Self

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from ..checks.threads import ONE_CALL
from ..custom import CustomActivation, CustomLoss
from ..model import Sequential
from .training import Record, dense

Array = NDArray[Any]

SPARSE = ["csr", "csc"]  # forms of a sparse matrix that are taken as they are

#: The layout of a pickled estimator; raised when an older one can no longer be read.
_STATE_VERSION = 2

#: What an estimator has that is bound to a process or to a call: no copy takes it over.
RUNNING = ("_one_row", "_claim")


class Result:
    """An attribute that the estimator's record has, as soon as a fit has led to it."""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    def __get__(self, estimator: Any, kind: type[Any]) -> Any:
        if estimator is None:
            return self
        record = vars(estimator).get("_record")
        if record is None or self.name not in vars(record):
            raise AttributeError(f"{kind.__name__} has no {self.name}: no fit has led to it")
        return vars(record)[self.name]


class Trained(BaseEstimator):  # type: ignore[misc]
    """Base class of the estimators: what they do with a network, once they have one."""

    _model: Sequential
    _record: Record
    out_activation_: str
    threads: int | None

    n_iter_, t_ = Result(), Result()
    loss_, best_loss_, loss_curve_ = Result(), Result(), Result()
    best_validation_score_, validation_scores_ = Result(), Result()
    validation_loss_curve_ = Result()

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a network, whatever else a call has left."""
        return "_model" in vars(self)

    # ------------------------------------------------------------------ use

    def _checked_rows(self, X: Any) -> Any:
        """X (n, features) for a fitted estimator."""
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse=SPARSE, reset=False)

    def _thread_count(self, passes: float) -> int:
        """As the model API chooses; one in a worker thread of joblib, which has others."""
        wanted = self.threads
        if wanted is None and threading.current_thread() is not threading.main_thread():
            backend, _ = joblib.parallel.get_active_backend()
            if getattr(backend, "nesting_level", 0):
                wanted = 1
        return self._model.learner.thread_count(wanted, passes)

    def _quick_output(self, X: Any) -> Array | None:
        """The network's output for plain finite rows; None if there is anything to look at."""
        model = self.__dict__.get("_model")
        if model is None or type(X) is not np.ndarray or "feature_names_in_" in self.__dict__:
            return None
        learner = model.learner
        if (
            X.ndim != 2
            or X.dtype != learner.dtype
            or X.size > learner.serial_size
            or X.shape[0] == 0
            or not learner.engine.all_finite(X)
        ):
            return None
        output: Array | None = learner.network.predict(X)
        return output

    def _output(self, X: Any, *, is_checked: bool = False) -> Array:
        """The output of the network, (n, outputs); that of a log link as its exponential."""
        output = None if is_checked else self._quick_output(X)
        if output is None:
            output = self._forward(X if is_checked else self._checked_rows(X))
        return np.exp(output) if self.out_activation_ == "exp" else output

    def _forward(self, X: Any) -> Array:
        model = self._model
        if sparse.issparse(X):
            X, chunk = X.tocsr(), max(1, 2**22 // X.shape[1])
            parts = (dense(X[first : first + chunk]) for first in range(0, X.shape[0], chunk))
            return np.concatenate([model.predict(in_order(x, model.dtype)) for x in parts])
        return model.predict(in_order(X, model.dtype), self._thread_count(len(X) / ONE_CALL))

    def input_gradient(self, X: Any, output: Any = None) -> Array:
        """The derivatives of the network's output by the features.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
        output : int, sequence of int, or None
            Which outputs: of a classifier probabilities (of the second class, if there are
            two), of a regressor its targets. None is all of them.

        Returns
        -------
        ndarray (n_samples, len(output), n_features)
        """
        X = in_order(dense(self._checked_rows(X)), self._model.dtype)
        gradient = self._model.input_gradient(X, output)
        if self.out_activation_ == "exp":
            chosen = slice(None) if output is None else np.atleast_1d(output)
            gradient *= np.exp(self._model.predict(X))[:, chosen, np.newaxis]
        return gradient

    @property
    def coefs_(self) -> list[Array]:
        """Weights (inputs, outputs) of each layer: read-only copies. Assign a list to set them."""
        return [_read_only(weight) for weight, _ in self._fitted_model().weights]

    @coefs_.setter
    def coefs_(self, values: Iterable[Any]) -> None:
        self._fitted_model().weights = list(zip(values, self.intercepts_, strict=True))

    @property
    def intercepts_(self) -> list[Array]:
        """Biases (outputs,) of each layer: read-only copies. Assign a list to set them."""
        return [_read_only(bias) for _, bias in self._fitted_model().weights]

    @intercepts_.setter
    def intercepts_(self, values: Iterable[Any]) -> None:
        self._fitted_model().weights = list(zip(self.coefs_, values, strict=True))

    def _fitted_model(self) -> Sequential:
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{type(self).__name__} has no weights: it is not fitted")
        return self._model

    def to_sequential(self) -> Sequential:
        """A copy of the network as a model of its own.

        Its output is that of ``predict_proba`` (one column for two classes) or ``predict``;
        for a Poisson loss its logarithm.
        """
        check_is_fitted(self)
        model = copy.deepcopy(self._model)
        model.set_optimizer_state(None)
        return model

    # ------------------------------------------------------------------ storage

    def save(self, path: Any) -> None:
        """Write the fitted estimator to a safetensors file, without pickle.

        Custom activations and losses are named in the file, their code is not there.

        Raises
        ------
        TypeError
            For a parameter that is no plain data, such as a callback; it is named.
        ValueError
            If two different custom functions have one name.
        """
        from . import storage  # noqa: PLC0415 - few need it

        check_is_fitted(self)
        storage.save(self, path)

    @classmethod
    def load(
        cls,
        path: Any,
        engine: str | None = None,
        custom: Mapping[str, CustomActivation | CustomLoss] | None = None,
    ) -> Self:
        """Read what ``save`` wrote.

        Parameters
        ----------
        path : str or path
        engine : str, optional
            In the place of the one that the estimator was made with.
        custom : mapping of str to CustomActivation or CustomLoss, optional
            The custom functions that the file names, by name.

        Returns
        -------
        An estimator that predicts as the saved one; the state of its optimizer is not there.

        Raises
        ------
        fastnn.files.FileFormatError
            If the file is not such a file, or of another kind of estimator.
        TypeError, ValueError
            If ``custom`` holds something else, or lacks a function that the file names.
        """
        from . import storage  # noqa: PLC0415

        found: Self = storage.load(cls, path, engine, custom)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what belongs to a running training."""
        state = {k: v for k, v in super().__getstate__().items() if k not in RUNNING}
        return state | {"_state_version": _STATE_VERSION}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over the state; one of a newer layout is refused with what to do."""
        version = state.pop("_state_version", None)
        if version != _STATE_VERSION:
            raise ValueError(
                f"this {type(self).__name__} was pickled in layout {version!r}, and this fastnn "
                f"reads layout {_STATE_VERSION}: unpickle it with the fastnn that wrote it, and "
                "hand it over by save() and load()"
            )
        super().__setstate__(state)

    def _fitted_attributes(self) -> dict[str, Any]:
        """What makes an estimator of equal parameters predict as this one does now."""
        left_out = {*self.get_params(deep=False), *RUNNING}
        state = {k: v for k, v in vars(self).items() if k not in left_out and "callback" not in k}
        return state | {name: copy.deepcopy(state[name]) for name in ("_model", "_record")}

    def __sklearn_tags__(self) -> Any:
        """Sparse input is accepted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _read_only(values: Any) -> Array:
    array: Array = np.array(values)
    array.flags.writeable = False
    return array


def in_order(X: Any, dtype: Any) -> Any:
    """Rows as the engine takes them; a sparse matrix in CSR form."""
    if sparse.issparse(X):
        return X.tocsr().astype(dtype, copy=False)
    return np.require(X, dtype, ["C", "A"])
