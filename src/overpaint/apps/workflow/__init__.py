"""Blocks for Roboflow's workflows: `WORKFLOWS_PLUGINS=overpaint.apps.workflow`.

Written against `inference` 0.59 and later, which only this package imports. docs/workflows.md
shows the blocks at work.
"""

from __future__ import annotations

from inference.core.workflows.prototypes.block import WorkflowBlock

from overpaint.apps.workflow.block import block, extension_block, inpainting, instruction
from overpaint.apps.workflow.fields import sides
from overpaint.families.erase import ERASE_FAMILY
from overpaint.families.flux1 import FILL_FAMILY, FLEX2_FAMILY, KONTEXT_FAMILY
from overpaint.families.flux2 import KLEIN_FAMILY
from overpaint.families.qwen import QWEN_EDIT_FAMILY
from overpaint.families.sd import SD2_FAMILY, SDXL_FAMILY

_FLEX2 = ("control_strength", "control_stop", "num_inference_steps", "guidance_scale")
_KONTEXT = ("num_inference_steps", "guidance_scale")
_QWEN = ("num_inference_steps", "true_cfg_scale", "strength")

Flex2InpaintingBlock = inpainting("Flex2", "Flex.2", FLEX2_FAMILY, sides(1024, 16), _FLEX2)
SD2InpaintingBlock = inpainting("SD2", "Stable Diffusion 2", SD2_FAMILY, sides(None, 8))
SDXLInpaintingBlock = inpainting("SDXL", "SDXL", SDXL_FAMILY, sides(None, 8))
FillInpaintingBlock = inpainting("Fill", "FLUX.1 Fill", FILL_FAMILY, sides(None, 16))

KontextEditBlock = instruction(
    "Kontext", "FLUX.1 Kontext", KONTEXT_FAMILY, sides(None, 16), _KONTEXT
)
KleinEditBlock = instruction("Klein", "FLUX.2 klein", KLEIN_FAMILY, sides(None, 16))
QwenEditBlock = instruction("Qwen", "Qwen-Image-Edit", QWEN_EDIT_FAMILY, sides(None, 16), _QWEN)

EraseBlock = block(
    "Erase",
    about="Removes what a model detected in a picture; no weights, no words.",
    spec=ERASE_FAMILY,
    task="erase",
    options=["shadow"],
)
ExtendBlock = extension_block(
    "Extend",
    about="Lets a picture grow and fills its border: by words with a model, or without words.",
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
