"""Pictures into files: PNG, JPEG and WebP, with what belongs to them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal, get_args

from PIL.PngImagePlugin import PngInfo

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging.codecs import png

if TYPE_CHECKING:
    from overpaint.core.imaging.images import Picture

Format = Literal["PNG", "JPEG", "WEBP"]

COMMENT = "Comment"
"""PNG's keyword of what is a comment in JPEG."""

_LONGEST_SIDE = {"JPEG": 65535, "WEBP": 16383}
_LARGEST_JPEG_EXIF = 65533
_LARGEST_JPEG_XMP = 65504
_LARGEST_JPEG_COMMENT = 65533
_MOST_JPEG_DPI = 65535


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
    if not 1 <= quality <= 100:
        raise InvalidRequest(f"Quality {quality} is not in 1..100.", field="quality")
    if format not in get_args(Format):
        raise InvalidRequest(
            f"Format {format!r} is unknown; use 'PNG', 'JPEG' or 'WEBP'.", field="format"
        )
    _check_fits(picture, format)
    if format == "PNG":
        encoded = _png(picture)
    elif format == "JPEG":
        encoded = _jpeg(picture, quality)
    else:
        encoded = _webp(picture, quality, lossless)
    return encoded if picture.seal is None else picture.seal.sign(encoded, format)


def losses(picture: Picture, format: Format) -> list[str]:  # noqa: A002 - PIL's word for it
    """What of a picture's values a format cannot hold, one sentence each."""
    if format == "PNG" or picture.samples is None or not picture.samples.is_deep:
        return []
    return [f"the picture has 16 bits a channel, and {format} holds 8; choose PNG to keep them"]


def _png(picture: Picture) -> bytes:
    # level 1 takes less than half the time of the default, for a seventh more bytes
    options = {"compress_level": 1, "pnginfo": _png_text(picture), **_resolution(picture)}
    samples = picture.samples
    if samples is None or not samples.is_deep:
        return _saved(picture, "PNG", **options)
    common = {"icc_profile": samples.icc_profile or b"", "exif": picture.exif or b""}
    return png.encoded_16_bit(samples.with_alpha(picture.alpha), {**options, **common})


def _jpeg(picture: Picture, quality: int) -> bytes:
    options: dict[str, Any] = {"quality": quality, "subsampling": 0, "xmp": picture.xmp or b""}
    comment = dict(picture.text).get(COMMENT, "").encode()
    if 0 < len(comment) <= _LARGEST_JPEG_COMMENT:
        options["comment"] = comment
    if picture.dpi is not None and max(picture.dpi) <= _MOST_JPEG_DPI:
        options["dpi"] = tuple(round(each) for each in picture.dpi)
    return _saved(picture, "JPEG", with_alpha=False, **options)


def _webp(picture: Picture, quality: int, lossless: bool) -> bytes:
    # exact: colours below full transparency are pixels too
    options = {"quality": quality, "lossless": lossless, "exact": True, "xmp": picture.xmp or b""}
    file = io.BytesIO()
    image = picture.rgb.copy()
    if picture.alpha is not None:
        image.putalpha(picture.alpha)
    image.save(
        file, "WEBP", icc_profile=picture.icc_profile or b"", exif=picture.exif or b"", **options
    )
    return file.getvalue()


def _saved(picture: Picture, name: Format, *, with_alpha: bool = True, **options: Any) -> bytes:
    image = picture.to_pil() if with_alpha else picture.own_image()
    file = io.BytesIO()
    profile = picture.own_profile or b""
    image.save(file, name, icc_profile=profile, exif=picture.exif or b"", **options)
    return file.getvalue()


def _resolution(picture: Picture) -> dict[str, Any]:
    return {} if picture.dpi is None else {"dpi": picture.dpi}


def _png_text(picture: Picture) -> PngInfo:
    """Text, and XMP as PNG holds it (XMP specification part 3, 1.1.5)."""
    info = PngInfo()
    for key, value in picture.text:
        info.add_text(key, value)
    if picture.xmp:
        info.add_itxt("XML:com.adobe.xmp", picture.xmp.decode("utf-8", "replace"))
    return info


def _check_fits(picture: Picture, name: Format) -> None:
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
