"""The edit that is computed where the picture grows: on the larger canvas, with a mask of it."""

from __future__ import annotations

from dataclasses import replace

from overpaint.core.errors import InvalidRequest, UnsupportedOption
from overpaint.core.imaging import borders, masks
from overpaint.core.types import PARTS, EditRequest
from overpaint.diffusion.family import FamilySpec
from overpaint.diffusion.options import FamilyOptions


def check(family: FamilySpec, request: EditRequest, options: FamilyOptions) -> None:
    """Refuse what cannot be done to a picture that grows.

    Raises:
        InvalidRequest: of `extend`, or of an option that says otherwise.
    """
    if request.extend is None:
        return
    borders.parse(request.extend, request.image.size)
    if request.extend.is_own:
        borders.own_border(request.image)
    if family.need("mask") == "refused":
        raise InvalidRequest(
            f"{family.name} takes no mask, so it cannot fill a border; use another model",
            field="extend",
        )
    if family.need("prompt") == "required" and not request.prompt.strip():
        raise InvalidRequest(
            "is empty; say what the border shows, or leave the model out: the eraser needs no "
            "words",
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
    placed = {
        name: borders.moved(mask, request.extend)
        for name, mask in parts.items()
        if mask is not None
    }
    if "mask" in placed:
        border = masks.combine([border, placed["mask"]])
    return replace(request, image=picture, **{**placed, "mask": border})
