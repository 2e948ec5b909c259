"""The page as such: keys, errors, access, weight, touch, large pictures."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from tests.page.conftest import drawn, seen, serving, spot

KEY = "0123456789abcdef0123"
REFUSED = "Failed to load resource: the server responded with a status of "
PHONE = {"width": 390, "height": 844}


def test_keys(desk, scene):
    keyboard, page = desk.page.keyboard, desk.page
    keyboard.press("?")
    expect(page.locator("#help-dialog")).to_be_visible()
    keyboard.press("Escape")
    desk.open(scene)
    page.mouse.move(*desk.place(64, 48))
    keyboard.press("]")
    assert desk.state("state.brush") == 46
    keyboard.press("[")
    keyboard.press("[")
    assert desk.state("state.brush") == 35
    keyboard.press("e")
    assert page.get_attribute("[data-tool=eraser]", "aria-pressed") == "true"
    keyboard.down(" ")
    assert page.get_attribute("#stage", "data-cursor") == "hand"
    keyboard.up(" ")
    assert page.get_attribute("#stage", "data-cursor") == "eraser"
    keyboard.press("?")
    expect(page.locator("#help-dialog")).to_be_visible()
    keyboard.press("Escape")
    expect(page.locator("#help-dialog")).to_be_hidden()
    page.fill("#name", "")
    page.locator("#name").press_sequentially("be [brave]")
    assert desk.state("[state.tool, state.brush]") == ["eraser", 35]


def test_tab_held_shows_the_original_and_tapped_goes_on(desk, scene):
    desk.open(scene)
    desk.mark(14, 14, 58, 58)
    desk.run()
    page = desk.page
    page.locator("#stage").focus()
    page.keyboard.press("b")  # from now on the ring of the focus is seen
    page.mouse.move(2, 2)
    red = spot(desk, 36, 36)
    erased = seen(desk, lambda shown: shown.getpixel(red) != (215, 30, 40))
    page.keyboard.down("Tab")
    page.wait_for_timeout(300)  # a shorter one is a tap
    seen(desk, lambda shown: shown.getpixel(red) == (215, 30, 40))
    page.keyboard.up("Tab")
    seen(desk, lambda shown: shown.tobytes() == erased.tobytes())
    assert page.evaluate("document.activeElement.id") == "stage"

    def goes_on() -> bool:
        """Not where the machine is so busy that a tap is as long as holding."""
        page.keyboard.press("Tab")
        return page.evaluate("document.activeElement.id") != "stage"

    assert any(goes_on() for _ in range(20))
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "stage"


def test_the_wheel_zooms_and_zero_fits(desk, scene):
    desk.open(scene)
    mark = (14, 14, 58, 58)
    desk.mark(*mark)
    before = desk.mask().getbbox()
    desk.page.mouse.move(*desk.place(30, 30))
    desk.page.mouse.wheel(0, -400)
    desk.page.keyboard.press("0")
    desk.page.keyboard.press("Delete")
    desk.mark(*mark)
    assert desk.mask().getbbox() == before


@pytest.mark.parametrize("task", ["erase", "inpaint", "edit"])
def test_what_is_missing_is_said_in_a_sentence(desk, scene, task):
    desk.open(scene)
    desk.task(task)
    desk.page.click("#run")
    words = {
        "erase": "First paint over what should go.",
        "inpaint": "First say what should be there.",
        "edit": "First say what to change.",
    }
    alert = desk.page.get_by_role("alert")
    expect(alert).to_have_text(words[task])
    if task == "erase":
        desk.mark(14, 14, 58, 58)
        expect(alert).to_be_hidden()


def test_what_the_server_refuses_is_said_in_a_sentence(desk, scene):
    desk.open(scene)
    desk.task("edit")
    desk.page.fill("#prompt", "make the circle purple")
    desk.options(num_inference_steps=500)
    desk.page.click("#run")
    alert = desk.page.get_by_role("alert")
    expect(alert).to_contain_text("“Num inference steps”: 500 is more than the 400 steps")
    assert alert.inner_text().strip().endswith(".")
    expect(desk.page.locator("#run")).to_be_visible()
    desk.page.set_input_files(
        "#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    expect(alert).to_contain_text("The picture: ")
    assert desk.complaints == [REFUSED + "400 (Bad Request)"] * 2
    desk.complaints.clear()


def test_a_tab_that_is_behind_catches_up_and_keeps_the_mask(desk, desk_of, address, scene):
    desk.open(scene)
    other = desk_of(address)
    other.page.goto(desk.page.url)
    other.until("state.mask !== null")
    other.size = scene.size
    other.mark(14, 14, 58, 58)
    other.run()
    desk.mark(74, 44, 114, 84)
    desk.page.click("#run")
    desk.until("state.session.turns.length === 3 && !state.running")
    assert desk.state("state.session.turns[2].parent") == "0"  # it follows what was seen
    expect(desk.page.locator("#notice")).to_be_hidden()
    other.page.locator("#tree .thumb").first.click()
    other.until("state.session.head === '0' && state.session.turns.length === 3")
    for each in (desk, other):
        assert set(each.complaints) <= {REFUSED + "409 (Conflict)"}
        each.complaints.clear()


def test_a_server_that_is_gone_is_said_until_it_is_back(desk, scene):
    desk.open(scene)
    desk.mark(14, 14, 58, 58)
    desk.page.context.set_offline(True)
    desk.page.click("#run")
    alert = desk.page.get_by_role("alert")
    expect(alert).to_have_text("The server does not answer. Is it still running?")
    desk.page.context.set_offline(False)
    expect(alert).to_be_hidden()
    assert "ERR_INTERNET_DISCONNECTED" in desk.complaints[0]
    desk.complaints.clear()
    desk.run()
    assert desk.turns == 2


def test_a_key_is_asked_for(desk_of, tmp_path, scene):
    with serving(tmp_path, "erase", OVERPAINT_API_KEYS=f"me:{KEY}") as url:
        desk = desk_of(url)
        desk.page.goto(url)
        desk.page.fill("#key", "wrong key, wrong key")
        desk.page.keyboard.press("Enter")
        expect(desk.page.get_by_role("alert")).to_have_text("This server does not know that key.")
        desk.page.fill("#key", KEY)
        desk.page.keyboard.press("Enter")
        expect(desk.page.locator("#key-dialog")).to_be_hidden()
        desk.open(scene)
        assert desk.page.evaluate("localStorage.length") == 0
        assert set(desk.complaints) == {REFUSED + "401 (Unauthorized)"}
        desk.page.close()
        desk.complaints.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1200, "height": 760}, PHONE])
def test_nobody_is_kept_out(desk_of, address, scene, scheme, size):
    desk = desk_of(address, color_scheme=scheme, viewport=size)
    desk.visit()
    findings = [serious(desk)]
    desk.open(scene)
    desk.mark(14, 14, 58, 58)
    desk.page.click("#more summary")
    findings.append(serious(desk))
    desk.page.keyboard.press("?")
    findings.append(serious(desk))
    desk.page.keyboard.press("Escape")
    desk.page.keyboard.press("Delete")
    desk.page.click("#run")
    findings.append(serious(desk))
    desk.page.click("[data-tool=segment]")
    desk.page.click("#downloads")
    findings.append(serious(desk))
    desk.page.keyboard.press("Escape")
    desk.task("extend")
    desk.page.click("#all-models")
    expect(desk.page.locator("#models li").first).to_be_visible()
    findings.append(serious(desk))
    assert findings == [[]] * 6


def serious(desk) -> list[str]:
    found = Axe().run(desk.page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_the_page_is_light_and_nothing_holds_up_its_first_paint(desk_of, address):
    desk = desk_of(address)
    asked: list[str] = []
    desk.page.on("request", lambda request: asked.append(request.url))
    desk.visit()
    files = desk.page.evaluate(
        "performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
        ".map((each) => [each.name, each.encodedBodySize, each.renderBlockingStatus])"
        ".filter(([name]) => !name.includes('/v1/'))"  # what other tests left on the server
    )
    assert len(files) > 20
    assert all(url.removeprefix("blob:").startswith(address) for url in asked)
    assert sum(sent for _, sent, _ in files) <= 150_000
    assert [name for name, _, status in files if status == "blocking" and "css" not in name] == []


def test_fingers_paint_pan_and_zoom(desk_of, address, scene):
    desk = desk_of(address, viewport=PHONE, has_touch=True, is_mobile=True)
    desk.visit()
    desk.open(scene)
    session = desk.page.context.new_cdp_session(desk.page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [dict(zip("xy", desk.place(*point), strict=True)) for point in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", (30, 30))
    touch("touchMove", (90, 30))
    touch("touchEnd")
    painted = desk.mask()
    assert painted.getpixel((60, 30)) == 255
    touch("touchStart", (40, 60))
    touch("touchStart", (40, 60), (80, 60))  # a second finger: no stroke was meant
    touch("touchMove", (30, 60), (90, 60))
    touch("touchEnd")
    assert desk.mask().tobytes() == painted.tobytes()
    wide = desk.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"]


def test_24_megapixels_are_drawn_from_what_is_seen(desk):
    large = Image.linear_gradient("L").resize((6000, 4000)).convert("RGB")
    desk.open(large, name="large.png")
    assert desk.state("state.mask.canvas.width * state.mask.canvas.height") <= 4.01e6
    pixels = desk.page.evaluate_handle(
        "() => { const pixels = []; const { prototype } = CanvasRenderingContext2D;"
        " const { drawImage } = prototype;"
        " prototype.drawImage = function (source, ...to) {"
        "   const [w, h] = to.length === 8 ? to.slice(2) : [source.width, source.height];"
        "   pixels.push(w * h); drawImage.call(this, source, ...to); };"
        " return pixels; }"
    )
    desk.drag(*((1000 + 240 * i, 1000 + 120 * i) for i in range(10)))
    desk.page.mouse.wheel(0, -300)
    drawn(desk)
    read = pixels.json_value()
    assert read
    assert max(read) <= 4.01e6
    assert desk.mask().size == (6000, 4000)
