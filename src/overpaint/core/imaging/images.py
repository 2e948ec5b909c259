"""Pictures: decoded within limits, kept with their transparency and metadata, encoded again."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from overpaint.core.errors import InvalidImage, InvalidRequest, OutputError
from overpaint.core.files import atomic_write
from overpaint.core.imaging import colour, masks, pixels, reading
from overpaint.core.imaging.mask_reading import MaskReading
from overpaint.core.imaging.reading import Format, ImageLimits, ImageSource

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

__all__ = [
    "Format",
    "ImageLimits",
    "ImageSource",
    "Picture",
    "atomic_write",
    "decode",
    "decode_mask",
    "encode",
    "save",
]

_DEFAULT_LIMITS = ImageLimits()
_FORMATS_BY_SUFFIX: dict[str, Format] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
}
_LONGEST_SIDE = {"JPEG": 65535, "WEBP": 16383}
_LARGEST_JPEG_EXIF = 65533
_LARGEST_JPEG_XMP = 65504


class FileSeal(Protocol):
    """Signs a file; see `provenance.sealing.Seal`."""

    def sign(self, encoded: bytes, format: Format) -> bytes:  # noqa: A002 - PIL's word for it
        """The signed file."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with everything that must survive an edit. Its images are never changed in place.

    Attributes:
        rgb: 'RGB', 8 bit, upright (EXIF orientation applied), values in the space of
            `icc_profile`.
        alpha: 'L' of the same size, 255 = opaque; None = no transparency.
        icc_profile: RGB profile of the values; None = sRGB. A broken one is kept and means sRGB.
        exif: EXIF block, orientation reset, without thumbnail.
        format: 'PNG', 'JPEG' or 'WEBP' where the picture came from a file.
        xmp: XMP packet; of a result it says how the picture came to be.
        signed: the file that it was decoded from, where that has content credentials (C2PA).
        seal: what is signed into every file that is made of it.
    """

    rgb: Image.Image
    alpha: Image.Image | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    format: Format | None = None
    xmp: bytes | None = None
    signed: bytes | None = None
    seal: FileSeal | None = None

    @classmethod
    def open(cls, source: ImageSource, *, field: str = "image") -> Picture:
        """A picture from a file's path, its bytes, or an open binary file.

        Raises:
            InvalidImage: it cannot be decoded.
        """
        return decode(source, field=field)

    def save(self, path: str | os.PathLike[str], *, field: str = "output") -> None:
        """Write it as the path's suffix says (.png, .jpg, .jpeg, .webp), whole or not at all.

        Raises:
            OutputError: it cannot be written there.
            InvalidRequest: it does not fit the format.
        """
        save(self, path, field=field)

    @classmethod
    def from_pil(cls, image: Image.Image, *, field: str = "image") -> Picture:
        """A picture from a copy of a PIL image of any mode; its EXIF orientation is applied.

        Floats ('F') are in 0..1, integers ('I', 'I;16') in 0..65535. Of 16-bit colour files PIL
        keeps the high bytes only; `decode` such a file instead.

        Raises:
            InvalidImage: it is empty, or a float is not a number.
        """
        if not image.width or not image.height:
            raise InvalidImage(
                f"The picture has {image.width}x{image.height} pixels; give one with pixels.",
                field=field,
            )
        try:
            return _picture(reading.raw_of(pixels.split(image), image.info, None))
        except (ValueError, OSError) as error:
            raise InvalidImage(f"The picture cannot be read: {error}.", field=field) from error

    @classmethod
    def from_array(cls, array: NDArray[Any], *, field: str = "image") -> Picture:
        """A picture from an array H x W or H x W x 1..4 (grey, grey + alpha, RGB, RGB + alpha).

        Args:
            array: uint8, uint16 (scaled to 8 bit), bool, or floats in 0..1; sRGB.
            field: name of the field in errors.

        Raises:
            InvalidImage: another shape, type or range; no pixels; NaN.
        """
        if not array.size:
            raise InvalidImage(f"An array of shape {array.shape} has no pixels.", field=field)
        try:
            return _picture(reading.raw_of(pixels.planes_of(array), {}, None))
        except ValueError as error:
            raise InvalidImage(f"The array is no picture: {error}.", field=field) from error

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.rgb.size

    def to_srgb(self) -> Image.Image:
        """The picture in sRGB, 'RGB'. Cached; do not change it in place."""
        return self._srgb

    def from_srgb(self, image: Image.Image) -> Image.Image:
        """An sRGB image of any size in this picture's colour space."""
        return colour.from_srgb(image, self.icc_profile)

    def with_rgb(self, rgb: Image.Image) -> Picture:
        """The same picture with other pixels, so without signature.

        Transparency is resized where the size differs.
        """
        alpha = self.alpha
        if alpha is not None and alpha.size != rgb.size:
            alpha = alpha.resize(rgb.size, Image.Resampling.LANCZOS)
        return replace(self, rgb=rgb, alpha=alpha, signed=None, seal=None)

    def to_pil(self) -> Image.Image:
        """A copy as 'RGB' or 'RGBA', 'icc_profile', 'exif' and 'xmp' in `info` if there are any.

        PIL writes 'xmp' only where it is told: `image.save(file, xmp=image.info["xmp"])` for JPEG
        and WebP. `overpaint.EditResult.save` and `save` here always write it.
        """
        image = self.rgb.copy()
        if self.alpha is not None:
            image.putalpha(self.alpha)
        metadata = {"icc_profile": self.icc_profile, "exif": self.exif, "xmp": self.xmp}
        image.info = {key: value for key, value in metadata.items() if value is not None}
        return image

    @cached_property
    def sha256(self) -> str:
        """Hash of size, pixels and alpha, as hexadecimal digits; metadata do not count."""
        digest = hashlib.sha256(f"{self.size[0]}x{self.size[1]}".encode())
        digest.update(self.rgb.tobytes())
        if self.alpha is not None:
            digest.update(self.alpha.tobytes())
        return digest.hexdigest()

    @cached_property
    def _srgb(self) -> Image.Image:
        return colour.to_srgb(self.rgb, self.icc_profile)


