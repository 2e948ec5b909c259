"""Instructions that follow each other on one scene, and what none of them names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.behaviour.painters import SIZE
from training.world.edits import InstructionTask, follow_up
from training.world.masks import grown
from training.world.scene import sample_scene

LOCAL = ("recolour", "replace", "add", "move", "remove", "resize")
MOST_THINGS = 3
LEAST_KEPT = 0.2
"""Share of a scene that its instructions must leave alone, so that it can be measured."""

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def chain(rng: np.random.Generator, turns: int) -> list[InstructionTask]:
    """Instructions that follow each other on one scene and leave enough of it alone."""
    while True:
        scene = sample_scene(rng, MOST_THINGS, heldout_first=True)
        tasks: list[InstructionTask] = []
        while len(tasks) < turns:
            kind = str(rng.choice(LOCAL))
            things = len(scene.things)
            if (kind == "remove" and things < 2) or (kind == "add" and things >= MOST_THINGS):
                continue
            task = follow_up(rng, scene, kind)  # type: ignore[arg-type]
            if task is None:
                continue
            tasks.append(task)
            scene = task.after
        if kept_area(tasks).mean() >= LEAST_KEPT:
            return tasks


def kept_area(tasks: Sequence[InstructionTask]) -> Mask:
    """What none of the instructions names, with a margin around what they do."""
    named = np.any([task.edited_region(SIZE) for task in tasks], axis=0)
    return ~grown(named, 0.06)
