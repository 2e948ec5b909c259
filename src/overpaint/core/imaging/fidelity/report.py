"""The report on each picture that an edit makes: did it do what it should, and nothing else?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from overpaint.core.imaging.fidelity import quality, seams
from overpaint.core.imaging.fidelity.areas import ChangedArea
from overpaint.core.imaging.fidelity.layer import EditLayer

SIDE = 512
"""Longer side, in pixels, of the copies that are measured."""

FEWEST = 256
"""Pixels of a kept area that can be measured."""

MOVED_PX, ZOOMED, TURNED = 0.5, 0.3, 0.1
"""Pixels, percent and degrees from which the result says that the model moved the picture."""

VISIBLE_BORDER = 12.0
"""Border score from which the result says that the border shows."""

LEAST_PSNR = 20.0
"""In dB; below, a model that was free to edit anything did not keep the rest."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """An edit's picture in numbers.

    Attributes:
        changed: share of the picture's pixels that the edit may have changed; the others are the
            original's.
        kept_psnr, kept_ssim: of what the edit does not touch, in the model's own picture after
            what was taken back, beside what it was made of; None = there is nothing of it. The
            result shows the original there.
        shift: pixels of the picture by which the model had moved it.
        zoom: percent by which it had enlarged it.
        rotation: degrees by which it had turned it.
        tint: mean levels of 255 by which it had coloured it.
        border: see `seams.border`; None = there is none.
        cut_off: share of the masked area by which the edit goes on beyond it, unseen.
        areas: separate changes, the largest first, and whether they were kept.
    """

    changed: float
    kept_psnr: float | None = None
    kept_ssim: float | None = None
    shift: float = 0.0
    zoom: float = 0.0
    rotation: float = 0.0
    tint: float = 0.0
    border: float | None = None
    cut_off: float = 0.0
    areas: tuple[ChangedArea, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data, rounded for people."""
        values = {name: value for name, value in vars(self).items() if name != "areas"}
        rounded = {
            name: None if value is None else round(value, 4) for name, value in values.items()
        }
        return {**rounded, "areas": [each.as_json() for each in self.areas]}

    @property
    def warnings(self) -> list[str]:
        """Sentences on what a caller should know."""
        sentences = []
        if self.shift >= MOVED_PX or abs(self.zoom) >= ZOOMED or abs(self.rotation) >= TURNED:
            sentences.append(
                f"the model moved the whole picture by {self.shift:.1f} pixels, enlarged it by "
                f"{self.zoom:.2f} % and turned it by {self.rotation:.2f}°; this was undone"
            )
        if self.border is not None and self.border >= VISIBLE_BORDER:
            sentences.append(
                f"the edit's border may be visible (score {self.border:.0f}); try another "
                "seed, or a "
                "larger feather"
            )
        if self.cut_off:
            sentences.append(
                "mask: the edit continues beyond it and was cut off; mark more, or let "
                "the result follow the edit with follow=PIXELS"
            )
        count = sum(not each.kept for each in self.areas)
        if count and count == len(self.areas):
            sentences.append("every change was put back; keep_areas=NUMBERS keeps some")
        elif count:
            sentences.append(
                f"{count} change{'s' if count > 1 else ''} far from the edit "
                f"{'were' if count > 1 else 'was'} put back"
            )
        if self.areas and self.kept_psnr is not None and self.kept_psnr < LEAST_PSNR:
            sentences.append(
                "the model also repainted the rest of the picture "
                f"(PSNR {self.kept_psnr:.1f} dB); it was put back"
            )
        return sentences


def measure(
    before: Image.Image, layer: EditLayer, alpha: Image.Image | None, scale: float
) -> Fidelity:
    """The numbers of one window of an edit, all but `cut_off`.

    Args:
        before: 'RGB', the original on the canvas.
        layer: what goes in.
        alpha: 'L' of the canvas, not 0 = the edit; None = everywhere.
        scale: pixels of the picture in one of the canvas.

    Returns:
        `changed` is a share of the canvas.
    """
    if alpha is None:
        return Fidelity(changed=1.0, areas=layer.areas)
    motion = layer.motion
    fidelity = Fidelity(
        changed=float((np.asarray(alpha) > 0).mean()),
        tint=layer.tint,
        areas=layer.areas,
        shift=0.0 if motion is None else motion.shift * scale,
        zoom=0.0 if motion is None else 100 * (motion.zoom - 1),
        rotation=0.0 if motion is None else motion.degrees,
    )
    source = before if layer.source is None else layer.source
    small = [_small(each) for each in (before, source, layer.edited, alpha)]
    result = Image.composite(small[2], small[0], small[3])
    rest = np.asarray(small[3]) == 0
    border = seams.border(small[0], result, small[3])
    if rest.sum() < FEWEST:
        return replace(fidelity, border=border)
    difference = np.asarray(ImageChops.difference(small[1], small[2]))
    return replace(
        fidelity,
        border=border,
        kept_psnr=quality.psnr(difference, rest),
        kept_ssim=quality.ssim(small[1], small[2], rest),
    )


def joined(parts: Sequence[tuple[Fidelity, float]]) -> Fidelity:
    """The numbers of a picture from those of its windows: of each the worst one.

    Args:
        parts: of each window, and its share of the picture.
    """
    whole = [part for part, _ in parts]

    def least(name: str) -> float | None:
        return min((v for each in whole if (v := getattr(each, name)) is not None), default=None)

    def most(name: str) -> float:
        return float(max((getattr(each, name) for each in whole), key=abs))

    return Fidelity(
        changed=sum(part.changed * share for part, share in parts),
        kept_psnr=least("kept_psnr"),
        kept_ssim=least("kept_ssim"),
        shift=most("shift"),
        zoom=most("zoom"),
        rotation=most("rotation"),
        tint=most("tint"),
        border=max((p.border for p in whole if p.border is not None), default=None),
        cut_off=most("cut_off"),
        areas=tuple(area for each in whole for area in each.areas),
    )


def grade(measures: Mapping[str, Any]) -> float:
    """How well the rest was kept, 0 to 1, for ranking candidates.

    Args:
        measures: `Fidelity.as_json`, or nothing.
    """
    psnr, border = measures.get("kept_psnr"), measures.get("border")
    likeness = 1.0 if psnr is None else min(1.0, max(0.0, (psnr - 10) / 25))
    seam = 1.0 if border is None else 1 / (1 + border / VISIBLE_BORDER)
    stillness = 1 / (1 + measures.get("shift", 0.0) / 10 + abs(measures.get("zoom", 0.0)) / 3)
    return float(likeness * seam * stillness / (1 + measures.get("cut_off", 0.0)))


def _small(image: Image.Image) -> Image.Image:
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return small
