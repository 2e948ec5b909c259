"""Edges that end at the hole, continued across it: a guide for the coarsest layer.

Each strong edge that runs into the hole is led on: to an edge that ends on the other side, where
the two point at each other and have the same colours beside them, else straight ahead. Colours are
then spread from the rim without crossing a line (the idea of diffusion curves, Orzan et al. 2008).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
import numpy.typing as npt

from .pyramid import spread_in
from .types import BoolMask, Float

STRONG = 14.0  # levels per pixel from which an edge is a line
ABOVE_USUAL = 2.0  # how much stronger it must be than the picture's edges are in the mean
COHERENCE = 0.6  # share of the gradients' energy across the edge; texture has about half
STEEPNESS = 0.4  # sine of the angle between edge and rim, at least
APART = 3.0  # pixels between the ends of two lines
FACING = 0.8  # cosine of the angle between an end and the way to its partner, at least
SAME = 40.0  # root mean square, in levels, by which partners' colours may differ
BESIDE = 2.0  # pixels from an edge at which its colours are taken
BEND = 0.35  # of the way between two ends, to which each one's direction counts
SMOOTHING = 40  # sweeps
MOST = 24  # ends of lines that are followed

PixelVector = npt.NDArray[np.float64]  # (y, x)
Course = npt.NDArray[np.float64]  # points (n, 2)
Shifts = tuple[tuple[slice, slice], tuple[slice, slice]]


@dataclass(frozen=True, eq=False)
class End:
    """Where an edge meets the hole.

    Attributes:
        place: (y, x) of a known pixel beside the hole.
        way: (y, x), unit vector along the edge, into the hole.
        left, right: (C,) values beside the edge, seen along `way`.
    """

    place: PixelVector
    way: PixelVector
    left: Float
    right: Float


def continuation(values: Float, hole: BoolMask) -> Float:
    """The picture (H, W, C) with its hole filled smoothly, but for the lines that cross it."""
    smooth = spread_in(values, hole)
    barrier = np.zeros(hole.shape, np.uint8)
    for course in _courses(_ends(smooth, hole)):
        _draw(barrier, hole, course)
    if not barrier.any():
        return np.ascontiguousarray(smooth)
    return _spread_beside(smooth, hole, barrier > 0)


def _ends(smooth: Float, hole: BoolMask) -> list[End]:
    """The ends of the strongest lines in order, none within `APART` of a stronger one."""
    known_mask = (~hole).astype(np.float32)
    across, strength, coherence = _edges(smooth[..., :3], known_mask)
    inwards = _inwards(hole)
    along = np.stack([across[..., 1], -across[..., 0]], 2)
    side = (along * inwards).sum(2)
    along *= np.sign(side)[..., None]
    rim = cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~hole
    usual = float(strength[~hole].mean())
    rim &= (strength >= max(STRONG, ABOVE_USUAL * usual)) & (coherence >= COHERENCE)
    rim &= np.abs(side) >= STEEPNESS
    places = np.argwhere(rim)
    ends: list[End] = []
    for y, x in places[np.argsort(-strength[rim], kind="stable")]:
        place = np.array([y, x], float)
        if all(np.hypot(*(place - end.place)) >= APART for end in ends):
            ends.append(_end(smooth, place, along[y, x].astype(float)))
        if len(ends) == MOST:
            break
    return ends


def _edges(colours: Float, known_mask: Float) -> tuple[Float, Float, Float]:
    """Unit vector (y, x) across each pixel's edge, its strength, coherence (Di Zenzo 1986)."""
    down = cv2.Sobel(colours, cv2.CV_32F, 0, 1, scale=1 / 8)
    right = cv2.Sobel(colours, cv2.CV_32F, 1, 0, scale=1 / 8)
    weight = np.maximum(cv2.GaussianBlur(known_mask, (5, 5), 1.0), 1e-3)
    yy, yx, xx = (
        cv2.GaussianBlur((one * other).sum(2) * known_mask, (5, 5), 1.0) / weight
        for one, other in ((down, down), (down, right), (right, right))
    )
    spread = np.hypot(yy - xx, 2 * yx)
    angle = np.arctan2(2 * yx, xx - yy) / 2
    energy = (yy + xx + spread) / 2
    across = np.stack([np.sin(angle), np.cos(angle)], 2)
    coherence = spread / np.maximum(yy + xx, 1e-3)
    return across, np.sqrt(energy), np.asarray(coherence, np.float32)


