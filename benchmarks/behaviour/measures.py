"""The figures: each is a share of tasks with its interval, or a mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import overpaint
from benchmarks.behaviour import painters
from benchmarks.behaviour.painters import SIZE, Painter, Pixels
from benchmarks.behaviour.turns import chain, kept_area
from overpaint.core.imaging.images import Picture
from training.world.edits import (
    INSTRUCTION_KINDS,
    InstructionKind,
    InstructionTask,
    sample_instruction_task,
)
from training.world.inpaint import InpaintTask, sample_inpaint_task, vague_task
from training.world.judge import (
    control_iou,
    has_shadow,
    is_gone,
    judge_inpaint,
    judge_instruction,
    shows_colour,
)
from training.world.masks import grown
from training.world.palette import COLOURS
from training.world.render import coverage, footprint, render
from training.world.scene import Split

STEPS = 20
RNG = 20_261_120
"""Seed of the held-out tasks; training draws its own from other seeds."""

DRIFT_TURNS = 10


@dataclass(frozen=True)
class Share:
    """How many of how many, with the Wilson interval at 95 %."""

    hits: int
    total: int

    @classmethod
    def of(cls, passed: Iterable[bool]) -> Share:
        """Count."""
        listed = list(passed)
        return cls(sum(listed), len(listed))

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 1927, z = 1.96."""
        z, n, p = 1.96, self.total, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.0f} % [{100 * low:.0f}-{100 * high:.0f}]"


def tasks(count: int, draw: Callable[[np.random.Generator], Any]) -> list[Any]:
    """`count` tasks, always the same."""
    rng = np.random.default_rng(RNG)
    return [draw(rng) for _ in range(count)]


def draw_tasks(count: int, split: Split = "train", **more: Any) -> list[InpaintTask]:
    """Tasks that ask for a thing in the mask in words that name its colour and its shape."""
    kind = {"kind": "draw", "control": False, "wide": False, **more}

    def draw(rng: np.random.Generator) -> InpaintTask:
        while True:
            task = sample_inpaint_task(rng, split, **kind)
            if task.text.meaning.colour and task.text.meaning.shape:
                return task

    return tasks(count, draw)


def adherence(paint: Painter, asked: Sequence[InpaintTask]) -> dict[str, Share]:
    """Colour, shape and both, of the thing in the mask."""
    return judged(paint(asked), asked)


def judged(pictures: Sequence[Pixels], asked: Sequence[InpaintTask]) -> dict[str, Share]:
    """The same of pictures that are there already."""
    verdicts = [judge_inpaint(each, task) for each, task in zip(pictures, asked, strict=True)]
    return {
        "colour": Share.of(verdict.colour for verdict in verdicts),
        "shape": Share.of(verdict.shape for verdict in verdicts),
        "both": Share.of(verdict.both for verdict in verdicts),
    }


def negative(engine: overpaint.Engine, count: int) -> dict[str, Share]:
    """How often an unwanted colour appears, without and with it as the negative prompt."""
    asked = tasks(count, vague_task)
    names = list(COLOURS)

    def appears(paint: Painter) -> Share:
        pictures = paint(asked)
        return Share.of(
            shows_colour(picture, task.mask, names[index % len(names)])
            for index, (picture, task) in enumerate(zip(pictures, asked, strict=True))
        )

    plain = painters.inpainter(engine, num_inference_steps=STEPS)
    against = painters.inpainter(
        engine,
        num_inference_steps=STEPS,
        negative_prompt=lambda index: names[index % len(names)],
    )
    return {"without": appears(plain), "with": appears(against)}


def control(engine: overpaint.Engine, count: int, **options: Any) -> float:
    """Mean IoU of what was painted with the outline of the control picture."""
    asked = draw_tasks(count, control=True, wide=True)
    paint = painters.inpainter(engine, num_inference_steps=STEPS, **options)
    found = [control_iou(each, task) for each, task in zip(paint(asked), asked, strict=True)]
    return float(np.mean(found))


