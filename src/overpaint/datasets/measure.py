"""What can be measured of a picture without weights.

Issues and their thresholds are CleanVision's; hashes are ImageHash's.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from overpaint.core.imaging.images import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of R, G and B in brightness (ITU-R BT.709), applied to the values as they are stored."""

VISIBLE = 8
"""Grey levels by which a pixel must differ to count as changed."""

ALIKE_COLOURS = 3
"""Distance of colour hashes up to which two pictures have the same colours."""


def measures(picture: Picture) -> dict[str, Any]:
    """Brightness, contrast, sharpness, issues and hashes: plain data."""
    rgb = picture.to_srgb()
    luma = luma_of(np.asarray(rgb))
    return {
        "width": picture.size[0],
        "height": picture.size[1],
        "brightness": round(float(luma.mean()), 4),
        "contrast": round(float(luma.std()), 4),
        "sharpness": round(sharpness(rgb), 2),
        "issues": issues(rgb),
        "hash": hashes(rgb),
    }


def luma_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """H x W, 0..1, of H x W x 3."""
    weighted = pixels.astype(np.float32) @ np.asarray(LUMA, np.float32)
    return np.asarray(weighted / np.float32(255))


def sharpness(rgb: Image.Image) -> float:
    """Variance of the Laplacian of the grey picture (Pech-Pacheco et al. 2000)."""
    import cv2

    return float(cv2.Laplacian(np.asarray(rgb.convert("L")), cv2.CV_64F).var())


def hashes(rgb: Image.Image) -> str:
    """64 bits of structure (DCT) and 42 of colour, as hexadecimal digits, parted by '-'."""
    import imagehash

    return f"{imagehash.phash(rgb)}-{imagehash.colorhash(rgb)}"


def distance(first: str, second: str) -> int:
    """Bits by which the structure of two hashes differs; 64 where the colours differ."""
    (structure, colours), (other, others) = first.split("-"), second.split("-")
    if _bits(colours, others) > ALIKE_COLOURS:
        return 64
    return _bits(structure, other)


class Neighbours:
    """Hashes of kept pictures, to be searched for near duplicates."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._bits = np.zeros((2, 1024), np.uint64)

    def add(self, key: str, own: str) -> None:
        """Remember a picture's hash under a key."""
        place = len(self._keys)
        if place == self._bits.shape[1]:
            self._bits = np.concatenate([self._bits, np.zeros_like(self._bits)], axis=1)
        self._bits[:, place] = _parts(own)
        self._keys.append(key)

    def nearest(self, own: str, most: int) -> str | None:
        """The key of the first picture whose `distance` is at most `most`; None = there is none."""
        bits = self._bits[:, : len(self._keys)]
        structure, colours = np.bitwise_count(bits ^ _parts(own)[:, np.newaxis])
        near = np.flatnonzero((structure <= most) & (colours <= ALIKE_COLOURS))
        return self._keys[int(near[0])] if near.size else None


def issues(rgb: Image.Image) -> list[str]:
    """CleanVision's issues that one picture can have by itself."""
    import pandas as pd

    findings, values = [], dict[str, Any]()
    for kind, (measure, options, threshold) in _properties().items():
        if not set(measure.score_columns) <= set(values):
            values |= measure.calculate(rgb)
        row = pd.DataFrame([values])
        scores = measure.get_scores(row, kind, **options)
        if bool(measure.mark_issue(scores, kind, threshold).iloc[0, 0]):
            findings.append(kind)
    if _is_grey(rgb):
        findings.append("grayscale")
    return findings


def changed_share(before: Image.Image, after: Image.Image) -> float:
    """Share of the pixels that visibly differ; 1 where the sizes do."""
    if before.size != after.size:
        return 1.0
    return float(changed_pixels(before, after).mean())


def changed_pixels(before: Image.Image, after: Image.Image) -> NDArray[np.bool_]:
    """H x W: where two 'RGB' pictures of equal size visibly differ."""
    difference = np.abs(np.asarray(before, np.int16) - np.asarray(after, np.int16))
    return np.asarray(difference.max(axis=2) >= VISIBLE)


def psnr(before: Image.Image, after: Image.Image, where: NDArray[np.bool_]) -> float:
    """Peak signal to noise ratio in dB of the pixels `where`; 100 where they are the same."""
    first, second = np.asarray(before, np.float64)[where], np.asarray(after, np.float64)[where]
    error = float(np.mean((first - second) ** 2)) if first.size else 0.0
    return 100.0 if error == 0 else float(min(100.0, 10 * np.log10(255**2 / error)))


def _parts(own: str) -> NDArray[np.uint64]:
    return np.array([int(part, 16) for part in own.split("-")], np.uint64)


def _bits(first: str, second: str) -> int:
    return (int(first, 16) ^ int(second, 16)).bit_count()


def _is_grey(rgb: Image.Image) -> bool:
    pixels = np.asarray(rgb)
    return bool((pixels == pixels[..., :1]).all())


@cache
def _properties() -> dict[str, tuple[Any, dict[str, Any], float]]:
    """CleanVision's measures, options and thresholds by issue."""
    from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager

    manager = ImagePropertyIssueManager()
    defaults = manager.get_default_params()
    kinds = ("dark", "light", "odd_aspect_ratio", "low_information", "blurry")
    return {
        kind: (
            manager.image_properties[kind],
            {key: value for key, value in defaults[kind].items() if key != "threshold"},
            defaults[kind]["threshold"],
        )
        for kind in kinds
    }
