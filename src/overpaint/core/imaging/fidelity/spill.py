"""An edit that goes on beyond its mask: found, so that the blend can follow it or a warning can."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from overpaint.core.imaging import changes

NOISE = 4.0
"""Times the usual difference far from the edit: smaller differences are no edit."""

LEAST_SHARE = 0.02
"""Share of the masked area: an edit that goes on beyond it by less is not reported."""


def beyond(before: Image.Image, edited: Image.Image, blend: Image.Image) -> Image.Image | None:
    """Where an edit goes on outside of its mask.

    Args:
        before: 'RGB', the original on the canvas.
        edited: 'RGB' of the same size, as the model returned it.
        blend: 'L' of the same size, not 0 = inside the mask.

    Returns:
        'L', 255 = the edit goes on here; None where it ends in its mask.
    """
    inside = np.asarray(blend) > 0
    if inside.all() or not inside.any():
        return None
    radius = changes.radius(before)
    smooth = cv2.GaussianBlur(changes.colour_difference(before, edited), (0, 0), radius)
    strong = (smooth >= max(changes.STRONG, NOISE * float(np.median(smooth[~inside])))) & ~inside
    _, parts = cv2.connectedComponents(strong.astype(np.uint8), connectivity=8)
    border = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    touching = np.unique(parts[border & strong])
    region = np.isin(parts, touching[touching > 0])
    if region.sum() < LEAST_SHARE * inside.sum():
        return None
    return Image.fromarray(region.astype(np.uint8) * np.uint8(255), mode="L")
