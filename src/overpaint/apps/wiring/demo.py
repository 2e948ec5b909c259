"""`overpaint demo`: every family and four turns of instructions on one scene, as a page."""

from __future__ import annotations

import base64
import html
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from overpaint.apps.wiring.models import build
from overpaint.core.files import atomic_write
from overpaint.engine.engine import Engine

SEED = 7
STEPS = 20
GUIDANCE = 3.0


@dataclass(frozen=True)
class Shown:
    """One edit of the page: its words, how long it took, and (caption, picture) pairs."""

    title: str
    words: str
    seconds: float
    pictures: tuple[tuple[str, Image.Image], ...]


def run(page: Path, on_shown: Callable[[Shown], None]) -> None:
    """Edit the bundled scene with each family and write the page.

    Args:
        page: the HTML file to write; it needs no other file.
        on_shown: called after each edit.

    Raises:
        OverpaintError: a twin is missing, or the page cannot be written.
    """
    shown = []
    for each in _edits():
        on_shown(each)
        shown.append(each)
    atomic_write(page, _html(shown).encode())


def scene(name: str) -> Image.Image:
    """A bundled picture: 'scene', or one of the masks 'mask' and 'erase', or 'control'."""
    data = (files("overpaint") / "twins" / "scene" / f"{name}.png").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.copy()


def _edits() -> Iterator[Shown]:
    words = json.loads((files("overpaint") / "twins" / "scene" / "words.json").read_text("utf-8"))
    picture, mask = scene("scene"), scene("mask")
    yield _masked(build.engine("erase"), "erase: no words, no weights", picture, scene("erase"))
    for name in ("tiny-sd2", "tiny-flex2"):
        engine = build.engine(name, dtype="float32")
        yield _masked(engine, f"{name}: mask and prompt", picture, mask, prompt=words["inpaint"])
    control = scene("control")
    yield _masked(
        engine,
        "tiny-flex2: a control picture beside the prompt",
        picture,
        mask,
        prompt=words["control"],
        control=control,
        control_strength=1.0,
        control_stop=1.0,
    )
    yield from _turns(build.engine("tiny-kontext", dtype="float32"), picture, words["turns"])


def _masked(
    engine: Engine, title: str, picture: Image.Image, mask: Image.Image, **values: Any
) -> Shown:
    if "prompt" in values:
        # True guidance, which the twins need: by default FLUX models imitate it.
        values |= {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "negative_prompt": ""}
    started = time.perf_counter()
    result = engine.edit(picture, mask=mask, seed=SEED, **values)
    seconds = time.perf_counter() - started
    pictures = [("before", picture), ("mask", mask)]
    if "control" in values:
        pictures.append(("control", values["control"]))
    pictures.append(("after", result.images[0]))
    return Shown(title, values.get("prompt", ""), seconds, tuple(pictures))


def _turns(engine: Engine, picture: Image.Image, turns: list[str]) -> Iterator[Shown]:
    for number, words in enumerate(turns, start=1):
        started = time.perf_counter()
        result = engine.edit(picture, words, seed=SEED, num_inference_steps=STEPS)
        seconds = time.perf_counter() - started
        after = result.images[0]
        title = f"tiny-kontext: an instruction, turn {number}"
        yield Shown(title, words, seconds, (("before", picture), ("after", after)))
        picture = after


def _html(shown: list[Shown]) -> str:
    sections = "\n".join(_section(each) for each in shown)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Overpaint demo</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.4 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }}
figure {{ display: inline-block; margin: 0 1rem 0 0 }}
img {{ width: 192px; image-rendering: pixelated; border: 1px solid #8888 }}
</style>
<h1>Overpaint demo</h1>
<p>The diffusion models here are twins: tiny checkpoints trained on a world of named shapes. They
show that every condition works; they know nothing of photos. Pixels outside a mask are the
input's own bytes.</p>
{sections}
</html>
"""


def _section(each: Shown) -> str:
    figures = "".join(
        f"<figure><img alt='{html.escape(caption)}' src='{_data_uri(picture)}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, picture in each.pictures
    )
    words = f"<p><q>{html.escape(each.words)}</q></p>" if each.words else ""
    title = html.escape(each.title)
    return f"<section><h2>{title} ({each.seconds:.1f} s)</h2>{words}{figures}</section>"


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
