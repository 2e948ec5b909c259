"""Blocks compile without a break, few times, whatever an edit leaves out."""

from __future__ import annotations

import pytest
import torch
from torch import _dynamo as dynamo
from torch._dynamo.utils import counters
from torch.fx.experimental import _config as shapes

from overpaint.checkpoints.placement import Placement
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.flux1 import FLEX2_FAMILY, KONTEXT_FAMILY
from tests.conftest import box_mask, open_checkpoint
from tests.families.flux1.test_sparse import latents

FAMILIES = {"flex2": FLEX2_FAMILY, "kontext": KONTEXT_FAMILY}
SMALL, LARGE = box_mask(box=(0, 0, 32, 32)), box_mask(box=(16, 16, 80, 64))
EDITS = [
    (SMALL, {}),
    (SMALL, {"refresh_every": 2}),
    (LARGE, {"refresh_every": 3, "negative": "blue"}),
    (LARGE, {"refresh_every": 2, "height": 96, "width": 64}),
]
pytestmark = pytest.mark.no_cover
"""Coverage doubles what tracing takes; `test_sparse` runs the same lines."""

MOST = 8
"""Graphs that torch may make of the two kinds of blocks; every further one delays an edit."""


def fresh_engine(folder, family: str) -> Engine:
    """One of its own: compiling changes the transformer."""
    checkpoint = open_checkpoint(folder, Placement(torch.device("cpu"), torch.float32))
    model = Model(FAMILIES[family].open(checkpoint), checkpoint, record={"name": family})
    return Engine(lambda _: model, "model")


@pytest.fixture
def compiled(checkpoint_folder):
    """family → engine whose blocks dynamo traces; a break in a graph is an error."""
    dynamo.reset()
    counters.clear()

    def engine(family: str) -> Engine:
        made = fresh_engine(checkpoint_folder(family), family)
        transformer = made.model().checkpoint.component("transformer")
        transformer.compile_repeated_blocks(dynamic=True, backend="eager", fullgraph=True)
        return made

    with shapes.patch(use_duck_shape=False):
        yield engine
    dynamo.reset()


def test_few_graphs_serve_both_families_and_every_kind_of_step(compiled, checkpoint_folder):
    for family in FAMILIES:
        plain = fresh_engine(checkpoint_folder(family), family)
        engine = compiled(family)
        for mask, options in EDITS:
            expected = latents(plain, mask, **options)
            assert torch.equal(latents(engine, mask, **options), expected), (family, options)
    assert not counters["graph_break"]
    assert 0 < counters["stats"]["unique_graphs"] <= MOST


def test_frozen_text_needs_few_more(compiled, checkpoint_folder):
    options = {"refresh_every": 2, "freeze_text": True}
    expected = latents(fresh_engine(checkpoint_folder("flex2"), "flex2"), SMALL, **options)
    assert torch.equal(latents(compiled("flex2"), SMALL, **options), expected)
    assert not counters["graph_break"]
    assert 0 < counters["stats"]["unique_graphs"] <= MOST
