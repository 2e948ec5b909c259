"""Options of the FLUX.1 families, and what their presets leave out."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from overpaint.diffusion.options import DiffusionOptions, Fraction, InstructionOptions, Steps
from overpaint.diffusion.shortcuts import EXACT, Preset, Shortcuts

DEFAULT_TRUE_CFG = 2.5

TrueCfg = Annotated[
    float | None,
    Field(
        ge=0.0,
        le=30.0,
        description="Scale of true classifier-free guidance against the negative prompt; "
        f"{DEFAULT_TRUE_CFG} if there is a negative prompt and this is not given.",
    ),
]

PRESETS: dict[Preset, Shortcuts] = {
    "exact": EXACT,
    "balanced": Shortcuts(refresh_every=3),
    "fast": Shortcuts(refresh_every=6, compute_every=2),
}


class FluxOptions(DiffusionOptions):
    """Options of all FLUX.1 families."""

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
    max_sequence_length: int | None = Field(
        default=None, ge=1, le=512, description="T5 tokens; None = the checkpoint's own length."
    )


class Flex2Options(FluxOptions):
    """Options of Flex.2-preview; names and defaults are those of its published examples."""

    control_strength: float = Field(
        default=0.5,
        ge=0.0,
        le=2.0,
        description="How strongly the control picture steers the edit; 0 = not at all.",
    )
    control_stop: Fraction = Field(
        default=0.33,
        description="Share of the steps after which the control picture is switched off: active "
        "in the first int(steps x control_stop) steps.",
    )
    num_inference_steps: Steps = Field(default=50, description="Denoising steps.")
    guidance_scale: float = Field(
        default=3.5,
        ge=0.0,
        le=30.0,
        description="Without a negative prompt: value of the guidance embedding. With one: scale "
        "of true classifier-free guidance; the embedding is bypassed.",
    )


class KontextOptions(FluxOptions, InstructionOptions):
    """Options of FLUX.1 Kontext; names are the pipeline's, defaults its authors'."""

    num_inference_steps: Steps = Field(default=28, description="Denoising steps.")
    guidance_scale: float = Field(
        default=2.5, ge=0.0, le=30.0, description="Value of the guidance embedding."
    )
    true_cfg_scale: TrueCfg = None


class FillOptions(FluxOptions):
    """Options of FLUX.1 Fill; names and defaults are the pipeline's."""

    num_inference_steps: Steps = Field(default=50, description="Denoising steps.")
    guidance_scale: float = Field(
        default=30.0, ge=0.0, le=100.0, description="Value of the guidance embedding."
    )
    true_cfg_scale: TrueCfg = None
    strength: Fraction = Field(
        default=1.0,
        description="At 1, the masked area starts from noise; below 1, from the picture.",
    )
