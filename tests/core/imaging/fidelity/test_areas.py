"""Separate changes are told apart; small ones go back, and people have the last word."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from overpaint.core.geometry import Box
from overpaint.core.imaging.fidelity.areas import change_map
from tests.conftest import box_mask, picture

GROUND = (140, 150, 140)


def painted(*boxes, size=(256, 256)):
    image = Image.new("RGB", size, GROUND)
    for box in boxes:
        image.paste((200, 30, 30), box)
    return image


BLANK = painted()
LARGE, FAR = (40, 40, 110, 120), (200, 200, 212, 212)


def test_a_small_change_far_from_the_edit_is_put_back_and_listed():
    found = change_map(BLANK, painted(LARGE, FAR))
    mask = np.asarray(found.mask)
    assert (mask[40:120, 40:110] == 255).all()
    assert mask[190:, 190:].max() == 0
    assert [area.kept for area in found.areas] == [True, False]
    assert found.areas[1].box.contains(Box(*FAR))
    assert found.areas[0].share == pytest.approx(70 * 80 / 256**2, rel=0.2)
    assert found.areas[0].as_json()["kept"] is True


def test_changes_of_like_size_stay():
    found = change_map(BLANK, painted(LARGE, (180, 150, 230, 200)))
    assert [area.kept for area in found.areas] == [True, True]


@pytest.mark.parametrize(("numbers", "kept"), [((2,), [False, True]), ((1, 2), [True, True])])
def test_people_say_which_areas_stay(numbers, kept):
    found = change_map(BLANK, painted(LARGE, FAR), keep=numbers)
    assert [area.kept for area in found.areas] == kept
    assert (np.asarray(found.mask)[200:212, 200:212] == 255).all()


def test_none_may_stay():
    assert np.asarray(change_map(BLANK, painted(LARGE), keep=()).mask).max() == 0


def test_what_lies_far_from_what_the_instruction_names_is_put_back():
    target = box_mask(256, 256, box=(196, 196, 216, 216))
    found = change_map(BLANK, painted(LARGE, FAR), target=target)
    assert [area.kept for area in found.areas] == [False, True]
    assert np.asarray(found.mask)[40:120, 40:110].max() == 0
    shadow = (224, 200, 236, 212)
    found = change_map(BLANK, painted(LARGE, FAR, shadow), target=target)
    assert [area.kept for area in found.areas] == [False, True, True]


def test_where_nothing_changed_at_the_target_all_is_put_back():
    elsewhere = box_mask(256, 256, box=(10, 200, 30, 220))
    found = change_map(BLANK, painted(LARGE, FAR), target=elsewhere)
    assert [area.kept for area in found.areas] == [False, False]
    assert np.asarray(found.mask).max() == 0
    assert change_map(BLANK, BLANK, target=elsewhere).areas == ()


def test_a_thin_line_that_goes_is_an_edit():
    wires = BLANK.copy()
    wires.paste((60, 60, 60), (20, 100, 240, 102))
    found = change_map(wires, BLANK)
    assert (np.asarray(found.mask)[100:102, 20:240] == 255).all()


def test_outlines_that_wander_by_a_fraction_of_a_pixel_are_none():
    before = painted((150, 40, 220, 110))
    wandering = before.resize((2560, 2560), Image.Resampling.BICUBIC)
    wandering = wandering.transform(wandering.size, Image.Transform.AFFINE, (1, 0, 5, 0, 1, 0))
    after = wandering.resize((256, 256), Image.Resampling.BOX)
    after.paste((30, 30, 200), (30, 150, 90, 210))
    mask = np.asarray(change_map(before, after).mask)
    assert mask[150:210, 30:90].min() == 255
    assert mask[30:120, 140:230].max() == 0


def test_an_edit_of_nearly_all_is_taken_whole():
    before = picture()
    assert change_map(before, before.point(lambda value: min(255, value + 60))).mask is None


def test_equal_pictures_have_no_areas():
    found = change_map(picture(), picture())
    assert found.areas == ()
    assert np.asarray(found.mask).max() == 0
