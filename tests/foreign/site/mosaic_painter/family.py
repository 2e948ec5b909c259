"""The family `mosaic`: mask, prompt and reference pictures."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image

from mosaic_painter import MosaicOptions
from overpaint.checkpoints.memo import content
from overpaint.core.geometry import Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion import conditions, latents
from overpaint.diffusion.conditions import Native
from overpaint.diffusion.denoiser import Denoiser, Latent

NATIVE = Native(smallest=32, side=64)


@dataclass(kw_only=True)
class MosaicLatent(Latent):
    """One image on its way.

    Attributes:
        picture: (1, C, h, w) of the picture, references mixed in.
        mask: (1, 1, h, w), 1 = repaint.
        words: (1, T, width).
    """

    picture: torch.Tensor
    mask: torch.Tensor
    words: torch.Tensor


class Mosaic(Denoiser[MosaicOptions, MosaicLatent]):
    """The family `mosaic`."""

    denoiser: ClassVar[str] = "painter"

    def plan(self, request: EditRequest, options: MosaicOptions) -> Plan:
        return conditions.plan(request, options, step=self._patch, native=NATIVE)

    @torch.inference_mode()
    def prepare(
        self, request: EditRequest, plan: Plan, options: MosaicOptions, seeds: Sequence[int]
    ) -> tuple[list[MosaicLatent], list[str]]:
        words = options.boldness * self._words(request.prompt)
        pictures = [request.image.to_srgb(), *request.references]
        encoded = [self._encode(conditions.fitted(each, plan)) for each in pictures]
        mask = latents.mask_tensor(conditions.canvas_mask(request, plan, options))
        small = latents.nearest(latents.binarize(mask), self._patch)
        mixed = torch.stack(encoded).mean(dim=0)
        return [self._start(seed, options, mixed, small.to(mixed), words) for seed in seeds], []

    def batch_key(self, prepared: MosaicLatent) -> Hashable:
        return tuple(prepared.latents.shape)

    def predict(self, batch: Sequence[MosaicLatent]) -> torch.Tensor:
        painter = self.checkpoint.component("painter")
        inputs = [torch.cat([each.latents, each.picture, each.mask], dim=1) for each in batch]
        times = torch.stack([each.timestep for each in batch]).to(inputs[0]) / 1000
        return painter(torch.cat(inputs), times, torch.cat([each.words for each in batch]))

    @torch.inference_mode()
    def decode(self, prepared: MosaicLatent) -> Image.Image:
        with self.checkpoint.borrowed("tiles") as tiles:
            return latents.picture_from_tensor(tiles.decode(prepared.latents))

    @torch.inference_mode()
    def preview(self, prepared: MosaicLatent) -> Image.Image:
        with self.checkpoint.borrowed("tiles") as tiles:
            return latents.picture_from_tensor(tiles.decode(latents.thin(prepared.latents, 8)))

    @property
    def _patch(self) -> int:
        return int(self.checkpoint.config("tiles")["patch"])

    def _words(self, prompt: str) -> torch.Tensor:
        processor = self.checkpoint.component("processor")

        def encode() -> torch.Tensor:
            with self.checkpoint.borrowed("words") as words:
                return words(processor(prompt).to(words.device))

        return self.checkpoint.memo.get(("mosaic", prompt), encode)

    def _encode(self, picture: Image.Image) -> torch.Tensor:
        pixels = latents.picture_tensor(picture)

        def encode() -> torch.Tensor:
            with self.checkpoint.borrowed("tiles") as tiles:
                return tiles.encode(pixels.to(device=tiles.device, dtype=tiles.dtype))

        return self.checkpoint.memo.get(("mosaic tiles", content(pixels)), encode)

    def _start(
        self,
        seed: int,
        options: MosaicOptions,
        picture: torch.Tensor,
        mask: torch.Tensor,
        words: torch.Tensor,
    ) -> MosaicLatent:
        scheduler = copy.deepcopy(self.checkpoint.component("scheduler"))
        scheduler.set_timesteps(options.num_inference_steps)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(picture.shape, generator=generator, dtype=picture.dtype)
        return MosaicLatent(
            seed=seed,
            total=len(scheduler.timesteps),
            latents=noise.to(picture.device),
            timesteps=scheduler.timesteps,
            scheduler=scheduler,
            generator=generator,
            step_options={},
            picture=picture,
            mask=mask,
            words=words.to(picture),
        )
