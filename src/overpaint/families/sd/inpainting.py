"""Inpainting with a 9-channel UNet, as all Stable Diffusion families do it.

Noise, mask and the latents of the picture whose masked pixels are mid-grey are concatenated; the
mask is binary and sampled to latent resolution by nearest neighbour; classifier-free guidance in
one batch. Families say how a prompt is encoded.

Source: diffusers' `StableDiffusionInpaintPipeline` and `StableDiffusionXLInpaintPipeline`.
"""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image

from overpaint.core.errors import UnsupportedOption
from overpaint.core.geometry import Box, Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion import conditions, ddim, latents, prompts
from overpaint.diffusion.denoise import MAX_BATCH
from overpaint.diffusion.denoiser import Denoiser, Latent
from overpaint.diffusion.recorded import is_worthwhile, recorded
from overpaint.families.sd.options import PRESETS, InpaintingOptions

RECORDED = (1, 2, 4, MAX_BATCH)
"""Images of the steps that are recorded; of others, the next larger one is replayed."""


@dataclass(frozen=True, eq=False)
class UNetPrompt:
    """A text as a UNet takes it.

    Attributes:
        embeds: (1, tokens, width) hidden states.
        pooled: (1, P) pooled text, where the UNet adds it to its timestep; else None.
        sizes: (1, 6) sizes and crop that go with it; None without `pooled`.
    """

    embeds: torch.Tensor
    pooled: torch.Tensor | None = None
    sizes: torch.Tensor | None = None


@dataclass(kw_only=True)
class UNetLatent(Latent):
    """One image on its way.

    Attributes:
        condition: (1, 1 + C, h, w) mask and masked picture's latents.
        prompt, negative: encoded texts; `negative` None = no classifier-free guidance.
        scale: (1, 1, 1, 1) of classifier-free guidance.
        device_timesteps: `timesteps` where the UNet is.
    """

    condition: torch.Tensor
    prompt: UNetPrompt
    negative: UNetPrompt | None
    scale: torch.Tensor
    device_timesteps: torch.Tensor

    @property
    def guided(self) -> bool:
        """Whether this step has a pass with the negative prompt."""
        return self.negative is not None and super().guided


