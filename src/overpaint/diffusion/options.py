"""Options that families share. Imports nothing heavy: help and schemas are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field

from overpaint.core.errors import UnsupportedOption
from overpaint.diffusion.shortcuts import Preset, Shortcuts

Steps = Annotated[int, Ge(1), Le(1000)]
Fraction = Annotated[float, Ge(0.0), Le(1.0)]


class FamilyOptions(BaseModel):
    """Options that every family takes. Families add their own; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=False)

    height: int | None = Field(
        default=None,
        ge=16,
        le=8192,
        description="Height of the answer in pixels. Given with `width`, the picture is stretched "
        "to that size as the reference pipeline does it; left out, the answer has the input's "
        "own size.",
    )
    width: int | None = Field(
        default=None, ge=16, le=8192, description="Width of the answer in pixels; see `height`."
    )
    grow: int = Field(
        default=0,
        ge=-512,
        le=512,
        description="Pixels by which the mask grows (negative: shrinks) before anything else.",
    )
    feather: int = Field(
        default=4,
        ge=0,
        le=512,
        description="Pixels inside the mask's edge over which the edit is blended into the "
        "original. Pixels outside the mask never change.",
    )
    window: Literal["auto", "one", "full"] = Field(
        default="auto",
        description="auto: compute only a window around the mask, and one for each of its parts "
        "where they lie far apart; one: never more than one; full: the whole picture.",
    )
    context: float = Field(
        default=0.5,
        ge=0.0,
        le=8.0,
        description="Margin around the mask that the model sees, as a fraction of the mask's "
        "longer side.",
    )
    composite: bool = Field(
        default=True,
        description="Put the original's pixels back outside the mask. Off: the model's own "
        "picture, as the reference pipeline returns it.",
    )


class DiffusionOptions(FamilyOptions):
    """Options of the families that denoise."""

    preset: Preset = Field(
        default="exact",
        description="exact: the reference's arithmetic; balanced, fast: less work at a measured "
        "cost in quality. Sets the options below that are not given.",
    )
    compute_every: int | None = Field(
        default=None,
        ge=1,
        le=10,
        description="Ask the network in every n-th step and extrapolate between; 1 = in all.",
    )
    guidance_start: Fraction | None = Field(
        default=None,
        description="Share of the steps before which classifier-free guidance is left out.",
    )
    guidance_stop: Fraction | None = Field(
        default=None,
        description="Share of the steps after which classifier-free guidance is left out.",
    )

    def shortcuts(self, presets: Mapping[Preset, Shortcuts]) -> Shortcuts:
        """The preset's, with what was given by itself.

        Raises:
            UnsupportedOption: guidance would end before it begins.
        """
        chosen = presets[self.preset]
        own = {name: getattr(self, name, None) for name in vars(chosen)}
        shortcuts = replace(
            chosen, **{name: each for name, each in own.items() if each is not None}
        )
        start, stop = shortcuts.guidance_start, shortcuts.guidance_stop
        if start >= stop:
            raise UnsupportedOption(
                f"{start} is not before guidance_stop, {stop}; for an "
                "edit without guidance leave the negative prompt out, or set guidance_scale to 1",
                field="options.guidance_start",
            )
        return shortcuts


class InstructionOptions(DiffusionOptions):
    """Options of the families that follow an instruction."""

    strength: Fraction = Field(
        default=1.0,
        description="With a mask only. 1: the masked area starts from noise; less: from the "
        "picture.",
    )
    keep_unchanged: bool = Field(
        default=True,
        description="Without a mask: put the original's pixels back wherever the edit changed "
        "nothing. Switches itself off for an edit that changes most of the picture.",
    )
