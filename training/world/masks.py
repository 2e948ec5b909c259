"""Masks around a region: boxes, brush strokes, segments. Boolean arrays, True = repaint."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
MaskKind = Literal["box", "stroke", "segment"]
MASK_KINDS: tuple[MaskKind, ...] = ("box", "stroke", "segment")


def bounding_box(region: Mask) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the True pixels, right and bottom exclusive."""
    ys, xs = np.nonzero(region)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def box_around(rng: np.random.Generator, region: Mask, margin: float) -> Mask:
    """The region's bounding box, each side moved out by up to `margin` of the picture's side."""
    size = region.shape[0]
    left, top, right, bottom = bounding_box(region)
    out = (rng.uniform(0.01, max(margin, 0.011), 4) * size).round().astype(int)
    mask = np.zeros_like(region)
    mask[max(0, top - out[0]) : bottom + out[1], max(0, left - out[2]) : right + out[3]] = True
    return mask


def strokes_over(rng: np.random.Generator, region: Mask) -> Mask:
    """Thick brush strokes that hide the region altogether."""
    size = region.shape[0]
    left, top, right, bottom = bounding_box(region)
    canvas = region.astype(np.uint8)
    width = max(3, round(0.14 * size))
    for _ in range(int(rng.integers(2, 5))):
        points = np.stack(
            [rng.uniform(left, right, 4), rng.uniform(top, bottom, 4)], axis=1
        ).astype(np.int32)
        cv2.polylines(canvas, [points], False, (1,), width)
    return grown(canvas.astype(bool), 0.03)


def segment_of(rng: np.random.Generator, region: Mask) -> Mask:
    """The region as a segmenter would give it: its outline, somewhat grown."""
    return grown(region, float(rng.uniform(0.02, 0.06)))


def grown(region: Mask, by: float) -> Mask:
    """The region grown by a share of the picture's side, with round corners."""
    radius = max(1, round(by * region.shape[0]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(region.astype(np.uint8), kernel), bool)


def mask_over(rng: np.random.Generator, region: Mask, kind: MaskKind, margin: float = 0.08) -> Mask:
    """A mask of that kind that hides the region."""
    if kind == "box":
        return box_around(rng, region, margin)
    if kind == "stroke":
        return strokes_over(rng, region)
    return segment_of(rng, region)
