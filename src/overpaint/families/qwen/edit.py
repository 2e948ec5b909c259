"""Qwen-Image-Edit 2509 and 2511: an instruction about one picture or several; a mask is optional.

Follows diffusers' `QwenImageEditPlusPipeline`: the text encoder sees all pictures, their latents
are appended to the noise along the sequence, and guidance keeps each token's norm.

With a mask, latents outside it are put back after each step, noised to the next timestep, as
`QwenImageEditInpaintPipeline` does it with the earlier model; no such pipeline exists for these
two. As there, the picture's latents are on the canvas of the result: the ones that the
transformer is shown are the ones that are put back. They are the posterior's mode, not a sample.

A picture is stretched to the canvas and the result back to the picture's own size.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import torch
from PIL import Image

from overpaint.checkpoints.memo import content
from overpaint.core.errors import UnsupportedOption
from overpaint.core.geometry import Box, Plan, Size
from overpaint.core.types import EditRequest
from overpaint.diffusion import conditions, flow, latents
from overpaint.diffusion.conditions import Native
from overpaint.diffusion.denoiser import InstructionDenoiser
from overpaint.diffusion.flow import Surroundings
from overpaint.families.qwen import autoencoder, text, transformer
from overpaint.families.qwen.options import PRESETS, QwenEditOptions
from overpaint.families.qwen.transformer import (
    Branch,
    LatentGrid,
    QwenLatent,
    StepTimes,
)

STEP = 2 * autoencoder.FACTOR
"""Sides of a canvas are multiples of it."""

PICTURE_STEP = 32
"""The pipeline makes the sides of pictures multiples of it."""

SIDE = 1024
"""Side in pixels of the square whose area pictures are brought to."""

SMALLEST = 512
"""Least side of a window."""

SEEN = 3 / 8
"""Side of what the text encoder sees, as a share of the model's own: 384 of 1024."""

PICTURES = 3
"""Pictures in a prompt that the model was trained with at most."""

BLANK = " "
"""The text that guidance points away from if no negative prompt is given."""


