"""Blocks for Roboflow's workflows: `WORKFLOWS_PLUGINS=overpaint.apps.workflow`.

Written against `inference` 0.59 and later, which only this package imports. docs/workflows.md
shows the blocks at work.
"""

from __future__ import annotations

from inference.core.workflows.prototypes.block import WorkflowBlock

from overpaint.apps.workflow.block import block, extension_block
from overpaint.apps.workflow.fields import sides
from overpaint.families.erase import ERASE_FAMILY
from overpaint.families.flux1 import FILL_FAMILY, FLEX2_FAMILY, KONTEXT_FAMILY
from overpaint.families.flux2 import KLEIN_FAMILY
from overpaint.families.qwen import QWEN_EDIT_FAMILY
from overpaint.families.sd import SD2_FAMILY, SDXL_FAMILY

Flex2InpaintingBlock = block(
    "flex2_inpainting",
    "Flex2 Inpainting",
    about="Repaints what a model detected in a picture, from a prompt, with Flex.2.",
    spec=FLEX2_FAMILY,
    task="inpaint",
    sides=sides(1024, 16),
    options=[
        "control_strength",
        "control_stop",
        "num_inference_steps",
        "guidance_scale",
        "grow",
        "feather",
    ],
)

SD2InpaintingBlock = block(
    "sd2_inpainting",
    "SD2 Inpainting",
    about="Repaints what a model detected in a picture, from a prompt, with Stable Diffusion 2.",
    spec=SD2_FAMILY,
    task="inpaint",
    sides=sides(None, 8),
    options=["num_inference_steps", "guidance_scale", "strength", "grow", "feather"],
)

SDXLInpaintingBlock = block(
    "sdxl_inpainting",
    "SDXL Inpainting",
    about="Repaints what a model detected in a picture, from a prompt, with SDXL.",
    spec=SDXL_FAMILY,
    task="inpaint",
    sides=sides(None, 8),
    options=["num_inference_steps", "guidance_scale", "strength", "grow", "feather"],
)

FillInpaintingBlock = block(
    "fill_inpainting",
    "Fill Inpainting",
    about="Repaints what a model detected in a picture, from a prompt, with FLUX.1 Fill.",
    spec=FILL_FAMILY,
    task="inpaint",
    sides=sides(None, 16),
    options=["num_inference_steps", "guidance_scale", "strength", "grow", "feather"],
)

KleinEditBlock = block(
    "klein_edit",
    "Klein Edit",
    about="Changes a picture as an instruction says, with FLUX.2 klein; a mask limits where.",
    spec=KLEIN_FAMILY,
    task="edit",
    sides=sides(None, 16),
    options=["num_inference_steps", "guidance_scale", "strength", "grow", "feather"],
)

QwenEditBlock = block(
    "qwen_edit",
    "Qwen Edit",
    about="Changes a picture as an instruction says, with Qwen-Image-Edit; a mask limits where.",
    spec=QWEN_EDIT_FAMILY,
    task="edit",
    sides=sides(None, 16),
    options=["num_inference_steps", "true_cfg_scale", "strength", "grow", "feather"],
)

KontextEditBlock = block(
    "kontext_edit",
    "Kontext Edit",
    about="Changes a picture as an instruction says, with FLUX.1 Kontext; a mask limits where.",
    spec=KONTEXT_FAMILY,
    task="edit",
    sides=sides(None, 16),
    options=["num_inference_steps", "guidance_scale", "grow", "feather"],
)

EraseBlock = block(
    "erase",
    "Erase",
    about="Removes what a model detected in a picture; no weights, no words.",
    spec=ERASE_FAMILY,
    task="erase",
    options=["shadow", "grow", "feather"],
)


ExtendBlock = extension_block(
    "extend",
    "Extend",
    about="Makes a picture larger and fills its border: with words by a model, without words by "
    "the eraser.",
)


def load_blocks() -> list[type[WorkflowBlock]]:
    """What the execution engine asks a plugin for."""
    return [
        Flex2InpaintingBlock,
        SD2InpaintingBlock,
        SDXLInpaintingBlock,
        FillInpaintingBlock,
        KontextEditBlock,
        KleinEditBlock,
        QwenEditBlock,
        EraseBlock,
        ExtendBlock,
    ]
