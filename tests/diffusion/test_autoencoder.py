"""What the autoencoder takes is measured; its tiles are diffusers' own, bit for bit."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL

from benchmarks.performance.memory import live_peak
from overpaint.diffusion.autoencoder import AUTOENCODER_KL
from tests import tiny_checkpoints

SIDE = 64


def tiny() -> AutoencoderKL:
    torch.manual_seed(0)
    return tiny_checkpoints.autoencoder(channels=4, scaling=1.0).eval()


def real(dtype: torch.dtype) -> AutoencoderKL:
    """FLUX.1's and Stable Diffusion's sizes, without memory."""
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=16,
        )
        return vae.to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_bytes_per_pixel_are_those_of_live_tensors(dtype):
    vae = real(dtype)
    latents = torch.empty(1, 16, SIDE, SIDE, device="meta", dtype=dtype)
    pixels = torch.empty(1, 3, 8 * SIDE, 8 * SIDE, device="meta", dtype=dtype)
    decoding = live_peak(lambda: vae.decode(latents)) / pixels[0, 0].numel()
    encoding = live_peak(lambda: vae.encode(pixels)) / pixels[0, 0].numel()
    assert AUTOENCODER_KL.decoding is not None
    assert AUTOENCODER_KL.encoding is not None
    assert 1 <= AUTOENCODER_KL.decoding(vae.config, dtype.itemsize) / decoding < 1.02
    assert 1 <= AUTOENCODER_KL.encoding(vae.config, dtype.itemsize) / encoding < 1.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(32, 32), (40, 24), (20, 33), (17, 16)])
@torch.inference_mode()
def test_tiles_are_diffusers_own(dtype, size):
    ours, theirs = tiny().to(dtype), tiny().to(dtype)
    assert AUTOENCODER_KL.tile is not None
    AUTOENCODER_KL.tile(ours, 128)
    theirs.enable_tiling()
    theirs.tile_sample_min_size, theirs.tile_latent_min_size = 128, 16
    noise = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0)).to(dtype)
    pixels = torch.randn(1, 3, 8 * size[0], 8 * size[1]).to(dtype)
    assert torch.equal(ours.decode(noise).sample, theirs.decode(noise).sample)
    found, expected = (vae.encode(pixels).latent_dist.parameters for vae in (ours, theirs))
    assert torch.equal(found, expected)
    whole = tiny().to(dtype).decode(noise).sample
    assert not torch.equal(ours.decode(noise).sample, whole)
