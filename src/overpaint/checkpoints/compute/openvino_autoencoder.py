"""Autoencoders of diffusers on OpenVINO, in two networks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from overpaint.checkpoints.compute.openvino import Conversion, Network, StandIn, converted


class Autoencoder(StandIn):
    """An `AutoencoderKL`, of FLUX.2 too, as far as families call it."""

    def __init__(self, module: Any, encoder: Network, decoder: Network) -> None:
        super().__init__(module)
        self._encoder, self._decoder = encoder, decoder

    def encode(self, pixels: torch.Tensor) -> SimpleNamespace:
        """(B, 3, H, W) → `.latent_dist`, as `AutoencoderKL.encode`."""
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(self._encoder(pixels)))

    def decode(self, latents: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        """(B, C, h, w) → ((B, 3, H, W),), as `AutoencoderKL.decode`."""
        assert not return_dict
        return (self._decoder(latents),)


def replace(conversion: Conversion) -> Autoencoder:
    """The autoencoder's stand-in."""
    return Autoencoder(
        conversion.module,
        conversion.network("encoder", _trace_encoder),
        conversion.network("decoder", _trace_decoder),
    )


def _trace_encoder(vae: Any) -> Any:
    side = 8 * 2 ** (len(vae.config.block_out_channels) - 1)
    return converted(
        vae,
        lambda pixels: vae.encode(pixels).latent_dist.parameters,
        (torch.zeros(1, vae.config.in_channels, side, side),),
    )


def _trace_decoder(vae: Any) -> Any:
    return converted(
        vae,
        lambda latents: vae.decode(latents, return_dict=False)[0],
        (torch.zeros(1, vae.config.latent_channels, 8, 8),),
    )
