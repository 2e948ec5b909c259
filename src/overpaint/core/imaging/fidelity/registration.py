"""How far a model moved a picture: shift, zoom and rotation, found to a fraction of a pixel.

Gauss-Newton on two pictures' details with robust weights (iteratively reweighted least squares,
Tukey's biweight) from coarse to fine, after Lucas & Kanade 1981 and Baker & Matthews 2004. Edited
areas do not fit any movement of the whole, so their weights fall to nothing. Details are compared,
not colours: what is left after a local mean is taken away, divided by local contrast, so that a
tint or another gamma is no movement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overpaint.core.imaging.fidelity.arrays import FloatPlane, RgbPixels

FINEST = 512
"""Longer side, in pixels, at which the last level is compared."""

SMALL = 192
"""Shorter side, in pixels, below which a level is searched from many places."""

COARSEST = 64
"""Shorter side, in pixels, of the first level."""

SMALLEST = 16
"""Shorter side, in pixels, of a picture in which a movement can be told from an edit."""

STEPS = 8
"""Gauss-Newton steps on a level at most."""

STILL = 0.01
"""Pixels of a step below which a level's search ends."""

LEAST_AGREEING = 0.15
"""Share of a picture's details that must agree on a movement."""

LEAST_TILES, LEAST_SPREAD = 3, 0.19
"""Tiles, of 8 x 8, that must agree on it, and how far they spread: standard deviation of their
places, as a share of a side. The tiles of a thing that moves alone lie close together."""

EXPLAINED = 0.7
"""Share of a detail's energy that a movement has to explain where the detail agrees on it."""

DOUBTFUL = 0.3
"""Share of the details that agree below which the next level is searched from the start, too."""

ZOOMS = (1.0, 0.97, 1.03, 0.92, 1.08)
"""Factors from which the search begins."""

MOST_ZOOM, MOST_SHIFT, MOST_DEGREES = 0.12, 0.12, 4.0
"""Beyond these a search has gone astray: a share, a share of the shorter side, and degrees."""

LEAST_MOVED = 0.1
"""Pixels by which some corner has to move before a movement counts."""

SURE = 150.0
"""Squared distance from 'did not move', in standard errors, from which a movement is none by
chance."""

LEAST_GAIN = 0.004
"""Share by which a movement must lessen the differences of what agrees on it, and as much again
for every pixel that it is long."""

BUSY = 0.1
"""Energy from which a neighbourhood has details: twice that of noise of 2 levels."""

FEWEST_BUSY = 0.005
"""Share of a picture's pixels below which its details say nothing of how it differs."""

