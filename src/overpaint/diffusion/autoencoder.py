"""`AutoencoderKL`, which Stable Diffusion and FLUX.1 share, as a component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overpaint.checkpoints.component import Component

LARGEST_TENSORS = 4
"""Tensors of the decoder's widest full-size layer that are held at once."""


def _tile(vae: Any, side: int) -> None:
    """diffusers' tiles, whatever the model's own size."""
    vae.enable_tiling()
    vae.tile_sample_min_size = side
    vae.tile_latent_min_size = side // 2 ** (len(vae.config.block_out_channels) - 1)


def _decoding(config: Mapping[str, Any], width: int) -> int:
    """Bytes per pixel while a picture is decoded in one piece."""
    # The last block begins at full size with the channels of the one before it.
    channels = list(config.get("block_out_channels", [64]))[:2][-1]
    return int(LARGEST_TENSORS * channels * width)


AUTOENCODER_KL = Component(
    role="autoencoder",
    classes=("diffusers:AutoencoderKL",),
    openvino=True,
    tile=_tile,
    decoding=_decoding,
)
