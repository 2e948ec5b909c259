"""What is seen: contrast, rings, sizes of targets, and room on screens of every size."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.page.conftest import LONG, drawn, seen, shows, spot

PHONE = {"width": 390, "height": 844}
LANDSCAPE = {"width": 844, "height": 390}
TABLET = {"width": 820, "height": 1180}

CONTROLS = (
    "#prompt, #model, #count, #seed, #lock, .zoom, .option input, #select-words, #extend select,"
    " #extend input"
)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of a computed colour."""
    channels = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def computed(desk, selector: str, name: str) -> str:
    return desk.page.locator(selector).first.evaluate(
        "(element, name) => getComputedStyle(element)[name]", name
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_borders_of_controls_and_the_chosen_tab_are_seen(desk_of, address, scene, scheme):
    desk = desk_of(address, color_scheme=scheme)
    desk.visit()
    desk.open(scene)
    desk.task("inpaint")
    desk.page.click("#more summary")
    for ground in (
        computed(desk, "body", "backgroundColor"),
        computed(desk, "#seed", "backgroundColor"),
    ):
        borders = desk.page.locator(CONTROLS).evaluate_all(
            "all => all.filter(each => each.checkVisibility() && each.type !== 'checkbox')"
            ".map(each => [each.id, getComputedStyle(each).borderTopColor])"
        )
        assert len(borders) > 5
        weak = {name: contrast(colour, ground) for name, colour in borders}
        assert {name: value for name, value in weak.items() if value < 3} == {}
    chosen = computed(desk, "#tasks label:has(:checked)", "backgroundColor")
    assert contrast(chosen, computed(desk, "#tasks", "backgroundColor")) > 3


def test_the_ring_of_the_stage_lies_over_the_picture(desk, scene):
    desk.open(scene)
    seen(desk, lambda shown: shows(desk, shown, scene))
    before = desk.page.locator("#stage").screenshot()
    desk.page.locator("#stage").focus()
    desk.page.keyboard.press("b")
    assert desk.page.locator("#stage").screenshot() != before
    assert "inset" in ring(desk)


def test_where_a_picture_can_be_dropped_is_outlined_over_the_picture(desk, scene):
    desk.open(scene)
    assert ring(desk) == "none"
    enter = "(kind) => document.body.dispatchEvent(new DragEvent(kind, { bubbles: true }))"
    desk.page.evaluate(enter, "dragenter")
    assert "inset" in ring(desk)
    desk.page.evaluate(enter, "dragleave")
    assert ring(desk) == "none"


def ring(desk) -> str:
    """The outline of the stage, which lies over its canvas."""
    return desk.page.evaluate(
        "getComputedStyle(document.querySelector('#stage'), '::after').boxShadow"
    )


def test_zoom_has_buttons_and_a_number(desk, scene):
    desk.open(scene)
    told = desk.page.locator("#zoom-told")
    drawn(desk)
    fitted = told.inner_text()
    desk.page.click("#zoom-in")
    expect(told).not_to_have_text(fitted)
    desk.page.click("#zoom-fit")
    expect(told).to_have_text(fitted)
    assert desk.mask().getbbox() is None  # pressing them paints nothing


def test_a_mask_can_be_hidden_and_painting_shows_it(desk, scene):
    desk.open(scene)
    without = seen(desk, lambda shown: shows(desk, shown, scene)).tobytes()
    desk.mark(14, 14, 58, 58)
    desk.page.click("#hide-mask")
    desk.page.mouse.move(2, 2)
    seen(desk, lambda shown: shown.tobytes() == without)
    desk.mark(74, 44, 114, 84)
    assert desk.page.get_attribute("#hide-mask", "aria-pressed") == "false"


def is_green(pixel: tuple[int, int, int]) -> bool:
    return pixel[1] > pixel[0] + 80


def test_the_mask_has_a_colour_and_an_outline_of_ones_own(desk, scene):
    sand = scene.getpixel((17, 17))
    desk.open(scene)
    desk.mark(14, 14, 58, 58)
    within, (edge, level), (inside, _) = (spot(desk, *at) for at in ((17, 17), (14, 30), (16, 30)))

    def outlined(shown: Image.Image) -> bool:
        row = [shown.getpixel((x, level)) for x in range(edge - 8, inside)]
        return shown.getpixel(within) == sand and any(map(is_green, row))

    desk.page.click("#look")
    desk.page.fill("#look-colour", "#00ff00")
    seen(desk, lambda shown: is_green(shown.getpixel(within)))
    desk.page.check("#look-outline")
    seen(desk, outlined)
    desk.page.keyboard.press("Escape")
    desk.page.reload()
    desk.until("state.mask !== null && !state.mask.isEmpty")
    assert desk.state("state.look") == {"colour": "#00ff00", "outline": True}
    seen(desk, outlined)


def test_tools_that_do_nothing_in_a_view_are_not_lit(desk, scene):
    desk.open(scene)
    desk.mark(14, 14, 58, 58)
    desk.run()
    lit = desk.page.locator("[data-tool][aria-pressed=true]")
    expect(lit).to_have_attribute("data-tool", "box")
    desk.page.keyboard.press("4")
    expect(lit).to_have_attribute("data-tool", "hand")
    desk.page.keyboard.press("1")
    expect(lit).to_have_attribute("data-tool", "box")


def test_options_say_what_they_mean_and_what_people_change_comes_first(desk, scene):
    desk.open(scene)
    desk.task("inpaint")
    seen_labels = desk.page.locator("#seen-options .option > label")
    assert seen_labels.all_inner_texts() == ["Strength", "Context"]
    desk.options()
    labels = desk.page.locator("#options label").all_inner_texts()
    assert labels[:2] == ["Num inference steps", "Guidance scale"]
    for help_text in desk.page.locator(".option small").all():
        expect(help_text).to_be_visible()
        assert help_text.inner_text().endswith(".")


def test_a_field_that_the_browser_complains_of_is_not_under_the_button(desk_of, address, scene):
    desk = desk_of(address, viewport={"width": 1200, "height": 500})
    desk.visit()
    desk.open(scene)
    desk.task("inpaint")
    desk.page.fill("#count", "99")
    desk.page.locator("#panel").evaluate("panel => panel.scrollTo(0, 0)")
    desk.page.click("#run")
    expect(desk.page.locator("#count")).to_be_focused()
    box = "document.querySelector('{}').getBoundingClientRect()"
    desk.until(f"{box.format('#count')}.bottom <= {box.format('.go')}.top")


def cut_off(desk, selector: str) -> list[str]:
    """Controls of those that are seen and reach beyond the screen's sides."""
    return desk.page.locator(selector).evaluate_all(
        "all => all.filter(each => each.checkVisibility({ visibilityProperty: true }))"
        ".filter(each => { const box = each.getBoundingClientRect();"
        " return box.left < -1 || box.right > innerWidth + 1"
        " || each.scrollWidth > each.clientWidth + 2; })"
        ".map(each => each.id || each.outerHTML.slice(0, 80))"
    )


@pytest.mark.parametrize("size", [PHONE, LANDSCAPE, TABLET], ids=["phone", "landscape", "tablet"])
def test_everything_fits(desk_of, address, scene, size):
    desk = desk_of(address, viewport=size)
    desk.visit()
    desk.open(scene)
    assert cut_off(desk, "button, select, .segmented") == []
    assert desk.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    picture = desk.page.locator("#stage").bounding_box()
    assert picture["height"] > 0.4 * size["height"]
    run = desk.page.locator("#run").bounding_box()
    assert run["y"] + run["height"] <= size["height"]
    desk.mark(14, 14, 58, 58)
    desk.run()
    assert desk.turns == 2


@pytest.mark.parametrize("size", [PHONE, LANDSCAPE], ids=["phone", "landscape"])
def test_fingers_find_targets_of_44_pixels(desk_of, address, scene, size):
    desk = desk_of(address, viewport=size, has_touch=True)
    desk.visit()
    desk.open(scene)
    small = desk.page.locator("button:not(.link), select, .segmented label").evaluate_all(
        "all => all.filter(each => each.checkVisibility({ visibilityProperty: true }))"
        ".map(each => [each.id || each.title, each.getBoundingClientRect()])"
        ".filter(([, box]) => box.width < 43.5 || box.height < 43.5).map(([name]) => name)"
    )
    assert small == []


def test_on_a_phone_tasks_and_button_stay_and_the_picture_is_seen_at_work(desk_of, address, scene):
    desk = desk_of(address, viewport=PHONE)
    desk.visit()
    desk.open(scene)
    desk.mark(14, 14, 58, 58)
    desk.task("inpaint")
    desk.page.fill("#prompt", "a green triangle")
    desk.options(num_inference_steps=LONG)
    for selector in ("#tasks", "#run"):
        box = desk.page.locator(selector).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= PHONE["height"]
    desk.page.click("#run")
    expect(desk.page.locator("#progress")).to_be_visible()
    desk.until("document.querySelector('#stage').getBoundingClientRect().y >= 0")
    desk.page.click("#cancel")
    expect(desk.page.locator("#run")).to_be_visible(timeout=120_000)
