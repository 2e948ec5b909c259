"""From values to a request."""

from __future__ import annotations

import json

import numpy as np
import pytest
import supervision
import torch
from PIL import Image

from overpaint.core.errors import InvalidRequest
from overpaint.core.types import PARTS
from overpaint.engine import intake
from tests.conftest import box_mask, picture


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


def test_options_are_named():
    with pytest.raises(InvalidRequest, match="options: 5 is not a mapping"):
        intake.split({"image": picture(8, 8), "options": 5})
    parts = intake.split({"image": None, "options": {"grow": 1, "feather": 2}, "grow": 3})
    assert parts["options"] == {"grow": 3, "feather": 2}, "a keyword counts more"


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
