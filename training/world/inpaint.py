"""Inpainting tasks: a scene, a mask, what the mask shall show, and the true result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from training.world.captions import Meaning, Text, draw_prompt, empty_prompt, scene_caption
from training.world.controls import CONTROL_KINDS, ControlKind
from training.world.masks import MASK_KINDS, Mask, mask_over
from training.world.render import DEFAULT_SIZE, footprint
from training.world.scene import (
    Scene,
    Split,
    Thing,
    sample_pair,
    sample_rotation,
    sample_scene,
)

InpaintKind = Literal["draw", "empty", "scene"]


@dataclass(frozen=True)
class InpaintTask:
    """One task.

    `before` and `after` are equal outside the mask; `thing` is what the mask shall show (None:
    nothing). `source` tells whether the picture is given at all: a 'scene' task has none, its mask
    is everywhere.
    """

    kind: InpaintKind
    before: Scene
    after: Scene
    mask: Mask
    text: Text
    thing: Thing | None
    control: ControlKind | None
    source: bool = True

    @property
    def prompt(self) -> str:
        """The words."""
        return self.text.words


def sample_inpaint_task(
    rng: np.random.Generator,
    split: Split = "train",
    kind: InpaintKind | None = None,
    control: bool | None = None,
    wide: bool | None = None,
    size: int = DEFAULT_SIZE,
) -> InpaintTask:
    """Draws one task.

    Args:
        rng: the only source of chance.
        split: 'heldout' asks for a pair that training never names.
        kind: 'draw' (a thing in the mask), 'empty' (nothing in it) or 'scene' (no picture given).
        control: whether a control picture goes with it; None leaves it to chance.
        wide: whether the mask leaves the place open; None leaves it to chance.
        size: side of the mask in pixels.
    """
    kinds: tuple[InpaintKind, ...] = ("draw", "empty", "scene")
    chosen = kind or kinds[int(rng.choice(3, p=[0.72, 0.18, 0.1]))]
    steered = bool(rng.random() < 0.35) if control is None else control
    picture = CONTROL_KINDS[int(rng.integers(3))] if steered else None
    if chosen == "scene":
        return _scene_task(rng, split, picture, size)
    if chosen == "empty":
        return _empty_task(rng, split, size)
    loose = bool(rng.random() < (0.5 if steered else 0.15)) if wide is None else wide
    return _draw_task(rng, split, picture, loose, size)


def _scene_task(
    rng: np.random.Generator, split: Split, control: ControlKind | None, size: int
) -> InpaintTask:
    scene = sample_scene(rng, int(rng.choice([1, 2])), heldout_first=split == "heldout")
    everywhere = np.ones((size, size), bool)
    text = scene_caption(rng, scene)
    return InpaintTask("scene", scene, scene, everywhere, text, scene.things[0], control, False)


def _empty_task(rng: np.random.Generator, split: Split, size: int) -> InpaintTask:
    before = sample_scene(rng, int(rng.choice([1, 2, 3])), heldout_first=split == "heldout")
    gone = before.things[0]
    after = before.without(0)
    kind = MASK_KINDS[int(rng.integers(3))]
    region = footprint(gone, before.light, size)
    mask = _clear_of(after, mask_over(rng, region, kind), region)
    return InpaintTask(
        "empty", before, after, mask, empty_prompt(rng, before.background), None, None
    )


def _draw_task(
    rng: np.random.Generator, split: Split, control: ControlKind | None, wide: bool, size: int
) -> InpaintTask:
    """The mask shows one thing after; before, it is empty or holds another thing."""
    after = sample_scene(rng, int(rng.choice([1, 2, 3])), heldout_first=split == "heldout")
    thing = after.things[0]
    emptied = after.without(0)
    region = footprint(thing, after.light, size)
    kind = MASK_KINDS[int(rng.integers(2 if wide else 3))]
    if wide:
        mask = mask_over(rng, region, "box", margin=0.35)
    elif kind == "segment":
        mask = _blob(rng, region)
    else:
        mask = mask_over(rng, region, kind)
    mask = _clear_of(emptied, mask, region)
    before = emptied
    if rng.random() < 0.4:
        before = _with_another(rng, emptied, thing, mask)
    text = draw_prompt(rng, thing, after.background)
    return InpaintTask("draw", before, after, mask, text, thing, control)


def _with_another(rng: np.random.Generator, emptied: Scene, thing: Thing, mask: Mask) -> Scene:
    """The emptied scene with a different thing inside the mask, where one fits."""
    pair = sample_pair(rng, avoid_colours=[thing.colour], avoid_shapes=[thing.shape])
    another = Thing(*pair, thing.x, thing.y, 0.85 * thing.radius, sample_rotation(rng))
    inside = footprint(another, emptied.light, mask.shape[0]) <= mask
    return Scene(
        emptied.background,
        emptied.light,
        (*emptied.things, another) if inside.all() else emptied.things,
    )


def _blob(rng: np.random.Generator, region: Mask) -> Mask:
    """A segment that does not give the shape away: an ellipse over the region."""
    ys, xs = np.nonzero(region)
    centre = (float(xs.mean()), float(ys.mean()))
    axes = tuple(float(v) for v in 2.9 * np.array([xs.std(), ys.std()]) * rng.uniform(1.35, 1.6))
    canvas = region.astype(np.uint8)
    cv2.ellipse(canvas, (centre, axes, 0.0), (1,), -1)
    return canvas.astype(bool)


def _clear_of(scene: Scene, mask: Mask, region: Mask) -> Mask:
    """The mask without the scene's things and their shadows, but always with the region."""
    for thing in scene.things:
        mask = mask & ~footprint(thing, scene.light, mask.shape[0])
    return mask | region


def vague_task(rng: np.random.Generator, size: int = DEFAULT_SIZE) -> InpaintTask:
    """A draw task whose prompt names a shape and no colour: negative prompts are measured on it."""
    task = sample_inpaint_task(rng, "train", "draw", control=False, wide=False, size=size)
    assert task.thing is not None
    shape = task.thing.shape
    text = Text(f"a {shape}", Meaning("draw", shape=shape))
    return InpaintTask("draw", task.before, task.after, task.mask, text, task.thing, None)
