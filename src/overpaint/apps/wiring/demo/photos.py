"""The photos and the scene of the demo, with things in them to erase.

The rocket is a photo by SpaceX and the coffee one by Rachel Michetti, both given to the public; the
cat is Chelsea, by Stéfan van der Walt (CC0). All three come from scikit-image's collection.
"""

from __future__ import annotations

import io
from importlib.resources import files

from PIL import Image, ImageDraw, ImageFont

MAST = ((440, 116), (455, 116), (478, 400), (425, 400))
"""Outline (x, y) of the mast to the right of the rocket."""

CAPTION = "SAMPLE 2026"
CAPTION_SIZE = 34
"""Height of the caption's letters, pixels."""

OUTLINE = 3
"""Pixels around the letters that the mask takes as well: their soft edges."""

CROP = (300, 200)

Pair = tuple[Image.Image, Image.Image]
"""A picture and its mask: white is repainted."""


def photo(name: str) -> Image.Image:
    """A bundled photo: 'rocket', 'cat' or 'coffee', RGB."""
    return _open_photo(f"apps/wiring/demo/photos/{name}.jpg").convert("RGB")


def scene(name: str) -> Image.Image:
    """A picture of the twins' world: 'scene', its 'mask', or 'control'."""
    return _open_photo(f"twins/scene/{name}.png")


def mast() -> Pair:
    """The rocket, and the mask of the mast beside it."""
    picture = photo("rocket")
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).polygon(MAST, fill=255)
    return picture, mask


def captioned(picture: Image.Image, at: tuple[int, int]) -> Pair:
    """The picture with a caption written across it, and the mask of the caption.

    Args:
        picture: RGB.
        at: (x, y) of the caption's upper left corner.
    """
    font = ImageFont.load_default(CAPTION_SIZE)
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).text(at, CAPTION, fill=255, font=font, stroke_width=OUTLINE)
    picture = picture.copy()
    ImageDraw.Draw(picture).text(at, CAPTION, fill="white", font=font)
    return picture, mask


def captioned_crops() -> list[Pair]:
    """Eight parts of the photos, 300 x 200, each with a caption somewhere else."""
    corners = {
        "cat": ((0, 0), (150, 0), (0, 100), (150, 100)),
        "coffee": ((0, 200), (300, 200)),
        "rocket": ((20, 20), (320, 20)),
    }
    crops = [
        photo(name).crop((x, y, x + CROP[0], y + CROP[1]))
        for name, places in corners.items()
        for x, y in places
    ]
    return [
        captioned(crop, (20 + 7 * number, 20 + 16 * number)) for number, crop in enumerate(crops)
    ]


def _open_photo(path: str) -> Image.Image:
    data = files("overpaint").joinpath(path).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.copy()
