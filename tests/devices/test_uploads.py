"""Nothing comes from the processor while the steps of Stable Diffusion go on."""

from __future__ import annotations

import pytest
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
)

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from tests import tiny_checkpoints
from tests.conftest import box_mask, picture

SCHEDULERS = {
    "ddim": DDIMScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "pndm": PNDMScheduler,
}


@pytest.fixture(scope="module", params=SCHEDULERS)
def folder(request, tmp_path_factory):
    scheduler = SCHEDULERS[request.param](**tiny_checkpoints.SD2_NOISE)
    return tiny_checkpoints.sd2(tmp_path_factory.mktemp("sd2"), scheduler=scheduler)


@pytest.mark.parametrize(
    "options",
    [{}, {"guidance_scale": 1.0}, {"strength": 0.6}, {"preset": "fast"}],
    ids=["guided", "unguided", "strength", "fast"],
)
def test_a_step_of_several_images_uploads_nothing(cards, folder, options):
    engine = build.engine(str(folder), device="card", settings=Settings(dtype="float32"))
    edit = engine.begin(
        EditRequest(
            image=Picture.from_pil(picture()),
            mask=box_mask(),
            prompt="a red circle",
            seed=1,
            num_images=2,
            options={"num_inference_steps": 6, **options},
        )
    )
    engine.model().load()
    while not edit.prepared[0].done:
        before = cards[0].uploads
        edit.model.family.advance(edit.prepared)
        assert cards[0].uploads == before
