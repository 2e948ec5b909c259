"""ICC profiles: from a picture's colour space to sRGB and back, through LittleCMS."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image, ImageCms

_MODES_BY_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_LARGEST_PROFILE = 4 * 2**20  # bytes; what is longer is no profile, and would fill the cache


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
    """The image in sRGB, as 'RGB'.

    A profile that is missing, broken, made for another kind of image or without a way back says
    nothing about the pixels; they are then taken as they are.
    """
    ways = _ways(profile, image.mode)
    return _apply(ways.there, image) if ways else image.convert("RGB")


def from_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An sRGB image in the 'RGB' space of the profile; the way back from `to_srgb`."""
    ways = _ways(profile, "RGB")
    return _apply(ways.back, image) if ways and ways.back else image


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
    # Relative colorimetric: white stays white, and what both spaces hold comes back unchanged.
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        there = ImageCms.buildTransform(own, srgb, mode, "RGB", intent, flags)
        if mode != "RGB":
            return _Ways(there, None)
        return _Ways(there, ImageCms.buildTransform(srgb, own, "RGB", "RGB", intent, flags))
    except (ValueError, ImageCms.PyCMSError):
        return None


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = transform.apply(image)
    converted.info.clear()  # PIL puts the whole profile there
    return converted
