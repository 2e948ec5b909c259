"""Qwen-Image: the family `qwen-edit`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from overpaint.checkpoints.component import Ahead, Component, Removal, files
from overpaint.diffusion.family import FamilySpec
from overpaint.families.qwen.options import QwenEditOptions

DECODING = 7.04
ENCODING = 6.06
"""Numbers that the autoencoder holds at once per pixel, as multiples of the channels of its
full-size layers. Measured by `benchmarks.performance.memory`, which counts live tensors: 1349 bytes
per pixel of decoding and 1162 of encoding in bfloat16, twice as many in float32, whatever the
picture's size."""


def _evict(transformer: Any) -> None:
    from overpaint.families.qwen import modulation

    modulation.evict(transformer)


def _drop_head(encoder: Any) -> None:
    from torch import nn

    encoder.lm_head = nn.Identity()


def _forget_frames(vae: Any) -> None:
    from overpaint.families.qwen import autoencoder

    autoencoder.prepare(vae)


def _tile(vae: Any, side: int) -> None:
    from overpaint.families.qwen import autoencoder

    autoencoder.tile(vae, side)


def _decoding(config: Mapping[str, Any], width: int) -> int:
    """Bytes per pixel of the tensors held while a picture is decoded in one piece."""
    return int(DECODING * config["base_dim"] * width)


def _encoding(config: Mapping[str, Any], width: int) -> int:
    """Bytes per pixel of the tensors held while a picture is encoded in one piece."""
    return int(ENCODING * config["base_dim"] * width)


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
        renames=(
            (re.compile(r"^model\.(?=embed_tokens|layers|norm)"), "model.language_model."),
            (re.compile(r"^visual\."), "model.visual."),
        ),
        surplus=Removal(weights=re.compile(r"^lm_head\."), evict=_drop_head),
        blocks=("model.language_model.layers",),
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
    "vae": Component(
        role="autoencoder",
        classes=("diffusers:AutoencoderKLQwenImage",),
        # Its convolutions are of videos: torch's compiler wants them in a layout for pictures.
        compiles=False,
        prepare=_forget_frames,
        tile=_tile,
        decoding=_decoding,
        encoding=_encoding,
    ),
}

PROMPT_STYLE = (
    "As one precise instruction that begins with a verb (add, remove, replace, change): the thing, "
    "its colour, size and material, its place in the picture, then what stays as it is. Concise, "
    "without ornament, 10 to 50 words, in the language of the wish. Words to be written in the "
    "picture stand in quotation marks, in their own language and with their capitals. Several "
    "pictures are 'Picture 1', 'Picture 2' and so on."
)

QWEN_EDIT_FAMILY = FamilySpec(
    name="qwen-edit",
    implementation="overpaint.families.qwen.edit:QwenEdit",
    options=QwenEditOptions,
    accepts={
        "prompt": "required",
        "mask": "optional",
        "negative_prompt": "optional",
        "references": "optional",
        "target": "optional",
    },
    components=COMPONENTS,
    pipelines={"QwenImageEditPlusPipeline": {}},
    cells=2,
    prompt_style=PROMPT_STYLE,
)

FAMILIES = (QWEN_EDIT_FAMILY,)
