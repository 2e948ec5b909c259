"""Blocks for Roboflow's workflows: `WORKFLOWS_PLUGINS=overpaint.apps.workflow`.

Written against `inference` 0.59 and later, which only this package imports. docs/workflows.md
shows the blocks at work.
"""

from __future__ import annotations

from inference.core.workflows.prototypes.block import WorkflowBlock

from overpaint.apps.workflow.block import block, block_of_words, extension_block
from overpaint.apps.workflow.fields import sides
from overpaint.families.erase import ERASE_FAMILY
from overpaint.families.flux1 import FILL_FAMILY, FLEX2_FAMILY, KONTEXT_FAMILY
from overpaint.families.flux2 import KLEIN_FAMILY
from overpaint.families.qwen import QWEN_EDIT_FAMILY
from overpaint.families.sd import SD2_FAMILY, SDXL_FAMILY

_FLEX2 = ("control_strength", "control_stop", "num_inference_steps", "guidance_scale")
_KONTEXT = ("num_inference_steps", "guidance_scale")
_QWEN = ("num_inference_steps", "true_cfg_scale", "strength")

Flex2InpaintingBlock = block_of_words(
    "Flex2", "Flex.2", "inpaint", FLEX2_FAMILY, sides(1024, 16), _FLEX2
)
SD2InpaintingBlock = block_of_words(
    "SD2", "Stable Diffusion 2", "inpaint", SD2_FAMILY, sides(None, 8)
)
SDXLInpaintingBlock = block_of_words("SDXL", "SDXL", "inpaint", SDXL_FAMILY, sides(None, 8))
FillInpaintingBlock = block_of_words("Fill", "FLUX.1 Fill", "inpaint", FILL_FAMILY, sides(None, 16))
KontextEditBlock = block_of_words(
    "Kontext", "FLUX.1 Kontext", "edit", KONTEXT_FAMILY, sides(None, 16), _KONTEXT
)
KleinEditBlock = block_of_words("Klein", "FLUX.2 klein", "edit", KLEIN_FAMILY, sides(None, 16))
QwenEditBlock = block_of_words(
    "Qwen", "Qwen-Image-Edit", "edit", QWEN_EDIT_FAMILY, sides(None, 16), _QWEN
)

EraseBlock = block(
    "Erase",
    about="Removes what a model detected in a picture; no weights, no words.",
    spec=ERASE_FAMILY,
    task="erase",
    options=["shadow"],
)
ExtendBlock = extension_block(
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
