"""Lines that reach the hole go on behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from overpaint.families.erase.exemplar import fill, lines, pyramid, surroundings
from overpaint.families.erase.exemplar.matching import (
    PASSES,
    ROUNDS_COARSEST,
    Matcher,
    better_start,
)

SIDE = 48
DARK, BRIGHT = 40, 200


def edge(slope=0.0, bend=0.0, grain=0.0):
    """Bright above, dark below a line (side, side); and how far each pixel lies above it."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    middle = x - SIDE / 2
    above = SIDE / 2 + slope * middle + bend * middle**2 - y
    grey = np.where(above > 0, BRIGHT, DARK) + np.random.default_rng(0).normal(0, grain, y.shape)
    return np.repeat(np.clip(grey, 0, 255)[..., None], 3, 2).astype(np.uint8), above


def box(top, bottom, left, right):
    hole = np.zeros((SIDE, SIDE), bool)
    hole[top:bottom, left:right] = True
    return hole


def continuation(pixels, hole):
    values = np.dstack([pixels, np.zeros(hole.shape)]).astype(np.float32)
    values[hole] = 0
    return lines.continuation(values, hole)


@pytest.mark.parametrize("slope", [0.0, 0.5, -0.8])
def test_an_edge_stays_sharp_across_the_hole(slope):
    pixels, above = edge(slope)
    hole = box(8, 40, 14, 34)
    guide = continuation(pixels, hole)
    clear = hole & (np.abs(above) > 3)
    wrong = np.abs(guide[..., 0] - pixels[..., 0]) > (BRIGHT - DARK) / 4
    assert wrong[clear].mean() < 0.02
    assert np.abs(pyramid.spread_in(guide, hole)[..., 0] - pixels[..., 0])[clear].mean() > 20


def test_a_bent_edge_is_joined_with_its_other_end():
    pixels, above = edge(bend=0.02)
    hole = box(8, 44, 14, 34)
    guide = continuation(pixels, hole)
    clear = hole & (np.abs(above) > 4)
    wrong = np.abs(guide[..., 0] - pixels[..., 0]) > (BRIGHT - DARK) / 4
    assert wrong[clear].mean() < 0.02


def test_an_edge_without_another_end_goes_straight_ahead():
    pixels, above = edge(0.4)
    hole = box(8, 48, 28, 48)  # to the picture's border
    guide = continuation(pixels, hole)
    clear = hole & (np.abs(above) > 5)  # a few degrees off after 20 pixels
    wrong = np.abs(guide[..., 0] - pixels[..., 0]) > (BRIGHT - DARK) / 4
    assert wrong[clear].mean() < 0.05


def test_edges_along_the_rim_and_texture_are_no_lines():
    hole = box(14, 34, 14, 34)
    framed = np.full((SIDE, SIDE, 3), BRIGHT, np.uint8)
    framed[10:38, 10:38] = DARK
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    for pixels in (framed, noise):
        guide = continuation(pixels, hole)
        np.testing.assert_array_equal(guide, pyramid.spread_in(guide, hole))


def test_the_filling_follows_the_line():
    pixels, above = edge(0.5, grain=4)
    hole = box(6, 42, 12, 36)
    filled = fill(pixels, hole)
    clear = hole & (np.abs(above) > 3)
    wrong = np.abs(filled[..., 0].astype(int) - pixels[..., 0]) > (BRIGHT - DARK) / 3
    assert wrong[clear].mean() < 0.03


def checkers():
    y, x = np.mgrid[:SIDE, :SIDE]
    grey = np.where((y // 4 + x // 4) % 2, BRIGHT, DARK)
    return np.repeat(grey[..., None], 3, 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "hole", "with_lines"),
    [
        (edge(0.5, grain=4)[0], box(6, 42, 12, 36), True),
        (checkers(), box(8, 40, 8, 40), False),
    ],
    ids=["an edge", "checkers"],
)
def test_the_start_whose_sources_fit_better_is_kept(pixels, hole, with_lines):
    layers = pyramid.build(pixels, hole, ~hole)
    surroundings.set_prices(layers)
    layer = layers[-1]
    other = replace(layer, values=layer.values.copy())
    starts = [Matcher(layer, None, 0), Matcher(other, None, 0, with_lines=True)]
    for matcher in starts * ROUNDS_COARSEST:
        for _ in range(PASSES):
            matcher.search()
        matcher.vote(last=False)
    assert better_start(starts) is starts[with_lines]


def test_a_grainy_wall_gets_no_tint():
    rng = np.random.default_rng(3)
    grain = rng.normal(0, 3, (128, 128, 3))
    wall = np.clip(np.array((190, 182, 170)) + grain, 0, 255).astype(np.uint8)
    hole = np.zeros((128, 128), bool)
    hole[30:100, 36:96] = True
    filled = fill(wall, hole)
    inside = filled[34:96, 40:92].astype(float)
    blocks = inside[:60, :48].reshape(6, 10, 6, 8, 3).mean((1, 3))
    assert np.abs(blocks - (190, 182, 170)).max() < 5
