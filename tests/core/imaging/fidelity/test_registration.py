"""A movement of the whole picture is found to a fraction of a pixel, and none is invented."""

from __future__ import annotations

import numpy as np
import pytest

from overpaint.core.imaging.fidelity.registration import Motion, register
from tests import faults
from tests.faults import Fault

COUNT = 10
NOISE = Fault(noise=2.0)


def left(motion, fault, side):
    """Pixels of shift and share of zoom that are left after a correction."""
    matrix = np.eye(2, 3) if motion is None else motion.matrix()
    truth = fault.matrix((side, side))
    middle = np.array([(side - 1) / 2, (side - 1) / 2, 1])
    zooms = [np.sqrt(np.linalg.det(each[:, :2])) for each in (matrix, truth)]
    return float(np.hypot(*(matrix @ middle - truth @ middle))), abs(zooms[0] - zooms[1])


def test_shift_zoom_and_rotation_are_found_beside_an_edit(pictures):
    rng, hits = np.random.default_rng(1), 0
    for number, case in enumerate(faults.cases(pictures, COUNT, seed=2)):
        fault = faults.geometric(rng)
        before = NOISE.done_to(case.before, seed=1000 + number)
        motion = register(before, fault.done_to(case.after, seed=number))
        shift, zoom = left(motion, fault, before.shape[0])
        hits += shift <= 0.1 and zoom <= 0.0005
    assert hits >= 0.95 * COUNT


def test_a_tint_and_a_movement_at_once(pictures):
    fault = Fault(shift=(-3.4, 2.2), zoom=1.01, gain=(0.93, 1.0, 1.04), gamma=1.1, noise=2.0)
    case = next(faults.cases(pictures, 1, seed=4))
    motion = register(case.before, fault.done_to(case.after))
    assert left(motion, fault, 384) == (pytest.approx(0, abs=0.1), pytest.approx(0, abs=5e-4))
    assert motion.degrees == pytest.approx(0, abs=0.05)


def test_what_was_cropped_and_stretched_comes_back(pictures):
    fault = Fault(crop=(8, 8), noise=2.0)
    case = next(faults.cases(pictures, 1, seed=4))
    assert left(register(case.before, fault.done_to(case.after)), fault, 384)[0] <= 0.1


def test_where_nothing_moved_nothing_is_found(pictures):
    for number, case in enumerate(faults.cases(pictures, COUNT, seed=7)):
        before, after = NOISE.done_to(case.before, seed=1000 + number), NOISE.done_to(case.after)
        assert register(before, after) is None
    assert register(pictures[0], pictures[0]) is None
    assert register(np.zeros((300, 1, 3), np.uint8), np.full((300, 1, 3), 9, np.uint8)) is None
    flat = np.full((96, 96, 3), 120, np.uint8)
    assert register(flat, flat) is None


def test_a_thing_that_moves_alone_is_no_movement_of_the_whole():
    before = np.full((256, 256, 3), (150, 170, 150), np.uint8)
    after = before.copy()
    before[100:150, 60:120] = (200, 40, 40)
    after[100:150, 72:132] = (200, 40, 40)
    assert register(before, after) is None


def test_a_movement_is_undone_and_knows_what_it_no_longer_shows(pictures):
    fault = Fault(shift=(6, -4))
    moved = fault.done_to(pictures[0])
    motion = Motion(size=(384, 384), right=6, down=-4)
    assert motion.shift == pytest.approx(np.hypot(6, 4))
    visible = motion.visible()
    assert 0.95 < visible.mean() < 1
    error = np.abs(motion.undone(moved).astype(int) - pictures[0])[visible]
    assert error.max() <= 1
