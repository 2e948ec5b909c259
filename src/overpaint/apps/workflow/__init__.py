"""Blocks for Roboflow's workflows: `WORKFLOWS_PLUGINS=overpaint.apps.workflow`.

Written against `inference` 0.59 and later, which only this package imports. docs/workflows.md
shows the blocks at work.
"""

from __future__ import annotations

from inference.core.workflows.prototypes.block import WorkflowBlock

from overpaint.apps.workflow.block import block
from overpaint.apps.workflow.fields import (
    AREA,
    CHOICE,
    CONTROL,
    IMAGE,
    INSTRUCTION,
    KEEP_SIZE,
    PROMPT,
    REFERENCES,
    SEGMENTATION,
    SOURCES,
    WORDS,
    options,
    sides,
)
from overpaint.families.erase.options import EraseOptions
from overpaint.families.flux1.options import Flex2Options, KontextOptions
from overpaint.families.sd.options import SD2Options

Flex2InpaintingBlock = block(
    "flex2_inpainting",
    "Flex2 Inpainting",
    about="Repaints what a model found in a picture, from a prompt, with Flex.2.",
    family="flex2",
    task="inpaint",
    licence="Apache-2.0",
    fields={
        "image": IMAGE,
        "segmentation_mask": SEGMENTATION,
        "prompt": PROMPT,
        **WORDS,
        **sides(1024, 16),
        "control_image": CONTROL,
        **CHOICE,
        "keep_input_size": KEEP_SIZE,
    },
    options=options(
        Flex2Options,
        "control_strength",
        "control_stop",
        "num_inference_steps",
        "guidance_scale",
        "grow",
        "feather",
    ),
)

SD2InpaintingBlock = block(
    "sd2_inpainting",
    "SD2 Inpainting",
    about="Repaints what a model found in a picture, from a prompt, with Stable Diffusion 2.",
    family="sd2",
    task="inpaint",
    licence="CreativeML Open RAIL++-M",
    fields={
        "image": IMAGE,
        "segmentation_mask": SEGMENTATION,
        "prompt": PROMPT,
        **WORDS,
        **sides(None, 8),
        **CHOICE,
        "keep_input_size": KEEP_SIZE,
    },
    options=options(
        SD2Options, "num_inference_steps", "guidance_scale", "strength", "grow", "feather"
    ),
)

KontextEditBlock = block(
    "kontext_edit",
    "Kontext Edit",
    about="Changes a picture as an instruction says, with FLUX.1 Kontext; a mask limits where.",
    family="kontext",
    task="edit",
    licence="FLUX.1 [dev] Non-Commercial License",
    fields={
        "image": IMAGE,
        "prompt": INSTRUCTION,
        "segmentation_mask": AREA,
        **WORDS,
        **sides(None, 16),
        "reference_images": REFERENCES,
        **CHOICE,
        "keep_input_size": KEEP_SIZE,
    },
    options=options(KontextOptions, "num_inference_steps", "guidance_scale", "grow", "feather"),
)

EraseBlock = block(
    "erase",
    "Erase",
    about="Removes what a model found in a picture; no weights, no words.",
    family="erase",
    task="erase",
    licence="Apache-2.0",
    fields={
        "image": IMAGE,
        "segmentation_mask": SEGMENTATION,
        "seed": WORDS["seed"],
        **SOURCES,
        **CHOICE,
    },
    options=options(EraseOptions, "shadow", "grow", "feather"),
)


def load_blocks() -> list[type[WorkflowBlock]]:
    """What the execution engine asks a plugin for."""
    return [Flex2InpaintingBlock, SD2InpaintingBlock, KontextEditBlock, EraseBlock]
