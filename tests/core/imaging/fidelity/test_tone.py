"""A model's tint goes off the edit and its surroundings, and none is invented."""

from __future__ import annotations

import numpy as np

from overpaint.core.imaging.fidelity.tone import tint
from tests import faults
from tests.faults import Fault

COUNT = 6
NOISE = Fault(noise=2.0)


def off(one, other, area):
    """Levels by which the mean colours of an area differ, in the worst channel."""
    return np.abs((one.astype(float) - other)[area].mean(axis=0)).max()


def test_at_most_a_level_is_left_around_an_edit_and_little_in_it(pictures):
    rng, inside = np.random.default_rng(1), []
    for number, case in enumerate(faults.cases(pictures, COUNT, seed=2)):
        fault = faults.tonal(rng)
        before = NOISE.done_to(case.before, seed=1000 + number)
        after = fault.done_to(case.after, seed=number)
        clean = tint(before, after).taken_off(after)
        around = faults.grown(case.area, 20) & ~case.area
        assert off(clean, case.before, around) <= 1
        inside.append(off(clean, case.after, case.area) / off(after, case.after, case.area))
    assert np.median(inside) < 0.3


def test_where_no_colour_changed_nothing_is_found(pictures):
    for number, case in enumerate(faults.cases(pictures, COUNT, seed=7)):
        before, after = NOISE.done_to(case.before, seed=1000 + number), NOISE.done_to(case.after)
        assert tint(before, after) is None


def test_what_is_too_strong_is_an_edit(pictures):
    assert tint(pictures[0], Fault(gain=(0.6, 0.6, 0.6)).done_to(pictures[0])) is None
    assert tint(pictures[0], pictures[1]) is None


def test_only_comparable_places_count(pictures):
    after = Fault(offset=(9, 0, -9)).done_to(pictures[0])
    after[:, 200:] = 0
    comparable = np.zeros(after.shape[:2], bool)
    comparable[:, :200] = True
    found = tint(pictures[0], after, comparable)
    assert off(found.taken_off(after), pictures[0], comparable) <= 1
    assert tint(pictures[0], after, np.zeros(after.shape[:2], bool)) is None
