"""`AutoencoderKL`, which Stable Diffusion and FLUX.1 share, as a component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overpaint.checkpoints.component import Component

if TYPE_CHECKING:
    import torch

DECODING = 3.01
ENCODING = 5.03
"""Numbers that are held at once per pixel, as multiples of the channels of the widest full-size
layer: 256 in the last block of the decoder, which begins with the channels of the one before it,
and 128 in the first block of the encoder. Measured by `benchmarks.performance.memory`, which counts
live tensors: 1537 bytes per pixel of decoding and 1286 of encoding in bfloat16, twice as many in
float32, whatever the picture's size."""


def _tile(vae: Any, side: int) -> None:
    """diffusers' tiles, whatever the model's own size, with edges blended at once."""
    vae.enable_tiling()
    vae.tile_sample_min_size = side
    vae.tile_latent_min_size = side // 2 ** (len(vae.config.block_out_channels) - 1)
    vae.blend_v, vae.blend_h = blend_rows, blend_columns


def blend_rows(above: torch.Tensor, tile: torch.Tensor, extent: int) -> torch.Tensor:
    """Fade from the last rows of one tile (…, h, w) to the first of the next one, in place.

    Bit for bit `AutoencoderKL.blend_v`, which does it row by row, in six kernels each.
    """
    return _fade(above, tile, extent, dim=-2)


def blend_columns(left: torch.Tensor, tile: torch.Tensor, extent: int) -> torch.Tensor:
    """The same from left to right: `AutoencoderKL.blend_h`."""
    return _fade(left, tile, extent, dim=-1)


def _fade(before: torch.Tensor, tile: torch.Tensor, extent: int, *, dim: int) -> torch.Tensor:
    """Write the mixture over the tile; each product is rounded to its precision, as diffusers'."""
    import torch

    extent = min(before.shape[dim], tile.shape[dim], extent)
    fading = before.narrow(dim, before.shape[dim] - extent, extent)
    rising = tile.narrow(dim, 0, extent)
    # The shares in double precision first, as Python computes them.
    share = torch.arange(extent, dtype=torch.float64) / max(1, extent)
    share = share.reshape([extent if each == dim else 1 for each in range(-tile.dim(), 0)])
    shares = [each.to(tile.device, torch.float32) for each in (1 - share, share)]
    earlier = (fading.float() * shares[0]).to(tile.dtype)
    later = (rising.float() * shares[1]).to(tile.dtype)
    rising.copy_(earlier + later)
    return tile


def _decoding(config: Mapping[str, Any], width: int) -> int:
    """Bytes per pixel of the tensors held while a picture is decoded in one piece."""
    channels = list(config.get("block_out_channels", [64]))[:2][-1]
    return int(DECODING * channels * width)


def _encoding(config: Mapping[str, Any], width: int) -> int:
    """Bytes per pixel of the tensors held while a picture is encoded in one piece."""
    channels = next(iter(config.get("block_out_channels", [64])))
    return int(ENCODING * channels * width)


def _on_openvino(conversion: Any) -> Any:
    from overpaint.checkpoints.compute import openvino_autoencoder

    return openvino_autoencoder.replace(conversion)


AUTOENCODER_KL = Component(
    role="autoencoder",
    classes=("diffusers:AutoencoderKL",),
    openvino=_on_openvino,
    tile=_tile,
    decoding=_decoding,
    encoding=_encoding,
)
