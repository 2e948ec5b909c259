"""The picture with its hole at halving sizes, and what is known about it at each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .types import BoolMask, Float, Pixels

ROUGHNESS = 5.0  # weight of the texture channel against the colours
GRAIN = (9, 9)  # neighbourhood over which texture is measured on the finest layer
DEPTH = 9.0  # pixels from the rim to the middle of the hole on the coarsest layer
NARROWEST = 24  # a layer is not halved below this side
SIZES = (7, 5, 3, 1)  # sides of a patch, the first that leaves enough sources
ENOUGH = 50
NEAR_SOURCES = 3.0  # patches within the hole's own size of it, per pixel of the hole, or
NEAR_SHARE = 0.75  # this share of what the finest layer has, where the hole is large


@dataclass(eq=False)
class Layer:
    """One size of the picture.

    Attributes:
        values: (H, W, CHANNELS) float32, contiguous; the hole holds the current filling.
        hole: (H, W), what is to be filled.
        allowed: (H, W), corners at which a source patch may lie.
        size: side of a patch.
        price: (H, W), what a source at each corner costs for being unusual.
    """

    values: Float
    hole: BoolMask
    allowed: BoolMask
    size: int
    price: Float


def build(pixels: Pixels, hole: BoolMask, source: BoolMask) -> list[Layer]:
    """The layers from fine to coarse; `source` are the known pixels that may be copied.

    Texture enters as a fourth channel, the local mean of the gradient's size (Newson et al.
    2014): on coarse layers, where texture has been averaged away, it still tells grass from sky,
    and it keeps averages of sharp patches from looking like good matches for smooth ones.

    A layer on which too few patches lie near the hole is left out: patches that span half of the
    surroundings match far things at the rim, and whole ones of those are then copied.
    """
    values = np.dstack([pixels.astype(np.float32), ROUGHNESS * _roughness(pixels, ~hole)])
    layers: list[Layer] = []
    least_nearby = 0.0
    while True:
        values = np.ascontiguousarray(values, np.float32)
        size, allowed = _sources(source)
        nearby = _nearby(hole, allowed, size)
        if layers and (
            size < SIZES[0] or nearby < least_nearby or np.count_nonzero(allowed) < ENOUGH
        ):
            return layers
        least_nearby = least_nearby or min(NEAR_SOURCES, NEAR_SHARE * nearby)
        layers.append(Layer(values, hole, allowed, size, np.zeros(hole.shape, np.float32)))
        if depth_of(hole) <= DEPTH or min(hole.shape) < 2 * NARROWEST:
            return layers
        values = halve_values(values, ~hole)
        hole, source = ~_all_of_four(~hole), _all_of_four(source)


def depth_of(hole: BoolMask) -> float:
    """Pixels from the hole's rim to its innermost point; the picture's border is not a rim."""
    if hole.all():
        return float(max(hole.shape))
    return float(cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5).max())


def distance_of_patches(hole: BoolMask, size: int) -> Float:
    """Distance (H, W) from the hole to the middle of the patch at each corner, 0 at the border."""
    away = np.zeros(hole.shape, np.float32)
    half, (height, width) = size // 2, hole.shape
    distance = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 5)
    away[: height - half, : width - half] = distance[half:, half:]
    return away


def halve_values(values: Float, known_mask: BoolMask) -> Float:
    """Means of 2x2 pixels, of the known ones where there are any (odd sides are repeated)."""
    odd = [(0, side % 2) for side in known_mask.shape]
    values = np.pad(values, [*odd, (0, 0)], mode="edge")
    weight = np.pad(known_mask, odd, mode="edge").astype(np.float32)[..., None]
    total = np.maximum(_sum_of_four(weight), 1e-6)
    return np.asarray(_sum_of_four(values * weight) / total, np.float32)


def spread_in(values: Float, hole: BoolMask) -> Float:
    """Fills the hole smoothly from its rim: averages going up, interpolation coming down."""
    if not hole.any():
        return values
    if hole.all() or min(hole.shape) < 2:
        inside = values[~hole].mean(0) if not hole.all() else np.zeros(values.shape[2])
        return np.where(hole[..., None], inside, values).astype(np.float32)
    none_of_four = ~_any_of_four(~hole)
    coarse = spread_in(halve_values(values, ~hole), none_of_four)
    height, width = hole.shape
    fine = cv2.resize(coarse, (2 * coarse.shape[1], 2 * coarse.shape[0]))
    fine = fine.reshape(2 * coarse.shape[0], 2 * coarse.shape[1], values.shape[2])
    return np.where(hole[..., None], fine[:height, :width], values)


def _sources(source: BoolMask) -> tuple[int, BoolMask]:
    """The largest patch side that leaves enough patches of source pixels, and their corners."""
    for size in SIZES:
        allowed = np.zeros_like(source)
        height, width = source.shape
        if size <= min(height, width):
            kernel = np.ones((size, size), np.uint8)
            whole = cv2.erode(source.astype(np.uint8), kernel, anchor=(0, 0)).astype(bool)
            inside = (slice(0, height - size + 1), slice(0, width - size + 1))
            allowed[inside] = whole[inside]
        if np.count_nonzero(allowed) >= ENOUGH or size == 1:
            break
    return size, allowed


def _nearby(hole: BoolMask, allowed: BoolMask, size: int) -> float:
    """Source patches within the hole's own size of it, per pixel of the hole."""
    area = int(np.count_nonzero(hole))
    near = allowed & (distance_of_patches(hole, size) <= np.sqrt(area))
    return float(np.count_nonzero(near)) / max(1, area)


def _roughness(pixels: Pixels, known_mask: BoolMask) -> Float:
    """Local mean of |gradient| (H, W), from pairs of known pixels only."""
    grey = pixels.astype(np.float32).mean(2)
    total, pairs = np.zeros_like(grey), np.zeros_like(grey)
    for here, there in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        both = known_mask[here] & known_mask[there]
        total[here] += np.abs(grey[here] - grey[there]) * both
        pairs[here] += both
    return np.asarray(cv2.blur(total, GRAIN) / np.maximum(cv2.blur(pairs, GRAIN), 1e-3))


def _sum_of_four(values: Float) -> Float:
    return values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]


def _all_of_four(mask: BoolMask) -> BoolMask:
    mask = np.pad(mask, [(0, side % 2) for side in mask.shape], mode="edge")
    return mask[::2, ::2] & mask[1::2, ::2] & mask[::2, 1::2] & mask[1::2, 1::2]


def _any_of_four(mask: BoolMask) -> BoolMask:
    return ~_all_of_four(~mask)
