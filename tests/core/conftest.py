"""Files and profiles built by hand, byte for byte, so that the tests know what is in them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

PngWriter = Callable[..., bytes]

_ADAM7 = (  # left, top, step to the right, step down of each pass
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _rows(pixels: NDArray[np.uint16]) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)


def _png16(
    pixels: NDArray[np.uint16],
    *,
    interlaced: bool = False,
    chunks: dict[bytes, bytes] | None = None,
    late: dict[bytes, bytes] | None = None,
) -> bytes:
    height, width, channels = pixels.shape
    header = struct.pack(
        ">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, int(interlaced)
    )
    raw = _rows(pixels)
    if interlaced:
        passes = (pixels[top::down, left::right] for left, top, right, down in _ADAM7)
        raw = b"".join(_rows(part) for part in passes if part.size)
    before, after = (
        b"".join(_chunk(kind, data) for kind, data in (extra or {}).items())
        for extra in (chunks, late)
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + before
        + _chunk(b"IDAT", zlib.compress(raw))
        + after
        + _chunk(b"IEND", b"")
    )


def _huge_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", data)
        + _chunk(b"IEND", b"")
    )


def _profile(space: bytes, tags: dict[bytes, bytes], *, kind: bytes, pcs: bytes) -> bytes:
    """An ICC version 2 profile (ICC.1:2001-04)."""
    described = b"desc" + bytes(4) + struct.pack(">I", 5) + b"Test\0" + bytes(78)
    tags = {
        b"desc": described,
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        **tags,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI", size, b"none", 0x02400000) + kind + space + pcs
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(value * 65536) for value in (0.9642, 1.0, 0.8249)))
    return header.ljust(128, b"\0") + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256))


def _curve(points: NDArray[np.float64]) -> bytes:
    values = np.rint(points * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(values)) + values.tobytes()


@pytest.fixture(scope="session")
def png16() -> PngWriter:
    """Writes a 16-bit PNG from H x W x 1..4, without any image library."""
    return _png16


@pytest.fixture(scope="session")
def huge_png() -> PngWriter:
    """Writes a PNG whose header claims any size and whose data hold next to nothing."""
    return _huge_png


@pytest.fixture(scope="session")
def p3() -> bytes:
    """Display P3: its primaries adapted to D50, and sRGB's curve."""
    x = np.linspace(0, 1, 1024)
    curve = _curve(np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4))
    return _profile(
        b"RGB ",
        {
            b"rXYZ": _xyz(0.51512, 0.24120, -0.00105),
            b"gXYZ": _xyz(0.29198, 0.69225, 0.04189),
            b"bXYZ": _xyz(0.15710, 0.06657, 0.78407),
            b"rTRC": curve,
            b"gTRC": curve,
            b"bTRC": curve,
        },
        kind=b"mntr",
        pcs=b"XYZ ",
    )


@pytest.fixture(scope="session")
def linear_grey() -> bytes:
    """A grey profile whose values are proportional to light."""
    return _profile(b"GRAY", {b"kTRC": _gamma(1.0)}, kind=b"mntr", pcs=b"XYZ ")


@pytest.fixture(scope="session")
def cmyk() -> bytes:
    """A CMYK profile in which any ink at all makes the paper mid-grey, so that it shows its use."""
    corners = np.full((16, 3), (128, 128, 128), np.uint8)
    corners[0] = (255, 128, 128)
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0))
    table += struct.pack(">9i", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    table += bytes(range(256)) * 4 + corners.tobytes() + bytes(range(256)) * 3
    return _profile(b"CMYK", {b"A2B0": table}, kind=b"prtr", pcs=b"Lab ")


@pytest.fixture(scope="session")
def scanner() -> bytes:
    """An RGB profile that leads to Lab, everything to mid-grey, and not back."""
    corners = np.full((8, 3), (128, 128, 128), np.uint8)
    table = b"mft1" + bytes(4) + bytes((3, 3, 2, 0))
    table += struct.pack(">9i", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    table += bytes(range(256)) * 3 + corners.tobytes() + bytes(range(256)) * 3
    return _profile(b"RGB ", {b"A2B0": table}, kind=b"scnr", pcs=b"Lab ")
