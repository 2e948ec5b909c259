"""What both FLUX twins share: transformer, packing, positions, noise times, a plain sampler.

Layout and formulas follow diffusers' `FluxPipeline` (Apache-2.0) and Flex.2's public pipeline;
the flow-matching loss is Esser et al. 2024, section 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from diffusers.models.embeddings import CombinedTimestepGuidanceTextProjEmbeddings
from torch import Tensor, nn

from training.train.priming import AXES, HEAD_WIDTH
from training.train.text import WIDTH, TextEncoders

SHIFT = 4.0
"""Noise-time shift of the sampler for a 128-pixel picture."""

TIME_MEAN, TIME_DEVIATION = 1.7, 1.1
"""Logit-normal noise times of training. A flat thing is hundreds of alike latent values, so its
shape shows through until the noise time is about 0.9: what the text says must be learnt above."""

NO_GUIDANCE = 0.0
"""Guidance value that stands for bypassing the guidance embedder."""


class SwitchableGuidance(CombinedTimestepGuidanceTextProjEmbeddings):  # type: ignore[misc]
    """Adds the guidance embedding only where guidance > 0, sample by sample."""

    def forward(self, timestep: Tensor, guidance: Tensor, pooled_projection: Tensor) -> Tensor:
        """(batch, width) from timestep and guidance (batch,) and pooled text (batch, width)."""
        dtype = pooled_projection.dtype
        time = self.timestep_embedder(self.time_proj(timestep).to(dtype))
        strength = self.guidance_embedder(self.time_proj(guidance).to(dtype))
        used = (guidance > 0).to(dtype)[:, None]
        total: Tensor = time + used * strength + self.text_embedder(pooled_projection)
        return total


@dataclass(frozen=True)
class TransformerShape:
    """Sizes of the transformer."""

    heads: int
    double_blocks: int
    single_blocks: int


SHAPES = {"cpu": TransformerShape(4, 2, 4), "gpu": TransformerShape(12, 3, 8)}


def build_transformer(in_channels: int, preset: str = "cpu") -> FluxTransformer2DModel:
    """An untrained transformer: zero modulations and a zero last projection."""
    shape = SHAPES[preset]
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=in_channels,
        out_channels=64,
        num_layers=shape.double_blocks,
        num_single_layers=shape.single_blocks,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=shape.heads,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=AXES,
    )
    for name, p in model.named_parameters():
        if name.endswith((".linear.weight", ".linear.bias")) and "norm" in name:
            nn.init.zeros_(p)
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    model.time_text_embed.__class__ = SwitchableGuidance
    return model


def pack(latents: Tensor) -> Tensor:
    """(batch, c, h, w) -> tokens (batch, h/2 * w/2, 4c)."""
    batch, channels, height, width = latents.shape
    cells = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, channels * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens (batch, h/2 * w/2, 4c) -> (batch, c, h, w)."""
    batch, _, packed = tokens.shape
    cells = tokens.reshape(batch, height // 2, width // 2, packed // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(batch, packed // 4, height, width)


def position_ids(height: int, width: int, index: int = 0) -> Tensor:
    """Positions (h/2 * w/2, 3) of a latent grid; `index` 1 marks a reference."""
    rows, columns = torch.meshgrid(
        torch.arange(height // 2), torch.arange(width // 2), indexing="ij"
    )
    return torch.stack([torch.full_like(rows, index), rows, columns], dim=-1).reshape(-1, 3).float()


@torch.no_grad()
def encode(autoencoder: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Normalised latents (the posterior's mode) of pictures in -1..1."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        latents = autoencoder.encode(pictures).latent_dist.mode().float()
    shift = autoencoder.config.shift_factor or 0.0
    normalised: Tensor = (latents - shift) * autoencoder.config.scaling_factor
    return normalised


@torch.no_grad()
def decode(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures in -1..1 of normalised latents."""
    shift = autoencoder.config.shift_factor or 0.0
    with torch.autocast(latents.device.type, torch.bfloat16):
        sample = autoencoder.decode(latents / autoencoder.config.scaling_factor + shift).sample
    pictures: Tensor = sample.float().clamp(-1, 1)
    return pictures


@torch.no_grad()
def text_conditions(encoders: TextEncoders, clip_ids: Tensor, t5_ids: Tensor) -> dict[str, Tensor]:
    """The transformer's text inputs: T5 states, CLIP's pooled output, text positions."""
    return {
        "encoder_hidden_states": encoders.t5(input_ids=t5_ids).last_hidden_state,
        "pooled_projections": encoders.clip(input_ids=clip_ids).pooler_output,
        "txt_ids": torch.zeros(t5_ids.shape[1], 3, device=t5_ids.device),
    }


def sample_times(count: int, generator: torch.Generator) -> Tensor:
    """Noise times in 0..1: logit-normal, and uniform for one in ten."""
    normal = TIME_MEAN + TIME_DEVIATION * torch.randn(count, generator=generator)
    uniform = torch.rand(count, generator=generator)
    plain = torch.rand(count, generator=generator) < 0.1
    return torch.where(plain, uniform, normal.sigmoid())


def sample_guidance(count: int, generator: torch.Generator, bypass: float) -> Tensor:
    """Guidance values in 1..5, and NO_GUIDANCE for a share `bypass`."""
    values = 1 + 4 * torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < bypass, NO_GUIDANCE, values)


def noised(clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Tokens on the straight path from clean (time 0) to noise (time 1)."""
    at = times[:, None, None]
    return (1 - at) * clean + at * noise


@torch.no_grad()
def distilled(
    target: Tensor, guidance: Tensor, wanted: Callable[[], Tensor], unwanted: Callable[[], Tensor]
) -> Tensor:
    """The target with classifier-free guidance where a guidance value is embedded.

    As FLUX.1-dev was (Meng et al. 2023, 'On distillation of guided diffusion models'): samples
    with guidance g > 0 learn unwanted + g * (wanted - unwanted) of the bypassing teacher.

    Args:
        target: the true velocity (batch, tokens, features).
        guidance: g for each sample, 0 where the embedder is bypassed.
        wanted: the teacher's velocity for the text.
        unwanted: the teacher's velocity for the empty text.
    """
    scale = guidance[:, None, None]
    base = unwanted()
    return torch.where(scale > 0, base + scale * (wanted() - base), target)


def weighted_loss(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Squared error; weights (batch, tokens, features) are normalised for each sample."""
    weights = weights / weights.mean(dim=(1, 2), keepdim=True)
    return ((predicted - target) ** 2 * weights).mean()


def shifted_sigmas(steps: int, shift: float = SHIFT) -> Tensor:
    """The sampler's sigmas, `steps` + 1 values from 1 to 0."""
    sigmas = torch.linspace(1, 1 / steps, steps)
    return torch.cat([shift * sigmas / (1 + (shift - 1) * sigmas), torch.zeros(1)])


@torch.no_grad()
def euler(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Follows velocity(tokens, time (batch,)) from noise to a clean sample."""
    tokens = noise
    sigmas = shifted_sigmas(steps).to(noise.device)
    for now, then in itertools.pairwise(sigmas):
        time = now.expand(tokens.shape[0])
        tokens = tokens + (then - now) * velocity(tokens, time)
    return tokens
