"""FLUX.1 Kontext: an instruction; a mask is optional.

Follows diffusers' `FluxKontextPipeline` and, with a mask, `FluxKontextInpaintPipeline`: the
picture's latents are appended to the noise along the sequence, with 1 as the first position id.
With a mask, latents outside it are put back, noised to the next timestep, after each step.

Unlike the pipelines, one plan serves the picture and the result, so the two grids always align,
and the answer has the picture's own size. Without a mask, what the edit did not change is found
by comparing the result with the autoencoder's own copy of the picture (`core/imaging/changes.py`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image

from overpaint.checkpoints.memo import content
from overpaint.core import geometry
from overpaint.core.geometry import Box, Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion import conditions, flow, latents
from overpaint.diffusion.conditions import Native
from overpaint.diffusion.denoiser import InstructedLatent, InstructionDenoiser
from overpaint.diffusion.flow import Surroundings
from overpaint.diffusion.prompts import FluxPrompt
from overpaint.diffusion.tokens import sparse
from overpaint.families.flux1 import flux
from overpaint.families.flux1.flux import FluxLatent
from overpaint.families.flux1.layout import lay_out
from overpaint.families.flux1.options import PRESETS, KontextOptions

BUCKETS = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184),
    (944, 1104), (1024, 1024), (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752),
    (1456, 720), (1504, 688), (1568, 672),
)  # fmt: skip
"""Sizes (width, height) that Kontext was trained with (`PREFERRED_KONTEXT_RESOLUTIONS`)."""


@dataclass(kw_only=True)
class KontextLatent(FluxLatent, InstructedLatent):
    """One image on its way.

    Attributes:
        reference: (1, M, 4C) packed latents of the picture and of further references.
        source: (1, N, 4C) packed latents of the picture alone.
    """

    reference: torch.Tensor
    source: torch.Tensor


class Kontext(InstructionDenoiser[KontextOptions, KontextLatent]):
    """The family `kontext`."""

    denoiser: ClassVar[str] = "transformer"

    def plan(self, request: EditRequest, options: KontextOptions) -> Plan:
        step, native = self._step, self._native
        size = conditions.asked_size(options, step)
        if size is None and (request.mask is None or options.window == "full"):
            return fit(request.image.size, bucket(request.image.size, native.side, step))
        return conditions.plan(request, options, step=step, native=native)

    def window(self, request: EditRequest, options: KontextOptions, box: Box) -> Plan | None:
        return conditions.window(request, options, box, step=self._step, native=self._native)

    @torch.inference_mode()
    def prepare(
        self, request: EditRequest, plan: Plan, options: KontextOptions, seeds: Sequence[int]
    ) -> tuple[list[KontextLatent], list[str]]:
        self.require_effect(request, options)
        cfg_scale = flux.true_cfg_scale(request.negative_prompt, options.true_cfg_scale)
        length = flux.text_length(self.checkpoint, options.max_sequence_length)
        prompt, negative, warnings = flux.encode_prompts(
            self.checkpoint, request.prompt, request.negative_prompt, length
        )
        source = self._encode(plan.to_canvas(request.image.to_srgb()))
        references = [source, *(self._encode(self._fitted(each)) for each in request.references)]
        mask = None
        if request.mask is not None:
            mask, loss_notes = self._latent_mask(
                conditions.canvas_mask(request, plan, options), source
            )
            warnings += loss_notes
        prepared = [
            self._start(seed, options, references, mask, prompt, negative, cfg_scale)
            for seed in seeds
        ]
        return prepared, warnings

    def batch_key(self, prepared: KontextLatent) -> Hashable:
        return flux.batch_key(prepared)

    def predict(self, batch: Sequence[KontextLatent]) -> torch.Tensor:
        tokens = [torch.cat([image.latents, image.reference], dim=1) for image in batch]
        return flux.predict(self.checkpoint.component("transformer"), batch, torch.cat(tokens))

    def decode(self, prepared: KontextLatent) -> Image.Image:
        return self._decode(prepared.latents, prepared.grid)

    def preview(self, prepared: KontextLatent) -> Image.Image:
        whole = latents.unpack(prepared.latents, *prepared.grid)
        return latents.decode(self.checkpoint, latents.thin(whole))

    def copied(self, request: EditRequest, plan: Plan, prepared: KontextLatent) -> Image.Image:
        # The same one for each of several seeds.
        return self.checkpoint.memo.get(
            ("decoded", content(prepared.source), prepared.grid),
            lambda: self._decode(prepared.source, prepared.grid),
        )

    @property
    def _step(self) -> int:
        return 2 * latents.scale_factor(self.checkpoint.component("vae"))

    @property
    def _native(self) -> Native:
        return flux.native(self.checkpoint.component("vae"))

    def _fitted(self, reference: Image.Image) -> Image.Image:
        """A further reference on the canvas of its own that suits its shape."""
        canvas = bucket(reference.size, self._native.side, self._step)
        return fit(reference.size, canvas).to_canvas(reference.convert("RGB"))

    def _encode(self, picture: Image.Image) -> torch.Tensor:
        """(1, C, h, w): the posterior's mode, so no random numbers are drawn."""
        vae = self.checkpoint.component("vae")
        pixels = latents.picture_tensor(picture)
        return latents.normalize(vae, latents.encode_distribution(self.checkpoint, pixels).mode())

    def _decode(self, tokens: torch.Tensor, grid: tuple[int, int]) -> Image.Image:
        return latents.decode(self.checkpoint, latents.unpack(tokens, *grid))

    def _latent_mask(
        self, mask: Image.Image, source: torch.Tensor
    ) -> tuple[torch.Tensor, list[str]]:
        """(1, N, 4C) packed binary mask, by nearest neighbour."""
        binary = latents.binarize(latents.mask_tensor(mask))
        small = latents.nearest(binary, latents.scale_factor(self.checkpoint.component("vae")))
        packed = latents.pack(small.repeat(1, source.shape[1], 1, 1))
        return packed.to(source), conditions.thin_mask_warning(binary, small)

    def _start(
        self,
        seed: int,
        options: KontextOptions,
        references: Sequence[torch.Tensor],
        mask: torch.Tensor | None,
        prompt: FluxPrompt,
        negative: FluxPrompt | None,
        cfg_scale: float,
    ) -> KontextLatent:
        source = references[0]
        transformer = self.checkpoint.component("transformer")
        steps, tokens = options.num_inference_steps, source[0, 0].numel() // 4
        scheduler, timesteps = flow.schedule_by_size(
            self.checkpoint, steps, tokens, options.strength
        )
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(source.shape, generator=generator, dtype=transformer.dtype).to(source)
        shortcuts = options.shortcuts(PRESETS)
        grid, *others = [(each.shape[-2], each.shape[-1]) for each in references]
        layout = lay_out(self.checkpoint, prompt.embeds.shape[1], grid, (grid, *others))
        subset = sparse.choose(shortcuts, layout, grid, mask, latents.pack(source))
        packed, start, surroundings = latents.pack(source), noise, None
        if mask is not None:
            surroundings = Surroundings(picture=packed, noise=latents.pack(noise), mask=mask)
            start = flow.noised(source, noise, scheduler.sigmas[scheduler.begin_index])
        return KontextLatent(
            seed=seed,
            total=len(timesteps),
            latents=latents.pack(start),
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
                guidance=options.guidance_scale,
                cfg_scale=cfg_scale,
            ),
            shortcuts=shortcuts,
            sparse=subset,
            held_bytes=sparse.held_bytes(transformer, subset, layout, guided=negative is not None),
            reference=torch.cat([latents.pack(each) for each in references], dim=1),
            source=packed,
            surroundings=surroundings,
        )


def bucket(size: tuple[int, int], native: int, step: int) -> tuple[int, int]:
    """The canvas (width, height) that suits a picture's shape.

    One of `BUCKETS` for a checkpoint trained at 1024; for others the same area as their native
    square, sides rounded to `step`.
    """
    aspect = size[0] / size[1]
    if native == flux.NATIVE.side:
        return min(BUCKETS, key=lambda each: abs(aspect - each[0] / each[1]))
    width, height = native * aspect**0.5, native / aspect**0.5
    return (
        max(step, round(width / step) * step),
        max(step, round(height / step) * step),
    )


def fit(size: tuple[int, int], canvas: tuple[int, int]) -> Plan:
    """The whole picture scaled into `canvas` with its aspect ratio kept, padded right and below."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    content = geometry.Box(0, 0, max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    return Plan(
        size=size,
        window=geometry.Box(0, 0, *size),
        canvas=canvas,
        content=content,
        output=size,
    )
