"""What a mask file means: which of its pixels are repainted.

People draw masks in three ways: white on black; by erasing a picture, so that what is transparent
is repainted (OpenAI's convention); and with paint of any colour on an empty or black layer. A file
is taken for what it evidently is. A reading that is not obvious is reported, and a file that could
be either is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from overpaint.core.errors import InvalidMask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from overpaint.core.parts import MaskReading

NOTE = "reading"
"""Key of a mask's `info` under which it says how it was read."""

HALF = 128
SATURATED = 64
"""Difference of the channels from which a pixel is coloured."""

FAINT = 8
"""Values up to this beside black, or beside white, count as black or white."""

ONE_COLOUR = 16
"""Deviation of the channels up to which pixels are paint of one colour."""

NOISE = 16
"""How far JPEG moves black and white."""

_SOME = 0.001
_MOST = 0.95


class ReadMask(NamedTuple):
    """A mask, and a sentence if its reading was not obvious.

    Attributes:
        mask: 'L', 255 = repaint.
        note: how it was read; None = in the obvious way.
    """

    mask: Image.Image
    note: str | None = None


def read(
    colours: Image.Image,
    alpha: Image.Image | None,
    reading: MaskReading | None = None,
    *,
    is_lossy: bool = False,
    field: str = "mask",
) -> ReadMask:
    """The mask that colours and transparency show.

    Args:
        colours: 'L' or 'RGB'.
        alpha: 'L', 255 = opaque; None = there is no transparency.
        reading: how to read it; None = as what it evidently is.
        is_lossy: values near 0 and 255 are noise of the file's compression.
        field: name of the field in errors.

    Raises:
        InvalidMask: it could mean two things, or has no transparency where that is asked for.
    """
    if reading == "alpha":
        if alpha is None:
            raise InvalidMask(
                "it has no transparency that could say what to repaint; with mask_is=white, its "
                "white part is repainted",
                field=field,
            )
        return ReadMask(_inverted(alpha))
    if reading == "openai":
        if alpha is not None and _extrema(alpha)[0] < HALF:
            return ReadMask(_inverted(alpha))
        alpha = None
    grey = colours.convert("L")
    if is_lossy:
        grey = grey.point(_without_noise)
    if reading == "white":
        return _levels(grey)
    if alpha is not None and _is_cut(alpha):
        if reading == "paint":
            return ReadMask(alpha)
        return _of_transparency(colours, alpha, field)
    if reading == "paint":
        return ReadMask(_unlike_ground(colours))
    if colours.mode != "L" and (paint := _of_paint(colours, field)) is not None:
        return paint
    return _levels(grey)


def _of_transparency(colours: Image.Image, alpha: Image.Image, field: str) -> ReadMask:
    """A file with a transparent and an opaque part."""
    opaque = np.asarray(alpha) >= HALF
    shades = np.asarray(colours.convert("L"))[opaque]
    white, black = (shades >= 255 - FAINT).mean(), (shades <= FAINT).mean()
    if min(white, black) > _SOME and white + black > _MOST:
        raise InvalidMask(
            "its transparency and its black and white mark different areas; "
            + _way_out(field, "alpha (transparent is repainted) or white"),
            field=field,
        )
    paint = np.asarray(colours.convert("RGB"))[opaque]
    if _border(opaque).mean() < 0.5 and paint.std(axis=0).max() < ONE_COLOUR:
        return ReadMask(
            alpha, "it was read as paint on an empty layer: the opaque part is repainted"
        )
    note = "the transparent part is repainted" if white > _MOST else None
    return ReadMask(_inverted(alpha), note)


def _of_paint(colours: Image.Image, field: str) -> ReadMask | None:
    """Coloured paint on one ground; None = it is something else."""
    channels = np.asarray(colours.convert("RGB")).astype(np.int16)
    coloured = np.ptp(channels, axis=2) > SATURATED
    ground = channels.max(axis=2)[~coloured]
    if coloured.mean() <= _SOME or not ground.size:
        return None
    if (ground < NOISE).mean() > _MOST:
        note = "it was read as paint on black: everything painted, in any colour, is repainted"
        return ReadMask(_unlike_ground(colours), note)
    if (ground > 255 - NOISE).mean() > _MOST:
        raise InvalidMask(
            "it is colour on white; "
            + _way_out(field, "paint (what is painted is repainted) or white (what is white)"),
            field=field,
        )
    return None


def _way_out(field: str, readings: str) -> str:
    if field != "mask":
        return "make it white on black"
    return f"say with mask_is how it is read: {readings}"


def _without_noise(value: int) -> int:
    """Lossy compression turns 0 and 255 into values near them."""
    if value < NOISE:
        return 0
    return 255 if value > 255 - NOISE else value


def _levels(mask: Image.Image) -> ReadMask:
    """Brightness, in which values near black or white count as black or white."""
    low, high = _extrema(mask)
    if low == 0 and high == 1:
        return ReadMask(mask.point(lambda value: 255 * value), "its values are 0 and 1: 1 is white")
    if 0 < low <= FAINT < high:
        levels = [max(0, round((value - low) * 255 / (255 - low))) for value in range(256)]
        return ReadMask(
            mask.point(levels), f"its darkest value is {low} of 255 and counts as black"
        )
    if high < 255 - FAINT and high > low:
        return ReadMask(
            mask, f"it never reaches white: at most {high / 255:.0%} of the edit is blended in"
        )
    if low > FAINT and high > low:
        return ReadMask(
            mask, f"it never reaches black: all of the picture is repainted to {low / 255:.0%}"
        )
    return ReadMask(mask)


def _is_cut(alpha: Image.Image) -> bool:
    """Whether a part is transparent and another one opaque; a stray value is neither."""
    low, high = _extrema(alpha)
    return low < HALF <= high


def _extrema(image: Image.Image) -> tuple[int, int]:
    """The least and the largest value of an 'L' image."""
    values = np.asarray(image)
    return int(values.min()), int(values.max())


def _border(values: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def _inverted(alpha: Image.Image) -> Image.Image:
    return alpha.point(lambda value: 255 - value)


def _unlike_ground(colours: Image.Image) -> Image.Image:
    """How far each pixel is from the ground, which most of the border shows; 255 = the farthest."""
    channels = np.asarray(colours.convert("RGB")).astype(np.int32)
    ground = np.median(_border(channels), axis=0).astype(np.int32)
    difference = np.abs(channels - ground).max(axis=2)
    difference[difference < NOISE] = 0
    farthest = max(1, int(difference.max()))
    return Image.fromarray((difference * 255 // farthest).astype(np.uint8))
