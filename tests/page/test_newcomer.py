"""The first visit: what a demo model is, something to try, files of any kind."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.page.conftest import SLOW, seen, serving, spot


@pytest.mark.parametrize("task", ["inpaint", "edit"])
def test_a_demo_says_that_it_is_one(desk, scene, task):
    desk.open(scene)
    notice = desk.page.locator("#demo")
    expect(notice).to_be_hidden()
    desk.task(task)
    expect(notice).to_be_visible()
    expect(notice).to_contain_text("demo model")
    expect(desk.page.locator("#pull-command")).to_contain_text("overpaint pull ")
    expect(desk.page.locator("#model option:checked")).to_contain_text("(demo)")
    assert not desk.page.locator("#more").get_attribute("open")


def test_samples_are_one_click_away(desk_of, tmp_path):
    """On a server that nobody used yet."""
    with serving(tmp_path, "erase", "tiny-kontext") as url:
        desk = desk_of(url)
        desk.visit()
        desk.page.click("#sample")
        desk.until("state.session?.name === 'Sample photo' && state.mask !== null")
        desk.task("edit")
        desk.page.click("#demo-scene")
        desk.until("state.session?.name === 'Sample scene' && state.mask !== null")
        desk.leave()
        expect(desk.page.locator(".card")).to_have_count(2)
        expect(desk.page.locator("#first")).to_be_hidden()
        desk.page.close()


@pytest.mark.parametrize(("name", "kind"), [("photo.avif", "AVIF"), ("photo.heic", "HEIF")])
def test_photos_of_phones_open(desk, scene, name, kind):
    from pillow_heif import register_heif_opener

    register_heif_opener()
    file = io.BytesIO()
    scene.save(file, kind)
    accepted = desk.page.get_attribute("#file", "accept")
    assert "image/*" in accepted
    assert ".heic" in accepted
    picture = {"name": name, "mimeType": "", "buffer": file.getvalue()}
    desk.page.set_input_files("#file", picture)
    desk.until("state.session?.name === 'photo' && state.mask !== null")
    size = desk.state("[state.mask.width, state.mask.height]")
    assert tuple(size) == scene.size


def test_a_picture_is_shown_before_the_server_has_it(desk, scene):
    held = []
    desk.page.route("**/v1/sessions", lambda route: held.append(route))
    file = io.BytesIO()
    scene.save(file, "PNG")
    desk.page.set_input_files(
        "#file", {"name": "soon.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    desk.size = scene.size
    expect(desk.page.locator("#canvas")).to_be_visible()
    seen(desk, lambda shown: shown.getpixel(spot(desk, 36, 36)) == (215, 30, 40))
    assert desk.state("state.session") is None
    while not held:
        desk.page.wait_for_timeout(20)
    held[0].continue_()
    desk.until("state.session?.name === 'soon' && state.mask !== null")


def test_an_exported_session_comes_back(desk, scene, tmp_path):
    desk.open(scene, name="to take along.png")
    with desk.page.expect_download() as waiting:
        desk.page.click("#export")
    waiting.value.save_as(tmp_path / "session.zip")
    old = desk.state("state.session.id")
    desk.leave()
    desk.page.set_input_files("#file", tmp_path / "session.zip")
    desk.until("state.session?.name === 'to take along' && state.mask !== null")
    assert desk.state("state.session.id") != old


def test_a_dropped_file_may_be_a_mask_or_a_new_picture(desk, scene):
    desk.open(scene)
    mask = Image.new("L", scene.size)
    mask.paste(255, (20, 20, 60, 60))
    drop(desk, mask, "mask.png")
    expect(desk.page.locator("#drop-dialog")).to_be_visible()
    desk.page.get_by_role("button", name="A mask for the open picture").click()
    desk.until("!state.mask.isEmpty")
    assert desk.mask().getpixel((40, 40)) == 255
    assert desk.turns == 1
    drop(desk, scene.rotate(180), "another.png")
    desk.page.get_by_role("button", name="A new picture to edit").click()
    desk.until("state.session.name === 'another' && state.mask !== null")


def test_a_dropped_reference_is_sent_and_goes_where_the_session_goes(
    desk_of, checkpoint_folder, tmp_path, scene
):
    table = f'[models.pair]\nfamily = "klein"\nfolder = "{checkpoint_folder("klein")}"'
    with serving(tmp_path, "pair", settings=table) as url:
        desk = desk_of(url)
        desk.visit()
        desk.open(scene)
        desk.task("edit")
        drop(desk, scene.rotate(180), "look.png")
        desk.page.get_by_role("button", name="A reference for the edit").click()
        chip = desk.page.locator(".given li")
        expect(chip).to_contain_text("look.png")
        expect(chip.locator("img")).to_be_visible()
        desk.page.fill("#prompt", "like this")
        desk.options(num_inference_steps=1)
        desk.run()
        assert len(desk.state("state.session.turns[1].inputs.references")) == 1
        desk.page.close()


def drop(desk, image: Image.Image, name: str) -> None:
    """Drop a PNG file on the page."""
    file = io.BytesIO()
    image.save(file, "PNG")
    desk.page.evaluate(
        "([bytes, name]) => { const given = new DataTransfer();"
        " given.items.add(new File([Uint8Array.from(bytes)], name, { type: 'image/png' }));"
        " document.body.dispatchEvent(new DragEvent('drop',"
        " { dataTransfer: given, bubbles: true, cancelable: true })); }",
        [list(file.getvalue()), name],
    )


def test_many_sessions_are_searched_and_paged(desk_of, address, scene):
    import httpx

    from tests.apps.server.conftest import b64

    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        for number in range(26):
            body = {"name": f"plate {number}", "image": b64(scene)}
            assert client.post("/v1/sessions", json=body).status_code == 201
    desk = desk_of(address)
    desk.visit()
    cards = desk.page.locator(".card")
    expect(cards).to_have_count(24)
    expect(cards.first.locator(".day")).to_contain_text(re.compile(r"\b20\d\d\b"))
    desk.page.click("#further")
    expect(cards.nth(25)).to_be_visible()
    desk.page.fill("#search", "plate 0")
    expect(cards).to_have_count(1, timeout=SLOW)
