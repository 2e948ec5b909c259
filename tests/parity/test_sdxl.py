"""`sdxl` gives what `StableDiffusionXLInpaintPipeline` gives on the same checkpoint."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionXLInpaintPipeline,
)

from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError, UnsupportedOption
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion.denoise import denoise
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.sd import SDXL_FAMILY
from tests import tiny_checkpoints as checkpoints
from tests.conftest import box_mask, open_checkpoint, picture, soft_mask

FEW = {"num_inference_steps": 5}
AS_REFERENCE = {"composite": False, "window": "full"}
SCHEDULERS = {
    "ddim": lambda: DDIMScheduler(**checkpoints.SD2_NOISE),
    "dpm++": lambda: DPMSolverMultistepScheduler(**checkpoints.SD2_NOISE),
    "euler a": lambda: EulerAncestralDiscreteScheduler(**checkpoints.SD2_NOISE),
}


def load_reference(folder, **options):
    pipeline = StableDiffusionXLInpaintPipeline.from_pretrained(
        folder, add_watermarker=False, **options
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def changed(checkpoint_folder, tmp_path):
    """(file, **values) → a checkpoint in one of whose JSON files they stand."""

    def folder(name, **values):
        copy = shutil.copytree(checkpoint_folder("sdxl"), tmp_path / "sdxl", dirs_exist_ok=True)
        file = copy / name
        file.write_text(json.dumps(json.loads(file.read_text()) | values))
        return copy

    return folder


@pytest.fixture(scope="module")
def reference(checkpoint_folder):
    return load_reference(checkpoint_folder("sdxl"))


def run_reference(pipeline, image, mask, seeds, *, size=None, negative=None, **options):
    many = len(seeds) > 1
    width, height = size or image.size
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipeline(
        prompt=["a red cat"] * len(seeds) if many else "a red cat",
        negative_prompt=negative,
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


def run(engine, image, mask, *, negative=None, **options) -> np.ndarray:
    result = engine.edit(
        image, "a red cat", mask=mask, negative_prompt=negative, seed=7, **FEW, **options
    )
    return pixels(result.images[0])


@pytest.mark.parametrize(
    ("size", "mask", "negative", "options"),
    [
        ((64, 64), box_mask, None, {}),
        ((96, 80), soft_mask, "blue", {"guidance_scale": 3.0}),
        ((48, 128), box_mask, "", {}),
        ((96, 64), box_mask, None, {"guidance_scale": 1.0}),
        ((64, 64), soft_mask, None, {"strength": 1.0}),
        ((96, 80), box_mask, "blue", {"strength": 0.5}),
        ((72, 88), box_mask, None, {"strength": 0.5}),
    ],
)
def test_equals_the_pipeline_bit_for_bit(make_engine, reference, size, mask, negative, options):
    image = picture(*size)
    expected = run_reference(reference, image, mask(*size), [7], negative=negative, **options)[0]
    found = run(
        make_engine("sdxl"), image, mask(*size), negative=negative, **options, **AS_REFERENCE
    )
    assert np.array_equal(found, pixels(expected))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_with_other_schedulers(make_engine, tmp_path, scheduler):
    folder = checkpoints.sdxl(tmp_path / "sdxl", scheduler=SCHEDULERS[scheduler]())
    image, mask = picture(96, 64), box_mask(96, 64)
    expected = run_reference(load_reference(folder), image, mask, [7])[0]
    found = run(make_engine("sdxl", folder), image, mask, **AS_REFERENCE)
    assert np.array_equal(found, pixels(expected))


@pytest.mark.parametrize("forced", [True, False])
def test_zeros_or_the_empty_text_without_a_negative_prompt(make_engine, changed, forced):
    folder = changed("model_index.json", force_zeros_for_empty_prompt=forced)
    image, mask = picture(64, 64), box_mask(64, 64)
    expected = run_reference(load_reference(folder), image, mask, [7])[0]
    engine = make_engine("sdxl", folder)
    found = run(engine, image, mask, **AS_REFERENCE)
    empty = run(engine, image, mask, negative="", **AS_REFERENCE)
    assert np.array_equal(found, pixels(expected))
    assert np.array_equal(found, empty) is not forced


@pytest.mark.parametrize("size", [(100, 77), (33, 51)])
def test_odd_sizes_are_stretched_as_by_the_pipeline(make_engine, reference, size):
    image, mask = picture(*size), box_mask(*size)
    expected = run_reference(reference, image, mask, [7], size=(96, 64))[0]
    found = run(make_engine("sdxl"), image, mask, height=64, width=96, composite=False)
    assert np.array_equal(found, pixels(expected))


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
    edit = make_engine("sdxl").begin(request)
    denoise(edit.model.family, edit.prepared)
    ours = torch.cat([prepared.latents for prepared in edit.prepared])
    assert torch.allclose(ours, expected, rtol=0, atol=1e-4)


def test_the_default_strength_leaves_out_the_first_step(make_engine):
    engine = make_engine("sdxl")
    image, mask = picture(64, 64), box_mask(64, 64)
    asked = {"image": Picture.from_pil(image), "prompt": "a red cat", "mask": mask}
    default, whole = (
        engine.begin(EditRequest(**asked, options={**FEW, **options})).prepared[0]
        for options in ({}, {"strength": 1.0})
    )
    assert (default.total, whole.total) == (4, 5)
    assert torch.equal(default.timesteps, whole.timesteps[1:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("upcast", [True, False])
def test_the_autoencoder_keeps_float32_where_the_checkpoint_says_it(changed, dtype, upcast):
    folder = changed("vae/config.json", force_upcast=upcast)
    checkpoint = open_checkpoint(folder, Placement(torch.device("cpu"), dtype))
    assert checkpoint.component("vae").dtype == (torch.float32 if upcast else dtype)
    assert checkpoint.component("unet").dtype == dtype


@pytest.mark.filterwarnings("ignore:`upcast_vae`:FutureWarning")  # of the pipeline's own call
@pytest.mark.parametrize(
    ("dtype", "upcast", "mean", "most"),
    [
        # But for the pipeline's own rounding of the picture to bfloat16.
        (torch.bfloat16, False, 0.5, 1),
        # The pipeline rounds the autoencoder's weights, and decodes in bfloat16.
        (torch.bfloat16, True, 2, 20),
        (torch.float16, True, 2, 20),
    ],
)
def test_in_half_precision_a_picture_is_near_the_pipelines(changed, dtype, upcast, mean, most):
    folder = changed("vae/config.json", force_upcast=upcast)
    pipeline = load_reference(folder, dtype=dtype)
    image, mask = picture(64, 64), box_mask(64, 64)
    expected = pixels(run_reference(pipeline, image, mask, [7])[0])
    checkpoint = open_checkpoint(folder, Placement(torch.device("cpu"), dtype))
    engine = Engine(lambda _: Model(SDXL_FAMILY.open(checkpoint), checkpoint), "sdxl")
    difference = abs(run(engine, image, mask, **AS_REFERENCE) - expected)
    assert difference.mean() < mean, difference.mean()
    assert difference.max() <= most, difference.max()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"in_channels": 4}, "in_channels 4"),
        ({"time_cond_proj_dim": 256}, "time_cond_proj_dim 256"),
    ],
)
def test_other_unets_of_its_pipeline_are_refused(checkpoint_folder, changes, says):
    config = json.loads((checkpoint_folder("sdxl") / "unet" / "config.json").read_text())
    refusal = SDXL_FAMILY.refusal(
        "StableDiffusionXLInpaintPipeline", lambda _component: config | changes
    )
    assert says in refusal


def test_one_step_needs_a_strength_of_one(make_engine):
    arguments = {"mask": box_mask(64, 64), "num_inference_steps": 1}
    with pytest.raises(UnsupportedOption, match=r"options\.strength.*0\.9999 of 1 steps"):
        make_engine("sdxl").edit(picture(64, 64), "a cat", **arguments)
    assert make_engine("sdxl").edit(picture(64, 64), "a cat", strength=1, **arguments).images


def test_another_text_encoder_is_refused(changed):
    folder = changed("model_index.json", text_encoder_2=["transformers", "CLIPTextModel"])
    with pytest.raises(ModelLoadError, match="CLIPTextModelWithProjection"):
        open_checkpoint(folder, Placement(torch.device("cpu"), torch.float32))