def _inwards(hole: BoolMask) -> Float:
    """Unit vectors (H, W, 2) towards the hole, near its rim."""
    blurred = cv2.GaussianBlur(hole.astype(np.float32), (7, 7), 1.5)
    down, right = np.gradient(blurred)
    length = np.maximum(np.hypot(down, right), 1e-6)
    return np.stack([down / length, right / length], 2)


def _end(smooth: Float, place: PixelVector, way: PixelVector) -> End:
    beside = BESIDE * np.array([-way[1], way[0]])
    last = np.array(smooth.shape[:2]) - 1
    left, right = (
        smooth[tuple(np.clip(np.rint(place - way + step), 0, last).astype(int))]
        for step in (beside, -beside)
    )
    return End(place, way, left, right)


def _courses(ends: list[End]) -> Iterator[Course]:
    """Points (n, 2) of each line: first those between two ends, then those straight ahead."""
    pairs = []
    for one, other in combinations(range(len(ends)), 2):
        cost = _mismatch(ends[one], ends[other])
        if cost < 1:
            pairs.append((cost, one, other))
    alone = set(range(len(ends)))
    for _, one, other in sorted(pairs):
        if {one, other} <= alone:
            alone -= {one, other}
            yield _curve(ends[one], ends[other])
    reach = np.arange(0, 4000, 0.5)[:, None]
    for number in sorted(alone):
        yield ends[number].place + reach * ends[number].way


def _mismatch(one: End, other: End) -> float:
    """How badly two ends go together; from 1 on not at all."""
    gap = other.place - one.place
    gap /= np.hypot(*gap)
    facing = min(one.way @ gap, -other.way @ gap)
    if facing < FACING:
        return 1.0
    beside = np.concatenate([one.left - other.right, one.right - other.left])
    colours = float(np.sqrt(np.mean(beside**2))) / SAME
    return max(colours, float((1 - facing) / (1 - FACING)))


def _curve(one: End, other: End) -> Course:
    """A Bézier curve (n, 2) that leaves both ends along their ways."""
    length = float(np.hypot(*(other.place - one.place)))
    near, far = one.place + BEND * length * one.way, other.place + BEND * length * other.way
    t = np.linspace(0, 1, max(3, round(2 * length)))[:, None]
    s = 1 - t
    return np.asarray(
        s**3 * one.place + 3 * s**2 * t * near + 3 * s * t**2 * far + t**3 * other.place
    )


def _draw(barrier: npt.NDArray[np.uint8], hole: BoolMask, course: Course) -> None:
    """Draws a line from its first point in the hole to where it leaves it or meets another."""
    points = np.rint(course).astype(int)
    inside = ((points >= 0) & (points < hole.shape)).all(1)
    points = points[: len(points) if inside.all() else int(np.argmin(inside))]
    free = hole[tuple(points.T)] & (barrier[tuple(points.T)] == 0)
    if not free.any():
        return
    points = points[int(np.argmax(free)) :]
    free = free[len(free) - len(points) :]
    points = points[: len(points) if free.all() else int(np.argmin(free)) + 1]
    cv2.polylines(barrier, [points[:, ::-1].astype(np.int32)], isClosed=False, color=1)


def _spread_beside(smooth: Float, hole: BoolMask, barrier: BoolMask) -> Float:
    """The hole's values carried in from its rim without crossing the barrier."""
    barrier &= hole
    values, filled = smooth.copy(), ~hole
    while True:
        mean, weight = _mean_beside(values, filled)
        ahead = ~filled & ~barrier & (weight > 0)
        if not ahead.any():
            break
        values[ahead] = mean[ahead]
        filled |= ahead
    for _ in range(SMOOTHING):
        mean, _ = _mean_beside(values, filled)
        values[filled & hole] = mean[filled & hole]
    mean, weight = _mean_beside(values, filled)
    values[barrier & (weight > 0)] = mean[barrier & (weight > 0)]
    return values


def _mean_beside(values: Float, filled: BoolMask) -> tuple[Float, Float]:
    """Means (H, W, C) of the filled ones of each pixel's four neighbours, and their number."""
    one = filled.astype(np.float32)
    total, number = np.zeros_like(values), np.zeros(filled.shape, np.float32)
    for here, there in _beside():
        total[here] += (values * one[..., None])[there]
        number[here] += one[there]
    return np.asarray(total / np.maximum(number, 1)[..., None], np.float32), number


def _beside() -> tuple[Shifts, ...]:
    most, rest, every = slice(None, -1), slice(1, None), slice(None)
    return (
        ((most, every), (rest, every)),
        ((rest, every), (most, every)),
        ((every, most), (every, rest)),
        ((every, rest), (every, most)),
    )
