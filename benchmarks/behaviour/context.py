"""What the window's context does to an edit: adherence and seam beside the work it takes.

Each task's scene is the middle of a picture three times as wide, continued by its mirror images, so
that a mask is as small a part of its picture as it often is in a photo.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from PIL import Image

import overpaint
from benchmarks.behaviour import measures, painters
from benchmarks.behaviour.painters import SEED, SIZE
from benchmarks.behaviour.presets import seam
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from training.world.inpaint import InpaintTask
from training.world.render import render

Row = dict[str, Any]

SETTINGS: dict[str, dict[str, Any]] = {
    "0 (32 pixels)": {"context": 0.0},
    "0.5, the default": {"context": 0.5},
    "1": {"context": 1.0},
    "1.5": {"context": 1.5},
    "the whole picture": {"window": "full"},
}


def rows(engine: overpaint.Engine, count: int) -> list[Row]:
    """One row per context, of a mask family with true guidance."""
    tasks = measures.draw_tasks(count)
    middle = slice(SIZE, 2 * SIZE)
    found = []
    for name, options in SETTINGS.items():
        request = partial(_request, options)
        wide = painters.painter(engine, request)(tasks)
        pictures = [picture[middle, middle] for picture in wide]
        seams = [seam(picture, task) for picture, task in zip(pictures, tasks, strict=True)]
        plans = [engine.begin(request(*each)).regions[0].plan for each in enumerate(tasks)]
        shares = [plan.window.area / (plan.size[0] * plan.size[1]) for plan in plans]
        found.append(
            {
                "context": name,
                "of the picture computed": f"{100 * np.median(shares):.0f} %",
                **measures.judged(pictures, tasks),
                "seam": f"{np.mean(seams):.1f}",
            }
        )
    return found


def _request(options: dict[str, Any], index: int, task: InpaintTask) -> EditRequest:
    scene = np.pad(render(task.before, SIZE), ((SIZE, SIZE), (SIZE, SIZE), (0, 0)), "reflect")
    return EditRequest(
        image=Picture.from_array(scene),
        prompt=task.prompt,
        mask=Image.fromarray(np.pad(np.uint8(255) * task.mask.astype(np.uint8), SIZE)),
        negative_prompt="",
        seed=SEED + index,
        options={"num_inference_steps": measures.STEPS, **options},
    )
