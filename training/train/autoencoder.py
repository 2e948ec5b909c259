"""Trains the autoencoders: 16 channels at 1/8 for the FLUX twins, 4 channels at 1/4 for SD2's.

Loss: L1 + 0.25 * L1 of the image gradients + 1e-3 * KL, on 64-pixel crops of scenes and of their
control pictures. Latents are normalised afterwards to unit variance through `scaling_factor` and
`shift_factor`, as in the real checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from training.train.loop import Budget, Figures, Run, load_ema
from training.train.optim import build_optimizers
from training.train.setup import Setup
from training.world.controls import CONTROL_KINDS, control_picture
from training.world.render import Picture, render
from training.world.scene import Scene, sample_scene

Kind = Literal["flux", "sd2"]
CROP = 64


@dataclass(frozen=True)
class AutoencoderShape:
    """Sizes of one autoencoder."""

    latent_channels: int
    block_out_channels: tuple[int, ...]


SHAPES: dict[tuple[str, str], AutoencoderShape] = {
    ("cpu", "flux"): AutoencoderShape(16, (16, 32, 64, 64)),
    ("cpu", "sd2"): AutoencoderShape(4, (16, 32, 64)),
    ("gpu", "flux"): AutoencoderShape(16, (32, 64, 96, 96)),
    ("gpu", "sd2"): AutoencoderShape(4, (32, 64, 96)),
}


def build_autoencoder(kind: Kind, preset: str = "cpu") -> AutoencoderKL:
    """An untrained autoencoder; its scale factor is 2 ** (levels - 1)."""
    shape = SHAPES[preset, kind]
    levels = len(shape.block_out_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=shape.block_out_channels,
        latent_channels=shape.latent_channels,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
        shift_factor=0.0 if kind == "flux" else None,
        force_upcast=False,
    )


def to_tensor(pictures: list[Picture]) -> Tensor:
    """Pictures as float32 (batch, 3, height, width) in -1..1."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return (stacked / 127.5 - 1).contiguous()


def to_pictures(tensor: Tensor) -> list[Picture]:
    """Pictures uint8 of a tensor (batch, 3, height, width) in -1..1."""
    scaled = ((tensor.cpu() + 1) * 127.5).round().clamp(0, 255).byte()
    return list(scaled.permute(0, 2, 3, 1).numpy())


def sample_picture(rng: np.random.Generator) -> Picture:
    """A picture such as the twins encode: scenes, some darkened or blurred, and controls."""
    scene: Scene = sample_scene(rng, distinct=False)
    chance = rng.random()
    if chance < 0.15:
        return control_picture(scene, CONTROL_KINDS[int(rng.integers(3))])
    if chance < 0.27:
        scene = replace(scene, exposure=float(rng.uniform(0.5, 1.4)))
    elif chance < 0.33:
        scene = replace(scene, blur=0.03)
    return render(scene)


def sample_crops(rng: np.random.Generator, count: int) -> Tensor:
    """Crops of fresh pictures, two of each: (count, 3, CROP, CROP) in -1..1."""
    crops = []
    for _ in range(count // 2):
        picture = sample_picture(rng)
        for _ in range(2):
            y, x = (int(v) for v in rng.integers(0, np.array(picture.shape[:2]) - CROP + 1))
            crops.append(picture[y : y + CROP, x : x + CROP])
    return to_tensor(crops)


def reconstruction_loss(autoencoder: AutoencoderKL, pictures: Tensor, kl: float) -> Tensor:
    """L1 + 0.25 * gradient L1 + kl * KL (mean over latents)."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        posterior = autoencoder.encode(pictures).latent_dist
        output = autoencoder.decode(posterior.sample()).sample
    output = output.float()
    error = (output - pictures).abs().mean()
    edges = sum((output.diff(dim=dim) - pictures.diff(dim=dim)).abs().mean() for dim in (-1, -2))
    divergence = 0.5 * (
        posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()
    )
    loss: Tensor = error + 0.25 * edges + kl * divergence.mean()
    return loss


@torch.no_grad()
def psnr(autoencoder: nn.Module, pictures: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of whole pictures through the autoencoder."""
    assert isinstance(autoencoder, AutoencoderKL)
    output = autoencoder.decode(autoencoder.encode(pictures).latent_dist.mode()).sample
    error = ((output.clamp(-1, 1) - pictures) / 2) ** 2
    return float(-10 * error.mean(dim=(1, 2, 3)).log10().mean())


def train(setup: Setup, kind: Kind, budget: Budget) -> None:
    """Trains (or goes on training) one autoencoder in `setup.folder(f'autoencoder-{kind}')`."""
    model = build_autoencoder(kind, setup.preset).to(setup.device)
    optimizers = build_optimizers(model, lr=3e-3, never_muon=("conv_in", "conv_out"))
    run = Run(setup.folder(f"autoencoder-{kind}"), model, optimizers, ema_decay=0.997)
    held = to_tensor([sample_picture(np.random.default_rng([9, i])) for i in range(48)])
    crops = 16 if setup.preset == "cpu" else 256

    def loss_of_step(step: int) -> tuple[Tensor, Figures]:
        rng = np.random.default_rng([setup.seed, 1, step])
        pictures = sample_crops(rng, crops).to(setup.device)
        return reconstruction_loss(model, pictures, kl=1e-3), {}

    def evaluate(ema: nn.Module) -> Figures:
        return {"psnr": psnr(ema, held.to(setup.device))}

    run.train(budget, loss_of_step, evaluate)


@torch.no_grad()
def load_autoencoder(setup: Setup, kind: Kind) -> AutoencoderKL:
    """The trained autoencoder, its latents normalised by 64 fixed scenes."""
    model = build_autoencoder(kind, setup.preset)
    load_ema(setup.folder(f"autoencoder-{kind}"), model)
    model.requires_grad_(False).eval()
    scenes = [render(sample_scene(np.random.default_rng([8, i]))) for i in range(64)]
    latents = model.encode(to_tensor(scenes)).latent_dist.mode()
    centre = latents.mean() if kind == "flux" else torch.zeros(())
    deviation = ((latents - centre) ** 2).mean().sqrt()
    model.register_to_config(scaling_factor=round(1 / deviation.item(), 5))
    if kind == "flux":
        model.register_to_config(shift_factor=round(centre.item(), 5))
    return model.to(setup.device)
