"""The edit that is computed where the picture grows: on the larger canvas, with a mask of it.

Families that repaint under a mask do not see what is in the border. Those that follow instructions
do, and they keep much of what they see: edges that go on as streaks stay streaks. So they are shown
the border as the eraser continues the picture, small, which keeps stripes and gradients
(docs/extend.md has the figures).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from PIL import Image

from overpaint.core.errors import InvalidRequest, UnsupportedOption
from overpaint.core.imaging import borders, masks
from overpaint.core.imaging.images import Picture
from overpaint.core.types import PARTS, EditRequest
from overpaint.diffusion.denoise import denoise
from overpaint.diffusion.family import Family, FamilySpec
from overpaint.diffusion.options import FamilyOptions

SEEN_PIXELS = 2**17
"""Of the copy on which the eraser continues a picture for a model to see: shapes and colours."""


def check(family: FamilySpec, request: EditRequest, options: FamilyOptions) -> None:
    """Refuse what cannot be done to a picture that grows.

    Raises:
        InvalidRequest: of `extend`, or of an option that says otherwise.
    """
    if request.extend is None:
        return
    # The limits of a picture were checked where it was read.
    borders.parse(request.extend, request.image.size, most_pixels=borders.LONGEST_SIDE**2)
    if request.extend.is_own:
        borders.own_border(request.image)
    if family.need("mask") == "refused":
        raise InvalidRequest(
            f"{family.name} takes no mask, so it cannot fill a border; use another model",
            field="extend",
        )
    if family.need("prompt") == "required" and not request.prompt.strip():
        raise InvalidRequest(
            "is empty; say what the border shows, or name no model: the eraser needs no words",
            field="prompt",
        )
    width, height = request.size
    for name, side in (("width", width), ("height", height)):
        if getattr(options, name) not in (None, side):
            raise UnsupportedOption(
                f"the picture grows to {width}x{height}; leave height and width out",
                field=f"options.{name}",
            )
    if options.grow < 0:
        raise UnsupportedOption(
            f"{options.grow} would leave a part of the border empty; give 0 or more",
            field="options.grow",
        )


def of(request: EditRequest) -> EditRequest:
    """The same edit with its picture and masks on the larger canvas, its border in the mask.

    Raises:
        InvalidRequest: the picture has no border of its own, where it should.
    """
    if request.extend is None:
        return request
    picture, border = borders.canvas(request.image, request.extend)
    parts = {part.name: getattr(request, part.name) for part in PARTS if part.kind == "mask"}
    placed: dict[str, Any] = {
        name: borders.pad_mask(mask, request.extend)
        for name, mask in parts.items()
        if mask is not None
    }
    if "mask" in placed:
        border = masks.combine([border, placed["mask"]])
    placed["mask"] = border
    return replace(request, image=picture, **placed)


def is_seen(family: FamilySpec, options: FamilyOptions) -> bool:
    """Whether a model sees what is in the border: as a reference, or as where it starts from."""
    return family.need("mask") == "optional" or getattr(options, "strength", 1.0) < 1


def continued(request: EditRequest, computed: EditRequest, eraser: Family[Any, Any]) -> EditRequest:
    """The edit on its larger canvas with the border as an eraser fills it, for a model to see.

    Args:
        request: as it is asked for.
        computed: the same, from `of`.
        eraser: fills the border.
    """
    assert request.extend is not None
    border = borders.mask_of(request.image, request.extend)
    whole = computed.image.to_srgb()
    scale = min(1.0, math.sqrt(SEEN_PIXELS / (whole.width * whole.height)))
    size = max(1, round(whole.width * scale)), max(1, round(whole.height * scale))
    small = border.resize(size, Image.Resampling.BOX).point(lambda value: 255 if value else 0)
    if small.getextrema()[0] == 255:
        return computed  # nothing is left of the picture at this size
    task = EditRequest(image=Picture(whole.resize(size, Image.Resampling.BOX)), mask=small)
    filled = _filled(eraser, task).resize(whole.size, Image.Resampling.BICUBIC)
    return replace(computed, image=Picture(Image.composite(filled, whole, border)))


def _filled(eraser: Family[Any, Any], request: EditRequest) -> Image.Image:
    """'RGB' of the picture's size."""
    options = eraser.spec.options()
    plan = eraser.plan(request, options)
    images, _ = eraser.prepare(request, plan, options, [0])
    denoise(eraser, images)
    patch = plan.from_canvas(eraser.decode(images[0]))
    return plan.paste(request.image.rgb, patch)
