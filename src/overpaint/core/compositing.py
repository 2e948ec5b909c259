"""Putting an edit back into the picture that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from overpaint.core.geometry import Box, Plan, stretched

if TYPE_CHECKING:
    from overpaint.core.imaging.images import Picture

UNSEEN = 2
"""Levels of 255 by which a pixel may differ and nobody sees it."""


def composite(
    picture: Picture,
    plan: Plan,
    edited: Image.Image,
    alpha: Image.Image,
    *,
    in_srgb: bool = True,
    crops: bool = False,
    spares: bool = False,
) -> Picture:
    """Blend what the model made into the picture, inside the plan's window only.

    The blending happens in the picture's own colour space, on its own pixels: where `alpha` is 0
    every byte is the original's, where it is 255 every byte is the edit's. Transparency, ICC
    profile and EXIF are kept.

    Args:
        picture: the original.
        plan: how its window went to the canvas. If the plan's output has another size (stretched
            plans), picture and `alpha` are resized to it first.
        edited: 'RGB' of `plan.canvas`.
        alpha: 'L' of the picture's size, 255 = the edit, 0 = the original.
        in_srgb: `edited` is in sRGB; else in the picture's own space.
        crops: resample only the part that `alpha` shows; see `Plan.from_canvas`.
        spares: leave the original's bytes where the blended ones differ by `UNSEEN` at most.

    Returns:
        A picture of `plan.output`.

    Raises:
        ValueError: `picture`, `edited` or `alpha` is not of the size that the plan says.
    """
    if not picture.size == alpha.size == plan.size:
        raise ValueError(
            f"The picture has the size {picture.size}, the alpha {alpha.size}, "
            f"the plan {plan.size}."
        )
    if plan.output != plan.size:
        picture = picture.resized(plan.output)
        alpha = alpha.resize(plan.output, Image.Resampling.LANCZOS)
        plan = stretched(plan.output, plan.canvas)
    part = plan.window
    if crops and not plan.is_exact:
        inside = alpha.crop(part.as_tuple()).getbbox()
        if inside is None:
            return picture
        left, top = part.left, part.top
        part = Box(left + inside[0], top + inside[1], left + inside[2], top + inside[3])
    patch = plan.from_canvas(edited, part=part)
    alpha = alpha.crop(part.as_tuple())
    if spares:
        own = picture.to_srgb() if in_srgb else picture.own_image().convert("RGB")
        alpha = ImageChops.darker(alpha, _visible_change(own.crop(part.as_tuple()), patch, alpha))
    return picture.blended(patch, alpha, part, in_srgb=in_srgb)


def _visible_change(before: Image.Image, patch: Image.Image, alpha: Image.Image) -> Image.Image:
    """'L', 255 where blending makes a difference that may be seen, else 0."""
    red, green, blue = ImageChops.difference(before, patch).split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    blended = ImageChops.multiply(most, alpha)
    return blended.point(lambda level: 255 if level > UNSEEN else 0)
