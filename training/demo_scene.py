"""Renders the scene that `overpaint demo` edits into the package: python -m training.demo_scene."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from training.world.controls import control_picture
from training.world.masks import Mask
from training.world.render import Picture, render
from training.world.scene import Background, Light, Scene, Thing

FOLDER = Path(__file__).parents[1] / "src" / "overpaint" / "twins" / "scene"
SIZE = 128

SCENE = Scene(
    background=Background("sand", "plain", 0.3),
    light=Light(dx=0.25, dy=0.4, strength=0.5),
    things=(
        Thing("red", "circle", 0.27, 0.3, 0.17),
        Thing("blue", "square", 0.72, 0.62, 0.17, 0.12),
    ),
)
WORDS = {
    "inpaint": "a green triangle",
    "control": "a yellow star",
    "turns": [
        "make the red circle green",
        "add a yellow star in the top right",
        "remove the blue square",
        "darken the picture",
    ],
}


def main() -> None:
    """Write scene.png, mask.png, control.png and words.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    place = np.zeros((SIZE, SIZE), bool)
    place[70:122, 8:66] = True
    shapes = {
        "scene": render(SCENE, SIZE),
        "mask": _mask(place),
        "control": control_picture(
            Scene(SCENE.background, SCENE.light, (Thing("yellow", "star", 0.28, 0.74, 0.17),)),
            "line",
            SIZE,
        ),
    }
    for name, pixels in shapes.items():
        Image.fromarray(pixels).save(FOLDER / f"{name}.png", optimize=True)
    (FOLDER / "words.json").write_text(json.dumps(WORDS, indent=2) + "\n", encoding="utf-8")


def _mask(region: Mask) -> Picture:
    return np.uint8(255) * region.astype(np.uint8)


if __name__ == "__main__":
    main()
