"""What of a model's canvas goes into the picture, and where: what a family hands to the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from overpaint.core.geometry import Box

if TYPE_CHECKING:
    from overpaint.core.geometry import Plan
    from overpaint.core.imaging.fidelity.areas import ChangedArea
    from overpaint.core.imaging.fidelity.registration import Motion

_REACH = 4
"""Pixels of the canvas beyond a mask up to which resampling by Lanczos spreads it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelOutput:
    """What a model itself made of an edit without a mask, before anything was put back.

    It is all that is needed to sort the changed areas again. Nobody may see it: the safety policy
    judges pictures as they are handed over.

    Attributes:
        picture: 'RGB' of the plan's canvas, as decoded.
        reconstruction: 'RGB' of the canvas, the picture before as the autoencoder gives it back.
    """

    picture: Image.Image
    reconstruction: Image.Image


@dataclass(frozen=True, eq=False, kw_only=True)
class EditLayer:
    """An edited canvas, ready to be blended in.

    Attributes:
        edited: 'RGB' of the plan's canvas.
        alpha: 'L' of the picture's size, 255 = the edit, 0 = the original; None = everywhere.
        source: 'RGB' of the canvas, what the model would return unedited, where that is known.
        motion: that was taken back, in pixels of the canvas; None = there was none.
        tint: mean levels of 255 that were taken off; 0 = none.
        areas: separate changes of an edit without a mask; the largest first.
        output: what they were found in; None where there are none.
    """

    edited: Image.Image
    alpha: Image.Image | None = None
    source: Image.Image | None = None
    motion: Motion | None = None
    tint: float = 0.0
    areas: tuple[ChangedArea, ...] = ()
    output: ModelOutput | None = None


def whole_alpha(mask: Image.Image, plan: Plan, *, crops: bool = False) -> Image.Image:
    """An 'L' mask of the canvas as one of the picture's size; outside the window it is 0.

    Args:
        mask: of the canvas.
        plan: how the picture's window went to the canvas.
        crops: resample only what is marked; see `Plan.from_canvas`.
    """
    part = plan.window
    if crops and not plan.is_exact:
        marked = mask.getbbox()
        if marked is None:
            return Image.new("L", plan.size)
        part = plan.box_from_canvas(Box(*marked).grow(_REACH).clip(Box.of_size(plan.canvas)))
    patch = plan.from_canvas(mask, part=part)
    if patch.size == plan.size:
        return patch
    whole = Image.new("L", plan.size)
    whole.paste(patch, part.as_tuple())
    return whole
