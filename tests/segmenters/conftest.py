"""Segmentation models with random weights, and scenes of the procedural world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from overpaint.checkpoints.placement import Placement
from tests.segmenters import checkpoints

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def segmenter_folder(tmp_path_factory) -> Callable[[str], Path]:
    """name of a function of `checkpoints` → folder of its model, made once."""
    root = tmp_path_factory.mktemp("segmenters")

    def folder(name: str) -> Path:
        where = root / name
        if not where.exists():
            getattr(checkpoints, name)(where)
        return where

    return folder
