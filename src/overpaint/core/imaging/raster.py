"""A picture's own values where 8-bit RGB does not hold them: 16 bits, or grey."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overpaint.core.imaging import colour, pixels

if TYPE_CHECKING:
    from overpaint.core.geometry import Box

_SCALE = 257
"""From 8 to 16 bits, so that white stays white."""


@dataclass(frozen=True, eq=False)
class Raster:
    """The values of a file.

    Attributes:
        values: (H, W, 1 or 3), uint8 or uint16: grey or RGB.
        alpha: (H, W), uint16; None = there is none, or it has 8 bits.
        icc_profile: of the values; None = sRGB, or its grey.
    """

    values: NDArray[Any]
    alpha: NDArray[np.uint16] | None = None
    icc_profile: bytes | None = None

    @property
    def is_grey(self) -> bool:
        return bool(self.values.shape[2] == 1)

    @property
    def is_deep(self) -> bool:
        """Whether it has 16 bits."""
        return bool(self.values.dtype == np.uint16)

    @property
    def is_plain(self) -> bool:
        """Whether `rgb` has the same in three equal channels."""
        return not self.is_deep and self.icc_profile is None

    def image(self) -> Image.Image:
        """'L' or 'RGB', 8 bit, in its own space."""
        values = pixels.to_uint8(self.values)
        return Image.fromarray(np.ascontiguousarray(values[..., 0] if self.is_grey else values))

    def rgb(self) -> tuple[Image.Image, bytes | None]:
        """'RGB', 8 bit, and the RGB profile of those values."""
        return pixels.to_rgb(self.image(), self.icc_profile)

    def from_srgb(self, image: Image.Image) -> Image.Image:
        """An sRGB image of any size in its space, 'L' or 'RGB'."""
        if self.is_grey:
            return colour.grey_from_srgb(image, self.icc_profile)
        return colour.from_srgb(image, self.icc_profile)

    def blended(self, patch: Image.Image, alpha: Image.Image, box: Box) -> Raster:
        """With a patch over a part of it.

        Args:
            patch: 'L' or 'RGB' in its own space, of the box's size.
            alpha: 'L' of that size, 255 = the patch, 0 = what was there, to the last bit.
            box: where.
        """
        over = np.asarray(patch).reshape(box.height, box.width, -1).astype(np.uint32)
        weight = np.asarray(alpha).astype(np.uint32)[..., np.newaxis]
        values = self.values.copy()
        inside = values[box.top : box.bottom, box.left : box.right]
        if self.is_deep:
            over *= _SCALE
        mixed = (over * weight + inside.astype(np.uint32) * (255 - weight) + 127) // 255
        inside[...] = mixed.astype(values.dtype)
        return replace(self, values=values)

    def resized(self, size: tuple[int, int]) -> Raster:
        """Resampled to (width, height)."""
        values = np.stack([_resized(each, size) for each in np.moveaxis(self.values, 2, 0)], axis=2)
        alpha = None if self.alpha is None else _resized(self.alpha, size)
        return replace(self, values=values, alpha=alpha)

    def with_alpha(self, alpha: Image.Image | None) -> NDArray[Any]:
        """(H, W, 1..4), with its own alpha, or else with one of 8 bits."""
        if self.alpha is not None:
            return np.dstack([self.values, self.alpha])
        if alpha is None:
            return self.values
        scale = _SCALE if self.is_deep else 1
        own: NDArray[Any] = np.asarray(alpha).astype(self.values.dtype) * self.values.dtype.type(
            scale
        )
        return np.dstack([self.values, own])


def of_planes(planes: pixels.Planes, icc_profile: bytes | None) -> Raster | None:
    """The values of a file as it was decoded; None where 8-bit RGB says it all."""
    mode, deep = planes.colours.mode, planes.deep
    if mode not in ("L", "RGB") or (mode == "RGB" and deep is None):
        return None
    if mode == "L" and colour.profile_mode(icc_profile) == "RGB":
        return None  # three equal channels of that space
    if deep is None:
        return Raster(np.asarray(planes.colours)[..., np.newaxis], None, icc_profile)
    channels = 1 if mode == "L" else 3
    alpha = deep[..., channels] if deep.shape[2] > channels else None
    return Raster(deep[..., :channels], alpha, icc_profile)


def _resized(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    image = Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.LANCZOS)
    most = np.iinfo(plane.dtype).max
    resized: NDArray[Any] = np.rint(np.asarray(image)).clip(0, most).astype(plane.dtype)
    return resized
