"""Flex.2's pipeline as one straight line on plain diffusers modules: the oracle of the tests.

Shares no code with the family. Written from what `Flex2Pipeline` does: conditions concatenated
along the channels of packed tokens, latents zeroed after encoding, a soft bilinear mask, control
sample drawn before the inpaint sample and that before the noise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.embeddings import CombinedTimestepTextProjEmbeddings
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast


@torch.no_grad()
def run(
    folder: Path,
    *,
    prompt: str,
    image: Image.Image,
    mask: Image.Image,
    control: Image.Image | None,
    width: int,
    height: int,
    seed: int,
    steps: int,
    guidance_scale: float,
    control_strength: float = 1.0,
    control_stop: float = 1.0,
    negative_prompt: str | None = None,
) -> np.ndarray:
    """(H, W, 3) uint8."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer").eval()
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    processor = VaeImageProcessor(vae_scale_factor=16)
    generator = torch.Generator().manual_seed(seed)

    def embed(text: str) -> tuple[torch.Tensor, torch.Tensor]:
        clip_tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        clip = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
        t5_tokenizer = T5TokenizerFast.from_pretrained(folder / "tokenizer_2")
        t5 = T5EncoderModel.from_pretrained(folder / "text_encoder_2").eval()
        ids = clip_tokenizer(
            [text], padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        ids_2 = t5_tokenizer(
            [text], padding="max_length", max_length=512, truncation=True, return_tensors="pt"
        ).input_ids
        return t5(ids_2)[0], clip(ids).pooler_output

    def encode(picture: Image.Image) -> torch.Tensor:
        pixels = processor.preprocess(picture, height=height, width=width)
        pixels = pixels.repeat_interleave(1, dim=0)
        sample = vae.encode(pixels).latent_dist.sample(generator)
        return (sample - vae.config.shift_factor) * vae.config.scaling_factor

    def pack(latents: torch.Tensor) -> torch.Tensor:
        _, channels, h, w = latents.shape
        latents = latents.view(1, channels, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return latents.reshape(1, (h // 2) * (w // 2), channels * 4)

    h, w = height // 8, width // 8
    control_latents = torch.zeros(1, 16, h, w) if control is None else encode(control)
    inpaint_latents = encode(image)
    mask_pixels = processor.preprocess(mask.convert("RGB"), height=height, width=width)
    mask_pixels = mask_pixels.repeat_interleave(1, dim=0)[:, 0:1] * 0.5 + 0.5
    mask_latents = F.interpolate(mask_pixels, size=(h, w), mode="bilinear", align_corners=False)
    inpaint_latents = inpaint_latents * (1 - mask_latents)
    control_latents = control_latents * control_strength

    latents = pack(torch.randn((1, 16, h, w), generator=generator))
    with_control = pack(torch.cat([inpaint_latents, mask_latents, control_latents], dim=1))
    without_control = pack(
        torch.cat([inpaint_latents, mask_latents, torch.zeros_like(control_latents)], dim=1)
    )

    rows = torch.arange(h // 2)[:, None].expand(h // 2, w // 2)
    columns = torch.arange(w // 2)[None, :].expand(h // 2, w // 2)
    image_ids = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()

    slope = (scheduler.config.max_shift - scheduler.config.base_shift) / (
        scheduler.config.max_image_seq_len - scheduler.config.base_image_seq_len
    )
    mu = (
        latents.shape[1] * slope
        + scheduler.config.base_shift
        - slope * scheduler.config.base_image_seq_len
    )
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    cutoff = int(len(scheduler.timesteps) * control_stop)

    guidance = torch.full([1], guidance_scale, dtype=torch.float32)
    if negative_prompt is not None:
        guided = transformer.time_text_embed
        plain = CombinedTimestepTextProjEmbeddings(
            embedding_dim=transformer.inner_dim,
            pooled_projection_dim=transformer.config.pooled_projection_dim,
        )
        plain.timestep_embedder = guided.timestep_embedder
        plain.text_embedder = guided.text_embedder
        transformer.time_text_embed = plain
        guidance = None

    def velocity(text: tuple[torch.Tensor, torch.Tensor], tokens: torch.Tensor, t) -> torch.Tensor:
        return transformer(
            hidden_states=tokens,
            timestep=t.expand(1) / 1000,
            guidance=guidance,
            pooled_projections=text[1],
            encoder_hidden_states=text[0],
            txt_ids=torch.zeros(text[0].shape[1], 3),
            img_ids=image_ids,
            return_dict=False,
        )[0]

    positive = embed(prompt)
    negative = embed(negative_prompt) if negative_prompt is not None else None
    for index, t in enumerate(scheduler.timesteps):
        condition = with_control if index < cutoff else without_control
        tokens = torch.cat([latents, condition], dim=2)
        prediction = velocity(positive, tokens, t)
        if negative is not None:
            against = velocity(negative, tokens, t)
            prediction = against + guidance_scale * (prediction - against)
        latents = scheduler.step(prediction, t, latents, return_dict=False)[0]

    latents = latents.view(1, h // 2, w // 2, 16, 2, 2).permute(0, 3, 1, 4, 2, 5)
    latents = latents.reshape(1, 16, h, w)
    decoded = vae.decode(
        latents / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False
    )[0]
    return np.asarray(processor.postprocess(decoded, output_type="pil")[0])
