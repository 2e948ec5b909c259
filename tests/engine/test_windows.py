"""Parts of a mask that lie far apart: windows of their own, within one edit."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from overpaint.core.geometry import Box
from overpaint.core.types import EditRequest
from overpaint.engine import checking, intake, windows
from overpaint.engine.batching.batcher import Batcher
from tests.conftest import picture

FAMILIES = ["sd2", "flex2", "kontext", "erase"]
WIDE = (1200, 128)
LEFT, RIGHT = (20, 40, 60, 80), (1130, 50, 1170, 90)


def marked(size, *boxes) -> Image.Image:
    mask = Image.new("L", size)
    for box in boxes:
        mask.paste(255, box)
    return mask


def request_of(engine, mask, image=None, **values) -> EditRequest:
    model = engine.model()
    if model.family.spec.name != "erase":
        values = {"prompt": "a kite", "num_inference_steps": 2, **values}
    photo = picture(*mask.size) if image is None else image
    return intake.request_of(intake.split({"image": photo, "mask": mask, "seed": 5, **values}))


def split(engine, mask, **values) -> tuple[windows.Region, ...]:
    family, request = engine.model().family, request_of(engine, mask, **values)
    return windows.of(family, request, checking.check(family.spec, request).options)


@pytest.mark.parametrize("boxes", [[LEFT], [LEFT, RIGHT], []])
@pytest.mark.parametrize("values", [{}, {"window": "full"}, {"grow": 12}])
def test_the_canvas_is_known_before_anything_is_encoded(engine, boxes, values):
    spec = engine.model().family.spec
    if "window" in values and "window" not in spec.options.model_fields:
        pytest.skip("it has no such option")
    if not boxes and spec.need("mask") == "required":
        pytest.skip("it needs a mask")
    mask = marked(WIDE, *boxes)
    request = replace(request_of(engine, mask, **values), **({} if boxes else {"mask": None}))
    checked = checking.check(spec, request)
    regions = windows.of(engine.model().family, request, checked.options)
    largest = max(width * height for width, height in (each.plan.canvas for each in regions))
    known = windows.canvas_pixels(engine.model().family, checked)
    assert largest == known or (largest < known and len(regions) > 1)


def pixels(image) -> np.ndarray:
    return np.asarray(image)


def differ(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference; what shares a pass may differ by rounding."""
    return int(np.abs(one.astype(int) - other).max())


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request, make_engine):
    return make_engine(request.param)


@pytest.fixture(scope="module")
def eraser(make_engine):
    return make_engine("erase")


def test_far_parts_come_out_as_if_each_was_edited_alone(engine):
    photo = picture(*WIDE)
    both = engine.run([request_of(engine, marked(WIDE, LEFT, RIGHT), photo)])[0]
    assert any("2 parts of it lie far apart" in each for each in both.warnings)
    expected = pixels(photo).copy()
    for box in (LEFT, RIGHT):
        alone = engine.run([request_of(engine, marked(WIDE, box), photo)])[0]
        assert not any("far apart" in each for each in alone.warnings)
        left, top, right, bottom = box
        expected[top:bottom, left:right] = pixels(alone.images[0])[top:bottom, left:right]
    assert differ(pixels(both.images[0]), expected) <= 1
    outside = pixels(marked(WIDE, LEFT, RIGHT)) == 0
    assert np.array_equal(pixels(both.images[0])[outside], pixels(photo)[outside])
    assert both.seeds == (5,)


def test_several_images_have_a_seed_each_and_come_from_the_batcher_too(engine):
    request = request_of(engine, marked(WIDE, LEFT, RIGHT), num_images=2)
    direct = engine.run([request])[0]
    assert direct.seeds == (5, 6)
    with closing(Batcher(engine)) as batcher:
        queued = batcher.submit(request).result(60)
    again = engine.run([request_of(engine, marked(WIDE, LEFT, RIGHT), seed=6)])[0]
    for result in (direct, queued):
        assert result.seeds == (5, 6)
        assert differ(pixels(result.images[1]), pixels(again.images[0])) <= 1


