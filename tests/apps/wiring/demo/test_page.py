"""The demo's page: real edits, shown before and after."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from overpaint.apps.wiring.demo import page, photos


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    file = tmp_path_factory.mktemp("demo") / "page.html"
    seen = []
    page.write(file, seen.append)
    return seen, file.read_text(encoding="utf-8")


def test_the_page_shows_every_section_and_stands_alone(demo):
    sections, text = demo
    assert len(sections) == 8
    assert all(section.title in text for section in sections)
    shown = re.findall(r'<img alt="[^"]+" src="data:image/(?:png|webp);base64,([^"]+)">', text)
    assert len(shown) == sum(len(section.pictures) for section in sections)
    for each in shown:
        Image.open(io.BytesIO(base64.b64decode(each))).verify()
    assert "http" not in re.sub(r'src="data:[^"]+"', "", text)


def test_what_is_erased_is_gone_and_the_rest_is_as_it_was(demo):
    (_, before), (_, mask), (_, after) = demo[0][1].pictures
    area = np.asarray(mask) > 0
    letters = np.asarray(before).min(2) == 255
    assert letters[area].mean() > 0.15
    assert (np.asarray(after).min(2) == 255)[area].mean() < 0.01
    assert np.array_equal(np.asarray(after)[~area], np.asarray(before)[~area])


def test_a_picture_that_grows_stays_what_it_was(demo):
    (_, before), (_, after) = demo[0][2].pictures
    left = (after.width - before.width) // 2
    assert after.size == (711, 400)
    inside = after.crop((left, 0, left + before.width, before.height))
    assert np.array_equal(np.asarray(inside), np.asarray(before))


def test_the_folder_of_pictures_stays_in_order(demo):
    pairs = [picture for _, picture in demo[0][3].pictures]
    for before, after, (_, mask) in zip(
        pairs[::2], pairs[1::2], photos.captioned_crops(), strict=True
    ):
        outside = np.asarray(mask) == 0
        assert np.array_equal(np.asarray(before)[outside], np.asarray(after)[outside])


def test_the_twins_paint_what_they_are_asked_for(demo):
    inpainted = np.asarray(demo[0][4].pictures[-1][1].convert("RGB")).astype(int)
    place = np.asarray(photos.scene("mask")) > 0
    red, green, blue = (inpainted[..., channel] for channel in range(3))
    assert (green > np.maximum(red, blue) + 40)[place].mean() > 0.1
    turns = [np.asarray(picture.convert("RGB")).astype(int) for _, picture in demo[0][7].pictures]
    shares = [(turn[..., 2] > turn[..., 0] + 60).mean() for turn in turns]
    assert shares[2] > 0.05 > 0.005 > shares[3]
    assert turns[4].mean() < turns[3].mean() - 30
