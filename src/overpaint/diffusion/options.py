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
    """Numbers of areas from a text, as a list: forms and command lines have no lists."""
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
        description="Height of the result in pixels. If both `height` and `width` are given, the "
        "picture is stretched to that size, as in the reference pipeline; otherwise the "
        "result has the input's own size.",
    )
    width: int | None = Field(
        default=None, ge=16, le=8192, description="Width of the result in pixels; see `height`."
    )
    grow: int = Field(
        default=0,
        ge=-512,
        le=512,
        description="Grow the mask by this many pixels first; negative numbers shrink it.",
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
        description="auto: compute only a window around the mask, or one for each part if its "
        "parts lie far apart; one: a single window; full: the whole picture.",
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
        description="Keep the rest of the picture as it is: undo what the model did to the whole "
        "picture (shift, zoom, rotation, tint), put back small changes that nobody asked "
        "for, and match the edit's border to its surroundings. Off: blend in the model's "
        "pixels as they are.",
    )
    noise_from: Literal["seed", "seed_and_picture"] = Field(
        default="seed",
        description="seed: the noise depends on the seed alone, as in the reference pipeline; "
        "seed_and_picture: it also depends on the picture, so that the seed that made a "
        "picture can edit it. Turns of sessions use the latter.",
    )
    composite: bool = Field(
        default=True,
        description="Put back the original's pixels outside the mask. Off: return the model's own "
        "picture, like the reference pipeline.",
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
        description="With a mask: how many pixels beyond it the model repaints. Only the masked "
        "part is used, unless `follow` lets it grow.",
    )
    follow: int = Field(
        default=0,
        ge=0,
        le=512,
        description="With a mask: by how many pixels the used part may grow where the edit "
        "continues beyond the mask. 0 = not at all; a warning then says that the edit was cut off.",
    )

    preset: Preset = Field(
        default="exact",
        description="exact: the reference pipeline's arithmetic; balanced, fast: less work at a "
        "measured cost in quality. It sets those of the options below that you do not "
        "set.",
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
        preset = presets[self.preset]
        own = {name: getattr(self, name, None) for name in vars(preset)}
        shortcuts = replace(
            preset, **{name: each for name, each in own.items() if each is not None}
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
        description="Only with a mask: at 1, the masked area starts from noise; below 1, from the "
        "picture.",
    )
    keep_unchanged: bool = Field(
        default=True,
        description="Without a mask: put back the original's pixels wherever the edit changed "
        "nothing. Has no effect on an edit that changes most of the picture.",
    )
    keep_areas: AreaNumbers | None = Field(
        default=None,
        description="Without a mask: numbers of the changed areas to keep, as `measures` lists "
        "them, from 1 (as text: '1,3'); the others are put back. Default: all that are not much "
        "smaller than the largest. The same seed changes the same areas.",
    )

    @property
    def uses_target(self) -> bool:
        is_sorted = self.composite and self.hold and self.keep_unchanged
        return is_sorted and self.keep_areas is None
