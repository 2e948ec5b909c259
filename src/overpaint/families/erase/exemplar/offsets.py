"""The steps at which a picture repeats itself: bricks, windows, stripes, weave."""

from __future__ import annotations

import cv2
import numpy as np

from .pyramid import spread_in
from .types import BoolMask, Float, Index

MOST = 12
LARGEST = 100_000  # pixels of a layer beyond which the coarser layers' choice has to do
ALIKE = 0.25  # correlation from which a step counts as a repetition
OVERLAP = 0.35  # share of the picture that must meet itself at that step
CERTAIN = 0.4  # error of a step, that of a smooth filling = 1, up to which it is followed
FEWEST = 0.2  # share of what lies beside the hole from which a step must lead to known pixels


def repeating_steps(values: Float, known: BoolMask, shortest: int) -> Index:
    """The dominant offsets (k, 2) as (down, right), the strongest first; often none.

    He & Sun (2012) find them as peaks in a histogram of matching patches' offsets; here they are
    the peaks of the known pixels' autocorrelation, which costs three Fourier transforms.

    Args:
        values: (H, W, >= 3).
        known: (H, W).
        shortest: length in pixels below which a step is not worth trying.
    """
    if known.size > LARGEST or min(known.shape) < 4 * shortest:
        return np.zeros((0, 2), np.int32)
    correlation = _autocorrelation(values[..., :3].mean(2), known.astype(np.float32), shortest)
    widest = np.ones((2 * shortest + 1, 2 * shortest + 1), np.uint8)
    peaks = (correlation >= cv2.dilate(correlation, widest)) & (correlation > ALIKE)
    middle = np.array(known.shape)
    steps = np.argwhere(peaks) - middle
    steps = steps[(steps**2).sum(1) >= shortest**2]
    # Of steps that are equally strong, the shorter one is the repetition itself.
    length = np.sqrt((steps**2).sum(1)) / max(known.shape)
    strength = correlation[tuple((steps + middle).T)] - 0.5 * length
    order = np.argsort(-strength, kind="stable")[:MOST]
    return np.asarray(steps[order], np.int32)


def repetition(values: Float, hole: BoolMask, shortest: int) -> Float | None:
    """The picture (H, W, C) with its hole filled as it repeats itself; None = it does not.

    Of the steps at which it may do so, those count that hold beside the hole.
    """
    reach = 4 * shortest + 1
    wide = cv2.dilate(hole.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    beside = wide & ~hole
    if wide.all():
        return None
    smooth = np.median(np.abs(spread_in(values, wide) - values)[beside])
    steps = repeating_steps(values, ~hole, shortest)
    errors = np.array([_error(values, ~hole, beside, step) for step in steps])
    certain = [index for index in np.argsort(errors) if errors[index] < CERTAIN * smooth]
    return _repeated(values, hole, steps[certain]) if certain else None


def _error(values: Float, known: BoolMask, beside: BoolMask, step: Index) -> float:
    """Median difference of what lies beside the hole from what lies a step further.

    It is infinite where too little of that is known.
    """
    y, x = np.nonzero(beside)
    down, right = y + step[0], x + step[1]
    good = (down >= 0) & (right >= 0) & (down < known.shape[0]) & (right < known.shape[1])
    y, x, down, right = (each[good] for each in (y, x, down, right))
    both = known[down, right]
    if np.count_nonzero(both) < FEWEST * np.count_nonzero(beside):
        return float("inf")
    apart = np.abs(values[y, x] - values[down, right])[both]
    return float(np.median(apart))


def _repeated(values: Float, hole: BoolMask, steps: Index) -> Float:
    """The hole filled with what lies a step further, by the strongest step that leads anywhere.

    Filled pixels count as known for the next; what no step reaches is filled smoothly.
    """
    filled, missing = values.copy(), hole.copy()
    left = missing.size + 1
    while left > (left := np.count_nonzero(missing)) > 0:
        for step in steps:
            _step(filled, missing, step)
    return spread_in(filled, missing)


def _step(filled: Float, missing: BoolMask, step: Index) -> None:
    """Fill what is missing, in place, with the known pixels that lie a step (down, right) away."""
    y, x = np.nonzero(missing)
    down, right = y + step[0], x + step[1]
    height, width = missing.shape
    good = (down >= 0) & (right >= 0) & (down < height) & (right < width)
    y, x, down, right = (each[good] for each in (y, x, down, right))
    known = ~missing[down, right]
    y, x, down, right = (each[known] for each in (y, x, down, right))
    filled[y, x] = filled[down, right]
    missing[y, x] = False


def _autocorrelation(grey: Float, weight: Float, sigma: float) -> Float:
    """Correlation (2H, 2W) of the known detail with itself at each step, zero step at (H, W)."""
    height, width = grey.shape
    mean = cv2.GaussianBlur(grey * weight, (0, 0), sigma)
    mean /= np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-6)
    shape = (2 * height, 2 * width)
    detail, there, power = (
        np.fft.rfft2(layer * weight, shape) for layer in (grey - mean, weight, (grey - mean) ** 2)
    )
    product = np.fft.irfft2(detail * detail.conj(), shape)
    meeting = np.fft.irfft2(there * there.conj(), shape)
    one = np.fft.irfft2(power * there.conj(), shape)
    other = np.fft.irfft2(there * power.conj(), shape)
    alike = product / np.maximum(np.sqrt(np.maximum(one * other, 0)), 1e-3 * meeting.max())
    alike[meeting < OVERLAP * meeting.max()] = 0
    return np.asarray(np.roll(alike, (height, width), (0, 1)), np.float32)
