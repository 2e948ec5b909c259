"""Judges results against the truth that the world knows; nothing here is learned.

A copy of the input passes no edit but 'keep'; a wiped scene passes no removal, because the other
things and the ground must still be there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from training.world.edits import InstructionTask
from training.world.inpaint import InpaintTask
from training.world.masks import Mask, grown
from training.world.palette import COLOURS
from training.world.render import Picture, coverage, footprint, render
from training.world.scene import Scene, Thing
from training.world.vision import Found, colour_map, find_thing, iou, shows_thing

CLEAR_SHAPE = 0.72
"""IoU with the best template from which a shape counts as clear."""

GROUND_ERROR = 10.0
"""Mean absolute error of the ground, in grey levels, up to which it counts as kept."""

SHADOW_DEPTH = 0.1
"""A ground pixel darker than the truth by this share counts as shadow."""


@dataclass(frozen=True)
class InpaintVerdict:
    """What an inpainting result shows.

    `colour`, `shape`, `both`: as asked ('empty' tasks: all equal `empty`). `empty`: no thing in
    the mask. `shadow_left`: the mask is darker than the ground there. `found`: what was seen.
    """

    colour: bool
    shape: bool
    both: bool
    empty: bool
    shadow_left: bool
    found: Found | None


@dataclass(frozen=True)
class InstructionVerdict:
    """`edited`: the asked change is there; `kept`: the rest of the scene is; `done`: both."""

    edited: bool
    kept: bool

    @property
    def done(self) -> bool:
        """The instruction was followed and nothing else changed."""
        return self.edited and self.kept


def judge_inpaint(picture: Picture, task: InpaintTask) -> InpaintVerdict:
    """Looks inside the mask (clear of the other things) for what the task asks for."""
    mask = _resized(task.mask, picture.shape[0])
    for thing in task.after.things:
        if thing != task.thing:
            mask &= ~grown(coverage(thing, picture.shape[0]) > 0.02, 0.02)
    found = find_thing(picture, mask)
    empty = found is None and bool((colour_map(picture)[mask] >= 0).mean() < 0.03)
    shadow_left = has_shadow(picture, task.after, mask)
    if task.thing is None:
        return InpaintVerdict(empty, empty, empty, empty, shadow_left, found)
    colour = found is not None and found.colour == task.thing.colour
    shape = found is not None and found.shape == task.thing.shape and found.iou >= CLEAR_SHAPE
    return InpaintVerdict(colour, shape, colour and shape, empty, shadow_left, found)


def shows_colour(picture: Picture, mask: Mask, colour: str, least: float = 0.02) -> bool:
    """Whether that colour covers at least that share of the mask (for negative prompts)."""
    mask = _resized(mask, picture.shape[0])
    return bool((colour_map(picture)[mask] == list(COLOURS).index(colour)).mean() >= least)


def control_iou(picture: Picture, task: InpaintTask) -> float:
    """IoU of whatever was painted in the mask with the outline that the control picture shows."""
    assert task.thing is not None
    size = picture.shape[0]
    mask = _resized(task.mask, size)
    return iou((colour_map(picture) >= 0) & mask, (coverage(task.thing, size) > 0.5) & mask)


def has_shadow(picture: Picture, truth: Scene, region: Mask, least: float = 0.05) -> bool:
    """Whether a share of the region is clearly darker than the true scene, and not a thing."""
    size = picture.shape[0]
    true = render(truth, size).astype(np.float32).mean(axis=-1)
    seen = cv2.GaussianBlur(picture.astype(np.float32).mean(axis=-1), (0, 0), 0.012 * size)
    dark = (seen < (1 - SHADOW_DEPTH) * true) & (colour_map(picture) < 0)
    return bool(dark[region].mean() >= least)


def judge_instruction(picture: Picture, task: InstructionTask) -> InstructionVerdict:
    """Compares the result of an instruction with the true scene after it."""
    if task.kind in ("brighten", "darken"):
        return _judge_exposure(picture, task)
    if task.kind == "blur":
        return _judge_blur(picture, task)
    if task.kind == "background":
        ground_there = _ground_error(picture, task.after, ()) <= 1.2 * GROUND_ERROR
        return InstructionVerdict(ground_there, _things_kept(picture, task.after.things))
    others = tuple(t for t in task.after.things if t is not task.new)
    touched = tuple(t for t in (task.old, task.new) if t is not None)
    edited = _local_edit_done(picture, task)
    kept = _things_kept(picture, others) and (
        _ground_error(picture, task.after, touched) <= GROUND_ERROR
    )
    return InstructionVerdict(edited, kept)


def _local_edit_done(picture: Picture, task: InstructionTask) -> bool:
    size, light = picture.shape[0], task.before.light
    old, new = task.old, task.new
    if task.kind == "keep":
        return True
    if task.kind == "remove":
        assert old is not None
        return is_gone(picture, task.after, old)
    assert new is not None
    if task.kind in ("add", "move"):
        others = np.zeros((size, size), bool)
        for thing in task.after.things:
            if thing is not new:
                others |= grown(coverage(thing, size) > 0.02, 0.02)
        if task.kind == "add":
            return _is_thing_at(find_thing(picture, ~others), new)
        assert old is not None
        left = footprint(old, light, size) & ~footprint(new, light, size)
        emptied = bool((colour_map(picture)[left] >= 0).mean() < 0.1) if left.any() else True
        return emptied and _is_thing_at(find_thing(picture, ~others), new)
    near = grown(coverage(new, size) > 0.02, 0.05)
    if old is not None:
        near |= grown(coverage(old, size) > 0.02, 0.03)
    found = find_thing(picture, near)
    if found is None or (found.colour, found.shape) != new.pair or found.iou < CLEAR_SHAPE:
        return False
    if task.kind == "resize":
        assert old is not None
        return _resized_enough(found, old, new, size)
    return True


def _is_thing_at(found: Found | None, new: Thing) -> bool:
    return (
        found is not None
        and (found.colour, found.shape) == new.pair
        and found.iou >= CLEAR_SHAPE
        and math.dist((found.x, found.y), (new.x, new.y)) < 0.16
    )


def _resized_enough(found: Found, old: Thing, new: Thing, size: int) -> bool:
    before, after = float(coverage(old, size).mean()), float(coverage(new, size).mean())
    return abs(math.log(found.area / after)) < 0.5 * abs(math.log(after / before))


def is_gone(picture: Picture, truth: Scene, old: Thing) -> bool:
    """Whether neither the thing nor its shadow is left where it was."""
    size = picture.shape[0]
    region = footprint(old, truth.light, size)
    for thing in truth.things:
        region &= ~footprint(thing, truth.light, size)
    coloured = bool((colour_map(picture)[region] >= 0).mean() >= 0.03)
    return not coloured and not has_shadow(picture, truth, region, least=0.08)


def _things_kept(picture: Picture, things: tuple[Thing, ...]) -> bool:
    return all(shows_thing(picture, thing) for thing in things)


def _ground_error(picture: Picture, truth: Scene, touched: tuple[Thing, ...]) -> float:
    """Mean absolute error, in grey levels, where there is neither a thing nor a shadow."""
    size = picture.shape[0]
    free = np.ones((size, size), bool)
    for thing in (*truth.things, *touched):
        free &= ~grown(footprint(thing, truth.light, size), 0.02)
    if free.sum() < 0.02 * size * size:
        return 0.0
    error = np.abs(picture.astype(np.float32) - render(truth, size).astype(np.float32))
    return float(error[free].mean())


def _judge_exposure(picture: Picture, task: InstructionTask) -> InstructionVerdict:
    size = picture.shape[0]
    before, after = render(task.before, size), render(task.after, size)
    edited = _distance(picture, after) < 0.4 * _distance(before, after)
    kept = all(
        _distance(picture, after, coverage(thing, size) > 0.5) < 30 for thing in task.after.things
    )
    return InstructionVerdict(edited, kept)


def _judge_blur(picture: Picture, task: InstructionTask) -> InstructionVerdict:
    size = picture.shape[0]
    before, after = render(task.before, size), render(task.after, size)
    sharp, soft, seen = (_sharpness(p) for p in (before, after, picture))
    edited = abs(math.log(seen / soft)) < 0.5 * abs(math.log(sharp / soft))
    return InstructionVerdict(edited, _distance(picture, after) < GROUND_ERROR)


def _sharpness(picture: Picture) -> float:
    """Energy of the steepest edges: the 98th percentile of the gradient."""
    grey = picture.astype(np.float32).mean(axis=-1)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return float(np.percentile(gradient, 98)) + 1.0


def _distance(first: Picture, second: Picture, region: Mask | None = None) -> float:
    error = np.abs(first.astype(np.float32) - second.astype(np.float32))
    return float(error.mean() if region is None else error[region].mean())


def _resized(mask: Mask, size: int) -> Mask:
    if mask.shape[0] == size:
        return mask.copy()
    scaled = cv2.resize(mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
    return np.asarray(scaled, bool)
