"""Fixtures that the tests of the model API share."""

from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture
def engine_name(engine: ModuleType) -> str:
    """Each engine's name in turn."""
    return engine.NAME
