"""Options of the FLUX.2 [klein] families, and what their presets leave out."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from overpaint.diffusion.options import Fraction, InstructionOptions, Steps
from overpaint.diffusion.shortcuts import EXACT, Preset, Shortcuts

PRESETS: dict[Preset, Shortcuts] = {
    "exact": EXACT,
    "balanced": Shortcuts(refresh_every=3),
    "fast": Shortcuts(refresh_every=6, compute_every=2),
}

FEW_STEPS_PRESETS: dict[Preset, Shortcuts] = {
    "exact": EXACT,
    "balanced": Shortcuts(refresh_every=2),
    "fast": Shortcuts(refresh_every=4),
}
"""Presets of distilled checkpoints. Their four steps are too few to extrapolate between."""


@dataclass(frozen=True)
class Variant:
    """Defaults that suit the checkpoints of one kind.

    Attributes:
        steps: denoising steps, where the caller does not say.
        guidance: scale of classifier-free guidance where the caller does not say; 1 = none.
        presets: what is left out of the steps.
    """

    steps: int
    guidance: float
    presets: dict[Preset, Shortcuts]


DISTILLED = Variant(steps=4, guidance=1.0, presets=FEW_STEPS_PRESETS)
BASE = Variant(steps=50, guidance=4.0, presets=PRESETS)


class KleinKVOptions(InstructionOptions):
    """Options of FLUX.2 [klein] 9B KV; names are the pipeline's."""

    num_inference_steps: Steps | None = Field(
        default=None,
        description=f"Denoising steps; None = as the checkpoint was made for: {DISTILLED.steps} "
        f"where it is distilled, {BASE.steps} where it is a base model.",
    )
    strength: Fraction = Field(
        default=1.0,
        description="Only with a mask: at 1, the masked area starts from noise; below 1, from the "
        "picture, without the first steps: none of four above 0.75, one above 0.5, and so on.",
    )
    wide_mask: bool = Field(
        default=False,
        description="For thin masks: repaint every cell of 16x16 pixels that the mask touches. By "
        "default, the model repaints a cell if the mask covers its centre.",
    )
    refresh_every: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Compute the whole picture in every n-th step. The steps between compute only "
        "what is edited: the masked area, or without a mask everything but the "
        "references. 1 = always the whole picture.",
    )
    freeze_text: bool = Field(
        default=False,
        description="With refresh_every, or a preset that sets it: compute the prompt's tokens "
        "only in whole steps, which makes the other steps faster. Its cost in quality was not "
        "measured with real weights.",
    )
    max_sequence_length: int = Field(
        default=512,
        ge=32,
        le=512,
        description="Number of tokens of the text encoder; the prompt is padded to it. About "
        "twelve of them belong to its template.",
    )


class KleinOptions(KleinKVOptions):
    """Options of FLUX.2 [klein], distilled and base; names are the pipelines'."""

    guidance_scale: float | None = Field(
        default=None,
        ge=0.0,
        le=30.0,
        description="Scale of classifier-free guidance against the negative prompt, or an empty "
        "one; 1 or less switches it off. None = as the checkpoint was made for: "
        f"{BASE.guidance:g} where it is a base model; distilled ones have no guidance.",
    )
