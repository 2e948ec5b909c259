"""Detections from what people have, chosen, and made into a mask."""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv
from PIL import Image
from pycocotools import mask as coco

from overpaint.core.errors import InvalidMask, InvalidRequest
from overpaint.core.imaging import detections
from overpaint.core.imaging.detections import Detection, NoSuchClass

SIZE = (60, 40)


def blob(left=10, top=5, right=30, bottom=25) -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[top:bottom, left:right] = True
    return mask


def supervised(*marks, names=None, **more) -> sv.Detections:
    masks = np.stack(marks)
    data = {} if names is None else {"class_name": np.array(names)}
    return sv.Detections(xyxy=sv.mask_to_xyxy(masks).astype(float), mask=masks, data=data, **more)


def roboflow(**more) -> dict:
    return {"x": 20, "y": 15, "width": 20, "height": 20, "class": "dog", "confidence": 0.8, **more}


def run_lengths(mask, *, compressed=True) -> dict:
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return {"size": list(rle["size"]), "counts": rle["counts"].decode()}
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(int)))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": [SIZE[1], SIZE[0]], "counts": counts}


def union(value) -> np.ndarray:
    return np.asarray(detections.union(detections.parse(value, SIZE), SIZE)) > 0


POINTS = [{"x": x, "y": y} for x, y in ((10, 5), (29, 5), (29, 24), (10, 24))]
POLYGON = [10, 5, 29, 5, 29, 24, 10, 24]
FORMS = {
    "supervision": lambda: supervised(blob()),
    "supervision boxes": lambda: sv.Detections(xyxy=np.array([[10.0, 5, 30, 25]])),
    "supervision run lengths": lambda: sv.Detections(
        xyxy=np.array([[10.0, 5, 30, 25]]),
        data={"rle_mask": np.array([run_lengths(blob())], dtype=object)},
    ),
    "roboflow polygon": lambda: {"predictions": [roboflow(points=POINTS)]},
    "roboflow list": lambda: [roboflow(points=POINTS)],
    "roboflow one": lambda: roboflow(points=POINTS),
    "roboflow run lengths": lambda: {"predictions": [roboflow(rle_mask=run_lengths(blob()))]},
    "roboflow box": lambda: {"predictions": [roboflow()]},
    "coco polygon": lambda: [{"segmentation": [POLYGON], "category_id": 1}],
    "coco run lengths": lambda: [{"segmentation": run_lengths(blob()), "iscrowd": 1}],
    "coco plain run lengths": lambda: [{"segmentation": run_lengths(blob(), compressed=False)}],
    "coco box": lambda: [{"bbox": [10, 5, 20, 20], "category_id": 1}],
    "coco data set": lambda: {
        "images": [{"id": 7}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 1, "segmentation": [POLYGON]}],
    },
    "run lengths alone": lambda: run_lengths(blob()),
    "our own": lambda: [Detection(box=(10, 5, 30, 25), mask=blob())],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_marks_the_same(form):
    np.testing.assert_array_equal(union(FORMS[form]()), blob())


def test_classes_and_confidences_are_read():
    found = supervised(blob(), names=["dog"], class_id=np.array([3]), confidence=np.array([0.25]))
    for value in (
        found,
        [roboflow(class_id=3, confidence=0.25)],
        {
            "annotations": [{"bbox": [1, 1, 5, 5], "category_id": 3, "score": 0.25}],
            "categories": [{"id": 3, "name": "dog"}],
        },
    ):
        (one,) = detections.parse(value, SIZE)
        assert (one.label, one.class_id, one.confidence) == ("dog", 3, 0.25)


def test_several_are_joined():
    other = blob(40, 30, 50, 38)
    np.testing.assert_array_equal(union(supervised(blob(), other)), blob() | other)


def test_none_are_none():
    for value in (sv.Detections.empty(), [], {"predictions": []}, {"annotations": []}):
        assert detections.parse(value, SIZE) == []


