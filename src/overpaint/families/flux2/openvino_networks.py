"""FLUX.2's transformer and autoencoder on OpenVINO.

The transformer computes whole steps alone: it keeps no keys and values, so sparse steps and
references that are computed once stay with torch.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from overpaint.checkpoints.compute import openvino_autoencoder
from overpaint.checkpoints.compute.openvino import Conversion, Network, StandIn, converted
from overpaint.checkpoints.compute.openvino_autoencoder import Autoencoder
from overpaint.checkpoints.files import weights
from overpaint.diffusion.tokens.layout import RotaryEmbedding
from overpaint.families.flux2 import attention

STATISTICS = ("bn.running_mean", "bn.running_var")
"""Weights of the autoencoder by which its family normalizes latents, outside of its networks."""


class Transformer(StandIn):
    """A transformer whose timesteps become sines in float32, as in torch: a network in bfloat16
    would round the angles."""

    def __init__(self, module: Any, network: Network) -> None:
        super().__init__(module)
        self.pos_embed = RotaryEmbedding(module.pos_embed)
        self._sines = module.time_guidance_embed.time_proj
        self._network = network

    def __call__(
        self,
        *,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        txt_ids: torch.Tensor,
        img_ids: torch.Tensor,
        joint_attention_kwargs: None,
        return_dict: bool,
    ) -> tuple[torch.Tensor]:
        """As `Flux2Transformer2DModel`, with angles that were computed ahead in place of ids."""
        assert joint_attention_kwargs is None
        assert not return_dict
        sines = self._sines(1000 * timestep)
        return (self._network(hidden_states, sines, encoder_hidden_states, txt_ids, img_ids),)


def replace_transformer(conversion: Conversion) -> Transformer:
    """The transformer's stand-in."""
    return Transformer(conversion.module, conversion.compressed("transformer", _trace))


def replace_autoencoder(conversion: Conversion) -> Autoencoder:
    """The autoencoder's stand-in, with what normalizes its latents."""
    autoencoder: Any = openvino_autoencoder.replace(conversion)
    statistics = dict(weights.tensors(conversion.folder, STATISTICS))
    mean, variance = (statistics[name].float() for name in STATISTICS)
    autoencoder.bn = SimpleNamespace(running_mean=mean, running_var=variance)
    assert isinstance(autoencoder, Autoencoder)
    return autoencoder


class _EmbeddedTime(nn.Module):
    """A transformer's embedding of timesteps, from sines that are given ahead of its call."""

    sines: torch.Tensor

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.embedder = embedding.timestep_embedder

    def forward(self, timestep: torch.Tensor, guidance: None) -> torch.Tensor:
        """(B, width)."""
        embedded: torch.Tensor = self.embedder(self.sines)
        return embedded


def _trace(transformer: Any) -> Any:
    transformer.pos_embed = RotaryEmbedding(transformer.pos_embed)
    attention.install(transformer)
    embedding = transformer.time_guidance_embed
    transformer.time_guidance_embed = time = _EmbeddedTime(embedding)

    def velocity(
        tokens: torch.Tensor,
        sines: torch.Tensor,
        text: torch.Tensor,
        words: torch.Tensor,
        places: torch.Tensor,
    ) -> torch.Tensor:
        time.sines = sines
        computed: torch.Tensor = transformer(
            hidden_states=tokens,
            timestep=sines[:, 0],
            encoder_hidden_states=text,
            txt_ids=words,
            img_ids=places,
            return_dict=False,
        )[0]
        return computed

    config, angles = transformer.config, 2 * transformer.config.attention_head_dim
    example = (
        torch.zeros(2, 5, config.in_channels),
        torch.zeros(2, embedding.time_proj.num_channels),
        torch.zeros(2, 3, config.joint_attention_dim),
        torch.zeros(3, angles),
        torch.zeros(5, angles),
    )
    return converted(transformer, velocity, example)
