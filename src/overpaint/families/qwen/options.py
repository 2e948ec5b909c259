"""Options of Qwen-Image-Edit, and what its presets leave out."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import Field

from overpaint.diffusion.options import InstructionOptions
from overpaint.diffusion.shortcuts import EXACT, Preset, Shortcuts

PRESETS: dict[Preset, Shortcuts] = {
    "exact": EXACT,
    "balanced": Shortcuts(guidance_stop=0.6),
    "fast": Shortcuts(guidance_stop=0.6, compute_every=2),
}

SeveralSteps = Annotated[int, Ge(2), Le(1000)]
"""The noise schedule ends above zero; a single step begins and ends at one, which has no answer."""

PicturePositions = Literal["grid", "sequence"]


class QwenEditOptions(InstructionOptions):
    """Options of Qwen-Image-Edit; names are the pipeline's, defaults its authors'."""

    num_inference_steps: SeveralSteps = Field(default=40, description="Denoising steps.")
    true_cfg_scale: float = Field(
        default=4.0,
        ge=0.0,
        le=30.0,
        description="Scale of classifier-free guidance against the negative prompt, or against a "
        "blank one if there is none. 1 or less switches it off, which halves the work; "
        "use that with adapters that were trained without it.",
    )
    picture_positions: PicturePositions = Field(
        default="grid",
        description="How the text encoder numbers the pictures' tokens. grid: by row and column, "
        "as the weights were trained; sequence: one after the other, which is what diffusers' "
        "pipeline does with transformers 5 or later.",
    )
