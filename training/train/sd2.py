"""Trains the UNet of `tiny-sd2`: inpainting in the layout of stable-diffusion-2-inpainting.

Input channels, 9: noise 0-3, mask 4 (nearest, 1 = repaint), latents of the masked picture 5-8
(pixels set to 0 = mid-grey under the mask, before encoding). The noise schedule is the real one
(scaled linear .00085-.012); the prediction type is v (Salimans and Ho 2022), which learns shapes
from noisier times than epsilon does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from training.train.autoencoder import load_autoencoder, to_pictures, to_tensor
from training.train.evaluate import Paint, inpaint_figures
from training.train.flux import decode, encode
from training.train.loop import Budget, Figures, Run, load_ema
from training.train.optim import build_optimizers
from training.train.pool import Pool, Sample
from training.train.setup import Setup
from training.train.text import WIDTH, TextEncoders, clip_ids, load_text_encoders
from training.train.tokenizers import dressed
from training.world.inpaint import InpaintTask, sample_inpaint_task
from training.world.render import Picture, render

MASK_WEIGHT = 9.0
CHANNELS = {"cpu": (32, 64, 128), "gpu": (96, 192, 256)}


@dataclass(frozen=True)
class Parts:
    """What an sd2 twin is made of."""

    unet: UNet2DConditionModel
    autoencoder: AutoencoderKL
    encoders: TextEncoders


def build_unet(preset: str = "cpu") -> UNet2DConditionModel:
    """An untrained UNet that reads text at its two lower levels."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=9,
        out_channels=4,
        block_out_channels=CHANNELS[preset],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(2, 4, 4),
        norm_num_groups=16,
        cross_attention_dim=WIDTH,
        use_linear_projection=True,
    )


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of Stable Diffusion 2, predicting v, starting from the last step."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def encode_tasks(
    tasks: list[InpaintTask], words: list[str], parts: Parts, device: torch.device
) -> Sample:
    """Encodes tasks: latents after, latents of the masked picture before, the mask."""
    masks = torch.from_numpy(np.stack([t.mask for t in tasks]))[:, None].float().to(device)
    before = to_tensor([render(t.before) for t in tasks]).to(device) * (masks < 0.5)
    after = encode(parts.autoencoder, to_tensor([render(t.after) for t in tasks]).to(device))
    return {
        "after": after.half(),
        "masked": encode(parts.autoencoder, before).half(),
        "mask": nn.functional.interpolate(masks, size=after.shape[-2:], mode="nearest").half(),
        "clip": clip_ids(parts.encoders.clip_tokenizer, words).to(device),
    }


def forward(parts: Parts, sample: Sample, latents: Tensor, times: Tensor) -> Tensor:
    """The predicted v (batch, 4, height, width)."""
    channels = torch.cat([latents, sample["mask"].float(), sample["masked"].float()], dim=1)
    with torch.no_grad():
        text = parts.encoders.clip(input_ids=sample["clip"]).last_hidden_state
    with torch.autocast(channels.device.type, torch.bfloat16):
        output: Tensor = parts.unet(channels, times, encoder_hidden_states=text).sample
    return output.float()


def train(setup: Setup, budget: Budget) -> None:
    """Trains (or goes on training) the UNet in `setup.folder('sd2')`."""
    torch.manual_seed(setup.seed)
    unet = build_unet(setup.preset).to(setup.device)
    if setup.device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())
    parts = Parts(unet, load_autoencoder(setup, "sd2"), load_text_encoders(setup))
    optimizers = build_optimizers(unet, lr=3e-3, never_muon=("conv_in", "conv_out"))
    run = Run(setup.folder("sd2"), unet, optimizers)
    scheduler = build_scheduler()

    def make(numbers: range) -> Sample:
        rngs = [np.random.default_rng([setup.seed, 6, number]) for number in numbers]
        tasks = [sample_inpaint_task(rng, control=False) for rng in rngs]
        words = [dressed(r, t.prompt) for r, t in zip(rngs, tasks, strict=True)]
        return encode_tasks(tasks, words, parts, setup.device)

    pool = Pool(make, setup.seed, run.step, **setup.pool_sizes)
    nothing = clip_ids(parts.encoders.clip_tokenizer, [""]).to(setup.device)

    def loss_of_step(step: int) -> tuple[Tensor, Figures]:
        sample = pool.batch(step, setup.batch_size)
        chance = torch.Generator().manual_seed(setup.seed * 10**9 + step)
        clean = sample["after"].float()
        count = clean.shape[0]
        sample["clip"][torch.rand(count, generator=chance) < 0.1] = nothing
        noise = torch.randn(clean.shape, generator=chance).to(setup.device)
        times = sample_timesteps(count, chance).to(setup.device)
        noisy = scheduler.add_noise(clean, noise, times)
        target = scheduler.get_velocity(clean, noise, times)
        predicted = forward(parts, sample, noisy, times)
        weights = 1 + (MASK_WEIGHT - 1) * sample["mask"].float()
        weights = weights / weights.mean(dim=(1, 2, 3), keepdim=True)
        return ((predicted - target) ** 2 * weights).mean(), {}

    def evaluate(ema: nn.Module) -> Figures:
        assert isinstance(ema, UNet2DConditionModel)
        held = Parts(ema, parts.autoencoder, parts.encoders)
        return inpaint_figures(painter(held, setup.device), count=32)

    run.train(budget, loss_of_step, evaluate)


def sample_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Training times 0..999, most of them noisy: the fourth root of a uniform draw."""
    return (torch.rand(count, generator=generator) ** 0.25 * 1000).long().clamp(max=999)


def painter(parts: Parts, device: torch.device) -> Paint:
    """Binds the parts to `paint` for the evaluation."""

    def painted(
        tasks: list[InpaintTask], words: list[str], cfg: float, negative: str
    ) -> list[Picture]:
        return paint(parts, tasks, words, device, cfg=cfg, negative=negative)

    return painted


@torch.no_grad()
def paint(
    parts: Parts,
    tasks: list[InpaintTask],
    words: list[str],
    device: torch.device,
    steps: int = 20,
    cfg: float = 1.0,
    negative: str = "",
) -> list[Picture]:
    """Paints tasks with DDIM."""
    sample = encode_tasks(tasks, words, parts, device)
    against = dict(sample)
    against["clip"] = clip_ids(parts.encoders.clip_tokenizer, [negative] * len(tasks)).to(device)
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    latents = torch.randn(sample["after"].shape, generator=torch.Generator().manual_seed(1234))
    latents = latents.to(device)
    for time in scheduler.timesteps:
        times = time.expand(len(tasks)).to(device)
        predicted = forward(parts, sample, latents, times)
        if cfg > 1:
            unwanted = forward(parts, against, latents, times)
            predicted = unwanted + cfg * (predicted - unwanted)
        latents = scheduler.step(predicted, time, latents).prev_sample
    return to_pictures(decode(parts.autoencoder, latents))


def load_parts(setup: Setup) -> Parts:
    """The trained twin (EMA weights)."""
    unet = build_unet(setup.preset)
    load_ema(setup.folder("sd2"), unet)
    unet.requires_grad_(False).eval().to(setup.device)
    return Parts(unet, load_autoencoder(setup, "sd2"), load_text_encoders(setup))
