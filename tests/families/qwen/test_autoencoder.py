"""The autoencoder without memory of earlier frames: the same bits, in less memory."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLQwenImage

from benchmarks.performance.memory import live_peak
from overpaint.families.qwen import COMPONENTS
from tests import tiny_checkpoints

VAE = COMPONENTS["vae"]


def tiny(dtype=torch.float32) -> AutoencoderKLQwenImage:
    torch.manual_seed(0)
    return tiny_checkpoints.qwen_edit_autoencoder().eval().to(dtype)


def prepared(vae: AutoencoderKLQwenImage) -> AutoencoderKLQwenImage:
    assert VAE.prepare is not None
    VAE.prepare(vae)
    return vae


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_bytes_per_pixel_are_those_of_live_tensors(dtype):
    with torch.device("meta"):
        vae = prepared(AutoencoderKLQwenImage().to(dtype))
    latents = torch.empty(1, 16, 1, 64, 64, device="meta", dtype=dtype)
    pixels = torch.empty(1, 3, 1, 512, 512, device="meta", dtype=dtype)
    decoding = live_peak(lambda: vae.decode(latents)) / 512**2
    encoding = live_peak(lambda: vae.encode(pixels)) / 512**2
    assert VAE.decoding is not None
    assert VAE.encoding is not None
    assert 1 <= VAE.decoding(vae.config, dtype.itemsize) / decoding < 1.02
    assert 1 <= VAE.encoding(vae.config, dtype.itemsize) / encoding < 1.02


@pytest.mark.parametrize("side", [None, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_bits_and_tiles_are_diffusers_own(dtype, side):
    ours, theirs = prepared(tiny(dtype)), tiny(dtype)
    if side is not None:
        assert VAE.tile is not None
        VAE.tile(ours, side)
        theirs.enable_tiling(side, side, 48, 48)
    noise = torch.randn(1, 4, 1, 17, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    pixels = torch.randn(1, 3, 1, 136, 80).to(dtype)
    assert torch.equal(ours.decode(noise).sample, theirs.decode(noise).sample)
    found, expected = (vae.encode(pixels).latent_dist.parameters for vae in (ours, theirs))
    assert torch.equal(found, expected)
    if side is not None:
        assert not torch.equal(ours.decode(noise).sample, tiny(dtype).decode(noise).sample)


@torch.inference_mode()
def test_nothing_of_a_picture_stays_on_it():
    vae = prepared(tiny())
    before = dict(vars(vae))
    vae.encode(torch.randn(1, 3, 1, 64, 64))
    vae.decode(torch.randn(1, 4, 1, 8, 8))
    held = {name for name in vars(vae) if vars(vae)[name] is not before.get(name)}
    assert held <= {"_conv_idx", "_enc_conv_idx"}
