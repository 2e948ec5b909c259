"""`klein` and `klein-kv` give what diffusers' klein pipelines give on the same checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline, Flux2KleinKVPipeline, Flux2KleinPipeline
from PIL import Image

from overpaint.families.flux2.editor import cropped
from tests.conftest import box_mask, picture

SIZES = [(96, 80), (101, 75), (64, 130)]
"""Of whole tokens, and with sides that are not."""

REFERENCES = [[], [picture(70, 121, seed=6)], [picture(80, 64, seed=6), picture(99, 66, seed=7)]]
CHECKPOINTS = ["klein", "klein_base"]
STEPS = {"klein": {}, "klein_base": {"num_inference_steps": 5}}
GUIDANCE = {"klein": 1.0, "klein_base": 4.0}


@pytest.fixture(scope="module")
def pipeline(checkpoint_folder):
    """(class, checkpoint) → pipeline, made once."""
    made = {}

    def make(cls, name):
        if (cls, name) not in made:
            made[cls, name] = cls.from_pretrained(checkpoint_folder(name))
            made[cls, name].set_progress_bar_config(disable=True)
        return made[cls, name]

    return make


@pytest.fixture
def engine(make_engine, checkpoint_folder):
    return lambda name: make_engine(
        "klein-kv" if name == "klein_kv" else "klein", checkpoint_folder(name)
    )


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def edit(engine, image, size, **more):
    width, height = size
    result = engine.edit(
        image, "make it red", seed=5, width=width, height=height, composite=False, **more
    )
    return np.asarray(result.images[0])


def expected(pipeline, name, **more):
    steps = {"num_inference_steps": 4, **STEPS.get(name, {})}
    guidance = {"guidance_scale": GUIDANCE[name]} if name in GUIDANCE else {}
    answer = pipeline(prompt="make it red", generator=seeded(), **steps, **guidance, **more)
    return np.asarray(answer.images[0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("references", REFERENCES, ids=len)
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_an_instruction(engine, pipeline, name, references, size):
    # The pipeline crops the picture to whole tokens; here it would be padded.
    image = cropped(picture(*size), 16)
    wanted = expected(pipeline(Flux2KleinPipeline, name), name, image=[picture(*size), *references])
    found = edit(engine(name), image, image.size, references=references, **STEPS[name])
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("references", REFERENCES[:2], ids=len)
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_with_a_mask(engine, pipeline, name, references, strength, size):
    image, mask = picture(*size), box_mask(*size)
    wanted = expected(
        pipeline(Flux2KleinInpaintPipeline, name),
        name,
        image=image,
        mask_image=mask,
        image_reference=references[0] if references else None,
        strength=strength,
    )
    canvas = (size[0] // 16 * 16, size[1] // 16 * 16)
    found = edit(
        engine(name), image, canvas, mask=mask, references=references, strength=strength,
        **STEPS[name],
    )  # fmt: skip
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("references", REFERENCES, ids=len)
def test_references_computed_once(engine, pipeline, references, size):
    image = cropped(picture(*size), 16)
    wanted = expected(
        pipeline(Flux2KleinKVPipeline, "klein_kv"), "klein_kv", image=[picture(*size), *references]
    )
    assert np.array_equal(edit(engine("klein_kv"), image, image.size, references=references), wanted)
