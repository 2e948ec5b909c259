"""A mask of the canvas on the picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from overpaint.core.geometry import Box, full
from overpaint.core.imaging import changes
from overpaint.core.imaging.fidelity.areas import change_map
from overpaint.core.imaging.fidelity.layer import whole_alpha
from tests.conftest import box_mask, picture


def test_it_is_what_the_whole_canvas_would_give():
    plan = full((700, 501), step=16, native=128)
    mask = box_mask(*plan.canvas, box=(40, 30, 90, 70))
    whole = np.asarray(plan.from_canvas(mask)).astype(int)
    assert np.abs(np.asarray(whole_alpha(mask, plan, crops=True)) - whole).max() <= 1
    blank = whole_alpha(Image.new("L", plan.canvas), plan, crops=True)
    assert blank.size == plan.size
    assert blank.getbbox() is None


def test_changes_of_a_large_picture_lie_where_they_are():
    before = picture(1100, 1030)
    assert changes.radius(before) >= 4
    after = before.copy()
    after.paste((200, 30, 30), (201, 303, 420, 517))
    found = change_map(before, after)
    mask = np.asarray(found.mask)
    assert mask.shape == (1030, 1100)
    assert (mask[303:517, 201:420] >= 250).all()
    assert mask[:250].max() == mask[:, 480:].max() == 0
    assert found.areas[0].box.contains(Box(203, 305, 418, 515))
    assert 0.038 < found.areas[0].share < 0.05
