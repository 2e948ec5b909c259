"""Blocks compile without a break, few times, whatever an edit leaves out or keeps."""

from __future__ import annotations

import pytest
import torch
from torch import _dynamo as dynamo
from torch._dynamo.utils import counters
from torch.fx.experimental import _config as shapes

from overpaint.checkpoints.placement import Placement
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.flux2 import KLEIN_FAMILY, KLEIN_KV_FAMILY
from tests.conftest import box_mask, open_checkpoint
from tests.families.flux2.test_sparse import finished

FAMILIES = {"klein": KLEIN_FAMILY, "klein_base": KLEIN_FAMILY, "klein_kv": KLEIN_KV_FAMILY}
SMALL, LARGE = box_mask(64, 64, (0, 0, 32, 32)), box_mask(64, 64, (16, 16, 60, 50))
EDITS = [
    (None, {}),
    (SMALL, {"refresh_every": 2}),
    (LARGE, {"refresh_every": 3, "height": 96, "width": 64}),
]
pytestmark = pytest.mark.no_cover
"""Coverage doubles what tracing takes; `test_sparse` runs the same lines."""

MOST = 10
"""Graphs that torch may make of the two kinds of blocks; every further one delays an edit."""


def fresh_engine(folder, name: str) -> Engine:
    """One of its own: compiling changes the transformer."""
    checkpoint = open_checkpoint(folder, Placement(torch.device("cpu"), torch.float32))
    model = Model(FAMILIES[name].open(checkpoint), checkpoint, record={"name": name})
    return Engine(lambda _: model, "model")


@pytest.mark.parametrize("names", [("klein", "klein_base"), ("klein_kv",)], ids=" ".join)
def test_few_graphs_serve_every_kind_of_step(checkpoint_folder, names):
    dynamo.reset()
    counters.clear()
    for name in names:
        plain, engine = (fresh_engine(checkpoint_folder(name), name) for _ in range(2))
        transformer = engine.model().checkpoint.component("transformer")
        transformer.compile_repeated_blocks(dynamic=True, backend="eager", fullgraph=True)
        with shapes.patch(use_duck_shape=False):
            for mask, options in EDITS:
                expected = finished(plain, mask, **options).latents
                made = finished(engine, mask, **options).latents
                assert torch.equal(made, expected), (name, options)
    assert not counters["graph_break"]
    assert 0 < counters["stats"]["unique_graphs"] <= MOST
    dynamo.reset()
