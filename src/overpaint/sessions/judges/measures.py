"""What an edit did to a picture, in numbers: how much changed, and whether the rest is as it was.

The *region* is where a picture changed clearly, as `core.changes` finds it, or where the mask is;
the *kept area* is the rest. Drift is change of the kept area: noise, blur and shifts of colour that
nobody asked for and that add up over many turns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image, ImageChops

from overpaint.core.geometry import Size
from overpaint.core.imaging import changes
from overpaint.core.imaging.borders import Borders
from overpaint.core.imaging.fidelity import quality
from overpaint.core.imaging.fidelity.arrays import RegionMask
from overpaint.core.imaging.images import Picture

WORKING_PIXELS = 1_000_000
"""Regions, SSIM and colours are looked for in a copy of at most so many pixels."""

_FEWEST = 64
"""Pixels of a kept area that can be measured."""


class Similarity(Protocol):
    """A model that says how alike two pictures are as wholes, from -1 to 1."""

    @property
    def name(self) -> str:
        """As results call it."""

    def between(self, before: Image.Image, after: Image.Image, /) -> float:
        """Cosine of the angle between what it sees in two 'RGB' pictures."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A picture beside an earlier one.

    Attributes:
        changed: share of pixels of which any byte differs.
        region: share of the picture that changed clearly, or that the mask marks.
        kept_identical: share of the kept area's pixels that are the same in every byte.
        kept_psnr: of the kept area, in dB; 99 = identical; None = there is no kept area.
        kept_ssim: of the kept area, 0 to 1.
        colour_shift: of the kept area's mean colour, CIE 1976 (1 is just visible).
        sharpness: of the kept area, as a factor: below 1 it became softer.
        similarity: of the whole pictures, by a model; None = none is configured.
    """

    changed: float
    region: float
    kept_identical: float | None = None
    kept_psnr: float | None = None
    kept_ssim: float | None = None
    colour_shift: float | None = None
    sharpness: float | None = None
    similarity: float | None = None

    def as_json(self) -> dict[str, float | None]:
        """Plain data, rounded for people."""
        return {
            name: None if value is None else round(value, 4) for name, value in asdict(self).items()
        }


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From where on a number becomes a warning.

    Attributes:
        kept_psnr, kept_ssim, similarity: less is a warning.
        colour_shift: more is a warning.
        sharpness: a factor further from 1 than this one is a warning.
    """

    kept_psnr: float = 35.0
    kept_ssim: float = 0.95
    colour_shift: float = 2.0
    sharpness: float = 0.8
    similarity: float = 0.7

    def warnings(self, comparison: Mapping[str, Any], beside: str) -> list[str]:
        """Sentences on what went past a threshold.

        Args:
            comparison: `Comparison.as_json`.
            beside: what it was compared with, for the sentence.
        """
        sentences = []
        for name, about in (
            ("kept_psnr", "what should have stayed differs (PSNR {:.1f} dB)"),
            ("kept_ssim", "what should have stayed differs in its details (SSIM {:.3f})"),
            ("similarity", "the picture is another one as a whole (similarity {:.2f})"),
        ):
            value = comparison[name]
            if value is not None and value < getattr(self, name):
                sentences.append(about.format(value))
        shift, sharp = comparison["colour_shift"], comparison["sharpness"]
        if shift is not None and shift > self.colour_shift:
            sentences.append(f"colours shifted (by {shift:.1f})")
        if sharp is not None and not self.sharpness <= sharp <= 1 / self.sharpness:
            sentences.append(
                f"it became {'softer' if sharp < 1 else 'harsher'} (factor {sharp:.2f})"
            )
        return [f"Beside {beside}, {each}." for each in sentences]


