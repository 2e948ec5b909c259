"""Tiny checkpoints with random weights, in the real layout with the real class names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

SD2_LIBRARIES = {
    "scheduler": "diffusers",
    "text_encoder": "transformers",
    "tokenizer": "transformers",
    "unet": "diffusers",
    "vae": "diffusers",
}
SDXL_LIBRARIES = {
    **SD2_LIBRARIES,
    "text_encoder_2": "transformers",
    "tokenizer_2": "transformers",
}
FLUX_LIBRARIES = {
    "scheduler": "diffusers",
    "text_encoder": "transformers",
    "text_encoder_2": "transformers",
    "tokenizer": "transformers",
    "tokenizer_2": "transformers",
    "transformer": "diffusers",
    "vae": "diffusers",
}
FLUX2_LIBRARIES = {
    "scheduler": "diffusers",
    "text_encoder": "transformers",
    "tokenizer": "transformers",
    "transformer": "diffusers",
    "vae": "diffusers",
}


QWEN_LIBRARIES = {
    "processor": "transformers",
    "scheduler": "diffusers",
    "text_encoder": "transformers",
    "tokenizer": "transformers",
    "transformer": "diffusers",
    "vae": "diffusers",
}
QWEN_SIDE = 192
"""Side of the squares that the tiny Qwen-Image-Edit takes for its own size."""


def sd2(folder: Path, *, scheduler: Any = None, seed: int = 0) -> Path:
    """stable-diffusion-2-inpainting in small: 9-channel UNet, f8 autoencoder, CLIP text."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=9,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=8,
    )
    parts = {
        "scheduler": scheduler or ddim(),
        "text_encoder": clip_text(width=32),
        "tokenizer": clip_tokenizer(folder / "vocabulary"),
        "unet": unet,
        "vae": autoencoder(channels=4, scaling=0.18215),
    }
    return _save(folder, "StableDiffusionInpaintPipeline", parts, SD2_LIBRARIES)


def sdxl(folder: Path, *, scheduler: Any = None, seed: int = 0) -> Path:
    """SDXL inpainting in small: two text encoders, sizes beside the timestep."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=9,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=16 + 32,
        attention_head_dim=(1, 2),
        use_linear_projection=True,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    second = clip_tokenizer(folder / "vocabulary_2")
    second.pad_token = "!"
    parts = {
        "scheduler": scheduler or EulerDiscreteScheduler(**SD2_NOISE),
        "text_encoder": clip_text(width=16),
        "text_encoder_2": projected_clip_text(width=32),
        "tokenizer": clip_tokenizer(folder / "vocabulary"),
        "tokenizer_2": second,
        "unet": unet,
        "vae": autoencoder(channels=4, scaling=0.13025),
    }
    more = {
        "image_encoder": [None, None],
        "force_zeros_for_empty_prompt": True,
        "requires_aesthetics_score": False,
    }
    return _save(folder, "StableDiffusionXLInpaintPipeline", parts, SDXL_LIBRARIES, **more)


def flex2(folder: Path, *, seed: int = 0) -> Path:
    """Flex.2-preview in small: 196 input channels, guidance embedding."""
    torch.manual_seed(seed)
    return flux(folder, "Flex2Pipeline", tiny_transformer(196))


def fill(folder: Path, *, seed: int = 0) -> Path:
    """FLUX.1-Fill-dev in small: 384 input channels, of which 256 are the mask's pixels."""
    torch.manual_seed(seed)
    return flux(folder, "FluxFillPipeline", tiny_transformer(384))


def kontext(folder: Path, *, seed: int = 0) -> Path:
    """FLUX.1-Kontext-dev in small."""
    torch.manual_seed(seed)
    return flux(folder, "FluxKontextPipeline", tiny_transformer(64))


def klein(folder: Path, *, seed: int = 0) -> Path:
    """FLUX.2-klein-4B in small: distilled."""
    return tiny_flux2(folder, "Flux2KleinPipeline", seed, is_distilled=True)


def klein_base(folder: Path, *, seed: int = 0) -> Path:
    """FLUX.2-klein-base-4B in small: its index does not say that it is distilled."""
    return tiny_flux2(folder, "Flux2KleinPipeline", seed)


