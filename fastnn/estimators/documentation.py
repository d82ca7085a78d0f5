"""The parameters that both estimators document, written once.

``documented`` puts them into the docstring of a class, at the line ``{parameters}``.
"""

from __future__ import annotations

from typing import Any

PARAMETERS = """\
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Units of each hidden layer; empty for a linear model.
    activation : str, callable or tuple of them, default="relu"
        Of the hidden layers: "identity", "logistic", "tanh", "relu", any activation of
        ``fastnn.kernels.contract.ACTIVATIONS``, one of ``fastnn.activation``; a tuple has one for
        each hidden layer.
    solver : str or optimizer, default="adam"
        "sgd", "adam" and "lbfgs" as in scikit-learn; "adamw", "nadam", "lion", "rmsprop",
        "adagrad" with ``learning_rate_init``, the betas and ``epsilon``; or an object such
        as ``fastnn.SGD(0.1, momentum=0.9)``, whose own numbers count.
    alpha : float, default=0.0001
        The penalty alpha · ‖W‖² / (2 Σ w) on weights, w the sample weights of the batch.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive"} or Schedule, default="constant"
        "invscaling" divides by (t + 1)**power_t, t the samples seen; "adaptive" divides by
        5 when the fit no longer improves: both act on "sgd" alone. A schedule of the
        package, which has its own rates, acts on every first-order solver.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Epochs; iterations of "lbfgs".
    shuffle : bool, default=True
    random_state : int, RandomState or None, default=None
        Of the initial weights, the split and the shuffles, drawn in scikit-learn's order:
        the same number gives the same fit as there, up to rounding.
    tol : float, default=1e-4
        An epoch that improves the loss (or the score) by less counts as one without
        improvement.
    verbose : bool or int, default=False
        Print a line for each epoch.
    warm_start : bool, default=False
        ``fit`` goes on from the present weights.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
    early_stopping : bool, default=False
        Hold back ``validation_fraction`` of the rows, or take ``X_val``; stop when the score
        there no longer improves, and end with the best weights.
    validation_fraction : float, default=0.1
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of Adam; epsilon is added before the bias correction.
    n_iter_no_change : int, default=10
        Epochs without improvement until the fit stops.
    max_fun : int, default=15000
        Evaluations of "lbfgs".
    dropout : float or array-like of float, default=0.0
        The rate after each hidden layer, while training.
    clip_norm : float or None, default=None
        The bound of the gradient's Euclidean norm.
    scoring : str, callable or None, default=None
        What early stopping watches: None the accuracy or R², "loss" the negative loss, or
        a scorer of scikit-learn.
    callbacks : list or None, default=None
        Callbacks of the package; their ``self.model`` is the network. The logs have
        "loss", "learning_rate" and, with a validation set, "val_score" and "val_loss".
        scikit-learn's own are set by ``set_callbacks``.
    progress : bool, default=False
        A progress bar on stderr.
    threads : int or None, default=None
        Exactly so many; None chooses. The result does not depend on it.
    engine : {"auto", "cython", "numba", "numpy"}, default="auto"
"""

ATTRIBUTES = """\
    loss_ : float
        Of the last epoch, penalty included.
    best_loss_ : float or None
    loss_curve_ : list of float
        One for each epoch, measured before each update. Not with "lbfgs".
    validation_scores_ : list of float or None
    best_validation_score_ : float or None
    validation_loss_curve_ : list of float or None
        With ``X_val``, or if early stopping watches the loss.
    t_ : int
        Samples seen.
    coefs_, intercepts_ : list of ndarray
        Weights (inputs, outputs) and biases of each layer: read-only copies; assign a list
        to set them.
    n_features_in_, n_iter_, n_layers_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        If the columns of X have names.
    out_activation_ : str
        "softmax", "logistic", "identity" or "exp".
"""


def documented(kind: type[Any]) -> type[Any]:
    """The class with the common parts in its docstring."""
    text = kind.__doc__ or ""
    kind.__doc__ = text.replace("    {parameters}\n", PARAMETERS).replace(
        "    {attributes}\n", ATTRIBUTES
    )
    return kind
