"""Pixels for the text encoder: transformers' arithmetic without torchvision."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as reference

from overpaint.core.errors import ModelLoadError
from overpaint.families.qwen import processor
from tests.conftest import picture
from tests.parity import oracle_qwen
from tests.tiny_checkpoints import Qwen2VLProcessor

WITHIN = {"smallest": 56 * 56, "largest": 12845056}
LEVEL = 1 / 255 / min(Qwen2VLProcessor.config["image_std"])
"""One of 255 grey levels, once normalised."""


@pytest.fixture
def folder(tmp_path):
    Qwen2VLProcessor().save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder, **values):
    """Other values in the configuration; None takes one out."""
    file = folder / processor.CONFIG
    config = json.loads(file.read_text(encoding="utf-8")) | values
    kept = {name: value for name, value in config.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def librarys_own():
    """transformers' processor that resizes with PIL, and so differs where it resizes."""
    return reference.Qwen2VLImageProcessorPil(
        size={"shortest_edge": WITHIN["smallest"], "longest_edge": WITHIN["largest"]}
    )


@pytest.mark.parametrize("size", [(224, 224), (448, 224), (28, 196)])
def test_where_nothing_is_resized_the_librarys_two_ways_are_one(folder, size):
    found = processor.read(folder)([picture(*size)])
    expected = librarys_own()(images=[picture(*size)], return_tensors="pt")
    torch.testing.assert_close(found.values, expected["pixel_values"], rtol=0, atol=1e-6)
    assert [[1, *grid] for grid in found.grids] == expected["image_grid_thw"].tolist()


@pytest.mark.parametrize("size", [(384, 384), (448, 320), (320, 480), (1024, 1024), (96, 64)])
def test_bits_are_those_of_the_arithmetic_with_torchvision(folder, size):
    values, grid = oracle_qwen.patches(picture(*size))
    found = processor.read(folder)([picture(*size)])
    assert torch.equal(found.values, values)
    assert found.grids == (grid[1:],)


@pytest.mark.parametrize("size", [(384, 384), (448, 320), (320, 480), (1024, 768), (20, 30)])
def test_elsewhere_it_is_as_near_as_they_are_to_each_other(folder, size):
    found = processor.read(folder)([picture(*size)])
    expected = librarys_own()(images=[picture(*size)], return_tensors="pt")
    assert [[1, *grid] for grid in found.grids] == expected["image_grid_thw"].tolist()
    assert (found.values - expected["pixel_values"]).abs().max() <= 2.01 * LEVEL


def test_several_pictures_of_any_mode_follow_each_other(folder):
    read = processor.read(folder)
    pictures = [picture(224, 224), picture(112, 56).convert("L"), picture(56, 84).convert("RGBA")]
    together, alone = read(pictures), [read([each]) for each in pictures]
    assert torch.equal(together.values, torch.cat([each.values for each in alone]))
    assert together.grids == ((16, 16), (4, 8), (6, 4))
    assert together.token_grids == [(8, 8), (2, 4), (3, 2)]


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_sizes_are_the_librarys(width, height):
    if max(width, height) > 200 * min(width, height):
        return  # refused there
    ours = processor.PictureProcessor(mean=(0.5,), std=(0.5,), **WITHIN).fitting(width, height)
    if min(width, height) > 14:
        expected = reference.smart_resize(
            height, width, min_pixels=WITHIN["smallest"], max_pixels=WITHIN["largest"]
        )
        assert ours[::-1] == expected
    assert all(side >= 28 and side % 28 == 0 for side in ours)


@pytest.mark.parametrize(
    "values",
    [
        {"min_pixels": None, "max_pixels": None},
        {"size": None},
        {"size": {"max_pixels": 1, "min_pixels": 1}},
    ],
)
def test_areas_stand_in_either_of_two_places(folder, values):
    rewrite(folder, **values)
    read = processor.read(folder)
    assert (read.smallest, read.largest) == (WITHIN["smallest"], WITHIN["largest"])


@pytest.mark.parametrize("values", [{"image_mean": None}, {"patch_size": "many"}])
def test_a_damaged_configuration_is_named(folder, values):
    rewrite(folder, **values)
    with pytest.raises(ModelLoadError, match=r"preprocessor_config\.json.*pull the model again"):
        processor.read(folder)


def test_a_missing_configuration_is_named(tmp_path):
    with pytest.raises(ModelLoadError, match=r"preprocessor_config\.json"):
        processor.read(tmp_path)


def test_bytes_are_resized_not_fractions(folder):
    found = processor.read(folder)([picture(384, 384)])
    config = Qwen2VLProcessor.config
    levels = found.values.reshape(len(found.values), 3, -1)
    for channel in range(3):
        mean, std = config["image_mean"][channel], config["image_std"][channel]
        plain = (levels[:, channel] * std + mean) * 255
        assert (plain - plain.round()).abs().max() < 1e-3
