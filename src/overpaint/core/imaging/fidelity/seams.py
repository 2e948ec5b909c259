"""The border of an edit: fitted to what is around it, and measured.

Just outside an edit a model's picture shows the same as the original, in slightly other colours.
That difference is spread over the edit as a membrane would (Pérez et al. 2003; in the form of
Farbman et al. 2009 and 2011 each pixel of the ring counts by its distance), and added. So colours
meet at the border, and gradients inside stay the model's. The original's pixels are not touched.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overpaint.core.geometry import Box
from overpaint.core.imaging import changes
from overpaint.core.imaging.fidelity.arrays import FloatPlane, RegionMask

RING = 1
"""Width of the ring around an edit, in pixels that belong together (`changes.radius`)."""

SHADE = 24.0
"""Levels of 255 by which another shade differs. More is another thing, which the mask cuts or the
model painted: its colours must not bleed into the edit, so they end near the border."""

FADING = 2.0
"""How far they reach, in widths of the soft edge: it is softer where the two differ more."""

LEAST = 0.5
"""Levels of 255; where the ring differs by less on average, nothing is done."""

CLIPPED = 24.0
"""Colour difference (CIE 1976) above which a step in the border score counts no more."""

_FALL = 0.35
"""By which each octave of distance counts less: weights fall with its power of 3.5."""


def fitted(before: Image.Image, edited: Image.Image, alpha: Image.Image) -> Image.Image:
    """The edited picture with its colours fitted to what is around the edit.

    Args:
        before: 'RGB', the original.
        edited: 'RGB' of the same size, shown where `alpha` is not 0.
        alpha: 'L' of the same size.

    Returns:
        'RGB'; `edited` itself where it fits already, or where nothing is around it.
    """
    inside = alpha.getbbox()
    if inside is None:
        return edited
    unit = changes.radius(before)
    box = Box(*inside).grow(4 * unit).clip(Box.of_size(before.size)).as_tuple()
    original, own = (np.asarray(each.crop(box)) for each in (before, edited))
    values = np.asarray(alpha.crop(box))
    edit = values > 0
    ring = _ring(edit, RING * unit)
    around = original[ring].astype(np.float32) - own[ring]
    if not around.size or np.abs(around.mean(axis=0)).max() < LEAST:
        return edited
    difference = original.astype(np.float32) - own
    is_shade = np.exp(-np.square(np.abs(difference).max(axis=2) / (1.5 * SHADE)))
    correction = _spread(difference, ring * is_shade).clip(-SHADE, SHADE)
    inward = _distance(edit)
    reach = FADING * _softness(values, inward)
    if reach:
        whole = _spread(difference, ring.astype(np.float32))
        correction += (whole - correction) * np.exp(-np.square(inward / reach))[..., None]
    patch = np.where(edit[..., None], np.rint(own + correction).clip(0, 255), own)
    result = edited.copy()
    result.paste(Image.fromarray(patch.astype(np.uint8)), box)
    return result


def border(before: Image.Image, after: Image.Image, alpha: Image.Image) -> float | None:
    """How much of a border an edit shows, in colour difference (CIE 1976): 0 = none.

    The mean step from a strip around the edit to one inside it, beyond the soft part of `alpha`,
    less the mean step between two strips around it that are as far apart.

    Args:
        before: 'RGB', the original.
        after: 'RGB' of the same size, the result.
        alpha: 'L' of the same size, 255 = the edit.

    Returns:
        None where there is no border, or no room beside it.
    """
    inside = alpha.getbbox()
    if inside is None:
        return None
    width = 2 * changes.radius(before)
    box = Box(*inside).grow(6 * width).clip(Box.of_size(before.size)).as_tuple()
    values = np.asarray(alpha.crop(box))
    outward, inward = (_distance(values == 0), _distance(values > 0))
    soft = min(_softness(values, inward), 4.0 * width)
    strips = (
        (outward > 0) & (outward <= width),
        (outward > width + soft) & (outward <= 2 * width + soft),
        (inward > soft) & (inward <= width + soft),
    )
    lab = changes.lab(after.crop(box))
    reach = 2 * (width + soft)
    near, far, within = (_local_mean(lab, each, reach) for each in strips)
    contour = (outward > 0) & (outward <= 1.5) & np.isfinite((near + far + within).sum(axis=2))
    if contour.sum() < 16:
        return None
    step, usual = (
        np.minimum(np.linalg.norm((near - other)[contour], axis=1), CLIPPED)
        for other in (within, far)
    )
    return float(max(0.0, step.mean() - usual.mean()))


def _ring(edit: RegionMask, width: int) -> RegionMask:
    """What lies around an edit, up to so many pixels away."""
    outward = _distance(~edit)
    return np.asarray((outward > 0) & (outward <= width))


def _distance(of: RegionMask) -> FloatPlane:
    """Of each marked pixel, to the nearest one that is not; large where all are."""
    if of.all():
        return np.full(of.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform(of.astype(np.uint8), cv2.DIST_L2, 5), np.float32)


def _softness(alpha: NDArray[np.uint8], inward: FloatPlane) -> float:
    """Pixels over which the alpha rises to its full value at the edge."""
    partial = (alpha > 0) & (alpha < 255) & np.isfinite(inward)
    return float(np.quantile(inward[partial], 0.9)) if partial.any() else 0.0


def _local_mean(lab: FloatPlane, strip: RegionMask, reach: float) -> FloatPlane:
    """(H, W, 3), the mean of a strip's pixels near each pixel; NaN where there are too few."""
    side = 2 * round(reach) + 1
    share = cv2.boxFilter(strip.astype(np.float32), -1, (side, side))
    mean = cv2.boxFilter(lab * strip[..., None].astype(np.float32), -1, (side, side))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(share[..., None] > 4 / side**2, mean / share[..., None], np.nan)


def _spread(values: FloatPlane, weight: FloatPlane) -> FloatPlane:
    """(H, W, 3) values at every pixel from those that have a weight, the nearest counting most."""
    levels = [np.dstack([values * weight[..., None], weight])]
    while min(levels[-1].shape[:2]) > 2:
        levels.append(cv2.pyrDown(levels[-1]))
    total = levels[-1]
    for level in reversed(levels[:-1]):
        size = (level.shape[1], level.shape[0])
        total = level + _FALL * cv2.pyrUp(total, dstsize=size)
    return np.asarray(total[..., :3] / np.maximum(total[..., 3:], 1e-9), np.float32)
