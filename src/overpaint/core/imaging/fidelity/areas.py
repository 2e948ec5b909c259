"""What an edit without a mask changed: separate areas, and which of them nobody asked for.

As in Canny's edge detector, clear differences are the cores of areas, and weaker ones that touch
them belong to them (soft shadows). A model that paints a picture again also moves the outlines of
things by less than a pixel and changes their shades a little. So differences that a neighbouring
pixel explains do not count. If the place of what the instruction names is known, areas far from it
are put back; otherwise those that are small beside the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overpaint.core.geometry import Box, Size
from overpaint.core.imaging import changes

LEAST_WEIGHT = 0.1
"""Share of the largest area's weight (difference times pixels) below which an area is put back."""

NEAR = 0.05
"""Share of the picture's longer side within which an area is at what the instruction names: shadows
and reflections are."""

NOISE = 3.0
"""Times the picture's usual difference: what is less belongs to no area."""

WEAKEST, STRONGEST_NOISE = changes.WEAK, 2 * changes.WEAK
"""Bounds of that, in CIE76 colour difference."""

RADIUS = 2
"""Pixels that belong together (`changes.radius`) in the copies of larger pictures that are looked
at."""

MOST_AREAS = 64
"""Areas that are listed; smaller ones are put back unlisted."""


@dataclass(frozen=True, kw_only=True)
class ChangedArea:
    """One of several separate changes.

    Attributes:
        box: around it, in pixels of the picture.
        share: of the picture's pixels.
        difference: mean colour difference in its core (CIE 1976).
        kept: whether it is in the result; False = nobody asked for it, so it was put back.
    """

    box: Box
    share: float
    difference: float
    kept: bool

    def as_json(self) -> dict[str, object]:
        """Plain data, rounded for people."""
        return {
            "box": list(self.box.as_tuple()),
            "share": round(self.share, 5),
            "difference": round(self.difference, 1),
            "kept": self.kept,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class ChangeMap:
    """Where a picture changed.

    Attributes:
        mask: 'L', 255 = the edit, 0 = put the original back; None = most of the picture changed.
        areas: the largest first.
    """

    mask: Image.Image | None
    areas: tuple[ChangedArea, ...] = ()


@dataclass(frozen=True, eq=False)
class _Cores:
    """Connected clear differences.

    Attributes:
        labels: (H, W), 0 = none.
        weights: by label, differences summed.
        pixels: by label, how many.
    """

    labels: NDArray[np.int32]
    weights: NDArray[np.float64]
    pixels: NDArray[np.int64]


def change_map(
    before: Image.Image,
    after: Image.Image,
    *,
    keep: Collection[int] | None = None,
    target: Image.Image | None = None,
) -> ChangeMap:
    """Find the separate changes between two 'RGB' pictures of equal size.

    Args:
        before: the picture as the model would return it unedited (through its autoencoder, so
            that the autoencoder's own error does not count as change).
        after: the edited picture.
        keep: numbers of the areas that stay, from 1, the largest first; None = those at the
            target.
        target: 'L' of the same size, not 0 = what the instruction names; None = all areas stay
            that are not small beside the largest.
    """
    factor = max(1, changes.radius(before) // RADIUS)
    small = [each.reduce(factor) for each in (before, after)]
    aim = None if target is None else target.reduce(factor)
    radius = changes.radius(small[0])
    labs = [changes.lab(each) for each in small]
    plain = np.linalg.norm(labs[0] - labs[1], axis=2).astype(np.float32)
    smooth = cv2.GaussianBlur(plain, (0, 0), radius)
    if changes.hysteresis(smooth).mean() > changes.GLOBAL_SHARE:
        return ChangeMap(mask=None)
    # An outline that wanders is in both pictures; one that goes is in one of them.
    wandering = np.minimum(*(_slope(each) for each in labs))
    difference = cv2.GaussianBlur(np.maximum(0, plain - wandering), (0, 0), radius)
    weakest = min(max(WEAKEST, NOISE * 1.4826 * float(np.median(smooth))), STRONGEST_NOISE)
    cores = _cores(difference)
    owners = _owners(difference >= weakest, cores)
    listed = (np.argsort(-cores.weights[1:], kind="stable")[:MOST_AREAS] + 1).tolist()
    if keep is not None:
        stay = [label for number, label in enumerate(listed, start=1) if number in keep]
    elif aim is not None:
        stay = _at(aim, owners, listed)
    else:
        stay = _large(cores, listed)
    areas = tuple(_area(owners, cores, label, label in stay) for label in listed)
    mask = changes.softened(np.isin(owners, stay).astype(np.uint8), radius)
    if factor > 1:
        size = mask.width * factor, mask.height * factor
        mask = mask.resize(size, Image.Resampling.BILINEAR).crop((0, 0, *before.size))
        areas = placed(areas, lambda box: _enlarged(box, factor, before.size))
    return ChangeMap(mask=mask, areas=areas)


def placed(areas: tuple[ChangedArea, ...], to: Callable[[Box], Box]) -> tuple[ChangedArea, ...]:
    """The same areas with their boxes somewhere else."""
    return tuple(replace(each, box=to(each.box)) for each in areas)


def _enlarged(box: Box, factor: int, size: Size) -> Box:
    """A box of the shrunk picture in the one of (width, height)."""
    sides = (factor * side for side in box.as_tuple())
    return Box(*sides).clip(Box.of_size(size))


def _slope(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W), how much colour changes from a pixel to the next, in each one's neighbourhood."""
    across, down = (
        cv2.Sobel(lab, cv2.CV_32F, *direction, ksize=3, scale=1 / 8)
        for direction in ((1, 0), (0, 1))
    )
    slope = np.sqrt((across * across + down * down).sum(axis=2))
    return np.asarray(cv2.dilate(slope, np.ones((3, 3), np.uint8)), np.float32)


def _cores(difference: NDArray[np.float32]) -> _Cores:
    strong = (difference >= changes.STRONG).astype(np.uint8)
    count, labels = cv2.connectedComponents(strong, connectivity=8)
    sums = np.bincount(labels.ravel(), weights=difference.ravel(), minlength=count)
    weights = np.asarray(sums, np.float64)
    weights[0] = 0
    pixels = np.bincount(labels.ravel(), minlength=count)
    return _Cores(np.asarray(labels, np.int32), weights, pixels)


def _owners(weak: NDArray[np.bool_], cores: _Cores) -> NDArray[np.int32]:
    """(H, W), the label of the core that a pixel belongs to: the nearest; 0 = to none."""
    is_core = cores.labels > 0
    if not is_core.any():
        return np.zeros(weak.shape, np.int32)
    _, parts = cv2.connectedComponents(weak.astype(np.uint8), connectivity=8)
    touched = np.zeros(parts.max() + 1, bool)
    touched[parts[is_core]] = True
    touched[0] = False
    _, nearest = cv2.distanceTransformWithLabels(
        (~is_core).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    label_of = np.zeros(nearest.max() + 1, np.int32)
    label_of[nearest[is_core]] = cores.labels[is_core]
    return np.where(touched[parts] | is_core, label_of[nearest], 0).astype(np.int32)


def _large(cores: _Cores, listed: Sequence[int]) -> list[int]:
    """Labels of the areas that are not small beside the largest."""
    least = LEAST_WEIGHT * cores.weights.max()
    return [label for label in listed if cores.weights[label] >= least]


def _at(target: Image.Image, owners: NDArray[np.int32], listed: Sequence[int]) -> list[int]:
    """Labels of the areas at what the instruction names."""
    away = (np.asarray(target) == 0).astype(np.uint8)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, 3)
    there = np.unique(owners[distance <= NEAR * max(owners.shape)])
    return [label for label in listed if label in there]


def _area(owners: NDArray[np.int32], cores: _Cores, label: int, is_kept: bool) -> ChangedArea:
    own = (owners == label).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(own)
    return ChangedArea(
        box=Box(left, top, left + width, top + height),
        share=float(own.mean()),
        difference=float(cores.weights[label] / cores.pixels[label]),
        kept=is_kept,
    )
