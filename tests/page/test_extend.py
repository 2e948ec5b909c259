"""Pictures that grow: the frame, its numbers and ratios, and results of another size."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.page.conftest import opened, picture_of, seen, spot


def edge(desk, side: str) -> tuple[float, float]:
    """The middle of an edge of the frame, on the screen."""
    left, top, right, bottom = desk.page.evaluate(
        "async () => { const { state } = await import('/page/state.js');"
        " const { place } = await import('/page/extend.js'); return place(); }"
    )
    box = desk.page.locator("#stage").bounding_box()
    middle = {"left": left, "right": right}.get(side, (left + right) / 2)
    level = {"top": top, "bottom": bottom}.get(side, (top + bottom) / 2)
    return box["x"] + middle, box["y"] + level


def frame(desk) -> tuple[int, ...]:
    return tuple(desk.state("['left', 'top', 'right', 'bottom'].map((side) => state.frame[side])"))


def test_a_frame_is_pulled_and_the_picture_grows_into_it(desk, scene):
    desk.open(scene)
    desk.task("extend")
    desk.page.click("#run")
    expect(desk.page.get_by_role("alert")).to_contain_text("First pull an edge of the frame")
    x, y = edge(desk, "right")
    desk.page.mouse.move(x, y)
    desk.page.mouse.down()
    desk.page.mouse.move(x + 60, y, steps=4)
    desk.page.mouse.up()
    left, top, right, bottom = frame(desk)
    assert (left, top, bottom) == (0, 0, 0)
    assert right > 5
    desk.page.fill("#extend-left", "12")
    expect(desk.page.locator("#extend-size")).to_have_text(f"{128 + right + 12} × 96")
    desk.run()
    assert desk.state("state.session.turns[1].kind") == "extend"
    grown = np.asarray(opened(picture_of(desk)))
    assert grown.shape == (96, 128 + right + 12, 3)
    assert (grown[:, 12 : 12 + 128] == np.asarray(scene)).all()
    assert desk.state("[state.mask.width, state.mask.height]") == [128 + right + 12, 96]
    assert frame(desk) == (0, 0, 0, 0)
    # The picture before lies where it was: nothing in it has changed.
    desk.task("erase")
    desk.page.locator("#stage").focus()
    desk.page.keyboard.press("4")
    desk.until("state.view === 'difference'")
    expect(desk.page.locator("#badges span")).to_have_text(["Difference"])
    desk.size = (128 + right + 12, 96)
    inside = (*spot(desk, 14, 2), *spot(desk, 138, 94))
    seen(desk, lambda shown: not any(shown.crop(inside).tobytes()))


@pytest.mark.parametrize(("ratio", "size"), [("16:9", (171, 96)), ("1:1", (128, 128))])
def test_a_ratio_grows_what_is_missing_and_is_kept(desk, scene, ratio, size):
    desk.open(scene)
    desk.task("extend")
    desk.page.select_option("#extend-ratio", ratio)
    left, top, right, bottom = frame(desk)
    assert (128 + left + right, 96 + top + bottom) == size
    assert abs(left - right) <= 1
    assert abs(top - bottom) <= 1
    # The picture is moved within the frame, whose size stays.
    x, y = edge(desk, "none")
    desk.page.mouse.move(x, y)
    desk.page.mouse.down()
    desk.page.mouse.move(x - 300, y - 300, steps=3)
    desk.page.mouse.up()
    assert frame(desk) == (0, 0, left + right, top + bottom)


def test_words_choose_a_model_that_reads_them(desk, scene):
    desk.open(scene)
    desk.task("extend")
    expect(desk.page.locator("#model")).to_have_value("erase")
    expect(desk.page.locator("#demo")).to_be_hidden()
    desk.page.fill("#prompt", "a beach")
    expect(desk.page.locator("#model")).to_have_value("tiny-sd2")
    desk.page.fill("#prompt", "")
    expect(desk.page.locator("#model")).to_have_value("erase")
