"""Where an edit without a mask changed the picture, so that the rest can be put back."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRONG = 12.0
"""CIE76 colour difference from which a pixel surely changed."""

WEAK = 4.0
"""Difference from which a pixel changed if it touches one that surely did (soft shadows)."""

COLOURED_SHARE = 0.01
"""Share of clearly coloured pixels from which a picture is one in colour."""

GLOBAL_SHARE = 0.6
"""Share of changed pixels from which the whole picture counts as changed."""


def change_mask(before: Image.Image, after: Image.Image) -> Image.Image | None:
    """Find what differs between two 'RGB' pictures of equal size.

    Smoothed colour differences (CIE 1976, L*a*b*) are thresholded with hysteresis, as in Canny's
    edge detector: weak differences count where they touch strong ones. The region is widened and
    its edge made soft, so that nothing of the edit is cut off.

    Args:
        before: the picture as the model would return it unedited (through its autoencoder, so
            that the autoencoder's own error does not count as change).
        after: the edited picture.

    Returns:
        'L', 255 = changed, 0 = put the original back; None where most of the picture changed.
    """
    changed = clearly_changed(before, after)
    return None if changed.mean() > GLOBAL_SHARE else softened(changed, radius(before))


def softened(changed: NDArray[np.uint8], radius: int) -> Image.Image:
    """'L', 255 = where 1 is in (H, W), widened and with a soft edge, so that nothing is cut off."""
    soft = cv2.GaussianBlur(_widened(changed, radius) * np.float32(255), (0, 0), sigmaX=radius)
    return Image.fromarray(np.rint(soft).astype(np.uint8), mode="L")


def changed_region(before: Image.Image, after: Image.Image) -> Image.Image:
    """Where two 'RGB' pictures of equal size differ clearly, however large that is.

    Returns:
        'L', 255 = changed, widened by as much as `change_mask` widens and softens; 0 = not.
    """
    widened = _widened(clearly_changed(before, after), 2 * radius(before))
    return Image.fromarray(widened * np.uint8(255), mode="L")


def colour_difference(before: Image.Image, after: Image.Image) -> NDArray[np.float32]:
    """(H, W) Euclidean distance in L*a*b* (CIE 1976) of two 'RGB' pictures of equal size."""
    difference = np.linalg.norm(lab(before) - lab(after), axis=2)
    return np.asarray(difference, dtype=np.float32)


def lab(picture: Image.Image) -> NDArray[np.float32]:
    """(H, W, 3) L*a*b* (CIE 1976) of an sRGB picture."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / np.float32(255)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2Lab), dtype=np.float32)


def is_coloured(picture: Image.Image) -> bool:
    """Whether an sRGB picture is more than grey with a tint: a part of it has clear colours."""
    chroma = np.linalg.norm(lab(picture)[..., 1:], axis=2)
    return bool((chroma >= STRONG).mean() > COLOURED_SHARE)


def radius(picture: Image.Image) -> int:
    """Pixels of a picture that belong together: differences are smoothed over them."""
    return max(1, round(min(picture.size) / 256))


def clearly_changed(before: Image.Image, after: Image.Image) -> NDArray[np.uint8]:
    """(H, W), 1 where two 'RGB' pictures of equal size differ by more than noise."""
    difference = colour_difference(before, after)
    return hysteresis(cv2.GaussianBlur(difference, (0, 0), sigmaX=radius(before)))


def _widened(changed: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    side = 6 * radius + 1
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(changed, around), dtype=np.uint8)


def hysteresis(difference: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W), 1 where the difference is weak at least and connected to a strong one."""
    _, labels = cv2.connectedComponents((difference >= WEAK).astype(np.uint8), connectivity=8)
    strong = np.unique(labels[difference >= STRONG])
    return np.isin(labels, strong[strong > 0]).astype(np.uint8)