def test_previews_show_every_part(engine):
    photo = picture(*WIDE)
    edit = engine.begin(request_of(engine, marked(WIDE, LEFT, RIGHT), photo))
    shown = pixels(engine.preview(edit).rgb) != pixels(photo)
    assert shown[:, :600].any() or engine.model().family.spec.name == "erase"
    assert not shown[:, 300:900].any()


@pytest.mark.parametrize("options", [{"window": "one"}, {"window": "full"}])
def test_one_window_can_be_asked_for(engine, options):
    assert len(split(engine, marked(WIDE, LEFT, RIGHT), **options)) == 1


def test_a_size_of_ones_own_is_one_window(engine):
    assert len(split(engine, marked(WIDE, LEFT, RIGHT), width=64, height=64)) == 1


def test_near_parts_share_a_window(engine):
    near = marked(WIDE, LEFT, (70, 40, 90, 80))
    assert len(split(engine, near)) == 1
    groups = split(engine, marked(WIDE, LEFT, (70, 40, 90, 80), RIGHT))
    assert sorted(pixels(each.request.mask).any(axis=0).sum() for each in groups) == [40, 60]


def test_what_may_be_copied_can_lie_anywhere(eraser):
    mask = marked(WIDE, LEFT, RIGHT)
    for name in ("copy_from", "not_from"):
        assert len(split(eraser, mask, **{name: marked(WIDE, (500, 0, 600, 128))})) == 1


boxes = st.tuples(
    st.integers(0, 1900), st.integers(0, 900), st.integers(1, 120), st.integers(1, 120)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=12), st.integers(-3, 20))
def test_windows_share_the_mask_and_show_nothing_of_each_other(eraser, found, grow):
    size = (2000, 1000)
    places = [(x, y, min(x + w, 2000), min(y + h, 1000)) for x, y, w, h in found]
    mask = marked(size, *places)
    parts = split(eraser, mask, grow=grow)
    assert len(parts) <= windows.MOST
    if len(parts) == 1:
        assert parts[0].request.mask.tobytes() == mask.tobytes()
        return
    together = sum(pixels(each.request.mask).astype(int) for each in parts)
    assert (together <= pixels(mask)).all()
    if grow >= 0:
        assert (together == pixels(mask)).all()
    for one in parts:
        own = Box(*one.request.mask.getbbox()).grow(grow).clip(Box.of_size(size))
        assert one.plan.window.contains(own)
        for other in parts:
            if other is not one:
                shown = other.request.mask.crop(one.plan.window.as_tuple())
                assert shown.getbbox() is None
    area = sum(each.plan.canvas[0] * each.plan.canvas[1] for each in parts)
    joint = split(eraser, mask, grow=grow, window="one")[0].plan.canvas
    assert area <= windows.WORTH * joint[0] * joint[1]


def test_a_thousand_specks_are_sorted_quickly(eraser):
    rng = np.random.default_rng(0)
    mask = np.zeros((1500, 2000), np.uint8)
    mask[rng.integers(0, 1500, 1000), rng.integers(0, 2000, 1000)] = 255
    started = time.process_time()
    assert len(split(eraser, Image.fromarray(mask))) >= 1
    assert time.process_time() - started < 30


def test_the_resolution_stays(make_engine):
    """A picture larger than what the model sees at once: one window would be scaled down."""
    sd2 = make_engine("sd2")
    size = (2600, 1800)
    mask = marked(size, (30, 30, 70, 70), (2500, 1700, 2540, 1740))
    assert not split(sd2, mask, window="one")[0].plan.is_exact
    parts = split(sd2, mask)
    assert len(parts) == 2
    assert all(each.plan.is_exact for each in parts)


@pytest.mark.parametrize(
    "family", ["sd2", "sdxl", "flex2", "fill", "kontext", "klein", "qwen-edit", "erase"]
)
def test_every_family_of_masks_splits(make_engine, family):
    mask = marked((3000, 200), (20, 40, 60, 80), (2900, 50, 2940, 90))
    assert len(split(make_engine(family), mask)) == 2