def test_classes_are_chosen_by_name_or_number():
    found = detections.parse(
        supervised(blob(), blob(40), names=["dog", "cat"], class_id=np.array([3, 5])), SIZE
    )
    assert [each.label for each in detections.select(found, classes=["cat"])] == ["cat"]
    assert [each.label for each in detections.select(found, classes=[3, "bird"])] == ["dog"]
    assert detections.select(found) == found
    assert detections.select([], classes=["dog"]) == []
    with pytest.raises(InvalidRequest, match="'dog' is one class; give a list"):
        detections.select(found, classes="dog")


def test_a_class_that_is_not_there_is_named():
    found = detections.parse(supervised(blob(), names=["dog"], class_id=np.array([3])), SIZE)
    with pytest.raises(NoSuchClass) as caught:
        detections.select(found, classes=["dgo"])
    assert str(caught.value) == (
        "classes: no detection is of 'dgo' (did you mean 'dog'?); there are names: dog; numbers: 3"
    )


def test_confidence_is_a_threshold():
    found = detections.parse([roboflow(confidence=0.4), roboflow(confidence=0.6)], SIZE)
    assert [each.confidence for each in detections.select(found, confidence=0.6)] == [0.6]
    for wrong in (1.5, -0.1, float("nan"), "high"):
        with pytest.raises(InvalidRequest, match="not a number between 0 and 1"):
            detections.select(found, confidence=wrong)
    bare = detections.parse(supervised(blob()), SIZE)
    with pytest.raises(InvalidRequest, match="state no confidence"):
        detections.select(bare, confidence=0.5)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (supervised(blob(), confidence=np.array([np.nan])), "confidence of detection 0 is nan"),
        ([roboflow(), roboflow(confidence=7)], "confidence of detection 1 is 7"),
        ([roboflow(x=float("inf"))], "coordinate that is not a number: inf"),
        ([roboflow(width="wide")], "not a number: 'wide'"),
        ([roboflow(x=500)], "outside the picture of 60x40 pixels"),
        ([roboflow(points=[{"x": 100, "y": 100}] * 3)], "outside the picture of 60x40 pixels"),
        ([roboflow(points=[{"x": 1, "y": float("nan")}] * 3)], "NaN"),
        ([roboflow(points=[[1, 2], [3, 4], [5, 6]])], "points of detection 0 are not a list"),
        ([roboflow(points=POINTS[:2])], "three or more"),
        ([roboflow(rle_mask={"size": [4, 6], "counts": [24]})], "picture has (40, 60)"),
        ([roboflow(class_id="dog")], "class of detection 0 is 'dog'"),
        ([{"class": "dog"}], "neither a box"),
        ([{"segmentation": []}], "neither a bbox nor a segmentation"),
        ([{"bbox": [1, 2, 3]}], "not four numbers"),
        (
            {"annotations": [{"image_id": 1, "bbox": [1] * 4}, {"image_id": 2, "bbox": [1] * 4}]},
            "annotations are of 2 pictures",
        ),
        (
            {"image": {"width": 64, "height": 64}, "predictions": [roboflow()]},
            "picture of 64x64 pixels, this one has 60x40",
        ),
        (supervised(np.ones((4, 6), bool)), "mask of detection 0 has 6x4 pixels"),
        ([1, 2], "A list is not a segmentation"),
        (7, "A int is not a segmentation"),
    ],
)
def test_what_cannot_be_of_the_picture_is_named(value, said):
    with pytest.raises(InvalidMask) as caught:
        union(value)
    assert said in str(caught.value)
    assert str(caught.value).startswith("segmentation_mask")


def test_parts_outside_the_picture_are_left_out():
    marked = union([roboflow(x=55, y=35)])
    assert marked[39, 59]
    assert not marked[0, 0]


def test_masks_are_not_detections():
    for value in (blob(), Image.new("L", SIZE), b"PNG", "mask.png", None):
        assert not detections.are_detections(value)


def test_the_box_of_a_mask():
    assert detections.box_of(blob()) == (10, 5, 30, 25)
    assert detections.box_of(np.zeros((4, 4), bool)) == (0, 0, 0, 0)


def test_they_are_found_where_they_stood_before():
    import overpaint.core

    assert overpaint.core.detections is detections
    with pytest.raises(AttributeError, match="nothing"):
        _ = overpaint.core.nothing
