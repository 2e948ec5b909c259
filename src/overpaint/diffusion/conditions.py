"""What the mask families share: the plan, the mask on the canvas, a warning for lost lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from overpaint.core import geometry
from overpaint.core.errors import UnsupportedOption
from overpaint.core.geometry import Box, Plan
from overpaint.core.imaging import masks
from overpaint.core.types import EditRequest
from overpaint.diffusion.options import FamilyOptions

if TYPE_CHECKING:
    import torch

UNSTATED = 32
"""diffusers' default `sample_size` of an autoencoder: the checkpoint does not say."""


def native_size(sample_size: int, default: int) -> int:
    """Side in pixels that a checkpoint was trained for, from its autoencoder's `sample_size`."""
    return default if sample_size == UNSTATED else sample_size


@dataclass(frozen=True)
class Native:
    """The sizes that a model was trained at: sides of squares, in pixels.

    Attributes:
        smallest: least side of a window.
        side: of a whole picture; a model of one size has that alone.
        max_pixels: largest area of a canvas; None = (1.5 side)², but not less than 768².
    """

    smallest: int
    side: int
    max_pixels: int | None = None


def asked_size(options: FamilyOptions, step: int) -> tuple[int, int] | None:
    """(width, height) where the caller gave both, checked against the model's size step."""
    sizes = {"height": options.height, "width": options.width}
    for field, value in sizes.items():
        if value is not None and value % step:
            near = max(step, round(value / step) * step)
            raise UnsupportedOption(
                f"{value} is not a multiple of {step}; {near} is the nearest",
                field=f"options.{field}",
            )
    if options.height is None and options.width is None:
        return None
    if options.height is None or options.width is None:
        missing = "height" if options.height is None else "width"
        raise UnsupportedOption(
            "give both height and width, or neither for a result of the input's size",
            field=f"options.{missing}",
        )
    return options.width, options.height


def plan(request: EditRequest, options: FamilyOptions, *, step: int, native: Native) -> Plan:
    """The reference's stretching where a size was asked for, else a window around the mask."""
    size = asked_size(options, step)
    if size is not None:
        return geometry.stretched(request.image.size, size)
    if request.mask is None or options.window == "full":
        return geometry.full(
            request.image.size, step=step, native=native.side, max_pixels=native.max_pixels
        )
    return _around(
        request, options, masks.bbox(grown_mask(request, options)), step=step, native=native
    )


def window(
    request: EditRequest, options: FamilyOptions, box: Box, *, step: int, native: Native
) -> Plan | None:
    """The plan of a part of the mask; None where the edit has one window."""
    if request.mask is None or options.window != "auto" or options.height is not None:
        return None
    return _around(request, options, box, step=step, native=native)


def _around(
    request: EditRequest, options: FamilyOptions, box: Box, *, step: int, native: Native
) -> Plan:
    return geometry.around(
        request.image.size,
        box,
        step=step,
        native=native.side,
        smallest=native.smallest,
        context=options.context,
        max_pixels=native.max_pixels,
    )


def grown_mask(request: EditRequest, options: FamilyOptions) -> Image.Image:
    """The request's mask as the model repaints it: after `grow`, and what it repaints beyond."""
    assert request.mask is not None
    return masks.grow(request.mask, options.repaint_grow)


def canvas_mask(request: EditRequest, plan: Plan, options: FamilyOptions) -> Image.Image:
    """The grown mask on the plan's canvas, 'L'; padding is kept, not repainted."""
    return plan.to_canvas(grown_mask(request, options), fill=0)


def fitted(picture: Image.Image, plan: Plan) -> Image.Image:
    """A picture that belongs to the request's picture (a control picture) on the plan's canvas.

    If the whole picture fills the whole canvas, it is resized once, as the references do it.
    """
    picture = picture.convert("RGB")
    whole = plan.window == Box(0, 0, *plan.size) and plan.content == Box(0, 0, *plan.canvas)
    if whole:
        return geometry.stretched(picture.size, plan.canvas).to_canvas(picture)
    if picture.size != plan.size:
        picture = picture.resize(plan.size, Image.Resampling.LANCZOS)
    return plan.to_canvas(picture)


def thin_mask_warning(mask: torch.Tensor, small: torch.Tensor) -> list[str]:
    """A sentence where sampling to latent resolution loses more than half of the mask."""
    before, after = float(mask.mean()), float((small >= 0.5).float().mean())
    if before == 0 or after >= 0.5 * before:
        return []
    return [
        f"mask: too thin for this model, {100 * (1 - after / before):.0f} % of it falls between "
        "the model's cells; widen it with grow"
    ]
