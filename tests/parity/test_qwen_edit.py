"""`qwen-edit` gives what diffusers' pipelines give on the same checkpoint."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tests import tiny_checkpoints
from tests.conftest import picture
from tests.parity import oracle_qwen

PICTURES = [picture(150, 110), picture(80, 120, seed=1), picture(200, 90, seed=2)]
STEPS = {"num_inference_steps": 4}


@pytest.fixture(scope="module")
def folders(checkpoint_folder, tmp_path_factory):
    older = tmp_path_factory.mktemp("qwen") / "2509"
    tiny_checkpoints.qwen_edit(older, zero_cond_t=False)
    return {"2509": older, "2511": checkpoint_folder("qwen-edit")}


@pytest.fixture(scope="module")
def plus(folders):
    return {name: oracle_qwen.plus(folder) for name, folder in folders.items()}


def expected_of(pipeline, pictures, *, positions="grid", negative=" ", scale=4.0, **more):
    positioned = oracle_qwen.grid_positions(pipeline) if positions == "grid" else nullcontext()
    with oracle_qwen.small_areas(), positioned:
        made = pipeline(
            image=pictures,
            prompt="make it red",
            negative_prompt=negative,
            true_cfg_scale=scale,
            generator=torch.Generator().manual_seed(5),
            **STEPS,
            **more,
        )
    return np.asarray(made.images[0])


def edited(engine, pictures, *, positions="grid", **more):
    result = engine.edit(
        pictures[0],
        "make it red",
        references=pictures[1:],
        seed=5,
        composite=False,
        picture_positions=positions,
        **STEPS,
        **more,
    )
    return np.asarray(result.images[0])


@pytest.mark.parametrize("model", ["2509", "2511"])
@pytest.mark.parametrize("positions", ["grid", "sequence"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_a_size_that_was_asked_for(make_engine, folders, plus, model, positions, count):
    size = {"width": 112, "height": 80}
    expected = expected_of(plus[model], PICTURES[:count], positions=positions, **size)
    engine = make_engine("qwen-edit", folders[model])
    assert np.array_equal(edited(engine, PICTURES[:count], positions=positions, **size), expected)
