"""SDXL inpainting: mask and prompt, read by two CLIP text encoders.

Follows diffusers' `StableDiffusionXLInpaintPipeline` with a 9-channel UNet. Both encoders'
penultimate hidden states stand side by side; the second one's pooled text, and the sizes and crop
of the canvas, are added to the timestep. Its default strength leaves out the first step and starts
from the noised picture, without which the model's pictures are grainy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch

from overpaint.core.geometry import Plan
from overpaint.diffusion import prompts
from overpaint.families.sd.inpainting import UNetInpainting, UNetPrompt

ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
"""Text encoders and their tokenizers, in the order of their hidden states."""

ZEROS = "force_zeros_for_empty_prompt"
"""Setting of a checkpoint: without a negative prompt, zeros stand for its hidden states."""


class SDXL(UNetInpainting):
    """The family `sdxl`."""

    sample_size: ClassVar[int] = 128

    def encode_prompt(self, text: str, plan: Plan) -> UNetPrompt:
        encoded = self.checkpoint.memo.get(("sdxl", text), lambda: self._encoded(text))
        width, height = plan.canvas
        # Original size, crop and target size: the canvas is all of them.
        sizes = torch.tensor([[height, width, 0, 0, height, width]])
        return replace(encoded, sizes=sizes.to(encoded.embeds))

    def encode_negative(self, text: str | None, prompt: UNetPrompt, plan: Plan) -> UNetPrompt:
        if text is not None or not self.checkpoint.inventory.index.get(ZEROS, True):
            return super().encode_negative(text, prompt, plan)
        assert prompt.pooled is not None
        zeros = torch.zeros_like(prompt.embeds), torch.zeros_like(prompt.pooled)
        return UNetPrompt(*zeros, prompt.sizes)

    @torch.inference_mode()
    def _encoded(self, text: str) -> UNetPrompt:
        """Hidden states of both encoders, pooled text of the second one; without sizes."""
        hidden = []
        for name, tokenizer_name in ENCODERS.items():
            tokenizer = self.checkpoint.component(tokenizer_name)
            tokens = prompts.padded(tokenizer, text, tokenizer.model_max_length)
            with self.checkpoint.borrowed(name) as encoder:
                output = encoder(tokens.input_ids.to(encoder.device), output_hidden_states=True)
            hidden.append(output.hidden_states[-2])
            pooled = output[0]
        return UNetPrompt(torch.cat(hidden, dim=-1), pooled)
