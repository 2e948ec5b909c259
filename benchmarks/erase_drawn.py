"""Forty things that people would erase from scikit-image's photos, and a measure of the filling.

What stood behind them is not known, so no error can be taken. What can be seen is a filling that
looks like nothing near it: a second mouth, a leaf on a wall, a smear. `strange_share` says how much
of a filling is so.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from erase_cases import Mask, Pixels

PATCH = 7  # side of the patches compared, in pixels of the shrunken picture
SIDE = 48  # of a square of the hole's area, in the shrunken picture
UNLIKE = 18.0  # root mean square difference, in levels, from which patches are unlike

Point = tuple[int, int]


@dataclass(frozen=True)
class Drawing:
    """A hole drawn around something in a photo, in the photo's own pixels.

    Attributes:
        photo: a name that `read_photo` knows.
        thing: what is erased.
        points: (x, y) corners of a polygon; two of them are the box of an ellipse.
    """

    photo: str
    thing: str
    points: tuple[Point, ...]

    def hole(self, shape: tuple[int, ...]) -> Mask:
        """The hole (H, W) in a photo of this (height, width, …)."""
        canvas = np.zeros(shape[:2], np.uint8)
        if len(self.points) == 2:
            (left, top), (right, bottom) = self.points
            middle = ((left + right) / 2, (top + bottom) / 2)
            cv2.ellipse(canvas, (middle, (right - left, bottom - top), 0), 1, cv2.FILLED)
        else:
            cv2.fillPoly(canvas, [np.array(self.points, np.int32)], 1)
        return canvas.astype(bool)


# fmt: off
DRAWINGS = (
    Drawing("astronaut", "helmet", ((270, 512), (275, 430), (300, 370), (360, 335), (430, 335),
            (490, 380), (511, 440), (511, 511))),
    Drawing("astronaut", "shuttle", ((398, 0), (455, 0), (470, 150), (492, 235), (500, 262),
            (420, 292), (400, 262), (352, 240), (378, 170))),
    Drawing("coffee", "cup and saucer", ((70, 10), (490, 399))),
    Drawing("astronaut", "person", ((0, 511), (20, 400), (60, 320), (115, 260), (115, 180),
            (150, 150), (140, 60), (220, 0), (300, 20), (315, 100), (300, 180), (320, 240),
            (360, 275), (365, 330), (440, 335), (511, 400), (511, 511))),
    Drawing("astronaut", "face", ((172, 70), (272, 195))),
    Drawing("astronaut", "round patch", ((130, 340), (206, 430))),
    Drawing("astronaut", "name plate", ((275, 336), (332, 338), (328, 380), (276, 376))),
    Drawing("astronaut", "flag", ((0, 0), (45, 0), (70, 90), (112, 205), (105, 215), (45, 255),
            (30, 300), (20, 440), (0, 470))),
    Drawing("astronaut", "shuttle with its stand", ((378, 0), (478, 0), (485, 180), (505, 250),
            (495, 280), (362, 290), (345, 225), (375, 150))),
    Drawing("coffee", "spoon", ((395, 75), (425, 70), (412, 180), (408, 300), (370, 335),
            (320, 310), (318, 255), (370, 225))),
    Drawing("coffee", "cup", ((165, 60), (240, 12), (340, 15), (405, 70), (405, 160), (375, 240),
            (330, 255), (270, 250), (240, 310), (190, 310), (190, 200))),
    Drawing("coffee", "surface of the coffee", ((195, 88), (385, 195))),
    Drawing("chelsea", "left eye", ((128, 75), (212, 157))),
    Drawing("chelsea", "right eye", ((288, 98), (352, 172))),
    Drawing("chelsea", "nose", ((222, 230), (292, 220), (296, 250), (272, 280), (240, 272))),
    Drawing("rocket", "rocket", ((300, 118), (342, 118), (348, 412), (292, 412))),
    Drawing("rocket", "left tower", ((0, 0), (95, 0), (88, 300), (72, 426), (0, 426))),
    Drawing("rocket", "right mast", ((438, 116), (454, 116), (482, 400), (425, 400))),
    Drawing("rocket", "left mast", ((188, 136), (204, 136), (218, 400), (165, 400))),
    Drawing("rocket", "lamp", ((335, 365), (393, 425))),
    Drawing("motorcycle", "rear wheel", ((115, 238), (288, 402))),
    Drawing("motorcycle", "tank", ((305, 215), (360, 175), (430, 160), (490, 180), (480, 215),
            (380, 245), (330, 245))),
    Drawing("motorcycle", "motorcycle", ((85, 190), (150, 145), (350, 190), (470, 90), (570, 100),
            (590, 220), (655, 300), (695, 440), (640, 460), (530, 400), (380, 400), (345, 440),
            (310, 405), (220, 405), (120, 340), (95, 240))),
    Drawing("motorcycle", "headlight", ((500, 120), (580, 195))),
    Drawing("motorcycle", "red box", ((508, 200), (605, 200), (605, 290), (508, 290))),
    Drawing("camera", "photographer", ((20, 511), (5, 300), (60, 165), (150, 105), (165, 70),
            (230, 55), (280, 100), (275, 130), (335, 130), (340, 210), (285, 315), (205, 305),
            (155, 375), (150, 511))),
    Drawing("camera", "tripod", ((282, 180), (302, 180), (308, 300), (345, 293), (345, 312),
            (318, 325), (415, 505), (392, 511), (302, 385), (245, 511), (222, 505), (276, 320))),
    Drawing("camera", "tower", ((406, 110), (440, 110), (443, 232), (402, 232))),
    Drawing("camera", "camera", ((252, 130), (338, 130), (338, 215), (252, 215))),
    Drawing("coins", "coin", ((242, 90), (316, 162))),
    Drawing("coins", "two coins", ((18, 168), (130, 168), (130, 238), (18, 238))),
    Drawing("moon", "crater", ((90, 53), (154, 120))),
    Drawing("moon", "dark patch", ((215, 380), (255, 395), (305, 440), (290, 470), (230, 465))),
    Drawing("hubble", "galaxy", ((695, 440), (762, 508))),
    Drawing("page", "words", ((150, 66), (383, 60), (383, 84), (150, 88))),
    Drawing("page", "title", ((0, 4), (300, 4), (300, 40), (0, 36))),
    Drawing("clock", "clock", ((132, 85), (288, 222))),
    Drawing("cell", "cell", ((340, 285), (520, 462))),
    Drawing("retina", "optic disc", ((100, 550), (345, 775))),
    Drawing("ihc", "gland", ((236, 290), (396, 511))),
)
# fmt: on


def strange_share(filled: Pixels, hole: Mask) -> float:
    """The share of the filling that is unlike everything within the hole's own size around it.

    Each patch whose middle is in the hole is compared with all patches of known pixels whose middle
    is no further away than the side of a square of the hole's area. The picture is shrunk so that
    this side is `SIDE`, which makes small holes and large ones comparable.

    Args:
        filled: (H, W, 3).
        hole: (H, W).
    """
    scale = min(1.0, SIDE / np.sqrt(np.count_nonzero(hole)))
    size = tuple(max(PATCH, round(side * scale)) for side in hole.shape[::-1])
    small = cv2.resize(filled, size, interpolation=cv2.INTER_AREA)
    covered = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    radius = float(np.sqrt(covered.sum()))
    windows = np.lib.stride_tricks.sliding_window_view(small, (PATCH, PATCH), (0, 1))
    patches = windows.reshape(*windows.shape[:2], -1).astype(np.float32) - 128
    half = PATCH // 2
    middle = covered[half : half + patches.shape[0], half : half + patches.shape[1]] > 0.5
    wide = cv2.erode((covered == 0).astype(np.uint8), np.ones((PATCH, PATCH)), borderValue=0)
    known = wide[half : half + patches.shape[0], half : half + patches.shape[1]] > 0
    return float(np.mean(_nearest(patches, middle, known, radius) > UNLIKE))


def _nearest(patches: np.ndarray, ours: Mask, known: Mask, radius: float) -> np.ndarray:
    """Root mean square difference of each of our patches from the nearest known one in reach."""
    others, places = patches[known], np.argwhere(known).astype(np.float32)
    power = (others**2).sum(1)
    nearest = []
    for y in np.flatnonzero(ours.any(1)):
        mine = patches[y][ours[y]]
        apart = (mine**2).sum(1)[:, None] + power - 2 * mine @ others.T
        x = np.flatnonzero(ours[y])
        away = (places[:, 0] - y) ** 2 + (places[:, 1] - x[:, None]) ** 2
        nearest.append(np.where(away <= radius**2, apart, np.inf).min(1))
    return np.sqrt(np.maximum(np.concatenate(nearest), 0) / patches.shape[2])
