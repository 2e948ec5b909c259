"""Options that families share. Imports nothing heavy: help and schemas are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from overpaint.core.errors import UnsupportedOption
from overpaint.diffusion.shortcuts import Preset, Shortcuts

Steps = Annotated[int, Ge(1), Le(1000)]
Fraction = Annotated[float, Ge(0.0), Le(1.0)]


def _numbers(value: Any) -> Any:
    """AreaNumbers of a text as a list: forms and command lines have no lists."""
    if not isinstance(value, str):
        return value
    return [each for each in value.replace(",", " ").split() if each]


AreaNumbers = Annotated[tuple[Annotated[int, Ge(1)], ...], BeforeValidator(_numbers)]


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
        default=None, ge=16, le=8192, description="Width of the result in pixels; see `height`."
    )
    grow: int = Field(
        default=0,
        ge=-512,
        le=512,
        description="Grow the mask by this many pixels before anything else; negative numbers "
        "shrink it.",
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
    hold: bool = Field(
        default=True,
        description="Keep the rest where it is: undo what a model did to the whole picture (shift, "
        "zoom, rotation, tint), put back small changes that nobody asked for, and fit the edit's "
        "border to what is around it. Off: the model's pixels as they are, blended.",
    )
    noise_from: Literal["seed", "seed_and_picture"] = Field(
        default="seed",
        description="seed: the noise is the reference pipeline's of that seed; seed_and_picture: "
        "it is another one for every picture, so that a seed that made a picture can edit it. "
        "Turns of sessions take the latter.",
    )
    composite: bool = Field(
        default=True,
        description="Put the original's pixels back outside the mask. Off: the model's own "
        "picture, as the reference pipeline returns it.",
    )

    @property
    def repaint_grow(self) -> int:
        """Pixels by which the mask grows to what is computed anew."""
        return self.grow

    @property
    def uses_target(self) -> bool:
        """Whether, without a mask, it matters where the thing is that the instruction names."""
        return False


class DiffusionOptions(FamilyOptions):
    """Options of the families that denoise."""

    repaint_beyond: int = Field(
        default=0,
        ge=0,
        le=512,
        description="With a mask: pixels beyond it that the model repaints, too. The blend stays "
        "in the mask, but where `follow` lets it grow.",
    )
    follow: int = Field(
        default=0,
        ge=0,
        le=512,
        description="With a mask: pixels beyond it to which the blend may grow where the edit "
        "goes on there; 0 = never, and a warning says that the edit was cut off.",
    )

    preset: Preset = Field(
        default="exact",
        description="exact: the reference's arithmetic; balanced, fast: less work at a measured "
        "cost in quality. Sets the options below that you do not set.",
    )
    compute_every: int | None = Field(
        default=None,
        ge=1,
        le=10,
        description="Run the network in every n-th step and extrapolate in between; 1 = in all "
        "steps.",
    )
    guidance_start: Fraction | None = Field(
        default=None,
        description="Share of the steps before which classifier-free guidance is left out.",
    )
    guidance_stop: Fraction | None = Field(
        default=None,
        description="Share of the steps after which classifier-free guidance is left out.",
    )

    @property
    def repaint_grow(self) -> int:
        return self.grow + self.repaint_beyond

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
    keep_areas: AreaNumbers | None = Field(
        default=None,
        description="Without a mask: numbers of the changed areas that stay, as `measures` lists "
        "them, from 1 (in a text '1,3'); the others are put back. Left out, those stay that are "
        "not small beside the largest. The same seed changes the same areas.",
    )

    @property
    def uses_target(self) -> bool:
        is_sorted = self.composite and self.hold and self.keep_unchanged
        return is_sorted and self.keep_areas is None
