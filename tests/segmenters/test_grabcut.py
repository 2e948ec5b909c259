"""GrabCut: overlap with the truth on held-out scenes, coordinates, hints it cannot use."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from overpaint.core.errors import InvalidRequest, UnsupportedOption
from overpaint.core.imaging.detections import box_of
from overpaint.segmenters.grabcut import GrabCut
from overpaint.segmenters.segmenter import Hints, Point
from tests.conftest import picture
from training.world.render import coverage, render
from training.world.scene import sample_scene


def scene(seed: int, size: int = 192):
    """A held-out scene and where its first thing is."""
    drawn = sample_scene(np.random.default_rng([4, seed]), heldout_first=True)
    return Image.fromarray(render(drawn, size)), coverage(drawn.things[0], size) >= 0.5


def iou(one, other) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("seed", range(12))
def test_one_box_is_enough(seed):
    image, truth = scene(seed)
    found = GrabCut().segment(image, Hints(boxes=(box_of(truth),)))
    assert len(found) == 1
    assert iou(found[0].mask, truth) >= 0.9


@pytest.mark.parametrize("seed", range(4))
def test_a_loose_box_is_enough(seed):
    image, truth = scene(seed)
    left, top, right, bottom = box_of(truth)
    box = (left - 6.5, top - 6.5, right + 6.5, bottom + 6.5)
    assert iou(GrabCut().segment(image, Hints(boxes=(box,)))[0].mask, truth) >= 0.9


@pytest.mark.parametrize("seed", range(4))
def test_one_point_is_enough(seed):
    image, truth = scene(seed)
    rows, columns = np.nonzero(truth)
    middle = np.hypot(rows - rows.mean(), columns - columns.mean())
    inside = int(middle.argmin())
    point = Point(float(columns[inside]), float(rows[inside]))
    assert iou(GrabCut().segment(image, Hints(points=(point,)))[0].mask, truth) >= 0.9


def test_several_boxes_are_several_things():
    drawn = sample_scene(np.random.default_rng(3), count=2)
    truths = [coverage(thing, 192) >= 0.5 for thing in drawn.things]
    boxes = tuple(box_of(truth) for truth in truths)
    found = GrabCut().segment(Image.fromarray(render(drawn, 192)), Hints(boxes=boxes))
    assert [iou(each.mask, truth) >= 0.9 for each, truth in zip(found, truths, strict=True)] == [
        True,
        True,
    ]


def test_the_same_hints_give_the_same_mask():
    image, truth = scene(1)
    hints = Hints(boxes=(box_of(truth),))
    first, second = (GrabCut().segment(image, hints)[0].mask for _ in range(2))
    assert (first == second).all()


def test_nothing_is_found_outside_the_box():
    image, truth = scene(2)
    left, top, right, bottom = map(int, box_of(truth))
    mask = GrabCut().segment(image, Hints(boxes=((left, top, right, bottom),)))[0].mask
    mask = mask.copy()
    mask[top:bottom, left:right] = False
    assert not mask.any()


def test_a_point_that_is_not_part_of_it_keeps_its_surroundings_out():
    image = Image.new("RGB", (100, 60), "white")
    image.paste("red", (20, 20, 80, 40))
    box = (18.0, 18.0, 82.0, 42.0)
    out = Point(70, 30, inside=False)
    mask = GrabCut().segment(image, Hints(boxes=(box,), points=(out,)))[0].mask
    assert not mask[30, 70]


def test_a_box_of_the_whole_picture():
    image = picture(64, 48)
    mask = GrabCut().segment(image, Hints(boxes=((0, 0, 64, 48),)))[0].mask
    assert mask.shape == (48, 64)


@pytest.mark.parametrize(
    ("hints", "field", "said"),
    [
        (Hints(points=(Point(64, 10),)), "point", "64,10 lies outside the picture of 64x48"),
        (Hints(points=(Point(-1, 10),)), "point", "outside"),
        (Hints(points=(Point(float("nan"), 1),)), "point", "outside"),
        (Hints(points=(Point(1, 1, inside=False),)), "point", "no point lies on the thing"),
        (Hints(boxes=((70, 0, 90, 10),)), "box", "outside"),
        (Hints(boxes=((9, 0, 9, 10),)), "box", "no area"),
        (Hints(boxes=((0, 0, float("inf"), 10),)), "box", "not left, top"),
        (Hints(boxes=((0, 0, 9, 9), (1, 1, 5, 5)), points=(Point(1, 1),)), "box", "whose points"),
        (Hints(words="dog", points=(Point(1, 1),)), "text", "not both"),
        (Hints(words=" "), "text", "is empty"),
    ],
)
def test_hints_that_do_not_fit_are_named(hints, field, said):
    with pytest.raises(InvalidRequest, match=said) as caught:
        GrabCut().segment(picture(64, 48), hints)
    assert caught.value.field == field


@pytest.mark.parametrize("hints", [Hints(), Hints(words="the dog")])
def test_hints_it_cannot_use(hints):
    with pytest.raises(UnsupportedOption, match="grabcut cannot work from"):
        GrabCut().segment(picture(64, 48), hints)
