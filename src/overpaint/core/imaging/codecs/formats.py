"""The kinds of files that are read, each with the decoder that is meant for it.

Decoders are imported when a file of theirs comes. Nothing is guessed beyond a file's first bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from overpaint.core.imaging import pixels
from overpaint.core.imaging.codecs import png

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

FileFormat = Literal["PNG", "JPEG", "WEBP", "AVIF", "HEIF", "TIFF"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff")
"""Suffixes of files that are read."""

_AVIF = {b"avif", b"avis"}
_HEVC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF = {*_HEVC, b"mif1", b"msf1"}
"""Brands of their containers (ISO/IEC 14496-12, 4.3; 23008-12, 10)."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC = 254, 258, 262
_RGB = 2
_REDUCED, _MASK = 1, 4
"""Bits of a page's type that make it a thumbnail or a mask of another (TIFF 6.0, section 8)."""

_ABOUT_THE_PHOTO = (270, 271, 272, 305, 306, 315, 33432)
"""TIFF's own tags that EXIF has too: description, camera, program, date, artist, copyright."""


def sniffed(encoded: bytes) -> FileFormat | None:
    """The kind of a file, from its first bytes; None = it is of no kind that is read."""
    if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if encoded.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return "WEBP"
    if encoded.startswith(_TIFF):
        return "TIFF"
    if encoded[4:8] != b"ftyp":
        return None
    length = int.from_bytes(encoded[:4], "big")
    brands = {encoded[at : at + 4] for at in range(8, min(length, 256), 4) if at != 12}
    if brands & _AVIF:
        return "AVIF"
    return "HEIF" if brands & _HEIF else None


def opened(name: FileFormat, encoded: bytes) -> ImageFile:
    """The file with its header read, and no pixel yet."""
    return _OPENERS[name](io.BytesIO(encoded))


def frames_of(file: ImageFile, name: FileFormat) -> int:
    """How many pictures a file shows one after the other; thumbnails and other views are none."""
    count = int(getattr(file, "n_frames", 1))
    if name in ("JPEG", "HEIF"):  # further views of one picture; the file says which is the first
        return 1
    if name != "TIFF" or count == 1:
        return count
    pages = 0
    for index in range(count):
        file.seek(index)
        kind = file.tag_v2.get(_NEW_SUBFILE_TYPE, 0)  # type: ignore[attr-defined]
        pages += not kind & (_REDUCED | _MASK)
        if pages > 1:
            break
    file.seek(0)
    return count if pages > 1 else 1


def planes_of(file: ImageFile, name: FileFormat, encoded: bytes) -> pixels.Planes:
    """Decode the pixels, at their own depth where the decoder or we can."""
    if name == "PNG":
        return png.planes_of(file, encoded)
    if name == "TIFF" and _is_deep_rgb(file):
        file.load()  # for the metadata
        return pixels.planes_of(_deep_tiff(encoded))
    return pixels.split(file)


def exif_of(file: ImageFile, name: FileFormat) -> bytes | None:
    """The EXIF block that a file has in a form of its own; None = it has none, or the usual one.

    A TIFF file is one itself, with much that is about the file and not about the photo.
    """
    if name != "TIFF":
        return None
    own, block = file.getexif(), Image.Exif()
    for tag in _ABOUT_THE_PHOTO:
        if tag in own:
            block[tag] = own[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if values := own.get_ifd(directory):
            block.get_ifd(directory).update(values)
            block[directory] = dict(values)
    return block.tobytes() if len(block) else None


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """The resolution is kept within EXIF; reading it there warns about damaged blocks."""


def _tiff(file: io.BytesIO) -> ImageFile:
    from PIL.TiffImagePlugin import TiffImageFile

    return TiffImageFile(file)


def _avif(file: io.BytesIO) -> ImageFile:
    from PIL.AvifImagePlugin import AvifImageFile

    return AvifImageFile(file)


def _heif(file: io.BytesIO) -> ImageFile:
    from pillow_heif import HeifImageFile

    return HeifImageFile(file)  # type: ignore[no-untyped-call]


_OPENERS: dict[FileFormat, Callable[[io.BytesIO], ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": _Jpeg,
    "WEBP": WebPImageFile,
    "TIFF": _tiff,
    "AVIF": _avif,
    "HEIF": _heif,
}


def _is_deep_rgb(file: ImageFile) -> bool:
    tags: Any = file.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(_BITS_PER_SAMPLE, (1,))
    return tags.get(_PHOTOMETRIC) == _RGB and len(bits) in (3, 4) and set(bits) == {16}


def _deep_tiff(encoded: bytes) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """(H, W, 3 or 4) of a TIFF of 16-bit colours, of which Pillow keeps 8; it stands upright."""
    import cv2

    values = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise ValueError("its 16-bit values cannot be read")
    order = [2, 1, 0, 3][: values.shape[2]]
    return np.ascontiguousarray(values[..., order])