_TUKEY = 4.685
_LOCAL = 3.0  # pixels: standard deviation of the local mean
_FLAT = 4.0  # levels of contrast below which an area has no details
_TILES = 8  # along each side, for the standard errors


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A movement of a whole picture.

    Attributes:
        size: (width, height) of the picture.
        right, down: pixels by which its middle moved.
        along, across: zoom and rotation in one: x' = x + along · x - across · y from the middle.
    """

    size: tuple[int, int]
    right: float = 0.0
    down: float = 0.0
    along: float = 0.0
    across: float = 0.0

    @property
    def shift(self) -> float:
        """Pixels by which the middle moved."""
        return math.hypot(self.right, self.down)

    @property
    def zoom(self) -> float:
        """Factor about the middle."""
        return math.hypot(1 + self.along, self.across)

    @property
    def degrees(self) -> float:
        """Rotation about the middle, clockwise."""
        return math.degrees(math.atan2(self.across, 1 + self.along))

    @property
    def farthest(self) -> float:
        """Pixels by which a corner moved at most."""
        width, height = (side / 2 for side in self.size)
        return max(
            math.hypot(
                self.right + self.along * x - self.across * y,
                self.down + self.across * x + self.along * y,
            )
            for x in (-width, width)
            for y in (-height, height)
        )

    def matrix(self) -> NDArray[np.float64]:
        """(2, 3), from places in the picture before to places in the one that moved."""
        width, height = self.size
        turn = np.array([[1 + self.along, -self.across], [self.across, 1 + self.along]])
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        return np.column_stack([turn, middle - turn @ middle + np.array([self.right, self.down])])

    def scaled(self, size: tuple[int, int]) -> Motion:
        """The same movement of the picture in another size."""
        factor = size[0] / self.size[0]
        return Motion(
            size=size,
            right=self.right * factor,
            down=self.down * factor,
            along=self.along,
            across=self.across,
        )

    def plus(self, step: NDArray[np.float64]) -> Motion:
        """With a Gauss-Newton step added: right, down, along, across."""
        right, down, along, across = step.tolist()
        return Motion(
            size=self.size,
            right=self.right + right,
            down=self.down + down,
            along=self.along + along,
            across=self.across + across,
        )

    def undone(self, pixels: RgbPixels) -> RgbPixels:
        """The moved picture, put back to where it was; its own edge is repeated beyond it."""
        width, height = self.size
        return np.asarray(
            cv2.warpAffine(
                pixels,
                self.matrix(),
                (width, height),
                flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            np.uint8,
        )

    def visible(self) -> NDArray[np.bool_]:
        """(H, W), where the moved picture still shows what was there before."""
        width, height = self.size
        inside = cv2.warpAffine(
            np.full((height, width), 255, np.uint8),
            self.matrix(),
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )
        return np.asarray(inside == 255)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Where a level's search ended.

    Attributes:
        motion: the movement.
        agreeing: share of the details that agree on it.
        tiles: rows and columns of the tiles whose details do.
        normal: (4, 4), of the last step.
        pulls: (tiles, 4), each tile's part of the right-hand side there.
        error: mean weighted square of the differences.
        still: the same, with the same weights, had nothing moved.
    """

    motion: Motion
    agreeing: float
    tiles: NDArray[np.int64]
    normal: NDArray[np.float64]
    pulls: NDArray[np.float64]
    error: float
    still: float

    @property
    def certainty(self) -> float:
        """Squared distance from 'did not move', in standard errors.

        Neighbouring pixels are not independent, so the errors come from tiles (a cluster-robust
        sandwich, Liang & Zeger 1986).
        """
        motion = self.motion
        place = np.array([motion.right, motion.down, motion.along, motion.across])
        inner = self.pulls.T @ self.pulls + 1e-12 * np.trace(self.normal) * np.eye(4)
        turned = self.normal @ place
        return float(turned @ np.linalg.solve(inner, turned))

    @property
    def is_sure(self) -> bool:
        """Whether it is a movement of the whole, and none by chance."""
        is_spread = (
            self.tiles.shape[1] >= LEAST_TILES
            and np.hypot(*self.tiles.std(axis=1)) >= LEAST_SPREAD * _TILES
        )
        gain = LEAST_GAIN * (1 + self.motion.farthest)
        is_better = self.error < (1 - gain) * self.still
        is_shared = self.agreeing >= LEAST_AGREEING
        return is_spread and is_better and is_shared and self.certainty >= SURE


def register(before: RgbPixels, after: RgbPixels) -> Motion | None:
    """How a model moved a picture as a whole.

    Args:
        before: (H, W, 3), as it should lie.
        after: (H, W, 3), as it lies; a part of it may be edited.

    Returns:
        The movement in pixels of these pictures; None where there is none that is certain.
    """
    height, width = before.shape[:2]
    if min(height, width) < SMALLEST:
        return None
    levels = _levels(before, after)[::-1]
    if min(levels[0][0].shape) < SMALLEST:
        return None
    fit = _searched(levels)
    if fit is None or not fit.is_sure:
        return None
    motion = fit.motion.scaled((width, height))
    return motion if motion.farthest >= LEAST_MOVED else None


