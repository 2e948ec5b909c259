"""Erase: removes what the mask covers. No weights, no prompt, no denoising steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from PIL import Image
from pydantic import Field

from overpaint.core.geometry import Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion.family import Accepts, Family, FamilyOptions, Prepared
from overpaint.families import conditions

if TYPE_CHECKING:
    import torch

NATIVE = 512


class EraseOptions(FamilyOptions):
    """Options of the eraser."""

    feather: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Pixels inside the mask's edge over which the fill is blended into the "
        "original; 0, so that nothing of the erased object shines through.",
    )
    radius: int = Field(
        default=5, ge=1, le=64, description="Pixels around each hole pixel that are averaged."
    )


@dataclass(kw_only=True)
class Erased(Prepared):
    """A finished picture of the plan's canvas."""

    picture: Image.Image


class Erase(Family):
    """The family `erase`: fast-marching inpainting (Telea 2004, OpenCV's `INPAINT_TELEA`)."""

    name: ClassVar[str] = "erase"
    Options: ClassVar[type[FamilyOptions]] = EraseOptions
    accepts: ClassVar[Accepts] = Accepts(
        prompt="refused", mask="required", negative_prompt="refused"
    )

    def plan(self, request: EditRequest, options: EraseOptions) -> Plan:
        return conditions.plan(request, options, step=1, native=NATIVE)

    def prepare(
        self, request: EditRequest, plan: Plan, options: EraseOptions, seeds: Sequence[int]
    ) -> tuple[list[Erased], list[str]]:
        pixels = np.asarray(plan.to_canvas(request.image.to_srgb()))
        hole = np.asarray(conditions.canvas_mask(request, plan, options)) > 0
        filled = cv2.inpaint(pixels, hole.astype(np.uint8), options.radius, cv2.INPAINT_TELEA)
        picture = Image.fromarray(np.asarray(filled))
        return [Erased(seed=seed, total=0, picture=picture) for seed in seeds], []

    def predict(self, batch: Sequence[Any]) -> torch.Tensor:
        raise AssertionError("erased pictures have no steps to predict")

    def decode(self, prepared: Erased) -> Image.Image:
        return prepared.picture


FAMILY = Erase
