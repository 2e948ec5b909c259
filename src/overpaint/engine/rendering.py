"""From the canvases that a model decoded to the whole picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops

from overpaint.core.compositing import composite
from overpaint.core.imaging import masks
from overpaint.core.imaging.fidelity.layer import EditLayer, ModelOutput, whole_alpha
from overpaint.core.imaging.images import Picture
from overpaint.core.work import interruption
from overpaint.diffusion.family import Prepared
from overpaint.diffusion.options import DiffusionOptions, InstructionOptions
from overpaint.engine.edit import Edit, RecalledImage
from overpaint.engine.windows import Region

if TYPE_CHECKING:
    from overpaint.core.imaging.fidelity.report import Fidelity


@dataclass(frozen=True, eq=False)
class Rendered:
    """A picture with an edit in it, or with that of a window.

    Attributes:
        picture: the whole.
        fidelity: in numbers; None = the model's pixels were asked for as they are.
        output: what the model itself made; None = it has no changed areas.
    """

    picture: Picture
    fidelity: Fidelity | None
    output: ModelOutput | None = None


def unfinished(edit: Edit) -> Picture:
    """The picture with the first image's edit as it stands, decoded cheaply."""
    picture = edit.canvas.image
    for region, prepared in zip(edit.regions, edit.images[0], strict=True):
        small = edit.model.family.preview(prepared)
        edited = small.resize(region.plan.canvas, Image.Resampling.BILINEAR)
        alpha = None
        # Without a mask, what changed is known of a finished picture only.
        if edit.canvas.mask is not None and edit.options.composite:
            alpha = edit.model.family.blend_mask(
                region.request, edit.options, region.plan, prepared, edited
            )
        picture = _over(picture, edit, region, edited, alpha)
    return picture


def finished(edit: Edit) -> tuple[Rendered, ...]:
    """The picture with each image's edit, after its last step."""
    # No generator: in Python 3.11 its closure would keep the edit in an error's traceback.
    return tuple(map(partial(_with_image, edit), edit.images))


def _with_image(edit: Edit, image: Sequence[Prepared]) -> Rendered:
    picture, parts, output = edit.canvas.image, [], None
    for region, prepared in zip(edit.regions, image, strict=True):
        started = time.perf_counter()
        edited = _decoded(edit, prepared)
        decoded = time.perf_counter()
        blended = _blended(picture, edit, region, prepared, edited)
        picture, output = blended.picture, blended.output
        if blended.fidelity is not None:
            share = region.plan.window.area / (picture.size[0] * picture.size[1])
            parts.append((blended.fidelity, share))
        edit.timings["decode"] += decoded - started
        edit.timings["composite"] += time.perf_counter() - decoded
        interruption.check()
    return Rendered(picture, _joined(parts), output)


def _decoded(edit: Edit, prepared: Prepared) -> Image.Image:
    """The model's canvas."""
    if isinstance(prepared, RecalledImage):
        return prepared.output.picture
    return edit.model.family.decode(prepared)


def _joined(parts: Sequence[tuple[Fidelity, float]]) -> Fidelity | None:
    if not parts:
        return None
    from overpaint.core.imaging.fidelity import report  # OpenCV changes the environment

    return report.joined(parts)


def _blended(
    picture: Picture, edit: Edit, region: Region, prepared: Prepared, edited: Image.Image
) -> Rendered:
    """The edited canvas over the picture, where the family says."""
    options = edit.options
    if not options.composite:
        return Rendered(_over(picture, edit, region, edited, None), None)
    layer = _layer(edit, region, prepared, edited)
    if not options.hold:
        return Rendered(_over(picture, edit, region, layer.edited, layer.alpha), None)
    return replace(_corrected(picture, edit, region, layer), output=layer.output)