def _searched(levels: Sequence[tuple[FloatPlane, FloatPlane]]) -> _Fit | None:
    """Where the search from coarse to fine ends; None where it goes astray."""
    coming: list[_Fit] = []
    for number, (one, other) in enumerate(levels):
        starts = [each.motion.scaled(_size(one)) for each in coming]
        if not coming or coming[0].agreeing < DOUBTFUL:
            # Fine patterns are grey from afar: what was found there says nothing.
            starts += _starts(one, other)
        fits = [each for start in starts if (each := _fitted(one, other, start)) is not None]
        fits.sort(key=lambda each: -each.agreeing)
        # On the coarsest level few pixels decide, so the runner-up may come along once.
        coming = fits[: 2 if number == 0 else 1]
    return coming[0] if coming else None


def _size(plane: FloatPlane) -> tuple[int, int]:
    return plane.shape[1], plane.shape[0]


def _levels(before: RgbPixels, after: RgbPixels) -> list[tuple[FloatPlane, FloatPlane]]:
    """Details of both, the finest first."""
    pair = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(np.float32) for each in (before, after)]
    longer = max(pair[0].shape)
    if longer > FINEST:
        size = tuple(max(1, round(side * FINEST / longer)) for side in _size(pair[0]))
        pair = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in pair]
    levels = []
    while True:
        levels.append((_details(pair[0]), _details(pair[1])))
        size = tuple(side // 2 for side in _size(pair[0]))
        if min(size) < COARSEST:
            return levels
        pair = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in pair]


def _details(plane: FloatPlane) -> FloatPlane:
    """What a plane shows beside its local mean, by its local contrast."""
    plane = cv2.GaussianBlur(plane, (0, 0), 0.8)
    details = plane - cv2.GaussianBlur(plane, (0, 0), _LOCAL)
    contrast = np.sqrt(cv2.GaussianBlur(details * details, (0, 0), 2 * _LOCAL))
    return np.asarray(details / (contrast + _FLAT), np.float32)


def _starts(before: FloatPlane, after: FloatPlane) -> list[Motion]:
    """Where the search begins: at rest, and where the two correlate best (Kuglin & Hines 1975).

    On large levels at rest alone: steps are dear there, and what is there moved by little.
    """
    size = _size(before)
    rest = Motion(size=size)
    if min(size) >= SMALL:
        return [rest]
    window = cv2.createHanningWindow(size, cv2.CV_32F)
    (right, down), _ = cv2.phaseCorrelate(before, after, window)
    places = [rest, Motion(size=size, right=right, down=down)]
    return [replace(place, along=zoom - 1) for zoom in ZOOMS for place in places]


def _fitted(before: FloatPlane, after: FloatPlane, motion: Motion) -> _Fit | None:
    """Gauss-Newton from a start; None where it goes astray."""
    height, width = before.shape
    x = np.arange(width, dtype=np.float32)[None] - (width - 1) / 2
    y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2
    there = _energy(before)
    for _ in range(STEPS):
        aligned, visible = _align(after, motion)
        difference = before - aligned
        weight = _weights(difference, visible, np.minimum(there, _energy(aligned)))
        # The mean of both slopes: second order, as Malis 2004 has it.
        across = cv2.Scharr(before + aligned, cv2.CV_32F, 1, 0, scale=1 / 64)
        down = cv2.Scharr(before + aligned, cv2.CV_32F, 0, 1, scale=1 / 64)
        slopes = np.stack([across, down, across * x + down * y, down * x - across * y])
        weighted = slopes * weight
        normal = (weighted.reshape(4, -1) @ slopes.reshape(4, -1).T).astype(np.float64)
        pull = (weighted.reshape(4, -1) @ difference.ravel()).astype(np.float64)
        step = np.linalg.lstsq(normal, pull, rcond=1e-9)[0]
        motion = motion.plus(step)
        if _is_astray(motion):
            return None
        if Motion(size=motion.size).plus(step).farthest < STILL:
            break
    still = before - after
    agreeing, tiles = _agreement(before, aligned, difference)
    return _Fit(
        motion=motion,
        agreeing=agreeing,
        tiles=tiles,
        normal=normal,
        pulls=_by_tile(weighted * difference),
        error=float((weight * difference * difference).sum()),
        still=float((weight * still * still).sum()),
    )


