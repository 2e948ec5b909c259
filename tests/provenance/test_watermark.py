"""The invisible watermark: where it is, what it survives, and where there is none."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from overpaint.core.imaging import images
from overpaint.core.imaging.images import Picture
from overpaint.provenance import watermark
from tests.conftest import picture

BOX = (180, 120, 320, 260)


def photo(name: str, side: int = 360) -> Image.Image:
    return Image.fromarray(getattr(data, name)()[:side, :side]).convert("RGB")


def before(image: Image.Image, box=BOX) -> Picture:
    """What the edit of a box began with: a picture that is different there."""
    source = image.copy()
    source.paste(Image.eval(image.crop(box), lambda value: 255 - value), box)
    return Picture(source)


def marked(image: Image.Image, box=BOX) -> Image.Image:
    return watermark.embed(Picture(image), before(image, box)).rgb


def compressed(image: Image.Image, kind="JPEG", **options) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file).convert("RGB")


def scaled(image: Image.Image, by: float) -> Image.Image:
    return image.resize((round(image.width * by), round(image.height * by)))


PHOTOS = ("coffee", "brick")


@pytest.fixture(scope="module")
def results():
    return {name: marked(photo(name)) for name in PHOTOS}


ATTACKS = {
    "nothing": lambda image: image,
    "JPEG 80": lambda image: compressed(image, quality=80),
    "WebP 90": lambda image: compressed(image, "WEBP", quality=90),
    "half": lambda image: scaled(image, 0.5),
    "70 %": lambda image: scaled(image, 0.7),
    "a crop": lambda image: image.crop((101, 77, 351, 337)),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", PHOTOS)
def test_it_survives(results, name, attack):
    assert watermark.find(Picture(ATTACKS[attack](results[name]))) is not None


def test_its_place_and_scale_are_found(results):
    trace = watermark.find(Picture(scaled(results["coffee"], 0.5)))
    assert abs(trace.scale - 0.5) < 0.02
    centre = ((trace.box.left + trace.box.right) / 2, (trace.box.top + trace.box.bottom) / 2)
    assert np.abs(np.subtract(centre, (125, 95))).max() < 24


@pytest.mark.parametrize("name", PHOTOS)
def test_nothing_outside_changes_and_little_inside(results, name):
    difference = np.asarray(results[name]).astype(int) - np.asarray(photo(name))
    inside = difference[BOX[1] : BOX[3], BOX[0] : BOX[2]].copy()
    difference[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 0
    assert not difference.any()
    assert 0 < np.sqrt((inside**2).mean()) < 6


def test_an_edit_of_any_shape_is_marked_where_it_is(results):
    image = photo("astronaut")
    outside = np.hypot(*np.ogrid[-150:210, -180:180]) > 120
    source = np.where(outside[..., np.newaxis], np.asarray(image), 0)
    result = watermark.embed(Picture(image), Picture(Image.fromarray(source.astype(np.uint8)))).rgb
    assert np.array_equal(np.asarray(result)[outside], np.asarray(image)[outside])
    assert watermark.find(Picture(compressed(result, quality=80))) is not None


@pytest.mark.parametrize("name", ["chelsea", "grass"])
def test_photos_have_none(name):
    assert watermark.find(Picture(photo(name, 256))) is None


def test_what_is_regular_has_none():
    y, x = np.mgrid[:160, :160]
    waves = 127 + 120 * np.sin(x / 2.3) * np.sin(y / 3)
    for values in (x * 0, (x // 8 + y // 8) % 2 * 255, waves):
        flat = Image.fromarray(values.astype(np.uint8)).convert("RGB")
        assert watermark.find(Picture(flat)) is None


def test_a_small_edit_and_a_small_picture_have_no_room():
    image = photo("astronaut", 128)
    assert np.array_equal(np.asarray(marked(image, (10, 10, 60, 60))), np.asarray(image))
    assert watermark.find(Picture(picture(40, 30))) is None


def test_grey_and_deep_pictures_keep_their_kind():
    grey = Picture.from_pil(Image.fromarray(data.camera()[:300, :300]))
    source = Picture.from_pil(Image.fromarray(255 - data.camera()[:300, :300]))
    result = watermark.embed(grey, source)
    assert result.is_grey
    assert watermark.find(result) is not None
    values = data.astronaut()[:300, :300].astype(np.uint16) * 257
    deep = images.decode(images.encode(Picture.from_array(values)))
    assert deep.raster.is_deep
    other = images.decode(images.encode(Picture.from_array(65535 - values)))
    marked_ = watermark.embed(deep, other)
    assert marked_.raster.is_deep
    assert watermark.find(marked_) is not None


def test_a_picture_of_another_size_is_new_everywhere():
    image = photo("coffee", 300)
    result = watermark.embed(Picture(image), Picture(photo("coffee", 200)))
    assert watermark.find(result) is not None