def compare(
    before: Picture,
    after: Picture,
    region: Image.Image | None = None,
    similarity: Similarity | None = None,
) -> Comparison:
    """Measure what became of a picture.

    Args:
        before, after: of equal size; where the sizes differ, `before` is resized.
        region: 'L' of any size, 255 = was meant to change; None = where it changed clearly.
        similarity: a model that compares whole pictures.
    """
    if region is None:
        region = changed_region(before, after)
    first, second = before.to_srgb(), after.to_srgb()
    if first.size != second.size:
        first = first.resize(second.size, Image.Resampling.LANCZOS)
    whole: RegionMask = np.asarray(region.resize(second.size, Image.Resampling.NEAREST)) == 0
    # Bytes are compared in the pictures' own colour space, where they were kept.
    same_space = before.size == after.size and before.icc_profile == after.icc_profile
    exact = (before.rgb, after.rgb) if same_space else (first, second)
    difference = ImageChops.difference(*exact)
    red, green, blue = difference.split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    differs: RegionMask = np.asarray(most) > 0
    comparison = Comparison(
        changed=float(differs.mean()),
        region=1 - float(whole.mean()),
        similarity=None if similarity is None else similarity.between(first, second),
    )
    if whole.sum() < _FEWEST:
        return comparison
    both = pair(before, after)
    outside: RegionMask = np.asarray(region.resize(both[0].size, Image.Resampling.NEAREST)) == 0
    return replace(
        comparison,
        kept_identical=1 - float(differs[whole].mean()),
        kept_psnr=quality.psnr(np.asarray(difference), whole),
        kept_ssim=quality.ssim(*both, outside),
        colour_shift=_colour_shift(*both, outside),
        sharpness=_sharpness(second, whole) / _sharpness(first, whole),
    )


def changed_region(before: Picture, after: Picture) -> Image.Image:
    """'L' of the working size of `after`, 255 = clearly changed, and a little around it."""
    return changes.changed_region(*pair(before, after))


def pair(before: Picture, after: Picture) -> tuple[Image.Image, Image.Image]:
    """Both in sRGB, in the working size of `after`."""
    second = _small(after.to_srgb())
    return before.to_srgb().resize(second.size, Image.Resampling.BOX), second


def union(first: Image.Image | None, second: Image.Image) -> Image.Image:
    """The union of two regions, in the second one's size."""
    if first is None:
        return second
    return ImageChops.lighter(first.resize(second.size, Image.Resampling.NEAREST), second)


def moved(region: Image.Image, borders: Borders, size: Size) -> Image.Image:
    """A region of a picture in the working size of the larger one that it became.

    Args:
        region: 'L' of any size.
        borders: how far the picture grew.
        size: (width, height) of the picture before.
    """
    larger = borders.around(size)
    placed = Image.new("L", _working_size(larger))
    across, down = placed.width / larger[0], placed.height / larger[1]
    inside = borders.within(size)
    left, top = round(inside.left * across), round(inside.top * down)
    right, bottom = round(inside.right * across), round(inside.bottom * down)
    part = max(1, right - left), max(1, bottom - top)
    placed.paste(region.resize(part, Image.Resampling.NEAREST), (left, top))
    return placed


def working(mask: Image.Image) -> Image.Image:
    """A mask as a region: in the working size, all that it touches is 255."""
    small = mask.resize(_working_size(mask.size), Image.Resampling.BOX)
    return small.point(lambda value: 255 if value else 0)


def _small(image: Image.Image) -> Image.Image:
    size = _working_size(image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.BOX)


def _working_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = math.sqrt(WORKING_PIXELS / (size[0] * size[1]))
    if scale >= 1:
        return size
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _colour_shift(before: Image.Image, after: Image.Image, area: RegionMask) -> float:
    first, second = (changes.lab(each)[area].mean(axis=0) for each in (before, after))
    return float(np.linalg.norm(first - second))


def _sharpness(image: Image.Image, area: RegionMask) -> float:
    """Root mean square of the Laplacian, so that a factor of 2 is twice the contrast of details."""
    edges = cv2.Laplacian(np.asarray(image.convert("L")), cv2.CV_16S)
    inside = quality.eroded(area, 1)
    values = edges[inside if inside.any() else area].astype(np.float32)
    # 1: a flat area has no sharpness to lose
    return float(np.sqrt(np.mean(values * values))) + 1.0