def decode(
    data: ImageSource, *, field: str = "image", limits: ImageLimits = _DEFAULT_LIMITS
) -> Picture:
    """Decode a PNG, JPEG or WebP file; nothing else is tried.

    The limits are checked against the header, before any pixel is decoded. Grey, palette, CMYK and
    16-bit pictures become 8-bit RGB; grey and CMYK ones are brought to sRGB through their own
    profile.

    Args:
        data: the file's bytes, its path, or an open binary file.
        field: name of the field in errors.
        limits: what the picture may cost.

    Raises:
        InvalidImage: no such file, another format, too large, truncated, corrupt, or an animation
            where they are refused.
    """
    return _picture(reading.read(data, field, limits))


def decode_mask(
    data: ImageSource,
    *,
    field: str = "mask",
    limits: ImageLimits = _DEFAULT_LIMITS,
    size: tuple[int, int] | None = None,
    reads: MaskReading | None = None,
) -> Image.Image:
    """Decode a mask file to 'L', 255 = repaint.

    What the file's pixels mean: see `masks.from_pil`. The noise that JPEG leaves around 0 and 255
    is removed.

    Args:
        data: the file's bytes, its path, or an open binary file.
        field: name of the field in errors.
        limits: what the file may cost.
        size: (width, height) that the mask must have, if that is known.
        reads: how to read it; None = as what it evidently is.

    Raises:
        InvalidImage: the file cannot be decoded, as for `decode`.
        InvalidMask: it has another size.
    """
    raw = reading.read(data, field, limits)
    mask = masks.of_raw(raw, reads, field=field)
    if size is not None:
        masks.check_size(mask, size, field=field)
    return mask


