"""What the text encoder is given: places of tokens, and texts that it must not be given."""

from __future__ import annotations

import pytest
import torch

from overpaint.core.errors import InvalidRequest
from overpaint.families.qwen import text
from overpaint.families.qwen.processor import Patches
from tests.conftest import picture

GRIDS = [((8, 8),), ((4, 12), (6, 2)), ((2, 2), (10, 4), (4, 4))]


@pytest.fixture(scope="module")
def engine(make_engine):
    return make_engine("qwen-edit")


def patches(grids) -> Patches:
    return Patches(torch.zeros(1, 1), grids, merge=2)


def token_ids(tokenizer, grids) -> torch.Tensor:
    return tokenizer(text._template("a red hat", patches(grids)), return_tensors="pt").input_ids


@pytest.mark.parametrize("grids", GRIDS, ids=len)
def test_places_are_those_that_the_library_computes_where_it_is_told_of_pictures(engine, grids):
    checkpoint = engine.model().checkpoint
    ids = token_ids(checkpoint.component("tokenizer"), grids)
    encoder = checkpoint.component("text_encoder")
    kinds = (ids == encoder.config.image_token_id).int()
    shapes = torch.tensor([(1, *grid) for grid in grids])
    expected, _ = encoder.model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=shapes)
    assert torch.equal(text._positions(kinds[0].bool(), patches(grids), "grid"), expected)


def test_places_in_sequence_count_every_token(engine):
    ids = token_ids(engine.model().checkpoint.component("tokenizer"), GRIDS[1])
    slots = torch.zeros(ids.shape[1], dtype=torch.bool)
    found = text._positions(slots, patches(GRIDS[1]), "sequence")
    assert torch.equal(found, torch.arange(ids.shape[1]).expand(3, 1, -1))


OWN = {"num_inference_steps": 2, "composite": False}
"""The model's own picture."""


def test_the_two_ways_give_two_pictures(engine):
    pictures = [
        engine.edit(picture(64, 64), "red", seed=1, picture_positions=way, **OWN).images[0]
        for way in ("grid", "sequence")
    ]
    assert pictures[0].tobytes() != pictures[1].tobytes()


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("control", ["<|image_pad|>", "<|im_end|>", "<|endoftext|>"])
def test_control_tokens_are_refused(engine, field, control):
    words = {"prompt": "red", field: f"a {control} hat"}
    with pytest.raises(InvalidRequest, match="control token") as caught:
        engine.edit(picture(64, 64), seed=1, num_inference_steps=2, **words)
    assert caught.value.field == field
    assert control in str(caught.value)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_text_that_cannot_be_numbered_is_refused(engine, field):
    words = {"prompt": "red", field: "a" * 5000}
    with pytest.raises(InvalidRequest, match=r"\d+ tokens .*takes \d+; shorten") as caught:
        engine.edit(picture(64, 64), seed=1, num_inference_steps=2, **words)
    assert caught.value.field == field


def test_the_longest_text_that_can_be_numbered_is_taken(engine):
    with pytest.raises(InvalidRequest) as caught:
        engine.edit(picture(64, 64), "a" * 5000, seed=1, num_inference_steps=2)
    words = str(caught.value).split()
    length, most = int(words[words.index("tokens") - 1]), int(words[words.index("takes") + 1][:-1])
    fitting = "a" * (5000 - (length - most))
    made = engine.edit(picture(64, 64), fitting, seed=1, num_inference_steps=2, true_cfg_scale=1)
    assert made.images[0].size == (64, 64)
    with pytest.raises(InvalidRequest):
        engine.edit(picture(64, 64), fitting + "a", seed=1, num_inference_steps=2)
