"""The size of an image file from its header, in time that hostile bytes cannot stretch.

Parsers go through a header piece by piece, and a file can have millions of pieces, or megabytes of
filling between two of them. Here such files are detected.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from overpaint.core.imaging.codecs import formats
from overpaint.core.imaging.codecs.formats import FileFormat

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

_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}
"""Types that a TIFF's sizes may have: 16, 32 and 64 bits."""

_FULL_BOX = 4
"""Bytes of version and flags before the content of some boxes (ISO/IEC 14496-12, 4.2)."""


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels.

    Attributes:
        width, height: in pixels, as stored; HEIC and AVIF may be cut a little when decoded.
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

    def is_plain(self, size: int) -> bool:
        """Whether decoding a file of so many bytes takes a fraction of a second."""
        return self.is_regular and self.pixels <= PLAIN_PIXELS and size <= PLAIN_BYTES


def read(encoded: bytes) -> Header | None:
    """The header of a picture's file; None where it cannot be made out."""
    kind = formats.sniffed(encoded)
    try:
        return None if kind is None else _READERS[kind](encoded)
    except (struct.error, IndexError, KeyError):  # it ends too soon, or is none
        return None


def is_plain(encoded: bytes) -> bool:
    """Whether decoding takes a fraction of a second, whatever else is in the file."""
    header = read(encoded)
    return header is not None and header.is_plain(len(encoded))


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
            regular = fill <= MOST_FILL and not _has_many_scans(encoded, at)
            return Header(*size, is_regular=regular) if size != (0, 0) else None
        (length,) = struct.unpack_from(">H", encoded, at)
        if kind in _SOF:
            height, width = struct.unpack_from(">HH", encoded, at + 3)
            size = max(size, (width, height), key=lambda each: each[0] * each[1])
        at += length
    return None


def _has_many_scans(encoded: bytes, at: int) -> bool:
    """Whether a JPEG, in whose first scan `at` is, goes over its picture too often."""
    for _ in range(MOST_SCANS):
        at = encoded.find(b"\xff\xda", at) + 2
        if at < 2:
            return False
    return True


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


def _largest(sizes: Iterator[tuple[int, int]]) -> Header | None:
    """The largest of several pictures in a file: a decoder may take any of them."""
    size = max(sizes, key=lambda each: each[0] * each[1], default=None)
    return None if size is None else Header(*size, is_regular=False)


def _tiff(encoded: bytes) -> Header | None:
    return _largest(_tiff_sizes(encoded))


def _tiff_sizes(encoded: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of each page (TIFF 6.0, section 2; 64-bit offsets as in BigTIFF)."""
    order = "<" if encoded.startswith(b"II") else ">"
    is_big = encoded[2:4] in (b"+\0", b"\0+")
    offset, count, width_of_entry = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    value_at = 12 if is_big else 8
    (at,) = struct.unpack_from(order + offset, encoded, 8 if is_big else 4)
    left = MOST_SEGMENTS
    while at and left > 0:
        (entries,) = struct.unpack_from(order + count, encoded, at)
        at += struct.calcsize(count)
        left -= entries + 1
        values = {}
        for entry in range(at, at + width_of_entry * min(entries, MOST_SEGMENTS), width_of_entry):
            tag, kind = struct.unpack_from(order + "HH", encoded, entry)
            if tag in (_TIFF_WIDTH, _TIFF_HEIGHT):
                number = order + _TIFF_NUMBERS[kind]
                (values[tag],) = struct.unpack_from(number, encoded, entry + value_at)
        if len(values) == 2:
            yield values[_TIFF_WIDTH], values[_TIFF_HEIGHT]
        (at,) = struct.unpack_from(order + offset, encoded, at + width_of_entry * entries)


def _heif(encoded: bytes) -> Header | None:
    """AVIF and HEIC: the largest of the sizes that the properties of its items have."""
    return _largest(
        struct.unpack_from(">II", encoded, start + _FULL_BOX)
        for meta, meta_end in _boxes(encoded, 0, len(encoded), b"meta")
        for properties in _boxes(encoded, meta + _FULL_BOX, meta_end, b"iprp")
        for container in _boxes(encoded, *properties, b"ipco")
        for start, _ in _boxes(encoded, *container, b"ispe")
    )


def _boxes(encoded: bytes, start: int, end: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """Where the contents of a kind of box begin and end, among those of a stretch of a file."""
    for _ in range(MOST_SEGMENTS):
        if start + 8 > end:
            return
        (length,) = struct.unpack_from(">I", encoded, start)
        content = start + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", encoded, content)
            content += 8
        stop = end if length == 0 else min(end, start + length)
        if stop < content:
            return
        if encoded[start + 4 : start + 8] == kind:
            yield content, stop
        start = stop


_READERS: dict[FileFormat, Callable[[bytes], Header | None]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "WEBP": _webp,
    "TIFF": _tiff,
    "AVIF": _heif,
    "HEIF": _heif,
}
