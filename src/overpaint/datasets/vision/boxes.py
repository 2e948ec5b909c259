"""The ways in which vision models give boxes, and how a model's way is found.

Ways: `shares` of the sides from 0 to 1, `pixels` of the picture as it was sent (Qwen2.5-VL),
`xyxy1000` left, top, right, bottom in thousandths of the sides (Qwen3-VL, InternVL), `yxyx1000`
top, left, bottom, right in thousandths (Gemini).
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

Numbers = tuple[float, float, float, float]

WORDS = {
    "shares": "left, top, right, bottom, each from 0 to 1 as a share of width or height",
    "pixels": "left, top, right, bottom in pixels",
    "xyxy1000": "left, top, right, bottom in thousandths of width and height",
    "yxyx1000": "top, left, bottom, right in thousandths of height and width",
}
WORDS["auto"] = WORDS["shares"]

PROBE_SIZE = (720, 448)
PROBE_BOX = (90, 224, 270, 392)
"""Left, top, right, bottom of the red rectangle in the probe; no two ways agree on it."""

PROBE_LABEL = "a red rectangle"
_LARGEST_ERROR = 0.12
"""Mean distance of the sides, as a share, up to which a way explains the probe's box."""


def probe() -> Image.Image:
    """A picture with one thing whose place is known."""
    image = Image.new("RGB", PROBE_SIZE, (225, 225, 220))
    left, top, right, bottom = PROBE_BOX
    ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=(210, 25, 25))
    return image


def way_of_probe(box: Sequence[float], sent_size: tuple[int, int]) -> str | None:
    """The way in which a model gave the place of the probe's rectangle; None = in no known way."""
    width, height = PROBE_SIZE
    true = (
        PROBE_BOX[0] / width,
        PROBE_BOX[1] / height,
        PROBE_BOX[2] / width,
        PROBE_BOX[3] / height,
    )
    errors = {
        way: sum(abs(x - y) for x, y in zip(shares(box, way, sent_size), true, strict=True)) / 4
        for way in ("shares", "pixels", "xyxy1000", "yxyx1000")
    }
    best = min(errors, key=lambda way: errors[way])
    return best if errors[best] <= _LARGEST_ERROR else None


def shares(box: Sequence[float], way: str, sent_size: tuple[int, int]) -> Numbers:
    """Left, top, right, bottom as shares of the sides.

    Args:
        box: four numbers.
        way: see the module; not 'auto'.
        sent_size: width and height of the picture as it was sent.
    """
    first, second, third, fourth = box
    if way == "yxyx1000":
        return second / 1000, first / 1000, fourth / 1000, third / 1000
    width, height = {"shares": (1, 1), "pixels": sent_size, "xyxy1000": (1000, 1000)}[way]
    return first / width, second / height, third / width, fourth / height


def is_in_shares(boxes: Sequence[Sequence[float]]) -> bool:
    """Whether no number is above 1: a box of one pixel is none that anybody means."""
    return all(0 <= value <= 1 for box in boxes for value in box)
