"""What Flex.2 and FLUX.1 Kontext share: prompts, positions, schedule, guidance, the forward pass.

Sources: diffusers `pipelines/flux/pipeline_flux.py` (shift, positions, packing), FLUX.1
(black-forest-labs/flux `sampling.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.checkpoints.memo import content
from overpaint.core.errors import UnsupportedOption
from overpaint.diffusion import conditions, prompts
from overpaint.diffusion.conditions import Native
from overpaint.diffusion.denoiser import Latent
from overpaint.diffusion.prompts import FluxPrompt
from overpaint.families.flux1 import modulation, sparse
from overpaint.families.flux1.sparse import Kept, Sparse

MAX_TOKENS = 512
"""T5 tokens that FLUX models are trained with at most."""


NATIVE = Native(smallest=256, side=1024)
"""Sizes that the published FLUX.1 models were trained at."""


@dataclass(kw_only=True)
class FluxLatent(Latent):
    """One FLUX image on its way; `latents` are packed tokens (1, N, 4C).

    Attributes:
        grid: latents' height and width, in latents.
        prompt, negative: embedded texts; `negative` None = no true classifier-free guidance.
        guidance: value for the guidance embedding; None = the embedding is bypassed.
        cfg_scale: scale of true classifier-free guidance.
        positions: (N + further tokens, 3) position ids of all picture tokens.
        modulation: (steps, M) numbers for the passes with each text, where the transformer does
            not make them itself.
        sparse: which of the picture's tokens most steps compute; None = all in every step.
    """

    grid: tuple[int, int]
    prompt: FluxPrompt
    negative: FluxPrompt | None
    guidance: float | None
    cfg_scale: float
    positions: torch.Tensor
    modulation: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
    sparse: Sparse | None = None

    @property
    def guided(self) -> bool:
        """Whether this step has a negative pass."""
        return self.negative is not None and super().guided


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
    """Let a transformer run without its guidance embedding, and sparsely."""
    if transformer.config.guidance_embeds:
        holder, name = transformer, "time_text_embed"
        if modulation.evicted(transformer):
            holder, name = transformer.time_text_embed, "embedding"
        setattr(holder, name, OptionalGuidanceEmbedding(getattr(holder, name)))
    sparse.install(transformer)


def modulations(
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


def native(vae: Any) -> Native:
    """The sizes that a checkpoint was trained at: FLUX.1's, unless its autoencoder says another."""
    side = conditions.native_size(vae.config.sample_size, NATIVE.side)
    return NATIVE if side == NATIVE.side else Native(smallest=side, side=side)


def text_length(checkpoint: Checkpoint, asked: int | None) -> int:
    """T5 tokens to pad a prompt to: as asked, else what the checkpoint's tokenizer says."""
    longest = min(MAX_TOKENS, checkpoint.component("tokenizer_2").model_max_length)
    if asked is not None and asked > longest:
        raise UnsupportedOption(
            f"{asked} is more than the {longest} tokens of this model's text encoder",
            field="options.max_sequence_length",
        )
    return asked or longest


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


