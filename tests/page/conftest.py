"""A real `overpaint serve` with the twins, and a real browser in front of it."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.servers import serve

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SLOW = 120_000
"""Milliseconds that an edit may take on a busy machine."""

LONG = 400
"""Steps of an edit that is cancelled before it is done."""

expect.set_options(timeout=60_000)

EDGE = 24
"""Pixels that the page leaves around a fitted picture, and how far it enlarges."""
ENLARGED = 8


@contextmanager
def serving(
    folder: Path,
    *models: str,
    settings: str = "",
    head: str = "",
    port: int = 0,
    **environment: str,
) -> Iterator[str]:
    """Run `overpaint serve` on that port, or any, until the block ends; gives its address.

    `head` begins its settings file, `settings` are those of the server and what follows them.
    """
    (folder / "overpaint.toml").write_text(
        f'{head}\ndevice = "cpu"\ndtype = "float32"\n[sessions]\nfolder = "sessions"\n'
        f"[provenance]\nrecipe = true\n[server]\nmodels = {json.dumps(models)}\n{settings}",
        encoding="utf-8",
    )
    with serve(folder, port=port, **environment) as running:
        yield running.url


@pytest.fixture(scope="package")
def address(tmp_path_factory) -> Iterator[str]:
    """The address of a server of the eraser and the twins."""
    folder = tmp_path_factory.mktemp("serve")
    with serving(folder, "erase", "tiny-sd2", "tiny-kontext", settings="max_steps = 400") as url:
        yield url


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; nothing is downloaded."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; on Debian: apt install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


class Desk:
    """Somebody at the page.

    Attributes:
        page: Playwright's own.
        complaints: what the console said at the level of errors.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.size = (1, 1)
        page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def visit(self) -> None:
        self.page.goto(self.url)
        expect(self.page.locator("#drop")).to_be_visible()
        # Its models and limits are known, and its sessions are listed or there are none.
        expect(self.page.locator("#first:visible, #recent:visible")).to_have_count(1)
        self.until("state.models.length > 0 && state.limits !== null")

    def open(self, image: Image.Image, name: str = "scene.png") -> None:
        """Give the page a picture and wait until it is shown."""
        file = io.BytesIO()
        image.save(file, "PNG")
        picture = {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}
        self.page.set_input_files("#file", picture)
        self.size = image.size
        expect(self.page.locator("#tree .thumb")).to_have_count(1, timeout=SLOW)
        expect(self.page.locator("[data-tool=brush]")).to_have_attribute("aria-pressed", "true")
        self.until("state.mask !== null")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the fitted picture is on the screen."""
        box = self.page.locator("#stage").bounding_box()
        width, height = self.size
        scale = min(
            (box["width"] - 2 * EDGE) / width, (box["height"] - 2 * EDGE) / height, ENLARGED
        )
        left = box["x"] + (box["width"] - width * scale) / 2
        top = box["y"] + (box["height"] - height * scale) / 2
        return left + x * scale, top + y * scale

    def drag(self, *points: tuple[float, float]) -> None:
        """Draw with the mouse through points of the picture."""
        mouse = self.page.mouse
        mouse.move(*self.place(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.place(*point), steps=4)
        mouse.up()

    def mark(self, left: float, top: float, right: float, bottom: float) -> None:
        """Mark a box."""
        self.page.keyboard.press("r")
        self.drag((left, top), (right, bottom))

    def leave(self) -> None:
        """Go to the start."""
        self.page.click("#home")
        self.until("state.session === null")

    def begin(self, words: str = "a green triangle", steps: int = 100) -> None:
        """Start to inpaint the scene's disc, which takes a while."""
        self.task("inpaint")
        self.mark(14, 14, 58, 58)
        self.page.fill("#prompt", words)
        self.options(num_inference_steps=steps)
        self.page.click("#run")
        expect(self.page.locator("#progress-told")).to_contain_text("Step", timeout=SLOW)
        self.page.locator("#stage").focus()

    def task(self, name: str) -> None:
        self.page.check(f"[name=task][value={name}]")

    def options(self, **values: object) -> None:
        if self.page.locator("#more").get_attribute("open") is None:
            self.page.click("#more summary")
        for name, value in values.items():
            self.page.fill(f"#option-{name}", str(value))

    def run(self) -> None:
        """Press the button and wait for the turn."""
        before = self.turns
        self.page.click("#run")
        self.until(f"state.session.turns.length > {before} && !state.running")

    def state(self, expression: str):
        """A value in terms of the page's `state`."""
        return self.page.evaluate(
            f"async () => {{ const {{ state }} = await import('/page/state.js');"
            f" return {expression}; }}"
        )

    def until(self, condition: str, seconds: float = SLOW / 1000) -> None:
        """Wait for a condition in terms of `state`; the page's policy forbids to poll by `eval`.

        Where something of it is not there yet, such as a session, it does not hold yet.
        """
        end = time.monotonic() + seconds
        holds = (
            f"await (async () => {{ try {{ return {condition}; }} catch {{ return false; }} }})()"
        )
        while not self.state(holds):
            assert time.monotonic() < end, f"waited in vain for {condition}"
            self.page.wait_for_timeout(50)

    @property
    def turns(self) -> int:
        return self.state("state.session.turns.length")

    @property
    def head(self) -> str:
        return self.state("state.session.head")

    def mask(self) -> Image.Image:
        """The mask as it would be sent."""
        data = self.page.evaluate(
            "async () => { const { state } = await import('/page/state.js');"
            " const file = await state.mask.file();"
            " return Array.from(new Uint8Array(await file.arrayBuffer())); }"
        )
        return Image.open(io.BytesIO(bytes(data))).convert("L")


