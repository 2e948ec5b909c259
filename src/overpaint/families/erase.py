"""Erase: removes what the mask covers. No weights, no prompt.

The hole is filled with texture from the rest of the picture (`families/exemplar`), a round of
which is a step; a seed gives another filling.
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

    from overpaint.families.exemplar import Filling

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
    """A filling of the plan's canvas, under way."""

    filling: Filling


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
        from overpaint.families.exemplar import Filling

        pixels = np.array(plan.to_canvas(request.image.to_srgb()))
        hole = np.array(conditions.canvas_mask(request, plan, options)) > 0
        erased = []
        for seed in seeds:
            filling = Filling(pixels, hole, seed=seed)
            erased.append(Erased(seed=seed, total=filling.rounds, filling=filling))
        return erased, []

    def predict(self, batch: Sequence[Any]) -> torch.Tensor:
        raise AssertionError("erased pictures are not denoised")

    def advance(self, batch: Sequence[Erased]) -> None:
        for erased in batch:
            erased.filling.improve()
            erased.step += 1

    def decode(self, prepared: Erased) -> Image.Image:
        return Image.fromarray(prepared.filling.picture())


FAMILY = Erase
