"""From the canvases that a model decoded to the whole picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from overpaint.core.imaging.images import Picture
from overpaint.diffusion.family import Prepared
from overpaint.engine import blending
from overpaint.engine.edit import Edit

if TYPE_CHECKING:
    from overpaint.core.imaging.fidelity.report import Fidelity


@dataclass(frozen=True, eq=False)
class Rendered:
    """A finished picture.

    Attributes:
        picture: the whole.
        fidelity: in numbers; None = the model's own picture was asked for.
    """

    picture: Picture
    fidelity: Fidelity | None


def unfinished(edit: Edit) -> Picture:
    """The picture with the first image's edit as it stands, decoded cheaply."""
    picture = edit.request.image
    for region, prepared in zip(edit.regions, edit.images[0], strict=True):
        small = edit.model.family.preview(prepared)
        edited = small.resize(region.plan.canvas, Image.Resampling.BILINEAR)
        alpha = None
        # Without a mask, what changed is known of a finished picture only.
        if edit.request.mask is not None and edit.options.composite:
            alpha = edit.model.family.blend_mask(
                region.request, edit.options, region.plan, prepared, edited
            )
        picture = blending.over(picture, edit, region, edited, alpha)
    return picture


def finished(edit: Edit, image: Sequence[Prepared]) -> Rendered:
    """The picture with one image's edit, after its last step."""
    picture, parts = edit.request.image, []
    for region, prepared in zip(edit.regions, image, strict=True):
        started = time.perf_counter()
        edited = edit.model.family.decode(prepared)
        decoded = time.perf_counter()
        blended = blending.blended(picture, edit, region, prepared, edited)
        picture = blended.picture
        if blended.fidelity is not None:
            share = region.plan.window.area / (picture.size[0] * picture.size[1])
            parts.append((blended.fidelity, share))
        edit.timings["decode"] += decoded - started
        edit.timings["composite"] += time.perf_counter() - decoded
    return Rendered(picture, _joined(parts))


def _joined(parts: Sequence[tuple[Fidelity, float]]) -> Fidelity | None:
    if not parts:
        return None
    from overpaint.core.imaging.fidelity import report  # OpenCV changes the environment

    return report.joined(parts)
