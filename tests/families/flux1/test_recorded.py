"""FLUX's passes can be recorded, and give the bits of those that are not."""

from __future__ import annotations

import pytest
import torch

from overpaint.diffusion import recorded
from tests.conftest import box_mask
from tests.diffusion.test_recorded import Repeat
from tests.families.flux1.test_compiled import fresh_engine
from tests.families.flux1.test_sparse import latents

EDITS = [
    {},
    {"negative": "blue"},
    {"refresh_every": 4, "negative": "blue"},
    {"refresh_every": 4, "freeze_text": True},
]


@pytest.mark.parametrize("options", EDITS, ids=lambda each: "-".join(each) or "dense")
@pytest.mark.parametrize("family", ["flex2", "kontext"])
def test_a_recorded_edit_is_the_edit_bit_for_bit(checkpoint_folder, monkeypatch, family, options):
    mask, steps = box_mask(box=(0, 0, 32, 32)), {"num_inference_steps": 10}
    expected = latents(fresh_engine(checkpoint_folder(family), family), mask, **steps, **options)
    tapes: list[Repeat] = []

    def tape(device):
        tapes.append(Repeat(device))
        return tapes[-1]

    monkeypatch.setitem(recorded.TAPES, "cpu", tape)
    engine = fresh_engine(checkpoint_folder(family), family)
    for _ in range(2):
        assert torch.equal(latents(engine, mask, **steps, **options), expected)
    assert len(tapes) == 1
    assert tapes[0].replayed > 0
