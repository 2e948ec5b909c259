"""What Pillow leaves out of PNG: 16-bit colours, read and written (PNG, third edition)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from overpaint.core.imaging import pixels

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_UP = b"\2"
"""Filter of a row: each byte less the one above it."""

# How Pillow's decoder unpacks 16-bit colour: only the high byte of each value. Unpacked under
# the second name, the same bytes give the low ones. Grey with alpha comes as its four bytes.
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
_GREY_ALPHA_16 = "LA;16B"


def planes_of(file: ImageFile, encoded: bytes) -> pixels.Planes:
    """Decode a PNG that is not yet loaded; Pillow keeps only the high byte of 16-bit colours.

    Args:
        file: the PNG as opened.
        encoded: the same file's bytes.
    """
    rawmode = file.tile[0].args
    file.load()
    if rawmode == _GREY_ALPHA_16:
        pairs = np.asarray(_unpacked(encoded, "RGBA")).astype(np.uint16)
        values = pairs[..., 0::2] * 256 + pairs[..., 1::2]
    elif rawmode in _LOW_BYTES:
        low = np.asarray(_unpacked(encoded, _LOW_BYTES[rawmode]))
        values = np.asarray(file).astype(np.uint16) * 256 + low
    else:
        return pixels.split(file)
    return pixels.planes_of(values, transparent=file.info.get("transparency"))


def encoded_16_bit(values: NDArray[np.uint16], metadata: Mapping[str, Any]) -> bytes:
    """A PNG file of 16-bit values.

    Args:
        values: (H, W, 1..4): grey, grey and alpha, RGB, RGB and alpha.
        metadata: as Pillow's `save` takes them for PNG.
    """
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    rows = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    above = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.concatenate([np.full((height, 1), ord(_UP), np.uint8), rows - above], axis=1)
    body = [_chunk(b"IHDR", header), *_chunks_of(channels, metadata)]
    body += [_chunk(b"IDAT", zlib.compress(filtered.tobytes(), 1)), _chunk(b"IEND", b"")]
    return b"".join([_SIGNATURE, *body])


def _unpacked(encoded: bytes, rawmode: str) -> Image.Image:
    image = PngImageFile(io.BytesIO(encoded))
    image.tile = [tile._replace(args=rawmode) for tile in image.tile]
    image.load()
    return image


def _chunks_of(channels: int, metadata: Mapping[str, Any]) -> Iterator[bytes]:
    """The chunks in which Pillow puts metadata, from a file of one pixel."""
    file = io.BytesIO()
    Image.new(_MODES[channels], (1, 1)).save(file, "PNG", **metadata)
    encoded, at = file.getvalue(), len(_SIGNATURE)
    while at < len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, at)
        end = at + 12 + length
        if kind not in (b"IHDR", b"IDAT", b"IEND"):
            yield encoded[at:end]
        at = end


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
