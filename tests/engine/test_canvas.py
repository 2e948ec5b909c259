"""Pictures that grow, through the engine: what stays, what is filled, what a model sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

import overpaint
from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging import borders
from overpaint.core.imaging.borders import SIDES, Borders
from overpaint.core.imaging.images import Picture, decode, encode
from overpaint.core.types import EditRequest
from overpaint.engine import canvas
from overpaint.engine.intake import request_of
from tests.conftest import box_mask, picture
from tests.core.imaging.test_borders import MODES, planes, random_picture
from training.world.render import render
from training.world.scene import Background, Light, Scene


@pytest.fixture(scope="module")
def eraser(make_engine):
    return make_engine("erase")


def grown(engine, image, extend, **values):
    result = engine.edit(image, extend=extend, seed=3, **values)
    return result, result.pictures[0]


def inside(larger: Picture, borders_: Borders, size) -> list[np.ndarray]:
    box = borders_.within(size)
    return [plane[box.top : box.bottom, box.left : box.right] for (plane,) in planes(larger)]


SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIZES, st.tuples(*[st.integers(0, 24)] * 4), st.sampled_from(MODES))
def test_any_picture_grows_by_any_border(eraser, size, sides, mode):
    extend = Borders(*sides)
    if extend.is_own:
        return
    small = random_picture(mode, size)
    _, larger = grown(eraser, small, extend)
    assert larger.size == extend.around(size)
    assert (larger.is_grey, larger.format) == (small.is_grey, small.format)
    for cut, (own,) in zip(inside(larger, extend, size), planes(small), strict=True):
        assert np.array_equal(cut, own)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (31, 17)])
def test_a_picture_grows_to_four_times_its_sides_and_more(eraser, size):
    extend = dict.fromkeys(SIDES, "200%")
    result, larger = grown(eraser, picture(*size), extend)
    assert larger.size == (5 * size[0], 5 * size[1])
    assert result.recipe["extend"]["left"] == 2 * size[0]
    (said,) = result.warnings
    assert said.startswith("extend: 96% of the result is new")


def test_profile_exif_and_transparency_survive(eraser):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "a kite"
    small = picture(30, 20).convert("RGBA")
    small.putalpha(box_mask(30, 20).point(lambda value: 255 - value // 2))
    small.save(file, "PNG", icc_profile=profile, exif=exif)
    source = decode(file.getvalue())
    _, larger = grown(eraser, source, {"right": 10})
    larger = decode(encode(larger, "PNG"))
    assert (larger.icc_profile, larger.exif) == (source.icc_profile, source.exif)
    alpha = np.asarray(larger.alpha)
    assert np.array_equal(alpha[:, :30], np.asarray(source.alpha))
    assert (alpha[:, 30:] == 255).all()


def test_the_pictures_own_border_is_filled(eraser):
    framed = picture(48, 40).convert("RGBA")
    framed.putalpha(box_mask(48, 40, box=(8, 8, 40, 40)))
    result, filled = grown(eraser, framed, {})
    assert filled.size == (48, 40)
    assert filled.alpha is None
    assert result.recipe["extend"] == {}
    kept = np.asarray(framed)[8:40, 8:40, :3]
    assert np.array_equal(np.asarray(filled.rgb)[8:40, 8:40], kept)


FAMILIES = ("sd2", "sdxl", "flex2", "fill", "kontext", "klein", "qwen-edit")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_fills_the_border_alone(make_engine, name):
    engine = make_engine(name)
    engine.eraser = "erase"
    small = picture(64, 48)
    options = {"num_inference_steps": 2, "feather": 6}
    extend = {"left": 10, "top": "25%"}
    result, larger = grown(engine, small, extend, prompt="a field", options=options)
    assert larger.size == (74, 60)
    values = np.asarray(larger.rgb)
    assert np.array_equal(values[12:, 10:], np.asarray(small))
    streaks, border = borders.canvas(Picture(small), Borders(left=10, top=12))
    assert (values != np.asarray(streaks.rgb))[np.asarray(border) > 0].any()
    assert result.recipe["extend"] == {"left": 10, "top": 12}


def striped() -> Image.Image:
    scene = Scene(Background("mint", "striped", 0.3), Light(0.1, 0.3, 0.4))
    return Image.fromarray(render(scene, 128))


def test_a_model_that_sees_the_border_sees_the_picture_continued(make_engine):
    whole = striped()
    request = EditRequest(image=Picture(whole.crop((0, 0, 96, 128))), extend=Borders(right=32))
    eraser = make_engine("erase").model().family
    seen = canvas.continued(request, canvas.of(request), eraser).image.rgb
    streaks = canvas.of(request).image.rgb
    errors = [
        np.abs(np.asarray(each, np.float32) - np.asarray(whole, np.float32))[:, 96:].mean()
        for each in (seen, streaks)
    ]
    assert errors[0] < 0.5 * errors[1]
    assert np.array_equal(np.asarray(seen)[:, :96], np.asarray(whole)[:, :96])


def test_who_sees_the_border(make_engine):
    answers = {
        name: canvas.is_seen(family.spec, family.spec.options(**options))
        for name, options in (("sd2", {}), ("kontext", {}), ("erase", {}))
        for family in [make_engine(name).model().family]
    }
    assert answers == {"sd2": False, "kontext": True, "erase": False}
    sd2 = make_engine("sd2").model().family.spec
    assert canvas.is_seen(sd2, sd2.options(strength=0.6))


def test_a_mask_goes_with_a_border(eraser):
    small, mask = picture(64, 48), box_mask(64, 48, box=(40, 30, 60, 46))
    _, larger = grown(eraser, small, {"left": 10}, mask=mask)
    differs = (np.asarray(larger.rgb)[:, 10:] != np.asarray(small)).any(axis=2)
    assert differs.any()
    assert not differs[np.asarray(mask) == 0].any()


def test_where_the_eraser_copies_from_moves_with_the_picture(eraser):
    small = Image.new("RGB", (60, 40), "blue")
    small.paste("red", (30, 0, 60, 40))
    left = box_mask(60, 40, box=(0, 0, 28, 40))
    _, larger = grown(eraser, small, {"right": 20}, copy_from=left)
    assert (np.asarray(larger.rgb)[:, 70:, 2] > 150).all()


def test_grow_repaints_the_edge_and_the_default_does_not(eraser):
    small = picture(64, 48)
    _, larger = grown(eraser, small, {"right": 20}, grow=5, feather=0)
    differs = (np.asarray(larger.rgb)[:, :64] != np.asarray(small)).any(axis=(0, 2))
    assert not differs[:59].any()
    assert differs[59:].any()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"grow": -1}, "options.grow"),
        ({"height": 64, "width": 64}, "options.width"),
        ({"shadow": True}, "options.shadow"),
        ({"prompt": "a field"}, "prompt"),
    ],
)
def test_what_says_otherwise_is_refused(eraser, values, field):
    with pytest.raises(InvalidRequest) as caught:
        grown(eraser, picture(40, 30), {"left": 8}, **values)
    assert caught.value.field == field


def test_the_canvas_size_may_be_said_again(eraser):
    _, larger = grown(eraser, picture(40, 30), {"left": 8}, width=48, height=30)
    assert larger.size == (48, 30)


def test_words_are_missing_by_the_model_that_needs_them(make_engine):
    with pytest.raises(InvalidRequest, match="the eraser needs no words") as caught:
        grown(make_engine("sd2"), picture(40, 30), {"left": 8})
    assert caught.value.field == "prompt"


def test_it_is_refused_before_anything_is_decoded_twice():
    with pytest.raises(InvalidRequest, match="transparent border"):
        overpaint.extend(picture(40, 30))
    with pytest.raises(InvalidRequest, match=r"extend\.left"):
        request_of({"image": picture(40, 30), "extend": {"left": "wide"}})


def test_the_library_extends_in_one_call():
    result = overpaint.extend(picture(60, 40), to="2:1", anchor="left", seed=4)
    assert result.pictures[0].size == (80, 40)
    assert result.recipe["extend"] == {"right": 20}
    same = overpaint.extend(picture(60, 40), right=20, seed=4)
    assert same.pictures[0].sha256 == result.pictures[0].sha256
