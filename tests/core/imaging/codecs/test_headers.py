"""Sizes from headers: the real ones, of every kind of file, and none of what is no picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from overpaint.core.imaging.codecs import headers

HEIC = Path(__file__).parent / "heic"
SIZE = (60, 44)


def saved(kind, **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", SIZE, "red").save(file, kind, **options)
    return file.getvalue()


def tiff(*shapes, **options) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=options.pop("bigtiff", False)) as writer:
        for height, width in shapes:
            writer.write(np.zeros((height, width), np.uint8), **options)
    return file.getvalue()


FILES = {
    **{kind: saved(kind) for kind in ("PNG", "JPEG", "TIFF", "AVIF", "WEBP")},
    "lossless WebP": saved("WEBP", lossless=True),
    "extended WebP": saved("WEBP", exif=Image.Exif().tobytes() + b"x"),
    "BigTIFF": tiff(SIZE[::-1], bigtiff=True),
    "TIFF in tiles": tiff(SIZE[::-1], tile=(16, 16)),
    "TIFF of several pages": tiff((2, 2), SIZE[::-1], (8, 8)),
}


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_the_pictures(name):
    header = headers.read(FILES[name])
    assert (header.width, header.height) == SIZE
    assert headers.is_plain(FILES[name]) == ("TIFF" not in name and name != "AVIF")


@pytest.mark.parametrize("name", ["plain", "alpha", "several", "turned_p3"])
def test_of_heic_as_it_is_coded(name):
    """Pictures of 64 x 48 are coded as 64 x 64, and cut when they are decoded."""
    header = headers.read((HEIC / f"{name}.heic").read_bytes())
    assert (header.width, header.height) == (64, 64)


def test_of_a_large_avif_that_is_made_of_several():
    """libavif writes what is larger than a cell as a grid of cells."""
    file = io.BytesIO()
    Image.new("RGB", (2048, 1536), "red").save(file, "AVIF", speed=10, tile_rows=1, tile_cols=1)
    header = headers.read(file.getvalue())
    assert (header.width, header.height) == (2048, 1536)


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(FILES)),
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=8),
)
def test_damaged_ones_say_a_size_or_nothing(name, length, changes):
    encoded = bytearray(FILES[name])
    for place, value in changes:
        if place < len(encoded):
            encoded[place] = value
    for each in (bytes(encoded), bytes(encoded[:length])):
        header = headers.read(each)
        assert header is None or header.pixels >= 0
