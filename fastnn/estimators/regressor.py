"""The regressor: numbers, one column or several."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from ..fit.learner import Data
from ..losses import Huber, Quantile
from . import conventions
from .conventions import Loss
from .documentation import documented
from .perceptron import OneRow, Perceptron, one_at_a_time

Array = NDArray[Any]


@documented
class MLPRegressor(RegressorMixin, Perceptron):  # type: ignore[misc]
    """A neural network that predicts numbers, in the place of scikit-learn's of that name.

    Parameters
    ----------
    loss : str, Huber, Quantile or callable, default="squared_error"
        "squared_error" (half of it) and "poisson" (half the deviance, with a log link) as in
        scikit-learn; "mae", "huber", "quantile", Huber(…), Quantile(…) or a custom loss,
        which are means over rows and outputs.
    {parameters}

    Attributes
    ----------
    {attributes}
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Perceptron._parameter_constraints,
        "loss": [
            *(StrOptions({"squared_error", *conventions.REGRESSION}), Huber, Quantile, callable)
        ],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch, going on from the present state.

        Parameters
        ----------
        X, y, sample_weight
            As in ``fit``. One row of plain floats and its target, in the dtype of the first
            call, take a way that costs a few microseconds.

        Returns
        -------
        self
        """
        if sample_weight is not None or not self._has_learned(X, y):
            self._partial_fit(X, y, sample_weight)
        return self

    # ------------------------------------------------------------------ use

    def predict(self, X: Any) -> Array:
        """The targets of each row.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        ndarray (n_samples,) or (n_samples, n_outputs)
        """
        return _without_column(self._output(X))

    # ------------------------------------------------------------------ targets

    def _validate(self, X: Any, y: Any, *, reset: bool, is_incremental: bool) -> tuple[Any, Any]:
        """X and y checked."""
        X, y = self._checked(X, y, reset=reset, y_numeric=True)
        if self._out_activation() == "exp" and y.min() < 0:
            raise ValueError("y must not be negative for the loss 'poisson'")
        return X, y

    def _validate_held_out(self, X: Any, y: Any) -> tuple[Any, Any]:
        return self._validate(X, y, reset=False, is_incremental=False)

    def _encode(self, y: Any, dtype: Any) -> Array:
        """Columns (n, outputs)."""
        return np.require(y.reshape(len(y), -1), dtype, ["C", "A"])

    def _quick_target(self, y: Array, known: OneRow) -> Array | None:
        """The target of one row, if it is a plain number."""
        if y.dtype != known.dtype or (known.loss.is_poisson and y[0] < 0):
            return None
        return y.reshape(1, 1)

    def _decoded(self, target: Array) -> Array:
        return _without_column(target)

    def _out_activation(self) -> str:
        is_poisson = isinstance(self.loss, str) and self.loss == "poisson"
        return "exp" if is_poisson else "identity"

    def _loss(self, dtype: Any) -> Loss:
        return conventions.regression_loss(self.loss, self.n_outputs_)

    def _validation_score(self, data: Data) -> float:
        """R², the mean over outputs."""
        output = self._output(data.X, is_checked=True)
        if not np.isfinite(output).all():
            return float("nan")
        return float(r2_score(data.target, output, sample_weight=data.weight))


def _without_column(output: Array) -> Array:
    """A single column as (n,)."""
    return output.ravel() if output.shape[1] == 1 else output
