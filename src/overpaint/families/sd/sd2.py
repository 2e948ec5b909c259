"""stable-diffusion-2-inpainting: mask and prompt, read by one CLIP text encoder.

Follows diffusers' `StableDiffusionInpaintPipeline`.
"""

from __future__ import annotations

from typing import ClassVar

from overpaint.core.geometry import Plan
from overpaint.diffusion import prompts
from overpaint.families.sd.inpainting import UNetInpainting, UNetPrompt


class SD2(UNetInpainting):
    """The family `sd2`."""

    sample_size: ClassVar[int] = 64

    def encode_prompt(self, text: str, plan: Plan) -> UNetPrompt:
        return UNetPrompt(prompts.sd2_prompt(self.checkpoint, text))
