"""Files keep what a picture has: depth, grey, text, resolution."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from overpaint.core.imaging.images import Picture, decode, encode, losses


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 99),
)
def test_png_keeps_every_bit(width, height, channels, dtype, seed):
    values = noise(height, width, channels, dtype=dtype, seed=seed)
    picture = Picture.from_array(values)
    again = decode(encode(picture))
    assert again.sha256 == picture.sha256
    assert again.is_grey == (channels < 3)
    own = np.asarray(again.to_pil()) if dtype == np.uint8 else again.raster.with_alpha(None)
    assert (own.reshape(values.shape) == values).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_programs_read_16_bits(channels):
    values = noise(9, 7, channels, dtype=np.uint16)
    read = cv2.imdecode(np.frombuffer(encode(Picture.from_array(values)), np.uint8), -1)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    assert (read.reshape(values.shape)[..., order] == values).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_what_is_beside_the_pixels(dtype, channels, p3, linear_grey):
    profile = linear_grey if channels == 1 else p3
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "a kite")
    text.add_text("Autor", "Jürgen 風", zip=True)
    text.add_itxt("Note", "drachen", lang="de", tkey="Notiz")
    source = Image.fromarray(noise(5, 4, channels).squeeze())
    file = io.BytesIO()
    source.save(file, "PNG", pnginfo=text, dpi=(300, 150), icc_profile=profile, exif=exif)
    picture = decode(file.getvalue())
    if dtype == np.uint16:
        deep = Picture.from_array(noise(5, 4, channels, dtype=dtype)).raster
        object.__setattr__(deep, "icc_profile", profile)
        object.__setattr__(picture, "raster", deep)
    with Image.open(io.BytesIO(encode(picture))) as written:
        written.load()
        assert written.text["Title"] == "a kite"
        assert written.text["Autor"] == "Jürgen 風"
        assert (written.text["Note"].lang, written.text["Note"].tkey) == ("de", "Notiz")
        assert [round(each) for each in written.info["dpi"]] == [300, 150]
        assert written.info["icc_profile"] == profile
        assert written.getexif()[0x010F] == "A maker"


def test_jpeg_keeps_its_comment_and_its_resolution():
    file = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(file, "JPEG", comment="é".encode(), dpi=(240, 240))
    picture = decode(file.getvalue())
    assert (picture.text, picture.dpi) == ((("Comment", "é"),), (240, 240))
    for again in (decode(encode(picture, "JPEG")), decode(encode(picture, "PNG"))):
        assert again.is_grey
        assert again.text == picture.text
        assert again.dpi == pytest.approx(picture.dpi, abs=0.1)


def test_a_turned_picture_has_its_resolution_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(noise(8, 6, 3)).save(file, "JPEG", exif=exif, dpi=(300, 150))
    assert decode(file.getvalue()).dpi == (150, 300)


@pytest.mark.parametrize("name", ["JPEG", "WEBP"])
def test_16_bits_become_8_with_a_word_about_it(name):
    deep = Picture.from_array(noise(8, 8, 3, dtype=np.uint16))
    again = decode(encode(deep, name))
    assert again.raster is None
    assert name in losses(deep, name)[0]
    assert not losses(deep, "PNG")
    assert not losses(again, name)
    if name == "WEBP":
        assert again.rgb.tobytes() == deep.rgb.tobytes()


def test_a_grey_profile_is_never_put_into_a_picture_of_colours(linear_grey):
    file = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(file, "PNG", icc_profile=linear_grey)
    picture = decode(file.getvalue())
    assert decode(encode(picture, "JPEG")).own_profile == linear_grey
    webp = decode(encode(picture, "WEBP"))
    assert webp.own_profile is None
    assert webp.rgb.tobytes() == picture.to_srgb().tobytes()
