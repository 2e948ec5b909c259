"""The judge: right on true renders; a copy is no edit, a wiped scene is no removal."""

from dataclasses import replace

import numpy as np
import pytest

from training.world.edits import INSTRUCTION_KINDS, sample_instruction_task
from training.world.inpaint import sample_inpaint_task
from training.world.judge import (
    control_iou,
    has_shadow,
    judge_inpaint,
    judge_instruction,
    shows_colour,
)
from training.world.palette import COLOURS, SHAPES
from training.world.render import coverage, render
from training.world.scene import Light, Scene, Thing, sample_background
from training.world.vision import find_thing

COUNT = 40


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def test_names_every_colour_and_shape():
    right = 0
    for index, (colour, shape) in enumerate((c, s) for c in COLOURS for s in SHAPES):
        thing = Thing(colour, shape, 0.5, 0.45, 0.16 + 0.002 * index, 0.2 - 0.008 * index)
        scene = Scene(sample_background(rng(1, index)), Light(0.2, 0.4, 0.5), (thing,))
        found = find_thing(render(scene))
        right += found is not None and (found.colour, found.shape) == thing.pair
    assert right == len(COLOURS) * len(SHAPES)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_accepts_true_inpaintings_and_no_copies(split):
    tasks = [sample_inpaint_task(rng(2, i), split, "draw") for i in range(COUNT)]
    assert all(judge_inpaint(render(t.after), t).both for t in tasks)
    assert not any(judge_inpaint(render(t.before), t).both for t in tasks)


def test_accepts_true_emptyings_and_no_copies():
    tasks = [sample_inpaint_task(rng(3, i), "train", "empty") for i in range(COUNT)]
    verdicts = [judge_inpaint(render(t.after), t) for t in tasks]
    assert all(v.empty and not v.shadow_left for v in verdicts)
    assert not any(judge_inpaint(render(t.before), t).empty for t in tasks)


def test_sees_a_shadow_that_was_left_behind():
    for i in range(10):
        task = sample_inpaint_task(rng(4, i), "train", "empty")
        with_thing, without = render(task.before), render(task.after)
        shadow_only = with_thing.copy()
        gone = task.before.things[0]
        covered = coverage(gone) > 0.01
        shadow_only[covered] = without[covered]
        assert has_shadow(shadow_only, task.after, task.mask, least=0.02)
        assert not has_shadow(without, task.after, task.mask, least=0.02)


@pytest.mark.parametrize("kind", INSTRUCTION_KINDS)
def test_accepts_true_edits(kind):
    tasks = [
        sample_instruction_task(rng(5, i), "heldout" if i % 2 else "train", kind)
        for i in range(COUNT)
    ]
    done = [judge_instruction(render(t.after), t).done for t in tasks]
    assert np.mean(done) >= 0.99


@pytest.mark.parametrize("kind", [k for k in INSTRUCTION_KINDS if k != "keep"])
def test_a_copy_is_no_edit(kind):
    tasks = [sample_instruction_task(rng(6, i), "train", kind) for i in range(COUNT)]
    assert not any(judge_instruction(render(t.before), t).done for t in tasks)


@pytest.mark.parametrize("kind", INSTRUCTION_KINDS)
def test_a_wiped_scene_is_no_edit(kind):
    for i in range(15):
        task = sample_instruction_task(rng(7, i), "train", kind, count=2)
        if len(task.before.things) < 2:
            continue
        wiped = render(replace(task.before, things=()))
        assert not judge_instruction(wiped, task).done


def test_the_wrong_ground_is_no_edit():
    for i in range(15):
        task = sample_instruction_task(rng(8, i), "train", "remove", count=2)
        other = sample_background(rng(9, i))
        if other.colour == task.before.background.colour:
            continue
        assert not judge_instruction(render(replace(task.after, background=other)), task).done


def test_control_iou_is_one_for_the_truth_and_small_elsewhere():
    task = sample_inpaint_task(rng(10), "train", "draw", control=True, wide=True)
    assert control_iou(render(task.after), task) > 0.95
    assert control_iou(np.full((128, 128, 3), 128, np.uint8), task) == 0


def test_shows_colour_only_where_it_is():
    task = sample_inpaint_task(rng(11), "train", "draw")
    assert task.thing is not None
    picture = render(task.after)
    assert shows_colour(picture, task.mask, task.thing.colour)
    others = [c for c in COLOURS if c != task.thing.colour]
    assert not any(shows_colour(picture, task.mask, c) for c in others)


def test_judges_other_sizes():
    task = sample_instruction_task(rng(12), "train", "recolour")
    assert judge_instruction(render(task.after, 256), task).done
