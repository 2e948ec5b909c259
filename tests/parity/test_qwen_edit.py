"""`qwen-edit` gives what diffusers' pipelines give on the same checkpoint."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from overpaint.families.qwen.edit import canvas
from tests import tiny_checkpoints
from tests.conftest import box_mask, picture
from tests.parity import oracle_qwen

PICTURES = [picture(150, 110), picture(80, 120, seed=1), picture(200, 90, seed=2)]
STEPS = {"num_inference_steps": 3}
ASKED = {"width": 112, "height": 80}


@pytest.fixture(scope="module")
def folders(checkpoint_folder, tmp_path_factory):
    older = tmp_path_factory.mktemp("qwen") / "2509"
    tiny_checkpoints.qwen_edit(older, zero_cond_t=False)
    return {"2509": older, "2511": checkpoint_folder("qwen-edit")}


@pytest.fixture(scope="module")
def plus(folders):
    return {name: oracle_qwen.plus(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def masked(folders):
    return oracle_qwen.masked(folders["2511"])


def expected_of(pipeline, *, positions="grid", negative=" ", scale=4.0, canvas=None, **more):
    positioned = oracle_qwen.grid_positions(pipeline) if positions == "grid" else nullcontext()
    with oracle_qwen.small_areas(canvas), positioned:
        made = pipeline(
            prompt="make it red",
            negative_prompt=negative,
            true_cfg_scale=scale,
            generator=torch.Generator().manual_seed(5),
            **STEPS,
            **more,
        )
    return np.asarray(made.images[0])


def edited(engine, image, **more):
    result = engine.edit(image, "make it red", seed=5, composite=False, **STEPS, **more)
    return np.asarray(result.images[0])


CASES = [
    *(("2509", count, "grid") for count in (1, 2, 3)),
    *(("2511", count, "grid") for count in (1, 2, 3)),
    *(("2509", 1, "sequence"), ("2511", 2, "sequence")),
]


@pytest.mark.parametrize(("model", "count", "positions"), CASES)
def test_of_a_size_that_was_asked_for(make_engine, folders, plus, model, positions, count):
    image, *references = PICTURES[:count]
    expected = expected_of(plus[model], image=PICTURES[:count], positions=positions, **ASKED)
    found = edited(
        make_engine("qwen-edit", folders[model]),
        image,
        references=references,
        picture_positions=positions,
        **ASKED,
    )
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("scale", "negative"), [(1.0, None), (2.5, None), (2.5, "blue")])
def test_with_and_without_guidance(make_engine, plus, scale, negative):
    expected = expected_of(
        plus["2511"], image=PICTURES[:1], negative=negative or " ", scale=scale, **ASKED
    )
    found = edited(
        make_engine("qwen-edit"),
        PICTURES[0],
        negative_prompt=negative,
        true_cfg_scale=scale,
        **ASKED,
    )
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("size", [(192, 192), (256, 160)])
def test_of_the_models_own_size(make_engine, plus, size):
    image = picture(*size)
    assert canvas(size, tiny_checkpoints.QWEN_SIDE) == size
    found = edited(make_engine("qwen-edit"), image)
    assert np.array_equal(found, expected_of(plus["2511"], image=[image]))


@pytest.mark.parametrize("size", [(150, 110), (99, 201)])
def test_other_pictures_are_stretched_as_the_pipeline_does_it(make_engine, plus, size):
    image = picture(*size)
    expected = expected_of(plus["2511"], image=[image])
    result = edited(make_engine("qwen-edit"), image)
    assert result.shape[:2][::-1] == size
    assert expected.shape[:2][::-1] == canvas(size, tiny_checkpoints.QWEN_SIDE)
    height, width = expected.shape[:2]
    as_asked = edited(make_engine("qwen-edit"), image, width=width, height=height)
    assert np.array_equal(as_asked, expected)


@pytest.mark.parametrize("size", [(64, 96), (112, 80)])
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_with_a_mask(make_engine, masked, size, strength, scale):
    width, height = size
    image, mask = picture(150, 110), box_mask(150, 110, (30, 20, 100, 90))
    masked.seen = image
    expected = expected_of(
        masked,
        image=image,
        mask_image=mask,
        strength=strength,
        scale=scale,
        canvas=size,
    )
    found = edited(
        make_engine("qwen-edit"),
        image,
        mask=mask,
        strength=strength,
        true_cfg_scale=scale,
        width=width,
        height=height,
    )
    assert np.array_equal(found, expected)
