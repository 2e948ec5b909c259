"""The exemplar filler: textures continue, nothing else is touched, a seed is a picture."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overpaint.core.errors import InvalidImage, InvalidMask
from overpaint.families.erase.exemplar import (
    bands,
    fill,
    filling,
    grow_over_shadow,
    matching,
    pyramid,
    seams,
    surroundings,
)
from training.world.render import coverage, footprint, render
from training.world.scene import Background, Light, Scene, Thing

SIDE = 96


def tinted(grey):
    colours = np.dstack([grey, grey * 0.8 + 20, 255 - grey])
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8)


def texture(name, side=SIDE):
    y, x = np.mgrid[:side, :side].astype(float)
    return {
        "stripes": lambda: tinted(x // 6 % 2 * 200 + 20),
        "diagonals": lambda: tinted((x + y) // 7 % 2 * 200 + 20),
        "checkers": lambda: tinted((x // 8 + y // 8) % 2 * 180 + 30),
        "waves": lambda: tinted(128 + 100 * np.sin((x * 0.8 + y * 0.45) / 4)),
        "linear gradient": lambda: tinted(40 + x + y * 0.6),
        "radial gradient": lambda: tinted(255 - np.hypot(x - 20, y - 30) * 1.5),
    }[name]()


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def box(shape, top, bottom, left, right):
    hole = np.zeros(shape, bool)
    hole[top:bottom, left:right] = True
    return hole


def disc(side=SIDE, radius=18):
    y, x = np.mgrid[:side, :side]
    return np.hypot(x - side / 2, y - side / 2) < radius


def mean_error(filled, truth, where):
    return np.abs(filled[where].astype(float) - truth[where]).mean()


@pytest.mark.parametrize("hole", [disc(), box((SIDE, SIDE), 60, SIDE, 62, SIDE)], ids=["in", "at"])
@pytest.mark.parametrize(
    "name",
    ["stripes", "diagonals", "checkers", "waves", "linear gradient", "radial gradient"],
)
def test_a_texture_continues_with_less_than_half_the_error_of_diffusion(name, hole):
    truth = texture(name)
    pixels = truth.copy()
    pixels[hole] = 77
    telea = cv2.inpaint(pixels, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    assert mean_error(fill(pixels, hole), truth, hole) <= mean_error(telea, truth, hole) / 2


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.floats(0, 1),
    blob=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
def test_pixels_outside_any_hole_stay_as_they_are(height, width, share, blob, seed):
    hole = np.random.default_rng(seed).random((height, width)) < share
    if blob:
        hole = cv2.dilate(hole.astype(np.uint8), np.ones((blob, blob))).astype(bool)
    pixels = noise((height, width), seed)
    before = pixels.copy()
    if hole.all():
        with pytest.raises(InvalidMask):
            fill(pixels, hole)
        return
    filled = fill(pixels, hole, seed=seed)
    assert filled.shape == pixels.shape
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[~hole], before[~hole])
    np.testing.assert_array_equal(pixels, before)


def test_what_lies_under_the_hole_does_not_matter():
    hole = disc()
    one, other = texture("waves"), texture("waves")
    one[hole], other[hole] = 0, noise((SIDE, SIDE))[hole]
    np.testing.assert_array_equal(fill(one, hole), fill(other, hole))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("worth", [1, seams.WORTH_THREADS])
def test_a_seed_is_a_picture_on_any_number_of_threads(threads, worth, monkeypatch):
    pixels, hole = noise((SIDE, SIDE)), disc()
    usual = fill(pixels, hole, seed=3)
    with ThreadPoolExecutor(threads) as pool:
        monkeypatch.setattr(bands.THREADS, "_pool", pool)
        monkeypatch.setattr(seams, "WORTH_THREADS", worth)
        np.testing.assert_array_equal(fill(pixels, hole, seed=3), usual)


@pytest.mark.parametrize("hole", [box((80, 96), 35, 52, 41, 60), box((80, 96), 0, 17, 71, 96)])
def test_seams_are_solved_around_the_hole_as_on_the_whole(hole, monkeypatch):
    around = fill(noise(hole.shape), hole, seed=3)
    monkeypatch.setattr(seams, "MARGIN", max(hole.shape))
    assert np.array_equal(fill(noise(hole.shape), hole, seed=3), around)


def test_long_rounds_come_in_parts_and_give_the_same_picture(monkeypatch):
    pixels, hole = noise((SIDE, SIDE)), disc()
    whole = filling.Filling(pixels, hole, seed=3)
    monkeypatch.setattr(filling, "LONG", 0)
    parted = filling.Filling(pixels, hole, seed=3)
    assert parted.rounds > 3 * whole.rounds
    for each in (whole, parted):
        for _ in range(each.rounds):
            each.improve()
    np.testing.assert_array_equal(parted.picture(), whole.picture())


def test_fillings_share_their_threads(monkeypatch):
    pixels, hole = noise((SIDE, SIDE)), disc()
    fill(pixels, hole)
    started = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda self: (started.append(self), start(self)))
    for seed in range(5):
        fill(pixels, hole, seed=seed)
    assert len(started) <= bands.cores()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_starts_its_own_threads():
    code = """
