from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest, EditResult
from overpaint.datasets.recipes import recipe as recipe_
from overpaint.datasets.recipes.recipe import Recipe
from overpaint.datasets.worker import Tools

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 210)}


def noisy(seed: int, size: tuple[int, int] = (48, 48), level: int = 128) -> Image.Image:
    """A picture that no two seeds share and that has no issues."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 90, (8, 8, 3)) + level - 45
    return Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize(size, Image.NEAREST)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with six pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        noisy(number).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def make_recipe(tmp_path: Path) -> Callable[..., Any]:
    def make(task: str, **values: Any) -> Recipe:
        return recipe_.parse({"model": "painter", **values}, task, base=tmp_path)

    return make


class Painter:
    """Stands in for an engine: paints a disc of the colour that the prompt names.

    Args:
        fails: asked for each request; an exception is raised, True leaves the picture as it is.
    """

    def __init__(self, fails: Callable[[EditRequest], Any] = lambda _: None) -> None:
        self.requests: list[EditRequest] = []
        self._fails = fails

    def __call__(self, request: EditRequest) -> EditResult:
        self.requests.append(request)
        failed = self._fails(request)
        if isinstance(failed, Exception):
            raise failed
        picture = request.image if failed else Picture(self._painted(request))
        seed = request.seed if request.seed is not None else 0
        return EditResult(
            pictures=(picture,),
            seeds=(seed,),
            recipe={
                "model": {"name": request.model, "revision": "r1"},
                "prompt": request.prompt,
                "options": dict(request.options),
            },
            timings={"total": 0.01},
        )

    def _painted(self, request: EditRequest) -> Image.Image:
        rgb = request.image.rgb.copy()
        colour = next((COLOURS[name] for name in COLOURS if name in request.prompt), None)
        rng = np.random.default_rng(request.seed)
        if "remove" in request.prompt or colour is None:  # the middle, from the edge
            rgb.paste(rgb.getpixel((0, 0)), (12, 12, 36, 36))
            return rgb
        left, top = (int(x) for x in rng.integers(4, 20, 2))
        ImageDraw.Draw(rgb).ellipse((left, top, left + 24, top + 24), fill=colour)
        return rgb


@pytest.fixture
def painter() -> Painter:
    return Painter()


def tools(edit: Painter, **others: Any) -> Tools:
    return Tools(edit=edit, **others)
