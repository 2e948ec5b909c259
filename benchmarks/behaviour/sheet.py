"""Contact sheets one can look at: before, mask, after, and the words."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.behaviour.painters import SIZE, Pixels
from training.world.render import render

MARGIN = 4
CAPTION = 26
PER_ROW = 3


def cells(tasks: Sequence[Any], pictures: Sequence[Pixels]) -> list[tuple[str, Image.Image]]:
    """(words, before | mask | after) of each task."""
    made = []
    for task, picture in zip(tasks, pictures, strict=True):
        parts = [render(task.before, SIZE)]
        mask = getattr(task, "mask", None)
        if mask is not None:
            parts.append(np.repeat(np.uint8(255) * mask[..., None].astype(np.uint8), 3, axis=2))
        strip = np.concatenate([*parts, picture], axis=1)
        words = task.prompt if mask is not None else f"{task.kind}: {task.instruction}"
        made.append((words, Image.fromarray(strip)))
    return made


def write_png(path: Path, made: Sequence[tuple[str, Image.Image]]) -> None:
    """All cells as one picture."""
    width = max(cell.width for _, cell in made) + 2 * MARGIN
    height = SIZE + CAPTION + 2 * MARGIN
    rows = -(-len(made) // PER_ROW)
    page = Image.new("RGB", (PER_ROW * width, rows * height), "white")
    draw = ImageDraw.Draw(page)
    for index, (words, cell) in enumerate(made):
        left, top = (index % PER_ROW) * width + MARGIN, (index // PER_ROW) * height + MARGIN
        draw.text((left, top), words, fill="black")
        page.paste(cell, (left, top + CAPTION - 2 * MARGIN))
    page.save(path)


def write_html(path: Path, title: str, made: Sequence[tuple[str, Image.Image]]) -> None:
    """All cells as a page that needs no other file."""
    figures = "\n".join(
        f"<figure><img alt='{html.escape(words)}' src='{_data_uri(cell)}'>"
        f"<figcaption>{html.escape(words)}</figcaption></figure>"
        for words, cell in made
    )
    path.write_text(
        f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<style>body{font:14px sans-serif}figure{display:inline-block;margin:6px}"
        f"</style><h1>{html.escape(title)}</h1>\n{figures}\n",
        encoding="utf-8",
    )


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
