"""The edits of the demo: photos without a model first, then the twins on scenes of their world."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from overpaint.apps.wiring.demo import photos
from overpaint.apps.wiring.models import build
from overpaint.engine.engine import Engine
from overpaint.jobs.batch import Batch
from overpaint.jobs.inputs import FINGERPRINTS, Fingerprints
from overpaint.jobs.manifest import Manifest, UnitDefaults
from overpaint.jobs.units import model_key

SEED = 7

GUIDED: Mapping[str, Any] = {
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
    "negative_prompt": "",
}
"""True guidance, which the twins need: by default FLUX models imitate it."""


@dataclass(frozen=True)
class DemoSection:
    """A part of the page.

    Attributes:
        title: its heading.
        text: what was done, in a sentence.
        pictures: pairs of a caption and a picture.
        seconds: how long the edits took.
        is_twin: whether a twin painted.
    """

    title: str
    text: str
    pictures: tuple[tuple[str, Image.Image], ...]
    seconds: float
    is_twin: bool = False


def sections() -> Iterator[DemoSection]:
    """Make the edits, one section at a time.

    Raises:
        OverpaintError: a twin is missing.
    """
    eraser = build.engine("erase")
    yield _erased(eraser, "Erase a thing", "The mast beside the rocket", photos.mast())
    caption = photos.captioned(photos.photo("cat"), (40, 240))
    yield _erased(eraser, "Erase words", "The caption across the photo", caption)
    yield _extended(eraser)
    yield _batch(eraser)
    yield from _twins()


def _erased(engine: Engine, title: str, thing: str, pair: photos.Pair) -> DemoSection:
    picture, mask = pair
    started = time.perf_counter()
    after = engine.edit(picture, mask=mask, seed=SEED).images[0]
    return DemoSection(
        title,
        f"{thing} is erased without a model: the eraser copies from what is around it.",
        (("before", picture), ("mask", mask), ("after", after)),
        time.perf_counter() - started,
    )


def _extended(engine: Engine) -> DemoSection:
    picture = photos.photo("coffee")
    started = time.perf_counter()
    after = engine.edit(picture, extend={"to": "16:9"}, seed=SEED).images[0]
    return DemoSection(
        "Make a picture wider",
        "A photo of 3:2 becomes one of 16:9: the eraser continues it on both sides.",
        (("before", picture), ("after", after)),
        time.perf_counter() - started,
    )


def _batch(engine: Engine) -> DemoSection:
    pairs = photos.captioned_crops()
    with TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        for number, (picture, mask) in enumerate(pairs):
            picture.save(source / f"{number}.png")
            mask.save(source / f"{number}_mask.png")
        started = time.perf_counter()
        results = _run_batch(engine, source, out)
        seconds = time.perf_counter() - started
    sheet = zip((picture for picture, _ in pairs), results, strict=True)
    return DemoSection(
        "A folder of pictures",
        f"{len(pairs)} captions are erased by one batch, which can be stopped and continued.",
        tuple(
            figure for before, after in sheet for figure in (("before", before), ("after", after))
        ),
        seconds,
    )


def _run_batch(engine: Engine, source: Path, out: Path) -> list[Image.Image]:
    fingerprints = Fingerprints(out / FINGERPRINTS)
    try:
        manifest = Manifest(source, UnitDefaults(parts={}, seed=SEED, skip=out), fingerprints)
        Batch(out=out, engine=engine).run(manifest.units(model_key(engine.model().record), None))
    finally:
        fingerprints.close()
    results = sorted((out / "pictures").iterdir())
    return [Image.open(file).convert("RGB") for file in results]


def _twins() -> Iterator[DemoSection]:
    words = json.loads((files("overpaint") / "twins" / "scene" / "words.json").read_text("utf-8"))
    for name in ("tiny-sd2", "tiny-flex2"):
        engine = build.engine(name, dtype="float32")
        yield _inpainted(engine, f"Mask and prompt: {name}", words["inpaint"])
    control = {"control": photos.scene("control"), "control_strength": 1.0, "control_stop": 1.0}
    yield _inpainted(engine, f"A control picture: {name}", words["control"], **control)
    yield _instructed(build.engine("tiny-kontext", dtype="float32"), words["turns"])


def _inpainted(engine: Engine, title: str, prompt: str, **values: Any) -> DemoSection:
    picture, mask = photos.scene("scene"), photos.scene("mask")
    started = time.perf_counter()
    result = engine.edit(picture, prompt, mask=mask, seed=SEED, **GUIDED, **values)
    control = [("control", values["control"])] if "control" in values else []
    pictures = [("before", picture), ("mask", mask), *control, ("after", result.images[0])]
    text = f"“{prompt}”, painted where the mask is white."
    return DemoSection(title, text, tuple(pictures), time.perf_counter() - started, is_twin=True)


def _instructed(engine: Engine, turns: list[str]) -> DemoSection:
    pictures = [("before", photos.scene("scene"))]
    started = time.perf_counter()
    for words in turns:
        result = engine.edit(pictures[-1][1], words, seed=SEED, **GUIDED)
        pictures.append((f"“{words}”", result.images[0]))
    return DemoSection(
        "Instructions, turn after turn: tiny-kontext",
        "Without a mask: each instruction edits the result of the one before.",
        tuple(pictures),
        time.perf_counter() - started,
        is_twin=True,
    )
