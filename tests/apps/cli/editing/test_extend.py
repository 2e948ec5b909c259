"""`overpaint extend`: sides, ratios, the picture's own border, batches, sessions, replay."""

from __future__ import annotations

import json

import numpy as np
import pytest

from overpaint.core.imaging import images
from tests.apps.conftest import SIZE
from tests.conftest import box_mask, picture


def sizes(folder) -> set[tuple[int, int]]:
    return {images.decode(file).size for file in folder.rglob("*.png")}


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        (("--left", "10", "--right", "25%"), (130, 80)),
        (("--to", "2:1", "--anchor", "left"), (160, 80)),
        (("--top", "16", "--to", "1:1"), (96, 96)),
    ],
)
def test_a_picture_grows(overpaint, desk, flags, size):
    ran = overpaint("extend", "photo.png", *flags, "--seed", 7, "-o", "wide.png", "--json")
    assert ran.code == 0, ran.err
    assert images.decode(desk / "wide.png").size == size
    borders = ran.json["recipe"]["extend"]
    left, top = borders.get("left", 0), borders.get("top", 0)
    whole = np.asarray(images.decode(desk / "wide.png").rgb)
    kept = whole[top : top + SIZE[1], left : left + SIZE[0]]
    assert np.array_equal(kept, np.asarray(picture(*SIZE)))


def test_its_own_border_and_what_is_missing(overpaint, desk):
    framed = picture(*SIZE).convert("RGBA")
    framed.putalpha(box_mask(*SIZE, box=(0, 0, 80, 80)))
    framed.save(desk / "framed.png")
    assert overpaint("extend", "framed.png", "-o", "whole.jpg").code == 0
    assert images.decode(desk / "whole.jpg").size == SIZE
    ran = overpaint("extend", "photo.png")
    assert ran.code != 0
    assert "extend: the picture has no transparent border" in ran.err
    ran = overpaint("extend", "photo.png", "--left=-3")
    assert "extend.left: '-3'" in ran.err
    ran = overpaint("extend", "photo.png", "a field", "--left", 3, "--model", "erase")
    assert "prompt: erase cannot use it" in ran.err


def test_a_recipe_makes_it_again(overpaint, desk):
    (desk / "overpaint.toml").write_text("[provenance]\nrecipe = true", encoding="utf-8")
    asked = ("extend", "photo.png", "--left", 20, "--mask", "mask.png", "--seed", 7)
    assert overpaint(*asked, "-o", "wide.png").code == 0
    again = ("replay", "wide.png", "--image", "photo.png", "--mask", "mask.png", "--json")
    ran = overpaint(*again, "-o", "again.png")
    assert ran.code == 0, ran.err
    assert ran.json["same"] is True
    one, two = (images.decode(desk / name).sha256 for name in ("wide.png", "again.png"))
    assert one == two


def test_a_batch_and_its_rows(overpaint, desk):
    folder = desk / "many"
    folder.mkdir()
    for number in range(2):
        picture(*SIZE, seed=number).save(folder / f"{number}.png")
    ran = overpaint("batch", "many", "--extend", '{"right": "50%"}', "-o", "out", "--json")
    assert ran.code == 0, ran.err
    assert (144, 80) in sizes(desk / "out")
    rows = [{"image": "photo.png", "extend": {"left": 4}}, {"image": "photo.png", "extend": {}}]
    (desk / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    ran = overpaint("batch", "rows.jsonl", "--model", "erase", "-o", "rows", "--json")
    assert (100, 80) in sizes(desk / "rows")
    assert ran.json["failed"] == 1


def test_a_turn_of_a_session(overpaint, desk):
    assert overpaint("session", "new", "photo.png", "--name", "kite").code == 0
    ran = overpaint("session", "edit", "kite", "--extend", '{"right": 14}', "-o", "t.png", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["kind"] == "extend"
    assert images.decode(desk / "t.png").size == (110, 80)
    assert "extended" in overpaint("session", "log", "kite").out.decode()
