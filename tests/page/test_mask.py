"""Making a mask in the browser: each tool, undo, files, growing and feathering."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from scipy import ndimage


def area(desk) -> float:
    return float(np.asarray(desk.mask()).mean() / 255)


def test_brush_eraser_undo_redo(desk, scene):
    desk.open(scene)
    desk.drag((20, 30), (100, 30))
    painted = desk.mask()
    assert painted.getpixel((60, 30)) == 255
    assert painted.getpixel((60, 80)) == 0
    desk.page.keyboard.press("e")
    desk.drag((60, 10), (60, 60))
    assert desk.mask().getpixel((60, 30)) == 0
    desk.page.keyboard.press("Control+z")
    assert desk.mask().tobytes() == painted.tobytes()
    desk.page.click("#undo")
    assert area(desk) == 0
    assert desk.page.is_disabled("#undo")
    desk.page.keyboard.press("Control+y")
    assert desk.mask().tobytes() == painted.tobytes()


def test_lasso_box_and_taking_away(desk, scene):
    desk.open(scene)
    desk.mark(10, 10, 60, 60)
    assert area(desk) == pytest.approx(50 * 50 / (128 * 96), abs=0.02)
    desk.page.click("[data-tool=lasso]")
    desk.page.keyboard.down("Alt")
    desk.drag((5, 5), (65, 5), (5, 65), (5, 5))
    desk.page.keyboard.up("Alt")
    mask = desk.mask()
    assert mask.getpixel((15, 15)) == 0
    assert mask.getpixel((55, 55)) == 255


def test_invert_clear_grow_shrink_feather(desk, scene):
    desk.open(scene)
    desk.mark(40, 30, 80, 60)
    before = area(desk)
    desk.page.click("#refine")
    box = "document.querySelector('{}').getBoundingClientRect()"
    between = f"{box.format('#refine')}.top - {box.format('#refine-box')}.bottom"
    desk.until(f"0 < {between} && {between} < 20")
    desk.page.fill("#refine-pixels", "5")
    desk.page.click("#grow")
    grown = desk.mask()
    assert grown.getpixel((36, 45)) == 255
    assert grown.getpixel((33, 45)) == 0
    desk.page.click("#shrink")
    assert area(desk) == pytest.approx(before, rel=0.03)
    desk.page.click("#feather")
    feathered = np.asarray(desk.mask())
    assert 0 < feathered[45, 42] < 160 < feathered[45, 60]
    assert feathered[:, :39].max() == 0
    desk.page.keyboard.press("Escape")
    desk.page.click("#invert")
    assert desk.mask().getpixel((5, 5)) == 255
    desk.page.click("#clear")
    assert area(desk) == 0


def test_a_click_and_a_box_find_things(desk, scene):
    desk.open(scene)
    desk.page.click("[data-tool=segment]")
    desk.drag((36, 36), (36, 36))
    desk.until("!state.mask.isEmpty")
    disc = np.asarray(desk.mask()) >= 128
    y, x = np.mgrid[:96, :128]
    true = (x - 36) ** 2 + (y - 36) ** 2 <= 16.5**2
    assert (disc & true).sum() / (disc | true).sum() > 0.85
    desk.drag((74, 44), (114, 84))
    desk.until("state.mask.done.length === 2")
    assert desk.mask().getpixel((94, 64)) == 255


def test_clicks_say_what_is_part_of_a_thing_and_what_is_not(desk, scene):
    desk.open(scene)
    sent = []
    desk.page.on(
        "request",
        lambda asked: asked.url.endswith("/segments") and sent.append(json.loads(asked.post_data)),
    )
    desk.page.click("[data-tool=segment]")
    expect(desk.page.locator("#select")).to_be_visible()
    desk.drag((36, 36), (36, 36))
    desk.until("state.mask.done.length === 1")
    first = desk.mask().tobytes()
    desk.page.keyboard.down("Shift")
    desk.drag((94, 64), (94, 64))
    desk.page.keyboard.up("Shift")
    desk.until("state.mask.done.length === 2")
    desk.page.check("[name=click][value=not]")
    desk.drag((64, 10), (64, 10))
    desk.until("state.mask.done.length === 3")
    points = [
        [(round(p["x"]), round(p["y"]), p["inside"]) for p in body["points"]] for body in sent
    ]
    assert points[2] == [(36, 36, True), (94, 64, True), (64, 10, False)]
    assert desk.mask().getpixel((64, 10)) == 0
    desk.page.keyboard.press("Control+z")
    desk.page.keyboard.press("Control+z")
    assert desk.mask().tobytes() == first  # step by step, and the points go with them
    desk.page.check("[name=click][value=more]")
    desk.drag((40, 30), (40, 30))
    desk.until("state.mask.done.length === 2")
    assert len(sent[-1]["points"]) == 2
    desk.page.check("[name=click][value=another]")
    desk.drag((94, 64), (94, 64))
    desk.until("state.mask.done.length === 3")
    assert len(sent[-1]["points"]) == 1
    assert desk.mask().getpixel((94, 64)) == 255


def test_looking_for_a_thing_is_seen_and_words_may_name_it(desk, scene):
    desk.open(scene)
    wanted = Image.new("L", scene.size)
    wanted.paste(255, (80, 50, 108, 78))
    file = io.BytesIO()
    wanted.save(file, "PNG")
    held = []
    desk.page.click("[data-tool=segment]")
    desk.page.fill("#select-words", "the blue box")
    desk.page.click("#select-run")  # no such model is on this server
    expect(desk.page.get_by_role("alert")).to_contain_text("needs a model that is not installed")
    desk.complaints.clear()
    desk.page.route("**/v1/segments", lambda route: held.append(route))  # a model that is slow
    desk.page.click("#select-run")
    expect(desk.page.locator("#stage")).to_have_attribute("aria-busy", "true")
    words = desk.page.evaluate(
        "getComputedStyle(document.querySelector('#stage'), '::before').content"
    )
    assert words == '"Looking for it"'
    while not held:
        desk.page.wait_for_timeout(20)
    assert json.loads(held[0].request.post_data)["text"] == "the blue box"
    held[0].fulfill(body=file.getvalue(), content_type="image/png")
    desk.until("!state.mask.isEmpty")
    assert desk.mask().tobytes() == wanted.tobytes()
    expect(desk.page.locator("#stage")).not_to_have_attribute("aria-busy", "true")
    # What further clicks find takes the place of what the first ones found; the rest stays.
    desk.page.unroute("**/v1/segments")
    for number, side in enumerate((40, 60, 20), start=2):
        found = Image.new("L", scene.size)
        found.paste(255, (0, 0, side, side))
        answer = io.BytesIO()
        found.save(answer, "PNG")
        desk.page.route("**/v1/segments", answering(answer.getvalue()))
        if number > 2:
            desk.page.check("[name=click][value=more]")
        desk.drag((10, 10), (10, 10))
        desk.until(f"state.mask.done.length === {number}")
    wanted.paste(255, (0, 0, 20, 20))
    assert desk.mask().tobytes() == wanted.tobytes()


def answering(png: bytes):
    """A route's handler that finds what is in that file."""
    return lambda route: route.fulfill(body=png, content_type="image/png")