def object_only(task: InpaintTask) -> InpaintTask:
    """The same removal with a mask that covers the thing and leaves its shadow out."""
    gone = task.before.things[0]
    mask = grown(coverage(gone, SIZE) > 0.02, 0.02)
    return InpaintTask("empty", task.before, task.after, mask, task.text, None, None)


def mask_removal(paint: Painter, count: int) -> dict[str, Share]:
    """Of removals by a mask over the thing alone: thing gone, shadow left behind."""
    drawn = tasks(count, lambda rng: sample_inpaint_task(rng, "heldout", "empty"))
    asked = [object_only(task) for task in drawn]
    gone, left = [], []
    for picture, task in zip(paint(asked), asked, strict=True):
        thing = task.before.things[0]
        shadow = footprint(thing, task.before.light, SIZE) & ~task.mask
        gone.append(judge_inpaint(picture, task).empty)
        left.append(shadow.any() and has_shadow(picture, task.after, shadow, least=0.08))
    return {"thing gone": Share.of(gone), "shadow left behind": Share.of(left)}


def instructions(paint: Painter, count: int) -> dict[str, Share]:
    """Success of each kind of instruction: done, and the rest of the scene kept."""
    shares = {}
    for kind in INSTRUCTION_KINDS:
        asked = instruction_tasks(count, kind)
        shares[kind] = done(paint(asked), asked)
    return shares


def done(pictures: Sequence[Pixels], asked: Sequence[InstructionTask]) -> Share:
    """Instructions done, and the rest of the scene kept."""
    return Share.of(
        judge_instruction(picture, task).done for picture, task in zip(pictures, asked, strict=True)
    )


def instruction_tasks(count: int, kind: InstructionKind) -> list[InstructionTask]:
    """Tasks of one kind whose named thing is a held-out pair."""
    return tasks(count, lambda rng: sample_instruction_task(rng, "heldout", kind))


def instruction_shadow(paint: Painter, count: int) -> dict[str, Share]:
    """Of removals by instruction: thing and shadow gone."""
    asked = instruction_tasks(count, "remove")
    gone = []
    for picture, task in zip(paint(asked), asked, strict=True):
        assert task.old is not None
        gone.append(is_gone(picture, task.after, task.old))
    return {"thing and shadow gone": Share.of(gone)}


def outside(engine: overpaint.Engine, count: int) -> int:
    """Largest difference of 255 outside the masks."""
    asked = draw_tasks(count)
    paint = painters.inpainter(engine, num_inference_steps=4)
    differences = [
        int(np.abs(picture.astype(int) - render(task.before, SIZE))[~task.mask].max(initial=0))
        for picture, task in zip(paint(asked), asked, strict=True)
    ]
    return max(differences)


def drift(engine: overpaint.Engine, count: int) -> dict[str, list[float]]:
    """PSNR in dB of the area that no instruction named, turn after turn.

    'ours' keeps what an edit did not change; 'plain' feeds the model's own picture back.
    """
    curves: dict[str, list[list[float]]] = {"ours": [], "plain": []}
    rng = np.random.default_rng(RNG)
    for scene in range(count):
        asked = chain(rng, DRIFT_TURNS)
        for name, options in {"ours": {}, "plain": {"composite": False}}.items():
            curves[name].append(_drift_curve(engine, asked, scene, options))
    return {name: list(np.mean(curve, axis=0)) for name, curve in curves.items()}


def _drift_curve(
    engine: overpaint.Engine, asked: Sequence[InstructionTask], scene: int, options: dict[str, Any]
) -> list[float]:
    start, kept = render(asked[0].before, SIZE), kept_area(asked)
    picture, curve = Picture.from_array(start), []
    for turn, task in enumerate(asked):
        seed = painters.SEED + 100 * scene + turn
        result = engine.edit(
            picture, task.instruction, seed=seed, num_inference_steps=STEPS, **options
        )
        picture = result.pictures[0]
        curve.append(psnr(np.asarray(picture.rgb)[kept], start[kept]))
    return curve


def psnr(first: Pixels, second: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, 99 for equal pixels."""
    error = float(np.mean((first.astype(float) - second.astype(float)) ** 2))
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)
