"""FLUX.1: the families `fill`, `flex2` and `kontext`."""

from __future__ import annotations

import re
from typing import Any

from overpaint.checkpoints.component import BLOCK_WEIGHTS, UNUSED, Ahead, Component, files
from overpaint.diffusion.autoencoder import AUTOENCODER_KL
from overpaint.diffusion.family import FamilySpec
from overpaint.families.flux1.options import FillOptions, Flex2Options, KontextOptions


def _evict(transformer: Any) -> None:
    from overpaint.families.flux1 import modulation

    modulation.evict(transformer)


def _prepare(transformer: Any) -> None:
    from overpaint.families.flux1 import flux

    flux.prepare(transformer)


COMPONENTS = {
    "scheduler": files("diffusers:FlowMatchEulerDiscreteScheduler"),
    "tokenizer": files("transformers:CLIPTokenizer", "transformers:CLIPTokenizerFast"),
    "tokenizer_2": files("transformers:T5Tokenizer", "transformers:T5TokenizerFast"),
    "text_encoder": Component(role="text encoder", classes=("transformers:CLIPTextModel",)),
    "text_encoder_2": Component(
        role="text encoder",
        classes=("transformers:T5EncoderModel",),
        blocks=("encoder.block",),
    ),
    "transformer": Component(
        role="denoiser",
        classes=("diffusers:FluxTransformer2DModel",),
        float8=BLOCK_WEIGHTS,
        blocks=("transformer_blocks", "single_transformer_blocks"),
        prepare=_prepare,
        lora="diffusers.loaders:FluxLoraLoaderMixin",
        ahead=Ahead(
            weights=re.compile(r"(?:norm|norm1|norm1_context|norm_out)\.linear\.(?:weight|bias)$"),
            evict=_evict,
        ),
    ),
    "vae": AUTOENCODER_KL,
    "feature_extractor": UNUSED,
    "image_encoder": UNUSED,
}

CAPTION_STYLE = (
    "As a description of what the masked area shows, in whole English sentences, never as an "
    "instruction: the thing first, then its colour, material and surface, then how it stands in "
    "the scene and its light. 20 to 60 words."
)
"""Prompt style of the families that fill a masked area."""

INSTRUCTION_STYLE = (
    "As one instruction in English that begins with a verb: what changes, named so that nobody can "
    "take it for something else in the picture (no 'it', no 'them'), into what, and then what "
    "stays exactly as it is ('while keeping the same face, pose and background'). 'Change', "
    "'replace' or 'add', not 'transform', where only a part changes. Words to be written in the "
    "picture stand in quotation marks. 10 to 50 words."
)
"""Prompt style of the family that follows instructions."""

FILL_FAMILY = FamilySpec(
    name="fill",
    implementation="overpaint.families.flux1.fill:Fill",
    options=FillOptions,
    accepts={"prompt": "required", "mask": "required", "negative_prompt": "optional"},
    components=COMPONENTS,
    pipelines={"FluxFillPipeline": {}},
    prompt_style=CAPTION_STYLE,
    reads_english_only=True,
    cells=2,
)

FLEX2_FAMILY = FamilySpec(
    name="flex2",
    implementation="overpaint.families.flux1.flex2:Flex2",
    options=Flex2Options,
    accepts={
        "prompt": "required",
        "mask": "required",
        "negative_prompt": "optional",
        "control": "optional",
    },
    components=COMPONENTS,
    # The published repository calls itself FluxPipeline, as FLUX.1's own do.
    pipelines={"Flex2Pipeline": {}, "FluxPipeline": {"transformer": {"in_channels": 196}}},
    prompt_style=CAPTION_STYLE,
    reads_english_only=True,
    cells=2,
)

KONTEXT_FAMILY = FamilySpec(
    name="kontext",
    implementation="overpaint.families.flux1.kontext:Kontext",
    options=KontextOptions,
    accepts={
        "prompt": "required",
        "mask": "optional",
        "negative_prompt": "optional",
        "references": "optional",
        "target": "optional",
    },
    components=COMPONENTS,
    pipelines={"FluxKontextPipeline": {}, "FluxKontextInpaintPipeline": {}},
    prompt_style=INSTRUCTION_STYLE,
    reads_english_only=True,
    cells=2,
)

FAMILIES = (FILL_FAMILY, FLEX2_FAMILY, KONTEXT_FAMILY)
