"""More of the same: again, candidates to flip through and to keep, several pictures at once."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.page.conftest import SLOW, opened, picture_of, seen, shows, spot

MARKED, REST = (14, 14, 58, 58), (70, 10, 120, 90)


@pytest.fixture
def inpainted(desk, scene):
    """Somebody who has two candidates for the disc's place."""
    desk.open(scene)
    desk.task("inpaint")
    desk.mark(*MARKED)
    desk.page.fill("#prompt", "a green triangle")
    desk.page.fill("#count", "2")
    desk.options(num_inference_steps=2)
    desk.run()
    return desk


def test_candidates_are_flipped_through_and_kept(inpainted):
    desk = inpainted
    desk.page.locator("#stage").focus()
    told = desk.page.locator("#flip-told")
    expect(told).to_have_text("1 of 2")
    first, second = (opened(picture_of(desk, turn)) for turn in "12")
    assert first.tobytes() != second.tobytes()
    seen(desk, lambda shown: shows(desk, shown, first))
    desk.page.keyboard.press(".")
    expect(told).to_have_text("2 of 2")
    desk.until("state.session.head === '2'")
    seen(desk, lambda shown: shows(desk, shown, second))
    desk.page.keyboard.press("k")
    expect(desk.page.locator("#keep")).to_have_attribute("aria-pressed", "true")
    desk.until("state.session.turns[2].is_kept")
    desk.page.keyboard.press(".")
    desk.until("state.session.head === '1'")
    expect(desk.page.locator("#tree .thumb")).to_have_count(3)  # it stays in the history
    desk.page.reload()
    desk.until("state.mask !== null")
    expect(desk.page.locator("#tree .thumb")).to_have_count(3)


def test_candidates_are_compared_with_each_other(inpainted):
    desk = inpainted
    desk.page.locator("#stage").focus()
    desk.page.keyboard.press("4")
    desk.page.select_option("#against", "candidate")
    inside, outside = ((*spot(desk, *box[:2]), *spot(desk, *box[2:])) for box in (MARKED, REST))
    compared = seen(desk, lambda shown: not any(shown.crop(outside).tobytes()))
    assert any(compared.crop(inside).tobytes())


def test_again_makes_more_of_the_same_and_leaves_the_mask(inpainted):
    desk = inpainted
    desk.page.fill("#prompt", "something else")
    desk.mark(80, 50, 108, 78)
    painted = desk.mask().tobytes()
    desk.page.locator("#stage").focus()
    desk.page.keyboard.press("a")
    desk.until("state.session.turns.length === 5 && !state.running")
    first, more = desk.state("[state.session.turns[1], state.session.turns[3]]")
    for name in ("parent", "prompt", "model", "kind"):
        assert more[name] == first[name]
    assert more["recipe"]["inputs"] == first["recipe"]["inputs"]
    assert more["seed"] != first["seed"]
    expect(desk.page.locator("#flip-told")).to_have_text("3 of 4")
    assert desk.mask().tobytes() == painted


def test_erasing_begins_as_soon_as_the_pointer_lets_go(desk, scene):
    desk.open(scene)
    desk.page.check("#at-once")
    desk.mark(14, 14, 58, 58)
    desk.until("state.session.turns.length === 2 && !state.running")
    assert desk.state("state.session.turns[1].kind") == "erase"


def passes_of(desk) -> float:
    """Denoising passes that the server has made."""
    lines = desk.page.request.get(f"{desk.url}/metrics").text().splitlines()
    counted = [line for line in lines if line.startswith("overpaint_device_passes_total")]
    assert counted
    return sum(float(line.rpartition(" ")[2]) for line in counted)


