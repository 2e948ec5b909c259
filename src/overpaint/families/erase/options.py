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
        "original; 0, so that nothing of the erased object shines through.",
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
        description="Erase a soft shadow that touches the masked thing, too. It is guessed: "
        "something dark of the ground's own hue beside the mask may go with it.",
    )
