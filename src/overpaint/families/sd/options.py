"""Options of the Stable Diffusion families, and what their presets leave out."""

from __future__ import annotations

from pydantic import Field

from overpaint.diffusion.options import DiffusionOptions, Fraction, Steps
from overpaint.diffusion.shortcuts import EXACT, Preset, Shortcuts

PRESETS: dict[Preset, Shortcuts] = {
    "exact": EXACT,
    "balanced": Shortcuts(guidance_stop=0.6),
    "fast": Shortcuts(guidance_stop=0.6, compute_every=2),
}


class InpaintingOptions(DiffusionOptions):
    """Options of all Stable Diffusion families."""

    num_inference_steps: Steps = Field(default=50, description="Denoising steps.")
    guidance_scale: float = Field(
        default=7.5,
        ge=0.0,
        le=100.0,
        description="Classifier-free guidance; 1 or less switches it off.",
    )
    strength: Fraction = Field(
        default=1.0,
        description="At 1, the masked area starts from noise alone; below 1, from the picture, "
        "with that share of the steps.",
    )
    eta: Fraction = Field(default=0.0, description="DDIM's eta; other schedulers ignore it.")


class SD2Options(InpaintingOptions):
    """Options of stable-diffusion-2-inpainting; names and defaults are the pipeline's."""


class SDXLOptions(InpaintingOptions):
    """Options of SDXL inpainting; names and defaults are the pipeline's."""

    strength: Fraction = Field(
        default=0.9999,
        description="At 1, the masked area starts from noise alone, which makes it grainy; below "
        "1, from the picture, with int(steps x strength) steps. The default leaves out one step.",
    )
