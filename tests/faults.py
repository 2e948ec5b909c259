"""Ways in which an edit model moves, colours or repaints what nobody asked it to, each known.

A `Fault` is done to a true result, so that what was done can be compared with what is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a model does to a whole picture, beside the edit.

    Attributes:
        shift: pixels to the right and down.
        zoom: factor about the middle.
        degrees: clockwise about the middle.
        crop: pixels cut from the right and from below; what is left is stretched back, as where a
            model's size is no multiple of its step.
        gain: factor of red, green and blue.
        offset: levels added to red, green and blue.
        gamma: exponent of values from 0 to 1.
        sharpen: amount of an unsharp mask.
        noise: standard deviation, in levels, of what an autoencoder adds.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    degrees: float = 0.0
    crop: tuple[int, int] = (0, 0)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gamma: float = 1.0
    sharpen: float = 0.0
    noise: float = 0.0

    def matrix(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """(2, 3), from places in the true picture to places in the faulty one."""
        width, height = size
        middle = (width - 1) / 2, (height - 1) / 2
        matrix = np.asarray(cv2.getRotationMatrix2D(middle, -self.degrees, self.zoom), np.float64)
        matrix[:, 2] += self.shift
        right, below = self.crop
        stretch = np.diag([width / (width - right), height / (height - below)])
        # Edges of pixels, not their middles, stay where they are when a picture is stretched.
        edge = (np.diag(stretch) - 1) / 2
        matrix = stretch @ matrix
        matrix[:, 2] += edge
        return matrix

    def done_to(self, picture: Pixels, seed: int = 0) -> Pixels:
        """A faulty copy of an (H, W, 3) picture."""
        height, width = picture.shape[:2]
        values = picture.astype(np.float32)
        matrix = self.matrix((width, height))
        if not np.allclose(matrix, np.eye(2, 3)):
            values = cv2.warpAffine(
                values,
                matrix,
                (width, height),
                flags=cv2.INTER_LANCZOS4,
                borderMode=cv2.BORDER_REPLICATE,
            )
        values = 255 * (values.clip(0, 255) / 255) ** self.gamma
        values = values * np.float32(self.gain) + np.float32(self.offset)
        if self.sharpen:
            values += self.sharpen * (values - cv2.GaussianBlur(values, (0, 0), 1.2))
        if self.noise:
            rng = np.random.default_rng(seed)
            fine = rng.normal(0, 1, values.shape).astype(np.float32)
            soft = cv2.GaussianBlur(fine, (0, 0), 0.7)  # as an autoencoder's, not grain by grain
            values += self.noise * soft / soft.std()
        return np.rint(values).clip(0, 255).astype(np.uint8)


def geometric(rng: np.random.Generator) -> Fault:
    """A shift of 0.3 to 12 pixels, a zoom of 0.2 to 3 %, or both and a rotation of up to 1°."""
    kind = rng.integers(3)
    shift, zoom, degrees = (0.0, 0.0), 1.0, 0.0
    if kind != 1:
        length, angle = np.exp(rng.uniform(np.log(0.3), np.log(12))), rng.uniform(0, 2 * np.pi)
        shift = (float(length * np.cos(angle)), float(length * np.sin(angle)))
    if kind != 0:
        zoom = 1 + float(rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(0.002), np.log(0.03))))
    if kind == 2:
        degrees = float(rng.uniform(-1, 1))
    return Fault(shift=shift, zoom=zoom, degrees=degrees, noise=2.0)


def tonal(rng: np.random.Generator) -> Fault:
    """A tint and another gamma."""
    gain = tuple(rng.uniform(0.92, 1.05, 3).tolist())
    offset = tuple(rng.uniform(-8, 8, 3).tolist())
    return Fault(gain=gain, offset=offset, gamma=float(rng.uniform(0.9, 1.12)), noise=2.0)


def grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """An edited area that reaches so many pixels beyond its mask."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), bool)


def edited_area(rng: np.random.Generator, shape: tuple[int, int], most: float) -> NDArray[np.bool_]:
    """(H, W), one to three blobs that cover up to a share of the picture."""
    height, width = shape
    wanted = rng.uniform(0.02, most)
    canvas = np.zeros(shape, np.uint8)
    parts = int(rng.integers(1, 4))
    for _ in range(parts):
        area = wanted * height * width / parts / np.pi
        stretch = rng.uniform(0.6, 1.6)
        axes = int(np.sqrt(area * stretch)), int(np.sqrt(area / stretch))
        middle = int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.2, 0.8) * height)
        cv2.ellipse(canvas, middle, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    return canvas > 0


@dataclass(frozen=True, eq=False)
class Case:
    """A picture and its true edit.

    Attributes:
        before, after: (H, W, 3); they differ in `area` alone.
        area: (H, W).
    """

    before: Pixels
    after: Pixels
    area: NDArray[np.bool_]


def cases(pictures: list[Pixels], count: int, seed: int, most: float = 0.4) -> Iterator[Case]:
    """True edits: a part of each picture shows another one."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        before = pictures[number % len(pictures)]
        other = pictures[int(rng.integers(len(pictures) - 1) + number + 1) % len(pictures)]
        area = edited_area(rng, before.shape[:2], most)
        after = np.where(area[..., None], np.flip(other, axis=1), before)
        yield Case(before, np.ascontiguousarray(after), area)


PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "brick", "grass")


def pictures(side: int, scenes: int = 3) -> list[Pixels]:
    """Photos that come with scikit-image, and scenes that the twins know, side x side pixels."""
    import skimage.data

    from training.world.render import render
    from training.world.scene import sample_scene

    photos = []
    for name in PHOTOS:
        photo = np.asarray(getattr(skimage.data, name)())
        photo = np.repeat(photo[..., None], 3, axis=2) if photo.ndim == 2 else photo[..., :3]
        edge = min(photo.shape[:2])
        square = np.ascontiguousarray(photo[:edge, :edge])
        photos.append(np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)))
    rng = np.random.default_rng(5)
    return [*photos, *(render(sample_scene(rng, 4), side) for _ in range(scenes))]
