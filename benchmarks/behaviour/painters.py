"""Who answers a task: a model, nobody, or the truth through the model's autoencoder.

The last two stand beside every figure: a judge that a copy of the input passes is no judge, and
no model can do better than what its autoencoder lets through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import overpaint
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion import latents
from training.world.controls import control_picture
from training.world.edits import InstructionTask
from training.world.inpaint import InpaintTask
from training.world.render import render

Pixels = NDArray[np.uint8]
Task = TypeVar("Task", InpaintTask, InstructionTask)
Painter = Callable[[Sequence[Any]], list[Pixels]]

SIZE = 128
SEED = 1000
CHUNK = 32
"""Requests given to the engine at once; bounds memory."""


def nothing(tasks: Sequence[Any]) -> list[Pixels]:
    """The input, unedited."""
    return [render(task.before, SIZE) for task in tasks]


def truth(engine: overpaint.Engine) -> Painter:
    """The true result, through the model's autoencoder and back."""
    checkpoint = engine.model().checkpoint
    assert checkpoint is not None
    vae = checkpoint.component("vae")

    def paint(tasks: Sequence[Any]) -> list[Pixels]:
        pictures = []
        for task in tasks:
            pixels = latents.picture_tensor(Image.fromarray(render(task.after, SIZE)))
            mode = latents.encode_distribution(checkpoint, pixels).mode()
            pictures.append(np.asarray(latents.decode(vae, latents.normalize(vae, mode))))
        return pictures

    return paint


def inpainter(engine: overpaint.Engine, **options: Any) -> Painter:
    """The model on inpainting tasks; `negative_prompt` may be a function of the task's index."""
    negative = options.pop("negative_prompt", lambda _: None)

    def request(index: int, task: InpaintTask) -> EditRequest:
        control = None
        if task.control is not None and engine.model().family.spec.need("control") != "refused":
            control = Image.fromarray(control_picture(task.after, task.control, SIZE))
        return EditRequest(
            image=Picture.from_array(render(task.before, SIZE)),
            prompt=task.prompt,
            mask=Image.fromarray(np.uint8(255) * task.mask.astype(np.uint8)),
            negative_prompt=negative(index),
            control=control,
            seed=SEED + index,
            options=options,
        )

    return painter(engine, request)


def instructed(engine: overpaint.Engine, **options: Any) -> Painter:
    """The model on instruction tasks; `negative_prompt` may be a function of the task's index."""
    negative = options.pop("negative_prompt", lambda _: None)

    def request(index: int, task: InstructionTask) -> EditRequest:
        return EditRequest(
            image=Picture.from_array(render(task.before, SIZE)),
            prompt=task.instruction,
            negative_prompt=negative(index),
            seed=SEED + index,
            options=options,
        )

    return painter(engine, request)


def painter(engine: overpaint.Engine, request: Callable[[int, Any], EditRequest]) -> Painter:
    """Edits that `request` makes of tasks and their indexes, some at once."""

    def paint(tasks: Sequence[Any]) -> list[Pixels]:
        requests = [request(index, task) for index, task in enumerate(tasks)]
        chunks = (requests[start : start + CHUNK] for start in range(0, len(requests), CHUNK))
        results = [result for chunk in chunks for result in engine.run(chunk)]
        return [np.asarray(result.pictures[0].rgb) for result in results]

    return paint
