"""Figures measured during training, with the judge, on tasks that training never draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.train.loop import Figures
from training.world.edits import INSTRUCTION_KINDS, InstructionTask, sample_instruction_task
from training.world.inpaint import InpaintTask, sample_inpaint_task, vague_task
from training.world.judge import (
    InpaintVerdict,
    judge_inpaint,
    judge_instruction,
    shows_colour,
)
from training.world.render import Picture
from training.world.scene import Split

Paint = Callable[[list[InpaintTask], list[str], float, str], list[Picture]]
"""Paints tasks from their prompts, at a CFG scale, against a negative prompt."""

Edit = Callable[[list[InstructionTask], float], list[Picture]]
"""Follows instructions at a CFG scale."""


def held_tasks(split: Split, count: int, wide: bool = False) -> list[InpaintTask]:
    """The first `count` draw tasks of the evaluation."""
    return [
        sample_inpaint_task(np.random.default_rng([7, i]), split, "draw", False, wide)
        for i in range(count)
    ]


def plain_prompt(task: InpaintTask) -> str:
    """'a red circle'."""
    assert task.thing is not None
    return f"a {task.thing.colour} {task.thing.shape}"


def inpaint_figures(paint: Paint, count: int) -> Figures:
    """Colour, shape and both right in the mask: plain, with CFG 3, and on held-out pairs."""
    result: dict[str, float] = {}
    settings: list[tuple[str, Split, float]] = [
        ("", "train", 1.0),
        ("cfg3_", "train", 3.0),
        ("new_", "heldout", 3.0),
    ]
    for name, split, cfg in settings:
        tasks = held_tasks(split, count)
        painted = paint(tasks, [plain_prompt(t) for t in tasks], cfg, "")
        verdicts = [judge_inpaint(p, t) for p, t in zip(painted, tasks, strict=True)]
        result |= _shares(name, verdicts)
    return result


def _shares(name: str, verdicts: list[InpaintVerdict]) -> dict[str, float]:
    count = len(verdicts)
    return {
        f"{name}colour": sum(v.colour for v in verdicts) / count,
        f"{name}shape": sum(v.shape for v in verdicts) / count,
        f"{name}both": sum(v.both for v in verdicts) / count,
    }


def empty_figures(paint: Paint, count: int) -> Figures:
    """How often 'empty background' leaves neither a thing nor a shadow in the mask."""
    tasks = [
        sample_inpaint_task(np.random.default_rng([11, i]), "train", "empty") for i in range(count)
    ]
    painted = paint(tasks, ["empty background"] * count, 3.0, "")
    verdicts = [judge_inpaint(p, t) for p, t in zip(painted, tasks, strict=True)]
    return {
        "empty": sum(v.empty for v in verdicts) / count,
        "shadow_left": sum(v.shadow_left for v in verdicts) / count,
    }


def negative_figures(paint: Paint, count: int, colour: str = "red") -> Figures:
    """How often a prompt without a colour gives that colour, without and with it as negative."""
    tasks = [vague_task(np.random.default_rng([12, i])) for i in range(count)]
    words = [task.prompt for task in tasks]
    result = {}
    for name, negative in (("unwanted", ""), ("unwanted_negative", colour)):
        painted = paint(tasks, words, 3.0, negative)
        shown = [shows_colour(p, t.mask, colour) for p, t in zip(painted, tasks, strict=True)]
        result[name] = sum(shown) / count
    return result


def instruction_figures(edit: Edit, per_kind: int, cfg: float = 1.0) -> Figures:
    """Share of instructions done, of each kind and over all."""
    result: dict[str, float] = {}
    for kind in INSTRUCTION_KINDS:
        tasks = [
            sample_instruction_task(np.random.default_rng([13, i]), "train", kind)
            for i in range(per_kind)
        ]
        edited = edit(tasks, cfg)
        verdicts = [judge_instruction(p, t) for p, t in zip(edited, tasks, strict=True)]
        result[kind] = sum(v.done for v in verdicts) / per_kind
        result[f"{kind}_edited"] = sum(v.edited for v in verdicts) / per_kind
    result["all"] = sum(result[kind] for kind in INSTRUCTION_KINDS) / len(INSTRUCTION_KINDS)
    return result
