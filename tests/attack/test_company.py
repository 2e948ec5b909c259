"""A picture is the same whatever is computed beside it: how nearly, and where that ends.

Latents agree within 1e-5. A value within that of the middle between two levels of 8 bit is rounded
the other way: 1 level. Scaling the canvas to the picture's size spreads that over its neighbours,
and the edge of an instruction's change may move by a pixel: 2 levels, in few pixels.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from overpaint.core.imaging import changes
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from tests.conftest import picture

LATENTS, CANVAS, RESULT = 1e-5, 1, 2
FEW = 0.02
"""Share of the pixels."""


def request(seed: int, side: int) -> EditRequest:
    return EditRequest(
        image=Picture.from_pil(picture(side, side, seed=seed)),
        prompt="make it red " * (1 + seed % 2),
        seed=seed,
        options={"num_inference_steps": 3},
    )


def levels(first: Image.Image, second: Image.Image) -> np.ndarray:
    """(H, W): the largest difference of each pixel's channels."""
    away = np.asarray(first, dtype=int) - np.asarray(second, dtype=int)
    return np.abs(away).max(axis=-1)


@pytest.mark.parametrize("side", [64, 96, 150])
def test_an_instruction_without_a_mask_beside_others(make_engine, side):
    engine = make_engine("kontext")
    requests = [request(seed, side) for seed in range(6)]
    alone = [engine.begin(each) for each in requests]
    together = [engine.begin(each) for each in requests]
    for _ in range(3):
        for edit in alone:
            engine.step(edit.model, edit.prepared)
        engine.step(together[0].model, [image for edit in together for image in edit.prepared])
    family = engine.model().family
    for one, other in zip(alone, together, strict=True):
        first, second = one.prepared[0], other.prepared[0]
        assert (first.latents - second.latents).abs().max() <= LATENTS
        assert levels(family.decode(first), family.decode(second)).max() <= CANVAS
        result = levels(*(engine.finish(each).pictures[0].rgb for each in (one, other)))
        assert result.max() <= RESULT
        assert (result > 0).mean() <= FEW


def test_a_level_of_difference_moves_the_edge_of_a_change_by_two_at_most():
    before = picture(128, 128, seed=1)
    changed = np.asarray(before).copy()
    rows, columns = np.mgrid[:128, :128]
    disc = (rows - 60) ** 2 + (columns - 70) ** 2 < 20**2
    changed[disc] = (0.4 * changed[disc] + 0.6 * np.array([230, 30, 30])).astype(np.uint8)
    first = blended(before, changed)
    rng = np.random.default_rng(0)
    for _ in range(20):
        flipped = changed.astype(int)
        for row, column in rng.integers(0, 128, (8, 2)):
            flipped[row, column] += rng.choice([-1, 1], 3)
        second = blended(before, flipped.clip(0, 255).astype(np.uint8))
        assert levels(first, second).max() <= RESULT
        assert (levels(first, second) > 0).mean() <= FEW


def blended(before: Image.Image, after: np.ndarray) -> Image.Image:
    edited = Image.fromarray(after)
    mask = changes.change_mask(before, edited)
    assert mask is not None
    return Image.composite(edited, before, mask)
