"""How long a person waits at the page with a large photo, beside the engine's own time.

python -m benchmarks.page                 a photo of 24 megapixels, three erasures
python -m benchmarks.page --megapixels 6

Needs Chromium (Debian: `apt install chromium`) and the dev extra. The photo is scikit-image's
"astronaut", enlarged, with grain. `opened` is from the choice of the file until it is on the
canvas, `shown` from the press of the button until the result is, `engine` what the engine says it
took. `painted` is the median time between two pictures while the brush moves, `first paint` that of
an empty start.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from skimage import data

from examples.page_screenshots import SLOW, mark, server

WATCH = """async () => {
  const { Viewport } = await import("/page/viewport.js");
  window.times = {};
  const note = (name) => { window.times[name] ??= performance.now(); };
  const { layer, patched } = Viewport.prototype;
  Viewport.prototype.layer = function (...given) {
    layer.apply(this, given);
    note("layer");
  };
  let last = null;
  Viewport.prototype.patched = function () {
    patched.call(this);
    if (this.patch.bitmap !== last) window.times.result = performance.now();
    last = this.patch.bitmap;
  };
  const by = (selector, event) => document.querySelector(selector)
    .addEventListener(event, () => note(event), { capture: true });
  by("#file", "change");
  by("#run", "click");
}"""
"""Notes when the page first draws a picture, and last the part that an edit changes: its result."""

FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"

FRAMES = """() => {
  const frames = [];
  const next = (now) => { frames.push(now); requestAnimationFrame(next); };
  requestAnimationFrame(next);
  return frames;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megapixels", type=float, default=24)
    parser.add_argument("--edits", type=int, default=3)
    asked = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed; on Debian: apt install chromium")
    with tempfile.TemporaryDirectory() as folder, server(None) as url, sync_playwright() as started:
        image = photo(asked.megapixels)
        file = Path(folder) / "photo.jpg"
        image.save(file, quality=92)
        browser = started.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.wait_for_load_state("networkidle")
        say(f"first paint {page.evaluate(FIRST_PAINT) / 1000:.2f} s")
        say(f"opened {opened(page, file):.2f} s")
        say(f"painted {painted(page):.0f} ms")
        times = []
        for number in range(asked.edits):
            shown, engine = erased(page, image, number)
            times.append(shown / engine)
            say(f"shown {shown:.2f} s, engine {engine:.2f} s, {times[-1]:.2f} times")
        say(f"median {statistics.median(times):.2f} times")
        browser.close()


def say(line: str) -> None:
    """Print at once, so that a run that is stopped has told what it found."""
    print(line, flush=True)


def photo(megapixels: float) -> Image.Image:
    """A photo of 3:2 with a sensor's grain."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(1.5 * height)
    large = Image.fromarray(data.astronaut()).resize((width, height), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 3, (height, width, 1))
    return Image.fromarray((np.asarray(large) + grain).clip(0, 255).astype(np.uint8))


def opened(page: Page, file: Path) -> float:
    """Seconds from the choice of a file until it is seen."""
    page.evaluate(WATCH)
    page.set_input_files("#file", file)
    page.wait_for_selector("#tree .thumb img[src]", timeout=SLOW)
    times = page.evaluate("window.times")
    return (times["layer"] - times["change"]) / 1000


def painted(page: Page) -> float:
    """Milliseconds between two pictures while the brush moves; nothing stays painted."""
    box = page.locator("#stage").bounding_box()
    assert box is not None
    page.keyboard.press("b")
    frames = page.evaluate_handle(FRAMES)
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=60)
    page.mouse.up()
    times = frames.json_value()
    page.keyboard.press("Delete")
    return statistics.median(after - before for before, after in pairwise(times))


def erased(page: Page, image: Image.Image, number: int) -> tuple[float, float]:
    """Seconds until the result of one edit is seen, and those of the engine."""
    streams: list[str] = []
    page.on("request", lambda asked: "/events" in asked.url and streams.append(asked.url))
    x, y, side = image.width // 6 * (1 + number), image.height // 4, image.width // 20
    mark(page, image, [(x, y), (x + side, y), (x + side, y + side), (x, y + side)])
    page.wait_for_timeout(1500)  # as somebody looks at what they marked
    page.evaluate("window.times = {}")
    page.click("#run")
    page.wait_for_selector("body.running", timeout=SLOW)
    page.wait_for_selector("body:not(.running)", timeout=SLOW)
    times = page.evaluate("window.times")
    edit = page.request.get(streams[-1].partition("/events")[0]).json()
    return (times["result"] - times["click"]) / 1000, edit["timings"]["total"]


if __name__ == "__main__":
    main()
