"""FLUX.2 [klein]: the families `klein` and `klein-kv`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from overpaint.checkpoints.component import BLOCK_WEIGHTS, Component, Removal, files
from overpaint.core.work.workload import Workload
from overpaint.diffusion.autoencoder import AUTOENCODER_KL
from overpaint.diffusion.family import FamilySpec
from overpaint.families.flux2.options import KleinKVOptions, KleinOptions


def _cut(encoder: Any) -> None:
    from overpaint.families.flux2 import text

    text.cut(encoder)


def _prepare(transformer: Any) -> None:
    from overpaint.families.flux2 import passes

    passes.prepare(transformer)


def _decoding(config: Mapping[str, Any], width: int) -> int:
    """As of `AutoencoderKL`; checkpoints may have a decoder of other widths than the encoder."""
    decoder = config.get("decoder_block_out_channels") or config["block_out_channels"]
    assert AUTOENCODER_KL.decoding is not None
    return AUTOENCODER_KL.decoding({**config, "block_out_channels": decoder}, width)


def _on_openvino(conversion: Any) -> Any:
    from overpaint.families.flux2 import openvino_networks

    return openvino_networks.replace_transformer(conversion)


def _autoencoder_on_openvino(conversion: Any) -> Any:
    from overpaint.families.flux2 import openvino_networks

    return openvino_networks.replace_autoencoder(conversion)


_AFTER = re.compile(r"^model\.layers\.(?:2[7-9]|[3-9]\d|\d{3,})\.|^model\.norm\.|^lm_head\.")
"""Qwen3's weights after its 27th layer."""

LARGEST = 1.05
"""Area of the largest canvas that FLUX.2 chooses by itself, in areas of its own size: the 4300
tokens up to which its noise schedule is made for few steps."""

COMPONENTS = {
    "scheduler": files("diffusers:FlowMatchEulerDiscreteScheduler"),
    "tokenizer": files("transformers:Qwen2TokenizerFast", "transformers:Qwen2Tokenizer"),
    "text_encoder": Component(
        role="text encoder",
        classes=("transformers:Qwen3ForCausalLM",),
        blocks=("model.layers",),
        # The prompt is what comes out of the 27th layer and two earlier ones.
        surplus=Removal(
            weights=_AFTER,
            evict=_cut,
        ),
    ),
    "transformer": Component(
        role="denoiser",
        classes=("diffusers:Flux2Transformer2DModel",),
        float8=BLOCK_WEIGHTS,
        blocks=("transformer_blocks", "single_transformer_blocks"),
        openvino=_on_openvino,
        prepare=_prepare,
        lora="diffusers.loaders:Flux2LoraLoaderMixin",
    ),
    "vae": replace(
        AUTOENCODER_KL,
        classes=("diffusers:AutoencoderKLFlux2",),
        decoding=_decoding,
        openvino=_autoencoder_on_openvino,
    ),
}

PROMPT_STYLE = (
    "As an instruction in plain prose that begins with what matters most: what changes, and into "
    "what, with its colour, material and place; then light and mood where the wish has any; then "
    "what stays as it is. Whole sentences, no lists of keywords, 30 to 80 words, only what is to "
    "be seen and nothing about what is not. Words to be written in the picture stand in quotation "
    "marks. Several pictures are 'the first picture', 'the second picture' and so on."
)

KLEIN_FAMILY = FamilySpec(
    name="klein",
    implementation="overpaint.families.flux2.klein:Klein",
    options=KleinOptions,
    accepts={
        "prompt": "required",
        "mask": "optional",
        "negative_prompt": "optional",
        "references": "optional",
        "target": "optional",
    },
    components=COMPONENTS,
    pipelines={"Flux2KleinPipeline": {}, "Flux2KleinInpaintPipeline": {}},
    cells=2,
    workload=Workload(largest=LARGEST),
    prompt_style=PROMPT_STYLE,
)

KLEIN_KV_FAMILY = FamilySpec(
    name="klein-kv",
    implementation="overpaint.families.flux2.kv:KleinKV",
    options=KleinKVOptions,
    accepts={
        "prompt": "required",
        "mask": "optional",
        "references": "optional",
        "target": "optional",
    },
    # This transformer's purpose is to keep keys and values, which OpenVINO's cannot.
    components={**COMPONENTS, "transformer": replace(COMPONENTS["transformer"], openvino=None)},
    pipelines={"Flux2KleinKVPipeline": {}},
    cells=2,
    workload=Workload(largest=LARGEST, passes=1),
    prompt_style=PROMPT_STYLE,
)

FAMILIES = (KLEIN_FAMILY, KLEIN_KV_FAMILY)
