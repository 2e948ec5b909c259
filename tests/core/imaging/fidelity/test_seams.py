"""An edit's border is fitted to what is around it, and a border score says how much of it shows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from overpaint.core.imaging import masks
from overpaint.core.imaging.fidelity.seams import border, fitted
from overpaint.core.imaging.fidelity.spill import beyond
from tests.conftest import box_mask, picture
from tests.faults import Fault

SIDE = 256
MASK = masks.feather(box_mask(SIDE, SIDE, box=(70, 60, 190, 180)), 4)


@pytest.fixture(scope="module")
def photo(pictures):
    return Image.fromarray(pictures[2][:SIDE, :SIDE])


def shaded(image, **fault):
    return Image.fromarray(Fault(**fault).done_to(np.asarray(image)))


def test_another_shade_shows_no_border_any_more(photo):
    edited = shaded(photo, gain=(0.9, 0.95, 1.0), offset=(6, 0, -6))
    edited.paste((200, 40, 40), (110, 100, 150, 140))
    plain = Image.composite(edited, photo, MASK)
    ours = Image.composite(fitted(photo, edited, MASK), photo, MASK)
    own = border(photo, photo, MASK)  # of the photo itself, which has edges of its own there
    assert border(photo, plain, MASK) > own + 1.5
    assert border(photo, ours, MASK) - own < (border(photo, plain, MASK) - own) / 3
    middle = np.asarray(ours)[105:135, 115:145].mean(axis=(0, 1))
    assert middle == pytest.approx((200, 40, 40), abs=13)


def test_what_fits_is_left_as_it_is(photo):
    assert fitted(photo, photo, MASK) is photo
    assert fitted(photo, shaded(photo, gain=(0.5, 1, 1)), Image.new("L", photo.size)) is not None
    whole = Image.new("L", photo.size, 255)
    edited = shaded(photo, gain=(0.5, 1, 1))
    assert fitted(photo, edited, whole) is edited


def test_a_true_picture_has_no_border(photo):
    smooth = picture(SIDE, SIDE)
    assert border(smooth, smooth, MASK) < 1
    assert border(photo, photo, MASK) < 1.5
    assert border(photo, photo, Image.new("L", photo.size)) is None
    assert border(photo, photo, Image.new("L", photo.size, 255)) is None


def test_an_edit_that_ends_in_its_mask_does_not_go_on():
    before = picture(128, 128)
    after = before.copy()
    after.paste((255, 0, 0), (40, 40, 80, 80))
    mask = box_mask(128, 128, box=(30, 30, 90, 90))
    assert beyond(before, after, mask) is None
    assert beyond(before, after, Image.new("L", before.size)) is None


def test_what_goes_on_beyond_the_mask_is_found_and_the_rest_is_not():
    before = picture(128, 128)
    after = before.copy()
    after.paste((255, 0, 0), (40, 40, 110, 80))
    after.paste((255, 0, 0), (10, 110, 20, 120))
    found = np.asarray(beyond(before, after, box_mask(128, 128, box=(30, 30, 90, 90))))
    assert (found[45:75, 92:108] == 255).all()
    assert found[105:, :30].max() == 0
    assert found[30:90, 30:90].max() == 0
