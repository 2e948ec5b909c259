"""Borders that a picture gets when it is extended: how wide they are, and the larger canvas.

A caller says what to add in pixels, in percent, or as the ratio to reach (`parse`); a `Borders` is
that in pixels. `canvas` makes the picture and the mask that are computed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image

from overpaint.core import plain_values
from overpaint.core.errors import InvalidRequest
from overpaint.core.geometry import Box, Size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from overpaint.core.imaging.images import Picture

FIELD = "extend"
LONGEST_SIDE = 65535
"""Pixels on a side of the larger picture; JPEG holds no more."""

MOST_PIXELS = 100_000_000
"""Pixels of the larger picture at most, where no other limit holds."""

LONGEST_SHOWN = 40
"""Characters of a wrong value that a message repeats."""

STEEPEST = 100
"""Times that one side may be longer than the other for a ratio that is asked for."""

Anchor = Literal[
    "center", "left", "right", "top", "bottom",
    "top-left", "top-right", "bottom-left", "bottom-right",
]  # fmt: skip
"""Where the picture stays while a ratio is reached."""

ANCHORS: tuple[str, ...] = get_args(Anchor)
SIDES = ("left", "top", "right", "bottom")

_LENGTH: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^\d+(\.\d+)?%?$", "examples": ["20%"]},
    ]
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **dict.fromkeys(SIDES, _LENGTH),
        "to": {"type": "string", "examples": ["16:9"]},
        "anchor": {"enum": list(ANCHORS), "default": "center"},
    },
    "examples": [{"right": "20%"}, {"to": "16:9", "anchor": "left"}],
}
"""JSON Schema of what `parse` takes."""

_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True)
class Borders:
    """Pixels that a picture grows by on each side; all 0 = it brings its own transparent border.

    Raises:
        InvalidRequest: one is negative, or no whole number.
    """

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        for name in SIDES:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InvalidRequest(
                    f"{value!r} is not a whole number of pixels, 0 or more", field=f"{FIELD}.{name}"
                )

    @property
    def is_own(self) -> bool:
        """Whether the border is the picture's own transparent one."""
        return not any(getattr(self, name) for name in SIDES)

    def around(self, size: Size) -> Size:
        """(width, height) of a picture of that size with its border."""
        return size[0] + self.left + self.right, size[1] + self.top + self.bottom

    def within(self, size: Size) -> Box:
        """Where a picture of that size lies in the larger one."""
        return Box(self.left, self.top, self.left + size[0], self.top + size[1])

    def as_json(self) -> dict[str, int]:
        """Plain data, without the sides that do not grow; `parse` makes the same of it."""
        return {name: value for name, value in asdict(self).items() if value}


def of_keywords(
    left: int | str = 0,
    top: int | str = 0,
    right: int | str = 0,
    bottom: int | str = 0,
    to: str | None = None,
    anchor: Anchor = "center",
) -> dict[str, Any]:
    """The value for `parse`, from the arguments of a function; empty if none of them is given."""
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    keys = {name: side for name, side in sides.items() if side != 0}
    if to is not None:
        return {**keys, "to": to, "anchor": anchor}
    return keys


def parse(value: Any, size: Size, *, most_pixels: int = MOST_PIXELS) -> Borders:
    """The borders that a caller asks for.

    Args:
        value: a mapping with `left`, `top`, `right`, `bottom` (pixels, or percent of the
            picture's side as '20%'), `to` (the ratio to reach, '16:9') and `anchor`; its JSON; or
            `Borders`. An empty one = the picture's own transparent border.
        size: (width, height) of the picture.
        most_pixels: of the larger picture.

    Raises:
        InvalidRequest: a value cannot be used, nothing grows, or the larger picture is too large.
    """
    if isinstance(value, Borders):
        borders = value
    else:
        keys = _object(value)
        borders = _reaching(_sides(keys, size), keys, size) if keys else Borders()
    _check_size(borders.around(size), size, most_pixels)
    return borders


