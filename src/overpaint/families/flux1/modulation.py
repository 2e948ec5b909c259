"""FLUX's modulation computed ahead of the steps, so that its weights need not stay in memory.

Every block of a FLUX transformer scales and shifts its tokens by numbers that depend on timestep,
guidance and pooled prompt alone. The linear layers that make these numbers are 24 % of Flex.2's
weights and 27 % of Kontext's, used for one vector a step. With them evicted, an edit's numbers for
all its steps are computed once, layer by layer from the checkpoint's files, and each step is given
its own: equal up to the last bits, which matrix products of other shapes round differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.models.normalization import (
    AdaLayerNormContinuous,
    AdaLayerNormZero,
    AdaLayerNormZeroSingle,
)
from torch import nn
from torch.nn import functional

from overpaint.diffusion.tokens.modulation import LayerNumbers, of_layers

MODULATED = (AdaLayerNormZero, AdaLayerNormZeroSingle, AdaLayerNormContinuous)


class Given(nn.Module):
    """In place of the embedding of timestep, guidance and pooled prompt.

    It takes the pooled prompt that it is passed for the modulation of all layers, (B, M).
    """

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, *conditions: torch.Tensor) -> torch.Tensor:
        return conditions[-1]


def evict(transformer: Any) -> None:
    """Take the modulation's layers out of a FLUX transformer; its steps then have to be given it.

    Args:
        transformer: a `FluxTransformer2DModel`, with or without memory for its weights.
    """
    start = 0
    for _, norm in _layers(transformer):
        stop = start + norm.linear.out_features
        norm.linear, norm.silu = LayerNumbers(start, stop), nn.Identity()
        start = stop
    transformer.time_text_embed = Given(transformer.time_text_embed)


def evicted(transformer: Any) -> bool:
    """Whether `evict` was called."""
    return isinstance(transformer.time_text_embed, Given)


@torch.inference_mode()
def compute(
    transformer: Any,
    folder: Path,
    timesteps: torch.Tensor,
    guidance: float | None,
    pooled: torch.Tensor,
) -> torch.Tensor:
    """The modulation of all layers at each timestep.

    Args:
        transformer: one with its modulation evicted.
        folder: the component's own, with its files.
        timesteps: (steps,) as the noise scheduler gives them, 0..1000.
        guidance: value of the guidance embedding; None = it is left out.
        pooled: (1, P) pooled prompt.

    Returns:
        (steps, M) in the transformer's precision.
    """
    device, dtype = transformer.device, transformer.dtype
    # The rounding of the transformer's own forward pass.
    times = (timesteps.to(device, dtype) / 1000) * 1000
    conditions = [times, pooled.to(device, dtype).expand(len(times), -1)]
    if guidance is not None:
        scale = torch.full((len(times),), guidance, dtype=torch.float32, device=device)
        conditions.insert(1, scale.to(dtype) * 1000)
    activated = functional.silu(transformer.time_text_embed.embedding(*conditions))
    names = (f"{name}.linear" for name, _ in _layers(transformer))
    return of_layers(folder, names, activated)


def _layers(transformer: Any) -> Iterator[tuple[str, Any]]:
    for name, module in transformer.named_modules():
        if isinstance(module, MODULATED):
            yield name, module
