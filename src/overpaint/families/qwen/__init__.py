"""Qwen-Image: the family `qwen-edit`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from overpaint.checkpoints.component import Ahead, Component, files
from overpaint.diffusion.family import FamilySpec
from overpaint.families.qwen.options import QwenEditOptions


def _evict(transformer: Any) -> None:
    from overpaint.families.qwen import modulation

    modulation.evict(transformer)


def _read_processor(folder: Path) -> Any:
    from overpaint.families.qwen import processor

    return processor.read(folder)


COMPONENTS = {
    "scheduler": files("diffusers:FlowMatchEulerDiscreteScheduler"),
    "tokenizer": files("transformers:Qwen2Tokenizer", "transformers:Qwen2TokenizerFast"),
    "processor": Component(
        role="files",
        classes=("transformers:Qwen2VLProcessor", "transformers:Qwen2_5_VLProcessor"),
        read=_read_processor,
    ),
    "text_encoder": Component(
        role="text encoder",
        classes=("transformers:Qwen2_5_VLForConditionalGeneration",),
    ),
    "transformer": Component(
        role="denoiser",
        classes=("diffusers:QwenImageTransformer2DModel",),
        float8=re.compile(
            r"transformer_blocks\.\d+\.(?:attn|img_mlp|txt_mlp)\.(?!.*norm).*\.weight$"
        ),
        blocks=("transformer_blocks",),
        lora="diffusers.loaders:QwenImageLoraLoaderMixin",
        ahead=Ahead(
            weights=re.compile(r"(?:(?:img|txt)_mod\.1|norm_out\.linear)\.(?:weight|bias)$"),
            evict=_evict,
        ),
    ),
    "vae": Component(role="autoencoder", classes=("diffusers:AutoencoderKLQwenImage",)),
}

QWEN_EDIT_FAMILY = FamilySpec(
    name="qwen-edit",
    implementation="overpaint.families.qwen.edit:QwenEdit",
    options=QwenEditOptions,
    accepts={
        "prompt": "required",
        "mask": "optional",
        "negative_prompt": "optional",
        "references": "optional",
    },
    components=COMPONENTS,
    pipelines={"QwenImageEditPlusPipeline": {}},
)

FAMILIES = (QWEN_EDIT_FAMILY,)
