"""Units, a ledger and a batcher on the eraser, which needs no weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from overpaint.core.imaging.images import Picture, save
from overpaint.core.types import EditRequest, EditResult
from overpaint.engine.batching.batcher import Batcher
from overpaint.jobs.ledger import Ledger
from overpaint.jobs.units import Unit, identify
from tests.conftest import box_mask, picture


@pytest.fixture
def batcher(make_engine):
    made = Batcher(make_engine("erase"), width=1)
    yield made
    made.close()


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "out" / "ledger.jsonl") as made:
        yield made


def request(seed: int, **changed) -> EditRequest:
    """A small request to the eraser."""
    given = {
        "image": Picture(picture(64, 48, seed)),
        "mask": box_mask(64, 48, (28, 20, 36, 28)),
        "seed": seed,
    }
    return EditRequest(**given | changed)


def unit(seed: int, load=None, **changed) -> Unit:
    """The unit of `request(seed)`."""
    return Unit(
        id=identify(seed=seed, **changed),
        source=f"row {seed}",
        prompt="",
        seed=seed,
        load=load or partial(request, seed, **changed),
    )


def keep_in(folder: Path):
    """Writes results as `FOLDER/SEED.png`."""

    def keep(made: Unit, result: EditResult) -> str:
        save(result.pictures[0], folder / f"{made.seed}.png")
        return f"{made.seed}.png"

    return keep
