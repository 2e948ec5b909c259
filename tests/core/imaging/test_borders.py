"""How far a picture grows: what people write, the geometry, the canvas, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging import borders
from overpaint.core.imaging.borders import ANCHORS, Borders
from overpaint.core.imaging.images import Picture, decode, encode

SIDE = st.integers(1, 400)
SIZES = st.tuples(SIDE, SIDE)
PIXELS = st.integers(0, 300)


@given(SIZES, PIXELS, PIXELS, PIXELS, PIXELS)
def test_sides_in_pixels(size, left, top, right, bottom):
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    if not any(sides.values()):
        with pytest.raises(InvalidRequest, match="all sides are 0"):
            borders.parse(sides, size)
        return
    grown = borders.parse(sides, size)
    assert grown == Borders(**sides)
    assert grown.around(size) == (size[0] + left + right, size[1] + top + bottom)
    assert grown.within(size).size == size
    assert borders.parse(grown.as_json(), size) == grown
    assert borders.parse(json.dumps(sides), size) == grown
    texts = {name: str(value) for name, value in sides.items()}
    assert borders.parse(texts, size) == grown


@given(SIZES, st.floats(0.5, 400))
def test_percent_are_of_the_pictures_own_side(size, percent):
    share = f"{percent:.2f}%"
    grown = borders.parse({"left": share, "bottom": share}, (1000, 1000))
    assert grown.left == grown.bottom == round(1000 * float(share[:-1]) / 100)
    wide = borders.parse({"right": "50%", "top": "100%"}, size)
    assert (wide.right, wide.top) == (round(size[0] / 2), size[1])


@given(SIZES, st.integers(1, 40), st.integers(1, 40), st.sampled_from(ANCHORS), PIXELS)
def test_a_ratio_is_reached_on_one_axis(size, across, down, anchor, left):
    asked = {"to": f"{across}:{down}", "anchor": anchor, "left": left}
    before = (size[0] + left, size[1])
    wanted = size[1] * across / down, size[0] * down / across
    if left == 0 and size in ((round(wanted[0]), size[1]), (size[0], round(wanted[1]))):
        with pytest.raises(InvalidRequest, match="already") as caught:
            borders.parse(asked, size)
        assert caught.value.field == "extend.to"
        return
    grown = borders.parse(asked, size)
    width, height = grown.around(size)
    assert width == before[0] or height == before[1]
    assert abs(width - height * across / down) <= 0.5 or abs(height - width * down / across) <= 0.5
    more = width - before[0], height - before[1]
    places = {"left": 0, "top": 0, "right": 1, "bottom": 1}
    words = anchor.split("-")
    x = next((places[word] for word in words if word in ("left", "right")), 0.5)
    y = next((places[word] for word in words if word in ("top", "bottom")), 0.5)
    assert grown.left == left + int(more[0] * x)
    assert grown.top == int(more[1] * y)


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ({"left": -1}, "extend.left", "-1 is neither"),
        ({"left": "-5%"}, "extend.left", "as '20%'"),
        ({"top": 1.5}, "extend.top", "1.5 is neither"),
        ({"top": True}, "extend.top", "True is neither"),
        ({"right": float("nan")}, "extend.right", "nan is neither"),
        ({"bottom": "a lot"}, "extend.bottom", "'a lot' is neither"),
        ({"bottom": [1]}, "extend.bottom", "is neither"),
        ({"to": "wide"}, "extend.to", "not a ratio"),
        ({"to": "16:0"}, "extend.to", "not a ratio"),
        ({"to": 1.5}, "extend.to", "not a ratio"),
        ({"to": "101:1"}, "extend.to", "too long"),
        ({"to": "1:101"}, "extend.to", "too long"),
        ({"to": "4:3"}, "extend.to", "has the ratio 4:3 already"),
        ({"to": "1:1", "anchor": "middle"}, "extend.anchor", "'middle' is not one of"),
        ({"anchor": "left"}, "extend", "all sides are 0"),
        ({"left": 0, "top": "0%"}, "extend", "all sides are 0"),
        ({"leftt": 1}, "extend.leftt", "no such key"),
        ({"left": 70_000}, "extend", "65535 at most"),
        ({"left": 9_000, "top": 12_000}, "extend", "limit of 100 megapixels"),
        ("{", "extend", "not JSON"),
        ("[1]", "extend", "not an object"),
        (7, "extend", "not an object"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(value, field, said):
    with pytest.raises(InvalidRequest, match=said) as caught:
        borders.parse(value, (40, 30))
    assert caught.value.field == field


def test_a_limit_counts_the_larger_picture():
    assert borders.parse({"left": 60}, (40, 30), most_pixels=3000).around((40, 30)) == (100, 30)
    with pytest.raises(InvalidRequest, match=r"0\.003 megapixels"):
        borders.parse({"left": 61}, (40, 30), most_pixels=3000)
    with pytest.raises(InvalidRequest) as caught:
        Borders(left=-1)
    assert caught.value.field == "extend.left"


def test_keywords_of_a_function():
    assert borders.of_keywords() == {}
    assert borders.of_keywords(left="20%") == {"left": "20%"}
    assert borders.of_keywords(to="1:1") == {"to": "1:1", "anchor": "center"}


def random_picture(mode: str, size=(7, 5)) -> Picture:
    """A picture of any kind; 'L;16' and so on have 16 bits."""
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode.removesuffix(";16")]
    kind = np.uint16 if mode.endswith(";16") else np.uint8
    values = np.random.default_rng(3).integers(0, np.iinfo(kind).max, (*size[::-1], channels), kind)
    return Picture.from_array(values)


MODES = ["L", "LA", "RGB", "RGBA", "L;16", "LA;16", "RGB;16", "RGBA;16"]


@pytest.mark.parametrize("mode", MODES)
def test_the_picture_lies_untouched_in_an_opaque_border(mode):
    small = random_picture(mode)
    grown = Borders(left=3, top=2, right=1)
    larger, border = borders.canvas(small, grown)
    inside = grown.within(small.size)
    assert border.size == larger.size == (11, 7)
    marked = np.asarray(border) == 255
    assert not marked[2:, 3:10].any()
    assert marked.sum() == 77 - 35
    for one, other in planes(small, larger):
        cut = other[inside.top : inside.bottom, inside.left : inside.right]
        assert cut.dtype == one.dtype
        assert np.array_equal(cut, one)
        assert np.array_equal(other[0, 0], one[0, 0])  # the nearest pixel
    for alpha in alphas(larger):
        assert (alpha[marked] == np.iinfo(alpha.dtype).max).all()
    again = decode(encode(larger, "PNG"))
    assert again.sha256 == larger.sha256


def planes(*pictures: Picture):
    """The values of pictures: all that they have, but for their alpha."""
    yield tuple(np.asarray(each.rgb) for each in pictures)
    if all(each.raster is not None for each in pictures):
        yield tuple(each.raster.values for each in pictures)


def alphas(picture: Picture):
    if picture.alpha is not None:
        yield np.asarray(picture.alpha)
    if picture.raster is not None and picture.raster.alpha is not None:
        yield picture.raster.alpha


def turned(hole: bool = False) -> Picture:
    """A picture whose corners are transparent, and softly so; with a hole in it."""
    alpha = Image.new("L", (40, 40))
    alpha.paste(255, (10, 4, 30, 36))
    alpha.paste(90, (9, 4, 10, 36))
    if hole:
        alpha.paste(0, (16, 16, 20, 20))
    values = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    return Picture(Image.fromarray(values), alpha)


@pytest.mark.parametrize("hole", [False, True])
def test_a_transparent_border_is_filled_and_holes_stay(hole):
    picture = turned(hole)
    larger, border = borders.canvas(picture, Borders())
    assert larger.size == picture.size
    marked = np.asarray(border) == 255
    assert np.array_equal(marked, np.asarray(turned().alpha) < 255)
    assert np.array_equal(np.asarray(larger.rgb)[~marked], np.asarray(picture.rgb)[~marked])
    assert np.array_equal(np.asarray(larger.rgb)[20, 0], np.asarray(picture.rgb)[20, 10])
    if hole:
        assert np.asarray(larger.alpha)[18, 18] == 0
    else:
        assert larger.alpha is None


def test_what_is_no_border_of_its_own_is_refused():
    opaque = random_picture("RGB")
    for picture, said in (
        (opaque, "no transparent border"),
        (Picture(opaque.rgb, Image.new("L", opaque.size, 255)), "no transparent border"),
        (Picture(opaque.rgb, Image.new("L", opaque.size, 0)), "the whole picture is transparent"),
        (Picture(turned().rgb, inner_hole()), "does not touch its edge"),
    ):
        with pytest.raises(InvalidRequest, match=said) as caught:
            borders.canvas(picture, Borders())
        assert caught.value.field == "extend"


def inner_hole() -> Image.Image:
    alpha = Image.new("L", (40, 40), 255)
    alpha.paste(0, (10, 10, 20, 20))
    return alpha


def test_a_canvas_is_told_from_a_thing_that_was_cut_out():
    framed = Picture(turned().rgb, Image.new("L", (40, 40)))
    framed.alpha.paste(255, (10, 4, 30, 36))
    cut_out = Picture(framed.rgb, framed.alpha.copy())
    cut_out.alpha.paste(0, (10, 4, 14, 8))
    whole_mask = Image.new("L", (40, 40), 255)
    assert borders.is_canvas(framed, None)
    assert not borders.is_canvas(cut_out, None)
    assert borders.is_canvas(cut_out, whole_mask)
    assert not borders.is_canvas(cut_out, inner_hole().point(lambda value: 255 - value))
    assert not borders.is_canvas(Picture(framed.rgb, inner_hole()), whole_mask)
    assert not borders.is_canvas(Picture(framed.rgb), None)
    assert not borders.is_canvas(framed, Image.new("L", (8, 8), 255))


def test_masks_move_with_the_picture():
    mask = Image.new("L", (4, 3), 255)
    moved = np.asarray(borders.pad_mask(mask, Borders(left=2, bottom=1)))
    assert moved.shape == (4, 6)
    assert moved[:3, 2:].min() == 255
    assert moved.sum() == 255 * 12
