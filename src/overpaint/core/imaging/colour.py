"""ICC profiles: from a picture's colour space to sRGB and back, through LittleCMS."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image, ImageCms

_MODES_BY_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_LARGEST_PROFILE = 4 * 2**20  # bytes; anything longer is no profile, and would fill the cache


class _Ways(NamedTuple):
    """To sRGB, and back where the profile is an RGB one."""

    there: ImageCms.ImageCmsTransform
    back: ImageCms.ImageCmsTransform | None


def profile_mode(profile: bytes | None) -> str | None:
    """The PIL mode that a profile describes: 'RGB', 'L' or 'CMYK'; None for a broken one."""
    from PIL import ImageCms

    if not profile or len(profile) > _LARGEST_PROFILE:
        return None
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None
    return _MODES_BY_SPACE.get(space.strip())


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB, as 'RGB': itself, if it is that already.

    A profile that is missing, broken, made for another kind of image or without a way back says
    nothing about the pixels; they are then taken as they are.
    """
    ways = _ways(profile, image.mode)
    if ways:
        return _apply(ways.there, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def from_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An sRGB image in the 'RGB' space of the profile; the way back from `to_srgb`."""
    ways = _ways(profile, "RGB")
    return _apply(ways.back, image) if ways and ways.back else image


def grey_from_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An sRGB image as 'L' in the grey space of the profile; None or a broken one: sRGB's grey."""
    way = _way_to_grey(profile)
    return image.convert("L") if way is None else _apply(way, image)


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """A 'LAB' image (CIE L*a*b*, D50) in sRGB."""
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return _apply(ImageCms.buildTransform(lab, srgb, "LAB", "RGB"), image)


@lru_cache(maxsize=8)
def _ways(profile: bytes | None, mode: str) -> _Ways | None:
    """The ways to sRGB and back; None where the profile does not describe `mode`."""
    from PIL import ImageCms

    if profile is None or profile_mode(profile) != mode:
        return None
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        there = _way(own, srgb, mode, "RGB")
        return _Ways(there, None if mode != "RGB" else _way(srgb, own, "RGB", "RGB"))
    except (ValueError, ImageCms.PyCMSError):
        return None


@lru_cache(maxsize=8)
def _way_to_grey(profile: bytes | None) -> ImageCms.ImageCmsTransform | None:
    """From sRGB; None where the profile describes no grey, or only the way from it."""
    from PIL import ImageCms

    if profile is None or profile_mode(profile) != "L":
        return None
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        return _way(srgb, ImageCms.ImageCmsProfile(io.BytesIO(profile)), "RGB", "L")
    except (ValueError, ImageCms.PyCMSError):
        return None


def _way(
    start: ImageCms.ImageCmsProfile, end: ImageCms.ImageCmsProfile, mode: str, end_mode: str
) -> ImageCms.ImageCmsTransform:
    """Relative colorimetric: white stays white, and what both spaces hold comes back unchanged."""
    from PIL import ImageCms

    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.buildTransform(start, end, mode, end_mode, intent, flags)


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = transform.apply(image)
    converted.info.clear()  # PIL puts the whole profile there
    return converted
