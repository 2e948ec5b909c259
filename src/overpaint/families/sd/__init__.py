"""Stable Diffusion: the families `sd2` and `sdxl`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from overpaint.checkpoints.component import BLOCK_WEIGHTS, UNUSED, Component, files
from overpaint.core.work.workload import Workload
from overpaint.diffusion.autoencoder import AUTOENCODER_KL
from overpaint.diffusion.family import FamilySpec
from overpaint.families.sd.options import SD2Options, SDXLOptions

SCHEDULERS = files(
    "diffusers:DDIMScheduler",
    "diffusers:DPMSolverMultistepScheduler",
    "diffusers:EulerAncestralDiscreteScheduler",
    "diffusers:EulerDiscreteScheduler",
    "diffusers:LMSDiscreteScheduler",
    "diffusers:PNDMScheduler",
    "diffusers:UniPCMultistepScheduler",
)

TOKENIZER = files("transformers:CLIPTokenizer", "transformers:CLIPTokenizerFast")

TEXT_ENCODER = Component(role="text encoder", classes=("transformers:CLIPTextModel",))

UNET = Component(role="denoiser", classes=("diffusers:UNet2DConditionModel",), float8=BLOCK_WEIGHTS)

PROMPT_STYLE = (
    "As a caption of what the masked area shows, in English, never as an instruction: the thing "
    "first, then its colour, material and surface, then how it stands in the scene and its light. "
    "Short phrases with commas between them, 10 to 40 words, for a text encoder of 77 tokens."
)
"""Of Stable Diffusion, whose text encoders were trained on captions of pictures."""


def _is_upcast(config: Mapping[str, Any]) -> bool:
    """Whether an autoencoder's numbers do not fit half precision; diffusers' default is that."""
    return bool(config.get("force_upcast", True))


def _on_openvino(conversion: Any) -> Any:
    from overpaint.families.sd import openvino_unet

    return openvino_unet.replace(conversion)


SD2_FAMILY = FamilySpec(
    name="sd2",
    implementation="overpaint.families.sd.sd2:SD2",
    options=SD2Options,
    accepts={"prompt": "required", "mask": "required", "negative_prompt": "optional"},
    components={
        "scheduler": SCHEDULERS,
        "tokenizer": TOKENIZER,
        "text_encoder": TEXT_ENCODER,
        "unet": replace(
            UNET,
            openvino=_on_openvino,
            # Its repeated blocks are the smaller part of it.
            compile_whole=True,
            lora="diffusers.loaders:StableDiffusionLoraLoaderMixin",
        ),
        "vae": AUTOENCODER_KL,
        "safety_checker": Component(
            role="checker",
            classes=(
                "diffusers.pipelines.stable_diffusion.safety_checker:StableDiffusionSafetyChecker",
            ),
        ),
        "feature_extractor": UNUSED,
        "image_encoder": UNUSED,
    },
    pipelines={"StableDiffusionInpaintPipeline": {}},
    workload=Workload(native=512),
    prompt_style=PROMPT_STYLE,
    reads_english_only=True,
    cells=1,
)

SDXL_FAMILY = FamilySpec(
    name="sdxl",
    implementation="overpaint.families.sd.sdxl:SDXL",
    options=SDXLOptions,
    accepts={"prompt": "required", "mask": "required", "negative_prompt": "optional"},
    components={
        "scheduler": SCHEDULERS,
        "tokenizer": TOKENIZER,
        "tokenizer_2": TOKENIZER,
        "text_encoder": TEXT_ENCODER,
        "text_encoder_2": Component(
            role="text encoder", classes=("transformers:CLIPTextModelWithProjection",)
        ),
        "unet": replace(UNET, lora="diffusers.loaders:StableDiffusionXLLoraLoaderMixin"),
        # OpenVINO's would compute in the model's own precision.
        "vae": replace(AUTOENCODER_KL, float32=_is_upcast, openvino=None),
        "feature_extractor": UNUSED,
        "image_encoder": UNUSED,
    },
    # Checkpoints of that class may have UNets that know no mask, or take their guidance as input.
    pipelines={
        "StableDiffusionXLInpaintPipeline": {
            "unet": {"in_channels": 9, "time_cond_proj_dim": None},
        }
    },
    cells=1,
    prompt_style=PROMPT_STYLE,
    reads_english_only=True,
)

FAMILIES = (SD2_FAMILY, SDXL_FAMILY)
