"""`flex2` gives what a straight-line version of its published pipeline gives."""

from __future__ import annotations

import numpy as np
import pytest

from overpaint.core.errors import UnsupportedOption
from tests.conftest import box_mask, picture, soft_mask
from tests.parity import oracle_flex2

STEPS = 6


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("stop", [0.0, 0.33, 1.0])
def test_with_a_control_picture(make_engine, checkpoint_folder, strength, stop):
    check(make_engine, checkpoint_folder, control=True, strength=strength, stop=stop)


@pytest.mark.parametrize("mask", ["box", "soft"])
@pytest.mark.parametrize("negative", [None, "", "blue"])
def test_without_a_control_picture(make_engine, checkpoint_folder, mask, negative):
    check(make_engine, checkpoint_folder, mask=mask, negative=negative)


def test_a_negative_prompt_without_guidance_is_refused(make_engine):
    """As sd2 does: guidance of 1 would drop it in silence."""
    with pytest.raises(UnsupportedOption, match=r"1\.0 switches guidance off") as caught:
        make_engine("flex2").edit(
            picture(), "red", mask=box_mask(), negative_prompt="blue", guidance_scale=1.0
        )
    assert caught.value.field == "options.guidance_scale"


def test_negative_prompt_and_control_together(make_engine, checkpoint_folder):
    check(make_engine, checkpoint_folder, control=True, negative="blue", strength=0.7, stop=0.5)


def test_the_pictures_are_stretched_to_an_asked_size(make_engine, checkpoint_folder):
    check(make_engine, checkpoint_folder, control=True, picture_size=(150, 83))


def test_control_stop_is_rounded_down_in_floating_point(make_engine, checkpoint_folder):
    # int(50 * .58) is 28: the reference's own arithmetic, kept.
    from overpaint.core.imaging.images import Picture
    from overpaint.core.types import EditRequest

    request = EditRequest(
        image=Picture.from_pil(picture(32, 32)),
        prompt="cat",
        mask=box_mask(32, 32),
        control=picture(32, 32, 1),
        options={"control_stop": 0.58, "num_inference_steps": 50},
    )
    assert make_engine("flex2").begin(request).prepared[0].control_steps == 28


def check(
    make_engine,
    checkpoint_folder,
    *,
    control=False,
    mask="box",
    negative=None,
    strength=1.0,
    stop=1.0,
    picture_size=(96, 64),
):
    width, height = 96, 64
    image = picture(*picture_size)
    inputs = {
        "image": image,
        "mask": soft_mask(*picture_size) if mask == "soft" else box_mask(*picture_size),
        "control": picture(*picture_size, seed=9) if control else None,
        "negative_prompt": negative,
        "seed": 11,
        "guidance_scale": 3.5,
        "control_strength": strength,
        "control_stop": stop,
        "width": width,
        "height": height,
    }
    expected = oracle_flex2.run(
        checkpoint_folder("flex2"), prompt="a red cat", steps=STEPS, **inputs
    )
    result = make_engine("flex2").edit(
        prompt="a red cat", num_inference_steps=STEPS, composite=False, **inputs
    )
    assert np.array_equal(np.asarray(result.images[0]), expected)
