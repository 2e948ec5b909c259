"""Masks from what callers have, and what is done with them."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import supervision as sv
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from overpaint.core.errors import InvalidMask
from overpaint.core.geometry import Box
from overpaint.core.imaging import masks

SIZE = (20, 10)


def mask_of(values: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values, np.uint8))


def values_of(mask: Image.Image) -> NDArray[np.uint8]:
    assert mask.mode == "L"
    return np.asarray(mask)


def random_mask(seed: int, width: int, height: int, *, soft: bool) -> Image.Image:
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 256, (height, width)) if soft else np.full((height, width), 255)
    return mask_of(np.where(rng.random((height, width)) < rng.choice([0.02, 0.3, 0.9]), values, 0))


any_mask = st.builds(
    random_mask,
    st.integers(0, 2**16),
    st.integers(1, 40),
    st.integers(1, 40),
    soft=st.booleans(),
)


class TestFromImages:
    def test_from_alpha(self):
        image = Image.new("RGBA", SIZE, (9, 9, 9, 255))
        image.putpixel((3, 4), (9, 9, 9, 0))
        assert masks.bbox(masks.from_alpha(image)) == Box(3, 4, 4, 5)
        with pytest.raises(InvalidMask, match="no transparency"):
            masks.from_alpha(image.convert("RGB"))

    def test_from_alpha_of_a_palette(self):
        image = Image.new("P", (2, 1))
        image.putpixel((1, 0), 1)
        image.info["transparency"] = 1
        assert values_of(masks.from_alpha(image)).tolist() == [[0, 255]]

    @pytest.mark.parametrize(
        ("mode", "value", "expected"),
        [("1", 1, 255), ("L", 9, 9), ("RGB", (9, 9, 9), 9), ("I;16", 65_535, 255), ("F", 1.0, 255)],
    )
    def test_from_pil_takes_brightness(self, mode, value, expected):
        assert values_of(masks.from_pil(Image.new(mode, SIZE, value))).min() == expected

    def test_from_pil_takes_transparency_that_varies(self):
        image = Image.new("LA", SIZE, (255, 255))
        assert masks.from_pil(image).getextrema() == (255, 255)
        image.putpixel((3, 4), (255, 0))
        assert masks.bbox(masks.from_pil(image)) == Box(3, 4, 4, 5)

    @pytest.mark.parametrize("image", [Image.new("L", (0, 0)), Image.new("F", (1, 1), math.nan)])
    def test_from_pil_refuses(self, image):
        with pytest.raises(InvalidMask, match="mask: "):
            masks.from_pil(image)


class TestFromArray:
    @pytest.mark.parametrize(
        "array",
        [
            np.array([[0, 1]], np.bool_),
            np.array([[0, 1]], np.uint8),
            np.array([[0, 1]], np.int64),
            np.array([[0, 255]], np.uint8),
            np.array([[0, 255]], np.int32),
            np.array([[0, 65_535]], np.uint16),
            np.array([[0, 1]], np.float32),
            np.array([[[0], [1]]], np.float64),
        ],
    )
    def test_types(self, array):
        assert values_of(masks.from_array(array)).tolist() == [[0, 255]]

    def test_soft_values(self):
        assert values_of(masks.from_array(np.array([[0.25, 0.5]]))).tolist() == [[64, 128]]
        assert values_of(masks.from_array(np.array([[2, 254]], np.uint8))).tolist() == [[2, 254]]

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((2, 2, 3)), r"\(2, 2, 3\)"),
            (np.zeros((0, 2)), r"\(0, 2\)"),
            (np.full((2, 2), np.nan), "NaN"),
            (np.full((2, 2), 2.0), "2.0"),
            (np.full((2, 2), -1), "-1"),
            (np.full((2, 2), 256), "256"),
            (np.full((2, 2), "x"), "<U1"),
        ],
    )
    def test_refuses(self, array, message):
        with pytest.raises(InvalidMask, match=message):
            masks.from_array(array)


class TestFromBoxes:
    def test_whole_pixels(self):
        mask = masks.from_boxes([(1, 2, 4, 5), (10, 0, 12, 3)], SIZE)
        expected = np.zeros((10, 20))
        expected[2:5, 1:4] = expected[0:3, 10:12] = 255
        assert np.array_equal(values_of(mask), expected)

    def test_touched_pixels_count(self):
        assert masks.bbox(masks.from_boxes(np.array([[1.9, 2.0, 3.1, 2.1]]), SIZE)) == Box(
            1, 2, 4, 3
        )

    def test_the_part_inside_counts(self):
        assert masks.bbox(masks.from_boxes([(-5, -5, 2, 3)], SIZE)) == Box(0, 0, 2, 3)

    @pytest.mark.parametrize(
        ("boxes", "message"),
        [
            ([], "no boxes"),
            ([(1, 2, 3)], "Box 0 has 3 numbers"),
            ([(0, 0, 1, 1), (5, 5, 5, 9)], "Box 1 .* no area"),
            ([(5, 9, 9, 5)], "no area"),
            ([(20, 0, 25, 5)], "outside the picture of 20x10"),
            ([(0, math.nan, 1, 1)], "NaN or infinite"),
            ([(0, 0, math.inf, 1)], "NaN or infinite"),
            ([(0, 0, 1e300, 1)], "1e\\+300, far outside"),
            ([("a", 0, 1, 1)], "not made of numbers"),
        ],
    )
    def test_refuses(self, boxes, message):
        with pytest.raises(InvalidMask, match=message):
            masks.from_boxes(boxes, SIZE)


class TestFromPolygons:
    def test_fills_with_its_outline(self):
        square = [(2, 2), (6, 2), (6, 6), (2, 6)]
        mask = masks.from_polygons([square], SIZE)
        assert masks.bbox(mask) == Box(2, 2, 7, 7)
        assert masks.coverage(mask) == 25 / 200
        flat = [value for point in square for value in point]
        assert mask.tobytes() == masks.from_polygons([flat], SIZE).tobytes()

    def test_as_supervision_does(self):
        polygon = np.array([[1, 1], [15, 2], [9, 8], [4, 9]])
        expected = sv.polygon_to_mask(polygon, SIZE).astype(np.uint8) * 255
        assert np.array_equal(values_of(masks.from_polygons([polygon], SIZE)), expected)

    def test_overlapping_polygons_are_united(self):
        triangle = [(1, 1), (9, 1), (1, 9)]
        once = masks.from_polygons([triangle], SIZE)
        assert masks.from_polygons([triangle, triangle], SIZE).tobytes() == once.tobytes()

    @pytest.mark.parametrize(
        ("polygons", "message"),
        [
            ([], "no polygons"),
            ([[(1, 1), (2, 2)]], r"Polygon 0 .* three or more"),
            ([[1, 2, 3, 4, 5, 6, 7]], "three or more"),
            ([np.zeros((4, 3))], "three or more"),
            ([[(30, 1), (40, 1), (30, 5)]], "Polygon 0 lies outside"),
            ([[(0, 0), (9, math.nan), (0, 5)]], "NaN"),
            ([[(0, 0), (9, 9), (0,)]], "not made of numbers"),
        ],
    )
    def test_refuses(self, polygons, message):
        with pytest.raises(InvalidMask, match=message):
            masks.from_polygons(polygons, SIZE)


class TestFromCocoRle:
    @settings(max_examples=60)
    @given(any_mask)
    @example(mask_of(np.zeros((300, 400))))
    @example(mask_of(np.full((300, 400), 255)))
    def test_both_kinds_as_pycocotools_writes_them(self, mask):
        marked = np.asfortranarray(values_of(mask) > 0)
        compressed = coco.encode(marked.astype(np.uint8))
        expected = marked * np.uint8(255)
        for counts in (compressed["counts"], compressed["counts"].decode()):
            rle = {"size": compressed["size"], "counts": counts}
            assert np.array_equal(values_of(masks.from_coco_rle(rle, mask.size)), expected)
        flat = marked.ravel(order="F")
        changes = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *changes, flat.size]).tolist()
        rle = {"size": compressed["size"], "counts": [0, *runs] if flat[0] else runs}
        assert np.array_equal(values_of(masks.from_coco_rle(rle, mask.size)), expected)

    @pytest.mark.parametrize(
        ("rle", "message"),
        [
            ({}, "need 'size'"),
            ({"size": [10, 20]}, "need 'size'"),
            ({"size": None, "counts": []}, "need 'size'"),
            ({"size": [20, 10], "counts": [200]}, r"\(20, 10\) .* \(10, 20\)"),
            ({"size": [10, 20], "counts": [199]}, "199 pixels, the picture has 200"),
            ({"size": [10, 20], "counts": [10**30]}, "add up to"),
            ({"size": [10, 20], "counts": [-1, 201]}, "whole number"),
            ({"size": [10, 20], "counts": [1.5, 198.5]}, "whole number"),
            ({"size": [10, 20], "counts": 7}, "need 'size'"),
            ({"size": [10, 20], "counts": "é"}, "add up to"),
            ({"size": [10, 20], "counts": "\x00"}, "damaged"),
            ({"size": [10, 20], "counts": "o" * 30}, "damaged"),
            ({"size": [10, 20], "counts": "o"}, "too early"),
        ],
    )
    def test_refuses(self, rle, message):
        with pytest.raises(InvalidMask, match=message):
            masks.from_coco_rle(rle, SIZE)

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.binary(max_size=20), st.lists(st.integers(-9, 300), max_size=9)))
    def test_noise_is_a_mask_or_refused(self, counts):
        try:
            mask = masks.from_coco_rle({"size": (10, 20), "counts": counts}, SIZE)
        except InvalidMask:
            return
        assert mask.size == SIZE


class TestFromDetections:
    def detections(self, *, masked: bool) -> sv.Detections:
        xyxy = np.array([[1, 1, 4, 4], [10, 2, 15, 8]], float)
        shapes = np.zeros((2, 10, 20), bool)
        shapes[0, 2, 2] = shapes[1, 5, 12] = True
        return sv.Detections(xyxy=xyxy, mask=shapes if masked else None)

    def test_masks_where_there_are_any(self):
        mask = masks.from_detections(self.detections(masked=True), SIZE)
        assert np.argwhere(values_of(mask)).tolist() == [[2, 2], [5, 12]]

    def test_else_boxes(self):
        mask = masks.from_detections(self.detections(masked=False), SIZE)
        assert masks.coverage(mask) == (9 + 30) / 200

    @pytest.mark.parametrize("masked", [True, False])
    def test_some_of_them(self, masked):
        mask = masks.from_detections(self.detections(masked=masked), SIZE, indices=[1])
        assert masks.bbox(mask).left >= 10

    def test_compact_masks(self):
        detections = self.detections(masked=True)
        compact = sv.CompactMask.from_dense(
            detections.mask, xyxy=detections.xyxy, image_shape=(10, 20)
        )
        detections.mask = compact
        mask = masks.from_detections(detections, SIZE)
        assert np.argwhere(values_of(mask)).tolist() == [[2, 2], [5, 12]]

    def test_anything_that_looks_like_it(self):
        alike = SimpleNamespace(xyxy=[[1, 1, 4, 4]], mask=None)
        assert masks.bbox(masks.from_detections(alike, SIZE)) == Box(1, 1, 4, 4)

    def test_nothing_was_detected(self):
        with pytest.raises(InvalidMask, match="no detections"):
            masks.from_detections(sv.Detections.empty(), SIZE)

    @pytest.mark.parametrize("index", [2, -1])
    def test_an_index_that_does_not_exist(self, index):
        with pytest.raises(InvalidMask, match=f"Detection {index} does not exist; there are 2"):
            masks.from_detections(self.detections(masked=True), SIZE, indices=[index])

    def test_masks_of_another_picture(self):
        with pytest.raises(InvalidMask, match=r"detection 0 has the shape \(10, 20\)"):
            masks.from_detections(self.detections(masked=True), (10, 20))


class TestCombine:
    def test_the_larger_value_counts(self):
        combined = masks.combine([mask_of([[0, 9, 3]]), mask_of([[1, 2, 255]])])
        assert values_of(combined).tolist() == [[1, 9, 255]]

    def test_refuses(self):
        with pytest.raises(InvalidMask, match="no masks"):
            masks.combine([])
        with pytest.raises(InvalidMask, match=r"\(2, 2\) and \(3, 3\)"):
            masks.combine([Image.new("L", (2, 2)), Image.new("L", (3, 3))])


def dilated(values: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """Grey dilation with a disc, straight from its definition."""
    height, width = values.shape
    around = np.pad(values, radius)
    result = np.zeros_like(values)
    for y in range(2 * radius + 1):
        for x in range(2 * radius + 1):
            if (y - radius) ** 2 + (x - radius) ** 2 <= radius * radius:
                np.maximum(result, around[y : y + height, x : x + width], out=result)
    return result


class TestGrow:
    @settings(max_examples=60, deadline=None)
    @given(any_mask, st.integers(0, 9))
    def test_by_its_definition(self, mask, radius):
        assert np.array_equal(values_of(masks.grow(mask, radius)), dilated(values_of(mask), radius))

    @settings(max_examples=40, deadline=None)
    @given(any_mask, st.integers(1, 9))
    def test_shrinking_is_growing_the_rest(self, mask, radius):
        expected = 255 - dilated(255 - values_of(mask), radius)
        assert np.array_equal(values_of(masks.grow(mask, -radius)), expected)

    def test_the_border_does_not_shrink_a_mask(self):
        full = Image.new("L", SIZE, 255)
        assert masks.grow(full, -5).getextrema() == (255, 255)

    @pytest.mark.parametrize("radius", [33, 64, 140])
    def test_large_soft_masks_follow_the_circle(self, radius):
        mask = Image.new("L", (301, 301))
        mask.putpixel((150, 150), 200)
        y, x = np.mgrid[-150:151, -150:151]
        distance = np.hypot(x, y)
        grown = values_of(masks.grow(mask, radius)) > 0
        assert not grown[distance > radius].any()
        assert grown[distance <= radius * 0.98].all()

    def test_the_input_is_left_alone(self):
        mask = mask_of([[0, 0, 255]])
        masks.grow(mask, 0).putpixel((0, 0), 9)
        masks.grow(mask, 2)
        assert values_of(mask).tolist() == [[0, 0, 255]]


class TestFillHoles:
    def test_what_is_enclosed_is_filled(self):
        mask = Image.new("L", (30, 30))
        draw = ImageDraw.Draw(mask)
        draw.ellipse((5, 5, 20, 20), outline=255)
        filled = masks.fill_holes(mask)
        draw.ellipse((5, 5, 20, 20), fill=255)
        assert filled.tobytes() == mask.tobytes()

    def test_what_is_open_to_the_border_is_not(self):
        mask = Image.new("L", (30, 30))
        ImageDraw.Draw(mask).ellipse((-8, 5, 20, 25), outline=255)
        assert masks.fill_holes(mask).tobytes() == mask.tobytes()

    @given(any_mask)
    def test_only_holes_change(self, mask):
        before, after = values_of(mask), values_of(masks.fill_holes(mask))
        changed = before != after
        assert (before[changed] < 128).all()
        assert (after[changed] == 255).all()
        assert not changed[[0, -1]].any()
        assert not changed[:, [0, -1]].any()

    def test_nothing_marked(self):
        assert masks.fill_holes(Image.new("L", SIZE)).getbbox() is None


class TestFeather:
    @settings(max_examples=100, deadline=None)
    @given(any_mask, st.integers(0, 30))
    def test_never_more_than_the_mask(self, mask, pixels):
        before, after = values_of(mask), values_of(masks.feather(mask, pixels))
        assert (after <= before).all()
        assert not after[before == 0].any()
        if before.any() and pixels > 1:
            assert after.any()

    @settings(max_examples=30, deadline=None)
    @given(any_mask, st.integers(-3, 0))
    def test_nothing_to_do(self, mask, pixels):
        assert masks.feather(mask, pixels).tobytes() == mask.tobytes()

    def test_rises_smoothly_over_the_length(self):
        mask = masks.from_boxes([(100, 0, 300, 100)], (400, 100))
        row = values_of(masks.feather(mask, 16))[50].astype(int)
        assert row[99] == 0
        assert 0 < row[100] < 16
        assert row[115] == 255
        rise = np.diff(row[99:117])
        assert (rise >= 0).all()
        assert rise.max() <= 26  # 1.5 times the mean slope, as a smooth step has it
        assert np.array_equal(row[100:300], row[100:300][::-1])
        assert (row[116:284] == 255).all()

    @pytest.mark.parametrize("width", [1, 2, 3, 7, 10])
    @pytest.mark.parametrize("pixels", [4, 16, 50])
    def test_thin_strokes_keep_full_strength(self, width, pixels):
        mask = masks.from_boxes([(30, 20, 30 + width, 180)], (120, 200))
        assert values_of(masks.feather(mask, pixels))[100].max() == 255
        ring = Image.new("L", (200, 200))
        ImageDraw.Draw(ring).ellipse((40, 40, 160, 160), outline=200, width=width)
        assert values_of(masks.feather(ring, pixels)).max() == 200

    def test_the_pictures_border_is_no_edge(self):
        mask = masks.from_boxes([(0, 0, 20, 10)], (100, 10))
        row = values_of(masks.feather(mask, 8))[0]
        assert (row[:12] == 255).all()
        assert row[19] < 16
        full = Image.new("L", SIZE, 255)
        assert masks.feather(full, 8).getextrema() == (255, 255)

    def test_soft_values_are_the_ceiling(self):
        soft = masks.from_boxes([(20, 20, 80, 80)], (100, 100)).point(lambda value: value // 3)
        feathered = values_of(masks.feather(soft, 10))
        assert feathered[50, 50] == feathered.max() == 85

    def test_no_jumps_where_a_stroke_meets_an_area(self):
        mask = Image.new("L", (300, 200))
        draw = ImageDraw.Draw(mask)
        draw.rectangle((20, 20, 150, 180), fill=255)
        draw.rectangle((150, 90, 280, 100), fill=255)
        along = values_of(masks.feather(mask, 30))[95].astype(int)
        assert np.abs(np.diff(along[60:270])).max() < 40
        assert along[250] == 255


class TestMeasures:
    def test_bbox(self):
        assert masks.bbox(masks.from_boxes([(1, 2, 3, 4)], SIZE)) == Box(1, 2, 3, 4)
        with pytest.raises(InvalidMask, match=r"regions: .*marks nothing"):
            masks.bbox(Image.new("L", SIZE), field="regions")

    def test_coverage(self):
        assert masks.coverage(Image.new("L", SIZE)) == 0
        assert masks.coverage(Image.new("L", SIZE, 255)) == 1
        assert masks.coverage(Image.new("L", SIZE, 51)) == pytest.approx(0.2)

    def test_invert(self):
        assert values_of(masks.invert(mask_of([[0, 9, 255]]))).tolist() == [[255, 246, 0]]


class TestCheck:
    def test_a_mask_that_fits(self):
        assert masks.check(masks.from_boxes([(0, 0, 18, 10)], SIZE), SIZE) == []

    def test_a_mask_that_marks_nearly_everything(self):
        (warning,) = masks.check(masks.from_boxes([(0, 0, 19, 10)], SIZE), SIZE)
        assert "95%" in warning
        assert "invert" in warning

    def test_another_size(self):
        with pytest.raises(InvalidMask, match=r"mask: .*20x10 pixels, the picture 10x20"):
            masks.check(Image.new("L", SIZE, 9), (10, 20))

    def test_the_picture_lies_on_its_side(self):
        with pytest.raises(InvalidMask, match="turned as their EXIF says"):
            masks.check(Image.new("L", SIZE, 9), (10, 20))
        with pytest.raises(InvalidMask) as caught:
            masks.check(Image.new("L", SIZE, 9), (10, 21))
        assert "EXIF" not in str(caught.value)

    def test_nothing_marked(self):
        with pytest.raises(InvalidMask, match="marks nothing"):
            masks.check(Image.new("L", SIZE), SIZE)

    def test_another_mode(self):
        with pytest.raises(InvalidMask, match="mode 'RGB'"):
            masks.check(Image.new("RGB", SIZE), SIZE)


def test_work_follows_the_mask_not_the_picture():
    mask = masks.from_boxes([(1000, 1000, 1200, 1100)], (3000, 2000))
    whole = masks.from_boxes([(100, 100, 2900, 1900)], (3000, 2000))

    def seconds(mask: Image.Image) -> float:
        started = time.process_time()
        masks.feather(masks.fill_holes(masks.grow(mask, 8)), 8)
        return time.process_time() - started

    seconds(mask)  # what it needs is loaded
    assert seconds(mask) < 0.5 * seconds(whole)
