"""ICC profiles: from a picture's colour space to sRGB and back, through LittleCMS."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageCms

_MODES_BY_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@lru_cache(maxsize=32)
def profile_mode(profile: bytes | None) -> str | None:
    """The PIL mode that a profile describes: 'RGB', 'L' or 'CMYK'; None for a broken one."""
    from PIL import ImageCms

    if not profile:
        return None
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space
    except (OSError, ImageCms.PyCMSError):
        return None
    return _MODES_BY_SPACE.get(space.strip())


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB, as 'RGB'.

    A profile that is missing, broken or made for another kind of image says nothing about the
    pixels; they are then taken as they are.
    """
    transform = _transform(profile, image.mode, forward=True)
    return transform.apply(image) if transform else image.convert("RGB")


def from_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An sRGB image in the 'RGB' space of the profile; the way back from `to_srgb`."""
    transform = _transform(profile, "RGB", forward=False)
    return transform.apply(image) if transform else image


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """A 'LAB' image (CIE L*a*b*, D50) in sRGB."""
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)


@lru_cache(maxsize=32)
def _transform(
    profile: bytes | None, mode: str, *, forward: bool
) -> ImageCms.ImageCmsTransform | None:
    """The way from `profile` to sRGB (or back); None where the profile does not describe `mode`."""
    from PIL import ImageCms

    if profile is None or profile_mode(profile) != mode:
        return None
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    ends = (own, srgb, mode, "RGB") if forward else (srgb, own, "RGB", mode)
    try:
        # Relative colorimetric: white stays white, and what both spaces hold comes back unchanged.
        return ImageCms.buildTransform(
            *ends,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except ImageCms.PyCMSError:
        return None