def _layer(edit: Edit, region: Region, prepared: Prepared, edited: Image.Image) -> EditLayer:
    """What of the canvas goes into the picture, and where."""
    request, options, plan = region.request, edit.options, region.plan
    if isinstance(prepared, RecalledImage):
        from overpaint.core.imaging.fidelity import correction  # OpenCV changes the environment

        assert isinstance(options, InstructionOptions)
        return correction.by_changes(
            prepared.output, plan, keep=options.keep_areas, target=request.target
        )
    return edit.model.family.place(request, options, plan, prepared, edited)


def _over(
    picture: Picture, edit: Edit, region: Region, edited: Image.Image, alpha: Image.Image | None
) -> Picture:
    """The edited canvas over the picture; None = everywhere.

    Grey stays grey where a mask limits the edit; without one it takes colours that are there.
    """
    hold = edit.options.hold
    # What a mask marks was asked for, and so was an edit of the whole picture.
    spares = hold and region.request.mask is None and alpha is not None
    if alpha is None:
        alpha = Image.new("L", picture.size, 255)
    if region.request.mask is None and picture.is_grey and _is_coloured(edited):
        picture = picture.in_colour()
    return composite(
        picture,
        region.plan,
        edited,
        alpha,
        in_srgb=edit.model.family.spec.in_srgb,
        crops=hold,
        spares=spares,
    )


def _corrected(picture: Picture, edit: Edit, region: Region, layer: EditLayer) -> Rendered:
    """Over the picture, its border fitted to what is around it."""
    from overpaint.core.imaging.fidelity import report, seams  # OpenCV changes the environment

    plan, scale = region.plan, region.plan.window.width / region.plan.content.width
    if layer.alpha is None:
        fidelity = report.measure(layer.edited, layer, None, scale)
        return Rendered(_over(picture, edit, region, layer.edited, None), fidelity)
    source = edit.canvas.image
    in_srgb = edit.model.family.spec.in_srgb
    own = source.to_srgb() if in_srgb else source.own_image().convert("RGB")
    before = plan.to_canvas(own, is_quick=True)
    layer, cut_off = _followed(region, edit, layer, before)
    assert layer.alpha is not None
    alpha = plan.to_canvas(layer.alpha, fill=0, is_quick=True)
    layer = replace(layer, edited=seams.fitted(before, layer.edited, alpha))
    fidelity = replace(report.measure(before, layer, alpha, scale), cut_off=cut_off)
    result = _over(picture, edit, region, layer.edited, layer.alpha)
    return Rendered(result, fidelity)


def _followed(
    region: Region, edit: Edit, layer: EditLayer, before: Image.Image
) -> tuple[EditLayer, float]:
    """With the blend grown to where the edit goes on beyond its mask, as far as it may.

    Returns:
        That, and the share of the masked area by which the edit goes on hidden.
    """
    from overpaint.core.imaging.fidelity import spill

    request, options, plan = region.request, edit.options, region.plan
    if request.mask is None or not isinstance(options, DiffusionOptions):
        return layer, 0.0
    inside = masks.grow(request.mask, options.grow)
    blend = plan.to_canvas(inside, fill=0, is_quick=True)
    further = spill.beyond(before, layer.edited, blend)
    if further is None:
        return layer, 0.0
    if not options.follow:
        return layer, _area(further) / max(1, _area(blend))
    allowed = masks.grow(request.mask, options.grow + options.follow)
    grown = ImageChops.darker(masks.grow(whole_alpha(further, plan, crops=True), 2), allowed)
    alpha = masks.feather(ImageChops.lighter(inside, grown), options.feather)
    visible = plan.to_canvas(alpha, fill=0, is_quick=True)
    hidden = ImageChops.subtract(further, visible.point(lambda value: 255 if value else 0))
    return replace(layer, alpha=alpha), _area(hidden) / max(1, _area(blend))


def _area(mask: Image.Image) -> int:
    return int((np.asarray(mask) > 0).sum())


def _is_coloured(picture: Image.Image) -> bool:
    from overpaint.core.imaging.changes import is_coloured  # OpenCV changes the environment

    return is_coloured(picture)
