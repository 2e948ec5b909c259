"""From a picture to an edit of it, and back, and another way: as a person would, in a browser."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops
from playwright.sync_api import expect

from tests.page.conftest import LONG, SLOW, opened, picture_of, seen, spot


def erase_disc(desk) -> None:
    desk.mark(14, 14, 58, 58)
    desk.run()


def test_load_paint_erase_download_verify(desk, scene, tmp_path):
    desk.open(scene)
    erase_disc(desk)
    expect(desk.page.locator("#turn-title")).to_have_text("Turn 1")
    expect(desk.page.locator("#told")).to_contain_text("Done")
    with desk.page.expect_download() as waiting:
        desk.page.click("#download")
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    assert file.name == "scene 1.png"
    assert file.read_bytes() == picture_of(desk)
    told = subprocess.run(
        [sys.executable, "-m", "overpaint", "verify", str(file)], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert "humanEdits" in told.stdout
    assert "pixels: as made" in told.stdout
    changed = ImageChops.difference(Image.open(file).convert("RGB"), scene).getbbox()
    assert changed is not None
    assert changed[0] >= 13
    assert changed[2] <= 60
    assert np.asarray(Image.open(file))[36, 36, 0] < 212  # the disc's red is gone


def test_what_the_eraser_may_copy_comes_from_a_file(desk, scene):
    """A part of an edit that the page knows from the server alone."""
    desk.open(scene)
    desk.options()
    field = desk.page.get_by_label(
        "Copy from: Mask whose white part is the only place to copy texture from."
    )
    expect(field).to_be_visible()
    blue = Image.new("L", scene.size)
    blue.paste(255, (80, 50, 108, 78))
    file = io.BytesIO()
    blue.save(file, "PNG")
    field.set_input_files({"name": "m.png", "mimeType": "image/png", "buffer": file.getvalue()})
    erase_disc(desk)
    assert desk.state("state.session.turns[1].copy_from") is not None
    inside = np.asarray(opened(picture_of(desk)))[24:48, 24:48]
    assert (inside[..., 2] > 150).mean() > 0.9  # sand has less blue than what may be copied
    field.set_input_files([])
    desk.page.click("#reuse")
    expect(field).to_have_value(re.compile("copy_from.png$"))


def test_a_file_that_does_not_fit_is_named(desk, scene):
    desk.open(scene)
    desk.options()
    small = io.BytesIO()
    Image.new("L", (10, 10), 255).save(small, "PNG")
    desk.page.set_input_files(
        "#part-not_from", {"name": "m.png", "mimeType": "image/png", "buffer": small.getvalue()}
    )
    desk.mark(14, 14, 58, 58)
    desk.page.click("#run")
    expect(desk.page.get_by_role("alert")).to_contain_text("“Not from”: ", timeout=SLOW)
    assert [each for each in desk.complaints if "400" not in each] == []
    desk.complaints.clear()


def test_what_to_avoid_is_said_to_models_that_take_it(desk, scene):
    desk.open(scene)
    words = desk.page.get_by_label("Negative prompt")
    expect(words).to_have_count(0)
    desk.task("inpaint")
    desk.mark(14, 14, 58, 58)
    words.fill("people")
    desk.page.fill("#prompt", "a green triangle")
    desk.options(num_inference_steps=2)
    desk.run()
    assert desk.state("state.session.turns[1].negative_prompt") == "people"
    words.fill("")
    desk.page.click("#reuse")
    expect(words).to_have_value("people")


def test_an_instruction_tells_progress_and_is_seen_on_the_way(desk, scene):
    desk.open(scene)
    desk.task("edit")
    desk.page.fill("#prompt", "make the circle purple")
    desk.options(num_inference_steps=100)
    desk.page.click("#run")
    expect(desk.page.locator("#progress-told")).to_contain_text("Step", timeout=SLOW)
    expect(desk.page.locator("#progress-bar")).to_have_attribute("max", "100")
    desk.until("document.body.classList.contains('running') || state.session.turns.length > 1")
    desk.until("state.session.turns.length === 2 && !state.running")
    assert desk.state("state.session.turns[1].kind") == "edit"
    expect(desk.page.locator("#turn-words")).to_have_text("“make the circle purple”")
    assert desk.page.input_value("#seed") == str(desk.state("state.session.turns[1].seed"))


def test_an_edit_outlives_a_reload_and_can_be_cancelled(desk, scene):
    desk.open(scene)
    desk.task("inpaint")
    desk.mark(14, 14, 58, 58)
    desk.page.fill("#prompt", "a green triangle")
    desk.options(num_inference_steps=LONG)
    desk.page.click("#run")
    expect(desk.page.locator("#progress-told")).to_contain_text("Step", timeout=SLOW)
    desk.page.reload()
    expect(desk.page.locator("#progress-told")).to_contain_text("Step", timeout=SLOW)
    desk.page.keyboard.press("Escape")
    expect(desk.page.locator("#run")).to_be_visible(timeout=SLOW)
    expect(desk.page.locator("#notice")).to_be_hidden()
    assert desk.turns == 1


def test_after_a_cancelled_edit_the_mask_is_there_for_another(desk, scene):
    desk.open(scene)
    desk.task("inpaint")
    desk.mark(14, 14, 58, 58)
    desk.page.fill("#prompt", "a green triangle")
    desk.options(num_inference_steps=LONG)
    desk.page.click("#run")
    expect(desk.page.locator("#progress-told")).to_contain_text("Step", timeout=SLOW)
    desk.page.click("#cancel")
    expect(desk.page.locator("#run")).to_be_visible(timeout=SLOW)
    assert desk.turns == 1
    assert desk.mask().getbbox() is not None
    desk.task("erase")
    desk.run()
    assert desk.turns == 2


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(desk, scene, way):
    file = io.BytesIO()
    scene.save(file, "PNG")
    desk.page.evaluate(
        "async ([bytes, way]) => {"
        " const given = new DataTransfer();"
        " const data = Uint8Array.from(bytes);"
        " given.items.add(new File([data], 'given.png', { type: 'image/png' }));"
        " const event = way === 'drop'"
        "   ? new DragEvent('drop', { dataTransfer: given, bubbles: true, cancelable: true })"
        "   : new ClipboardEvent('paste', { clipboardData: given, bubbles: true });"
        " document.body.dispatchEvent(event); }",
        [list(file.getvalue()), way],
    )
    desk.until("state.session?.name === 'given'")


def test_undo_branch_reload_and_restore(desk, scene):
    desk.open(scene)
    erase_disc(desk)
    first = desk.head
    desk.mark(74, 44, 114, 84)
    desk.run()
    second = desk.head
    desk.page.keyboard.press("Control+z")
    desk.until(f"state.session.head === '{first}'")
    desk.until("!state.mask.isEmpty")  # the undone edit's mask is there again
    desk.page.keyboard.press("Control+Shift+z")
    desk.until(f"state.session.head === '{second}'")
    desk.page.keyboard.press("Control+z")
    desk.until(f"state.session.head === '{first}' && !state.mask.isEmpty")
    desk.run()
    third = desk.head
    desk.page.reload()
    desk.until(f"state.session?.head === '{third}'")
    thumbs = desk.page.locator("#tree .thumb")
    expect(thumbs).to_have_count(4)
    rows = thumbs.evaluate_all(
        "all => new Set(all.map(each => Math.round(each.getBoundingClientRect().y))).size"
    )
    assert rows == 2
    expect(desk.page.locator("#tree [aria-current=true]")).to_have_count(1)
    thumbs.nth(2).click()
    desk.until(f"state.session.head === '{second}'")


def test_the_session_is_found_again_from_the_start(desk, scene):
    desk.open(scene, name="to be found.png")
    desk.page.fill("#name", "found again")
    desk.page.keyboard.press("Enter")
    desk.until("state.session.name === 'found again'")
    desk.page.click("#home")
    card = desk.page.locator(".card", has_text="found again")
    expect(card).to_be_visible()
    expect(card.locator("img")).to_have_js_property("complete", True)
    card.click()
    desk.until("state.session.name === 'found again'")
    expect(desk.page.locator("#name")).to_have_value("found again")
    desk.leave()
    desk.page.on("dialog", lambda dialog: dialog.accept())
    desk.page.get_by_role("button", name="Delete found again").click()
    expect(card).to_have_count(0)


def test_a_session_that_was_left_before_it_came_stays_away(desk, scene):
    desk.open(scene, name="slow to come.png")
    desk.leave()
    answers = []
    desk.page.route(re.compile(r"/v1/sessions/[^/?]+$"), lambda route: answers.append(route))
    desk.page.locator(".card", has_text="slow to come").click()
    desk.page.wait_for_url(re.compile("#.+"))
    while not answers:
        desk.page.wait_for_timeout(20)
    desk.page.click("#home")
    with desk.page.expect_response(lambda answer: answer.url == answers[0].request.url):
        answers[0].continue_()
    expect(desk.page.locator(".card", has_text="slow to come")).to_be_visible()
    desk.page.wait_for_timeout(200)  # were it opened now, it would be within a few milliseconds
    assert desk.state("state.session") is None


def test_candidates_are_there_to_choose_from(desk, scene):
    desk.open(scene)
    desk.page.fill("#count", "3")
    erase_disc(desk)
    candidates = desk.page.locator("#candidates .thumb")
    expect(candidates).to_have_count(3)
    best = desk.head
    candidates.nth(2).click()
    desk.until(f"state.session.head !== '{best}'")
    expect(desk.page.locator("#tree .thumb")).to_have_count(3)


def test_a_speck_of_dust_that_is_erased_is_no_failure(desk):
    sky = Image.new("RGB", (2400, 1600), (120, 140, 180))
    sky.paste((90, 100, 120), (1200, 800, 1203, 803))
    desk.open(sky)
    desk.mark(1190, 790, 1214, 814)
    desk.run()
    expect(desk.page.locator("#told")).to_contain_text("Done")
    assert desk.state("state.session.turns[1].verdict") == "done"
    expect(desk.page.locator("#notice")).to_be_hidden()
    expect(desk.page.locator("#turn-warnings li")).to_have_count(0)
    # Measures come after the result.
    expect(desk.page.locator("#turn-facts")).to_contain_text("of the pixels changed", timeout=SLOW)


def test_an_erase_of_nothing_says_so_in_words_that_fit(desk):
    sky = Image.new("RGB", (160, 120), (120, 140, 180))
    desk.open(sky)
    desk.mark(40, 40, 80, 80)
    desk.run()
    alert = desk.page.get_by_role("alert")
    expect(alert).to_contain_text("Mark the whole thing, and a little more.")


def test_comparing(desk, scene):
    desk.open(scene)
    erase_disc(desk)
    desk.page.keyboard.press("2")
    divider = desk.page.locator("#divider")
    expect(divider).to_be_visible()
    divider.focus()
    desk.page.keyboard.press("ArrowRight")
    expect(divider).to_have_attribute("aria-valuenow", "52")
    desk.page.keyboard.press("4")
    expect(divider).to_be_hidden()
    shown = seen(desk, lambda shown: shown.getpixel(spot(desk, 94, 64)) == (0, 0, 0))
    assert shown.getpixel(spot(desk, 36, 36)) != (0, 0, 0)
    desk.page.select_option("#against", "original")
    desk.page.keyboard.press("3")
    expect(desk.page.locator("#badges span")).to_have_text(["Before", "After"])


def test_what_did_not_change_is_black_in_the_difference(desk):
    rng = np.random.default_rng(5)
    photo = Image.fromarray(rng.integers(0, 256, (331, 787, 3), np.uint8))
    desk.open(photo)
    desk.mark(600, 100, 680, 200)
    desk.run()
    desk.page.keyboard.press("4")
    expect(desk.page.locator("#badges span")).to_have_text(["Difference"])
    left, top = spot(desk, 2, 2)
    right, bottom = spot(desk, 590, 328)
    same = left, top, right, bottom
    shown = np.asarray(seen(desk, lambda shown: not any(shown.crop(same).tobytes())))
    left, top = spot(desk, 610, 110)
    right, bottom = spot(desk, 670, 190)
    assert (shown[top:bottom, left:right].max(axis=2) > 0).mean() > 0.9


def test_recipe_settings_and_session_can_be_taken_along(desk_of, address, scene):
    desk = desk_of(address, permissions=["clipboard-read", "clipboard-write"])
    desk.visit()
    desk.open(scene)
    desk.options(context=2)
    erase_disc(desk)
    desk.page.evaluate(
        "() => { const button = document.querySelector('#copy'); window.words = [];"
        " const note = () => words.push(button.textContent);"
        " new MutationObserver(note).observe(button, { childList: true }); }"
    )
    desk.page.click("#copy")
    expect(desk.page.locator("#told")).to_contain_text("on the clipboard")
    assert desk.page.evaluate("words[0]") == "Copied"  # for a moment
    recipe = desk.page.evaluate("navigator.clipboard.readText()")
    assert '"context": 2' in recipe
    desk.options(context=1)
    desk.page.click("#reuse")
    assert desk.page.input_value("#option-context") == "2"
    assert desk.page.get_attribute("#lock", "aria-pressed") == "true"
    desk.page.click("#reuse-mask")
    desk.until("!state.mask.isEmpty")
    with desk.page.expect_download() as waiting:
        desk.page.click("#export")
    assert Path(waiting.value.suggested_filename).suffix == ".zip"
