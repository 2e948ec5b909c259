"""Erase: removes what the mask covers. No weights, no prompt, no denoising steps.

The hole is filled with texture from the rest of the picture (`families/exemplar`); a seed gives
another filling of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from overpaint.core import geometry, masks
from overpaint.core.geometry import Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion.family import Accepts, Family, FamilyOptions, Prepared
from overpaint.families import conditions

if TYPE_CHECKING:
    import torch

MIN_CONTEXT = 64
"""Pixels around the mask, at least, that can be copied from."""

ANY_SIZE = 2**40
"""Pixels of a canvas: the filler scales large holes down by itself, so nothing is limited here."""


class EraseOptions(FamilyOptions):
    """Options of the eraser."""

    feather: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Pixels inside the mask's edge over which the fill is blended into the "
        "original; 0, so that nothing of the erased object shines through.",
    )
    context: float = Field(
        default=1.0,
        ge=0.0,
        le=8.0,
        description="Margin around the mask that can be copied from, as a fraction of the mask's "
        "longer side.",
    )


@dataclass(kw_only=True)
class Erased(Prepared):
    """A finished picture of the plan's canvas."""

    picture: Image.Image


class Erase(Family):
    """The family `erase`."""

    name: ClassVar[str] = "erase"
    Options: ClassVar[type[FamilyOptions]] = EraseOptions
    accepts: ClassVar[Accepts] = Accepts(
        prompt="refused", mask="required", negative_prompt="refused"
    )

    def plan(self, request: EditRequest, options: EraseOptions) -> Plan:
        size = conditions.asked_size(options, 1)
        if size is not None:
            return geometry.stretched(request.image.size, size)
        if options.window == "full":
            return geometry.full(request.image.size, step=1, native=1, max_pixels=ANY_SIZE)
        return geometry.around(
            request.image.size,
            masks.bbox(conditions.grown_mask(request, options)),
            step=1,
            native=1,
            context=options.context,
            min_context_px=MIN_CONTEXT,
            max_pixels=ANY_SIZE,
        )

    def prepare(
        self, request: EditRequest, plan: Plan, options: EraseOptions, seeds: Sequence[int]
    ) -> tuple[list[Erased], list[str]]:
        # Compiled code takes a moment to load, and only this family needs it.
        from overpaint.families import exemplar

        pixels = np.array(plan.to_canvas(request.image.to_srgb()))
        hole = np.array(conditions.canvas_mask(request, plan, options)) > 0
        pictures = (Image.fromarray(exemplar.fill(pixels, hole, seed=seed)) for seed in seeds)
        erased = [
            Erased(seed=seed, total=0, picture=picture)
            for seed, picture in zip(seeds, pictures, strict=True)
        ]
        return erased, []

    def predict(self, batch: Sequence[Any]) -> torch.Tensor:
        raise AssertionError("erased pictures have no steps to predict")

    def decode(self, prepared: Erased) -> Image.Image:
        return prepared.picture


FAMILY = Erase
