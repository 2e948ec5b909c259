"""`fill` gives what `FluxFillPipeline` gives on the same checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline

from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion.denoise import denoise
from tests.conftest import box_mask, picture, soft_mask

FEW = {"num_inference_steps": 4}
AS_REFERENCE = {"composite": False, "window": "full"}


@pytest.fixture(scope="module")
def reference(checkpoint_folder):
    pipeline = FluxFillPipeline.from_pretrained(checkpoint_folder("fill"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_reference(pipeline, image, mask, seeds, *, size=None, **options):
    many = len(seeds) > 1
    width, height = size or image.size
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipeline(
        prompt=["a red cat"] * len(seeds) if many else "a red cat",
        image=[image] * len(seeds) if many else image,
        mask_image=[mask] * len(seeds) if many else mask,
        height=height,
        width=width,
        generator=generators if many else generators[0],
        **FEW,
        **options,
    ).images


def pixels(image) -> np.ndarray:
    return np.asarray(image, dtype=int)


@pytest.mark.parametrize(
    ("size", "mask", "options"),
    [
        ((64, 64), box_mask, {}),
        ((96, 80), soft_mask, {"guidance_scale": 3.0}),
        ((48, 128), box_mask, {"strength": 0.6}),
        ((96, 64), soft_mask, {"strength": 0.3}),
    ],
)
def test_equals_the_pipeline_bit_for_bit(make_engine, reference, size, mask, options):
    image = picture(*size)
    expected = run_reference(reference, image, mask(*size), [7], **options)[0]
    result = make_engine("fill").edit(
        image, "a red cat", mask=mask(*size), seed=7, **FEW, **options, **AS_REFERENCE
    )
    assert np.array_equal(pixels(result.images[0]), pixels(expected))


def test_a_mask_of_single_pixels_is_not_lost(make_engine, reference):
    image, mask = picture(64, 64), box_mask(64, 64, (31, 20, 32, 45))
    expected = run_reference(reference, image, mask, [7])[0]
    result = make_engine("fill").edit(image, "a red cat", mask=mask, seed=7, **FEW, **AS_REFERENCE)
    assert np.array_equal(pixels(result.images[0]), pixels(expected))
    assert not result.warnings


@pytest.mark.parametrize("size", [(100, 77), (33, 51)])
def test_odd_sizes_are_stretched_as_by_the_pipeline(make_engine, reference, size):
    image, mask = picture(*size), box_mask(*size)
    expected = run_reference(reference, image, mask, [1], size=(96, 64))[0]
    result = make_engine("fill").edit(
        image, "a red cat", mask=mask, seed=1, height=64, width=96, composite=False, **FEW
    )
    assert np.array_equal(pixels(result.images[0]), pixels(expected))


def test_a_batch_of_two_is_within_a_ten_thousandth(make_engine, reference):
    image, mask = picture(96, 64), box_mask(96, 64)
    expected = run_reference(reference, image, mask, [3, 4], output_type="latent")
    request = EditRequest(
        image=Picture.from_pil(image),
        prompt="a red cat",
        mask=mask,
        seed=3,
        num_images=2,
        options={**FEW, **AS_REFERENCE},
    )
    edit = make_engine("fill").begin(request)
    denoise(edit.model.family, edit.prepared)
    ours = torch.cat([prepared.latents for prepared in edit.prepared])
    assert torch.allclose(ours, expected, rtol=0, atol=1e-4)


def guided(forward, negative, scale: float):
    """A transformer's forward pass with true classifier-free guidance; the pipeline has none."""
    embeds, pooled, _ = negative

    def predict(**inputs):
        against = {**inputs, "encoder_hidden_states": embeds, "pooled_projections": pooled}
        positive, negative = forward(**inputs)[0], forward(**against)[0]
        return (negative + scale * (positive - negative),)

    return predict


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_negative_prompt_is_true_guidance(make_engine, reference, monkeypatch, strength):
    image, mask = picture(96, 80), box_mask(96, 80)
    plain = run_reference(reference, image, mask, [7], strength=strength)[0]
    with torch.no_grad():
        negative = reference.encode_prompt("blue", None)
    transformer = reference.transformer
    monkeypatch.setattr(transformer, "forward", guided(transformer.forward, negative, 3.0))
    expected = run_reference(reference, image, mask, [7], strength=strength)[0]
    result = make_engine("fill").edit(
        image,
        "a red cat",
        mask=mask,
        negative_prompt="blue",
        true_cfg_scale=3.0,
        strength=strength,
        seed=7,
        **FEW,
        **AS_REFERENCE,
    )
    assert np.array_equal(pixels(result.images[0]), pixels(expected))
    assert (pixels(expected) != pixels(plain)).any()