class UNetInpainting(Denoiser[InpaintingOptions, UNetLatent]):
    """A family that inpaints with a 9-channel UNet.

    Class attributes:
        sample_size: latents along a side of the pictures that the model was trained on, where no
            file says it.
    """

    denoiser: ClassVar[str] = "unet"
    sample_size: ClassVar[int]

    @abstractmethod
    def encode_prompt(self, text: str, plan: Plan) -> UNetPrompt:
        """A text for a canvas."""

    def encode_negative(self, text: str | None, prompt: UNetPrompt, plan: Plan) -> UNetPrompt:
        """The text that guidance leads away from; the empty one in place of None."""
        return self.encode_prompt(text or "", plan)

    def plan(self, request: EditRequest, options: InpaintingOptions) -> Plan:
        step, native = self._sizes()
        return conditions.plan(request, options, step=step, native=native)

    def window(self, request: EditRequest, options: InpaintingOptions, box: Box) -> Plan | None:
        step, native = self._sizes()
        return conditions.window(request, options, box, step=step, native=native)

    def _sizes(self) -> tuple[int, conditions.Native]:
        scale = latents.scale_factor(self.checkpoint.component("vae"))
        # From the file: where memory is short, a UNet loaded now would leave for the text encoder.
        unet = self.checkpoint.config("unet")
        side = unet.get("sample_size", self.sample_size) * scale
        return scale, conditions.Native(smallest=side, side=side)

    @torch.inference_mode()
    def prepare(
        self, request: EditRequest, plan: Plan, options: InpaintingOptions, seeds: Sequence[int]
    ) -> tuple[list[UNetLatent], list[str]]:
        pixels = latents.picture_tensor(plan.to_canvas(request.image.to_srgb()))
        mask = conditions.canvas_mask(request, plan, options)
        binary = latents.binarize(latents.mask_tensor(mask))
        small = latents.nearest(binary, latents.scale_factor(self.checkpoint.component("vae")))
        masked = latents.encode_distribution(self.checkpoint, pixels * (binary < 0.5))
        picture = (
            latents.encode_distribution(self.checkpoint, pixels) if options.strength < 1 else None
        )
        prompt, negative, warnings = self._encode_prompts(request, plan, options)
        warnings += conditions.thin_mask_warning(binary, small)
        prepared = [
            self._start(seed, options, small, masked, picture, prompt, negative) for seed in seeds
        ]
        return prepared, warnings

    def batch_key(self, prepared: UNetLatent) -> Hashable:
        return (tuple(prepared.latents.shape), prepared.negative is None)

    def predict(self, batch: Sequence[UNetLatent]) -> torch.Tensor:
        unet = self.checkpoint.component("unet")
        scaled = [
            image.scheduler.scale_model_input(image.latents, image.timestep) for image in batch
        ]
        images = list(zip(batch, scaled, strict=True))
        # A few sizes are recorded. Results of the last image's copies are dropped.
        size = next(size for size in RECORDED if size >= len(batch))
        arguments = _arguments(images + images[-1:] * (size - len(batch)))
        if size > len(batch) and not is_worthwhile(unet, _predicted, *arguments):
            arguments = _arguments(images)
        return recorded(unet, _predicted, *arguments)[: len(batch)]

    def decode(self, prepared: UNetLatent) -> Image.Image:
        return latents.decode(self.checkpoint, prepared.latents)

    def preview(self, prepared: UNetLatent) -> Image.Image:
        return latents.decode(self.checkpoint, latents.thin(prepared.latents))

    def _encode_prompts(
        self, request: EditRequest, plan: Plan, options: InpaintingOptions
    ) -> tuple[UNetPrompt, UNetPrompt | None, list[str]]:
        tokenizer = self.checkpoint.component("tokenizer")
        guided = options.guidance_scale > 1
        if request.negative_prompt:
            prompts.require_guidance(options.guidance_scale, "options.guidance_scale")
        texts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt or ""}
        limit = tokenizer.model_max_length
        warned = [
            prompts.overflow_warning(tokenizer, text, limit=limit, field=field)
            for field, text in texts.items()
        ]
        prompt = self.encode_prompt(request.prompt, plan)
        negative = None
        if guided:
            negative = self.encode_negative(request.negative_prompt, prompt, plan)
        return prompt, negative, [warning for warning in warned if warning]

    def _start(
        self,
        seed: int,
        options: InpaintingOptions,
        mask: torch.Tensor,
        masked: Any,
        picture: Any,
        prompt: UNetPrompt,
        negative: UNetPrompt | None,
    ) -> UNetLatent:
        """Draw in the reference's order: picture sample (strength < 1), noise, masked sample."""
        unet, vae = self.checkpoint.component("unet"), self.checkpoint.component("vae")
        device, dtype = unet.device, unet.dtype  # asking goes through all modules each time
        scheduler, timesteps = self._schedule(options)
        generator = torch.Generator().manual_seed(seed)
        start = None
        if picture is not None:
            # The reference repeats it, which makes it contiguous.
            start = latents.normalize(vae, picture.sample(generator).to(dtype)).contiguous()
        shape = (1, vae.config.latent_channels, *mask.shape[-2:])
        noise = torch.randn(shape, generator=generator, dtype=dtype).to(device)
        if start is None:
            noisy = noise * scheduler.init_noise_sigma
        else:
            noisy = scheduler.add_noise(start, noise, timesteps[:1])
        kept_latents = latents.normalize(vae, masked.sample(generator).to(dtype))
        coefficients = ddim.coefficients(scheduler, timesteps, options.eta)
        return UNetLatent(
            seed=seed,
            total=len(timesteps),
            latents=noisy,
            timesteps=timesteps,
            scheduler=scheduler,
            generator=generator,
            step_options=_step_options(scheduler, generator, options.eta),
            ddim=coefficients and coefficients.to(device),
            shortcuts=options.shortcuts(PRESETS),
            condition=torch.cat([mask.to(kept_latents), kept_latents], dim=1),
            prompt=prompt,
            negative=negative,
            scale=torch.full((1, 1, 1, 1), options.guidance_scale).to(noise),
            device_timesteps=timesteps.to(device),
        )

    def _schedule(self, options: InpaintingOptions) -> tuple[Any, torch.Tensor]:
        """A fresh scheduler and the timesteps left by `strength` (`get_timesteps`)."""
        scheduler = copy.deepcopy(self.checkpoint.component("scheduler"))
        steps = options.num_inference_steps
        scheduler.set_timesteps(steps)
        _check_timesteps(scheduler, steps)
        first_step = steps - min(int(steps * options.strength), steps)
        timesteps = scheduler.timesteps[first_step * scheduler.order :]
        if first_step >= steps:
            raise UnsupportedOption(
                f"{options.strength} of {steps} steps leaves none to compute; raise strength or "
                "num_inference_steps",
                field="options.strength",
            )
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first_step * scheduler.order)
        return scheduler, timesteps


