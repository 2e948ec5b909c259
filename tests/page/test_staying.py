"""What outlives a reload, a click elsewhere, and the server itself."""

from __future__ import annotations

import io
from contextlib import ExitStack

from playwright.sync_api import expect

from tests.page.conftest import SLOW, serving


def test_a_mask_outlives_a_reload_and_a_visit_elsewhere(desk, scene):
    desk.open(scene)
    desk.mark(14, 14, 58, 58)
    painted = desk.mask().tobytes()
    desk.page.reload()
    desk.until("state.mask !== null && !state.mask.isEmpty")
    assert desk.mask().tobytes() == painted
    address = desk.page.url
    desk.leave()
    desk.page.goto(address)
    desk.until("state.session !== null && state.mask !== null && !state.mask.isEmpty")
    assert desk.mask().tobytes() == painted
    desk.run()
    desk.page.reload()
    desk.until("state.session?.turns.length === 2 && state.mask !== null")
    assert desk.mask().getbbox() is None  # it did its work


def test_a_mask_outlives_a_click_in_the_history(desk, scene):
    desk.open(scene)
    desk.mark(14, 14, 58, 58)
    desk.run()
    desk.mark(74, 44, 114, 84)
    painted = desk.mask().tobytes()
    desk.page.locator("#tree .thumb").first.click()
    desk.until("state.session.head === '0'")
    assert desk.mask().tobytes() == painted


def test_files_stay_with_their_session_and_can_be_taken_away(desk, scene):
    desk.open(scene, name="with a file.png")
    address = desk.page.url
    desk.options()
    file = io.BytesIO()
    scene.convert("L").save(file, "PNG")
    given = {"name": "grain.png", "mimeType": "image/png", "buffer": file.getvalue()}
    desk.page.set_input_files("#part-copy_from", given)
    chip = desk.page.locator(".given li")
    expect(chip).to_contain_text("grain.png")
    expect(chip.locator("img")).to_be_visible()
    desk.leave()
    desk.open(scene, name="without.png")
    expect(chip).to_have_count(0)
    desk.page.goto(address)
    expect(chip).to_contain_text("grain.png")
    desk.page.reload()
    desk.until("state.mask !== null")
    expect(chip).to_contain_text("grain.png")
    desk.options()
    desk.page.get_by_role("button", name="Remove grain.png").click()
    expect(chip).to_have_count(0)
    assert desk.page.input_value("#part-copy_from") == ""
    blobs = "(await import('/page/blobs.js')).get(state.session.id, 'parts')"
    desk.until(f"(await {blobs}).copy_from.length === 0")


def test_candidates_and_later_turns_have_titles_of_their_own(desk, scene):
    desk.open(scene)
    desk.page.fill("#count", "2")
    desk.mark(14, 14, 58, 58)
    desk.run()
    desk.page.fill("#count", "1")
    desk.mark(74, 44, 114, 84)
    desk.run()
    titles = desk.page.evaluate(
        "async () => { const { state } = await import('/page/state.js');"
        " const { nameOf } = await import('/page/session.js');"
        " return state.session.turns.map(nameOf); }"
    )
    assert [each.split(",")[0] for each in titles] == [
        "Original",
        "Turn 1",
        "Turn 1 candidate 2",
        "Turn 2",
    ]


def test_keys_for_views_leave_the_original_as_it_is(desk, scene):
    desk.open(scene)
    desk.page.keyboard.press("2")
    assert desk.state("state.view") == "result"
    desk.mark(14, 14, 58, 58)
    assert desk.mask().getbbox() is not None


def test_after_a_restart_the_page_finds_its_session_and_mask(desk_of, tmp_path, scene):
    models = ("erase", "tiny-sd2")
    with ExitStack() as first:
        url = first.enter_context(serving(tmp_path, *models))
        desk = desk_of(url)
        desk.visit()
        desk.open(scene)
        desk.begin(steps=200)
    alert = desk.page.get_by_role("alert")
    expect(alert).to_contain_text("does not answer", timeout=SLOW)
    port = int(url.rstrip("/").rsplit(":", 1)[1])
    with serving(tmp_path, *models, port=port):
        expect(alert).to_contain_text("before this edit was finished", timeout=SLOW)
        assert desk.mask().getpixel((36, 36)) == 255
        desk.task("erase")
        desk.run()
        assert desk.turns == 2
    assert all("Failed to load resource" in each for each in desk.complaints)
    desk.complaints.clear()
