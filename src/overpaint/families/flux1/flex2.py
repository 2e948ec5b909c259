"""Flex.2-preview: mask, prompt and an optional line, pose or depth picture.

Follows `Flex2Pipeline` (ostris/Flex.2-preview, with the fix for a missing control picture): the
condition is concatenated to the noise along the channels, as packed tokens of

    noise 0-63 | inpaint latents 64-127 | mask 128-131 | control latents 132-195

The whole picture is encoded and its *latents* are zeroed under the mask; the mask stays soft.
True classifier-free guidance bypasses the guidance embedding on both branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from overpaint.core.geometry import Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion import conditions, flow, latents
from overpaint.diffusion.prompts import FluxPrompt, require_guidance
from overpaint.diffusion.tokens import sparse
from overpaint.families.flux1 import flux
from overpaint.families.flux1.flux import FluxLatent
from overpaint.families.flux1.inpainting import FluxInpainting
from overpaint.families.flux1.layout import lay_out
from overpaint.families.flux1.options import PRESETS, Flex2Options


@dataclass(kw_only=True)
class Flex2Latent(FluxLatent):
    """One image on its way.

    Attributes:
        controlled, uncontrolled: (1, N, 8C + 4) packed inpaint latents, mask, and control latents
            already scaled; those are zero in `uncontrolled`.
        control_steps: steps in which the control picture is active.
    """

    controlled: torch.Tensor
    uncontrolled: torch.Tensor
    control_steps: int


class Flex2(FluxInpainting[Flex2Options, Flex2Latent]):
    """The family `flex2`."""

    @torch.inference_mode()
    def prepare(
        self, request: EditRequest, plan: Plan, options: Flex2Options, seeds: Sequence[int]
    ) -> tuple[list[Flex2Latent], list[str]]:
        if request.negative_prompt:
            require_guidance(options.guidance_scale, "options.guidance_scale")
        length = flux.text_length(self.checkpoint, options.max_sequence_length)
        prompt, negative, warnings = flux.encode_prompts(
            self.checkpoint, request.prompt, request.negative_prompt, length
        )
        picture = self._encode(plan.to_canvas(request.image.to_srgb()))
        control = (
            self._encode(conditions.fitted(request.control, plan))
            if request.control is not None
            else None
        )
        mask = self._latent_mask(conditions.canvas_mask(request, plan, options))
        prepared = [
            self._start(seed, options, picture, control, mask, prompt, negative) for seed in seeds
        ]
        return prepared, warnings

    def condition(self, prepared: Flex2Latent) -> torch.Tensor:
        now = prepared.step < prepared.control_steps
        return prepared.controlled if now else prepared.uncontrolled

    def _encode(self, picture: Image.Image) -> Any:
        """The autoencoder's posterior; the reference encodes a contiguous tensor."""
        pixels = latents.picture_tensor(picture).contiguous()
        return latents.encode_distribution(self.checkpoint, pixels)

    def _latent_mask(self, mask: Image.Image) -> torch.Tensor:
        """(1, 1, h, w), soft: bilinear without antialiasing, through [-1, 1] as the reference."""
        pixels = (latents.picture_tensor(mask)[:, 0:1] * 0.5 + 0.5).contiguous()
        scale = latents.scale_factor(self.checkpoint.component("vae"))
        size = (pixels.shape[-2] // scale, pixels.shape[-1] // scale)
        return torch.nn.functional.interpolate(
            pixels, size=size, mode="bilinear", align_corners=False
        )

    def _start(
        self,
        seed: int,
        options: Flex2Options,
        picture: Any,
        control: Any,
        mask: torch.Tensor,
        prompt: FluxPrompt,
        negative: FluxPrompt | None,
    ) -> Flex2Latent:
        """Draw in the reference's order: control sample, inpaint sample, noise."""
        vae = self.checkpoint.component("vae")
        transformer = self.checkpoint.component("transformer")
        generator = torch.Generator().manual_seed(seed)
        steering = self._steering(control, generator, options.control_strength)
        kept_latents = latents.normalize(vae, picture.sample(generator))
        mask = mask.to(kept_latents)
        masked = latents.pack(mask)
        noise = torch.randn(kept_latents.shape, generator=generator, dtype=transformer.dtype)
        grid = (kept_latents.shape[-2], kept_latents.shape[-1])
        steps, tokens = options.num_inference_steps, masked.shape[1]
        scheduler, timesteps = flow.schedule_by_size(self.checkpoint, steps, tokens)
        shortcuts = options.shortcuts(PRESETS)
        layout = lay_out(self.checkpoint, prompt.embeds.shape[1], grid, ())
        subset = sparse.choose(shortcuts, layout, grid, masked, latents.pack(kept_latents))
        inpaint = torch.cat([latents.pack(kept_latents * (1 - mask)), masked], dim=2)
        steered = latents.pack(torch.zeros_like(kept_latents) if steering is None else steering)
        return Flex2Latent(
            seed=seed,
            total=len(timesteps),
            latents=latents.pack(noise.to(transformer.device)),
            timesteps=timesteps,
            scheduler=scheduler,
            generator=generator,
            step_options={},
            grid=grid,
            layout=layout,
            conditioning=flux.condition(
                self.checkpoint,
                timesteps,
                (prompt, negative),
                guidance=options.guidance_scale if negative is None else None,
                cfg_scale=options.guidance_scale,
            ),
            shortcuts=shortcuts,
            sparse=subset,
            held_bytes=sparse.held_bytes(transformer, subset, layout, guided=negative is not None),
            controlled=torch.cat([inpaint, steered], dim=2),
            uncontrolled=torch.cat([inpaint, torch.zeros_like(steered)], dim=2),
            control_steps=int(len(timesteps) * options.control_stop),
        )

    def _steering(
        self, control: Any, generator: torch.Generator, strength: float
    ) -> torch.Tensor | None:
        """Latents of a control picture, at their strength; None where there is none."""
        if control is None:
            return None
        vae = self.checkpoint.component("vae")
        return latents.normalize(vae, control.sample(generator)) * strength
