"""Screenshots of the page's main states, for the docs: `python -m examples.page_screenshots`.

Needs Chromium (Debian: `apt install chromium`) and the dev extra. The photo is NASA's "rocket",
which scikit-image carries; the small scene is the one that is bundled with the twins.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from overpaint.apps.wiring.demo import photos
from overpaint.apps.wiring.demo.photos import MAST

SLOW = 300_000  # milliseconds that an edit may take
EDGE, ENLARGED = 24, 8  # as the page fits pictures
OTHER_MAST = [(190, 116), (208, 116), (210, 400), (160, 400)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--url", help="a server that runs; without it, one is started")
    asked = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed; on Debian: apt install chromium")
    with server(asked.url) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        photo(browser, url, asked.out)
        phone(browser, url, asked.out)
        tablet(browser, url, asked.out)
        candidates(browser, url, asked.out)
        instruction(browser, url, asked.out)
        browser.close()


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The address of a server with the eraser and the twins."""
    if url is not None:
        yield url
        return
    models = ("erase", "tiny-sd2", "tiny-kontext")
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "overpaint.toml"
        settings.write_text('[sessions]\nfolder = "sessions"\n', encoding="utf-8")
        serve = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "overpaint", "serve", "--port", "0", "--dtype", "float32"]
            + [word for name in models for word in ("--model", name)],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert serve.stdout is not None
        try:
            yield serve.stdout.readline().split()[-1]
        finally:
            serve.terminate()
            serve.wait()


def photo(browser: Browser, url: str, out: Path) -> None:
    """Marking, the slider, the difference and the history, on a desktop."""
    picture = photos.photo("rocket")
    page = visit(browser, url, {"width": 1280, "height": 800})
    start(page, picture, "rocket.png")
    mark(page, picture, MAST)
    shoot(page, out / "page-mask.jpg")
    run(page)
    mark(page, picture, OTHER_MAST)
    run(page)
    page.keyboard.press("Control+z")
    page.wait_for_selector("#turn-title:text('Turn 1')")
    page.keyboard.press("Delete")
    page.fill("#count", "3")
    mark(page, picture, [(300, 120), (345, 120), (360, 412), (280, 412)])
    run(page)
    page.emulate_media(color_scheme="dark")
    page.keyboard.press("2")
    page.locator("#against").select_option("original")
    shoot(page, out / "page-slider.jpg")
    page.keyboard.press("4")
    shoot(page, out / "page-difference.jpg")


def phone(browser: Browser, url: str, out: Path) -> None:
    """The same on a phone."""
    picture = photos.photo("rocket").crop((300, 60, 600, 427))
    page = visit(browser, url, {"width": 390, "height": 844}, device_scale_factor=2)
    start(page, picture, "launch pad.png")
    mark(page, picture, [(x - 300, y - 60) for x, y in MAST])
    shoot(page, out / "page-phone.jpg")


def tablet(browser: Browser, url: str, out: Path) -> None:
    """A picture that is about to grow, on a tablet."""
    page = visit(browser, url, {"width": 820, "height": 1180})
    start(page, photos.photo("rocket"), "rocket.png")
    page.check("[name=task][value=extend]")
    page.select_option("#extend-ratio", "16:9")
    shoot(page, out / "page-extend.jpg")


def candidates(browser: Browser, url: str, out: Path) -> None:
    """Several results of one edit, and a thing that clicks select."""
    page, picture = at_scene(browser, url, "inpaint", "a green triangle")
    page.fill("#count", "3")
    x0, y0, x1, y1 = 8, 70, 66, 122  # a free place
    mark(page, picture, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    run(page)
    page.keyboard.press(".")
    page.wait_for_selector("#flip-told:text('2 of 3')")
    page.keyboard.press("k")
    shoot(page, out / "page-candidates.jpg")


def instruction(browser: Browser, url: str, out: Path) -> None:
    """An instruction under way, with a preview, and then done."""
    page, _ = at_scene(browser, url, "edit", "make the circle purple")
    page.click("#more summary")
    page.fill("#option-num_inference_steps", "20")
    page.click("#run")
    page.wait_for_selector("#progress-told:text-matches('Step (9|1.) of')", timeout=SLOW)
    shoot(page, out / "page-progress.jpg")


def at_scene(browser: Browser, url: str, task: str, words: str) -> tuple[Page, Image.Image]:
    """The scene on a desktop, with a task and its words."""
    picture = photos.scene("scene").convert("RGB")
    page = visit(browser, url, {"width": 1280, "height": 800})
    start(page, picture, "scene.png")
    page.check(f"[name=task][value={task}]")
    page.fill("#prompt", words)
    return page, picture


def visit(browser: Browser, url: str, size: dict[str, int], **options: float) -> Page:
    context = browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("networkidle")
    return page


def start(page: Page, picture: Image.Image, name: str) -> None:
    file = io.BytesIO()
    picture.save(file, "PNG")
    page.set_input_files(
        "#file", {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}
    )
    page.wait_for_selector("#tree .thumb img[src]", timeout=SLOW)


def mark(page: Page, picture: Image.Image, outline: list[tuple[int, int]]) -> None:
    """Draw a lasso around points of the picture."""
    page.click("[data-tool=lasso]")  # a key would go to the field that was filled last
    box = page.locator("#stage").bounding_box()
    assert box is not None
    wide, high = (box["width"] - 2 * EDGE, box["height"] - 2 * EDGE)
    scale = min(wide / picture.width, high / picture.height, ENLARGED)
    left = box["x"] + (box["width"] - picture.width * scale) / 2
    top = box["y"] + (box["height"] - picture.height * scale) / 2
    places = [(left + x * scale, top + y * scale) for x, y in outline]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in [*places[1:], places[0]]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def run(page: Page) -> None:
    """Do it, and wait until it is done."""
    page.click("#run")
    page.wait_for_selector("#progress:not([hidden])")
    page.wait_for_selector("body:not(.running)", timeout=SLOW)


def shoot(page: Page, file: Path) -> None:
    page.mouse.move(4, 4)
    page.wait_for_timeout(1500)
    page.screenshot(path=file, type="jpeg", quality=88)
    print(file)


if __name__ == "__main__":
    main()
