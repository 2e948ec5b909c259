"""`AutoencoderKLQwenImage`: made for videos; a picture is a video of one frame.

It would keep what each convolution was given, for the next frame, on itself. There is none, so
`prepare` ends that: the same bits, in less than half the memory.

Sources: diffusers `pipelines/qwenimage/pipeline_qwenimage_edit_plus.py` (`_encode_vae_image`) and
`models/autoencoders/autoencoder_kl_qwenimage.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.diffusion import latents
from overpaint.diffusion.autoencoder import blend_columns, blend_rows

FACTOR = 8
"""Pixels per latent along one side."""

OVERLAP = 4
"""A tile shares one of so many parts of its side with the next tile."""


def prepare(vae: Any) -> None:
    """Let an autoencoder forget each frame at once."""
    vae.clear_cache = _nothing
    vae._feat_map = vae._enc_feat_map = None


def tile(vae: Any, side: int) -> None:
    """diffusers' tiles, with edges blended at once."""
    stride = side - side // OVERLAP
    vae.enable_tiling(side, side, stride, stride)
    vae.blend_v, vae.blend_h = blend_rows, blend_columns


def _nothing() -> None:
    return


def encode(checkpoint: Checkpoint, picture: Image.Image) -> torch.Tensor:
    """(1, C, h, w) in the denoiser's range: the posterior's mode, so nothing random is drawn."""
    pixels = latents.picture_tensor(picture).unsqueeze(2)
    encoded = latents.encode_distribution(checkpoint, pixels).mode()
    mean, std = _statistics(checkpoint.config("vae"), encoded)
    return (encoded[:, :, 0] - mean) / std  # type: ignore[no-any-return]


@torch.inference_mode()
def decode(checkpoint: Checkpoint, values: torch.Tensor) -> Image.Image:
    """(1, C, h, w) in the denoiser's range → 'RGB' picture."""
    with checkpoint.borrowed("vae") as vae:
        values = values.to(vae.dtype)
        mean, std = _statistics(vae.config, values)
        # The reference's rounding.
        plain = values / (1.0 / std) + mean
        return latents.picture_from_tensor(vae.decode(plain[:, :, None]).sample[:, :, 0])


def _statistics(config: Mapping[str, Any], like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, C, 1, 1) mean and standard deviation of each channel of the autoencoder's latents."""
    mean, std = (
        torch.tensor(config[name]).view(1, -1, 1, 1).to(like)
        for name in ("latents_mean", "latents_std")
    )
    return mean, std
