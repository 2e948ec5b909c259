"""Checkpoints at the real models' configuration with random weights, for benchmarks.

Figures about speed and memory do not depend on what the weights are, only on how many there are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch

FLUX_BLOCKS = {"flex2": (8, 38, 196), "kontext": (19, 38, 64), "fill": (19, 38, 384)}
"""Blocks with two streams and with one, and features of a picture token, of the real models."""

KLEIN = {"klein": (5, 20, 24, 2560), "klein-9b": (8, 24, 32, 4096)}
"""Blocks with two streams and with one, heads, width of the text encoder, of the real models."""


def sd2(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """stable-diffusion-2-inpainting: 866 M UNet, 340 M text encoder, 84 M autoencoder.

    Made once; the folder is reused where it is complete. Float32 is how it is published (4.8 GiB).
    """
    if (folder / "model_index.json").is_file():
        return folder
    torch.manual_seed(0)
    parts = _sd2_parts(folder)
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionInpaintPipeline",
        "_diffusers_version": diffusers.__version__,
    }
    for name, (library, make) in parts.items():
        part = make()
        if isinstance(part, torch.nn.Module):
            part = part.to(dtype)
        part.save_pretrained(folder / name)
        index[name] = [library, type(part).__name__]
        del part
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def flux(
    folder: Path,
    pipeline: str,
    in_channels: int,
    blocks: tuple[int, int],
    *,
    autoencoder: bool = False,
) -> Path:
    """A FLUX transformer of real width with few or all blocks, in bfloat16, beside small encoders.

    Args:
        folder: reused where it is complete.
        pipeline: `Flex2Pipeline` or `FluxKontextPipeline`.
        in_channels: features of a picture token.
        blocks: with two streams, and with one.
        autoencoder: whether it has its real size too.
    """
    from diffusers import FluxTransformer2DModel

    from tests import tiny_checkpoints as checkpoints

    if (folder / "model_index.json").is_file():
        return folder
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        transformer = FluxTransformer2DModel(
            in_channels=in_channels,
            out_channels=64,
            num_layers=blocks[0],
            num_single_layers=blocks[1],
            guidance_embeds=True,
        )
    finally:
        torch.set_default_dtype(torch.float32)
    checkpoints.flux(folder, pipeline, transformer)
    if autoencoder:
        _flux_autoencoder().save_pretrained(folder / "vae")
    return folder


def klein(folder: Path, name: str, pipeline: str, blocks: tuple[int, int]) -> Path:
    """FLUX.2 [klein] of real width with few or all blocks, in bfloat16, beside a narrow Qwen3.

    Args:
        folder: reused where it is complete.
        name: 'klein' or 'klein-9b'.
        pipeline: `Flux2KleinPipeline` or `Flux2KleinKVPipeline`.
        blocks: with two streams, and with one.
    """
    from tests import tiny_checkpoints as checkpoints

    if (folder / "model_index.json").is_file():
        return folder
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        transformer = _klein_transformer(*blocks, *KLEIN[name][2:])
        vae = diffusers.AutoencoderKLFlux2()
    finally:
        torch.set_default_dtype(torch.float32)
    return checkpoints.flux2(folder, pipeline, transformer, vae, is_distilled=True)


def _klein_transformer(double: int, single: int, heads: int, text: int) -> torch.nn.Module:
    return diffusers.Flux2Transformer2DModel(
        num_layers=double,
        num_single_layers=single,
        num_attention_heads=heads,
        joint_attention_dim=3 * text,
        guidance_embeds=False,
    )


def _klein_layout(double: int, single: int, heads: int, text: int) -> dict[str, torch.nn.Module]:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=151936,
            hidden_size=text,
            intermediate_size={2560: 9728, 4096: 12288}[text],
            num_hidden_layers=36,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
        )
    )
    return {
        "transformer": _klein_transformer(double, single, heads, text),
        "text_encoder": encoder,
        "vae": diffusers.AutoencoderKLFlux2(),
    }


def layout(family: str) -> dict[str, torch.nn.Module]:
    """The parts of a real model that have weights, without memory for them."""
    with torch.device("meta"):
        if family == "sd2":
            parts = _sd2_parts(Path())
            return {name: parts[name][1]() for name in ("unet", "vae", "text_encoder")}
        if family == "sdxl":
            return _sdxl_layout()
        if family == "qwen-edit":
            return _qwen_layout()
        if family in KLEIN:
            return _klein_layout(*KLEIN[family])
        return _flux_layout(*FLUX_BLOCKS[family])


def _sdxl_layout() -> dict[str, torch.nn.Module]:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    second = CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        hidden_act="gelu",
        projection_dim=1280,
    )
    return {
        "unet": UNet2DConditionModel(
            sample_size=128,
            in_channels=9,
            out_channels=4,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        "text_encoder": CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072)),
        "text_encoder_2": CLIPTextModelWithProjection(second),
        "vae": _autoencoder(sample_size=1024, scaling_factor=0.13025),
    }


def _qwen_layout() -> dict[str, torch.nn.Module]:
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
        },
    )
    return {
        "transformer": QwenImageTransformer2DModel(zero_cond_t=True),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(config),
        "vae": AutoencoderKLQwenImage(),
    }


def _flux_layout(double: int, single: int, channels: int) -> dict[str, torch.nn.Module]:
    from diffusers import FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    t5 = T5Config(
        d_model=4096,
        d_ff=10240,
        d_kv=64,
        num_heads=64,
        num_layers=24,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
    )
    return {
        "transformer": FluxTransformer2DModel(
            in_channels=channels,
            out_channels=64,
            num_layers=double,
            num_single_layers=single,
            guidance_embeds=True,
        ),
        "text_encoder": CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072)),
        "text_encoder_2": T5EncoderModel(t5),
        "vae": _flux_autoencoder(),
    }


def _autoencoder(**more: Any) -> torch.nn.Module:
    """The convolutions that Stable Diffusion and FLUX share."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        **more,
    )


def _flux_autoencoder() -> torch.nn.Module:
    return _autoencoder(
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _sd2_parts(folder: Path) -> dict[str, Any]:
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from tests.tiny_checkpoints import SD2_NOISE, clip_tokenizer

    def unet() -> UNet2DConditionModel:
        return UNet2DConditionModel(
            sample_size=64,
            in_channels=9,
            out_channels=4,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )

    def text() -> CLIPTextModel:
        return CLIPTextModel(
            CLIPTextConfig(
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=23,
                num_attention_heads=16,
                hidden_act="gelu",
                projection_dim=512,
                bos_token_id=512,
                eos_token_id=513,
                pad_token_id=513,
            )
        )

    noise = {**SD2_NOISE, "clip_sample": False, "set_alpha_to_one": False}
    return {
        "scheduler": ("diffusers", lambda: DDIMScheduler(**noise)),
        "text_encoder": ("transformers", text),
        "tokenizer": ("transformers", lambda: clip_tokenizer(folder / "vocabulary")),
        "unet": ("diffusers", unet),
        "vae": ("diffusers", lambda: _autoencoder(sample_size=512)),
    }
