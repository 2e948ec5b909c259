"""Pictures: decoded within limits, kept with their transparency and metadata, encoded again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from overpaint.core.errors import InvalidImage, OutputError
from overpaint.core.files import atomic_write
from overpaint.core.imaging import colour, masks, pixels, raster
from overpaint.core.imaging.codecs import reading, writing
from overpaint.core.imaging.codecs.formats import FileFormat
from overpaint.core.imaging.codecs.reading import ImageLimits, ImageSource
from overpaint.core.imaging.codecs.writing import Format
from overpaint.core.imaging.raster import Raster

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from overpaint.core.geometry import Box
    from overpaint.core.parts import MaskReading

__all__ = [
    "Format",
    "ImageLimits",
    "ImageSource",
    "Picture",
    "atomic_write",
    "decode",
    "decode_mask",
    "encode",
    "losses",
    "save",
]

_DEFAULT_LIMITS = ImageLimits()
_FORMATS_BY_SUFFIX: dict[str, Format] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
}


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
        icc_profile: RGB profile of `rgb`; None = sRGB. A broken one is kept and means sRGB.
        exif: EXIF block, orientation reset, without thumbnail.
        format: of the file that it came from; None = it came from none.
        xmp: XMP packet; of a result it says how the picture came to be.
        signed: the file that it was decoded from, where that has content credentials (C2PA).
        seal: what is signed into every file that is made of it.
        raster: its own values where they are grey or have 16 bits; `rgb` and `alpha` are made of
            them, and files are written with them. None = `rgb` and `alpha` are all.
        text: keywords and texts of a PNG file, or a JPEG file's comment.
        dpi: resolution, across and down.
    """

    rgb: Image.Image
    alpha: Image.Image | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    format: FileFormat | None = None
    xmp: bytes | None = None
    signed: bytes | None = None
    seal: FileSeal | None = None
    raster: Raster | None = None
    text: tuple[tuple[str, str], ...] = ()
    dpi: tuple[float, float] | None = None

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
            planes = pixels.split(image)
            text = getattr(image, "text", None)
            return _picture(reading.raw_of(planes, image.info, None, text=text))
        except (ValueError, OSError) as error:
            raise InvalidImage(f"The picture cannot be read: {error}.", field=field) from error

    @classmethod
    def from_array(cls, array: NDArray[Any], *, field: str = "image") -> Picture:
        """A picture from an array H x W or H x W x 1..4 (grey, grey + alpha, RGB, RGB + alpha).

        Args:
            array: uint8, uint16, bool, or floats in 0..1 (scaled to 8 bit); sRGB.
            field: name of the field in errors.

        Raises:
            InvalidImage: another shape, type or range; no pixels; NaN.
        """
        if not array.size:
            raise InvalidImage(f"An array of shape {array.shape} has no pixels.", field=field)
        try:
            return _picture(reading.raw_of(pixels.planes_of(array), {}, None))
        except ValueError as error:
            raise InvalidImage(f"The array is not a picture: {error}.", field=field) from error

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

    @property
    def is_grey(self) -> bool:
        """Whether it has one channel, and keeps one."""
        return self.raster is not None and self.raster.is_grey

    @property
    def own_profile(self) -> bytes | None:
        """The profile of its own values, grey ones included."""
        return self.icc_profile if self.raster is None else self.raster.icc_profile

    def own_image(self) -> Image.Image:
        """Its own values at 8 bit: 'L' where they are grey, else 'RGB'. Do not change it."""
        return self.rgb if self.raster is None else self.raster.image()

    def with_rgb(self, rgb: Image.Image) -> Picture:
        """The same picture with other pixels, 8 bit, in the space of `icc_profile`, unsigned.

        Transparency is resized where the size differs.
        """
        alpha = self.alpha
        if alpha is not None and alpha.size != rgb.size:
            alpha = alpha.resize(rgb.size, Image.Resampling.LANCZOS)
        return replace(self, rgb=rgb, alpha=alpha, raster=None, signed=None, seal=None)

    def resized(self, size: tuple[int, int]) -> Picture:
        """Resampled to (width, height)."""
        other = self.with_rgb(self.rgb.resize(size, Image.Resampling.LANCZOS))
        if self.raster is None:
            return other
        return other._with_raster(self.raster.resized(size))

    def blended(
        self, patch: Image.Image, alpha: Image.Image, box: Box, *, in_srgb: bool = True
    ) -> Picture:
        """With a patch over a part of it; where `alpha` is 0 every bit stays.

        Args:
            patch: 'RGB' of the box's size.
            alpha: 'L' of that size, 255 = the patch.
            box: where.
            in_srgb: the patch is in sRGB; else it is in the picture's own space, grey as three
                equal channels (`own_image`).
        """
        if self.raster is None:
            patch = self.from_srgb(patch) if in_srgb else patch
            rgb = self.rgb.copy()
            rgb.paste(Image.composite(patch, rgb.crop(box.as_tuple()), alpha), box.as_tuple())
            return self.with_rgb(rgb)
        if in_srgb:
            patch = self.raster.from_srgb(patch)
        elif self.is_grey:
            patch = patch.convert("L")
        return self._with_raster(self.raster.blended(patch, alpha, box))

    def in_colour(self) -> Picture:
        """The same picture, able to take colours: a grey one as sRGB."""
        return self.with_rgb(self.rgb) if self.is_grey else self

    def _with_raster(self, raster: Raster) -> Picture:
        rgb, _ = raster.rgb()
        return replace(self.with_rgb(rgb), raster=raster)

    def to_pil(self) -> Image.Image:
        """A copy at 8 bit: 'RGB', 'RGBA', 'L' or 'LA', with what belongs to it in `info`.

        That is 'icc_profile', 'exif', 'xmp' and 'dpi' where there are any. PIL writes 'xmp' only if
        it is passed: `image.save(file, xmp=image.info["xmp"])` for JPEG and WebP, and it writes no
        16 bits. `overpaint.EditResult.save` and `save` here write all.
        """
        image = self.own_image().copy()
        if self.alpha is not None:
            image.putalpha(self.alpha)
        metadata = {
            "icc_profile": self.own_profile,
            "exif": self.exif,
            "xmp": self.xmp,
            "dpi": self.dpi,
        }
        image.info = {key: value for key, value in metadata.items() if value is not None}
        return image

    @cached_property
    def sha256(self) -> str:
        """Hash of size, pixels and alpha, as hexadecimal digits; metadata do not count."""
        digest = hashlib.sha256(f"{self.size[0]}x{self.size[1]}".encode())
        digest.update(self.rgb.tobytes())
        if self.alpha is not None:
            digest.update(self.alpha.tobytes())
        if self.raster is not None and not self.raster.is_plain:
            digest.update(self.raster.with_alpha(None).tobytes())
        return digest.hexdigest()

    @cached_property
    def _srgb(self) -> Image.Image:
        return colour.to_srgb(self.rgb, self.icc_profile)


