"""The size of an image file from its header, in time that hostile bytes cannot stretch.

Parsers go through a header piece by piece, and a file can have millions of pieces, or megabytes of
filling between two of them. Here such files are only found out.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

MOST_SEGMENTS = 2000
"""Pieces of a header that are looked at."""

MOST_SCANS = 32
"""Times that a plain JPEG goes over its picture; progressive ones of usual programs have ten."""

MOST_FILL = 4096
"""Bytes of filling in a plain JPEG's header."""

PLAIN_PIXELS = 2**20
PLAIN_BYTES = 4 * 2**20

_MARKER = re.compile(rb"(\xff+)([^\xff])")
_SOF = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
_SOS, _EOI = 0xDA, 0xD9
_BARE = {0x01, *range(0xD0, 0xD9)}
_WEBP_HEAD = 30


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels.

    Attributes:
        width, height: in pixels, as stored.
        is_regular: whether its parts are as ordinary programs write them, so that the time to
            decode it follows from its pixels and bytes.
    """

    width: int
    height: int
    is_regular: bool

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def read(encoded: bytes) -> Header | None:
    """The header of a PNG, JPEG or WebP file; None where it cannot be made out."""
    try:
        if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(encoded)
        if encoded.startswith(b"\xff\xd8\xff"):
            return _jpeg(encoded)
        if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
            return _webp(encoded)
    except (struct.error, IndexError):  # it ends too soon
        return None
    return None


def is_plain(encoded: bytes) -> bool:
    """Whether decoding takes a fraction of a second, whatever else is in the file."""
    header = read(encoded)
    return (
        header is not None
        and header.is_regular
        and header.pixels <= PLAIN_PIXELS
        and len(encoded) <= PLAIN_BYTES
    )


def _png(encoded: bytes) -> Header | None:
    if encoded[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", encoded, 16)
    at, end = 8, len(encoded)
    for _ in range(MOST_SEGMENTS):
        if at + 8 > end:
            return Header(width, height, is_regular=True)
        (length,) = struct.unpack_from(">I", encoded, at)
        at += 12 + length
    return Header(width, height, is_regular=False)


def _jpeg(encoded: bytes) -> Header | None:
    """The largest of its frames' sizes: a parser may take any of them."""
    size, at, fill = (0, 0), 2, 0
    for _ in range(MOST_SEGMENTS):
        marker = _MARKER.match(encoded, at)
        if marker is None:
            return None
        fill += len(marker[1]) - 1
        kind, at = marker[2][0], marker.end()
        if kind in _BARE:
            continue
        if kind in (_SOS, _EOI):
            scans = encoded.count(b"\xff\xda", at) + 1
            regular = scans <= MOST_SCANS and fill <= MOST_FILL
            return Header(*size, is_regular=regular) if size != (0, 0) else None
        (length,) = struct.unpack_from(">H", encoded, at)
        if kind in _SOF:
            height, width = struct.unpack_from(">HH", encoded, at + 3)
            size = max(size, (width, height), key=lambda each: each[0] * each[1])
        at += length
    return None


def _webp(encoded: bytes) -> Header | None:
    if len(encoded) < _WEBP_HEAD:
        return None
    kind = encoded[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(encoded[24:27], "little") + 1
        height = int.from_bytes(encoded[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(encoded[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (each & 0x3FFF for each in struct.unpack_from("<HH", encoded, 26))
    else:
        return None
    return Header(width, height, is_regular=True)
