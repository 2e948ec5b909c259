"""Growing, filling, feathering and fitting masks ('L', 255 = repaint)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops

from overpaint.core.geometry import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_DISC = 32  # a dilation costs the square of its radius, so that larger ones are chained


def invert(mask: Image.Image) -> Image.Image:
    """Repaint what the mask keeps, and keep what it repaints."""
    return ImageChops.invert(mask)


def fit(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The mask stretched to (width, height), for pictures whose mask came in another size.

    Linear, so that nothing is marked beside a mark: sharper filters swing there.
    """
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def grow(mask: Image.Image, pixels: int) -> Image.Image:
    """Each marked pixel becomes a disc of radius `pixels`; below 0 the mask shrinks in the same
    way.

    Soft values spread as they are; over more than 32 pixels their discs fall short of the circle
    by about one percent. The picture's border neither grows nor shrinks a mask.
    """
    if pixels < 0:
        return invert(grow(invert(mask), -pixels))
    inside = mask.getbbox()
    if inside is None or pixels == 0:
        return mask.copy()
    area = Box(*inside).grow(pixels).clip(Box.of_size(mask.size)).as_tuple()
    result = mask.copy()
    result.paste(Image.fromarray(_dilate(np.asarray(mask.crop(area)), pixels)), area)
    return result


def fill_holes(mask: Image.Image) -> Image.Image:
    """Mark what is enclosed: pixels under 128 that no path of such pixels joins to the border."""
    import cv2

    inside = mask.getbbox()
    if inside is None:
        return mask.copy()
    solid = (np.asarray(mask.crop(inside)) >= 128).astype(np.uint8)
    outside = np.pad(solid, 1)
    cv2.floodFill(outside, None, (0, 0), 2)
    holes = Image.fromarray(np.where(outside[1:-1, 1:-1] == 0, np.uint8(255), np.uint8(0)))
    result = mask.copy()
    result.paste(255, inside, holes)
    return result


def feather(mask: Image.Image, pixels: int) -> Image.Image:
    """Soften the mask's edge inwards, so that nothing outside the mask is touched.

    From each edge towards the inside the mask rises smoothly from 0 to its own value over `pixels`,
    or over the mask's own thickness where it is thinner, so that thin strokes keep full strength.
    The picture's border is not an edge.

    Args:
        mask: 255 = repaint; soft values are kept as the ceiling.
        pixels: length of the rise, >= 0.
    """
    import cv2

    inside = mask.getbbox()
    if inside is None or pixels <= 0:
        return mask.copy()
    # One pixel around, where the picture goes on, so that the mask's own edges are seen.
    area = Box(*inside).grow(1).clip(Box.of_size(mask.size)).as_tuple()
    own = np.array(mask.crop(area))
    if own.all():
        return mask.copy()
    depth = cv2.distanceTransform(own, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    np.minimum(depth, np.float32(pixels), out=depth)
    thickness = _largest_within(depth, pixels)
    edge = (depth < thickness) & (own > 0)
    rise = depth[edge] / thickness[edge]
    own[edge] = np.rint(own[edge] * rise * rise * (3 - 2 * rise))
    feathered = mask.copy()
    feathered.paste(Image.fromarray(own), area)
    return feathered


def _largest_within(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """The largest value in the square of `radius` around each pixel."""
    import cv2

    square = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(values, square), np.float32)


def _dilate(values: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """Grey dilation with a disc of x² + y² <= radius²."""
    import cv2

    if ((values == 0) | (values == 255)).all():
        # Hard masks: the distance to the nearest marked pixel costs the same for every radius.
        distance = cv2.distanceTransform(255 - values, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.where(distance <= radius, np.uint8(255), np.uint8(0))
    while radius > 0:
        part = min(radius, _LARGEST_DISC)
        reach = np.arange(-part, part + 1) ** 2
        disc = (reach[:, np.newaxis] + reach <= part * part).astype(np.uint8)
        values = np.asarray(cv2.dilate(values, disc))
        radius -= part
    return values
