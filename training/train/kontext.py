"""Trains the transformer of `tiny-kontext`: a picture and an instruction give the edited picture.

The reference's tokens stand behind the noisy ones in the sequence, told apart by position id 1 in
the first axis, as diffusers' FluxKontextPipeline lays them out; only the noisy ones are predicted.
Copying comes first: the curriculum starts from 'leave it as it is', and one attention head of each
block is initialised to look at the reference's token at its own place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor, nn

from training.train.attention import PlainFluxAttention
from training.train.autoencoder import load_autoencoder, to_pictures, to_tensor
from training.train.evaluate import Edit, instruction_figures
from training.train.flux import (
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
from training.train.priming import SAME_PLACE_IN_REFERENCE, prime
from training.train.setup import Setup
from training.train.text import TextEncoders, load_text_encoders
from training.train.tokenizers import dressed
from training.world.edits import InstructionTask, sample_instruction_task
from training.world.render import Picture, render

IN_CHANNELS = 64
EDIT_WEIGHT = 9.0
COPY_SAMPLES = 24_000
"""Samples over which the share of 'keep' falls from a half to the world's own."""


@dataclass(frozen=True)
class Parts:
    """What a kontext twin is made of."""

    transformer: FluxTransformer2DModel
    autoencoder: AutoencoderKL
    encoders: TextEncoders


def encode_tasks(
    tasks: list[InstructionTask], words: list[str], parts: Parts, device: torch.device
) -> Sample:
    """Encodes tasks: latents before and after, and which of them the edit touches."""
    before = encode(parts.autoencoder, to_tensor([render(t.before) for t in tasks]).to(device))
    after = encode(parts.autoencoder, to_tensor([render(t.after) for t in tasks]).to(device))
    regions = torch.from_numpy(np.stack([t.edited_region() for t in tasks]))[:, None].float()
    touched = nn.functional.adaptive_max_pool2d(regions, after.shape[-2:]).to(device)
    clip, t5 = parts.encoders.tokens(words)
    return {
        "after": pack(after).half(),
        "before": pack(before).half(),
        "touched": pack(touched).half(),
        "clip": clip.to(device),
        "t5": t5.to(device),
    }


def forward(
    parts: Parts, sample: Sample, tokens: Tensor, times: Tensor, guidance: Tensor
) -> Tensor:
    """The predicted velocity of the noisy tokens (batch, tokens, 64)."""
    side = 2 * round(tokens.shape[1] ** 0.5)
    ids = torch.cat([position_ids(side, side, 0), position_ids(side, side, 1)])
    text = text_conditions(parts.encoders, sample["clip"], sample["t5"])
    with torch.autocast(tokens.device.type, torch.bfloat16):
        output: Tensor = parts.transformer(
            hidden_states=torch.cat([tokens, sample["before"].float()], dim=1),
            timestep=times,
            guidance=guidance,
            img_ids=ids.to(tokens.device),
            return_dict=False,
            **text,
        )[0]
    return output[:, : tokens.shape[1]].float()


def sample_task(rng: np.random.Generator, number: int) -> InstructionTask:
    """Task `number` of the curriculum."""
    copying = 0.5 * max(0.0, 1 - number / COPY_SAMPLES)
    return sample_instruction_task(rng, kind="keep" if rng.random() < copying else None)