def own_border(picture: Picture) -> Image.Image:
    """'L', 255 = transparent, and joined to the edge of the picture by what is transparent.

    Raises:
        InvalidRequest: there is none, or nothing is opaque.
    """
    import cv2

    if picture.alpha is None or picture.alpha.getextrema()[0] == 255:
        raise InvalidRequest(
            "the picture has no transparent border; say how much to add: left, right, "
            "top, bottom or to",
            field=FIELD,
        )
    clear = (np.asarray(picture.alpha) < 255).astype(np.uint8)
    count, labels = cv2.connectedComponents(clear, connectivity=8)
    at_edge = np.zeros(count, np.bool_)
    for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        at_edge[line] = True
    at_edge[0] = False  # what is opaque
    border = at_edge[labels]
    if not border.any():
        raise InvalidRequest(
            "the transparent part of the picture does not touch its edge, so it is not a "
            "border; say how much to add, or give a mask",
            field=FIELD,
        )
    if border.all():
        raise InvalidRequest(
            "the whole picture is transparent, so there is nothing to continue from", field=FIELD
        )
    return Image.fromarray(border.astype(np.uint8) * 255)


def mask_of(picture: Picture, borders: Borders) -> Image.Image:
    """'L' of the larger picture, 255 = the border.

    Raises:
        InvalidRequest: the picture has no border of its own, where it should.
    """
    if borders.is_own:
        return own_border(picture)
    border = Image.new("L", borders.around(picture.size), 255)
    border.paste(0, borders.within(picture.size).as_tuple())
    return border


def is_canvas(picture: Picture, mask: Image.Image | None) -> bool:
    """Whether a picture is a canvas whose transparent border is to be filled.

    Clients of image APIs send such canvases: nothing is around the picture, and the mask covers
    that part. Without a mask all that is not transparent has to be one rectangle; else it is a
    thing that was cut out, and its background stays transparent.

    Args:
        picture: of any kind.
        mask: 'L', 255 = repaint; None = there is none.
    """
    alpha = picture.alpha
    if alpha is None or (mask is not None and mask.size != picture.size):
        return False
    inside = alpha.getbbox()
    if inside is None or alpha.getextrema()[0] != 0:
        return False
    if mask is None:
        return inside != (0, 0, *alpha.size) and alpha.crop(inside).getextrema()[0] == 255
    try:
        border = np.asarray(own_border(picture)) > 0
    except InvalidRequest:
        return False
    return bool((np.asarray(mask)[border] == 255).all())