def test_changed_areas_are_seen_and_taken_back(desk, scene):
    desk.open(scene)
    desk.task("edit")
    desk.page.fill("#prompt", "make the circle purple")
    desk.page.fill("#seed", "3")
    desk.options(num_inference_steps=8)
    desk.run()
    areas = desk.state("state.session.turns[1].measures.edit.areas")
    told = desk.page.locator("#areas-count")
    expect(told).to_contain_text(f"{len(areas)} changed area")
    told.click()
    boxes = desk.page.locator("#areas-list input")
    expect(boxes).to_have_count(len(areas))
    expect(desk.page.locator("#areas-apply")).to_be_disabled()
    made = opened(picture_of(desk))
    plain = seen(desk, lambda shown: shows(desk, shown, made))
    label = desk.page.locator("#areas-list label").first

    def outlined(shown: Image.Image) -> bool:
        label.hover()  # again, since what is listed later may move it from under the mouse
        return shown != plain

    seen(desk, outlined)
    desk.page.mouse.move(0, 0)
    seen(desk, lambda shown: shown == plain)
    for box in boxes.all():
        box.uncheck()
    passes = passes_of(desk)
    desk.page.click("#areas-apply")
    desk.until("state.session.turns.length === 3 && !state.running")
    assert passes_of(desk) == passes  # the model's picture is there still
    first, other = desk.state("state.session.turns.slice(1)")
    assert (other["parent"], other["seed"]) == (first["parent"], first["seed"])
    assert not any(area["kept"] for area in other["measures"]["edit"]["areas"])
    assert other["measures"]["edit"]["changed"] == 0
    expect(told).to_contain_text(f"{len(areas)} put back")


def test_several_pictures_get_the_same_words(desk, scene):
    desk.open(scene, name="first.png")
    desk.task("edit")
    desk.page.fill("#prompt", "make the circle purple")
    desk.options(num_inference_steps=2)
    files = []
    for name in ("second.png", "third.png"):
        file = io.BytesIO()
        scene.save(file, "PNG")
        files.append({"name": name, "mimeType": "image/png", "buffer": file.getvalue()})
    files.append({"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"})
    desk.page.set_input_files("#queue-files", files)
    desk.page.get_by_role("button", name="Do it to these 3 pictures").click()
    rows = desk.page.locator("#queue-list li")
    for name in ("second.png", "third.png"):
        expect(rows.filter(has_text=name)).to_contain_text("done", timeout=SLOW)
    expect(rows.filter(has_text="broken.png")).to_contain_text("The picture: ")
    desk.complaints.clear()  # of the broken one
    assert desk.turns == 1
    rows.filter(has_text="third.png").get_by_role("link").click()
    desk.until("state.session?.name === 'third' && state.mask !== null")
    assert desk.state("state.session.turns[1].prompt") == "make the circle purple"


def test_a_picture_is_downloaded_as_it_came_in_other_formats_and_to_the_clipboard(
    desk_of, address, tmp_path
):
    desk = desk_of(address, permissions=["clipboard-read", "clipboard-write"])
    desk.visit()
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, "JPEG", quality=95)
    photo = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()}
    desk.page.set_input_files("#file", photo)
    desk.until("state.session?.name === 'photo' && state.mask !== null")

    def downloaded(*clicks: str) -> tuple[str, Image.Image]:
        with desk.page.expect_download() as waiting:
            for selector in clicks:
                desk.page.click(selector)
        path = tmp_path / "file"
        waiting.value.save_as(path)
        image = Image.open(io.BytesIO(path.read_bytes()))
        return waiting.value.suggested_filename, image

    name, own = downloaded("#download")
    assert (name, own.format) == ("photo 0.jpg", "JPEG")
    expect(desk.page.locator("#notice")).to_contain_text("PNG keeps every pixel")
    _, png = downloaded("#downloads", "[data-format=PNG]")
    _, webp = downloaded("#downloads", "[data-format=WEBP]")
    assert (png.format, webp.format) == ("PNG", "WEBP")
    assert png.convert("RGB").tobytes() == webp.convert("RGB").tobytes()
    desk.page.click("#downloads")
    desk.page.click("#copy-picture")
    expect(desk.page.locator("#notice")).to_contain_text("on the clipboard")
    kinds = desk.page.evaluate("async () => (await navigator.clipboard.read())[0].types")
    assert kinds == ["image/png"]
