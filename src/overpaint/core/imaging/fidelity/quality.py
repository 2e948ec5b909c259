"""How alike two pictures are in a part of them: PSNR and SSIM."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overpaint.core.imaging.fidelity.arrays import RegionMask

IDENTICAL = 99.0
"""PSNR, in dB, that stands for 'every byte is the same'."""

_SIDE = 11
_SIGMA = 1.5
"""Window of SSIM (Wang et al. 2004)."""


def psnr(difference: NDArray[np.uint8], area: RegionMask) -> float:
    """Of an area, in dB; `IDENTICAL` at most.

    Args:
        difference: (H, W, 3), absolute, in levels of 255.
        area: (H, W), not empty.
    """
    inside = area.astype(np.uint8)
    squares = np.arange(256.0) ** 2
    counts = [cv2.calcHist([difference], [c], inside, [256], [0, 256]).ravel() for c in range(3)]
    error = float(sum(squares @ each for each in counts) / (3 * int(inside.sum(dtype=np.int64))))
    return IDENTICAL if error == 0 else min(IDENTICAL, 10 * math.log10(255**2 / error))


def ssim(before: Image.Image, after: Image.Image, area: RegionMask) -> float | None:
    """Mean structural similarity (Wang et al. 2004) of luma, windows inside an area.

    Returns:
        0 to 1; None where the area holds no window.
    """
    x, y = (np.asarray(each.convert("L"), np.float32) for each in (before, after))

    def mean(of: NDArray[np.float32]) -> NDArray[np.float32]:
        blurred = cv2.GaussianBlur(of, (_SIDE, _SIDE), _SIGMA, borderType=cv2.BORDER_REFLECT)
        return np.asarray(blurred, np.float32)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score = (2 * mx * my + c1) * (2 * both + c2)
    score /= (mx * mx + my * my + c1) * (vx + vy + c2)
    inside = eroded(area, _SIDE // 2)
    return float(score[inside].mean()) if inside.any() else None


def eroded(area: RegionMask, by: int) -> RegionMask:
    """Without what is nearer than `by` pixels to the rest, or to the picture's edge."""
    square = np.ones((2 * by + 1, 2 * by + 1), np.uint8)
    inside = cv2.erode(area.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(inside, bool)
