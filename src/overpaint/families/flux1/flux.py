"""What the FLUX.1 families share: prompts, guidance, the forward pass.

Everything that the steps need lies on the transformer's device before the first one. A copy from
the processor's memory would make each step wait until the device has done all earlier work.

Sources: diffusers `pipelines/flux/pipeline_flux.py` (shift, packing), FLUX.1
(black-forest-labs/flux `sampling.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.checkpoints.memo import content
from overpaint.core.errors import UnsupportedOption
from overpaint.diffusion import conditions, latents, prompts
from overpaint.diffusion.conditions import Native
from overpaint.diffusion.denoiser import Latent
from overpaint.diffusion.prompts import FluxPrompt
from overpaint.diffusion.recorded import recorded
from overpaint.diffusion.tokens.layout import Layout, RotaryEmbedding, TokenGrid
from overpaint.diffusion.tokens.sparse import Sparse
from overpaint.families.flux1 import attention, modulation
from overpaint.families.flux1.options import DEFAULT_TRUE_CFG

MAX_TOKENS = 512
"""T5 tokens that FLUX models are trained with at most."""


NATIVE = Native(smallest=256, side=1024)
"""Sizes that the published FLUX.1 models were trained at."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditioning:
    """Inputs of the passes of all steps, beside tokens, on the transformer's device.

    Attributes:
        times: (steps,) timesteps in thousandths, in the transformer's precision.
        prompt, negative: embedded texts; `negative` None = no true classifier-free guidance.
        guidance: (1,) float32 for the guidance embedding; None = the embedding is bypassed.
        cfg_scale: (1, 1, 1) scale of true classifier-free guidance.
        modulation: (steps, M) numbers for the passes with each text, where the transformer does
            not make them itself.
    """

    times: torch.Tensor
    prompt: FluxPrompt
    negative: FluxPrompt | None
    guidance: torch.Tensor | None
    cfg_scale: torch.Tensor
    modulation: tuple[torch.Tensor | None, torch.Tensor | None]

    def text(self, *, negative: bool) -> FluxPrompt:
        """The text of one of the passes of a step."""
        if not negative:
            return self.prompt
        assert self.negative is not None
        return self.negative

    def pooled(self, step: int, *, negative: bool) -> torch.Tensor:
        """(1, P) pooled text of a pass, or (1, M) what modulates the layers in its step."""
        ahead = self.modulation[negative]
        return self.text(negative=negative).pooled if ahead is None else ahead[step : step + 1]


@dataclass(kw_only=True)
class FluxLatent(Latent):
    """One FLUX image on its way; `latents` are packed tokens (1, N, 4C).

    Attributes:
        grid: latents' height and width, in latents.
        layout: of the passes over all tokens.
        conditioning: of all steps.
        sparse: which of the picture's tokens most steps compute; None = all in every step.
    """

    grid: TokenGrid
    layout: Layout
    conditioning: Conditioning
    sparse: Sparse | None = None

    @property
    def guided(self) -> bool:
        """Whether this step has a negative pass."""
        return self.conditioning.negative is not None and super().guided


