"""Looks at pictures without learning: which palette colour is where, and which shape it has."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.world.masks import Mask
from training.world.palette import COLOURS, SHAPES
from training.world.render import Picture, coverage
from training.world.scene import Thing

MIN_CHROMA = 24.0
"""Lab chroma that no ground reaches and every thing does."""

MAX_DISTANCE = 34.0
"""Lab distance to the palette beyond which a pixel has no named colour."""

_DROPPED_BITS = 2
_PATCH = 48
_PATCH_AREA = 700.0
_ROTATIONS = np.radians(np.arange(-20, 21, 5))


@dataclass(frozen=True)
class Found:
    """The largest patch of one colour: its name, best shape, that shape's IoU, area and centre.

    `area` is a share of the picture, `x` and `y` are in units of its side.
    """

    colour: str
    shape: str
    iou: float
    area: float
    x: float
    y: float


def to_lab(picture: Picture) -> NDArray[np.float32]:
    """CIE Lab, L in 0..100."""
    scaled = picture.astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB), np.float32)


@functools.cache
def _palette_lab() -> NDArray[np.float32]:
    swatch = np.array([list(COLOURS.values())], np.uint8)
    return np.asarray(to_lab(swatch)[0], np.float32)


def colour_map(picture: Picture) -> NDArray[np.int8]:
    """For each pixel the index of its named colour in COLOURS, or -1 for the ground."""
    red, green, blue = np.moveaxis(picture >> _DROPPED_BITS, -1, 0)
    return np.asarray(_colour_table()[red, green, blue], np.int8)


@functools.cache
def _colour_table() -> NDArray[np.int8]:
    """The named colour of every sRGB value, at six bits a channel."""
    levels = np.arange(0, 256, 1 << _DROPPED_BITS, dtype=np.uint8) + (1 << _DROPPED_BITS) // 2
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    lab = to_lab(cube.reshape(len(levels), -1, 3)).reshape(cube.shape)
    weights = np.array([0.5, 1, 1], np.float32)
    distances = np.linalg.norm((lab[..., None, :] - _palette_lab()) * weights, axis=-1)
    nearest = distances.argmin(axis=-1).astype(np.int8)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    nearest[(distances.min(axis=-1) > MAX_DISTANCE) | (chroma < MIN_CHROMA)] = -1
    return np.asarray(nearest, np.int8)


def largest_patch(region: Mask) -> Mask:
    """The largest connected part of a region."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
    if count < 2:
        return np.zeros_like(region)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def find_thing(picture: Picture, within: Mask | None = None, least: float = 0.006) -> Found | None:
    """The largest thing (by its dominant colour) inside a region.

    Args:
        picture: the picture to look at.
        within: where to look; None looks everywhere.
        least: smallest area that counts, as a share of the picture.
    """
    names = colour_map(picture)
    if within is not None:
        names = np.where(within, names, np.int8(-1))
    areas = [int((names == index).sum()) for index in range(len(COLOURS))]
    dominant = int(np.argmax(areas))
    patch = largest_patch(names == dominant)
    if patch.mean() < least:
        return None
    shape, iou = name_shape(patch)
    ys, xs = np.nonzero(patch)
    height, width = patch.shape
    return Found(
        colour=list(COLOURS)[dominant],
        shape=shape,
        iou=iou,
        area=float(patch.mean()),
        x=float((xs.mean() + 0.5) / width),
        y=float((ys.mean() + 0.5) / height),
    )


def name_shape(patch: Mask) -> tuple[str, float]:
    """The shape whose outline, at the best rotation, overlaps the patch most, and the IoU."""
    normal = _normalised(patch.astype(np.float32)).ravel() > 0.5
    names, bank = _template_bank()
    both = (bank & normal).sum(axis=1)
    either = (bank | normal).sum(axis=1)
    ious = both / np.maximum(either, 1)
    best = int(ious.argmax())
    return names[best], float(ious[best])


def _normalised(patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """The patch moved to the middle of a small square and scaled to a fixed area."""
    mass = float(patch.sum())
    ys, xs = np.mgrid[0 : patch.shape[0], 0 : patch.shape[1]]
    scale = math.sqrt(_PATCH_AREA / mass)
    x, y = float((xs * patch).sum() / mass), float((ys * patch).sum() / mass)
    middle = (_PATCH - 1) / 2
    move = np.array([[scale, 0, middle - scale * x], [0, scale, middle - scale * y]])
    return np.asarray(cv2.warpAffine(patch, move, (_PATCH, _PATCH)), np.float32)


@functools.cache
def _template_bank() -> tuple[list[str], NDArray[np.bool_]]:
    names: list[str] = []
    masks: list[NDArray[np.bool_]] = []
    for shape in SHAPES:
        for rotation in _ROTATIONS:
            drawn = coverage(Thing("", shape, 0.5, 0.5, 0.3, float(rotation)), 128)
            names.append(shape)
            masks.append(_normalised(drawn).ravel() > 0.5)
    return names, np.stack(masks)


def iou(first: Mask, second: Mask) -> float:
    """Intersection over union; 1 where both are empty."""
    either = int((first | second).sum())
    return 1.0 if either == 0 else float((first & second).sum() / either)


def shows_thing(picture: Picture, thing: Thing, least: float = 0.6) -> bool:
    """Whether the thing is there: right colour, and IoU with its true outline of at least that."""
    outline = coverage(thing, picture.shape[0]) > 0.5
    near = cv2.dilate(outline.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    painted = (colour_map(picture) == list(COLOURS).index(thing.colour)) & near
    return iou(painted, outline) >= least
