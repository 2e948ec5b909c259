"""Fixtures that every test may use: tiny checkpoints, engines on them, pictures."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait

from hypothesis import HealthCheck, settings

from overpaint.apps.wiring.models import families
from overpaint.core.work import garbage

# A busy machine must not fail a test: how long an example takes is no property. Nor must chance:
# a change is tested by the same examples as the one before it.
settings.register_profile(
    "overpaint",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("overpaint")


@pytest.fixture(autouse=True)
def same_noise() -> None:
    """What a test draws from torch's own generator does not depend on the tests before it."""
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(0)


def pytest_collection_finish() -> None:
    """What modules hold stays to the end: garbage is looked for among what is made from now on."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def quick_garbage_search() -> None:
    """For tests that look for garbage often: not among what the tests before them left."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def garbage_search() -> Iterator[None]:
    """Garbage is looked for among all objects, as where nothing was set aside; only within."""
    gc.unfreeze()
    yield
    garbage.include_all()
    gc.freeze()


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """name of a family → folder of its tiny random checkpoint, made once."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(family: str) -> Path:
        from tests import tiny_checkpoints

        where = root / family
        if not where.exists():
            getattr(tiny_checkpoints, family.replace("-", "_"))(where)
        return where

    return folder


@pytest.fixture(scope="session")
def make_engine(checkpoint_folder):
    """name of a family (and a folder) → engine in float32 on the CPU."""
    import torch

    from overpaint.checkpoints.placement import Placement
    from overpaint.engine.engine import Engine
    from overpaint.engine.model import Model

    def load(name: str, folder: Path | None = None) -> Model:
        family = families.find(name)
        if not family.components:
            return Model(family.open(), record={"name": name})
        placement = Placement(torch.device("cpu"), torch.float32)
        checkpoint = open_checkpoint(folder or checkpoint_folder(name), placement)
        return Model(family.open(checkpoint), checkpoint, record={"name": name})

    def engine(name: str, folder: Path | None = None) -> Engine:
        return Engine(lambda asked: load(asked, folder), name)

    return engine


def open_checkpoint(folder: Path, placement, **more):
    """A checkpoint of whatever family reads its pipeline class."""
    from overpaint.checkpoints.checkpoint import Checkpoint
    from overpaint.checkpoints.files import layout

    known = {name: each for each in families.importable() for name in each.pipelines}
    family = known[layout.pipeline(layout.read_index(folder))]
    return Checkpoint(folder, family.components, placement, **more)


def picture(width: int = 128, height: int = 128, seed: int = 0) -> Image.Image:
    """A smooth random 'RGB' picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def box_mask(
    width: int = 128, height: int = 128, box: tuple[int, ...] | None = None
) -> Image.Image:
    """An 'L' mask with one box, the middle by default."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, box or (width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    return mask


def soft_mask(width: int = 128, height: int = 128) -> Image.Image:
    """An 'L' mask that rises from left to right."""
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    return Image.fromarray(np.tile(ramp, (height, 1)))
