"""Operations without a model: exposure, contrast, local equalisation.

All act on the values as they are stored, alike on R, G and B; size, transparency, profile and EXIF
stay.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overpaint.core.imaging.images import Picture
from overpaint.datasets.measure import luma_of
from overpaint.datasets.recipes.sections import Exact

_GAMMAS = (0.25, 4.0)
_Curve = Callable[[NDArray[np.float64], float], NDArray[np.float64]]
_CLOSE = 0.25 / 255  # of mean brightness: nearer than rounding to 8 bit can tell
_TILES = (8, 8)


MOST_LIFT = 0.6
LIFT_OF_CONTRAST = 6.0
"""Share of the range by which black is brought up, or white down, at most: `MOST_LIFT`, and so many
times the picture's contrast. A black frame stays black: there is nothing to bring up."""

FAR = 0.01
"""Distance from the target brightness that is noted."""


def apply(picture: Picture, section: Exact) -> tuple[Picture, str]:
    """The picture after all operations that are asked for, and a note of what was not reached."""
    pixels, note = np.asarray(picture.rgb), ""
    if section.exposure is not None:
        pixels = to_exposure(pixels, section.exposure)
        if abs((brightness := _brightness(pixels)) - section.exposure) > FAR:
            much = "black" if brightness < section.exposure else "white"
            note = (
                f"exposure {brightness:.2f} in place of {section.exposure:.2f}: too much of the "
                f"picture is {much}"
            )
    if section.contrast is not None:
        pixels = to_contrast(pixels, section.contrast)
    if section.clahe is not None:
        pixels = equalised(pixels, section.clahe)
    return picture.with_rgb(Image.fromarray(pixels)), note


def to_exposure(pixels: NDArray[np.uint8], target: float) -> NDArray[np.uint8]:
    """Bring mean luma to `target` (0..1) by one gamma curve; black and white stay.

    If no reasonable curve reaches it, because much of the picture is black or white already, white
    is brought down, or black up, as far as the rest needs, but by no more than `MOST_LIFT` and its
    contrast allow.
    """
    curved = _curve(pixels, target, *_GAMMAS, lambda values, gamma: values**gamma)
    if abs(_brightness(curved) - target) < _CLOSE:
        return curved
    lift = min(MOST_LIFT, LIFT_OF_CONTRAST * float(luma_of(curved).std()))
    if _brightness(curved) > target:
        return _curve(curved, target, 0.0, lift, lambda values, loss: values * (1 - loss))
    return _curve(curved, target, 1 - lift, 1.0, lambda values, rest: 1 - (1 - values) * rest)


def to_contrast(pixels: NDArray[np.uint8], target: float) -> NDArray[np.uint8]:
    """Bring the standard deviation of luma to `target`, around its mean.

    Values beyond black and white are cut, so a target that needs many of those is not reached.
    """
    luma = luma_of(pixels)
    deviation = float(luma.std())
    if deviation == 0:
        return pixels
    middle = float(luma.mean()) * 255
    values = (np.arange(256, dtype=np.float64) - middle) * (target / deviation) + middle
    return np.asarray(cv2.LUT(pixels, np.rint(values.clip(0, 255)).astype(np.uint8)), np.uint8)


def equalised(pixels: NDArray[np.uint8], limit: float) -> NDArray[np.uint8]:
    """Contrast limited adaptive histogram equalisation (Zuiderveld 1994) of L*."""
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=limit, tileGridSize=_TILES).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def _curve(
    pixels: NDArray[np.uint8], target: float, low: float, high: float, curve: _Curve
) -> NDArray[np.uint8]:
    """The pixels under the member of a family of curves that brings them nearest to a brightness.

    It is found by bisection between `low` and `high`; larger parameters are darker.
    """
    values = np.arange(256) / 255
    for _ in range(40):
        middle = (low + high) / 2
        table = np.rint(curve(values, middle) * 255).astype(np.uint8)
        curved = np.asarray(cv2.LUT(pixels, table), np.uint8)
        brightness = _brightness(curved)
        if abs(brightness - target) < _CLOSE:
            break
        low, high = (middle, high) if brightness > target else (low, middle)
    return curved


def _brightness(pixels: NDArray[np.uint8]) -> float:
    return float(luma_of(pixels).mean())
