"""The data that come with the package, and the split that is the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.datasets

from fastnn.datasets import load_digits, stratified_split


def test_the_split_is_stratified_and_fixed() -> None:
    y = np.repeat([3, 1, 2], [100, 10, 1])
    train, test = stratified_split(y, 0.2, seed=0)
    assert sorted([*train, *test]) == list(range(111))
    assert {label: int((y[test] == label).sum()) for label in (1, 2, 3)} == {1: 2, 2: 0, 3: 20}
    # Fixed by the specification of the generator: these rows on every machine, for ever.
    _, test = stratified_split(np.zeros(20), 0.2, seed=0)
    assert test.tolist() == [1, 4, 7, 14]
    assert not np.array_equal(stratified_split(y, 0.2, seed=1)[1], stratified_split(y, 0.2)[1])
    assert len(stratified_split(y.astype(str), 0.2)[1]) == 22


@pytest.mark.parametrize(
    ("y", "fraction", "seed"),
    [([], 0.2, 0), ([[1], [2]], 0.2, 0), ([1, 2], 0.0, 0), ([1, 2], 1.0, 0), ([1, 2], 0.5, -1)],
)
def test_splits_that_cannot_be(y: Any, fraction: float, seed: int) -> None:
    with pytest.raises(ValueError, match="must"):
        stratified_split(y, fraction, seed)


def test_the_digits_are_the_digits() -> None:
    X, y = load_digits()
    assert (X.dtype, y.dtype, X.min(), X.max()) == (np.float32, np.int64, 0, 1)
    expected = sklearn.datasets.load_digits()
    np.testing.assert_array_equal(X * 16, expected.data)
    np.testing.assert_array_equal(y, expected.target)
