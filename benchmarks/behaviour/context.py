"""What the window's context does to an edit: adherence and seam beside the work it takes.

Each task's scene is the middle of a picture three times as wide, continued by its mirror images, so
that a mask is as small a part of its picture as it often is in a photo.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

import overpaint
from benchmarks.behaviour import measures
from benchmarks.behaviour.painters import CHUNK, SEED, SIZE, Pixels
from benchmarks.behaviour.presets import seam
from overpaint.core.images import Picture
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
    found = []
    for name, options in SETTINGS.items():
        requests = [_request(task, SEED + index, options) for index, task in enumerate(tasks)]
        pictures = _painted(engine, requests)
        seams = [seam(picture, task) for picture, task in zip(pictures, tasks, strict=True)]
        found.append(
            {
                "context": name,
                "of the picture computed": f"{100 * _share(engine, requests):.0f} %",
                **measures.judged(pictures, tasks),
                "seam": f"{np.mean(seams):.1f}",
            }
        )
    return found


def _request(task: InpaintTask, seed: int, options: dict[str, Any]) -> EditRequest:
    scene = np.pad(render(task.before, SIZE), ((SIZE, SIZE), (SIZE, SIZE), (0, 0)), "reflect")
    return EditRequest(
        image=Picture.from_array(scene),
        prompt=task.prompt,
        mask=Image.fromarray(np.pad(np.uint8(255) * task.mask.astype(np.uint8), SIZE)),
        negative_prompt="",
        seed=seed,
        options={"num_inference_steps": measures.STEPS, **options},
    )


def _painted(engine: overpaint.Engine, requests: list[EditRequest]) -> list[Pixels]:
    """The middles of the edited pictures."""
    chunks = (requests[start : start + CHUNK] for start in range(0, len(requests), CHUNK))
    results = [result for chunk in chunks for result in engine.run(chunk)]
    middle = slice(SIZE, 2 * SIZE)
    return [np.asarray(result.pictures[0].rgb)[middle, middle] for result in results]


def _share(engine: overpaint.Engine, requests: list[EditRequest]) -> float:
    """Of the picture's pixels, how many the median edit computes."""
    plans = [engine.begin(request).plan for request in requests]
    return float(np.median([plan.window.area / (plan.size[0] * plan.size[1]) for plan in plans]))