import os, warnings
import numpy as np
from overpaint.families.erase.exemplar import fill
warnings.simplefilter("ignore")
pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
hole = np.zeros((48, 48), bool)
hole[16:32, 16:32] = True
usual = fill(pixels, hole)
child = os.fork()
if not child:
    os._exit(0 if np.array_equal(fill(pixels, hole), usual) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def scene(side=192):
    """A plain, grainy wall over a dark floor, with a thing of its own on the left."""
    rng = np.random.default_rng(7)
    pixels = np.full((side, side, 3), (190, 180, 170), np.uint8)
    pixels[150:] = (25, 25, 30)
    thing = rng.integers(0, 256, (9, 4, 3), dtype=np.uint8)
    pixels[30:156, 20:64] = cv2.resize(thing, (44, 126), interpolation=cv2.INTER_NEAREST)
    grain = rng.normal(0, 4, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_wall_is_continued_and_no_thing_beside_it_is_copied(seed):
    pixels, hole = scene(), box((192, 192), 20, 158, 100, 140)
    filled = fill(pixels, hole, seed=seed)
    wall = filled[20:130, 100:140].astype(int)
    strange = np.abs(wall - (190, 180, 170)).max(2) > 60
    assert strange.mean() < 0.02


def test_what_is_usual_around_the_hole_is_cheap():
    pixels, hole = scene(), box((192, 192), 40, 100, 100, 140)
    layers = pyramid.build(pixels, hole, ~hole)
    surroundings.set_prices(layers)
    price = layers[0].price
    assert price[50, 160] < 0.1 * price[80, 30]
    assert all(layer.price.shape == layer.hole.shape for layer in layers)


def test_layers_keep_sources_near_the_hole():
    pixels, hole = scene(), box((192, 192), 20, 158, 100, 140)
    for layer in pyramid.build(pixels, hole, ~hole):
        away = pyramid.distance_of_patches(layer.hole, layer.size)
        near = layer.allowed & (away <= np.sqrt(layer.hole.sum()))
        assert near.sum() > layer.hole.sum()


def test_seeds_differ_where_the_choice_is_free():
    pixels, hole = noise((SIDE, SIDE)), disc()
    assert not np.array_equal(fill(pixels, hole, seed=1), fill(pixels, hole, seed=2))


@pytest.mark.parametrize(
    "hole",
    [
        box((SIDE, SIDE), 0, 30, 0, 30),
        box((SIDE, SIDE), 40, 96, 0, 96),
        box((SIDE, SIDE), 10, 11, 10, 11),
        box((SIDE, SIDE), 5, 25, 5, 25) | box((SIDE, SIDE), 60, 90, 50, 90),
        box((SIDE, SIDE), 0, 96, 38, 40),
    ],
    ids=["a corner", "60 percent", "one pixel", "several", "a scratch from border to border"],
)
def test_stripes_come_back_wherever_the_hole_lies(hole):
    truth = texture("stripes")
    pixels = truth.copy()
    pixels[hole] = 128
    filled = fill(pixels, hole)
    np.testing.assert_array_equal(filled[~hole], truth[~hole])
    assert mean_error(filled, truth, hole) < 40  # leaving the grey there would be about 90


@pytest.mark.parametrize("turns", range(4), ids=["right", "top", "left", "bottom"])
def test_patches_at_the_pictures_border_begin_with_their_neighbours_sources(turns):
    """At random sources the border would be a dark or bright frame, which later rounds keep."""
    hole = np.ascontiguousarray(np.rot90(box((150, 151), 0, 150, 111, 151), turns))
    fine, coarse, *_ = pyramid.build(noise(hole.shape), hole, ~hole)
    field = matching.Matcher(coarse, None, seed=0).field
    down, right = [(0, -30), (30, 0), (0, 30), (-30, 0)][turns]
    field.source_y[:], field.source_x[:] = field.target_y + down, field.target_x + right
    begun = matching.Matcher(fine, field, seed=0).field
    np.testing.assert_array_equal(begun.source_y, begun.target_y + 2 * down)
    np.testing.assert_array_equal(begun.source_x, begun.target_x + 2 * right)


def test_a_picture_of_one_colour_stays_so():
    pixels = np.full((50, 60, 3), (12, 200, 90), np.uint8)
    np.testing.assert_array_equal(fill(pixels, box((50, 60), 10, 40, 0, 60)), pixels)


def test_an_empty_hole_gives_an_equal_copy():
    pixels = noise((20, 20))
    filled = fill(pixels, np.zeros((20, 20), bool))
    np.testing.assert_array_equal(filled, pixels)
    assert filled is not pixels


@pytest.mark.parametrize("shape", [(1, 90), (90, 1), (1, 2), (2, 1), (3, 5)])
def test_pictures_of_a_few_pixels_are_filled_from_their_own_colours(shape):
    pixels = np.full((*shape, 3), 50, np.uint8)
    hole = np.zeros(shape, bool)
    hole.reshape(-1)[0] = True
    pixels[hole] = 255
    assert (fill(pixels, hole) == 50).all()


def test_copies_come_from_the_source_alone():
    pixels, source = halves()
    hole = box((SIDE, SIDE), 30, 66, 30, 66)
    blue = fill(pixels, hole, copy_from=source)[40:56, 40:56]
    green = fill(pixels, hole, not_from=source)[40:56, 40:56]
    assert blue[..., 2].mean() > blue[..., 1].mean() + 60
    assert green[..., 1].mean() > green[..., 2].mean() + 60


def halves():
    """Green noise with a blue noisy block in a corner, and the mask of that block."""
    pixels = noise((SIDE, SIDE)) // 4
    source = box((SIDE, SIDE), 0, 28, 0, 96)
    pixels[source, 2] += 190
    pixels[~source, 1] += 190
    return pixels, source


def test_a_source_of_a_few_pixels_is_enough():
    pixels = noise((40, 40))
    source = box((40, 40), 2, 4, 2, 4)
    filled = fill(pixels, box((40, 40), 15, 30, 15, 30), copy_from=source)
    assert filled.shape == pixels.shape


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"hole": np.ones((30, 30), bool)}, "mask"),
        ({"hole": np.ones((30, 31), bool)}, "mask"),
        ({"hole": np.ones((30, 30), np.uint8)}, "mask"),
        ({"copy_from": np.zeros((30, 30), bool)}, "copy_from"),
        ({"copy_from": box((30, 30), 10, 15, 10, 15)}, "copy_from"),
        ({"copy_from": np.ones((5, 5), bool)}, "copy_from"),
        ({"not_from": np.ones((30, 30), bool)}, "not_from"),
    ],
)
def test_masks_that_leave_nothing_or_do_not_fit_are_named(arguments, field):
    call = {"hole": box((30, 30), 10, 20, 10, 20)} | arguments
    with pytest.raises(InvalidMask) as caught:
        fill(noise((30, 30)), call.pop("hole"), **call)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "pixels", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)]
)
def test_other_arrays_than_rgb_bytes_are_refused(pixels):
    with pytest.raises(InvalidImage):
        fill(pixels, np.zeros(pixels.shape[:2], bool))


