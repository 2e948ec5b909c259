"""Files inside texts: base64 as people send it."""

from __future__ import annotations

import base64
import binascii
import re

from overpaint.core.errors import InvalidImage

_DATA_URL = re.compile(r"data:image/[a-z]{3,4};base64,", re.ASCII)
_WHITESPACE = re.compile(r"\s+", re.ASCII)


def from_base64(text: str, name: str) -> bytes:
    """The bytes of a base64 string, with or without line breaks or a data URL's head.

    Raises:
        InvalidImage: it is not base64; its field is `name`.
    """
    head = _DATA_URL.match(text)
    digits = _WHITESPACE.sub("", text[head.end() :] if head else text)
    try:
        return base64.b64decode(digits, validate=True)
    except (binascii.Error, ValueError) as error:
        what = "a URL; send the picture itself" if "://" in text[:10] else "not base64"
        raise InvalidImage(f"the string is {what}", field=name) from error
