"""Edits under way belong to their session: in other sessions, other tabs, and on the start."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.page.conftest import LONG, SLOW


def test_an_edit_goes_on_in_its_session_and_is_found_there(desk, scene):
    desk.open(scene, name="at work.png")
    desk.begin()
    address = desk.page.url
    desk.page.keyboard.press("b")
    desk.leave()
    expect(desk.page.locator(".card", has_text="at work")).to_contain_text("Working")
    desk.open(scene, name="another.png")
    expect(desk.page.locator("#progress")).to_be_hidden()
    expect(desk.page.locator("#run")).to_be_visible()
    desk.page.keyboard.press("Escape")  # cancels nothing: no edit is under way here
    desk.mark(70, 40, 90, 60)
    assert desk.mask().getpixel((80, 50)) == 255
    desk.page.goto(address)
    desk.until("state.session?.turns.length === 2 && !state.running")
    expect(desk.page.locator("#turn-words")).to_have_text("“a green triangle”")
    assert desk.mask().getbbox() is None


def test_back_in_its_session_an_edit_shows_its_progress(desk, scene):
    desk.open(scene, name="to come back to.png")
    desk.begin(steps=LONG)
    desk.leave()
    card = desk.page.locator(".card", has_text="to come back to")
    expect(card).to_contain_text("Working")
    card.click()
    expect(desk.page.locator("#progress")).to_be_visible()
    asked = []
    desk.page.on("request", lambda request: asked.append(request.url))
    desk.page.wait_for_timeout(1200)  # the start asked every second
    assert not [url for url in asked if re.search(r"/v1/edits/\w+$", url)]
    expect(desk.page.locator("#progress-told")).to_contain_text("Step", timeout=SLOW)
    desk.page.keyboard.press("Escape")
    expect(desk.page.locator("#run")).to_be_visible(timeout=SLOW)
    assert desk.turns == 1
    assert desk.mask().getpixel((36, 36)) == 255
    assert desk.page.evaluate("localStorage.length") == 0


def test_a_second_tab_shows_the_edit_of_the_first(desk, scene):
    desk.open(scene)
    desk.begin(steps=LONG)
    page = desk.page.context.new_page()
    page.goto(desk.page.url)
    expect(page.locator("#progress-told")).to_contain_text("Step", timeout=SLOW)
    page.click("#cancel")
    for each in (page, desk.page):
        expect(each.locator("#run")).to_be_visible(timeout=SLOW)