def positions(height: int, width: int, *, source: int = 0) -> torch.Tensor:
    """(height/2·width/2, 3) ids (source, row, column) of packed tokens; sizes count latents."""
    ids = torch.zeros(height // 2, width // 2, 3)
    ids[..., 0] = source
    ids[..., 1] += torch.arange(height // 2)[:, None]
    ids[..., 2] += torch.arange(width // 2)[None, :]
    return ids.reshape(-1, 3)


def schedule(checkpoint: Checkpoint, steps: int, tokens: int) -> tuple[Any, torch.Tensor]:
    """A fresh flow-matching scheduler, shifted for `tokens` noise tokens, and its timesteps."""
    scheduler = copy.deepcopy(checkpoint.component("scheduler"))
    sigmas = np.linspace(1.0, 1 / steps, steps)
    if scheduler.config.get("use_dynamic_shifting", False):
        scheduler.set_timesteps(sigmas=sigmas, mu=_shift(scheduler.config, tokens))
    else:
        scheduler.set_timesteps(sigmas=sigmas)
    return scheduler, scheduler.timesteps


def _shift(config: Any, tokens: int) -> float:
    """The exponent of the time shift, linear in the number of tokens (`calculate_shift`)."""
    base, longest = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (longest - base)
    return float(tokens * slope + (low - slope * base))


def predict(transformer: Any, batch: Sequence[FluxLatent], inputs: torch.Tensor) -> torch.Tensor:
    """Velocity of each image's noise tokens, with true classifier-free guidance where asked.

    Args:
        transformer: made ready by `prepare`.
        batch: images of equal token counts, positions and guidance form.
        inputs: (B, N + further tokens, channels) tokens, noise first.

    Returns:
        (B, N, 4C).
    """
    if batch[0].sparse is not None:
        return _predict_sparse(transformer, batch[0], batch[0].sparse, inputs)
    return _guided(transformer, batch, inputs, batch[0].positions)[:, : batch[0].latents.shape[1]]


def _predict_sparse(
    transformer: Any, image: FluxLatent, sparse: Sparse, inputs: torch.Tensor
) -> torch.Tensor:
    """The same of one image, computing its active tokens only unless all are due."""
    rows = sparse.rows(image.step, guided=image.guided)
    if rows is None:
        whole = _guided(transformer, [image], inputs, image.positions)
        sparse.whole = image.step
        return whole[:, : image.latents.shape[1]]
    active = _guided(transformer, [image], inputs[:, rows], image.positions[rows.cpu()], rows)
    return sparse.spread(active, image.latents, image.timestep / 1000)


def _guided(
    transformer: Any,
    batch: Sequence[FluxLatent],
    inputs: torch.Tensor,
    positions: torch.Tensor,
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Velocity of every token of `inputs`, of which `rows` says the places; None = it is all."""
    positive = _forward(transformer, batch, inputs, positions, rows, negative=False)
    if not batch[0].guided:
        return positive
    negative = _forward(transformer, batch, inputs, positions, rows, negative=True)
    scales = torch.tensor([image.cfg_scale for image in batch]).to(inputs)[:, None, None]
    return negative + scales * (positive - negative)


def _guidance(batch: Sequence[FluxLatent], device: torch.device) -> torch.Tensor | None:
    values = [image.guidance for image in batch if image.guidance is not None]
    if not values:
        return None
    return torch.tensor(values, dtype=torch.float32, device=device)


def _forward(
    transformer: Any,
    batch: Sequence[FluxLatent],
    inputs: torch.Tensor,
    positions: torch.Tensor,
    rows: torch.Tensor | None,
    *,
    negative: bool,
) -> torch.Tensor:
    texts = [image.negative if negative else image.prompt for image in batch]
    embeds = torch.cat([text.embeds for text in texts if text is not None]).to(inputs)
    ahead = [image.modulation[negative] for image in batch]
    pooled = [
        text.pooled if numbers is None else numbers[image.step : image.step + 1]
        for image, text, numbers in zip(batch, texts, ahead, strict=True)
        if text is not None
    ]
    return transformer(  # type: ignore[no-any-return]
        hidden_states=inputs,
        timestep=torch.stack([image.timestep for image in batch]).to(inputs) / 1000,
        guidance=_guidance(batch, inputs.device) if transformer.config.guidance_embeds else None,
        pooled_projections=torch.cat(pooled).to(inputs),
        encoder_hidden_states=embeds,
        txt_ids=torch.zeros(embeds.shape[1], 3).to(inputs),
        img_ids=positions.to(inputs),
        joint_attention_kwargs=_kept(batch[0].sparse, rows, embeds.shape[1], negative=negative),
        return_dict=False,
    )[0]


def _kept(
    sparse: Sparse | None, rows: torch.Tensor | None, text: int, *, negative: bool
) -> dict[str, Kept] | None:
    """What the attention is told of the keys and values that are kept."""
    if sparse is None:
        return None
    kept = sparse.negative if negative else sparse.prompt
    kept.rows = None
    if rows is not None:
        kept.rows = torch.cat([torch.arange(text, device=rows.device), text + rows])
    return {"kept": kept}


def batch_key(image: FluxLatent) -> tuple[object, ...]:
    """Images that share shapes, positions and the form of guidance fit one forward pass.

    A sparse one goes alone: its tokens are its own.
    """
    if image.sparse is not None:
        return (id(image),)
    return (
        tuple(image.latents.shape),
        image.grid,
        tuple(image.positions.shape),
        tuple(image.prompt.embeds.shape),
        image.guidance is None,
        image.negative is None,
    )
