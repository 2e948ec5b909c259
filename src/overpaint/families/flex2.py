"""Flex.2-preview: mask, prompt and an optional line, pose or depth picture.

Follows `Flex2Pipeline` (ostris/Flex.2-preview, with the fix for a missing control picture): the
condition is concatenated to the noise along the channels, as packed tokens of

    noise 0-63 | inpaint latents 64-127 | mask 128-131 | control latents 132-195

The whole picture is encoded and its *latents* are zeroed under the mask; the mask stays soft.
True classifier-free guidance bypasses the guidance embedding on both branches.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from pydantic import Field

from overpaint.core.geometry import Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion import flux, latents, sparse
from overpaint.diffusion.family import Accepts, Family, FamilyOptions, Fraction, Steps
from overpaint.diffusion.flux import FluxLatent, FluxOptions
from overpaint.diffusion.loading import Checkpoint
from overpaint.diffusion.prompts import FluxPrompt
from overpaint.families import conditions

NATIVE = 1024


class Flex2Options(FluxOptions):
    """Options of Flex.2-preview; names and defaults are those of its published examples."""

    control_strength: float = Field(
        default=0.5,
        ge=0.0,
        le=2.0,
        description="Factor of the control picture's latents.",
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
        "of true classifier-free guidance, the embedding bypassed.",
    )


@dataclass(kw_only=True)
class Flex2Latent(FluxLatent):
    """One image on its way.

    Attributes:
        inpaint: (1, N, 4C + 4) packed inpaint latents and mask.
        control: (1, N, 4C) packed control latents, already scaled.
        control_steps: steps in which the control picture is active.
    """

    inpaint: torch.Tensor
    control: torch.Tensor
    control_steps: int


class Flex2(Family):
    """The family `flex2`."""

    name: ClassVar[str] = "flex2"
    Options: ClassVar[type[FamilyOptions]] = Flex2Options
    accepts: ClassVar[Accepts] = Accepts(prompt="required", mask="required", control="optional")
    pipelines: ClassVar[frozenset[str]] = frozenset({"Flex2Pipeline"})

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def plan(self, request: EditRequest, options: Flex2Options) -> Plan:
        vae = self._checkpoint.component("vae")
        return conditions.plan(
            request,
            options,
            step=2 * latents.scale_factor(vae),
            native=conditions.native_size(vae.config.sample_size, NATIVE),
        )

    @torch.inference_mode()
    def prepare(
        self, request: EditRequest, plan: Plan, options: Flex2Options, seeds: Sequence[int]
    ) -> tuple[list[Flex2Latent], list[str]]:
        length = flux.text_length(self._checkpoint, options.max_sequence_length)
        prompt, negative, warnings = flux.encode_prompts(
            self._checkpoint, request.prompt, request.negative_prompt, length
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

    def batch_key(self, prepared: Flex2Latent) -> Hashable:
        return flux.batch_key(prepared)

    def predict(self, batch: Sequence[Flex2Latent]) -> torch.Tensor:
        tokens = [
            torch.cat([image.latents, image.inpaint, _control(image)], dim=2) for image in batch
        ]
        return flux.predict(flux.load_transformer(self._checkpoint), batch, torch.cat(tokens))

    def decode(self, prepared: Flex2Latent) -> Image.Image:
        return latents.decode(
            self._checkpoint.component("vae"), latents.unpack(prepared.latents, *prepared.grid)
        )

    def preview(self, prepared: Flex2Latent) -> Image.Image:
        whole = latents.unpack(prepared.latents, *prepared.grid)
        return latents.decode(self._checkpoint.component("vae"), latents.thin(whole))

    def _encode(self, picture: Image.Image) -> Any:
        """The autoencoder's posterior; the reference encodes a contiguous tensor."""
        pixels = latents.picture_tensor(picture).contiguous()
        return latents.encode_distribution(self._checkpoint, pixels)

    def _latent_mask(self, mask: Image.Image) -> torch.Tensor:
        """(1, 1, h, w), soft: bilinear without antialiasing, through [-1, 1] as the reference."""
        pixels = (latents.picture_tensor(mask)[:, 0:1] * 0.5 + 0.5).contiguous()
        scale = latents.scale_factor(self._checkpoint.component("vae"))
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
        vae = self._checkpoint.component("vae")
        transformer = flux.load_transformer(self._checkpoint)
        generator = torch.Generator().manual_seed(seed)
        steered = latents.normalize(vae, control.sample(generator)) if control is not None else None
        kept = latents.normalize(vae, picture.sample(generator))
        mask = mask.to(kept)
        masked = latents.pack(mask)
        noise = torch.randn(kept.shape, generator=generator, dtype=transformer.dtype)
        height, width = kept.shape[-2:]
        steps = options.num_inference_steps
        scheduler, timesteps = flux.schedule(
            self._checkpoint, steps, tokens=(height // 2) * (width // 2)
        )
        guidance = options.guidance_scale if negative is None else None
        shortcuts = options.shortcuts(flux.PRESETS)
        steered = torch.zeros_like(kept) if steered is None else steered * options.control_strength
        return Flex2Latent(
            seed=seed,
            total=len(timesteps),
            latents=latents.pack(noise.to(transformer.device)),
            timesteps=timesteps,
            scheduler=scheduler,
            generator=generator,
            step_options={},
            grid=(height, width),
            prompt=prompt,
            negative=negative,
            guidance=guidance,
            cfg_scale=options.guidance_scale,
            positions=flux.positions(height, width),
            modulation=flux.modulations(self._checkpoint, timesteps, guidance, (prompt, negative)),
            shortcuts=shortcuts,
            sparse=sparse.choose(shortcuts, (height, width), masked, latents.pack(kept)),
            inpaint=torch.cat([latents.pack(kept * (1 - mask)), masked], dim=2),
            control=latents.pack(steered),
            control_steps=int(len(timesteps) * options.control_stop),
        )


def _control(image: Flex2Latent) -> torch.Tensor:
    active = image.step < image.control_steps
    return image.control if active else torch.zeros_like(image.control)


FAMILY = Flex2
