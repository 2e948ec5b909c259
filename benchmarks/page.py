"""How long a person waits at the page with a large photo, beside the engine's own time.

python -m benchmarks.page                 a photo of 24 megapixels, three erasures
python -m benchmarks.page --megapixels 6

Needs Chromium (Debian: `apt install chromium`) and the dev extra. The photo is scikit-image's
"astronaut", enlarged, with grain. `opened` is from the choice of the file until it is on the
canvas, `shown` from the press of the button until the result is, `engine` what the engine says it
took.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, Response, sync_playwright
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
        print(f"opened {opened(page, file):.2f} s")
        rows = [erased(page, image, number) for number in range(asked.edits)]
        for shown, engine in rows:
            print(f"shown {shown:.2f} s, engine {engine:.2f} s, {shown / engine:.2f} times")
        print(f"median {statistics.median(shown / engine for shown, engine in rows):.2f} times")
        browser.close()


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


def erased(page: Page, image: Image.Image, number: int) -> tuple[float, float]:
    """Seconds until the result of one edit is seen, and those of the engine."""
    streams: list[Response] = []
    page.on("response", lambda answer: "/events" in answer.url and streams.append(answer))
    x, y, side = image.width // 6 * (1 + number), image.height // 4, image.width // 20
    mark(page, image, [(x, y), (x + side, y), (x + side, y + side), (x, y + side)])
    page.wait_for_timeout(1500)  # as somebody looks at what they marked
    page.evaluate("window.times = {}")
    page.click("#run")
    page.wait_for_selector("body.running", timeout=SLOW)
    page.wait_for_selector("body:not(.running)", timeout=SLOW)
    times = page.evaluate("window.times")
    done = streams[-1].text().rpartition("event: done\ndata: ")[2].partition("\n")[0]
    return (times["result"] - times["click"]) / 1000, json.loads(done)["timings"]["total"]


if __name__ == "__main__":
    main()