def encode(
    picture: Picture,
    format: Format = "PNG",  # noqa: A002 - PIL's word for it
    *,
    quality: int = 95,
    lossless: bool = True,
) -> bytes:
    """Encode a picture with its ICC profile, EXIF and XMP, and sign the file if it has a seal.

    Args:
        picture: what to encode.
        format: 'PNG', 'JPEG' or 'WEBP'.
        quality: 1..100, of JPEG and lossy WebP.
        lossless: whether WebP keeps every pixel; PNG always does, JPEG never.

    Raises:
        InvalidRequest: unknown format, quality out of range, or the picture does not fit the
            format: transparency, long EXIF or XMP in JPEG, too many pixels on a side.
        InvalidSettings: it cannot be signed.
    """
    if not 1 <= quality <= 100:
        raise InvalidRequest(f"Quality {quality} is not in 1..100.", field="quality")
    if format not in _FORMATS_BY_SUFFIX.values():
        raise InvalidRequest(
            f"Format {format!r} is unknown; use 'PNG', 'JPEG' or 'WEBP'.", field="format"
        )
    check_fits(picture, format)
    if format == "PNG":
        metadata: dict[str, Any] = {"pnginfo": _png_text(picture.xmp)}
    else:
        metadata = {"xmp": picture.xmp or b""}
    options: dict[str, Any] = {
        # level 1 takes less than half the time of the default, for a seventh more bytes
        "PNG": {"compress_level": 1},
        "JPEG": {"quality": quality, "subsampling": 0},
        # exact: colours below full transparency are pixels too
        "WEBP": {"quality": quality, "lossless": lossless, "exact": True},
    }[format]
    image = picture.rgb if format == "JPEG" else picture.to_pil()
    file = io.BytesIO()
    image.save(
        file,
        format,
        icc_profile=picture.icc_profile or b"",
        exif=picture.exif or b"",
        **metadata,
        **options,
    )
    encoded = file.getvalue()
    return encoded if picture.seal is None else picture.seal.sign(encoded, format)


def save(
    picture: Picture,
    path: str | os.PathLike[str],
    *,
    quality: int = 95,
    lossless: bool = True,
    field: str = "output",
) -> None:
    """Encode a picture as its path's suffix says, and write it whole or not at all.

    Args:
        picture: what to save.
        path: ends in .png, .jpg, .jpeg or .webp; an existing file is replaced.
        quality: as for `encode`.
        lossless: as for `encode`.
        field: name of the field in errors.

    Raises:
        OutputError: unknown suffix, folder missing or not writable, disk full.
        InvalidRequest: as for `encode`.
    """
    named = format_of(path, field=field)
    encoded = encode(picture, named, quality=quality, lossless=lossless)
    atomic_write(path, encoded, field=field)


def format_of(path: str | os.PathLike[str], *, field: str = "output") -> Format:
    """The format that a path's suffix names.

    Raises:
        OutputError: none.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in _FORMATS_BY_SUFFIX:
        raise OutputError(
            f"{path} ends in {suffix!r}, which is no known format; use "
            f"{', '.join(_FORMATS_BY_SUFFIX)}.",
            field=field,
        )
    return _FORMATS_BY_SUFFIX[suffix.lower()]


def _picture(raw: reading.Raw) -> Picture:
    rgb, profile = pixels.to_rgb(raw.colours, raw.icc_profile)
    return Picture(rgb, raw.alpha, profile, raw.exif, raw.format, raw.xmp, raw.signed)


def _png_text(xmp: bytes | None) -> PngInfo | None:
    """XMP as PNG holds it (XMP specification part 3, 1.1.5)."""
    if not xmp:
        return None
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return text


def check_fits(picture: Picture, name: Format) -> None:
    """Refuse what a format cannot hold.

    Raises:
        InvalidRequest: transparency, long EXIF or XMP in JPEG, too many pixels on a side.
    """
    longest = _LONGEST_SIDE.get(name)
    if longest is not None and max(picture.size) > longest:
        raise InvalidRequest(
            f"A picture of {picture.size[0]}x{picture.size[1]} pixels does not fit {name}, which "
            f"takes {longest} on a side; use PNG.",
            field="format",
        )
    if name != "JPEG":
        return
    if picture.alpha is not None and picture.alpha.getextrema()[0] != 255:
        raise InvalidRequest(
            "The picture has transparency, which JPEG cannot hold; use PNG or WebP.",
            field="format",
        )
    if picture.exif is not None and len(picture.exif) > _LARGEST_JPEG_EXIF:
        raise InvalidRequest(
            f"The picture's EXIF has {len(picture.exif):,} bytes, JPEG holds "
            f"{_LARGEST_JPEG_EXIF:,}; use PNG or WebP.",
            field="format",
        )
    if picture.xmp is not None and len(picture.xmp) > _LARGEST_JPEG_XMP:
        raise InvalidRequest(
            f"The picture's XMP has {len(picture.xmp):,} bytes, JPEG holds "
            f"{_LARGEST_JPEG_XMP:,}; use PNG or WebP.",
            field="format",
        )
