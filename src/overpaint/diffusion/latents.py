"""Pictures to latents and back; masks to latent resolution; FLUX's packing.

The arithmetic and the memory layout follow diffusers' `VaeImageProcessor` and pipelines, because
convolutions on strided and on contiguous tensors differ in the last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.checkpoints.memo import content
from overpaint.core.errors import BrokenResult


def picture_tensor(image: Image.Image) -> torch.Tensor:
    """'RGB' picture → float32 (1, 3, H, W) in [-1, 1].

    Channels vary fastest in memory, as in `VaeImageProcessor.preprocess`; call `.contiguous()`
    where a reference encodes a contiguous tensor.
    """
    pixels = np.array(image.convert("RGB"))[None].astype(np.float32) / 255.0
    return 2.0 * torch.from_numpy(pixels.transpose(0, 3, 1, 2)) - 1.0


def mask_tensor(mask: Image.Image) -> torch.Tensor:
    """'L' mask → float32 (1, 1, H, W) in [0, 1], 1 = repaint."""
    return torch.from_numpy(np.array(mask.convert("L")).astype(np.float32) / 255.0)[None, None]


def binarize(mask: torch.Tensor) -> torch.Tensor:
    """1 where the mask is at least one half, else 0 (`VaeImageProcessor.binarize`)."""
    return (mask >= 0.5).to(mask.dtype)


def nearest(mask: torch.Tensor, factor: int) -> torch.Tensor:
    """(1, 1, H, W) → (1, 1, H/factor, W/factor) by nearest neighbour, as the pipelines do it."""
    size = (mask.shape[-2] // factor, mask.shape[-1] // factor)
    return torch.nn.functional.interpolate(mask, size=size)


def picture_from_tensor(pixels: torch.Tensor) -> Image.Image:
    """(1, 3, H, W) in [-1, 1] → 'RGB' picture; values outside are clamped, halves round to even.

    Raises:
        BrokenResult: some of them are not numbers.
    """
    broken = ~torch.isfinite(pixels).all()
    unit = (pixels[0].float() * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0)
    levels = _on_processor((unit * 255).round().to(torch.uint8))
    if bool(broken):
        raise BrokenResult(
            "the model computed values that are not numbers; use dtype float32 or "
            "bfloat16, or check its weights and adapters"
        )
    return Image.fromarray(levels.numpy(), mode="RGB")


def _on_processor(values: torch.Tensor) -> torch.Tensor:
    """A contiguous copy in the processor's memory, waiting for the current stream alone."""
    if values.device.type != "cuda":
        return values.cpu().contiguous()
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    copy.copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return copy


def scale_factor(vae: Any) -> int:
    """Pixels per latent along one side, from the autoencoder's configuration."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def normalize(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Autoencoder's latents → the denoiser's range: subtract the shift, multiply by the scale."""
    shift = getattr(vae.config, "shift_factor", None)
    if shift:
        latents = latents - shift
    return latents * float(vae.config.scaling_factor)


def denormalize(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """The way back of `normalize`."""
    latents = latents / float(vae.config.scaling_factor)
    shift = getattr(vae.config, "shift_factor", None)
    return latents + shift if shift else latents


def encode_distribution(checkpoint: Checkpoint, pixels: torch.Tensor) -> Any:
    """(1, 3, H, W) in [-1, 1] → the autoencoder's posterior, to be sampled once per seed.

    A picture that was encoded before is remembered.
    """

    @torch.inference_mode()
    def encode() -> Any:
        with checkpoint.borrowed("vae") as vae:
            return vae.encode(pixels.to(device=vae.device, dtype=vae.dtype)).latent_dist

    return checkpoint.memo.get(("encoded", content(pixels)), encode)


@torch.inference_mode()
def decode(checkpoint: Checkpoint, latents: torch.Tensor) -> Image.Image:
    """(1, C, h, w) in the denoiser's range → 'RGB' picture."""
    with checkpoint.borrowed("vae") as vae:
        pixels = vae.decode(denormalize(vae, latents.to(vae.dtype)), return_dict=False)[0]
        return picture_from_tensor(pixels)


def thin(latents: torch.Tensor, longest: int = 32) -> torch.Tensor:
    """Every k-th latent of (B, C, h, w), so that no side is longer than `longest`: for previews."""
    every = -(-max(latents.shape[-2:]) // longest)
    return latents[..., ::every, ::every]


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) → (B, h/2·w/2, 4C): 2x2 patches become tokens (FLUX, `_pack_latents`)."""
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(
        batch, (height // 2) * (width // 2), channels * 4
    )


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, h/2·w/2, 4C) → (B, C, h, w); `height` and `width` count latents."""
    batch, _, channels = tokens.shape
    patches = tokens.reshape(batch, height // 2, width // 2, channels // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, height, width)
