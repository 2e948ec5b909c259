"""A server that has too little: models that it fetches, and pictures over its limit."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.hub_server import Hub
from tests.hub_server import serving as hub_serving
from tests.page.conftest import SLOW, seen, serving, spot

PREFERRED = ("flex2", "sdxl", "sd2", "fill")


@pytest.fixture(scope="module")
def hub(checkpoint_folder):
    """A hub whose only model stands for every one that may be recommended."""
    offered = Hub()
    offered.add(checkpoint_folder("sd2"))
    with hub_serving(offered):
        yield offered


@pytest.fixture(scope="module")
def small(hub, tmp_path_factory):
    """The address of a server that takes pictures of 0.02 megapixels, and has an adapter."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "adapters").mkdir()
    (folder / "adapters" / "rough.safetensors").write_bytes(b"")  # listed by name alone
    tables = [f'[models.{name}]\nfamily = "sd2"\nhub = "owner/model"' for name in PREFERRED]
    settings = "\n".join(["max_megapixels = 0.02", *tables])
    online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "OVERPAINT_CACHE": str(folder / "hub")}
    with serving(
        folder, "erase", "tiny-sd2", settings=settings, head='adapters = "adapters"', **online
    ) as url:
        yield url


def test_a_real_model_is_fetched_from_the_notice(desk_of, small, hub, scene):
    desk = desk_of(small)
    desk.visit()
    desk.open(scene)
    desk.task("inpaint")
    hub.open.clear()
    desk.page.get_by_role("button", name="Download flex2").click()
    bar = desk.page.get_by_role("progressbar", name="Download of flex2")
    expect(bar).to_be_visible()
    desk.page.click("#all-models")
    expect(desk.page.get_by_role("button", name="Stop the download of flex2").last).to_be_visible()
    hub.open.set()
    ready = desk.page.locator("#models li", has_text="flex2").get_by_text("Ready", exact=True)
    expect(ready).to_be_visible(timeout=SLOW)
    desk.page.keyboard.press("Escape")
    expect(desk.page.locator("#demo")).to_be_hidden()
    expect(desk.page.locator("#model")).to_have_value("flex2")
    desk.mark(14, 14, 58, 58)
    desk.page.fill("#prompt", "a green triangle")
    desk.options(num_inference_steps=1)
    desk.run()
    assert desk.state("state.session.turns[1].model") == "flex2"
    desk.page.get_by_label("rough", exact=True).check()
    desk.page.get_by_label("Scale of rough").fill("0.5")
    desk.mark(14, 14, 58, 58)
    with desk.page.expect_request("**/turns") as sent:
        desk.page.click("#run")
    assert sent.value.post_data_json["model"] == "flex2+rough@0.5"


def open_large(desk) -> np.ndarray:
    rng = np.random.default_rng(3)
    pixels = np.kron(rng.integers(0, 256, (12, 16, 3), np.uint8), np.ones((25, 25, 1), np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    picture = {"name": "large.png", "mimeType": "image/png", "buffer": file.getvalue()}
    desk.page.set_input_files("#file", picture)
    expect(desk.page.locator("#large-dialog")).to_be_visible()
    expect(desk.page.locator("#large-facts")).to_contain_text("0.1 megapixels (400 × 300)")
    return pixels


def test_a_picture_over_the_limit_is_edited_at_the_limit(desk_of, small):
    desk = desk_of(small)
    desk.visit()
    open_large(desk)
    desk.page.click("#large-all")
    desk.until("state.mask !== null")
    width, height = desk.state("[state.mask.width, state.mask.height]")
    assert 0.98 * 20_000 < width * height <= 20_000
    assert width / height == pytest.approx(4 / 3, abs=0.02)


def test_a_window_of_it_is_edited_and_goes_back_into_the_whole(desk_of, small, tmp_path):
    desk = desk_of(small)
    desk.visit()
    pixels = open_large(desk)
    canvas = desk.page.locator("#large-canvas")
    box, scale = canvas.bounding_box(), canvas.bounding_box()["width"] / 400
    at = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in ((100, 75), (220, 175))]
    desk.page.mouse.move(*at[0])
    desk.page.mouse.down()
    desk.page.mouse.move(*at[1], steps=3)
    desk.page.mouse.up()
    desk.page.locator("#large-canvas").press("ArrowRight")
    desk.page.click("#large-window")
    desk.until("state.mask !== null")
    desk.size = tuple(desk.state("[state.mask.width, state.mask.height]"))
    assert desk.size == pytest.approx((120, 100), abs=2)
    colour = tuple(int(value) for value in pixels[100, 130])
    place = spot(desk, 130 - 108, 100 - 75)
    seen(desk, lambda shown: shown.getpixel(place) == pytest.approx(colour, abs=2))
    desk.mark(20, 20, 60, 60)
    desk.run()
    desk.page.click("#downloads")
    with desk.page.expect_download() as waiting:
        desk.page.click("#download-whole")
    waiting.value.save_as(tmp_path / "whole.png")
    whole = np.asarray(Image.open(io.BytesIO((tmp_path / "whole.png").read_bytes())).convert("RGB"))
    assert whole.shape == pixels.shape
    changed = np.argwhere((whole != pixels).any(axis=2))
    assert changed.min(axis=0).tolist() == pytest.approx([95, 128], abs=3)
    assert changed.max(axis=0).tolist() == pytest.approx([134, 167], abs=3)


def test_nothing_begins_where_it_is_cancelled(desk_of, small):
    desk = desk_of(small)
    desk.visit()
    open_large(desk)
    desk.page.keyboard.press("Escape")
    expect(desk.page.locator("#drop")).to_be_visible()
    assert desk.state("state.session") is None