def klein_kv(folder: Path, *, seed: int = 0) -> Path:
    """FLUX.2-klein-9b-kv in small."""
    return tiny_flux2(folder, "Flux2KleinKVPipeline", seed)


def qwen_edit(folder: Path, *, zero_cond_t: bool = True, seed: int = 0) -> Path:
    """Qwen-Image-Edit-2511 in small; without `zero_cond_t` 2509."""
    torch.manual_seed(seed)
    tokenizer = qwen_edit_tokenizer()
    parts = {
        "processor": Qwen2VLProcessor(),
        "scheduler": FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            base_image_seq_len=256,
            max_image_seq_len=8192,
            shift=1.0,
            shift_terminal=0.02,
            time_shift_type="exponential",
        ),
        "text_encoder": qwen_edit_text(tokenizer, width=32),
        "tokenizer": tokenizer,
        "transformer": qwen_edit_transformer(zero_cond_t=zero_cond_t),
        "vae": qwen_edit_autoencoder(),
    }
    _save(folder, "QwenImageEditPlusPipeline", parts, QWEN_LIBRARIES)
    index = folder / "model_index.json"
    values = json.loads(index.read_text(encoding="utf-8")) | {"sample_size": QWEN_SIDE}
    index.write_text(json.dumps(values), encoding="utf-8")
    return folder


def qwen_edit_transformer(*, zero_cond_t: bool) -> QwenImageTransformer2DModel:
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
        zero_cond_t=zero_cond_t,
    )
    # So large that what the text says shows in the picture.
    for weight in transformer.parameters():
        if weight.dim() > 1:
            weight.data *= 3
    return transformer


def qwen_edit_autoencoder() -> AutoencoderKLQwenImage:
    return AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, -0.4],
        latents_std=[1.5, 0.7, 2.0, 1.1],
    )


class Qwen2VLProcessor:
    """What the real one writes; without torchvision transformers cannot make it."""

    config: ClassVar = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "max_pixels": 12845056,
        "merge_size": 2,
        "min_pixels": 3136,
        "patch_size": 14,
        "processor_class": "Qwen2VLProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"longest_edge": 12845056, "shortest_edge": 3136},
        "temporal_patch_size": 2,
    }

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        qwen_edit_tokenizer().save_pretrained(folder)
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps(self.config, indent=2), encoding="utf-8")


def qwen_edit_tokenizer() -> Qwen2Tokenizer:
    """That of klein without its marks of thoughts and its template."""
    return qwen_tokenizer(marks=(), template="{{ '' }}")


def qwen_edit_text(tokenizer: Qwen2Tokenizer, *, width: int) -> Qwen2_5_VLForConditionalGeneration:
    special = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in special.items()}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "initializer_range": 0.3,  # so that places of tokens count
            "intermediate_size": width,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "bos_token_id": None,
            "eos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 3, 3],
                "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "initializer_range": 0.3,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": width,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
            "in_channels": 3,
        },
        tie_word_embeddings=False,
        **ids,
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def flow_matching() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def ddim() -> DDIMScheduler:
    return DDIMScheduler(**SD2_NOISE, clip_sample=False, set_alpha_to_one=False)


SD2_NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}


def autoencoder(*, channels: int, scaling: float, shift: float | None = None) -> AutoencoderKL:
    """An f8 autoencoder of a few thousand weights."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=128,
        scaling_factor=scaling,
        shift_factor=shift,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
    )


def clip_text(*, width: int) -> CLIPTextModel:
    return CLIPTextModel(clip_config(width, layers=2)).eval()


def projected_clip_text(*, width: int) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(clip_config(width, layers=3)).eval()


def clip_config(width: int, *, layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        vocab_size=514,
        max_position_embeddings=77,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        projection_dim=width,
    )


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """Byte-level CLIP tokenizer without merges: one token a letter."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def t5_tokenizer() -> T5TokenizerFast:
    """Unigram tokenizer of single letters."""
    letters = [chr(code) for code in range(32, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in letters if letter != " "]
    model = Tokenizer(Unigram(pieces, unk_id=2))
    model.normalizer = normalizers.NFKC()
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Metaspace()
    model.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return T5TokenizerFast(
        tokenizer_object=model,
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        extra_ids=0,
        model_max_length=512,
    )


def t5_text(*, width: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=128, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=4
    )
    return T5EncoderModel(config).eval()


def tiny_transformer(in_channels: int) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        in_channels=in_channels,
        out_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )


