"""From the canvases that a model decoded to the whole picture."""

from __future__ import annotations

import time
from collections.abc import Sequence

from PIL import Image

from overpaint.core.compositing import composite
from overpaint.core.imaging.images import Picture
from overpaint.diffusion.family import Prepared
from overpaint.engine.edit import Edit
from overpaint.engine.windows import Region


def unfinished(edit: Edit) -> Picture:
    """The picture with the first image's edit as it stands, decoded cheaply."""
    picture = edit.canvas.image
    for region, prepared in zip(edit.regions, edit.images[0], strict=True):
        small = edit.model.family.preview(prepared)
        edited = small.resize(region.plan.canvas, Image.Resampling.BILINEAR)
        if edit.canvas.mask is None:
            # What changed is known of a finished picture only.
            picture = _over(picture, edit, region, edited, None)
        else:
            picture = _placed(picture, edit, region, prepared, edited)
    return picture


def finished(edit: Edit, image: Sequence[Prepared]) -> Picture:
    """The picture with one image's edit, after its last step."""
    picture = edit.canvas.image
    for region, prepared in zip(edit.regions, image, strict=True):
        started = time.perf_counter()
        edited = edit.model.family.decode(prepared)
        decoded = time.perf_counter()
        picture = _placed(picture, edit, region, prepared, edited)
        edit.timings["decode"] += decoded - started
        edit.timings["composite"] += time.perf_counter() - decoded
    return picture


def _placed(
    picture: Picture, edit: Edit, region: Region, prepared: Prepared, edited: Image.Image
) -> Picture:
    """The edited canvas over the picture, where the family says."""
    alpha = None
    if edit.options.composite:
        alpha = edit.model.family.blend_mask(
            region.request, edit.options, region.plan, prepared, edited
        )
    return _over(picture, edit, region, edited, alpha)


def _over(
    picture: Picture, edit: Edit, region: Region, edited: Image.Image, alpha: Image.Image | None
) -> Picture:
    """The edited canvas over the picture; None = everywhere.

    Grey stays grey where a mask limits the edit; without one it takes colours that are there.
    """
    if alpha is None:
        alpha = Image.new("L", picture.size, 255)
    if region.request.mask is None and picture.is_grey and _is_coloured(edited):
        picture = picture.in_colour()
    in_srgb = edit.model.family.spec.in_srgb
    return composite(picture, region.plan, edited, alpha, in_srgb=in_srgb)


def _is_coloured(picture: Image.Image) -> bool:
    from overpaint.core.imaging.changes import is_coloured  # OpenCV changes the environment

    return is_coloured(picture)
