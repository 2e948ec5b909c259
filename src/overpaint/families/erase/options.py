"""Options of the eraser."""

from __future__ import annotations

from pydantic import Field

from overpaint.diffusion.options import FamilyOptions


class EraseOptions(FamilyOptions):
    """Options of the eraser."""

    feather: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Pixels inside the mask's edge over which the fill is blended into the "
        "original. The default is 0, so that the erased object does not show through.",
    )
    context: float = Field(
        default=1.0,
        ge=0.0,
        le=8.0,
        description="Margin around the mask that can be copied from, as a fraction of the mask's "
        "longer side.",
    )
    shadow: bool = Field(
        default=False,
        description="Also erase a soft shadow that touches the masked thing. It is guessed: "
        "something dark in the background's own colour beside the mask may be erased, too.",
    )
