"""Files of annotations as labelling tools write them, and what they mark."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from overpaint.core.errors import InvalidMask
from overpaint.core.imaging import annotation_files, detections

SIZE = (12, 8)
MARKED = np.zeros((8, 12), bool)
MARKED[2:6, 3:9] = True
STROKE = MARKED.copy()
STROKE[0, 0] = True
BRUSH = [0, 0, 1, 128, 57, 27, 252, 127, 249, 156, 3, 11, 255, 225, 112, 12, 47, 255, 133, 192, 48]
BRUSH += [191, 254, 23, 0, 194, 255, 249, 172, 0]
"""`STROKE`, packed by `encode_rle` of label-studio-converter 0.0.59."""

CORNERS = [[3, 2], [8, 2], [8, 5], [3, 5]]
RUNS = coco_mask.encode(np.asfortranarray(MARKED.astype(np.uint8)))
COCO = {
    "images": [
        {"id": 1, "file_name": "photos/boat.jpg", "width": 12, "height": 8},
        {"id": 2, "file_name": "photos/car.jpg", "width": 12, "height": 8},
    ],
    "annotations": [
        {
            "image_id": 1,
            "category_id": 3,
            "segmentation": [[x for corner in CORNERS for x in corner]],
            "bbox": [3, 2, 6, 4],
        },
        {"image_id": 2, "category_id": 3, "segmentation": [[0, 0, 3, 0, 3, 3]]},
    ],
    "categories": [{"id": 3, "name": "boat"}],
}


def region(**value) -> dict:
    return {
        "original_width": 12,
        "original_height": 8,
        "image_rotation": 0,
        "type": "a tag",
        "value": value,
    }


def task(*results, name="/data/upload/1/a1b2c3d4-boat.jpg") -> dict:
    return {"data": {"image": name}, "annotations": [{"result": list(results)}]}


SHARES = [[x / 12 * 100, y / 8 * 100] for x, y in CORNERS]
POLYGON = region(points=SHARES, polygonlabels=["boat"])
RECTANGLE = region(x=25, y=25, width=100 * 5 / 12, height=37.5, rotation=0, rectanglelabels=["b"])
CHOICE = {"type": "choices", "value": {"choices": ["good"]}}
YOLO = "0 " + " ".join(f"{x / 12:.6f} {y / 8:.6f}" for x, y in CORNERS)

FILES = {
    "COCO": COCO,
    "run lengths": {"size": [8, 12], "counts": RUNS["counts"].decode()},
    "run lengths in a list": [{"size": [8, 12], "counts": RUNS["counts"].decode()}],
    "COCO results": [
        {"image_id": 1, "score": 0.5, "segmentation": {**RUNS, "counts": RUNS["counts"].decode()}}
    ],
    "Label Studio, polygon": [task(POLYGON, CHOICE)],
    "Label Studio, rectangle": [task(RECTANGLE), task(CHOICE, name="car.jpg")],
    "Label Studio, one task": task(POLYGON),
    "Label Studio, small": [{"id": 7, "image": "x", "label": [{**POLYGON, **POLYGON["value"]}]}],
    "YOLO": f"{YOLO}\n\n",
    "YOLO, a prediction": f"{YOLO} 0.9",
    "YOLO, a box": "7 0.5 0.5 0.5 0.5",
    "YOLO, a predicted box": "7 0.5 0.5 0.5 0.5 0.25",
}


def encoded(content) -> bytes:
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def marked(content, **values) -> np.ndarray:
    data = encoded(content)
    assert annotation_files.are_in(data)
    things = annotation_files.parse(data, SIZE, **values)
    return np.asarray(detections.union(things, SIZE)) > 0


@pytest.mark.parametrize("name", FILES)
def test_what_they_mark(name):
    assert (marked(FILES[name], picture="boat.jpg") == MARKED).all()


def test_a_brush_stroke():
    assert (marked([task(region(rle=BRUSH, format="rle", brushlabels=["b"]))]) == STROKE).all()


def test_an_ellipse_and_a_turned_rectangle():
    round_ = region(x=50, y=50, radiusX=25, radiusY=37.5, ellipselabels=["b"])
    drawn = marked([task(round_)])
    assert drawn[4, 4]
    assert drawn[4, 8]
    assert not drawn[1, 3]
    # a quarter turn clockwise around its first corner: it hangs to the left, as tall as it was wide
    turned = {**RECTANGLE["value"], "x": 75, "rotation": 90}
    rows, columns = np.nonzero(marked([task(region(**turned))]))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (6, 9, 2, 7)


def test_names_of_classes_come_along():
    things = annotation_files.parse(encoded(COCO), SIZE, picture="boat.jpg")
    assert [each.label for each in things] == ["boat"]
    things = annotation_files.parse(encoded([task(POLYGON)]), SIZE)
    assert [each.label for each in things] == ["boat"]


SEVERAL = {**task(POLYGON), "annotations": [{"result": [POLYGON]}, {"result": []}]}
REFUSED = {
    "of other pictures": (COCO, "none of them has the name 'tree.jpg'"),
    "of other tasks": ([task(POLYGON), task(POLYGON)], "none of them has"),
    "of another size": ({**COCO, "images": [{"id": 1, "width": 9, "height": 9}]}, "9x9"),
    "of several people": ([SEVERAL], "2 people"),
    "of a turned picture": ([task({**POLYGON, "image_rotation": 90})], "rotated"),
    "no marks": ({"images": [{"id": 5}], "annotations": []}, "no annotations"),
    "a task without regions": ([task(CHOICE)], "no annotations"),
    "no JSON": ("{'a': 1}", "not JSON"),
    "deep JSON": ("[" * 100_000, "not JSON"),
    "another JSON": ({"shapes": 1}, "neither a box"),
    "a list of numbers": ([1, 2], "not a segmentation"),
    "pixels as YOLO": ("0 3 2 8 2 8 5 3 5", "0 to 1"),
    "a word in YOLO": ("0 0.1 0.1 0.5 0.5 0.2 0.9\nboat 0.1", "not made of numbers"),
    "a cut stroke": ([task(region(rle=BRUSH[:-9]))], "not one of"),
    "a stroke of another picture": ([task(region(rle=[0, 0, 2, *BRUSH[3:]]))], "stroke"),
    "a bad category": ({**COCO, "categories": [{"id": "x"}]}, "none of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    content, message = REFUSED[name]
    with pytest.raises(InvalidMask, match=message) as refused:
        annotation_files.parse(encoded(content), SIZE, picture="tree.jpg")
    assert refused.value.field.startswith("mask")


@pytest.mark.parametrize(
    "head", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"", b"a b c d e"]
)
def test_pictures_are_none(head):
    assert not annotation_files.are_in(head)


def test_a_byte_order_mark():
    data = b"\xef\xbb\xbf" + encoded(COCO)
    assert annotation_files.are_in(data)
    assert annotation_files.parse(data, SIZE, picture="car.jpg")
