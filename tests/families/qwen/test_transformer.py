"""Places of tokens are the library's, without what the library keeps of them."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from PIL import Image

from overpaint.families.qwen import transformer

GRIDS = [((8, 8),), ((16, 10), (6, 14)), ((2, 30), (18, 18), (4, 4))]


@pytest.fixture(scope="module")
def engine(make_engine):
    return make_engine("qwen-edit")


@pytest.mark.parametrize("grids", GRIDS, ids=len)
def test_angles_are_those_of_the_library(engine, grids):
    checkpoint = engine.model().checkpoint
    branch = transformer.branch(checkpoint, torch.zeros(1, 11, 32), grids)
    embedding = checkpoint.component("transformer").pos_embed
    shapes = [[(1, height // 2, width // 2) for height, width in grids]]
    pictures, text = embedding(shapes, max_txt_seq_len=11, device=torch.device("cpu"))
    assert torch.equal(branch.angles, text)
    assert torch.equal(branch.pictures.angles, pictures)
    made = grids[0][0] * grids[0][1] // 4
    assert branch.pictures.is_reference.tolist() == [[0] * made + [1] * (len(pictures) - made)]


def test_a_transformer_that_leaves_takes_its_tables_along(make_engine):
    """The library's caches would hold them, on the device too, until the process ends."""
    fresh = make_engine("qwen-edit")
    fresh.edit(Image.new("RGB", (70, 90)), "red", seed=1, num_inference_steps=2)
    checkpoint = fresh.model().checkpoint
    embedding = weakref.ref(checkpoint.component("transformer").pos_embed)
    checkpoint.release("transformer")
    gc.collect()
    assert embedding() is None


def test_plain_pictures_of_other_shapes_are_other_prompts(engine):
    """Their pixels are equal, patch by patch."""
    checkpoint = engine.model().checkpoint
    misses = checkpoint.memo.misses
    results = [
        engine.edit(Image.new("RGB", size, "white"), "red", seed=1, num_inference_steps=2)
        for size in ((192, 96), (96, 192))
    ]
    assert [each.images[0].size for each in results] == [(192, 96), (96, 192)]
    texts = [key for key in checkpoint.memo._values if key[0] == "qwen" and key[1] == "red"]
    assert len({key[3] for key in texts}) >= 2
    assert checkpoint.memo.misses > misses
