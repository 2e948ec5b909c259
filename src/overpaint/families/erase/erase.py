"""Erase: removes what the mask covers. No weights, no prompt.

The hole is filled with texture from the rest of the picture (`families/erase/exemplar`), a round of
which is a step; a seed gives another filling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from overpaint.core import geometry
from overpaint.core.errors import UnsupportedOption
from overpaint.core.geometry import Box, Plan
from overpaint.core.imaging import masks
from overpaint.core.types import EditRequest
from overpaint.diffusion import conditions
from overpaint.diffusion.family import Family, Prepared
from overpaint.families.erase.options import EraseOptions

if TYPE_CHECKING:
    from overpaint.families.erase.exemplar import Filling

HoleMask = NDArray[np.bool_]

MIN_CONTEXT = 64
"""Pixels around the mask, at least, that can be copied from."""

SHADOW_CONTEXT = 2.5
"""Margin, in longer sides of the mask, within which a thing's shadow lies and is told from its
surroundings."""

WHITE = 128
"""Where masks of what may be copied count as white; they know no shades."""

LARGE_SHARE = 0.3
"""Share of the picture; above it, the rest seldom shows what was behind."""

ANY_SIZE = 2**40
"""Pixels of a canvas: the filler scales large holes down by itself, so nothing is limited here."""


@dataclass(kw_only=True)
class Erased(Prepared):
    """A filling of the plan's canvas, under way.

    Attributes:
        filling: the work.
        shadow: (H, W) of the canvas, what is erased beside the mask; None = nothing.
    """

    filling: Filling
    shadow: HoleMask | None
    is_even: bool = False  # rounds on fine layers take longest


class Erase(Family[EraseOptions, Erased]):
    """The family `erase`."""

    def plan(self, request: EditRequest, options: EraseOptions) -> Plan:
        size = conditions.asked_size(options, 1)
        if size is not None:
            return geometry.stretched(request.image.size, size)
        whole = geometry.full(request.image.size, step=1, native=1, max_pixels=ANY_SIZE)
        if options.window == "full":
            return whole
        mask = conditions.grown_mask(request, options)
        plan = _around(request, masks.bbox(mask), _context(options), MIN_CONTEXT)
        if request.copy_from is not None:
            both = plan.window.union(masks.bbox(request.copy_from))
            plan = _around(request, both, 0, 0)
        if request.not_from is not None and not _copyable(mask, request.not_from, plan).any():
            return whole
        return plan

    def window(self, request: EditRequest, options: EraseOptions, box: Box) -> Plan | None:
        if request.copy_from is not None or request.not_from is not None:
            return None  # what may be copied can lie anywhere
        if options.window != "auto" or options.height is not None:
            return None
        return _around(request, box, _context(options), MIN_CONTEXT)

    def prepare(
        self, request: EditRequest, plan: Plan, options: EraseOptions, seeds: Sequence[int]
    ) -> tuple[list[Erased], list[str]]:
        # Compiled code takes a moment to load, and only this family needs it.
        from overpaint.families.erase.exemplar import Filling, grow_over_shadow

        pixels = np.array(plan.to_canvas(request.image.own_image().convert("RGB")))
        hole = np.array(conditions.canvas_mask(request, plan, options)) > 0
        copy_from = _boolean_mask(request.copy_from, plan)
        not_from = _boolean_mask(request.not_from, plan)
        shadow, warnings = None, _large(request, options)
        if options.shadow:
            _refuse_border(request)
            grown_hole = grow_over_shadow(pixels, hole)
            shadow, hole = grown_hole & ~hole, grown_hole
            if not shadow.any():
                warnings.append("shadow: no soft shadow was found beside the mask")
        erased = []
        for seed in seeds:
            filling = Filling(pixels, hole, copy_from=copy_from, not_from=not_from, seed=seed)
            erased.append(Erased(seed=seed, total=filling.rounds, filling=filling, shadow=shadow))
        return erased, warnings

    def advance(self, batch: Sequence[Erased]) -> None:
        for erased in batch:
            erased.filling.improve()
            erased.step += 1

    def decode(self, prepared: Erased) -> Image.Image:
        return Image.fromarray(prepared.filling.picture())

    def blend_mask(
        self,
        request: EditRequest,
        options: EraseOptions,
        plan: Plan,
        prepared: Erased,
        edited: Image.Image,
    ) -> Image.Image:
        mask = conditions.grown_mask(request, options)
        if prepared.shadow is not None:
            shadow = plan.from_canvas(Image.fromarray(prepared.shadow.astype(np.uint8) * 255))
            mask = ImageChops.lighter(mask, plan.paste(Image.new("L", plan.size), shadow))
        return masks.feather(mask, options.feather)


def _context(options: EraseOptions) -> float:
    return max(options.context, SHADOW_CONTEXT) if options.shadow else options.context


def _around(request: EditRequest, box: Box, context: float, least: int) -> Plan:
    return geometry.around(
        request.image.size,
        box,
        step=1,
        native=1,
        context=context,
        min_context_px=least,
        max_pixels=ANY_SIZE,
    )


def _large(request: EditRequest, options: EraseOptions) -> list[str]:
    """A warning, where the mask covers much of the picture."""
    share = float(np.mean(np.array(conditions.grown_mask(request, options)) > 0))
    if share <= LARGE_SHARE:
        return []
    if request.extend is not None:
        return [
            f"extend: {share:.0%} of the result is new. The eraser can only copy what is "
            "there, so a wide border may be a collage; add less, or use a model that paints"
        ]
    return [
        f"mask: it covers {share:.0%} of the picture. The eraser can only copy what is left, so "
        "the filling may be a collage; erase smaller parts, or use a model that paints"
    ]


def _refuse_border(request: EditRequest) -> None:
    """A border throws no shadow: what would be taken for one is a part of the picture.

    Raises:
        UnsupportedOption: the picture grows.
    """
    if request.extend is not None:
        raise UnsupportedOption(
            "a border has no shadow; leave it out, or erase and extend one after the other",
            field="options.shadow",
        )


def _copyable(hole: Image.Image, not_from: Image.Image, plan: Plan) -> HoleMask:
    window = plan.window.as_tuple()
    refused = (np.array(hole.crop(window)) > 0) | (np.array(not_from.crop(window)) >= WHITE)
    return np.logical_not(refused)


def _boolean_mask(mask: Image.Image | None, plan: Plan) -> HoleMask | None:
    """A mask on the plan's canvas as yes and no."""
    return None if mask is None else np.array(plan.to_canvas(mask, fill=0)) >= WHITE
