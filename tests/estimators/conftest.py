"""What all tests of the estimators share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread() -> Iterator[None]:
    """Threads of a BLAS that wait by spinning make small fits crawl on a busy machine."""
    with threadpool_limits(1):
        yield
