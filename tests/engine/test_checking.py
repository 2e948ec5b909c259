"""From a request to a checked one."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageChops

from overpaint.core.errors import InvalidRequest, UnsupportedOption
from overpaint.core.types import FAMILY_PARTS
from overpaint.engine import checking, intake
from overpaint.families.erase import ERASE_FAMILY
from overpaint.families.flux1 import FILL_FAMILY, FLEX2_FAMILY, KONTEXT_FAMILY
from overpaint.families.sd import SD2_FAMILY, SDXL_FAMILY
from tests.conftest import box_mask, picture

FAMILIES = [
    ERASE_FAMILY,
    FILL_FAMILY,
    FLEX2_FAMILY,
    KONTEXT_FAMILY,
    SD2_FAMILY,
    SDXL_FAMILY,
]
VALUES = {"picture": picture(), "pictures": [picture()], "mask": box_mask(), "text": "a kite"}


def values(family, **more):
    """What a family needs, and more."""
    needed = [part for part in FAMILY_PARTS if family.need(part.name) == "required"]
    return {"image": picture(), **{part.name: VALUES[part.kind] for part in needed}, **more}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("part", FAMILY_PARTS, ids=lambda part: part.name)
def test_each_need_is_enforced(family, part):
    need = family.need(part.name)
    with_it = values(family, **{part.name: VALUES[part.kind]})
    without = {name: value for name, value in values(family).items() if name != part.name}
    if need == "refused":
        with pytest.raises(InvalidRequest) as refused:
            checking.check(family, intake.request_of(with_it))
        assert refused.value.field == part.name
    else:
        checking.check(family, intake.request_of(with_it))
    if need == "required":
        with pytest.raises(InvalidRequest) as missing:
            checking.check(family, intake.request_of(without))
        assert missing.value.field == part.name


def test_an_option_named_like_a_part_nearly(make_engine):
    with pytest.raises(UnsupportedOption, match="did you mean mask"):
        make_engine("sd2").edit(picture(), "a cat", maks=box_mask())


@pytest.mark.parametrize("text", ["a cat <lora:ink:0.8>", "a (red:1.2) cat", "a (red cat:1.05)"])
def test_another_programs_syntax_is_said_once(text):
    request = intake.request_of(values(SD2_FAMILY, prompt=text))
    warnings = checking.check(SD2_FAMILY, request).warnings
    assert len([each for each in warnings if each.startswith("prompt:")]) == 1


@pytest.mark.parametrize("text", ["a (red) cat", "at 12:30 (noon)", "<b>"])
def test_ordinary_words_are_not_taken_for_it(text):
    request = intake.request_of(values(SD2_FAMILY, prompt=text))
    warnings = checking.check(SD2_FAMILY, request).warnings
    assert not [each for each in warnings if each.startswith("prompt:")]


def encoded(image, name) -> bytes:
    file = io.BytesIO()
    image.save(file, name)
    return file.getvalue()


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("ground", ["a photo", "noise", "dull noise"])
def test_a_picture_that_is_its_own_mask_is_refused(name, ground):
    photo = picture(80, 60)
    if ground != "a photo":
        low, high = (0, 255) if ground == "noise" else (5, 240)
        noise = np.random.default_rng(0).integers(low, high, (60, 80), dtype=np.uint8)
        photo = Image.fromarray(noise)
    photo = encoded(photo, name)
    request = intake.request_of({"image": photo, "mask": photo, "prompt": "a cat"})
    for mask in (request.mask, ImageChops.invert(request.mask)):
        with pytest.raises(InvalidRequest, match="the picture itself"):
            checking.check(SD2_FAMILY, replace(request, mask=mask))


def test_a_black_and_white_picture_may_be_its_own_mask():
    drawing = box_mask(80, 60)
    request = intake.request_of({"image": drawing, "mask": drawing, "prompt": "a cat"})
    assert checking.check(SD2_FAMILY, request).request is request