class OptionalGuidanceEmbedding(nn.Module):
    """A guidance-distilled model's conditioning, with the guidance embedding left out on demand.

    `FluxTransformer2DModel.forward` calls it with (timestep, pooled) where `guidance` is None;
    diffusers' own class then fails. Leaving the embedding out on both branches is how true
    classifier-free guidance works on Flex.2.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.time_proj: nn.Module = embedding.time_proj
        self.timestep_embedder: nn.Module = embedding.timestep_embedder
        self.guidance_embedder: nn.Module = embedding.guidance_embedder
        self.text_embedder: nn.Module = embedding.text_embedder

    def forward(self, timestep: torch.Tensor, *conditions: torch.Tensor) -> torch.Tensor:
        """(B,) timestep, optional (B,) guidance, (B, P) pooled prompt → (B, D)."""
        *guidance, pooled = conditions
        embedded = self.timestep_embedder(self.time_proj(timestep).to(dtype=pooled.dtype))
        if guidance:
            embedded = embedded + self.guidance_embedder(
                self.time_proj(guidance[0]).to(dtype=pooled.dtype)
            )
        return embedded + self.text_embedder(pooled)  # type: ignore[no-any-return]


def prepare(transformer: Any) -> None:
    """Let a transformer run without its guidance embedding, sparsely, and with angles ahead."""
    if transformer.config.guidance_embeds:
        holder, name = transformer, "time_text_embed"
        if modulation.evicted(transformer):
            holder, name = transformer.time_text_embed, "embedding"
        setattr(holder, name, OptionalGuidanceEmbedding(getattr(holder, name)))
    transformer.pos_embed = RotaryEmbedding(transformer.pos_embed)
    attention.install(transformer)


def condition(
    checkpoint: Checkpoint,
    timesteps: torch.Tensor,
    prompts: tuple[FluxPrompt, FluxPrompt | None],
    *,
    guidance: float | None,
    cfg_scale: float,
) -> Conditioning:
    """Put on the transformer's device what all steps are given.

    Args:
        checkpoint: whose transformer.
        timesteps: (steps,) of the edit, 0..1000.
        prompts: positive and negative.
        guidance: value of the guidance embedding; None = it is left out.
        cfg_scale: scale of true classifier-free guidance.
    """
    transformer = checkpoint.component("transformer")
    device, dtype = transformer.device, transformer.dtype

    def placed(prompt: FluxPrompt) -> FluxPrompt:
        return FluxPrompt(prompt.embeds.to(device, dtype), prompt.pooled.to(device, dtype))

    positive, negative = prompts
    scale = None
    if guidance is not None and transformer.config.guidance_embeds:
        scale = torch.full((1,), guidance, dtype=torch.float32, device=device)
    return Conditioning(
        times=timesteps.to(device, dtype) / 1000,
        prompt=placed(positive),
        negative=None if negative is None else placed(negative),
        guidance=scale,
        cfg_scale=torch.full((1, 1, 1), cfg_scale, device=device, dtype=dtype),
        modulation=_modulations(checkpoint, timesteps, guidance, prompts),
    )


def _modulations(
    checkpoint: Checkpoint,
    timesteps: torch.Tensor,
    guidance: float | None,
    prompts: tuple[FluxPrompt, FluxPrompt | None],
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(steps, M) numbers that modulate the layers in each step, with each prompt; remembered.

    Nothing where the transformer has not lost the layers that make them.

    Args:
        checkpoint: whose transformer.
        timesteps: (steps,) of the edit.
        guidance: value of the guidance embedding; None = it is left out.
        prompts: positive and negative, whose pooled vectors count.
    """
    if not modulation.evicted(checkpoint.component("transformer")):
        return None, None
    folder = checkpoint.folder / "transformer"

    def numbers(prompt: FluxPrompt) -> torch.Tensor:
        def compute() -> torch.Tensor:
            with checkpoint.borrowed("transformer") as transformer:
                return modulation.compute(transformer, folder, timesteps, guidance, prompt.pooled)

        key = ("modulation", content(timesteps), guidance, content(prompt.pooled))
        return checkpoint.memo.get(key, compute)

    positive, negative = prompts
    return numbers(positive), None if negative is None else numbers(negative)


def sizes(checkpoint: Checkpoint) -> tuple[int, Native]:
    """The number that sides of a canvas are multiples of, and the sizes that a checkpoint was
    trained at."""
    vae = checkpoint.component("vae")
    return 2 * latents.scale_factor(vae), native(vae)


def native(vae: Any) -> Native:
    """The sizes that a checkpoint was trained at: FLUX.1's, unless its autoencoder says another."""
    side = conditions.native_size(vae.config.sample_size, NATIVE.side)
    return NATIVE if side == NATIVE.side else Native(smallest=side, side=side)


def text_length(checkpoint: Checkpoint, option: int | None) -> int:
    """T5 tokens to pad a prompt to: the option, else what the checkpoint's tokenizer says."""
    longest = min(MAX_TOKENS, checkpoint.component("tokenizer_2").model_max_length)
    if option is not None and option > longest:
        raise UnsupportedOption(
            f"{option} is more than the {longest} tokens of this model's text encoder",
            field="options.max_sequence_length",
        )
    return option or longest


def encode_prompt(
    checkpoint: Checkpoint, text: str, length: int, *, field: str
) -> tuple[FluxPrompt, list[str]]:
    """Embed `text` with T5 (conditioning) and CLIP (pooled); warn where T5 cuts it.

    CLIP's own limit of 77 tokens is not worth a warning: its pooled vector is a summary.
    """
    tokenizer = checkpoint.component("tokenizer_2")
    warning = prompts.overflow_warning(tokenizer, text, limit=length, field=field)
    return prompts.flux_prompt(checkpoint, text, length), [warning] if warning else []


def encode_prompts(
    checkpoint: Checkpoint, prompt: str, negative: str | None, length: int
) -> tuple[FluxPrompt, FluxPrompt | None, list[str]]:
    """Embed prompt and negative prompt (None stays None), with the warnings of both."""
    positive, warnings = encode_prompt(checkpoint, prompt, length, field="prompt")
    if negative is None:
        return positive, None, warnings
    against, more = encode_prompt(checkpoint, negative, length, field="negative_prompt")
    return positive, against, warnings + more


