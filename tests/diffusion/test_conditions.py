"""What part of a picture each family computes, from what its checkpoint says of itself."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from overpaint.core.geometry import Box
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from tests.conftest import box_mask, picture

LARGE = (1024, 1024)
SMALL_EDIT = (500, 500, 560, 540)


@pytest.fixture
def plan(make_engine, checkpoint_folder, tmp_path):
    """(family, component, what its configuration says, request's parts) → plan."""

    def made(family, component, says, *, size=LARGE, box=SMALL_EDIT, **options):
        folder = shutil.copytree(checkpoint_folder(family), tmp_path / family)
        file = folder / component / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**config, **says}), encoding="utf-8")
        model = make_engine(family, folder).model()
        request = EditRequest(
            image=Picture.from_pil(picture(*size)),
            prompt="a cat",
            mask=None if box is None else box_mask(*size, box),
        )
        return model.family.plan(request, model.family.spec.options(**options))

    return made


@pytest.mark.parametrize("family", ["flex2", "fill", "kontext"])
@pytest.mark.parametrize("says", [1024, 32], ids=["published", "unstated"])
class TestFlux:
    def test_a_window_may_be_smaller_than_the_models_own_size(self, plan, family, says):
        window = plan(family, "vae", {"sample_size": says})
        assert window.canvas == window.window.size == (256, 256)
        assert window.window.contains(Box(*SMALL_EDIT))

    def test_the_whole_picture_on_demand(self, plan, family, says):
        whole = plan(family, "vae", {"sample_size": says}, window="full")
        assert whole.window == Box.of_size(LARGE)
        assert whole.canvas == LARGE

    def test_a_small_picture_is_not_scaled(self, plan, family, says):
        small = plan(family, "vae", {"sample_size": says}, size=(320, 300), box=(9, 9, 80, 80))
        assert small.canvas == (320, 304)
        assert small.is_exact


@pytest.mark.parametrize("family", ["flex2", "fill", "kontext"])
@pytest.mark.parametrize("side", [128, 512])
def test_a_flux_of_another_size_knows_that_size_alone(plan, family, side):
    window = plan(family, "vae", {"sample_size": side})
    assert window.canvas == window.window.size == (side, side)


def test_a_kontext_picture_without_a_mask_takes_one_of_its_own_sizes(plan):
    assert plan("kontext", "vae", {"sample_size": 1024}, box=None).canvas == LARGE


@pytest.mark.parametrize(
    ("family", "sample_size"), [("sd2", 16), ("sd2", 64), ("sdxl", 64), ("sdxl", 128)]
)
def test_stable_diffusion_knows_its_unets_size(plan, family, sample_size):
    side = 8 * sample_size
    window = plan(family, "unet", {"sample_size": sample_size})
    assert window.canvas == window.window.size == (side, side)


def test_windows_of_real_sizes_are_multiples_of_64(plan):
    window = plan("sd2", "unet", {"sample_size": 64}, box=(256, 256, 580, 580))
    assert window.canvas == window.window.size == (704, 704)


def test_pixels_outside_a_small_window_stay(make_engine, checkpoint_folder, tmp_path):
    folder = shutil.copytree(checkpoint_folder("flex2"), tmp_path / "flex2")
    file = folder / "vae" / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "sample_size": 1024}), encoding="utf-8")
    before = picture(640, 640)
    mask = box_mask(640, 640, (300, 300, 340, 340))
    engine = make_engine("flex2", folder)
    request = EditRequest(
        image=Picture.from_pil(before),
        prompt="a cat",
        mask=mask,
        seed=0,
        options={"num_inference_steps": 1},
    )
    assert engine.begin(request).regions[0].plan.canvas == (256, 256)
    after = engine.run([request])[0].images[0]
    assert after.size == before.size
    outside = Image.composite(before, after, mask.point(lambda value: 255 - value))
    assert outside.tobytes() == after.tobytes()
    assert after.tobytes() != before.tobytes()
