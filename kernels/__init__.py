"""The kernels on plain arrays, for those who embed single ones in a pipeline of their own.

Every function takes NumPy arrays of float32 or float64, in any layout, read-only or not,
checks them once, and calls the row of that name of an engine: the fastest that can be
imported, or the one given as ``engine`` ("cython", "numba", "numpy"). ``out`` arguments are
filled and returned; without them new arrays are.

The engines themselves are the modules beside this one; what they promise each other is
stated in ``fastnn/engines.py``.
"""

if __name__ == "kernels":
    raise ImportError(
        "the folder kernels/ of a checkout is not a package of its own: "
        "install the project (pip install -e .) and import fastnn.kernels"
    )

from .plain import (
    activation_backward,
    activation_forward,
    all_finite,
    linear_backward,
    linear_forward,
    loss_value_and_delta,
    optimizer_update,
)

__all__ = [
    "activation_backward",
    "activation_forward",
    "all_finite",
    "linear_backward",
    "linear_forward",
    "loss_value_and_delta",
    "optimizer_update",
]