@pytest.fixture
def desk_of(browser, request):
    """(address, **context options) → somebody at a page of their own; no complaint is let pass."""
    desks: list[Desk] = []

    def make(url: str, **options) -> Desk:
        context = browser.new_context(accept_downloads=True, **options)
        context.set_default_timeout(60_000)
        context.set_default_navigation_timeout(SLOW)
        desks.append(Desk(context.new_page(), url))
        return desks[-1]

    yield make
    for desk in desks:
        desk.page.context.close()
    assert [said for desk in desks for said in desk.complaints] == []


@pytest.fixture
def desk(desk_of, address) -> Desk:
    """Somebody at the start of the page."""
    made = desk_of(address, viewport={"width": 1200, "height": 760})
    made.visit()
    return made


def stage(desk: Desk) -> Image.Image:
    """What is seen of the picture."""
    return Image.open(io.BytesIO(desk.page.locator("#canvas").screenshot())).convert("RGB")


def seen(desk: Desk, is_so: Callable[[Image.Image], bool]) -> Image.Image:
    """Wait until the stage shows something, and give what it shows."""
    end = time.monotonic() + SLOW / 1000
    while not is_so(shown := stage(desk)):
        assert time.monotonic() < end, "waited in vain for a picture"
        desk.page.wait_for_timeout(50)
    return shown


def shows(desk: Desk, shown: Image.Image, image: Image.Image) -> bool:
    """Whether the stage shows that picture, fitted and enlarged, but for what buttons hide."""
    (left, top), (right, bottom) = spot(desk, 0, 0), spot(desk, *image.size)
    across, down = (right - left) / image.width, (bottom - top) / image.height
    same = [
        shown.getpixel((int(left + (x + 0.5) * across), int(top + (y + 0.5) * down)))
        == image.getpixel((x, y))
        for y in range(2, image.height, 6)
        for x in range(2, image.width, 6)
    ]
    return sum(same) > 0.9 * len(same)


def picture_of(desk: Desk, turn: str | None = None) -> bytes:
    """The file of the picture of a turn, of the one that is shown by default."""
    session = desk.state("state.session.id")
    path = f"{desk.url}/v1/sessions/{session}/turns/{turn or desk.head}/picture"
    return httpx.get(path, trust_env=False, timeout=60).content


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def drawn(desk: Desk) -> None:
    """Wait for two frames: what the page asked for before them is drawn, if it is loaded."""
    desk.page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def spot(desk: Desk, x: float, y: float) -> tuple[int, int]:
    """Where a pixel of the fitted picture is in `stage`."""
    box = desk.page.locator("#stage").bounding_box()
    at = desk.place(x, y)
    return round(at[0] - box["x"]), round(at[1] - box["y"])


@pytest.fixture
def scene() -> Image.Image:
    """A red disc and a blue box on sand."""
    image = Image.new("RGB", (128, 96), (205, 190, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 52, 52), fill=(215, 30, 40))
    draw.rectangle((80, 50, 108, 78), fill=(40, 70, 215))
    return image
