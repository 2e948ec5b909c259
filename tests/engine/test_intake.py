"""From values to a checked request."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import supervision
import torch
from PIL import Image, ImageChops

from overpaint.core.errors import InvalidRequest, UnsupportedOption
from overpaint.core.types import FAMILY_PARTS, PARTS
from overpaint.engine import intake
from overpaint.families.erase import ERASE_FAMILY
from overpaint.families.flux1 import FILL_FAMILY, FLEX2_FAMILY, KONTEXT_FAMILY
from overpaint.families.qwen import QWEN_EDIT_FAMILY
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
            intake.check(family, intake.request_of(with_it))
        assert refused.value.field == part.name
    else:
        intake.check(family, intake.request_of(with_it))
    if need == "required":
        with pytest.raises(InvalidRequest) as missing:
            intake.check(family, intake.request_of(without))
        assert missing.value.field == part.name


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_value_of_another_kind_names_its_part(part):
    with pytest.raises(InvalidRequest) as refused:
        intake.request_of({"image": picture(), part.name: object()})
    assert refused.value.field == part.name


@pytest.mark.parametrize(("seed", "read"), [(7, 7), (7.0, 7), ("7", 7), ("-1", -1)])
def test_whole_numbers_are_read_from_what_tables_hold(seed, read):
    assert intake.request_of({"image": picture(), "seed": seed}).seed == read


@pytest.mark.parametrize("seed", [True, 7.5, "seven", "", float("nan"), float("inf")])
def test_other_numbers_are_refused(seed):
    with pytest.raises(InvalidRequest, match="whole number"):
        intake.request_of({"image": picture(), "seed": seed})


def test_none_is_left_out():
    request = intake.request_of({"image": picture(), "prompt": None, "mask": None, "seed": None})
    assert (request.prompt, request.mask, request.seed) == ("", None, None)


def test_an_unknown_part_lists_the_known():
    with pytest.raises(InvalidRequest, match="copy_from") as refused:
        intake.request_of({"image": picture(), "masks": box_mask()})
    assert refused.value.field == "masks"


def test_keywords_that_are_no_parts_are_options():
    parts = intake.split({"image": 1, "seed": 2, "grow": 3, "options": {"feather": 4}})
    assert parts == {"image": 1, "seed": 2, "options": {"grow": 3, "feather": 4}}


def test_an_option_named_like_a_part_nearly(make_engine):
    with pytest.raises(UnsupportedOption, match="did you mean mask"):
        make_engine("sd2").edit(picture(), "a cat", maks=box_mask())


@pytest.mark.parametrize("text", ["a cat <lora:ink:0.8>", "a (red:1.2) cat", "a (red cat:1.05)"])
def test_another_programs_syntax_is_said_once(text):
    request = intake.request_of(values(SD2_FAMILY, prompt=text))
    warnings = intake.check(SD2_FAMILY, request).warnings
    assert len([each for each in warnings if each.startswith("prompt:")]) == 1


@pytest.mark.parametrize("text", ["a (red) cat", "at 12:30 (noon)", "<b>"])
def test_ordinary_words_are_not_taken_for_it(text):
    request = intake.request_of(values(SD2_FAMILY, prompt=text))
    warnings = intake.check(SD2_FAMILY, request).warnings
    assert not [each for each in warnings if each.startswith("prompt:")]


MASK = np.zeros((60, 80), bool)
MASK[20:40, 30:50] = True
RUNS = {"size": [60, 80], "counts": [30 * 60 + 20, *[20, 40] * 19, 20, 30 * 60 + 20]}
SAM = [{"segmentation": MASK, "bbox": [30, 20, 20, 20], "area": 400, "predicted_iou": 0.9}]
FORMS = {
    "array": MASK,
    "tensor": torch.from_numpy(MASK),
    "half tensor": torch.from_numpy(MASK).half(),
    "rows": MASK.tolist(),
    "rows of 255": (MASK * 255).tolist(),
    "run lengths": RUNS,
    "SAM": SAM,
    "supervision": supervision.Detections(
        xyxy=np.array([[30.0, 20, 50, 40]]), mask=MASK[None], class_id=np.array([0])
    ),
    "a box": supervision.Detections(xyxy=np.array([[30.0, 20, 50, 40]]), class_id=np.array([0])),
    "image": Image.fromarray(MASK),
}


@pytest.mark.parametrize("form", FORMS)
def test_masks_in_the_forms_that_people_have(form):
    request = intake.request_of({"image": picture(80, 60), "mask": FORMS[form]})
    assert ((np.asarray(request.mask) > 0) == MASK).all()


@pytest.mark.parametrize("value", [bytearray(b"x"), 1, 0.5, object(), [], [[0, 1], [1]], {"a": 1}])
def test_what_is_no_mask_is_refused(value):
    with pytest.raises(InvalidRequest) as refused:
        intake.request_of({"image": picture(80, 60), "mask": value})
    assert refused.value.field.startswith("mask")


PAINT = Image.new("RGB", (80, 60), "white")
PAINT.paste("red", (30, 20, 50, 40))


def test_how_a_mask_is_read_can_be_said():
    edit = {"image": picture(80, 60), "mask": PAINT}
    with pytest.raises(InvalidRequest, match="say with mask_is") as refused:
        intake.request_of(edit)
    assert refused.value.field == "mask"
    for reads, inside, outside in (("paint", 255, None), ("white", 76, 255)):
        request = intake.request_of({**edit, "mask_is": reads})
        mask = np.asarray(request.mask)
        assert (mask[MASK] == inside).all()
        assert outside is None or (mask[~MASK] == outside).all()
        assert request.mask_is is None  # it is read, and must not be read again


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"mask": PAINT, "mask_is": "black"}, "not one of white, alpha, paint"),
        ({"mask": PAINT, "mask_is": 7}, "not one of white, alpha, paint"),
        ({"mask_is": "white"}, "no mask to read"),
        ({"mask": MASK, "mask_is": "white"}, "ndarray is not a picture"),
        ({"mask": RUNS, "mask_is": "alpha"}, "dict is not a picture"),
        ({"mask": json.dumps(RUNS).encode(), "mask_is": "alpha"}, "not a picture"),
    ],
)
def test_a_reading_that_says_nothing_is_refused(edit, message):
    with pytest.raises(InvalidRequest, match=message) as refused:
        intake.request_of({"image": picture(80, 60), **edit})
    assert refused.value.field == "mask_is"


def test_other_masks_are_white_on_black():
    edit = {"image": picture(80, 60), "mask": PAINT, "copy_from": PAINT, "mask_is": "paint"}
    with pytest.raises(InvalidRequest, match="make it white on black") as refused:
        intake.request_of(edit)
    assert refused.value.field == "copy_from"


@pytest.mark.parametrize("form", ["path", "bytes"])
def test_a_file_of_annotations_is_a_mask(tmp_path, form):
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(RUNS))
    mask = path if form == "path" else path.read_bytes()
    request = intake.request_of({"image": picture(80, 60), "mask": mask})
    assert ((np.asarray(request.mask) > 0) == MASK).all()


def test_a_mask_of_another_size_is_fitted_only_where_that_is_asked_for():
    edit = {"image": picture(80, 60), "mask": Image.fromarray(MASK).resize((40, 30))}
    assert intake.request_of(edit, fit_mask=True).mask.size == (80, 60)
    assert intake.request_of(edit).mask.size == (40, 30)


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
            intake.check(SD2_FAMILY, replace(request, mask=mask))


def test_a_black_and_white_picture_may_be_its_own_mask():
    drawing = Image.fromarray(MASK)
    request = intake.request_of({"image": drawing, "mask": drawing, "prompt": "a cat"})
    assert intake.check(SD2_FAMILY, request).request is request


def test_letters_that_a_text_encoder_does_not_know_are_said():
    (warning,) = intake.unread(SD2_FAMILY, intake.request_of(values(SD2_FAMILY, prompt="빨간 원")))
    assert warning.startswith("prompt: sd2 reads English, and '빨간 원' is in other letters")
    assert intake.unread(SD2_FAMILY, intake.request_of(values(SD2_FAMILY))) == []
    assert intake.unread(QWEN_EDIT_FAMILY, intake.request_of(values(SD2_FAMILY, prompt="圆"))) == []