def test_a_click_selects_in_the_picture_that_is_shown(desk, scene):
    sent = []
    desk.page.on(
        "request",
        lambda asked: (
            asked.url.endswith("/segments") and sent.append(json.loads(asked.post_data)["image"])
        ),
    )
    for background in ((205, 190, 160), (20, 90, 60)):
        picture = Image.new("RGB", scene.size, background)
        picture.paste((250, 250, 250), (30, 30, 60, 60))
        desk.open(picture)
        desk.page.click("[data-tool=segment]")
        desk.drag((45, 45), (45, 45))
        desk.until("!state.mask.isEmpty")
        seen = Image.open(io.BytesIO(base64.b64decode(sent[-1]))).convert("RGB")
        assert seen.getpixel((5, 5)) == background
        desk.page.keyboard.press("b")
        desk.leave()


def test_a_click_beside_the_picture_is_answered_in_words(desk, scene):
    desk.open(scene)
    desk.page.click("[data-tool=segment]")
    desk.drag((-4, 40), (-4, 40))
    expect(desk.page.get_by_role("alert")).to_have_text("Click a thing in the picture.")
    desk.drag((-4, 14), (58, 58))  # a box that begins there is cut to the picture
    desk.until("!state.mask.isEmpty")


@pytest.mark.parametrize("transparent", [False, True])
def test_masks_come_from_files_and_go_to_files(desk, scene, tmp_path, transparent):
    desk.open(scene)
    wanted = Image.new("L", scene.size, 0)
    wanted.paste(255, (70, 40, 118, 88))
    file = wanted
    if transparent:  # transparent is repainted, as OpenAI's masks have it
        file = Image.new("RGBA", scene.size, "black")
        file.putalpha(wanted.point(lambda value: 255 - value))
    data = io.BytesIO()
    file.save(data, "PNG")
    desk.page.set_input_files(
        "#mask-file", {"name": "m.png", "mimeType": "image/png", "buffer": data.getvalue()}
    )
    desk.until("!state.mask.isEmpty")
    assert desk.mask().tobytes() == wanted.tobytes()
    with desk.page.expect_download() as waiting:
        desk.page.click("#save-mask")
    waiting.value.save_as(tmp_path / "mask.png")
    assert Image.open(tmp_path / "mask.png").convert("L").tobytes() == wanted.tobytes()


def test_distances_are_exact(desk):
    rng = np.random.default_rng(0)
    marked = ndimage.gaussian_filter(rng.normal(size=(37, 53)), 3) > 0.05
    values = (marked * 255).astype(int).ravel().tolist()
    grown, feathered = desk.page.evaluate(
        "async ([values, w, h]) => { const d = await import('/page/distance.js');"
        " const bytes = Uint8ClampedArray.from(values);"
        " return [[...d.grown(bytes, w, h, 4)], [...d.feathered(bytes, w, h, 4)]]; }",
        [values, 53, 37],
    )
    outside = ndimage.distance_transform_edt(~marked)
    inside = ndimage.distance_transform_edt(marked)
    wanted = 255 * np.clip(5 - outside, 0, 1)
    assert np.abs(np.reshape(grown, marked.shape) - np.where(marked, 255, wanted)).max() <= 1
    wanted = 255 * np.clip(inside / 5, 0, 1)
    assert np.abs(np.reshape(feathered, marked.shape) - wanted).max() <= 1
