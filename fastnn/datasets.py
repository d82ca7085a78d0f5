"""Data that comes with the package, and a split that is the same everywhere.

``load_digits`` gives a first real problem without a download; ``stratified_split``
holds rows back for a test. The split draws from ``fastnn.kernels.random``, so a seed
names the same rows on every machine and with every version of NumPy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .kernels import random

_DIGITS = Path(__file__).with_name("data") / "digits.npz"


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Handwritten digits of 43 people: 8 × 8 pixels, from white (0) to black (1).

    Returns X (1797, 64) in float32, pixels row by row in sixteenths, and the digits y (1797,)
    in int64, about 180 rows of each.

    E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI
    Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0; see
    ``data/LICENSE-digits.txt``.
    """
    with np.load(_DIGITS, allow_pickle=False) as archive:
        return archive["X"].astype(np.float32) / np.float32(16), archive["y"].astype(np.int64)


def stratified_split(
    y: ArrayLike, fraction: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide rows into two parts in which every class has the same share.

    Parameters
    ----------
    y : array_like, shape (n,)
        The class of each row, numbers or strings; equal values give a plain random split.
    fraction : float
        The share of each class, rounded to whole rows, that goes to the second part; between
        0 and 1. The first part keeps at least one row of each class.
    seed : int
        Another seed gives another split; 0 ≤ seed < 2**64.

    Returns
    -------
    train, test : ndarray of int64
        Row numbers in increasing order: every row is in exactly one of them.
    """
    labels: NDArray[Any] = np.asarray(y)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"y must have one dimension and rows in it, not shape {labels.shape}")
    fraction = checks.real("fraction", fraction, above=0, below=1)
    seed = checks.whole("seed", seed, at_least=0, at_most=2**64 - 1)
    _, group, count = np.unique(labels, return_inverse=True, return_counts=True)
    # Rows sorted by class, and by a random word within a class; the first of each class test.
    word = random.words(random.stream_key(seed, random.SPLIT, 0), np.arange(labels.size))
    order = np.lexsort((word, group))
    rank = np.arange(labels.size) - np.repeat(np.cumsum(count) - count, count)
    share = np.minimum(np.floor(count * fraction + 0.5).astype(np.int64), count - 1)
    is_test = np.zeros(labels.size, dtype=np.bool_)
    is_test[order] = rank < np.repeat(share, count)
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)
