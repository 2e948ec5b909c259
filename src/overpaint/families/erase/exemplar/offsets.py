"""The steps at which a picture repeats itself: bricks, windows, stripes, weave."""

from __future__ import annotations

import cv2
import numpy as np

from .types import BoolMask, Float, Index

MOST = 12
LARGEST = 100_000  # pixels of a layer beyond which the coarser layers' choice has to do
ALIKE = 0.25  # correlation from which a step counts as a repetition
OVERLAP = 0.35  # share of the picture that must meet itself at that step


def repeating_steps(values: Float, known_mask: BoolMask, shortest: int) -> Index:
    """The dominant offsets (k, 2) as (down, right), the strongest first; often none.

    He & Sun (2012) find them as peaks in a histogram of matching patches' offsets; here they are
    the peaks of the known pixels' autocorrelation, which costs three Fourier transforms.

    Args:
        values: (H, W, >= 3).
        known_mask: (H, W).
        shortest: length in pixels below which a step is not worth trying.
    """
    if known_mask.size > LARGEST or min(known_mask.shape) < 4 * shortest:
        return np.zeros((0, 2), np.int32)
    correlation = _autocorrelation(values[..., :3].mean(2), known_mask.astype(np.float32), shortest)
    widest = np.ones((2 * shortest + 1, 2 * shortest + 1), np.uint8)
    peaks = (correlation >= cv2.dilate(correlation, widest)) & (correlation > ALIKE)
    middle = np.array(known_mask.shape)
    steps = np.argwhere(peaks) - middle
    steps = steps[(steps**2).sum(1) >= shortest**2]
    # Of steps that are equally strong, the shorter one is the repetition itself.
    length = np.sqrt((steps**2).sum(1)) / max(known_mask.shape)
    strength = correlation[tuple((steps + middle).T)] - 0.5 * length
    order = np.argsort(-strength, kind="stable")[:MOST]
    return np.asarray(steps[order], np.int32)


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
