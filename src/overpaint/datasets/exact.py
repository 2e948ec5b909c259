"""Operations without a model: exposure, contrast, local equalisation.

All act on the values as they are stored, alike on R, G and B; size, transparency, profile and EXIF
stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from overpaint.core.images import Picture
from overpaint.datasets.measure import luma_of
from overpaint.datasets.parts import Exact

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GAMMAS = (0.02, 50.0)
_CLOSE = 0.25 / 255  # of mean brightness: nearer than rounding to 8 bit can tell
_TILES = (8, 8)


def apply(picture: Picture, asked: Exact) -> Picture:
    """The picture after all operations that are asked for."""
    pixels = np.asarray(picture.rgb)
    if asked.exposure is not None:
        pixels = to_exposure(pixels, asked.exposure)
    if asked.contrast is not None:
        pixels = to_contrast(pixels, asked.contrast)
    if asked.clahe is not None:
        pixels = equalised(pixels, asked.clahe)
    return picture.with_rgb(Image.fromarray(pixels))


def to_exposure(pixels: NDArray[np.uint8], target: float) -> NDArray[np.uint8]:
    """Bring mean luma to `target` (0..1) by one gamma curve; black and white stay.

    The curve is found by bisection. A picture that has only black and white stays as it is.
    """
    low, high = _GAMMAS  # the larger the gamma, the darker
    for _ in range(40):
        gamma = float(np.sqrt(low * high))
        brightness = float(luma_of(_curved(pixels, gamma)).mean())
        if abs(brightness - target) < _CLOSE:
            break
        low, high = (gamma, high) if brightness > target else (low, gamma)
    return _curved(pixels, gamma)


def to_contrast(pixels: NDArray[np.uint8], target: float) -> NDArray[np.uint8]:
    """Bring the standard deviation of luma to `target`, around its mean.

    Values beyond black and white are cut, so a target that needs many of those is not reached.
    """
    luma = luma_of(pixels)
    spread = float(luma.std())
    if spread == 0:
        return pixels
    middle = float(luma.mean()) * 255
    values = (np.arange(256, dtype=np.float64) - middle) * (target / spread) + middle
    return np.asarray(cv2.LUT(pixels, np.rint(values.clip(0, 255)).astype(np.uint8)), np.uint8)


def equalised(pixels: NDArray[np.uint8], limit: float) -> NDArray[np.uint8]:
    """Contrast limited adaptive histogram equalisation (Zuiderveld 1994) of L*."""
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=limit, tileGridSize=_TILES).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def _curved(pixels: NDArray[np.uint8], gamma: float) -> NDArray[np.uint8]:
    table = np.rint((np.arange(256) / 255) ** gamma * 255).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table), np.uint8)
