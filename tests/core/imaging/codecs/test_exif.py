"""EXIF patched in place: orientation out, thumbnail out, everything else as it was."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from overpaint.core.imaging.codecs.exif import PREFIX, upright


def block(
    order: str = "<",
    *,
    orientation: int = 6,
    kind: int = 3,
    thumbnail: bytes = b"\xff\xd8thumbnail\xff\xd9",
    note: bytes = b"what no parser understands",
) -> bytes:
    """Orientation and a maker note in the first directory, a thumbnail in the second."""
    value = struct.pack(order + ("HH" if kind == 3 else "L"), *([orientation, 0][: 5 - kind]))
    first, second = 8, 8 + 2 + 2 * 12 + 4
    data = second + 2 + 2 * 12 + 4
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", first)
    tiff += struct.pack(order + "H", 2)
    tiff += struct.pack(order + "HHL", 0x0112, kind, 1) + value
    tiff += struct.pack(order + "HHLL", 0x927C, 7, len(note), data)
    tiff += struct.pack(order + "L", second) + struct.pack(order + "H", 2)
    tiff += struct.pack(order + "HHLL", 0x0201, 4, 1, data + len(note))
    tiff += struct.pack(order + "HHLL", 0x0202, 4, 1, len(thumbnail))
    tiff += struct.pack(order + "L", 0) + note + thumbnail
    return PREFIX + tiff


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("prefix", [PREFIX, b""])
def test_orientation_is_reset_and_the_rest_kept(order, kind, prefix):
    whole = block(order, orientation=8, kind=kind)
    patched, orientation = upright(prefix + whole.removeprefix(PREFIX))
    assert orientation == 8
    assert patched is not None
    assert len(patched) == len(whole)
    assert b"what no parser understands" in patched
    parsed = Image.Exif()
    parsed.load(patched)
    assert parsed[0x0112] == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_thumbnail_of_the_unedited_picture_goes(order):
    patched, _ = upright(block(order))
    assert patched is not None
    assert b"thumbnail" not in patched
    parsed = Image.Exif()
    parsed.load(patched)
    assert not parsed.get_ifd(1)


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist(orientation):
    patched, found = upright(block(orientation=orientation))
    assert found == 1
    assert upright(patched) == (patched, 1)


@pytest.mark.parametrize("exif", [None, b"", PREFIX, b"nonsense", b"II*\0", b"MM\0*\0\0\xff\xff"])
def test_what_cannot_be_parsed_is_dropped(exif):
    assert upright(exif) == (None, 1)


def test_a_directory_without_a_link_to_the_next():
    tiff = b"II*\0" + struct.pack("<LH", 8, 1) + struct.pack("<HHLHH", 0x0112, 3, 1, 3, 0)
    patched, orientation = upright(tiff)
    assert orientation == 3
    assert patched is not None


def test_a_second_directory_that_is_not_there():
    whole = bytearray(block())
    whole[len(PREFIX) + 34 : len(PREFIX) + 38] = struct.pack("<L", 9999)
    patched, orientation = upright(bytes(whole))
    assert orientation == 6
    assert patched is not None
    assert upright(patched) == (patched, 1)


@given(st.data())
def test_damage_never_raises_and_what_remains_is_upright(data):
    damaged = bytearray(block())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    patched, orientation = upright(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    assert 1 <= orientation <= 8
    if patched is not None:
        assert upright(patched)[1] == 1
