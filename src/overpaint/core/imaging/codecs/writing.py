"""Pictures into files: PNG, JPEG and WebP, with what belongs to them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging.codecs import png

Format = Literal["PNG", "JPEG", "WEBP"]

COMMENT = "Comment"
"""PNG's keyword for a comment, such as JPEG has."""

_LONGEST_SIDE = {"JPEG": 65535, "WEBP": 16383}
_LARGEST_JPEG_EXIF = 65533
_LARGEST_JPEG_XMP = 65504
_LARGEST_JPEG_COMMENT = 65533
_MOST_JPEG_DPI = 65535


class Contents(NamedTuple):
    """What goes into a file.

    Attributes:
        image: 'L' or 'RGB'.
        alpha: 'L', or None.
        deep: (H, W, 1..4) with alpha, to be written instead of both; for PNG alone.
        icc_profile: of the values.
        exif, xmp: as Pillow takes them.
        text: keywords and texts.
        dpi: across and down.
    """

    image: Image.Image
    alpha: Image.Image | None = None
    deep: NDArray[np.uint16] | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    dpi: tuple[float, float] | None = None


def encode(contents: Contents, name: Format, *, quality: int, lossless: bool) -> bytes:
    """The file.

    Raises:
        InvalidRequest: unknown format, quality out of range, or something does not fit the format.
    """
    if not 1 <= quality <= 100:
        raise InvalidRequest(f"Quality {quality} is not in 1..100.", field="quality")
    if name not in get_args(Format):
        raise InvalidRequest(
            f"Format {name!r} is unknown; use 'PNG', 'JPEG' or 'WEBP'.", field="format"
        )
    check_fits(contents, name)
    options: dict[str, Any] = {
        "icc_profile": contents.icc_profile or b"",
        "exif": contents.exif or b"",
    }
    if name == "PNG":
        # level 1 takes less than half the time of the default, for a seventh more bytes
        options |= {"compress_level": 1, "pnginfo": _png_text(contents)}
        options |= {} if contents.dpi is None else {"dpi": contents.dpi}
        if contents.deep is not None:
            return png.encoded_16_bit(contents.deep, options)
    elif name == "JPEG":
        options |= {"quality": quality, "subsampling": 0, **_beside_jpeg(contents)}
        return _saved(contents.image, name, options)
    else:
        # exact: colours below full transparency are pixels too
        options |= {"quality": quality, "lossless": lossless, "exact": True}
        options |= {"xmp": contents.xmp or b""}
    image = contents.image.copy()
    if contents.alpha is not None:
        image.putalpha(contents.alpha)
    return _saved(image, name, options)


def _saved(image: Image.Image, name: Format, options: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def _beside_jpeg(contents: Contents) -> dict[str, Any]:
    beside: dict[str, Any] = {"xmp": contents.xmp or b""}
    comment = dict(contents.text).get(COMMENT, "").encode()
    if 0 < len(comment) <= _LARGEST_JPEG_COMMENT:
        beside["comment"] = comment
    if contents.dpi is not None and max(contents.dpi) <= _MOST_JPEG_DPI:
        beside["dpi"] = tuple(round(each) for each in contents.dpi)
    return beside


def _png_text(contents: Contents) -> PngInfo:
    """Text, and XMP as PNG holds it (XMP specification part 3, 1.1.5)."""
    info = PngInfo()
    for key, value in contents.text:
        info.add_text(key, value)
    if contents.xmp:
        info.add_itxt("XML:com.adobe.xmp", contents.xmp.decode("utf-8", "replace"))
    return info


def check_fits(contents: Contents, name: Format) -> None:
    """Refuse what a format cannot hold.

    Raises:
        InvalidRequest: transparency, long EXIF or XMP in JPEG, too many pixels on a side.
    """
    longest, (width, height) = _LONGEST_SIDE.get(name), contents.image.size
    if longest is not None and max(width, height) > longest:
        raise InvalidRequest(
            f"A picture of {width}x{height} pixels does not fit {name}, which "
            f"takes {longest} on a side; use PNG.",
            field="format",
        )
    if name != "JPEG":
        return
    if contents.alpha is not None and contents.alpha.getextrema()[0] != 255:
        raise InvalidRequest(
            "The picture has transparency, which JPEG cannot hold; use PNG or WebP.",
            field="format",
        )
    if contents.exif is not None and len(contents.exif) > _LARGEST_JPEG_EXIF:
        raise InvalidRequest(
            f"The picture's EXIF has {len(contents.exif):,} bytes, JPEG holds "
            f"{_LARGEST_JPEG_EXIF:,}; use PNG or WebP.",
            field="format",
        )
    if contents.xmp is not None and len(contents.xmp) > _LARGEST_JPEG_XMP:
        raise InvalidRequest(
            f"The picture's XMP has {len(contents.xmp):,} bytes, JPEG holds "
            f"{_LARGEST_JPEG_XMP:,}; use PNG or WebP.",
            field="format",
        )
