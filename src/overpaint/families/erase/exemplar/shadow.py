"""Growing an eraser's mask over the soft shadow that the erased thing leaves behind.

A shadow multiplies the light on its ground and leaves the ground's hue and texture alone. So a
pixel near the hole counts as shaded when it is darker than the pixels of the same chromaticity a
little further away, and a shaded area counts as the thing's shadow when it touches the hole, is
bounded, and is not far larger than the thing. A dark object of the ground's own hue that touches
the hole cannot be told from a shadow by this; that is why growth is offered and not forced.
"""

import cv2
import numpy as np
import numpy.typing as npt

from .types import BoolMask, Float, Pixels

WORK_SIDE = 64  # the window is shrunk to this: shadows are smooth, and the comparison is quadratic
DARK_FLOOR = 8.0  # added before logarithms, so that noise in black areas stays small
SAME_HUE = 0.07  # distance in log-chromaticity
FAINTEST, DEEPEST = 0.05, 1.4  # drop in log-luminance, beyond the ground's own dark spots
DARK_SPOTS = 10  # per cent of the ground that may be as dark by itself
LARGEST = 2.5  # a shadow's area, in areas of the hole
REACH = 2.2  # how far a shadow may lie from the hole, in radii of the hole


def grow_over_shadow(pixels: Pixels, hole: BoolMask) -> BoolMask:
    """The hole, grown over soft shadows that touch it.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        hole: (H, W) bool, true where something is to be erased.

    Returns:
        (H, W) bool, a superset of `hole`; equal to it where no shadow is found.
    """
    if not hole.any() or hole.all():
        return hole.copy()
    radius = max(4.0, float(np.sqrt(np.count_nonzero(hole) / np.pi)))
    window = _window(hole, margin=2 * REACH * radius)
    scale = min(1.0, WORK_SIDE / max(hole[window].shape))
    size = _scaled(hole[window].shape, scale)
    small = cv2.resize(pixels[window], size, interpolation=cv2.INTER_AREA)
    covered = cv2.resize(hole[window].astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    shaded = _shaded(small, covered, radius * scale)
    grown = hole.copy()
    if shaded.any():
        full = cv2.resize(shaded.astype(np.float32), hole[window].shape[::-1]) > 0.25
        grown[window] |= _widen(full, round(1 / scale))
    return grown


def _shaded(pixels: Pixels, hole: BoolMask, radius: float) -> BoolMask:
    """The shaded pixels that belong to the hole's thing; `radius` of the hole in pixels."""
    light, hue = _light_and_hue(pixels, ~hole)
    away = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 5)
    near = ~hole & (away < REACH * radius)
    drop, spread = _drop_below_surroundings(light, hue, near, ~hole & (away > 0.8 * radius), radius)
    sure = near & (drop > spread + FAINTEST) & (drop < DEEPEST)
    maybe = near & (drop > np.maximum(spread, FAINTEST / 2)) & (drop < DEEPEST)
    beside = _widen(hole, 2)
    shadow = np.zeros_like(hole)
    count, labels = cv2.connectedComponents(maybe.astype(np.uint8), connectivity=8)
    for label in range(1, count):
        part = labels == label
        touching = np.count_nonzero(part & beside) >= 3 and np.count_nonzero(part & sure) >= 3
        if touching and _is_bounded(part, hole, away, radius):
            shadow |= part
    return shadow


def _is_bounded(part: BoolMask, hole: BoolMask, away: Float, radius: float) -> bool:
    """Whether a shaded part ends by itself, not at the end of where it was looked for."""
    at_limit = np.count_nonzero(part & (away > (REACH - 0.2) * radius))
    return bool(
        np.count_nonzero(part) <= LARGEST * np.count_nonzero(hole)
        and at_limit <= 0.02 * np.count_nonzero(part)
    )


def _light_and_hue(pixels: Pixels, known_mask: BoolMask) -> tuple[Float, Float]:
    """Log-luminance (H, W) and log-chromaticity (H, W, 2), smoothed over known pixels."""
    logs = np.log(pixels.astype(np.float32) + DARK_FLOOR)
    weight = known_mask.astype(np.float32)
    total = np.maximum(cv2.GaussianBlur(weight, (0, 0), 1.2), 1e-6)
    smooth = cv2.GaussianBlur(logs * weight[..., None], (0, 0), 1.2) / total[..., None]
    hue = np.stack([smooth[..., 0] - smooth[..., 1], smooth[..., 2] - smooth[..., 1]], axis=2)
    return smooth.mean(2), hue


def _drop_below_surroundings(
    light: Float, hue: Float, near: BoolMask, around: BoolMask, radius: float
) -> tuple[Float, Float]:
    """How much darker each near pixel is than its like around the hole, and how far below their
    middle the darkest of those lie."""
    drop = np.full(light.shape, -1, np.float32)
    spread = np.zeros(light.shape, np.float32)
    places = np.argwhere(around)
    lights, hues = light[around], hue[around]
    for y, x in np.argwhere(near):
        close = ((places - (y, x)) ** 2).sum(1) < (2.5 * radius) ** 2
        alike = close & (((hues - hue[y, x]) ** 2).sum(1) < SAME_HUE**2)
        if np.count_nonzero(alike) < 20:
            continue
        darkest, middle = np.percentile(lights[alike], (DARK_SPOTS, 60))
        drop[y, x] = middle - light[y, x]
        spread[y, x] = middle - darkest
    return drop, spread


def _window(hole: BoolMask, margin: float) -> tuple[slice, slice]:
    rows, cols = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    pad = round(margin)
    return (
        slice(max(0, int(rows[0]) - pad), int(rows[-1]) + 1 + pad),
        slice(max(0, int(cols[0]) - pad), int(cols[-1]) + 1 + pad),
    )


def _scaled(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """OpenCV's (width, height) of a (height, width) picture after scaling."""
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _widen(mask: BoolMask, by: int) -> npt.NDArray[np.bool_]:
    kernel = np.ones((2 * by + 1, 2 * by + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), bool)
