"""scikit-learn's estimators over the engines: ``MLPClassifier`` and ``MLPRegressor``.

They take the place of those in ``sklearn.neural_network``: parameters, attributes and random
draws are theirs, the training is ours. What differs between scikit-learn's conventions and
those of the model API stands in ``conventions``; the course of a fit in ``course``.
Needs the extra "sklearn".
"""

from ..errors import import_extra

import_extra("sklearn", "sklearn", "MLPClassifier and MLPRegressor")

from .classifier import MLPClassifier  # noqa: E402 - scikit-learn is there now
from .regressor import MLPRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor"]
