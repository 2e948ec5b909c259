"""Any PIL mode or numpy array to 8-bit 'RGB' or 'L' and an optional alpha."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overpaint.core.imaging import colour

_ROUNDING = 1e-3  # how far floats may leave 0..1 before it is no longer a rounding error


class Planes(NamedTuple):
    """The pixels of an image.

    Attributes:
        colours: 'L', 'RGB', 'CMYK' or 'LAB', 8 bit.
        alpha: 'L', or None.
        deep: (H, W, 1..4) grey or RGB, with alpha if there is any; None = they have 8 bits.
    """

    colours: Image.Image
    alpha: Image.Image | None = None
    deep: NDArray[np.uint16] | None = None


def split(image: Image.Image) -> Planes:
    """Colour ('L', 'RGB', 'CMYK' or 'LAB') and alpha ('L' or None), 8 bit, of an image of any mode.

    16-bit values are scaled (v / 257, rounded), 32-bit integers are taken as 16-bit ones, floats
    as 0..1; values outside are clipped.

    Raises:
        ValueError: the mode is unknown, or a float is not a number.
        OSError: the pixels were not loaded yet, and cannot be.
    """
    image.load()
    if image.mode.startswith("I"):
        return _split_16_bit(image)
    if image.mode == "F":
        return Planes(Image.fromarray(to_uint8(np.asarray(image).clip(0.0, 1.0))))
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    elif image.mode == "L" and image.has_transparency_data:
        image = image.convert("LA")
    elif image.mode == "P" or (image.mode != "LA" and image.has_transparency_data):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("RGBA", "LA"):
        *colour_bands, alpha = image.split()
        bands = image.mode[:-1]
        return Planes(Image.merge(bands, colour_bands), alpha)
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return Planes(image)
    return Planes(image.convert("L" if image.mode == "1" else "RGB"))


def planes_of(array: NDArray[Any], *, transparent: Any = None) -> Planes:
    """Colour and alpha of an array H x W or H x W x 1..4.

    Args:
        array: bool, uint8, uint16 (scaled by 1 / 257), or floats in 0..1.
        transparent: the one value (grey) or three values (RGB) that are see-through, if any.

    Raises:
        ValueError: shape, type or range is another.
    """
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        raise ValueError(f"an array of shape {array.shape} is not H x W or H x W x 1..4")
    values = to_uint8(array)
    channels = values.shape[2]
    alpha = None
    if channels in (2, 4):
        alpha = Image.fromarray(np.ascontiguousarray(values[..., -1]))
    elif transparent is not None:
        alpha = Image.fromarray(to_uint8(_opacity(array, transparent)))
    colours = values[..., :3] if channels >= 3 else values[..., 0]
    deep = None
    if array.dtype == np.uint16:
        deep = array if transparent is None else np.dstack([array, _opacity(array, transparent)])
    return Planes(Image.fromarray(np.ascontiguousarray(colours)), alpha, deep)


def _opacity(array: NDArray[Any], transparent: Any) -> NDArray[np.uint16]:
    opaque = (array != np.asarray(transparent)).any(axis=2)
    return np.where(opaque, np.uint16(65535), np.uint16(0))


def to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale bool, uint8, uint16 or floats in 0..1 to 0..255.

    Raises:
        ValueError: another type, a float that is not a number or outside 0..1.
    """
    if array.dtype == np.bool_:
        return np.where(array, np.uint8(255), np.uint8(0))
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ValueError("a value is not a number (NaN or infinite)")
        if array.size and (array.min() < -_ROUNDING or array.max() > 1.0 + _ROUNDING):
            raise ValueError(f"values reach from {array.min()} to {array.max()}, not 0 to 1")
        scaled: NDArray[np.uint8] = np.rint(array.clip(0, 1) * 255.0).astype(np.uint8)
        return scaled
    raise ValueError(f"values of type {array.dtype} are not bool, uint8, uint16 or floats in 0..1")


def to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Colour from `split` as 'RGB', and the profile that its values are in (None = sRGB).

    RGB values stay as they are, with their profile. Grey and CMYK go through their own profile to
    sRGB.
    """
    if image.mode == "RGB":
        return image, profile
    if image.mode == "LAB":
        return colour.lab_to_srgb(image), None
    if image.mode == "L" and colour.profile_mode(profile) == "RGB":
        return image.convert("RGB"), profile  # equal channels of that space
    return colour.to_srgb(image, profile), None


def _split_16_bit(image: Image.Image) -> Planes:
    values = np.asarray(image)
    if values.dtype != np.uint16:
        values = values.clip(0, 65535).astype(np.uint16)
    return planes_of(values, transparent=image.info.get("transparency"))
