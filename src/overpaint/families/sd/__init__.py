"""Stable Diffusion: the family `sd2`."""

from overpaint.checkpoints.component import BLOCK_WEIGHTS, UNUSED, Component, files
from overpaint.diffusion.autoencoder import AUTOENCODER_KL
from overpaint.diffusion.family import FamilySpec
from overpaint.families.sd.options import SD2Options

SCHEDULERS = files(
    "diffusers:DDIMScheduler",
    "diffusers:DPMSolverMultistepScheduler",
    "diffusers:EulerAncestralDiscreteScheduler",
    "diffusers:EulerDiscreteScheduler",
    "diffusers:LMSDiscreteScheduler",
    "diffusers:PNDMScheduler",
    "diffusers:UniPCMultistepScheduler",
)

SD2_FAMILY = FamilySpec(
    name="sd2",
    implementation="overpaint.families.sd.sd2:SD2",
    options=SD2Options,
    accepts={"prompt": "required", "mask": "required", "negative_prompt": "optional"},
    components={
        "scheduler": SCHEDULERS,
        "tokenizer": files("transformers:CLIPTokenizer", "transformers:CLIPTokenizerFast"),
        "text_encoder": Component(role="text encoder", classes=("transformers:CLIPTextModel",)),
        "unet": Component(
            role="denoiser",
            classes=("diffusers:UNet2DConditionModel",),
            float8=BLOCK_WEIGHTS,
            openvino=True,
            # Its repeated blocks are the smaller part of it.
            compile_whole=True,
            lora="diffusers.loaders:StableDiffusionLoraLoaderMixin",
        ),
        "vae": AUTOENCODER_KL,
        "safety_checker": UNUSED,
        "feature_extractor": UNUSED,
        "image_encoder": UNUSED,
    },
    pipelines={"StableDiffusionInpaintPipeline": {}},
    cells=1,
)

FAMILIES = (SD2_FAMILY,)
