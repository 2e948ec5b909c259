"""The photos and masks that `benchmarks/erase.py` fills, and how a filling is measured.

Eight photos of scikit-image's wheel (all of them free to use; see its `data/README.txt`) and
sixty masks drawn from fixed seeds in unit coordinates, so that the 256² and the 512² run cover
the same things. Case `i` is mask `i` on photo `i mod 8`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
from skimage.metrics import structural_similarity

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

PHOTOS = ("astronaut", "chelsea", "coffee", "motorcycle", "rocket", "brick", "grass", "hubble")
MASKS = 60
SMALLEST, LARGEST = 0.03, 0.25


@dataclass(frozen=True)
class Case:
    """One photo with one hole; `truth` is (side, side, 3), `hole` (side, side)."""

    number: int
    photo: str
    truth: Pixels
    hole: Mask


def cases(side: int) -> Iterator[Case]:
    """The sixty cases at `side` x `side` pixels, in their fixed order."""
    photos = {name: square_photo(name, side) for name in PHOTOS}
    for number in range(MASKS):
        name = PHOTOS[number % len(PHOTOS)]
        yield Case(number, name, photos[name], draw_mask(number, side))


def square_photo(name: str, side: int) -> Pixels:
    """The photo's centred square, shrunk by area (or enlarged by Lanczos) to `side`."""
    photo = read_photo(name)
    height, width = photo.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = photo[top : top + edge, left : left + edge]
    way = cv2.INTER_AREA if side <= edge else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(square, (side, side), interpolation=way), np.uint8)


def read_photo(name: str) -> Pixels:
    """A photo of scikit-image's wheel as RGB at its own size."""
    photo = skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else _load(name)
    if photo.ndim == 2:
        photo = np.repeat(photo[..., None], 3, axis=2)
    return np.ascontiguousarray(photo[..., :3], np.uint8)


def _load(name: str) -> Pixels:
    loader = {"hubble": "hubble_deep_field", "ihc": "immunohistochemistry"}.get(name, name)
    return np.asarray(getattr(skimage.data, loader)(), np.uint8)


def draw_mask(number: int, side: int) -> Mask:
    """Mask `number`: a thing's outline, a brush stroke, a box or a few spots, 3-25 % of the area.

    The shape is grown about its middle until its area is what its seed asks for.
    """
    rng = np.random.default_rng(1000 + number)
    wanted = rng.uniform(SMALLEST, LARGEST)
    draw = (_outline, _stroke, _box, _spots)[number // len(PHOTOS) % 4]
    parts = draw(rng)
    low, high = 0.02, 3.0
    for _ in range(24):
        scale = (low + high) / 2
        area = _rasterise(parts, scale, 256).mean()
        low, high = (scale, high) if area < wanted else (low, scale)
    return _rasterise(parts, low, side)


@dataclass(frozen=True)
class Part:
    """Points (n, 2) about `centre`, all in units of the side; `width` > 0 makes it a line."""

    centre: npt.NDArray[np.float64]
    points: npt.NDArray[np.float64]
    width: float = 0.0


def _outline(rng: np.random.Generator) -> list[Part]:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = 0.3 + sum(
        rng.normal(0, 0.07 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(1, 6)
    )
    aspect = np.exp(rng.uniform(-0.5, 0.5, 2))
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * np.abs(radius)[:, None] * aspect
    return [Part(rng.uniform(0.25, 0.75, 2), points)]


def _stroke(rng: np.random.Generator) -> list[Part]:
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.5, 14))
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * 0.08, 0)
    return [Part(rng.uniform(0.3, 0.7, 2), points - points.mean(0), rng.uniform(0.1, 0.2))]


def _box(rng: np.random.Generator) -> list[Part]:
    half = 0.3 * np.exp(rng.uniform(-0.6, 0.6, 2))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return [Part(rng.uniform(0.1, 0.9, 2), corners)]


def _spots(rng: np.random.Generator) -> list[Part]:
    return [
        Part(rng.uniform(0.1, 0.9, 2), part.points * 0.5)
        for part in (_outline(rng)[0] for _ in range(rng.integers(3, 6)))
    ]


def _rasterise(parts: list[Part], scale: float, side: int) -> Mask:
    canvas = np.zeros((side, side), np.uint8)
    for part in parts:
        points = np.round((part.centre + part.points * scale) * side).astype(np.int32)
        if part.width:
            thick = max(1, round(part.width * scale * side))
            cv2.polylines(canvas, [points], isClosed=False, color=1, thickness=thick)
        else:
            cv2.fillPoly(canvas, [points], 1)
    return canvas.astype(bool)


@dataclass(frozen=True)
class Score:
    """PSNR (dB) and SSIM inside the hole, and gradient energy there over the truth's."""

    psnr: float
    ssim: float
    sharpness: float


def score(truth: Pixels, filled: Pixels, hole: Mask) -> Score:
    """Measures a filling inside its hole; all arrays (H, W[, 3])."""
    error = np.mean((truth[hole].astype(np.float64) - filled[hole]) ** 2)
    _, similarity = structural_similarity(truth, filled, channel_axis=2, full=True)
    energy = gradient(filled)[hole].mean() / max(gradient(truth)[hole].mean(), 1e-6)
    return Score(
        psnr=float(10 * np.log10(255**2 / max(error, 1e-3))),
        ssim=float(similarity[hole].mean()),
        sharpness=float(energy),
    )


def gradient(pixels: Pixels) -> npt.NDArray[np.float64]:
    """(H, W), steps between neighbouring grey levels."""
    grey = pixels.astype(np.float64).mean(2)
    down, right = np.gradient(grey)
    return np.hypot(down, right)
