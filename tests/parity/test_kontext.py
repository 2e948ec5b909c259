"""`kontext` gives what diffusers' Kontext pipelines give on the same checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FluxKontextInpaintPipeline, FluxKontextPipeline

from overpaint.families.flux1.kontext import BUCKETS, bucket
from tests.conftest import box_mask, picture

SIZES = [(64, 64), (96, 64), (48, 128)]
GUIDANCE = {"guidance_scale": 2.5, "num_inference_steps": 4}


@pytest.fixture(scope="module")
def reference(checkpoint_folder):
    return _quiet(FluxKontextPipeline.from_pretrained(checkpoint_folder("kontext")))


@pytest.fixture(scope="module")
def reference_inpaint(checkpoint_folder):
    return _quiet(FluxKontextInpaintPipeline.from_pretrained(checkpoint_folder("kontext")))


def _quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("negative", [None, "blue"])
def test_without_a_mask(make_engine, reference, size, negative):
    width, height = size
    image = picture(width, height)
    expected = reference(
        image=image,
        prompt="make it red",
        negative_prompt=negative,
        true_cfg_scale=3.0 if negative else 1.0,
        width=width,
        height=height,
        max_area=width * height,
        _auto_resize=False,
        generator=torch.Generator().manual_seed(5),
        **GUIDANCE,
    ).images[0]
    result = make_engine("kontext").edit(
        image,
        "make it red",
        negative_prompt=negative,
        true_cfg_scale=3.0 if negative else None,
        seed=5,
        width=width,
        height=height,
        composite=False,
        **GUIDANCE,
    )
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(expected))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("negative", [None, "blue"])
def test_with_a_mask(make_engine, reference_inpaint, size, strength, negative):
    width, height = size
    image, mask = picture(width, height), box_mask(width, height)
    expected = reference_inpaint(
        image=image,
        mask_image=mask,
        prompt="make it red",
        negative_prompt=negative,
        true_cfg_scale=3.0 if negative else 1.0,
        strength=strength,
        _auto_resize=False,
        generator=torch.Generator().manual_seed(5),
        **GUIDANCE,
    ).images[0]
    result = make_engine("kontext").edit(
        image,
        "make it red",
        mask=mask,
        negative_prompt=negative,
        true_cfg_scale=3.0 if negative else None,
        strength=strength,
        seed=5,
        width=width,
        height=height,
        composite=False,
        **GUIDANCE,
    )
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(expected))


@pytest.mark.parametrize("size", BUCKETS)
def test_a_trained_size_passes_through_unchanged(size):
    assert bucket(size, 1024, 16) == size


def test_the_bucket_of_a_twin_keeps_shape_and_area():
    assert bucket((300, 300), 128, 16) == (128, 128)
    assert bucket((400, 200), 128, 16) == (176, 96)
