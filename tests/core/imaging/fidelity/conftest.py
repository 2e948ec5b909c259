"""Photos and drawn scenes with true edits and known faults."""

from __future__ import annotations

import pytest

from tests import faults

SIDE = 384


@pytest.fixture(scope="session")
def pictures():
    """(SIDE, SIDE, 3) photos and scenes."""
    return faults.pictures(SIDE)