def train(setup: Setup, budget: Budget) -> None:
    """Trains (or goes on training) the transformer in `setup.folder('kontext')`."""
    torch.manual_seed(setup.seed)
    transformer = build_transformer(IN_CHANNELS, setup.preset)
    prime(transformer, [[SAME_PLACE_IN_REFERENCE]], sharpness=1.7)
    transformer.to(setup.device)
    if setup.device.type == "cpu":
        transformer.set_attn_processor(PlainFluxAttention())
    parts = Parts(transformer, load_autoencoder(setup, "flux"), load_text_encoders(setup))
    optimizers = build_optimizers(transformer, lr=4e-3, never_muon=("x_embedder", "proj_out"))
    run = Run(setup.folder("kontext"), transformer, optimizers)

    def make(numbers: range) -> Sample:
        rngs = [np.random.default_rng([setup.seed, 14, number]) for number in numbers]
        tasks = [sample_task(rng, number) for rng, number in zip(rngs, numbers, strict=True)]
        words = [dressed(r, t.instruction) for r, t in zip(rngs, tasks, strict=True)]
        return encode_tasks(tasks, words, parts, setup.device)

    pool = Pool(make, setup.seed, run.step, **setup.pool_sizes)
    nothing = [ids.to(setup.device) for ids in parts.encoders.tokens([""])]

    def loss_of_step(step: int) -> tuple[Tensor, Figures]:
        sample = pool.batch(step, setup.batch_size)
        chance = torch.Generator().manual_seed(setup.seed * 10**9 + step)
        clean = sample["after"].float()
        count = clean.shape[0]
        dropped = torch.rand(count, generator=chance) < 0.08
        sample["clip"][dropped], sample["t5"][dropped] = nothing[0], nothing[1]
        noise = torch.randn(clean.shape, generator=chance).to(setup.device)
        times = sample_times(count, chance).to(setup.device)
        guidance = sample_guidance(count, chance, bypass=0.3).to(setup.device)
        noisy = noised(clean, noise, times)
        predicted = forward(parts, sample, noisy, times, guidance)
        touched = sample["touched"].float().repeat(1, 1, clean.shape[2] // 4)
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
        with torch.no_grad():
            error = ((predicted - target) ** 2).mean(dim=2)
            inside = touched.mean(dim=2) > 0.5
        seen = {"inside": float(error[inside].mean()), "outside": float(error[~inside].mean())}
        return weighted_loss(predicted, target, 1 + (EDIT_WEIGHT - 1) * touched), seen

    def evaluate(ema: nn.Module) -> Figures:
        assert isinstance(ema, FluxTransformer2DModel)
        held = Parts(ema, parts.autoencoder, parts.encoders)
        return instruction_figures(editor(held, setup.device), per_kind=12)

    run.train(budget, loss_of_step, evaluate)


def editor(parts: Parts, device: torch.device) -> Edit:
    """Binds the parts to `edit` for the evaluation."""

    def edited(tasks: list[InstructionTask], cfg: float) -> list[Picture]:
        return edit(parts, tasks, [t.instruction for t in tasks], device, cfg=cfg)

    return edited


@torch.no_grad()
def edit(
    parts: Parts,
    tasks: list[InstructionTask],
    words: list[str],
    device: torch.device,
    steps: int = 20,
    cfg: float = 1.0,
    guidance: float = 2.5,
) -> list[Picture]:
    """Follows instructions with the plain sampler; true CFG keeps the guidance embedding."""
    sample = encode_tasks(tasks, words, parts, device)
    against = dict(sample)
    against["clip"], against["t5"] = (
        ids.to(device) for ids in parts.encoders.tokens([""] * len(tasks))
    )
    strengths = torch.full((len(tasks),), guidance, device=device)

    def velocity(tokens: Tensor, times: Tensor) -> Tensor:
        wanted = forward(parts, sample, tokens, times, strengths)
        if cfg <= 1:
            return wanted
        unwanted = forward(parts, against, tokens, times, strengths)
        return unwanted + cfg * (wanted - unwanted)

    shape = sample["after"].shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1234)).to(device)
    side = 2 * round(shape[1] ** 0.5)
    return to_pictures(decode(parts.autoencoder, unpack(euler(velocity, noise, steps), side, side)))


def load_parts(setup: Setup) -> Parts:
    """The trained twin (EMA weights)."""
    transformer = build_transformer(IN_CHANNELS, setup.preset)
    load_ema(setup.folder("kontext"), transformer)
    transformer.requires_grad_(False).eval().to(setup.device)
    return Parts(transformer, load_autoencoder(setup, "flux"), load_text_encoders(setup))