def test_progress_rises_to_one_and_may_end_the_work():
    shares = []
    fill(noise((SIDE, SIDE)), disc(), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 5

    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(noise((SIDE, SIDE)), disc(), progress=stop)


LIGHT = Light(dx=0.35, dy=0.4, strength=0.35)


@pytest.mark.parametrize("kind", ["plain", "gradient"])
@pytest.mark.parametrize("colour", ["sand", "grey"])
def test_the_hole_grows_over_the_things_shadow(kind, colour):
    thing = Thing("red", "circle", x=0.5, y=0.45, radius=0.18)
    scene = Scene(Background(colour, kind), LIGHT, (thing,))
    pixels, empty = render(scene, 128), render(scene.without(0), 128)
    hole = coverage(thing, 128) > 0.02
    grown = grow_over_shadow(pixels, hole)
    changed = footprint(thing, LIGHT, 128)
    assert grown[hole].all()
    assert grown[changed].mean() > 0.9
    left, gone = (mean_error(fill(pixels, mask), empty, changed) for mask in (hole, grown))
    assert gone < left / 2


@pytest.mark.parametrize("kind", ["plain", "gradient", "striped"])
def test_without_a_shadow_the_hole_does_not_grow(kind):
    thing = Thing("red", "circle", x=0.5, y=0.5, radius=0.18)
    scene = Scene(Background("sand", kind), Light(0.3, 0.4, strength=0.0), (thing,))
    hole = coverage(thing, 128) > 0.02
    grown = grow_over_shadow(render(scene, 128), hole)
    assert np.count_nonzero(grown) <= 1.1 * np.count_nonzero(hole)


def test_a_shadow_elsewhere_is_left_alone():
    thing = Thing("red", "circle", x=0.7, y=0.7, radius=0.12)
    pixels = render(Scene(Background("sand", "plain"), LIGHT, (thing,)), 128)
    hole = box((128, 128), 10, 30, 10, 30)
    np.testing.assert_array_equal(grow_over_shadow(pixels, hole), hole)


@pytest.mark.parametrize("hole", [np.zeros((20, 20), bool), np.ones((20, 20), bool)])
def test_there_is_nothing_to_grow_in_an_empty_or_a_full_mask(hole):
    np.testing.assert_array_equal(grow_over_shadow(noise((20, 20)), hole), hole)
