"""What a model did to a whole picture, taken back: it is registered, then its tint goes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from overpaint.core.geometry import Box, Plan
from overpaint.core.imaging import changes
from overpaint.core.imaging.fidelity import areas, layer, registration, tone
from overpaint.core.imaging.fidelity.arrays import RgbPixels
from overpaint.core.imaging.fidelity.layer import EditLayer, ModelOutput
from overpaint.core.imaging.fidelity.registration import Motion

LEAST_CHANGED = 0.0005
"""Share of the picture that a local edit changes at least; with less, a tint is the edit itself."""

SIDE = 384
"""Longer side, in pixels, of the copies in which changes are counted."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Correction:
    """A model's picture without what it did to the whole.

    Attributes:
        picture: 'RGB'; the model's own one where nothing had to be taken back.
        motion: that was taken back, in pixels of the picture; None = there was none.
        tint: mean levels of 255 that were taken off; 0 = none.
        is_whole: most of the picture changed, which is then what was asked for.
    """

    picture: Image.Image
    motion: Motion | None = None
    tint: float = 0.0
    is_whole: bool = False


def by_changes(
    output: ModelOutput,
    plan: Plan,
    *,
    keep: Collection[int] | None = None,
    target: Image.Image | None = None,
) -> EditLayer:
    """Where an edit without a mask goes: what is left when the model's own faults are taken back.

    Args:
        output: the model's own.
        plan: how the picture's window went to the canvas.
        keep, target: what of the changes stays; see `areas.change_map`. `target` has the
            picture's size.
    """
    source = output.reconstruction
    correction = corrected(source, output.picture, plan.content)
    if correction.is_whole:
        return EditLayer(edited=output.picture, source=source)
    aim = None if target is None else plan.to_canvas(target, fill=0)
    map_ = areas.change_map(source, correction.picture, keep=keep, target=aim)
    alpha = None if map_.mask is None else layer.whole_alpha(map_.mask, plan, crops=True)
    return EditLayer(
        edited=correction.picture,
        alpha=alpha,
        source=source,
        motion=correction.motion,
        tint=correction.tint,
        areas=areas.placed(map_.areas, plan.box_from_canvas),
        output=output if map_.areas else None,
    )


def corrected(before: Image.Image, after: Image.Image, content: Box) -> Correction:
    """Take shift, zoom, rotation and tint out of a model's picture.

    An edit of the whole picture is left as it is: where most of it differs after the correction,
    too, or where nothing but a tint was done.

    Args:
        before: 'RGB', the picture as the model would return it unedited.
        after: 'RGB' of the same size, as the model returned it.
        content: the part of both that is picture, not padding.
    """
    whole = Box.of_size(before.size)
    one, other = (_part(each, content) for each in (before, after))
    motion = registration.register(one, other)
    aligned = other if motion is None else motion.undone(other)
    comparable = None if motion is None else motion.visible()
    tint = tone.tint(one, aligned, comparable)
    clean = aligned if tint is None else tint.taken_off(aligned)
    if comparable is not None:
        clean = np.where(comparable[..., None], clean, one)
    share = _changed(one, clean)
    if tint is not None and share < LEAST_CHANGED:
        tint, clean = None, aligned
        share = _changed(one, clean)
    if share > changes.GLOBAL_SHARE:
        return Correction(picture=after, is_whole=True)
    if motion is None and tint is None:
        return Correction(picture=after)
    picture = Image.fromarray(clean)
    if content != whole:
        picture = after.copy()
        picture.paste(Image.fromarray(clean), content.as_tuple())
    return Correction(picture=picture, motion=motion, tint=0.0 if tint is None else tint.levels)


def _part(image: Image.Image, content: Box) -> RgbPixels:
    return np.asarray(image.crop(content.as_tuple()), np.uint8)


def _changed(before: RgbPixels, after: RgbPixels) -> float:
    """Share of the picture that differs clearly, seen in a smaller copy."""
    height, width = before.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pair = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (before, after)]
    return float(changes.clearly_changed(*map(Image.fromarray, pair)).mean())
