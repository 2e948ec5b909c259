"""A step takes nothing from the processor and gives it nothing: either would make it wait."""

from __future__ import annotations

import pytest
import torch

from overpaint.core.types import PARTS, EditRequest
from overpaint.engine.intake import as_picture
from tests.conftest import picture
from tests.devices.test_edits import CASES, FEW, SIDE, named

FLOW_FAMILIES = ("flex2", "fill", "kontext", "qwen-edit")
FLOW = [(family, case) for family, case in CASES if family in FLOW_FAMILIES]


def begin(engine, case):
    """An edit before its first step."""
    names = {part.name for part in PARTS}
    parts = {name: value for name, value in case.items() if name in names}
    parts["references"] = tuple(parts.get("references", ()))
    options = {name: value for name, value in case.items() if name not in names}
    return engine.begin(
        EditRequest(
            image=as_picture(picture(SIDE, SIDE)),
            prompt="a red circle",
            seed=1,
            options={**FEW, **options},
            **parts,
        )
    )


@pytest.mark.parametrize(("family", "case"), FLOW, ids=named)
def test_nothing_moves_between_processor_and_card(cards, make_on, family, case):
    edit = begin(make_on(family, "card"), case)
    card = cards[0]
    while not edit.prepared[0].done:
        before = card.uploads, card.downloads
        edit.model.family.advance(edit.prepared)
        assert (card.uploads, card.downloads) == before, edit.prepared[0].step


def test_what_moves_is_counted(cards):
    card, on_card = cards[0], torch.arange(4).to("card")
    uploads, downloads = card.uploads, card.downloads
    on_card[torch.tensor([1, 2])]
    on_card.cpu()
    assert bool(on_card[1] == 1)
    assert (card.uploads, card.downloads) == (uploads + 1, downloads + 2)
