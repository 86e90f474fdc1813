"""A sink in memory for what an audit buys."""

from __future__ import annotations

import pytest
from planted import Shelf


@pytest.fixture
def sink() -> Shelf:
    return Shelf()
