"""Image files within limits: PNG, JPEG and WebP to upright 8-bit planes and metadata."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from overpaint.core.errors import InvalidImage
from overpaint.core.imaging import exif, pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.ImageFile import ImageFile

ImageSource = bytes | os.PathLike[str] | str | BinaryIO
Format = Literal["PNG", "JPEG", "WEBP"]

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
        animation: 'first' takes the first frame of an animation, 'refuse' refuses it.
        reader: decodes the file's bytes instead of `read`, such as in a process that can be ended.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000
    animation: Literal["first", "refuse"] = "first"
    reader: Callable[[bytes, str, ImageLimits], Raw] | None = None


class Raw(NamedTuple):
    """A decoded file: upright, 8 bit, colours still in the file's own kind and space.

    Attributes:
        colours: 'L', 'RGB', 'CMYK' or 'LAB'.
        alpha: 'L', or None.
        icc_profile: as in the file, whatever it is.
        exif: orientation reset, without thumbnail; None where it is missing or cannot be parsed.
        format: of the file; None where there was no file.
        xmp: packet as in the file.
        signed: the file itself, where it has content credentials.
    """

    colours: Image.Image
    alpha: Image.Image | None
    icc_profile: bytes | None
    exif: bytes | None
    format: Format | None
    xmp: bytes | None = None
    signed: bytes | None = None


def read(data: ImageSource, field: str, limits: ImageLimits) -> Raw:
    """Decode a file; the limits are checked against its header, before any pixel is decoded.

    Raises:
        InvalidImage: no such file, another format, too large, truncated, corrupt, or an animation
            where they are refused.
    """
    encoded = _bytes_of(data, field, limits.max_bytes)
    if limits.reader is not None:
        return limits.reader(encoded, field, replace(limits, reader=None))
    file_class, name = _sniff(encoded, field)
    try:
        file = file_class(io.BytesIO(encoded))
        _check_header(file, field, limits)
        planes = pixels.split_png(file, encoded) if name == "PNG" else pixels.split(file)
        signed = encoded if has_credentials(encoded) else None
        return raw_of(planes, file.info, name)._replace(signed=signed)
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


def raw_of(planes: pixels.Planes, info: Mapping[Any, Any], name: Format | None) -> Raw:
    """Copies of planes turned upright, with the metadata that PIL found beside them."""
    block, orientation = exif.upright(_exif_in(info))
    colours, alpha = planes
    return Raw(
        _turned(colours, orientation),
        _turned(alpha, orientation) if alpha is not None else None,
        info.get("icc_profile") or None,
        block,
        name,
        _xmp_in(info),
    )


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Nobody here asks for the resolution, and reading it warns about damaged EXIF."""


def _bytes_of(data: ImageSource, field: str, max_bytes: int) -> bytes:
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


def _sniff(encoded: bytes, field: str) -> tuple[type[ImageFile], Format]:
    if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile, "PNG"
    if encoded.startswith(b"\xff\xd8\xff"):
        return _Jpeg, "JPEG"
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return WebPImageFile, "WEBP"
    raise InvalidImage(
        f"The file is not a PNG, JPEG or WebP picture (it starts with {encoded[:8]!r}); convert it "
        "to one of them.",
        field=field,
    )


def _check_header(file: ImageFile, field: str, limits: ImageLimits) -> None:
    width, height = file.size
    if width * height > limits.max_pixels:
        raise InvalidImage(
            f"The picture has {width}x{height} pixels, more than the limit of "
            f"{limits.max_pixels:,}; give a smaller one or raise the limit.",
            field=field,
        )
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and limits.animation == "refuse":
        raise InvalidImage(
            f"The picture is an animation of {frames} frames; give a still picture.", field=field
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
