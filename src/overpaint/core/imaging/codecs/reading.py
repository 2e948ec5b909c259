"""Image files within limits, to upright planes and what else is in them."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from overpaint.core.errors import InvalidImage
from overpaint.core.imaging import pixels
from overpaint.core.imaging.codecs import exif, formats
from overpaint.core.imaging.codecs.formats import FileFormat
from overpaint.core.imaging.codecs.writing import COMMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

ImageSource = bytes | os.PathLike[str] | str | BinaryIO

_CREDENTIALS = b"c2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"
"""Type of the box that all manifests of a file are in (C2PA 2.2, 11.1.4.2)."""

# EXIF orientation -> what turns the stored pixels upright (Exif 2.3, 4.6.4)
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may cost before it is decoded.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width times height, as its header says.
        reader: decodes the file's bytes instead of `read`, such as in a process that can be ended.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000
    reader: Callable[[bytes, str, ImageLimits], Raw] | None = None


class Raw(NamedTuple):
    """A decoded file: upright, colours still in the file's own kind and space.

    Attributes:
        planes: the pixels.
        icc_profile: as in the file, whatever it is.
        exif: orientation reset, without thumbnail; None where it is missing or cannot be parsed.
        format: of the file; None where there was no file.
        xmp: packet as in the file.
        text: keywords and their text, as in PNG.
        dpi: resolution, across and down.
        signed: the file itself, where it has content credentials.
    """

    planes: pixels.Planes
    icc_profile: bytes | None
    exif: bytes | None
    format: FileFormat | None
    xmp: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    dpi: tuple[float, float] | None = None
    signed: bytes | None = None


def read(data: ImageSource, field: str, limits: ImageLimits) -> Raw:
    """Decode a file; the limits are checked against its header, before any pixel is decoded.

    Raises:
        InvalidImage: no such file, another format, too large, truncated, corrupt, or an animation.
    """
    encoded = bytes_of(data, field, limits.max_bytes)
    if limits.reader is not None:
        return limits.reader(encoded, field, replace(limits, reader=None))
    if not encoded:
        raise InvalidImage("The file is empty; save or download it again.", field=field)
    name = formats.sniffed(encoded)
    if name is None:
        raise InvalidImage(
            "The file is not a PNG, JPEG, WebP, AVIF, HEIC or TIFF picture; convert it to one of "
            "them.",
            field=field,
        )
    try:
        file = formats.opened(name, encoded)
        _check_header(file, name, field, limits)
        planes = formats.planes_of(file, name, encoded)
        _check_size(planes.colours.size, field, limits)  # some decoders know it only now
        info = {**file.info, "exif": formats.exif_of(file, name) or _exif_in(file.info)}
        raw = raw_of(planes, info, name, text=getattr(file, "text", None))
        return raw._replace(signed=encoded if has_credentials(encoded) else None)
    except (InvalidImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise InvalidImage(f"The picture is too large: {error}.", field=field) from error
    except Exception as error:  # whatever a parser makes of hostile bytes
        raise InvalidImage(
            f"The {name} file is damaged or incomplete ({error}); export it again.",
            field=field,
        ) from error


def has_credentials(encoded: bytes) -> bool:
    """Whether a file says that it has content credentials (C2PA)."""
    return _CREDENTIALS in encoded


def raw_of(
    planes: pixels.Planes,
    info: Mapping[Any, Any],
    name: FileFormat | None,
    *,
    text: Mapping[str, str] | None = None,
) -> Raw:
    """Copies of planes turned upright, with the metadata that PIL found beside them."""
    block, orientation = exif.upright(_exif_in(info))
    colours, alpha, deep = planes
    return Raw(
        pixels.Planes(
            _turned(colours, orientation),
            _turned(alpha, orientation) if alpha is not None else None,
            deep if deep is None or orientation == 1 else _turned_values(deep, orientation),
        ),
        info.get("icc_profile") or None,
        block,
        name,
        _xmp_in(info),
        _text_in(text, info),
        _dpi_in(info, is_across=orientation < 5),
    )


def bytes_of(data: ImageSource, field: str, max_bytes: int) -> bytes:
    """The bytes of a file.

    Raises:
        InvalidImage: no such file, or it has more.
    """
    if isinstance(data, (str, os.PathLike)):
        return _file_bytes(Path(data), field, max_bytes)
    encoded = data if isinstance(data, bytes) else data.read(max_bytes + 1)
    if len(encoded) > max_bytes:
        raise _too_many_bytes(len(encoded), field, max_bytes)
    return encoded


def _file_bytes(path: Path, field: str, max_bytes: int) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise InvalidImage(f"{path} is not a file; give the path of a picture.", field=field)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise _too_many_bytes(size, field, max_bytes)
            return file.read(max_bytes)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidImage(f"{path} cannot be read: {reason}.", field=field) from error


def _too_many_bytes(size: int, field: str, max_bytes: int) -> InvalidImage:
    return InvalidImage(
        f"The file has at least {size:,} bytes, more than the limit of {max_bytes:,}; give a "
        "smaller one or raise the limit.",
        field=field,
    )


def _check_header(file: ImageFile, name: FileFormat, field: str, limits: ImageLimits) -> None:
    _check_size(file.size, field, limits)
    frames = formats.frames_of(file, name)
    if frames > 1:
        what = "a file of several pages" if name == "TIFF" else f"an animation of {frames} frames"
        raise InvalidImage(
            f"The picture is {what}; save the one that you mean as a picture of its own.",
            field=field,
        )


def _check_size(size: tuple[int, int], field: str, limits: ImageLimits) -> None:
    if size[0] * size[1] > limits.max_pixels:
        raise InvalidImage(
            f"The picture has {size[0]}x{size[1]} pixels, more than the limit of "
            f"{limits.max_pixels:,}; give a smaller one or raise the limit.",
            field=field,
        )


def _exif_in(info: Mapping[Any, Any]) -> bytes | None:
    block = info.get("exif")
    if block is None and "Raw profile type exif" in info:  # how ImageMagick wrote it into PNG
        with suppress(ValueError):
            return bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:]))
    return block


def _xmp_in(info: Mapping[Any, Any]) -> bytes | None:
    packet = info.get("xmp")
    if isinstance(packet, str):
        return packet.encode()
    return packet if isinstance(packet, bytes) and packet else None


def _turned(plane: Image.Image, orientation: int) -> Image.Image:
    """A copy that stands upright and that has neither file nor metadata of its own."""
    turned = plane.copy() if orientation == 1 else plane.transpose(_TRANSPOSE[orientation])
    turned.info.clear()
    return turned


def _turned_values(values: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """As `_turned`: mirrored, then turned."""
    mirrored = values.swapaxes(0, 1) if orientation >= 5 else values
    across = {2: -1, 3: -1, 6: -1, 7: -1}.get(orientation, 1)
    down = {3: -1, 4: -1, 7: -1, 8: -1}.get(orientation, 1)
    return np.ascontiguousarray(mirrored[::down, ::across])


_KEPT_ELSEWHERE = ("XML:com.adobe.xmp", "Raw profile type")
"""Beginnings of PNG's keywords for what is not text: XMP, and ImageMagick's other blocks."""


def _text_in(text: Mapping[str, str] | None, info: Mapping[Any, Any]) -> tuple[Any, ...]:
    """PNG's text, or JPEG's comment as such."""
    comment = info.get("comment")
    if not text and isinstance(comment, bytes) and comment:
        return ((COMMENT, comment.decode("utf-8", "replace")),)
    return tuple(
        (key, value) for key, value in (text or {}).items() if not key.startswith(_KEPT_ELSEWHERE)
    )


def _dpi_in(info: Mapping[Any, Any], *, is_across: bool) -> tuple[float, float] | None:
    with suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
        across, down = (float(each) for each in info["dpi"])
        if all(math.isfinite(each) and 0 < each < 1e6 for each in (across, down)):
            return (across, down) if is_across else (down, across)
    return None