def true_cfg_scale(negative: str | None, option: float | None) -> float:
    """The scale of true classifier-free guidance beside the guidance embedding; 1 = there is none.

    Args:
        negative: the request's negative prompt.
        option: the option.

    Raises:
        UnsupportedOption: one of the two would have no effect without the other.
    """
    if negative is None:
        if option is not None and option > 1:
            raise UnsupportedOption(
                f"{option} needs a negative prompt to guide against; an empty one will do",
                field="options.true_cfg_scale",
            )
        return 1.0
    scale = DEFAULT_TRUE_CFG if option is None else option
    prompts.require_guidance(scale, "options.true_cfg_scale")
    return scale


def predict(transformer: Any, batch: Sequence[FluxLatent], inputs: torch.Tensor) -> torch.Tensor:
    """Velocity of each image's noise tokens, with true classifier-free guidance where asked.

    Args:
        transformer: made ready by `prepare`.
        batch: images of equal token counts, positions and guidance form.
        inputs: (B, N + further tokens, channels) tokens, noise first.

    Returns:
        (B, N, 4C).
    """
    first = batch[0]
    if first.sparse is not None and not first.sparse.is_whole(first.step, guided=first.guided):
        return _predict_sparse(transformer, first, first.sparse, inputs)
    whole = _guided(transformer, batch, inputs, first.layout)
    if first.sparse is not None:
        first.sparse.whole = first.step
    return whole[:, : first.latents.shape[1]]


def _predict_sparse(
    transformer: Any, image: FluxLatent, sparse: Sparse, inputs: torch.Tensor
) -> torch.Tensor:
    """The same of one image, of whose tokens only some are computed."""
    active = _guided(transformer, [image], inputs[:, sparse.computed], sparse.layout)
    return sparse.spread(active, image.latents, image.timestep / 1000)


def _guided(
    transformer: Any, batch: Sequence[FluxLatent], inputs: torch.Tensor, layout: Layout
) -> torch.Tensor:
    """Velocity of every token of `inputs`, whose places `layout` says."""
    positive = _forward(transformer, batch, inputs, layout, negative=False)
    if not batch[0].guided:
        return positive
    negative = _forward(transformer, batch, inputs, layout, negative=True)
    scales = torch.cat([image.conditioning.cfg_scale for image in batch])
    return negative + scales * (positive - negative)


def _forward(
    transformer: Any,
    batch: Sequence[FluxLatent],
    inputs: torch.Tensor,
    layout: Layout,
    *,
    negative: bool,
) -> torch.Tensor:
    conditions = [(image.step, image.conditioning) for image in batch]
    embeds = torch.cat([each.text(negative=negative).embeds for _, each in conditions])
    guidance = [each.guidance for _, each in conditions if each.guidance is not None]
    sparse = batch[0].sparse
    cache = None if sparse is None else sparse.negative if negative else sparse.prompt
    with (
        nullcontext()
        if cache is None
        else cache.attached(transformer, len(batch[0].layout), like=inputs)
    ):
        velocity = recorded(
            transformer,
            _computed,
            inputs,
            torch.cat([each.times[step : step + 1] for step, each in conditions]),
            torch.cat(guidance) if guidance else None,
            torch.cat([each.pooled(step, negative=negative) for step, each in conditions]),
            embeds[:, : len(layout.text)],
            layout.text,
            layout.picture,
            layout.rows,
            cache is not None,
            negative,
            owner=sparse,
        )
    if cache is not None and layout.rows is None:
        cache.filled = True
    return velocity


def _computed(
    transformer: Any,
    inputs: torch.Tensor,
    times: torch.Tensor,
    guidance: torch.Tensor | None,
    pooled: torch.Tensor,
    embeds: torch.Tensor,
    text: torch.Tensor,
    picture: torch.Tensor,
    rows: torch.Tensor | None,
    keep: bool,
    negative: bool,
) -> torch.Tensor:
    """One pass, of device tensors alone, so that it can be recorded.

    `negative` changes nothing here: it says which of its owner's caches is attached, and keeps the
    recordings of the two apart.
    """
    velocity: torch.Tensor = transformer(
        hidden_states=inputs,
        timestep=times,
        guidance=guidance,
        pooled_projections=pooled,
        encoder_hidden_states=embeds,
        txt_ids=text,
        img_ids=picture,
        joint_attention_kwargs={"keep": True, "rows": rows} if keep else None,
        return_dict=False,
    )[0]
    return velocity


def batch_key(image: FluxLatent) -> tuple[object, ...]:
    """Images that share shapes, positions and the form of guidance fit one forward pass.

    A sparse one goes alone: its tokens are its own.
    """
    if image.sparse is not None:
        return (id(image),)
    return (
        image.layout.key,
        image.conditioning.guidance is None,
        image.conditioning.negative is None,
    )
