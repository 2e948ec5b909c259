"""The compiled inner loops of the exemplar filler: patch search, voting, relaxation.

All of them release the interpreter's lock, so that bands of one picture run on several threads.
A band reads other bands' sources as they were before the pass, so the result does not depend on
how many threads there are. A patch is named by its top left pixel. A picture is held as
(H, W * CHANNELS) float32 rows of interleaved values.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

from .types import CHANNELS, BoolMask, Float, Index

_F = TypeVar("_F", bound=Callable[..., Any])


def _compiled(function: _F) -> _F:
    """Compiles on the first call and keeps the machine code beside this file.

    Sums may be reordered, which lets them be vectorised; infinities stay exact.
    """
    reorder = {"reassoc", "contract", "nsz", "arcp"}
    return cast("_F", njit(cache=True, nogil=True, fastmath=reorder)(function))


@_compiled
def _distance(rows: Float, size: int, ay: int, ax: int, by: int, bx: int, limit: float) -> float:
    """Sum of squared differences of two patches, given up once it passes `limit`."""
    total = np.float32(0)
    for dy in range(size):
        one = rows[ay + dy, ax * CHANNELS : (ax + size) * CHANNELS]
        two = rows[by + dy, bx * CHANNELS : (bx + size) * CHANNELS]
        for k in range(size * CHANNELS):
            difference = one[k] - two[k]
            total += difference * difference
        if total >= limit:
            break
    return float(total)


@_compiled
def _toll(near: float, ay: int, ax: int, by: int, bx: int) -> float:
    """What a source costs for lying far away."""
    return near * math.hypot(ay - by, ax - bx)


@_compiled
def _random_step(state: int, radius: int) -> tuple[int, int]:
    """The next state of a linear congruential generator, and a step of at most `radius`."""
    state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
    return state, (state >> 8) % (2 * radius + 1) - radius


@_compiled
def _halvings(reach: int) -> int:
    """How many radii there are from `reach` down to one."""
    rounds = 0
    while (1 << rounds) <= reach:
        rounds += 1
    return rounds


@_compiled
def _propagated(
    place: Index,
    old_y: Index,
    old_x: Index,
    source_y: Index,
    source_x: Index,
    start: int,
    stop: int,
    y: int,
    x: int,
    beside_y: int,
    beside_x: int,
) -> tuple[int, int]:
    """The source that continues the one of the target beside; (-1, -1) where there is none."""
    height, width = place.shape
    if not (0 <= beside_y < height and 0 <= beside_x < width):
        return -1, -1
    n = place[beside_y, beside_x]
    if n < 0:
        return -1, -1
    if start <= n < stop:
        return y - beside_y + source_y[n], x - beside_x + source_x[n]
    return y - beside_y + old_y[n], x - beside_x + old_x[n]


@_compiled
def search(
    rows: Float,
    size: int,
    place: Index,
    target_y: Index,
    target_x: Index,
    allowed: BoolMask,
    price: Float,
    old_y: Index,
    old_x: Index,
    source_y: Index,
    source_x: Index,
    cost: Float,
    offsets: Index,
    near: float,
    reach: int,
    start: int,
    stop: int,
    backwards: bool,
    seed: int,
) -> None:
    """One PatchMatch pass (Barnes et al. 2009) over the targets start..stop.

    Args:
        rows: the picture with its current filling.
        size: side of a patch.
        place: (H, W), the number of the target patch at each corner, -1 where there is none.
        target_y, target_x: (n,), corners of the target patches, row by row.
        allowed: (H, W), the corners that a source patch may have.
        price: (H, W), what a source at each corner costs for being unusual.
        old_y, old_x: (n,), the sources before this pass.
        source_y, source_x, cost: (n,), improved in place.
        offsets: (k, 2), steps (down, right) tried for each target (He & Sun 2012).
        near: price of one pixel of distance between target and source.
        reach: first radius of the random search, in pixels; it halves down to one.
        start, stop: the targets of this band.
        backwards: go up and left instead of down and right.
        seed: of the random search.
    """
    height, width = allowed.shape
    state = (seed * 7919 + start * 104729 + 12345) & 0xFFFFFFFF
    step = -1 if backwards else 1
    fixed = 2 + offsets.shape[0]
    rounds = _halvings(reach)
    for count in range(stop - start):
        i = stop - 1 - count if backwards else start + count
        y, x = target_y[i], target_x[i]
        best_y, best_x = source_y[i], source_x[i]
        best = _distance(rows, size, y, x, best_y, best_x, np.inf)
        best += _toll(near, y, x, best_y, best_x) + price[best_y, best_x]
        for attempt in range(fixed + rounds):
            if attempt < 2:
                cy, cx = _propagated(
                    place, old_y, old_x, source_y, source_x, start, stop,
                    y, x, y - step * (attempt == 0), x - step * (attempt == 1),
                )  # fmt: skip
            elif attempt < fixed:
                cy, cx = y + offsets[attempt - 2, 0], x + offsets[attempt - 2, 1]
            else:
                radius = 1 << (rounds - 1 - (attempt - fixed))
                state, down = _random_step(state, radius)
                state, right = _random_step(state, radius)
                cy, cx = best_y + down, best_x + right
            if not (0 <= cy < height and 0 <= cx < width) or not allowed[cy, cx]:
                continue
            toll = _toll(near, y, x, cy, cx) + price[cy, cx]
            if toll >= best or (cy == best_y and cx == best_x):
                continue
            distance = _distance(rows, size, y, x, cy, cx, best - toll) + toll
            if distance < best:
                best, best_y, best_x = distance, cy, cx
        source_y[i], source_x[i], cost[i] = best_y, best_x, best


@_compiled
def compare_all(
    rows: Float,
    size: int,
    certainty: Float,
    targets: Index,
    target_y: Index,
    target_x: Index,
    allowed_y: Index,
    allowed_x: Index,
    price: Float,
    near: float,
    start: int,
    stop: int,
    source_y: Index,
    source_x: Index,
    cost: Float,
) -> None:
    """Finds the best of all sources for `targets` start..stop, pixels weighed by `certainty`.

    For the coarsest layer, where known pixels must count far more than the first guess.
    """
    weights = np.zeros((size, size * CHANNELS), np.float32)
    for i in targets[start:stop]:
        y, x = target_y[i], target_x[i]
        total = np.float32(0)
        for dy in range(size):
            for dx in range(size):
                weight = certainty[y + dy, x + dx]
                total += weight
                for c in range(CHANNELS):
                    weights[dy, dx * CHANNELS + c] = weight
        factor = np.float32(size * size) / total
        best = np.float32(np.inf)
        for j in range(allowed_y.size):
            cy, cx = allowed_y[j], allowed_x[j]
            toll = np.float32(_toll(near, y, x, cy, cx)) + price[cy, cx]
            limit = (best - toll) / factor
            distance = np.float32(0)
            for dy in range(size):
                one = rows[y + dy, x * CHANNELS : (x + size) * CHANNELS]
                two = rows[cy + dy, cx * CHANNELS : (cx + size) * CHANNELS]
                for k in range(size * CHANNELS):
                    difference = one[k] - two[k]
                    distance += weights[dy, k] * difference * difference
                if distance >= limit:
                    break
            if distance < limit:
                best = distance * factor + toll
                source_y[i], source_x[i] = cy, cx
        cost[i] = best


@_compiled
def likeness(
    patches: Float,
    examples: Float,
    weight: Float,
    unit: float,
    start: int,
    stop: int,
    density: Float,
) -> None:
    """Adds to `density` (n,) how like the examples (m, k) the patches (n, k) start..stop are.

    An example at the squared distance `unit` counts 1 / e of its `weight` (m,).
    """
    for i in range(start, stop):
        for j in range(examples.shape[0]):
            apart = np.float32(0)
            for k in range(patches.shape[1]):
                difference = patches[i, k] - examples[j, k]
                apart += difference * difference
            density[i] += weight[j] * np.exp(-apart / np.float32(unit))


@_compiled
def _softness(
    size: int, place: Index, cost: Float, doubt: Float, y: int, x: int, softness: float
) -> tuple[np.float32, np.float32, np.float32]:
    """Least cost, least doubt, and weight of a unit of cost of the patches over a pixel.

    The last is 0 where there is no patch.
    """
    best = np.float32(np.inf)
    surest = np.float32(np.inf)
    total = np.float32(0)
    number = 0
    for dy in range(min(size, y + 1)):
        for dx in range(min(size, x + 1)):
            n = place[y - dy, x - dx]
            if n >= 0:
                best = min(best, cost[n])
                surest = min(surest, doubt[n])
                total += cost[n]
                number += 1
    unit = max(float(softness * total / number), 1.0) if number else 0.0
    return best, surest, np.float32(unit)


@_compiled
def _add_step(
    rows: Float,
    y: int,
    at: int,
    next_y: int,
    next_at: int,
    weight: float,
    steps: Float,
    energy: Float,
    i: int,
    axis: int,
) -> None:
    """Adds the weighted step from one pixel to the next, and its square, to those of pixel i."""
    for c in range(CHANNELS):
        step = rows[next_y, next_at + c] - rows[y, at + c]
        steps[i, c] += weight * step
        if c < 3:
            energy[i, axis] += weight * step * step


@_compiled
def vote(
    rows: Float,
    size: int,
    place: Index,
    source_y: Index,
    source_x: Index,
    cost: Float,
    doubt: Float,
    pixel_y: Index,
    pixel_x: Index,
    softness: float,
    start: int,
    stop: int,
    colour: Float,
    right: Float,
    down: Float,
    energy: Float,
) -> None:
    """Each pixel start..stop becomes the weighted mean of what its patches' sources say.

    The vote of Wexler et al. 2007: a patch's weight falls exponentially with its target's `doubt`
    (n,), low near the rim, and with its cost, in units of `softness` times the voters' mean cost.
    Fills, for the pixels (m,): `colour` (m, C); `right` and `down` (m, C), the voted step to the
    next pixel; `energy` (m, 2), the voted mean *squares* of those steps over the three colours.
    Voted steps are smaller than that where the votes disagree.
    """
    for i in range(start, stop):
        y, x = pixel_y[i], pixel_x[i]
        best, surest, bandwidth = _softness(size, place, cost, doubt, y, x, softness)
        colour[i] = 0
        right[i] = 0
        down[i] = 0
        energy[i] = 0
        if bandwidth == 0:
            continue
        total = np.float32(1e-12)
        beside = np.float32(1e-12)
        below = np.float32(1e-12)
        for dy in range(min(size, y + 1)):
            for dx in range(min(size, x + 1)):
                n = place[y - dy, x - dx]
                if n < 0:
                    continue
                weight = np.exp((best - cost[n]) / bandwidth + surest - doubt[n])
                row, at = source_y[n] + dy, (source_x[n] + dx) * CHANNELS
                total += weight
                for c in range(CHANNELS):
                    colour[i, c] += weight * rows[row, at + c]
                if dx < size - 1:
                    beside += weight
                    _add_step(rows, row, at, row, at + CHANNELS, weight, right, energy, i, 0)
                if dy < size - 1:
                    below += weight
                    _add_step(rows, row, at, row + 1, at, weight, down, energy, i, 1)
        for c in range(CHANNELS):
            colour[i, c] /= total
            right[i, c] /= beside
            down[i, c] /= below
        energy[i, 0] /= beside
        energy[i, 1] /= below


@_compiled
def relax(
    values: Float,
    initial: Float,
    right: Float,
    down: Float,
    pixel_y: Index,
    pixel_x: Index,
    hold: float,
    speed: float,
    start: int,
    stop: int,
) -> None:
    """Over-relaxes the pixels start..stop of a screened Poisson equation once, in place.

    Minimises, over the pixels listed, the squared distance of the picture's steps from `right`
    and `down` plus `hold` times that of its values from `initial`; all other pixels are fixed.
    Arrays are (H, W, channels). The order of the pixels is the order of relaxation.
    """
    height, width, channels = values.shape
    for i in range(start, stop):
        y, x = pixel_y[i], pixel_x[i]
        for c in range(channels):
            total = np.float32(hold) * initial[y, x, c]
            weight = np.float32(hold)
            if x + 1 < width:
                total += values[y, x + 1, c] - right[y, x, c]
                weight += 1
            if x > 0:
                total += values[y, x - 1, c] + right[y, x - 1, c]
                weight += 1
            if y + 1 < height:
                total += values[y + 1, x, c] - down[y, x, c]
                weight += 1
            if y > 0:
                total += values[y - 1, x, c] + down[y - 1, x, c]
                weight += 1
            values[y, x, c] += np.float32(speed) * (total / weight - values[y, x, c])
