"""Engines on the second device, beside engines on the processor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build
from overpaint.engine.engine import Engine
from tests import second_device

SETTINGS = Settings(dtype="float32")


@pytest.fixture
def cards():
    with second_device.plugged_in() as present:
        yield present


@pytest.fixture
def make_on(cards, checkpoint_folder) -> Callable[..., Engine]:
    """(family, device, **arguments of `build.engine`) → engine in float32."""

    def engine(family: str, device: str, **arguments) -> Engine:
        model = "erase" if family == "erase" else str(checkpoint_folder(family))
        return build.engine(model, device=device, settings=SETTINGS, **arguments)

    return engine
