"""`sd2` gives what `StableDiffusionInpaintPipeline` gives on the same checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
)

from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from tests import tiny_checkpoints as checkpoints
from tests.conftest import box_mask, picture, soft_mask

SCHEDULERS = {
    "ddim": lambda: DDIMScheduler(**checkpoints.SD2_NOISE),
    "pndm": lambda: PNDMScheduler(**checkpoints.SD2_NOISE, skip_prk_steps=True),
    "dpm++": lambda: DPMSolverMultistepScheduler(**checkpoints.SD2_NOISE),
    "euler": lambda: EulerDiscreteScheduler(**checkpoints.SD2_NOISE),
}
AS_REFERENCE = {"composite": False, "window": "full"}


@pytest.fixture(scope="module", params=list(SCHEDULERS))
def folder(request, tmp_path_factory):
    return checkpoints.sd2(tmp_path_factory.mktemp("sd2"), scheduler=SCHEDULERS[request.param]())


@pytest.fixture(scope="module")
def reference(folder):
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        folder, safety_checker=None, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_reference(pipeline, image, mask, seeds, *, prompt="a red cat", negative=None, **options):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    many = len(seeds) > 1
    return pipeline(
        prompt=[prompt] * len(seeds) if many else prompt,
        negative_prompt=[negative] * len(seeds) if many and negative else negative,
        image=[image] * len(seeds) if many else image,
        mask_image=[mask] * len(seeds) if many else mask,
        height=image.height,
        width=image.width,
        generator=generators if many else generators[0],
        **options,
    ).images


@pytest.mark.parametrize(
    ("mask", "negative", "options"),
    [
        (box_mask(), None, {"guidance_scale": 7.5}),
        (box_mask(), "blue", {"guidance_scale": 3.0}),
        (box_mask(), None, {"guidance_scale": 1.0}),
        (soft_mask(), "blue", {"guidance_scale": 7.5}),
        (box_mask(), None, {"strength": 0.6}),
    ],
)
def test_equals_the_pipeline_bit_for_bit(make_engine, folder, reference, mask, negative, options):
    image = picture()
    expected = run_reference(
        reference, image, mask, [7], negative=negative, num_inference_steps=5, **options
    )[0]
    result = make_engine("sd2", folder).edit(
        image,
        "a red cat",
        mask=mask,
        negative_prompt=negative,
        seed=7,
        num_inference_steps=5,
        **options,
        **AS_REFERENCE,
    )
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(expected))


def test_a_batch_of_two_equals_the_pipelines_batch(make_engine, folder, reference):
    image, mask = picture(96, 64), box_mask(96, 64)
    expected = run_reference(reference, image, mask, [3, 4], num_inference_steps=4)
    result = make_engine("sd2", folder).edit(
        image,
        "a red cat",
        mask=mask,
        seed=3,
        num_images=2,
        num_inference_steps=4,
        **AS_REFERENCE,
    )
    for ours, theirs in zip(result.images, expected, strict=True):
        difference = np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int))
        assert difference.max() <= 1  # float32 convolutions of another batch size


def test_latents_of_a_batch_are_within_a_ten_thousandth(make_engine, folder, reference):
    image, mask = picture(96, 64), box_mask(96, 64)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    expected = reference(
        prompt=["a red cat"] * 2,
        image=[image] * 2,
        mask_image=[mask] * 2,
        height=64,
        width=96,
        generator=generators,
        num_inference_steps=4,
        output_type="latent",
    ).images
    engine = make_engine("sd2", folder)
    request = EditRequest(
        image=Picture.from_pil(image),
        prompt="a red cat",
        mask=mask,
        seed=3,
        num_images=2,
        options={"num_inference_steps": 4, **AS_REFERENCE},
    )
    edit = engine.begin(request)
    from overpaint.diffusion.denoise import denoise

    denoise(edit.model.family, edit.prepared)
    ours = torch.cat([prepared.latents for prepared in edit.prepared])
    assert torch.allclose(ours, expected, atol=1e-4)


def test_a_stretched_size_equals_the_pipelines_stretching(make_engine, folder, reference):
    image, mask = picture(100, 77), box_mask(100, 77)
    expected = reference(
        prompt="a red cat",
        image=image,
        mask_image=mask,
        height=64,
        width=96,
        generator=torch.Generator().manual_seed(1),
        num_inference_steps=3,
    ).images[0]
    result = make_engine("sd2", folder).edit(
        image,
        "a red cat",
        mask=mask,
        seed=1,
        num_inference_steps=3,
        height=64,
        width=96,
        composite=False,
    )
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(expected))
