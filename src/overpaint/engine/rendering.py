"""From the canvas that a model decoded to the whole picture."""

from __future__ import annotations

import time

from PIL import Image

from overpaint.core.compositing import composite
from overpaint.core.imaging.images import Picture
from overpaint.diffusion.family import Prepared
from overpaint.engine.edit import Edit


def unfinished(edit: Edit) -> Picture:
    """The picture with the first image's edit as it stands, decoded cheaply."""
    prepared = edit.prepared[0]
    small = edit.model.family.preview(prepared)
    edited = small.resize(edit.plan.canvas, Image.Resampling.BILINEAR)
    if edit.request.mask is None:
        # What changed is known of a finished picture only.
        whole = Image.new("L", edit.request.image.size, 255)
        return composite(edit.request.image, edit.plan, edited, whole)
    return _placed(edit, prepared, edited)


def finished(edit: Edit, prepared: Prepared) -> Picture:
    """The picture with one image's edit, after its last step."""
    started = time.perf_counter()
    edited = edit.model.family.decode(prepared)
    decoded = time.perf_counter()
    picture = _placed(edit, prepared, edited)
    edit.timings["decode"] += decoded - started
    edit.timings["composite"] += time.perf_counter() - decoded
    return picture


def _placed(edit: Edit, prepared: Prepared, edited: Image.Image) -> Picture:
    """The edited canvas over the original, where the family says."""
    family, request, plan = edit.model.family, edit.request, edit.plan
    alpha = None
    if edit.options.composite:
        alpha = family.blend_mask(request, edit.options, plan, prepared, edited)
    if alpha is None:
        alpha = Image.new("L", request.image.size, 255)
    return composite(request.image, plan, edited, alpha)