def flux(folder: Path, pipeline: str, transformer: FluxTransformer2DModel) -> Path:
    """Any transformer with small encoders of the widths that it takes."""
    parts = {
        "scheduler": flow_matching(),
        "text_encoder": clip_text(width=transformer.config.pooled_projection_dim),
        "text_encoder_2": t5_text(width=transformer.config.joint_attention_dim),
        "tokenizer": clip_tokenizer(folder / "vocabulary"),
        "tokenizer_2": t5_tokenizer(),
        "transformer": transformer,
        "vae": autoencoder(channels=16, scaling=0.3611, shift=0.1159),
    }
    return _save(folder, pipeline, parts, FLUX_LIBRARIES)


def flux2(
    folder: Path,
    pipeline: str,
    transformer: Flux2Transformer2DModel,
    vae: AutoencoderKLFlux2,
    **settings: Any,
) -> Path:
    """Any transformer with a small encoder of the width that it takes.

    Args:
        folder: is made.
        pipeline: class of its index.
        transformer, vae: as they are.
        settings: what its index says beside its components.
    """
    parts = {
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        "text_encoder": qwen3_text(width=transformer.config.joint_attention_dim // 3),
        "tokenizer": qwen_tokenizer(),
        "transformer": transformer,
        "vae": vae,
    }
    return _save(folder, pipeline, parts, FLUX2_LIBRARIES, **settings)


def tiny_flux2(folder: Path, pipeline: str, seed: int, **settings: Any) -> Path:
    """FLUX.2 [klein] in small; the autoencoder's statistics are random, as its weights."""
    torch.manual_seed(seed)
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=4,
        sample_size=128,
    )
    vae.bn.running_mean.normal_(0, 0.1)
    vae.bn.running_var.uniform_(0.5, 2.0)
    transformer = Flux2Transformer2DModel(
        in_channels=32,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    return flux2(folder, pipeline, transformer, vae, **settings)


def qwen3_text(*, width: int) -> Qwen3ForCausalLM:
    """More layers than the 27 that count, and a head of its own, as that of 8B."""
    config = Qwen3Config(
        vocab_size=272,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=29,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=False,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=258,
    )
    return Qwen3ForCausalLM(config).eval()


QWEN_SPECIALS = (
    *("<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
QWEN3_TEMPLATE = (
    r"{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + "
    r"'<|im_end|>' + '\n' }}{%- endfor %}{%- if add_generation_prompt %}"
    r"{{- '<|im_start|>assistant\n' }}"
    r"{%- if enable_thinking is defined and enable_thinking is false %}"
    r"{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
)


def qwen_tokenizer(
    marks: Sequence[str] = ("<think>", "</think>"), template: str = QWEN3_TEMPLATE
) -> Qwen2Tokenizer:
    """Byte-level tokenizer of Qwen without merges: one token a letter."""
    letters = [*bytes_to_unicode().values(), "<|endoftext|>"]
    tokenizer = Qwen2Tokenizer(
        vocab={letter: index for index, letter in enumerate(letters)},
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        model_max_length=131072,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(QWEN_SPECIALS)})
    tokenizer.add_tokens(list(marks))
    tokenizer.chat_template = template
    return tokenizer


def _save(
    folder: Path, pipeline: str, parts: dict[str, Any], libraries: dict[str, str], **more: Any
) -> Path:
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.42.1", **more}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = [libraries[name], type(part).__name__]
    if pipeline.startswith("StableDiffusion"):
        index["feature_extractor"] = [None, None]
    if pipeline.startswith("StableDiffusionInpaint"):
        index["safety_checker"] = [None, None]
        index["requires_safety_checker"] = False
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    return folder
