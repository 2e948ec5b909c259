"""What a decoding process hands back is what decoding here gives, to the last bit."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from overpaint.apps.server.bounds.decoding import DecoderProcess
from overpaint.core.errors import InvalidImage
from overpaint.core.imaging.codecs import png, reading
from overpaint.core.imaging.images import ImageLimits, decode
from tests.apps.server.conftest import b64, edit
from tests.conftest import box_mask, picture

LIMITS = ImageLimits()


@pytest.fixture(scope="module")
def process():
    process = DecoderProcess(0)
    yield process
    process.close()


def deep(channels, seed=0, width=40, height=30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**16, (height, width, channels), np.uint16)


def tiff(pixels, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def deep_png(channels) -> bytes:
    return png.encoded_16_bit(deep(channels), {})


def plain_png() -> bytes:
    image, file, text = picture(40, 30), io.BytesIO(), PngInfo()
    image.putalpha(picture(40, 30, seed=1).convert("L"))
    text.add_text("Title", "a field")
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a field", 6
    image.save(file, "PNG", pnginfo=text, exif=exif, dpi=(300, 200))
    return file.getvalue()


FILES = {
    **{f"PNG with {each} channels of 16 bits": deep_png(each) for each in (1, 2, 3, 4)},
    "grey TIFF of 16 bits": tiff(deep(1)[..., 0]),
    "TIFF of 16 bits": tiff(deep(3), photometric="rgb"),
    "TIFF of 16 bits with alpha": tiff(deep(4), photometric="rgb", extrasamples=["unassalpha"]),
    "PNG with everything": plain_png(),
}


@pytest.mark.parametrize("name", FILES)
def test_it_comes_back_as_it_is(process, name):
    here = reading.read(FILES[name], "image", LIMITS)
    there = process.decode(FILES[name], "image", LIMITS)
    assert there[1:] == here[1:]
    for ours, theirs in zip(here.planes[:2], there.planes[:2], strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or (ours.mode, ours.tobytes()) == (theirs.mode, theirs.tobytes())
    if "16 bits" in name:
        assert there.planes.deep.dtype == np.uint16
        assert np.array_equal(here.planes.deep, there.planes.deep)


def test_a_damaged_one_of_16_bits_is_refused_and_the_next_one_read(process):
    with pytest.raises(InvalidImage, match="damaged"):
        process.decode(deep_png(3)[:-400], "image", LIMITS)
    assert process.is_alive
    assert process.decode(deep_png(3), "image", LIMITS).planes.deep is not None


def test_a_large_picture_of_16_bits_is_edited_and_keeps_them(server):
    """It has more than a megapixel, so a process decodes it."""
    pixels = np.repeat(np.repeat(deep(3, width=60, height=50), 20, axis=0), 20, axis=1)
    file = png.encoded_16_bit(pixels, {})
    mask = box_mask(1200, 1000, (400, 500, 420, 520))
    body = edit(model="erase", image=base64.b64encode(file).decode(), mask=b64(mask), prompt="")
    answer = server.client.post("/v1/edits", json={**body, "options": {}})
    assert answer.status_code == 200, answer.text
    edited = decode(base64.b64decode(answer.json()["images"][0]))
    values = edited.raster.values
    assert np.array_equal(values[:400], pixels[:400])
    assert not np.array_equal(values[500:520, 400:420], pixels[500:520, 400:420])
