"""The procedural world: deterministic, with a true 'after', and without held-out pairs."""

import re

import numpy as np
import pytest

from training.world.captions import FACETS, meaning_indices
from training.world.controls import CONTROL_KINDS, control_picture
from training.world.edits import INSTRUCTION_KINDS, sample_instruction_task
from training.world.inpaint import sample_inpaint_task
from training.world.masks import MASK_KINDS, mask_over
from training.world.palette import COLOURS, HELD_OUT, SHAPES
from training.world.render import footprint, render
from training.world.scene import Scene, sample_scene

LOCAL_KINDS = ("recolour", "remove", "add", "move", "replace", "resize")


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def pairs_in(scene: Scene) -> set[tuple[str, str]]:
    return {thing.pair for thing in scene.things}


def named_pairs(words: str) -> set[tuple[str, str]]:
    return set(re.findall(rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})", words.lower()))


def test_same_seed_gives_the_same_scene_and_picture():
    first, second = sample_scene(rng(1)), sample_scene(rng(1))
    assert first == second
    np.testing.assert_array_equal(render(first), render(second))


def test_rendering_is_resolution_free():
    scene = sample_scene(rng(2), 2)
    small = render(scene, 64).astype(float)
    large = render(scene, 256).astype(float).reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - large).mean() < 3


def test_scenes_hold_up_to_four_separate_things_inside_the_picture():
    scenes = [sample_scene(rng(3, i)) for i in range(100)]
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4}
    for scene in scenes:
        seen = sum(footprint(t, scene.light).any() for t in scene.things)
        assert seen == len(scene.things)
        assert len({t.colour for t in scene.things}) == len(scene.things)


def test_every_pair_of_the_world_is_seen_or_held_out():
    seen = set().union(*(pairs_in(sample_scene(rng(4, i))) for i in range(600)))
    assert seen.isdisjoint(HELD_OUT)
    assert len(seen) + len(HELD_OUT) == len(COLOURS) * len(SHAPES)
    assert {shape for _, shape in HELD_OUT} == set(SHAPES)


@pytest.mark.parametrize("kind", INSTRUCTION_KINDS)
def test_training_instructions_never_show_or_name_held_out_pairs(kind):
    for i in range(40):
        task = sample_instruction_task(rng(5, i), "train", kind)
        shown = pairs_in(task.before) | pairs_in(task.after)
        assert shown.isdisjoint(HELD_OUT)
        assert named_pairs(task.instruction).isdisjoint(HELD_OUT)


def test_training_prompts_never_show_or_name_held_out_pairs():
    for i in range(200):
        task = sample_inpaint_task(rng(6, i), "train", size=64)
        shown = pairs_in(task.before) | pairs_in(task.after)
        assert shown.isdisjoint(HELD_OUT)
        assert named_pairs(task.prompt).isdisjoint(HELD_OUT)


def test_heldout_tasks_ask_for_held_out_pairs():
    for i in range(40):
        task = sample_inpaint_task(rng(7, i), "heldout", "draw", size=64)
        assert task.thing is not None
        assert task.thing.pair in HELD_OUT
        for kind in ("recolour", "add", "replace"):
            edit = sample_instruction_task(rng(7, i), "heldout", kind)
            assert edit.new is not None
            assert edit.new.pair in HELD_OUT


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_local_edits_change_their_region_and_nothing_else(kind):
    for i in range(25):
        task = sample_instruction_task(rng(8, i), "train", kind)
        before, after = render(task.before).astype(int), render(task.after).astype(int)
        region = task.edited_region()
        outside = np.abs(before - after).max(axis=-1)[~region]
        assert outside.max(initial=0) <= 6, "only the faintest rim of a shadow may differ"
        assert (before != after).any(axis=-1)[region].mean() > 0.1


def test_keep_is_the_same_scene():
    task = sample_instruction_task(rng(9), "train", "keep")
    assert task.before == task.after
    assert not task.edited_region().any()


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_inpainting_changes_nothing_outside_the_mask(split):
    for i in range(60):
        task = sample_inpaint_task(rng(10, i), split)
        before, after = render(task.before).astype(int), render(task.after).astype(int)
        difference = np.abs(before - after).max(axis=-1)[~task.mask]
        assert np.quantile(difference, 0.99) <= 6 if difference.size else True


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_masks_hide_their_region(kind):
    scene = sample_scene(rng(11), 1)
    region = footprint(scene.things[0], scene.light)
    mask = mask_over(rng(12), region, kind)
    assert mask.dtype == bool
    assert mask[region].all()
    assert mask.mean() < 0.9


@pytest.mark.parametrize("kind", CONTROL_KINDS)
def test_control_pictures_are_bright_on_black(kind):
    scene = sample_scene(rng(13), 2)
    picture = control_picture(scene, kind)
    assert picture.shape == (128, 128, 3)
    assert 0.01 < (picture.max(axis=-1) > 100).mean() < 0.6
    assert not control_picture(Scene(scene.background, scene.light), kind).any()


def test_meanings_fit_their_facets():
    for i in range(100):
        task = sample_instruction_task(rng(14, i))
        indices = meaning_indices(task.text.meaning)
        assert len(indices) == len(FACETS)
        assert task.text.meaning.intent == task.kind
