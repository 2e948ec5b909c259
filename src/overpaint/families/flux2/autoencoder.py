"""`AutoencoderKLFlux2`: latents folded 2x2 into channels, then normalized channel by channel.

Sources: diffusers `pipelines/flux2/pipeline_flux2_klein.py` (`_encode_vae_image`,
`_patchify_latents`, `_unpack_latents_with_ids`).
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.diffusion import latents


def encode(checkpoint: Checkpoint, picture: Image.Image) -> torch.Tensor:
    """A picture → (1, 4C, H/16, W/16) folded, normalized latents: the posterior's mode."""
    posterior = latents.encode_distribution(checkpoint, latents.picture_tensor(picture))
    folded = fold(posterior.mode())
    mean, deviation = _statistics(checkpoint.component("vae"), folded)
    return (folded - mean) / deviation


@torch.inference_mode()
def decode(checkpoint: Checkpoint, folded: torch.Tensor) -> Image.Image:
    """The way back, to an 'RGB' picture."""
    with checkpoint.borrowed("vae") as vae:
        mean, deviation = _statistics(vae, folded)
        # Contiguous, as in the pipelines: in another layout the last bits differ.
        plain = unfold(folded * deviation + mean).contiguous()
        pixels = vae.decode(plain, return_dict=False)[0]
        return latents.picture_from_tensor(pixels)


def fold(plain: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) → (B, 4C, h/2, w/2): 2x2 latents become channels."""
    return torch.nn.functional.pixel_unshuffle(plain, 2)


def unfold(folded: torch.Tensor) -> torch.Tensor:
    """(B, 4C, h, w) → (B, C, 2h, 2w): the way back of `fold`."""
    return torch.nn.functional.pixel_shuffle(folded, 2)


def tokens(folded: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) → (B, h·w, C), row by row."""
    return folded.flatten(2).mT


def picture(packed: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(B, h·w, C) → (B, C, h, w): the way back of `tokens`."""
    return packed.mT.reshape(packed.shape[0], -1, *grid)


def _statistics(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 4C, 1, 1) means and deviations of folded latents, in the precision of `like`."""
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    variance = vae.bn.running_var.view(1, -1, 1, 1)
    deviation = torch.sqrt(variance + vae.config.batch_norm_eps)
    return mean.to(like), deviation.to(like)
