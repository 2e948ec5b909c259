"""Trains the transformer of `tiny-flex2`: a mask, a prompt, maybe a control picture.

Input tokens, 196 features: noise 0-63, picture 64-127 (latents zeroed under the mask, after
encoding), mask 128-131 (1 = repaint), control 132-195 (zero without one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor, nn

from training.train.attention import PlainFluxAttention
from training.train.autoencoder import load_autoencoder, to_pictures, to_tensor
from training.train.evaluate import Paint, inpaint_figures
from training.train.flux import (
    NO_GUIDANCE,
    build_transformer,
    decode,
    distilled,
    encode,
    euler,
    noised,
    pack,
    position_ids,
    sample_guidance,
    sample_times,
    text_conditions,
    unpack,
    weighted_loss,
)
from training.train.loop import Budget, Figures, Run, load_ema
from training.train.optim import build_optimizers
from training.train.pool import Pool, Sample
from training.train.priming import NEIGHBOURS, prime
from training.train.setup import Setup
from training.train.text import TextEncoders, load_text_encoders
from training.train.tokenizers import dressed
from training.world.controls import control_picture
from training.world.inpaint import InpaintTask, sample_inpaint_task
from training.world.render import Picture, render

IN_CHANNELS = 196
MASK_WEIGHT = 9.0


@dataclass(frozen=True)
class Parts:
    """What a flex2 twin is made of."""

    transformer: FluxTransformer2DModel
    autoencoder: AutoencoderKL
    encoders: TextEncoders


def latent_mask(masks: Tensor, autoencoder: AutoencoderKL) -> Tensor:
    """Masks (batch, 1, H, W) in 0..1 at latent size, bilinear as in Flex.2 (soft values stay)."""
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    size = (masks.shape[-2] // factor, masks.shape[-1] // factor)
    return nn.functional.interpolate(masks, size=size, mode="bilinear", align_corners=False)


def encode_tasks(
    tasks: list[InpaintTask], words: list[str], parts: Parts, device: torch.device
) -> Sample:
    """Encodes tasks: latents before (zeroed under the mask) and after, control, mask."""
    after = encode(parts.autoencoder, to_tensor([render(t.after) for t in tasks]).to(device))
    before = encode(parts.autoencoder, to_tensor([render(t.before) for t in tasks]).to(device))
    masks = torch.from_numpy(np.stack([t.mask for t in tasks]))[:, None].float().to(device)
    mask = latent_mask(masks, parts.autoencoder)
    given = torch.tensor([t.source for t in tasks], device=device)[:, None, None, None]
    control = torch.zeros_like(after)
    steered = [i for i, t in enumerate(tasks) if t.control is not None]
    if steered:
        pictures = [control_picture(tasks[i].after, tasks[i].control or "line") for i in steered]
        control[steered] = encode(parts.autoencoder, to_tensor(pictures).to(device))
    clip, t5 = parts.encoders.tokens(words)
    return {
        "after": pack(after).half(),
        "before": pack(before * (1 - mask) * given).half(),
        "mask": pack(mask).half(),
        "control": pack(control).half(),
        "clip": clip.to(device),
        "t5": t5.to(device),
    }


def forward(
    parts: Parts, sample: Sample, tokens: Tensor, times: Tensor, guidance: Tensor
) -> Tensor:
    """The predicted velocity (batch, tokens, 64)."""
    conditions = [sample[name].float() for name in ("before", "mask", "control")]
    side = 2 * round(tokens.shape[1] ** 0.5)
    text = text_conditions(parts.encoders, sample["clip"], sample["t5"])
    with torch.autocast(tokens.device.type, torch.bfloat16):
        output: Tensor = parts.transformer(
            hidden_states=torch.cat([tokens, *conditions], dim=2),
            timestep=times,
            guidance=guidance,
            img_ids=position_ids(side, side).to(tokens.device),
            return_dict=False,
            **text,
        )[0]
    return output.float()


def train(setup: Setup, budget: Budget) -> None:
    """Trains (or goes on training) the transformer in `setup.folder('flex2')`."""
    torch.manual_seed(setup.seed)
    transformer = build_transformer(IN_CHANNELS, setup.preset)
    prime(transformer, NEIGHBOURS, sharpness=1.5)
    transformer.to(setup.device)
    if setup.device.type == "cpu":
        transformer.set_attn_processor(PlainFluxAttention())
    parts = Parts(transformer, load_autoencoder(setup, "flux"), load_text_encoders(setup))
    optimizers = build_optimizers(transformer, lr=4e-3, never_muon=("x_embedder", "proj_out"))
    run = Run(setup.folder("flex2"), transformer, optimizers)

    def make(numbers: range) -> Sample:
        rngs = [np.random.default_rng([setup.seed, 6, number]) for number in numbers]
        tasks = [sample_inpaint_task(rng) for rng in rngs]
        words = [dressed(r, t.prompt) for r, t in zip(rngs, tasks, strict=True)]
        return encode_tasks(tasks, words, parts, setup.device)

    pool = Pool(make, setup.seed, run.step, **setup.pool_sizes)
    nothing = [ids.to(setup.device) for ids in parts.encoders.tokens([""])]

    def loss_of_step(step: int) -> tuple[Tensor, Figures]:
        sample = pool.batch(step, setup.batch_size)
        chance = torch.Generator().manual_seed(setup.seed * 10**9 + step)
        clean = sample["after"].float()
        count = clean.shape[0]
        dropped = torch.rand(count, generator=chance) < 0.1
        sample["clip"][dropped], sample["t5"][dropped] = nothing[0], nothing[1]
        noise = torch.randn(clean.shape, generator=chance).to(setup.device)
        times = sample_times(count, chance).to(setup.device)
        guidance = sample_guidance(count, chance, bypass=0.5).to(setup.device)
        noisy = noised(clean, noise, times)
        predicted = forward(parts, sample, noisy, times, guidance)
        target = noise - clean
        if setup.distil:
            teacher = Parts(run.ema, parts.autoencoder, parts.encoders)
            without = sample | {"clip": nothing[0].expand_as(sample["clip"])}
            without |= {"t5": nothing[1].expand_as(sample["t5"])}
            bypass = torch.zeros_like(guidance)
            target = distilled(
                target,
                guidance,
                lambda: forward(teacher, sample, noisy, times, bypass),
                lambda: forward(teacher, without, noisy, times, bypass),
            )
        repaint = sample["mask"].float().repeat(1, 1, clean.shape[2] // 4)
        weights = 1 + (MASK_WEIGHT - 1) * repaint
        return weighted_loss(predicted, target, weights), {}

    def evaluate(ema: nn.Module) -> Figures:
        assert isinstance(ema, FluxTransformer2DModel)
        held = Parts(ema, parts.autoencoder, parts.encoders)
        return inpaint_figures(painter(held, setup.device), count=32)

    run.train(budget, loss_of_step, evaluate)


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
    strength: float = 1.0,
    guidance: float = 3.5,
) -> list[Picture]:
    """Paints tasks with the plain sampler; true CFG above 1 bypasses the guidance embedder."""
    sample = encode_tasks(tasks, words, parts, device)
    sample["control"] = sample["control"] * strength
    against = dict(sample)
    against["clip"], against["t5"] = (
        ids.to(device) for ids in parts.encoders.tokens([negative] * len(tasks))
    )
    value = NO_GUIDANCE if cfg > 1 else guidance
    strengths = torch.full((len(tasks),), value, device=device)

    def velocity(tokens: Tensor, times: Tensor) -> Tensor:
        wanted = forward(parts, sample, tokens, times, strengths)
        if cfg <= 1:
            return wanted
        unwanted = forward(parts, against, tokens, times, strengths)
        return unwanted + cfg * (wanted - unwanted)

    shape = sample["after"].shape
    generator = torch.Generator().manual_seed(1234)
    noise = torch.randn(shape, generator=generator).to(device)
    side = 2 * round(shape[1] ** 0.5)
    return to_pictures(decode(parts.autoencoder, unpack(euler(velocity, noise, steps), side, side)))


def load_parts(setup: Setup) -> Parts:
    """The trained twin (EMA weights)."""
    transformer = build_transformer(IN_CHANNELS, setup.preset)
    load_ema(setup.folder("flex2"), transformer)
    transformer.requires_grad_(False).eval().to(setup.device)
    return Parts(transformer, load_autoencoder(setup, "flux"), load_text_encoders(setup))