def _check_timesteps(scheduler: Any, steps: int) -> None:
    """Some schedulers count past their own last timestep when asked for as many steps."""
    trained = scheduler.config.num_train_timesteps
    if float(scheduler.timesteps.max()) >= trained:
        raise UnsupportedOption(
            f"{steps} is more than this model's {type(scheduler).__name__} can take; at most "
            f"{trained - 1}",
            field="options.num_inference_steps",
        )


def _arguments(
    images: Sequence[tuple[UNetLatent, torch.Tensor]],
) -> tuple[list[torch.Tensor], ...]:
    """The arguments of `_predicted` for images and their scaled latents."""
    batch = [image for image, _ in images]
    texts, scales = [image.prompt for image in batch], []
    if batch[0].guided:
        texts = [image.negative for image in batch if image.negative is not None] + texts
        scales = [image.scale for image in batch]
    return (
        [sample for _, sample in images],
        [image.condition for image in batch],
        [image.device_timesteps[image.step, None] for image in batch],
        [text.embeds for text in texts],
        [text.pooled for text in texts if text.pooled is not None],
        [text.sizes for text in texts if text.sizes is not None],
        scales,
    )


def _predicted(
    unet: Any,
    samples: Sequence[torch.Tensor],
    conditions: Sequence[torch.Tensor],
    timesteps: Sequence[torch.Tensor],
    texts: Sequence[torch.Tensor],
    pooled: Sequence[torch.Tensor],
    sizes: Sequence[torch.Tensor],
    scales: Sequence[torch.Tensor],
) -> torch.Tensor:
    """The UNet's prediction for each image, from tensors of its device alone.

    Args:
        unet: the denoiser.
        samples, conditions: (1, C, h, w) of each image.
        timesteps: (1,) of each.
        texts: (1, tokens, width) of each; with guidance, the negative ones before them.
        pooled, sizes: (1, P) and (1, 6) of each text; none = the UNet takes none.
        scales: (1, 1, 1, 1) of classifier-free guidance of each; none = there is no guidance.

    Returns:
        (images, C, h, w).
    """
    copies = 2 if scales else 1
    inputs = torch.cat([torch.cat(list(samples)), torch.cat(list(conditions))], dim=1)
    keywords = {}
    if pooled:
        conditioning = {"text_embeds": torch.cat(list(pooled)), "time_ids": torch.cat(list(sizes))}
        keywords = {"added_cond_kwargs": conditioning}
    output = unet(
        torch.cat([inputs] * copies),
        torch.cat([*timesteps] * copies),
        encoder_hidden_states=torch.cat(list(texts)),
        return_dict=False,
        **keywords,
    )[0]
    if not scales:
        return output  # type: ignore[no-any-return]
    without, guided = output.chunk(2)
    return without + torch.cat(list(scales)) * (guided - without)  # type: ignore[no-any-return]


def _step_options(scheduler: Any, generator: torch.Generator, eta: float) -> dict[str, Any]:
    """`eta` and `generator` where the scheduler's step takes them (`prepare_extra_step_kwargs`)."""
    parameters = inspect.signature(scheduler.step).parameters
    offered = {"eta": eta, "generator": generator}
    return {name: value for name, value in offered.items() if name in parameters}