class QwenEdit(InstructionDenoiser[QwenEditOptions, QwenLatent]):
    """The family `qwen-edit`."""

    denoiser: ClassVar[str] = "transformer"

    def plan(self, request: EditRequest, options: QwenEditOptions) -> Plan:
        size = conditions.asked_size(options, STEP)
        if size is None and (request.mask is None or options.window == "full"):
            return on_canvas(request.image.size, canvas(request.image.size, self._side))
        return conditions.plan(request, options, step=STEP, native=self._native)

    def window(self, request: EditRequest, options: QwenEditOptions, box: Box) -> Plan | None:
        return conditions.window(request, options, box, step=STEP, native=self._native)

    @property
    def _native(self) -> Native:
        return Native(min(SMALLEST, self._side), self._side)

    @torch.inference_mode()
    def prepare(
        self, request: EditRequest, plan: Plan, options: QwenEditOptions, seeds: Sequence[int]
    ) -> tuple[list[QwenLatent], list[str]]:
        self.require_effect(request, options)
        texts = (request.prompt, _negative_prompt(request, options))
        pictures = [request.image.to_srgb().crop(plan.window.as_tuple())]
        pictures += [reference.convert("RGB") for reference in request.references]
        references = [self._encode(each) for each in pictures[1:]]
        mask, warnings = None, _too_many(pictures)
        if request.mask is None:
            references.insert(0, self._encode(pictures[0]))
        else:
            references.insert(0, self._encode_canvas(request, plan))
            canvas_mask = conditions.canvas_mask(request, plan, options)
            mask, loss_notes = _latent_mask(canvas_mask, references[0])
            warnings += loss_notes
        sizes = [(each.shape[-2], each.shape[-1]) for each in references]
        grids = (_grid(plan.canvas), *sizes)
        branches = self._branches(texts, pictures, grids, options)
        packed = [latents.pack(each) for each in references]
        _, timesteps = self._schedule(options, grids[0])
        times = transformer.step_times(self.checkpoint, timesteps)
        prepared = [
            self._start(seed, options, grids[0], branches, times, packed, mask) for seed in seeds
        ]
        return prepared, warnings

    def batch_key(self, prepared: QwenLatent) -> Hashable:
        return transformer.batch_key(prepared)

    def predict(self, batch: Sequence[QwenLatent]) -> torch.Tensor:
        return transformer.predict(self.checkpoint.component("transformer"), batch)

    def decode(self, prepared: QwenLatent) -> Image.Image:
        return autoencoder.decode(self.checkpoint, latents.unpack(prepared.latents, *prepared.grid))

    def preview(self, prepared: QwenLatent) -> Image.Image:
        whole = latents.unpack(prepared.latents, *prepared.grid)
        return autoencoder.decode(self.checkpoint, latents.thin(whole))

    def copied(self, request: EditRequest, plan: Plan, prepared: QwenLatent) -> Image.Image:
        source = self._encode_canvas(request, plan)
        # The same one for each of several seeds.
        return self.checkpoint.memo.get(
            ("decoded", content(source)), lambda: autoencoder.decode(self.checkpoint, source)
        )

    @property
    def _side(self) -> int:
        """Side in pixels of the squares that the model was trained with; a twin's index says it."""
        return int(self.checkpoint.inventory.index.get("sample_size", SIDE))

    def _encode(self, picture: Image.Image) -> torch.Tensor:
        """(1, C, h, w) latents of a picture in the prompt, at the model's own area."""
        size = canvas(picture.size, self._side)
        return autoencoder.encode(self.checkpoint, on_canvas(picture.size, size).to_canvas(picture))

    def _encode_canvas(self, request: EditRequest, plan: Plan) -> torch.Tensor:
        """(1, C, h, w) latents of the request's picture where the result will be."""
        return autoencoder.encode(self.checkpoint, plan.to_canvas(request.image.to_srgb()))

    def _branches(
        self,
        texts: tuple[str, str | None],
        pictures: Sequence[Image.Image],
        grids: tuple[LatentGrid, ...],
        options: QwenEditOptions,
    ) -> tuple[Branch, Branch | None]:
        """The passes with the prompt and with the negative prompt, if there is one."""
        side = round(self._side * SEEN)
        sizes = [canvas(each.size, side) for each in pictures]
        views = [
            on_canvas(each.size, size).to_canvas(each)
            for each, size in zip(pictures, sizes, strict=True)
        ]
        patches = self.checkpoint.component("processor")(views)
        limit = transformer.text_limit(grids)

        def states(words: str, field: str) -> torch.Tensor:
            positions = options.picture_positions
            return text.encode(
                self.checkpoint, words, patches, positions=positions, limit=limit, field=field
            )

        prompt, against = texts
        positive = states(prompt, "prompt")
        negative = None if against is None else states(against, "negative_prompt")
        return (
            transformer.branch(self.checkpoint, positive, grids),
            None if negative is None else transformer.branch(self.checkpoint, negative, grids),
        )

    def _start(
        self,
        seed: int,
        options: QwenEditOptions,
        grid: LatentGrid,
        branches: tuple[Branch, Branch | None],
        times: StepTimes,
        references: Sequence[torch.Tensor],
        mask: torch.Tensor | None,
    ) -> QwenLatent:
        like = references[0]
        model = self.checkpoint.component("transformer")
        generator = torch.Generator().manual_seed(seed)
        shape = (1, like.shape[2] // 4, *grid)
        sample = torch.randn(shape, generator=generator, dtype=model.dtype)
        noise = start = latents.pack(sample).to(like)
        scheduler, timesteps = self._schedule(options, grid)
        surroundings = None
        if mask is not None:
            surroundings = Surroundings(picture=like, noise=noise, mask=mask)
            start = flow.noised(like, noise, scheduler.sigmas[scheduler.begin_index])
        return QwenLatent(
            seed=seed,
            total=len(timesteps),
            latents=start,
            timesteps=timesteps,
            scheduler=scheduler,
            generator=generator,
            step_options={},
            shortcuts=options.shortcuts(PRESETS),
            grid=grid,
            reference=torch.cat(list(references), dim=1),
            prompt=branches[0],
            negative=branches[1],
            scale=torch.full((1, 1, 1), options.true_cfg_scale).to(noise),
            times=times,
            surroundings=surroundings,
        )

    def _schedule(self, options: QwenEditOptions, grid: LatentGrid) -> tuple[Any, torch.Tensor]:
        """A fresh noise scheduler for a picture of this size, and its timesteps."""
        tokens = grid[0] * grid[1] // 4
        steps = options.num_inference_steps
        return flow.schedule_by_size(self.checkpoint, steps, tokens, options.strength)


def canvas(size: Size, side: int) -> Size:
    """(width, height) of a picture of the model's area (`calculate_dimensions`).

    Args:
        size: (width, height) of the picture.
        side: of the square of that area, in pixels.
    """
    ratio = size[0] / size[1]
    width = math.sqrt(side * side * ratio)
    height = width / ratio
    return _whole(width), _whole(height)


def _whole(length: float) -> int:
    return max(1, round(length / PICTURE_STEP)) * PICTURE_STEP


def on_canvas(size: Size, target: Size) -> Plan:
    """The whole picture stretched onto a canvas, and the result back to the picture's size."""
    content = Box.of_size(target)
    return Plan(size=size, window=Box.of_size(size), canvas=target, content=content, output=size)


def _grid(size: Size) -> LatentGrid:
    """Height and width in latents of a canvas of (width, height) in pixels."""
    return size[1] // autoencoder.FACTOR, size[0] // autoencoder.FACTOR


def _latent_mask(mask: Image.Image, like: torch.Tensor) -> tuple[torch.Tensor, list[str]]:
    """(1, N, 4C) packed binary mask by nearest neighbour, and a sentence if much of it is lost."""
    binary = latents.binarize(latents.mask_tensor(mask))
    small = latents.nearest(binary, autoencoder.FACTOR)
    packed = latents.pack(small.repeat(1, like.shape[1], 1, 1))
    return packed.to(like), conditions.thin_mask_warning(binary, small)


def _too_many(pictures: Sequence[Image.Image]) -> list[str]:
    """A sentence where a prompt has more pictures than the model knows."""
    if len(pictures) <= PICTURES:
        return []
    return [
        f"references: {len(pictures)} pictures with the one that is edited; the model was trained "
        f"with up to {PICTURES}, and may mix them up"
    ]


def _negative_prompt(request: EditRequest, options: QwenEditOptions) -> str | None:
    """The text that guidance points away from; None = there is no guidance.

    Raises:
        UnsupportedOption: something that was asked for would have no effect.
    """
    if options.true_cfg_scale > 1:
        return BLANK if request.negative_prompt is None else request.negative_prompt
    if request.negative_prompt is not None:
        raise UnsupportedOption(
            f"{options.true_cfg_scale} switches guidance off, so the negative prompt would have no "
            "effect; give more than 1, or no negative prompt",
            field="options.true_cfg_scale",
        )
    return None
