"""FLUX.1 Fill: mask and prompt.

Follows diffusers' `FluxFillPipeline`: the condition is concatenated to the noise along the
channels, as packed tokens of

    noise 0-63 | latents of the picture with its masked pixels mid-grey 64-127 | mask 128-383

The mask is binary and loses nothing: each latent has the 8x8 pixels that it stands for as channels.
A negative prompt, which the pipeline does not know, takes a second pass of each step, as `kontext`
and diffusers' `FluxPipeline` do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from overpaint.core.geometry import Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion import conditions, flow, latents
from overpaint.diffusion.prompts import FluxPrompt
from overpaint.diffusion.tokens import sparse
from overpaint.families.flux1 import flux
from overpaint.families.flux1.flux import FluxLatent
from overpaint.families.flux1.inpainting import FluxInpainting
from overpaint.families.flux1.layout import lay_out
from overpaint.families.flux1.options import PRESETS, FillOptions


@dataclass(kw_only=True)
class FillLatent(FluxLatent):
    """One image on its way.

    Attributes:
        condition: (1, N, 4C + 256) packed latents of the masked picture, and mask.
    """

    condition: torch.Tensor


class Fill(FluxInpainting[FillOptions, FillLatent]):
    """The family `fill`."""

    @torch.inference_mode()
    def prepare(
        self, request: EditRequest, plan: Plan, options: FillOptions, seeds: Sequence[int]
    ) -> tuple[list[FillLatent], list[str]]:
        cfg_scale = flux.true_cfg_scale(request.negative_prompt, options.true_cfg_scale)
        length = flux.text_length(self.checkpoint, options.max_sequence_length)
        prompt, negative, warnings = flux.encode_prompts(
            self.checkpoint, request.prompt, request.negative_prompt, length
        )
        pixels = latents.picture_tensor(plan.to_canvas(request.image.to_srgb()))
        mask = latents.binarize(latents.mask_tensor(conditions.canvas_mask(request, plan, options)))
        picture = latents.encode_distribution(self.checkpoint, pixels)
        masked = latents.encode_distribution(self.checkpoint, pixels * (1 - mask))
        scale = latents.scale_factor(self.checkpoint.component("vae"))
        cells = latents.pack(functional.pixel_unshuffle(mask, scale))
        prepared = [
            self._start(seed, options, picture, masked, cells, (prompt, negative), cfg_scale)
            for seed in seeds
        ]
        return prepared, warnings

    def condition(self, prepared: FillLatent) -> torch.Tensor:
        return prepared.condition

    def _start(
        self,
        seed: int,
        options: FillOptions,
        picture: Any,
        masked: Any,
        cells: torch.Tensor,
        prompts: tuple[FluxPrompt, FluxPrompt | None],
        cfg_scale: float,
    ) -> FillLatent:
        """Draw in the reference's order: picture sample, noise, masked sample."""
        vae = self.checkpoint.component("vae")
        transformer = self.checkpoint.component("transformer")
        generator = torch.Generator().manual_seed(seed)
        source = latents.normalize(vae, picture.sample(generator))
        noise = torch.randn(source.shape, generator=generator, dtype=transformer.dtype).to(source)
        kept_latents = latents.normalize(vae, masked.sample(generator))
        cells = cells.to(kept_latents)
        grid = (source.shape[-2], source.shape[-1])
        steps, tokens = options.num_inference_steps, cells.shape[1]
        scheduler, timesteps = flow.schedule_by_size(
            self.checkpoint, steps, tokens, options.strength
        )
        shortcuts = options.shortcuts(PRESETS)
        layout = lay_out(self.checkpoint, prompts[0].embeds.shape[1], grid, ())
        subset = sparse.choose(shortcuts, layout, grid, cells, latents.pack(source))
        guided = prompts[1] is not None
        return FillLatent(
            seed=seed,
            total=len(timesteps),
            latents=latents.pack(
                flow.noised(source, noise, scheduler.sigmas[scheduler.begin_index])
            ),
            timesteps=timesteps,
            scheduler=scheduler,
            generator=generator,
            step_options={},
            grid=grid,
            layout=layout,
            conditioning=flux.condition(
                self.checkpoint,
                timesteps,
                prompts,
                guidance=options.guidance_scale,
                cfg_scale=cfg_scale,
            ),
            shortcuts=shortcuts,
            sparse=subset,
            held_bytes=sparse.held_bytes(transformer, subset, layout, guided=guided),
            condition=torch.cat([latents.pack(kept_latents), cells], dim=2),
        )
