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

from .kernels import random

_DIGITS = Path(__file__).with_name("data") / "digits.npz"


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Handwritten digits of 43 people: 8 × 8 pixels, from white (0) to black (1).

    Returns
    -------
    X : ndarray of float32, shape (1797, 64)
        Pixels, row by row: sixteenths in [0, 1].
    y : ndarray of int64, shape (1797,)
        The digit, 0 … 9; about 180 rows of each.

    Notes
    -----
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
        The class of each row: numbers or strings. Equal values throughout give a plain
        random split.
    fraction : float
        The share of each class, rounded to whole rows, that goes to the second part;
        between 0 and 1. The first part keeps at least one row of each class.
    seed : int
        Another seed gives another split; 0 ≤ seed < 2**64.

    Returns
    -------
    train, test : ndarray of int64
        Row numbers in increasing order: every row is in exactly one of them.

    Raises
    ------
    ValueError
        If ``y`` is empty or not one-dimensional, or ``fraction`` or ``seed`` is out of range.
    """
    labels: NDArray[Any] = np.asarray(y)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            f"y must have one dimension and at least one row, not shape {labels.shape}"
        )
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction!r}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in 0 … 2**64 - 1, not {seed!r}")
    _, group, count = np.unique(labels, return_inverse=True, return_counts=True)
    # Rows sorted by class, and by a random word within a class; the first of each class test.
    word = random.words(random.stream_key(seed, random.SPLIT, 0), np.arange(labels.size))
    order = np.lexsort((word, group))
    rank = np.arange(labels.size) - np.repeat(np.cumsum(count) - count, count)
    share = np.minimum(np.floor(count * fraction + 0.5).astype(np.int64), count - 1)
    is_test = np.zeros(labels.size, dtype=np.bool_)
    is_test[order] = rank < np.repeat(share, count)
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)
