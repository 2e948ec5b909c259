"""GrabCut: a thing from a box or from points, by its colours. No weights.

Rother, Kolmogorov and Blake 2004, as OpenCV has it: colours of the thing and of what is around it
as Gaussian mixtures, the border by a graph cut. It works on a window around the hints, brought to
a size at which it is fast and at which the border of a small thing is not a matter of single
pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np
from PIL import Image

from overpaint.core.geometry import Box
from overpaint.core.imaging.detections import Detection, box_of
from overpaint.segmenters.segmenter import Hints, Point, Rectangle, Segmenter, refuse

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AREA = 384 * 384  # pixels of the window when it is cut
_MOST_ENLARGED = 4.0
_CONTEXT = 0.5  # of the box's longer side, around the box: the colours that are not the thing
_ROUNDS = 5
_SAMPLES = 20_000  # pixels around the box that its colours are compared with
_COLOURS = 8  # of the surroundings
_NEAR = 12.0  # colour distance (CIE Lab) up to which a point's surroundings may belong to it
_SPECK = 0.02  # of the largest part's area
_SEED = 0  # of the mixtures' first guess, so that the same hints give the same mask


class GrabCut(Segmenter):
    """Cuts out what a box encloses, or what has the colours around some points."""

    name: ClassVar[str] = "grabcut"

    def segment(self, picture: Image.Image, hints: Hints) -> list[Detection]:
        """See `Segmenter`; confidences are unknown.

        Raises:
            UnsupportedOption: for words, and without hints.
        """
        hints.check(picture.size)
        if hints.words is not None:
            raise refuse(self.name, "words", "name a model that reads, such as grounding-dino")
        if not hints.boxes and not hints.points:
            raise refuse(self.name, "no hint", "give a point or a box, or name sam2")
        if not hints.boxes:
            return [_detection(_from_points(picture, hints.points))]
        return [_detection(_from_box(picture, box, hints.points)) for box in hints.boxes]


def _from_box(picture: Image.Image, box: Rectangle, points: tuple[Point, ...]) -> NDArray[np.bool_]:
    whole = Box.of_size(picture.size)
    outer = Box(*map(math.floor, box[:2]), *map(math.ceil, box[2:])).clip(whole)
    window = outer.grow(max(8, round(_CONTEXT * max(outer.size)))).clip(whole)
    pixels, scale = _enlarged(picture, window)
    guess = np.full(pixels.shape[:2], cv2.GC_BGD, np.uint8)
    left, top, right, bottom = (
        round((edge - start) * factor)
        for edge, start, factor in zip(
            outer.as_tuple(), (window.left, window.top) * 2, scale * 2, strict=True
        )
    )
    inside = np.s_[top:bottom, left:right]
    guess[inside] = np.where(_unlike(pixels, inside), cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    _mark(guess, points, window, scale)
    return _without_specks(_back(_cut(pixels, guess), window, picture.size))


def _from_points(picture: Image.Image, points: tuple[Point, ...]) -> NDArray[np.bool_]:
    """The thing is guessed to be what joins the points in nearly their colours."""
    window = Box.of_size(picture.size)
    pixels, scale = _enlarged(picture, window)
    near = np.zeros((pixels.shape[0] + 2, pixels.shape[1] + 2), np.uint8)
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    for point in points:
        if point.inside:
            seed = _pixel(point, window, scale, pixels.shape)
            tolerance = (_NEAR,) * 3
            flags = cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (255 << 8) | 8
            cv2.floodFill(lab, near, seed, (0.0,) * 3, tolerance, tolerance, flags)
    guess = np.where(near[1:-1, 1:-1] > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    _mark(guess, points, window, scale)
    return _parts_at_points(_back(_cut(pixels, guess), window, picture.size), points)


def _unlike(pixels: NDArray[np.uint8], inside: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Where the box's colours differ from those around it: a first guess that leaves out holes.

    Distance to the nearest of a few colours of the surroundings, split in two by Otsu's method.
    """
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    around = np.ones(pixels.shape[:2], np.bool_)
    around[inside] = False
    if not around.any():
        return np.ones_like(around[inside])
    cv2.setRNGSeed(_SEED)
    samples = lab[around][:: max(1, int(around.sum()) // _SAMPLES)]
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    count = min(_COLOURS, len(samples))
    _, _, colours = cv2.kmeans(samples, count, None, stop, 1, cv2.KMEANS_PP_CENTERS)
    distance = np.min([np.linalg.norm(lab[inside] - each, axis=2) for each in colours], axis=0)
    scaled = np.clip(distance, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(scaled > threshold)


def _cut(pixels: NDArray[np.uint8], guess: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0 or 255 for each pixel."""
    ours = (guess == cv2.GC_FGD) | (guess == cv2.GC_PR_FGD)
    if ours.all() or not ours.any():  # nothing to tell it apart from
        return np.where(ours, np.uint8(255), np.uint8(0))
    cv2.setRNGSeed(_SEED)
    backdrop, thing = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(pixels, guess, None, backdrop, thing, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    foreground = (guess == cv2.GC_FGD) | (guess == cv2.GC_PR_FGD)
    return np.where(foreground, np.uint8(255), np.uint8(0))


def _enlarged(picture: Image.Image, window: Box) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """The window's pixels at working size, and the factors by which x and y grew."""
    factor = min(math.sqrt(_AREA / window.area), _MOST_ENLARGED)
    size = (max(1, round(window.width * factor)), max(1, round(window.height * factor)))
    part = picture.crop(window.as_tuple()).resize(size, Image.Resampling.BICUBIC)
    return np.array(part), (size[0] / window.width, size[1] / window.height)


def _mark(
    guess: NDArray[np.uint8],
    points: tuple[Point, ...],
    window: Box,
    scale: tuple[float, float],
) -> None:
    """Points are certain, and so is what lies right beside them."""
    radius = max(1, round(2 * min(scale)))
    for point in points:
        value = cv2.GC_FGD if point.inside else cv2.GC_BGD
        cv2.circle(guess, _pixel(point, window, scale, guess.shape), radius, value, cv2.FILLED)


def _pixel(
    point: Point, window: Box, scale: tuple[float, float], shape: tuple[int, ...]
) -> tuple[int, int]:
    x, y = (point.x - window.left) * scale[0], (point.y - window.top) * scale[1]
    return min(max(int(x), 0), shape[1] - 1), min(max(int(y), 0), shape[0] - 1)


def _back(foreground: NDArray[np.uint8], window: Box, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The cut at the picture's size."""
    part = Image.fromarray(foreground).resize(window.size, Image.Resampling.BOX)
    whole = Image.new("L", size, 0)
    whole.paste(part, window.as_tuple())
    return np.asarray(whole) >= 128


def _parts_at_points(mask: NDArray[np.bool_], points: tuple[Point, ...]) -> NDArray[np.bool_]:
    """The parts that hold a point: elsewhere the same colours belong to other things."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    numbers = {int(parts[int(point.y), int(point.x)]) for point in points if point.inside} - {0}
    return np.isin(parts, list(numbers))


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the parts that are tiny beside the largest one."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    if count < 3:
        return mask
    return np.asarray(mask & (areas >= _SPECK * areas[1:].max())[parts])


def _detection(mask: NDArray[np.bool_]) -> Detection:
    return Detection(box=box_of(mask), mask=mask)