def _is_astray(motion: Motion) -> bool:
    most = MOST_SHIFT * min(motion.size)
    return (
        abs(motion.zoom - 1) > MOST_ZOOM
        or motion.shift > most
        or abs(motion.degrees) > MOST_DEGREES
    )


def _agreement(
    before: FloatPlane, aligned: FloatPlane, difference: FloatPlane
) -> tuple[float, NDArray[np.int64]]:
    """Share of the details that a movement explains, and (2, n) tiles where it explains most."""

    there = _energy(before)
    busy = there > BUSY
    explained = busy & (_energy(difference) < (1 - EXPLAINED) * (there + _energy(aligned)) / 2)
    busy_parts, explained_parts = (_by_tile(each[None]).ravel() for each in (busy, explained))
    least = 0.02 * before.size / _TILES**2
    agreeing = (busy_parts > least) & (explained_parts > busy_parts / 2)
    share = float(explained_parts.sum() / max(1.0, busy_parts.sum()))
    return share, np.stack(np.nonzero(agreeing.reshape(_TILES, _TILES)))


def _align(plane: FloatPlane, motion: Motion) -> tuple[FloatPlane, NDArray[np.bool_]]:
    """A plane put back to where it was, and where it shows anything."""
    aligned = cv2.warpAffine(
        plane,
        motion.matrix(),
        motion.size,
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=float("nan"),
    )
    visible = np.isfinite(aligned)
    aligned[~visible] = 0
    return np.asarray(aligned, np.float32), visible


def _weights(difference: FloatPlane, visible: NDArray[np.bool_], details: FloatPlane) -> FloatPlane:
    """How much each pixel counts.

    Tukey's biweight of each neighbourhood's difference, so that edited areas fall as a whole; the
    scale is that of the details, of which up to three quarters may be edited. An area where one of
    the two pictures shows no details is noise, or something that came or went: it does not count.

    Args:
        difference: (H, W).
        visible: (H, W), where there is one.
        details: (H, W), their energy: the lesser of both pictures'.
    """
    square = _energy(difference)
    busy = visible & (details > BUSY)
    if busy.sum() < FEWEST_BUSY * busy.size:
        busy = visible
    if not busy.any():
        return np.zeros_like(difference)
    quarter, half = np.quantile(square[busy], (0.25, 0.5))
    scale = 1.4826 * math.sqrt(min(half, 4 * quarter))
    bound = (_TUKEY * max(scale, 0.02)) ** 2
    weight = np.maximum(0, 1 - square / bound) ** 2 * (details / (details + BUSY)) ** 2
    return np.asarray(weight * visible, np.float32)


def _energy(of: FloatPlane) -> FloatPlane:
    """(H, W), the mean square of each neighbourhood."""
    return np.asarray(cv2.GaussianBlur(of * of, (0, 0), 2.0), np.float32)


def _by_tile(values: NDArray[Any]) -> NDArray[np.float64]:
    """(tiles, n), sums of (n, H, W) over tiles."""
    rows = np.array_split(np.arange(values.shape[1]), _TILES)
    columns = np.array_split(np.arange(values.shape[2]), _TILES)
    starts = [each[0] for each in rows], [each[0] for each in columns]
    sums = np.add.reduceat(values, starts[0], axis=1, dtype=np.float64)
    sums = np.add.reduceat(sums, starts[1], axis=2)
    return np.asarray(sums.reshape(len(values), -1).T, np.float64)