def canvas(picture: Picture, borders: Borders) -> tuple[Picture, Image.Image]:
    """The larger picture as a model sees it first, and its border.

    Args:
        picture: as it is.
        borders: how far it grows.

    Returns:
        The picture with each pixel of the border like the nearest one of the picture, opaque
        there, all else as it was; and 'L' of that size, 255 = the border.

    Raises:
        InvalidRequest: it has no border of its own, where it should.
    """
    border = mask_of(picture, borders)
    if borders.is_own:
        rows, columns = _nearest(np.asarray(border) > 0)
    else:
        width, height = picture.size
        columns = np.arange(-borders.left, width + borders.right).clip(0, width - 1)
        rows = np.arange(-borders.top, height + borders.bottom).clip(0, height - 1)[:, np.newaxis]

    def enlarged(values: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(values[rows, columns])

    def opaque(alpha: NDArray[Any]) -> NDArray[Any] | None:
        larger = enlarged(alpha)
        larger[np.asarray(border) > 0] = np.iinfo(alpha.dtype).max
        return None if borders.is_own and larger.min() == np.iinfo(alpha.dtype).max else larger

    alpha = None if picture.alpha is None else opaque(np.asarray(picture.alpha))
    raster = picture.raster
    if raster is not None:
        deep = None if raster.alpha is None else opaque(raster.alpha)
        raster = replace(raster, values=enlarged(raster.values), alpha=deep)
    larger = replace(
        picture,
        rgb=Image.fromarray(enlarged(np.asarray(picture.rgb))),
        alpha=None if alpha is None else Image.fromarray(alpha),
        raster=raster,
        signed=None,
        seal=None,
    )
    return larger, border


def pad_mask(mask: Image.Image, borders: Borders) -> Image.Image:
    """A mask of the picture on the larger canvas, 0 in the border."""
    larger = Image.new("L", borders.around(mask.size))
    larger.paste(mask, (borders.left, borders.top))
    return larger


def _object(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = plain_values.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("the text is not JSON", field=FIELD) from error
    if not isinstance(value, Mapping):
        raise InvalidRequest(
            f"{_excerpt(value)} is not an object; give one with {', '.join(SIDES)} or to",
            field=FIELD,
        )
    keys = (*SIDES, "to", "anchor")
    for name in value:
        if name not in keys:
            raise InvalidRequest(
                f"there is no such key; known are {', '.join(keys)}",
                field=f"{FIELD}.{str(name)[:50]}",
            )
    return {name: each for name, each in value.items() if each is not None}


def _sides(keys: Mapping[str, Any], size: Size) -> Borders:
    """The sides that are given by themselves."""
    lengths = {"left": size[0], "right": size[0], "top": size[1], "bottom": size[1]}
    return Borders(**{name: _pixels(keys.get(name, 0), lengths[name], name) for name in SIDES})


def _pixels(value: Any, length: int, name: str) -> int:
    """A side in pixels; percent are of the picture's `length`."""
    text = str(value).strip() if isinstance(value, str) else ""
    if text.endswith("%") and _NUMBER.fullmatch(text[:-1].strip()):
        return round(length * float(text[:-1]) / 100)
    if _WHOLE.fullmatch(text):
        return int(text)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise InvalidRequest(
        f"{_excerpt(value)} is neither a whole number of pixels (0 or more) nor a "
        "percentage such as '20%'",
        field=f"{FIELD}.{name}",
    )


def _reaching(sides: Borders, keys: Mapping[str, Any], size: Size) -> Borders:
    """The sides, and what they leave missing of a ratio."""
    anchor = keys.get("anchor", "center")
    if anchor not in ANCHORS:
        raise InvalidRequest(
            f"{_excerpt(anchor)} is not one of {', '.join(ANCHORS)}", field=f"{FIELD}.anchor"
        )
    if "to" not in keys:
        if sides.is_own:
            raise InvalidRequest(
                "all sides are 0; give left, right, top or bottom above 0, or to", field=FIELD
            )
        return sides
    ratio = _ratio(keys["to"])
    width, height = sides.around(size)
    wide = max(width, round(height * ratio))
    high = height if wide > width else max(height, round(width / ratio))
    if sides.is_own and (wide, high) == (width, height):
        raise InvalidRequest(
            f"the picture of {width}x{height} pixels has the ratio {keys['to']} already; give a "
            "side that grows, or another ratio",
            field=f"{FIELD}.to",
        )
    before = {"left": 0.0, "top": 0.0, "right": 1.0, "bottom": 1.0}
    across, down = 0.5, 0.5
    for word in anchor.split("-"):
        across = before[word] if word in ("left", "right") else across
        down = before[word] if word in ("top", "bottom") else down
    left, top = math.floor((wide - width) * across), math.floor((high - height) * down)
    return Borders(
        left=sides.left + left,
        top=sides.top + top,
        right=sides.right + wide - width - left,
        bottom=sides.bottom + high - height - top,
    )


def _ratio(value: Any) -> float:
    """Width over height of '16:9'."""
    parts = value.split(":") if isinstance(value, str) else []
    numbers = [float(each) for each in map(str.strip, parts) if _NUMBER.fullmatch(each)]
    if len(parts) != 2 or len(numbers) != 2 or not all(numbers):
        raise InvalidRequest(
            f"{_excerpt(value)} is not a ratio of width to height such as '16:9'",
            field=f"{FIELD}.to",
        )
    ratio = numbers[0] / numbers[1]
    if not 1 / STEEPEST <= ratio <= STEEPEST:
        raise InvalidRequest(
            f"{value} is too long; at most {STEEPEST}:1 or 1:{STEEPEST} can be reached",
            field=f"{FIELD}.to",
        )
    return ratio


def _excerpt(value: Any) -> str:
    """A value in a message, however long it is."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _check_size(larger: Size, size: Size, most_pixels: int) -> None:
    if larger == size:
        return
    width, height = larger
    if max(larger) > LONGEST_SIDE:
        raise InvalidRequest(
            f"the larger picture has {width}x{height} pixels, and a side has {LONGEST_SIDE} at "
            "most; add less",
            field=FIELD,
        )
    if width * height > most_pixels:
        raise InvalidRequest(
            f"the larger picture has {width}x{height} pixels, more than the limit of "
            f"{most_pixels / 1e6:g} megapixels; add less, or give a smaller picture",
            field=FIELD,
        )


def _nearest(border: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column (H, W) of the pixel outside of the border that is nearest to each pixel."""
    import cv2

    _, labels = cv2.distanceTransformWithLabels(
        border.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(~border)
    numbers = np.empty((2, labels.max() + 1), np.intp)
    numbers[:, labels[rows, columns]] = rows, columns
    return numbers[0][labels], numbers[1][labels]
