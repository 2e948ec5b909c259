"""What the FLUX.2 [klein] families share: all but guidance, and who computes the references.

Follows diffusers' `Flux2KleinPipeline` and, with a mask, `Flux2KleinInpaintPipeline`: the latents
of the picture and of further references are appended to the noise along the sequence. With a mask,
latents outside it are put back, noised to the next timestep, after each step.

Unlike the pipelines, one plan serves the picture and the result: the picture is padded to whole
tokens, not cropped or stretched, and the answer has its own size. Further references are cropped,
as there.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from PIL import Image
from torch.nn import functional

from overpaint.checkpoints.memo import content
from overpaint.core.errors import InvalidRequest
from overpaint.core.geometry import Box, Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion import conditions, flow, latents
from overpaint.diffusion.conditions import Native
from overpaint.diffusion.denoiser import InstructedLatent, InstructionDenoiser
from overpaint.diffusion.flow import Surroundings
from overpaint.diffusion.shortcuts import Shortcuts
from overpaint.diffusion.tokens import sparse
from overpaint.diffusion.tokens.layout import Layout, TokenGrid
from overpaint.diffusion.tokens.sparse import Sparse
from overpaint.families.flux2 import attention, autoencoder, passes, text
from overpaint.families.flux2.layout import lay_out
from overpaint.families.flux2.options import KleinKVOptions, Variant
from overpaint.families.flux2.passes import LONGEST, Flux2Latent
from overpaint.families.flux2.references import References

SIDE = 1024
"""Side in pixels that the models were trained at most."""

SMALLEST = 512
"""Least side of a window around a mask."""

MOST_PIXELS = SIDE * SIDE
"""Pixels of a further reference at most; a larger one is scaled down."""

SMALLEST_REFERENCE, LONGEST_REFERENCE = 64, 8
"""Pixels of a further reference's side, and its longer side over its shorter one, as in the
pipelines."""

PREVIEW = 16
"""Tokens along the longer side of a preview: 256 pixels."""

OptionsT = TypeVar("OptionsT", bound=KleinKVOptions)


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A request as the model takes it, the same for each of its seeds.

    Attributes:
        prompt, negative: (1, T, width); `negative` None = there is no guidance.
        guidance: scale of classifier-free guidance.
        pictures: (1, C, h, w) latents of the picture, then of further references.
        mask: (1, N, 1), or None.
    """

    prompt: torch.Tensor
    negative: torch.Tensor | None
    guidance: float
    pictures: tuple[torch.Tensor, ...]
    mask: torch.Tensor | None

    @property
    def prompts(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The prompt to follow, and the one to guide against."""
        return self.prompt, self.negative

    @property
    def grids(self) -> list[TokenGrid]:
        """Sizes of the pictures, in tokens."""
        return [(each.shape[-2], each.shape[-1]) for each in self.pictures]

    @property
    def reference(self) -> torch.Tensor:
        """(1, M, C) tokens of all pictures."""
        return torch.cat([autoencoder.tokens(each) for each in self.pictures], dim=1)


@dataclass(kw_only=True)
class KleinLatent(Flux2Latent, InstructedLatent):
    """One image on its way.

    Attributes:
        reference: (1, M, C) tokens of the picture and of further references.
        grids: their sizes, in tokens.
        source: (1, N, C) tokens of the picture alone.
        references: those that no step computes, see `families/flux2/references.py`.
    """

    reference: torch.Tensor
    grids: list[TokenGrid]
    source: torch.Tensor
    references: References | None = None


class KleinEditor(InstructionDenoiser[OptionsT, KleinLatent]):
    """A family of FLUX.2 [klein]."""

    denoiser: ClassVar[str] = "transformer"

    @property
    @abstractmethod
    def variant(self) -> Variant:
        """Defaults that suit this checkpoint."""

    @abstractmethod
    def guidance(self, request: EditRequest, options: OptionsT) -> float:
        """Scale of classifier-free guidance; 1 = there is none.

        Raises:
            InvalidRequest, UnsupportedOption: something would have no effect.
        """

    def settle(self, options: OptionsT) -> OptionsT:
        if options.num_inference_steps is not None:
            return options
        return options.model_copy(update={"num_inference_steps": self.variant.steps})

    def plan(self, request: EditRequest, options: OptionsT) -> Plan:
        return conditions.plan(request, options, step=self._step, native=self._native)

    def window(self, request: EditRequest, options: OptionsT, box: Box) -> Plan | None:
        return conditions.window(request, options, box, step=self._step, native=self._native)

    @torch.inference_mode()
    def prepare(
        self, request: EditRequest, plan: Plan, options: OptionsT, seeds: Sequence[int]
    ) -> tuple[list[KleinLatent], list[str]]:
        self.require_effect(request, options)
        options = self.settle(options)
        encoded, warnings = self._encoded(request, plan, options)
        layout = self.layout(encoded)
        prepared = [self._start(seed, options, encoded, layout) for seed in seeds]
        _, whole = self._shortcuts(options)
        return prepared, warnings + whole + _warnings(options, prepared[0])

    def layout(self, encoded: Encoded) -> Layout:
        """All tokens that a step computes: text, noise, references."""
        return lay_out(
            self.checkpoint,
            text=encoded.prompt.shape[1],
            noise=encoded.grids[0],
            references=encoded.grids,
        )

    def batch_key(self, prepared: KleinLatent) -> Hashable:
        return prepared.key

    def predict(self, batch: Sequence[KleinLatent]) -> torch.Tensor:
        tokens = [torch.cat([image.latents, image.reference], dim=1) for image in batch]
        return passes.predict(self.checkpoint.component("transformer"), batch, torch.cat(tokens))

    def decode(self, prepared: KleinLatent) -> Image.Image:
        return self._decode(prepared.latents, prepared.grid)

    def preview(self, prepared: KleinLatent) -> Image.Image:
        whole = autoencoder.picture(prepared.latents, prepared.grid)
        return autoencoder.decode(self.checkpoint, latents.thin(whole, PREVIEW))

    def copied(self, request: EditRequest, plan: Plan, prepared: KleinLatent) -> Image.Image:
        # The same one for each of several seeds.
        return self.checkpoint.memo.get(
            ("decoded", content(prepared.source), prepared.grid),
            lambda: self._decode(prepared.source, prepared.grid),
        )

    @property
    def _step(self) -> int:
        """Pixels along a side of a token."""
        return 2 * latents.scale_factor(self.checkpoint.component("vae"))

    @property
    def _native(self) -> Native:
        side = conditions.native_size(self.checkpoint.component("vae").config.sample_size, SIDE)
        if side != SIDE:
            return Native(smallest=side, side=side)
        return Native(smallest=SMALLEST, side=SIDE, max_pixels=LONGEST * self._step**2)

    def _encoded(
        self, request: EditRequest, plan: Plan, options: OptionsT
    ) -> tuple[Encoded, list[str]]:
        guidance, length = self.guidance(request, options), options.max_sequence_length
        prompt, warnings = text.encode(self.checkpoint, request.prompt, length, field="prompt")
        negative = None
        if guidance > 1:
            against = request.negative_prompt or ""
            negative, more = text.encode(self.checkpoint, against, length, field="negative_prompt")
            warnings = [*warnings, *more]
        canvas = plan.to_canvas(request.image.to_srgb())
        pictures = [canvas, *(cropped(each, self._step) for each in request.references)]
        mask = None
        if request.mask is not None:
            mask, loss_notes = self._latent_mask(request, plan, options)
            warnings = [*warnings, *loss_notes]
        encoded = Encoded(
            prompt=prompt,
            negative=negative,
            guidance=guidance,
            pictures=tuple(autoencoder.encode(self.checkpoint, each) for each in pictures),
            mask=mask,
        )
        return encoded, warnings

    def _latent_mask(
        self, request: EditRequest, plan: Plan, options: OptionsT
    ) -> tuple[torch.Tensor, list[str]]:
        """(1, N, 1), soft: bilinear without antialiasing, so four pixels of each token count."""
        mask = latents.mask_tensor(conditions.canvas_mask(request, plan, options))
        binary = latents.binarize(mask)
        if options.wide_mask:
            small = functional.max_pool2d(binary, self._step)
        else:
            size = (mask.shape[-2] // self._step, mask.shape[-1] // self._step)
            small = functional.interpolate(binary, size=size, mode="bilinear")
        placed = autoencoder.tokens(self._placed(small))
        return placed, conditions.thin_mask_warning(binary, small)

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the transformer's device, in its precision."""
        transformer = self.checkpoint.component("transformer")
        return tensor.to(transformer.device, transformer.dtype)

    def _start(self, seed: int, options: OptionsT, encoded: Encoded, layout: Layout) -> KleinLatent:
        transformer = self.checkpoint.component("transformer")
        source = encoded.pictures[0]
        scheduler, timesteps = self._schedule(options, encoded.grids[0])
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(source.shape, generator=generator, dtype=transformer.dtype).to(source)
        start = flow.noised(source, noise, scheduler.sigmas[scheduler.begin_index])
        surroundings = None
        if encoded.mask is not None:
            surroundings = Surroundings(
                picture=autoencoder.tokens(source),
                noise=autoencoder.tokens(noise),
                mask=encoded.mask,
            )
        shortcuts, _ = self._shortcuts(options)
        subset = _sparse(shortcuts, layout, encoded)
        return KleinLatent(
            seed=seed,
            total=len(timesteps),
            latents=autoencoder.tokens(start),
            timesteps=timesteps,
            scheduler=scheduler,
            generator=generator,
            step_options={},
            shortcuts=shortcuts,
            held_bytes=sparse.held_bytes(transformer, subset, layout, guided=encoded.guidance > 1),
            grid=encoded.grids[0],
            layout=layout,
            steering=passes.steer(transformer, timesteps, encoded.prompts, encoded.guidance),
            sparse=subset,
            reference=encoded.reference,
            grids=encoded.grids,
            source=autoencoder.tokens(source),
            surroundings=surroundings,
        )

    def _shortcuts(self, options: OptionsT) -> tuple[Shortcuts, list[str]]:
        """The shortcuts of an edit, and a sentence about those that it cannot take."""
        shortcuts = options.shortcuts(self.variant.presets)
        can_keep = attention.can_keep(self.checkpoint.component("transformer"))
        if can_keep or shortcuts.refresh_every == 1:
            return shortcuts, []
        warning = (
            f"refresh_every: {shortcuts.refresh_every} has no effect: OpenVINO keeps nothing "
            "between steps, so each one computes the whole picture; sparse steps need backend "
            "'torch'"
        )
        return replace(shortcuts, refresh_every=1), [warning]

    def _schedule(self, options: OptionsT, grid: TokenGrid) -> tuple[Any, torch.Tensor]:
        steps = options.num_inference_steps
        assert steps is not None
        shift = passes.shift(grid[0] * grid[1], steps)
        return flow.schedule(self.checkpoint, steps, shift, options.strength)

    def _decode(self, tokens: torch.Tensor, grid: TokenGrid) -> Image.Image:
        return autoencoder.decode(self.checkpoint, autoencoder.picture(tokens, grid))


def cropped(picture: Image.Image, step: int) -> Image.Image:
    """A further reference as the pipelines take it: of a megapixel at most, of whole tokens.

    Args:
        picture: of any size.
        step: pixels along a side of a token; what is too much is cut from both sides.

    Raises:
        InvalidRequest: it is too small or too long.
    """
    short, long = sorted(picture.size)
    if short < SMALLEST_REFERENCE or long > LONGEST_REFERENCE * short:
        raise InvalidRequest(
            f"one is {picture.width}x{picture.height} pixels; each side has to be at least "
            f"{SMALLEST_REFERENCE}, and none longer than {LONGEST_REFERENCE} times the other",
            field="references",
        )
    picture = picture.convert("RGB")
    if short * long > MOST_PIXELS:
        scale = math.sqrt(MOST_PIXELS / (short * long))
        size = (int(picture.width * scale), int(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    width, height = (side // step * step for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _sparse(shortcuts: Shortcuts, layout: Layout, encoded: Encoded) -> Sparse | None:
    """How an edit's steps are made sparse; None where they have nothing to leave out."""
    height, width = encoded.grids[0]
    if encoded.mask is None and len(layout.picture) == height * width:
        return None
    packed = autoencoder.tokens(encoded.pictures[0])
    return sparse.choose(shortcuts, layout, (2 * height, 2 * width), encoded.mask, packed)


def _warnings(options: KleinKVOptions, image: KleinLatent) -> list[str]:
    """Sentences about what differs from what a caller may expect."""
    steps, tokens = options.num_inference_steps, image.latents.shape[1]
    warnings = []
    if options.strength < 1 and image.total == steps:
        warnings.append(
            f"strength: {options.strength:g} of {steps} steps is all of them, so the masked area "
            f"starts from noise; {1 - 1 / steps:g} or less starts from the picture"
        )
    if tokens > LONGEST:
        warnings.append(
            f"height and width: {tokens} tokens are more than the {LONGEST} up to which this "
            "model's noise schedule suits few steps; ask for 1.1 megapixels or less"
        )
    return warnings
