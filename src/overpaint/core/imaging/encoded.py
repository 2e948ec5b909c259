"""Files inside texts: base64 as people send it."""

from __future__ import annotations

import binascii
import re

from overpaint.core.errors import InvalidImage

_DATA_URL = re.compile(r"\s*data:[^,]{0,200}?(;base64)?,", re.ASCII | re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\n\r\f\v"

_PIECE = 2**20
"""Digits that are decoded at once: other threads have to wait for each piece."""


def from_base64(text: str, name: str) -> bytes:
    """The bytes of a base64 string, with or without line breaks or a data URL's head.

    The alphabet for URLs (`-` and `_`) is read as well, and padding may be left out.

    Raises:
        InvalidImage: it is not base64; its field is `name`.
    """
    head = _DATA_URL.match(text)
    if head is not None and head[1] is None:
        raise InvalidImage("the data URL is not base64; add ;base64 and encode it", field=name)
    try:
        digits = (text[head.end() :] if head else text).encode("ascii")
        digits = digits.translate(_URL_SAFE, _WHITESPACE)
        if not digits.endswith(b"="):
            digits += b"=" * (-len(digits) % 4)
        return _decoded(digits)
    except (binascii.Error, ValueError) as error:
        what = "a URL; send the picture itself" if "://" in text[:10] else "not base64"
        raise InvalidImage(f"the string is {what}", field=name) from error


def _decoded(digits: bytes) -> bytes:
    """The bytes of base64 in its own alphabet, with padding.

    Raises:
        ValueError: it is not base64.
    """
    if 0 <= digits.find(b"=") < len(digits) - 2:
        raise ValueError("there is padding before the end")
    whole = memoryview(digits)
    pieces = (whole[start : start + _PIECE] for start in range(0, len(digits), _PIECE))
    return b"".join([binascii.a2b_base64(each, strict_mode=True) for each in pieces])
