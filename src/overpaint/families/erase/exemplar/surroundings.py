"""What is usual around the hole, and the price of a source that is not.

A patch of known pixels is usual where many patches near the hole's rim are like it. So a wall
around the hole makes the wall cheap and a face beside it dear, and a thing that is there once costs
more than a texture that goes on. The price is minus the logarithm of that density, as a prior
enters beside a Gaussian likelihood.
"""

from __future__ import annotations

import cv2
import numpy as np

from . import kernels
from .bands import THREADS
from .pyramid import Layer, distance_of_patches
from .types import CHANNELS, Float

MOST_EXAMPLES = 400  # patches of the surroundings that sources are compared with
MOST_SOURCES = 100_000  # beyond which the hole is narrow beside its picture and needs no prices
SMALLEST = 5  # side of patches below which they show too little to be told apart
LIKENESS = 20.0  # levels by which patches may differ and still be alike
UNUSUAL = 80.0  # price, in squared levels per value of a patch, of being e times less usual
FLOOR = 1e-3  # of the density, so that what is seen nowhere has a price, too
RING = 0.5  # width of the surroundings, in sides of a square of the hole's area


def set_prices(layers: list[Layer]) -> None:
    """Sets the price of each source, found on the coarsest layer, on all of them."""
    coarsest = layers[-1]
    if coarsest.size < SMALLEST or np.count_nonzero(coarsest.allowed) > MOST_SOURCES:
        return
    surprise = _surprise(coarsest)
    for layer in layers:
        fine = np.asarray(cv2.resize(surprise, layer.hole.shape[::-1]), np.float32)
        layer.price = fine * np.float32(UNUSUAL * layer.size**2 * CHANNELS)


def _surprise(layer: Layer) -> Float:
    """Minus the logarithm of how usual the patch at each corner (H, W) is; the least is 0."""
    corners = np.argwhere(layer.allowed)
    away = distance_of_patches(layer.hole, layer.size)[layer.allowed]
    width = max(RING * np.sqrt(np.count_nonzero(layer.hole)), layer.size, away.min())
    near = np.flatnonzero(away <= width)
    examples = near[:: -(-len(near) // MOST_EXAMPLES)]
    weight = np.exp(-2 * away[examples] / width).astype(np.float32)
    patches = _outlines(layer, corners)
    density = np.zeros(len(corners), np.float32)
    unit = 2 * LIKENESS**2 * patches.shape[1]
    some = np.ascontiguousarray(patches[examples])
    THREADS.in_bands(
        len(corners),
        lambda start, stop: kernels.likeness(patches, some, weight, unit, start, stop, density),
    )
    surprise = -np.log(density / weight.sum() + FLOOR)
    result = np.zeros(layer.hole.shape, np.float32)
    result[layer.allowed] = surprise - surprise.min()
    return result


def _outlines(layer: Layer, corners: np.ndarray) -> Float:
    """The patches (n, k) at corners (n, 2): every other one of their smoothed inner pixels."""
    smooth = cv2.blur(layer.values, (3, 3))
    steps = range(1, layer.size - 1, 2)
    y, x = corners.T
    return np.ascontiguousarray(
        np.concatenate([smooth[y + down, x + right] for down in steps for right in steps], 1)
    )