def decode(
    data: ImageSource, *, field: str = "image", limits: ImageLimits = _DEFAULT_LIMITS
) -> Picture:
    """Decode a PNG, JPEG, WebP, AVIF, HEIC or TIFF file; nothing else is tried.

    The limits are checked against the header, before any pixel is decoded. Grey and 16-bit values
    are kept beside an 8-bit RGB view of them; palettes become RGB, and CMYK is brought to sRGB
    through its own profile.

    Args:
        data: the file's bytes, its path, or an open binary file.
        field: name of the field in errors.
        limits: what the picture may cost.

    Raises:
        InvalidImage: no such file, another format, too large, truncated, corrupt, or an animation.
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

    See `masks.from_pil` for the meaning of the file's pixels. The noise that JPEG leaves around 0
    and 255 is removed.

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
    """Encode a picture with what belongs to it, and sign the file if it has a seal.

    ICC profile, EXIF and XMP go into every format; resolution into PNG and JPEG; text into PNG, and
    its comment into JPEG. PNG keeps 16 bits, JPEG and PNG keep grey.

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
    encoded = writing.encode(_contents(picture, format), format, quality=quality, lossless=lossless)
    return encoded if picture.seal is None else picture.seal.sign(encoded, format)


def check_fits(picture: Picture, name: Format) -> None:
    """Refuse what a format cannot hold; see `writing.check_fits`."""
    writing.check_fits(_contents(picture, name), name)


def _contents(picture: Picture, name: Format) -> writing.Contents:
    in_rgb = name == "WEBP"  # which knows no grey
    return writing.Contents(
        image=picture.rgb if in_rgb else picture.own_image(),
        alpha=picture.alpha,
        deep=_deep(picture) if name == "PNG" else None,
        icc_profile=picture.icc_profile if in_rgb else picture.own_profile,
        exif=picture.exif,
        xmp=picture.xmp,
        text=picture.text,
        dpi=picture.dpi,
    )


def losses(picture: Picture, format: Format) -> list[str]:  # noqa: A002 - PIL's word for it
    """Values of a picture that a format cannot hold, one sentence each."""
    if format == "PNG" or _deep(picture) is None:
        return []
    return [f"the picture has 16 bits a channel, and {format} holds 8; choose PNG to keep them"]


def _deep(picture: Picture) -> NDArray[np.uint16] | None:
    if picture.raster is None or not picture.raster.is_deep:
        return None
    return picture.raster.with_alpha(picture.alpha)


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
    file_format = format_of(path, field=field)
    encoded = encode(picture, file_format, quality=quality, lossless=lossless)
    atomic_write(path, encoded, field=field)


def format_of(path: str | os.PathLike[str], *, field: str = "output") -> Format:
    """The format that a path's suffix names.

    Raises:
        OutputError: it names none.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in _FORMATS_BY_SUFFIX:
        raise OutputError(
            f"{path} ends in {suffix!r}, which is not a known format; use "
            f"{', '.join(_FORMATS_BY_SUFFIX)}.",
            field=field,
        )
    return _FORMATS_BY_SUFFIX[suffix.lower()]


def _picture(raw: reading.Raw) -> Picture:
    own = raster.of_planes(raw.planes, raw.icc_profile)
    rgb, profile = pixels.to_rgb(raw.planes.colours, raw.icc_profile)
    return Picture(
        rgb,
        raw.planes.alpha,
        profile,
        raw.exif,
        raw.format,
        raw.xmp,
        raw.signed,
        raster=own,
        text=raw.text,
        dpi=raw.dpi,
    )
