"""EXIF as bytes: read the orientation, reset it, leave the rest as it is.

Entries are patched in place (TIFF 6.0, section 2; Exif 2.3, 4.6), so that what we do not
understand, maker notes above all, survives byte for byte.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = b"Exif\x00\x00"

_ORIENTATION = 0x0112
_THUMBNAIL_OFFSET = 0x0201
_THUMBNAIL_LENGTH = 0x0202
_SHORT, _LONG = 3, 4


def upright(exif: bytes | None) -> tuple[bytes | None, int]:
    """Reset the orientation to 1 and drop the embedded thumbnail.

    The thumbnail goes because it would go on showing the picture as it was before the edit.

    Args:
        exif: an EXIF block, with or without its 'Exif' prefix.

    Returns:
        The block with prefix (None where it is missing or cannot be parsed), and the orientation
        that it had, 1..8.
    """
    if not exif:
        return None, 1
    tiff = bytearray(exif.removeprefix(PREFIX))
    try:
        orientation = _reset_orientation(tiff)
        _drop_thumbnail(tiff)
    except (struct.error, KeyError):
        return None, 1
    return PREFIX + bytes(tiff), orientation


def _reset_orientation(tiff: bytearray) -> int:
    order = _byte_order(tiff)
    (first,) = struct.unpack_from(order + "L", tiff, 4)
    orientation = 1
    for tag, kind, position in _entries(tiff, order, first):
        if tag == _ORIENTATION and kind in (_SHORT, _LONG):
            code = "H" if kind == _SHORT else "L"
            (orientation,) = struct.unpack_from(order + code, tiff, position)
            struct.pack_into(order + code, tiff, position, 1)
    return orientation if 1 <= orientation <= 8 else 1


def _drop_thumbnail(tiff: bytearray) -> None:
    """Blank the thumbnail's bytes and unlink the second directory, which describes it."""
    order = _byte_order(tiff)
    (first,) = struct.unpack_from(order + "L", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, first)
    link = first + 2 + 12 * count
    if link + 4 > len(tiff):
        return  # some writers leave the link out
    (second,) = struct.unpack_from(order + "L", tiff, link)
    if not second:
        return
    struct.pack_into(order + "L", tiff, link, 0)
    try:
        values = {
            tag: struct.unpack_from(order + "L", tiff, position)[0]
            for tag, _, position in _entries(tiff, order, second)
        }
    except struct.error:
        return
    start, length = values.get(_THUMBNAIL_OFFSET, 0), values.get(_THUMBNAIL_LENGTH, 0)
    end = min(start + length, len(tiff))
    if link < start < end:
        tiff[start:end] = bytes(end - start)


def _byte_order(tiff: bytearray) -> str:
    return {b"II*\0": "<", b"MM\0*": ">"}[bytes(tiff[:4])]


def _entries(tiff: bytearray, order: str, directory: int) -> Iterator[tuple[int, int, int]]:
    """Tag, type and position of the value field of each entry of a directory."""
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for index in range(count):
        position = directory + 2 + 12 * index
        tag, kind = struct.unpack_from(order + "HH", tiff, position)
        yield tag, kind, position + 8
