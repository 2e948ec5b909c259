"""A family that Overpaint does not know: networks, options and checkpoints of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from overpaint.checkpoints.component import Component, files
from overpaint.diffusion.family import FamilySpec
from overpaint.diffusion.options import DiffusionOptions, Steps


class MosaicOptions(DiffusionOptions):
    """Options of this family."""

    num_inference_steps: Steps = Field(default=6, description="Denoising steps.")
    boldness: float = Field(
        default=1.0, ge=0.0, le=4.0, description="How much the words weigh; 0 = not at all."
    )


def _tile(autoencoder: Any, side: int) -> None:
    autoencoder.tile = side


def _pixel(config: Mapping[str, Any], width: int) -> int:
    return int(3 * config["patch"] * width)


MOSAIC_FAMILY = FamilySpec(
    name="mosaic",
    implementation="mosaic_painter.family:Mosaic",
    options=MosaicOptions,
    accepts={"prompt": "required", "mask": "required", "references": "optional"},
    components={
        "scheduler": files("diffusers:FlowMatchEulerDiscreteScheduler"),
        "processor": files(
            "mosaic_painter.processing:MosaicProcessor", endings=("chat_template.jinja",)
        ),
        "words": Component(role="text encoder", classes=("mosaic_painter.networks:MosaicWords",)),
        "painter": Component(
            role="denoiser",
            classes=("mosaic_painter.networks:MosaicPainter",),
            float8=re.compile(r"layers\.\d+\.(?:attend|grow|shrink)\.weight$"),
        ),
        "tiles": Component(
            role="autoencoder",
            classes=("mosaic_painter.networks:MosaicTiles",),
            tile=_tile,
            decoding=_pixel,
            encoding=_pixel,
        ),
    },
    pipelines={"MosaicPipeline": {}},
)
