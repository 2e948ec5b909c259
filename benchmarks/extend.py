"""How well pictures grow: the eraser on real photos, and the twins on held-out scenes.

python -m benchmarks.extend photos      20 photos of scikit-image's, cut and grown back
python -m benchmarks.extend larger      a photo of growing size that gets four times as large
python -m benchmarks.extend twins       ground continued on scenes that no twin has seen

Each writes `results/extend-NAME.md` and `.json`, and a contact sheet beside them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image
from skimage.data import stereo_motorcycle

import overpaint
from benchmarks import report
from benchmarks.behaviour.measures import STEPS, Share
from benchmarks.erase_cases import Mask, Pixels, gradient, read_photo, score
from overpaint.core.imaging.borders import SIDES, Borders
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from training.world.captions import empty_prompt
from training.world.judge import GROUND_ERROR, has_shadow
from training.world.render import footprint, render
from training.world.scene import Scene, sample_scene
from training.world.vision import colour_map

PHOTOS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass"),
    *("gravel", "hubble", "ihc", "microaneurysms", "moon", "motorcycle", "other eye", "page"),
    *("retina", "rocket", "text"),
)
CUT = 8
"""One part of so many is cut from each side of a photo, and grown back."""

SIZE, EDGE = 128, 32
"""Pixels of a scene's side, and of the border that it gets."""

KIND_SEED = 20_261_128
CHUNK = 16
TWINS = ("tiny-flex2", "tiny-sd2", "tiny-kontext")
INSTRUCTED = "tiny-kontext"

Row = dict[str, Any]


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["photos", "larger", "twins"])
    parser.add_argument("--longer", type=int, default=256, help="side of a photo in pixels")
    parser.add_argument("--count", type=int, default=24, help="scenes for each figure")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the twins")
    parser.add_argument("--guidance", type=float, help="of the twins; else each family's default")
    parser.add_argument("--by", nargs="+", default=[*TWINS, "erase"], help="who fills scenes")
    arguments = parser.parse_args()
    report.RESULTS.mkdir(exist_ok=True)
    if arguments.what == "photos":
        report.write(
            "extend-photos",
            "Photos cut and grown back by the eraser",
            f"python -m benchmarks.extend photos --longer {arguments.longer}",
            photo_rows(arguments.longer),
        )
    elif arguments.what == "larger":
        report.write(
            "extend-larger",
            "A photo made four times as large by the eraser",
            "python -m benchmarks.extend larger",
            larger_rows(),
        )
    else:
        options: dict[str, Any] = {"num_inference_steps": arguments.steps}
        if arguments.guidance is not None:
            options["guidance_scale"] = arguments.guidance
        report.write(
            "extend-twins",
            "Ground continued right",
            f"python -m benchmarks.extend twins --count {arguments.count}, {options}",
            twin_rows(arguments.by, arguments.count, options),
        )


def photo_rows(longer: int) -> list[Row]:
    """A row for each photo, and their means."""
    engine = overpaint.load("erase")
    engine.edit(Image.new("RGB", (32, 32)), extend={"left": 8})  # compiled code is loaded
    rows, sheet = [], []
    for name in PHOTOS:
        truth = photo(name, longer)
        borders = Borders(*(side // CUT for side in (truth.shape[1], truth.shape[0]) * 2))
        box = borders.within(
            (truth.shape[1] - borders.left * 2, truth.shape[0] - borders.top * 2)
        ).as_tuple()
        small = Image.fromarray(truth).crop(box)
        started, processor = time.perf_counter(), time.process_time()
        picture = engine.edit(small, extend=borders, seed=0).images[0].convert("RGB")
        seconds, own = time.perf_counter() - started, time.process_time() - processor
        grown = np.asarray(picture)
        border = np.ones(truth.shape[:2], np.bool_)
        border[box[1] : box[3], box[0] : box[2]] = False
        figures = score(truth, grown, border)
        mega = truth.shape[0] * truth.shape[1] / 1e6
        rows.append(
            {
                "photo": name,
                "inside": "identical" if (grown == truth)[~border].all() else "differs",
                "sharpness, near = 1": round(beside(grown, border, borders), 2),
                "sharpness, truth = 1": round(figures.sharpness, 2),
                "PSNR": round(figures.psnr, 1),
                "SSIM": round(figures.ssim, 2),
                "s / MP": round(seconds / mega, 1),
                "processor s / MP": round(own / mega, 1),
            }
        )
        sheet.append(grown)
    write_sheet("extend-photos", sheet, 5, 256)
    return [*rows, _middle(rows)]


def larger_rows() -> list[Row]:
    """A row for each size of a photo that grows by half of itself on each side."""
    engine = overpaint.load("erase")
    engine.edit(Image.new("RGB", (32, 32)), extend={"left": 8})  # compiled code is loaded
    rows = []
    for side in (256, 512, 1024):
        small = Image.fromarray(photo("astronaut", side)).resize((side, side))
        started = time.perf_counter()
        result = engine.edit(small, extend=dict.fromkeys(SIDES, "50%"), seed=0)
        seconds = time.perf_counter() - started
        grown = result.images[0].convert("RGB")
        inside = grown.crop((side // 2, side // 2, side // 2 + side, side // 2 + side))
        rows.append(
            {
                "from": f"{side} x {side}",
                "to": f"{grown.width} x {grown.height}",
                "inside": "identical" if inside.tobytes() == small.tobytes() else "differs",
                "seconds": round(seconds, 1),
                "s / MP": round(seconds / (grown.width * grown.height / 1e6), 1),
            }
        )
    return rows


def _middle(rows: Sequence[Row]) -> Row:
    """Medians of all numbers."""
    numbers = {
        name: round(statistics.median(row[name] for row in rows), 2)
        for name, value in rows[0].items()
        if isinstance(value, float)
    }
    same = all(row["inside"] == "identical" for row in rows)
    return {"photo": "median", "inside": "identical" if same else "differs", **numbers}


def photo(name: str, longer: int) -> Pixels:
    """A photo whose longer side has so many pixels at most."""
    pixels = np.asarray(stereo_motorcycle()[1]) if name == "other eye" else read_photo(name)
    height, width = pixels.shape[:2]
    scale = min(1.0, longer / max(height, width))
    size = round(width * scale), round(height * scale)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def beside(grown: Pixels, border: Mask, borders: Borders) -> float:
    """How sharp the border is beside the picture within the border's own width of it."""
    width = 2 * max(borders.left, borders.top) + 1
    near = cv2.dilate(border.astype(np.uint8), np.ones((width, width), np.uint8)) > 0
    energy = gradient(grown)
    return float(energy[border].mean() / max(energy[near & ~border].mean(), 1e-6))


@dataclass(frozen=True)
class Growing:
    """A scene of which a border is missing: nothing of its things reaches into that."""

    scene: Scene
    borders: Borders
    border: Mask
    words: str
    instruction: str

    @property
    def picture(self) -> Image.Image:
        """What is there."""
        inner = (
            SIZE - self.borders.left - self.borders.right,
            (SIZE - self.borders.top - self.borders.bottom),
        )
        return Image.fromarray(render(self.scene, SIZE)).crop(self.borders.within(inner).as_tuple())


def growing(count: int) -> list[Growing]:
    """Held-out scenes and sides, always the same."""
    rng = np.random.default_rng(KIND_SEED)
    tasks: list[Growing] = []
    while len(tasks) < count:
        scene = sample_scene(rng, int(rng.choice([1, 2])), heldout_first=True)
        borders = Borders(**{SIDES[int(rng.integers(4))]: EDGE})
        inner = SIZE - borders.left - borders.right, SIZE - borders.top - borders.bottom
        box = borders.within(inner)
        border = np.ones((SIZE, SIZE), np.bool_)
        border[box.top : box.bottom, box.left : box.right] = False
        ground = scene.background
        words = empty_prompt(rng, ground).words
        if not any((footprint(each, scene.light, SIZE) & border).any() for each in scene.things):
            kind = "" if ground.kind == "plain" else f"{ground.kind} "
            asked = f"make the background {kind}{ground.colour}"
            tasks.append(Growing(scene, borders, border, words, asked))
    return tasks


def is_right(picture: Pixels, task: Growing) -> bool:
    """Whether the border shows the scene's ground: no thing, no shadow, the judge's own limit."""
    truth = render(task.scene, SIZE)
    error = np.abs(picture.astype(np.float32) - truth)[task.border].mean()
    is_empty = (colour_map(picture)[task.border] >= 0).mean() < 0.03
    return bool(is_empty and error <= GROUND_ERROR and not has_shadow(
        picture, task.scene, task.border
    ))  # fmt: skip


def twin_rows(names: Sequence[str], count: int, options: dict[str, Any]) -> list[Row]:
    """A row for each who fills, by the kind of ground."""
    tasks = growing(count)
    rows = []
    for name in names:
        pictures = filled(name, tasks, {} if name == "erase" else options)
        right = [is_right(each, task) for each, task in zip(pictures, tasks, strict=True)]
        kinds = [task.scene.background.kind for task in tasks]
        row = {"by": name, "right": Share.of(right)}
        for kind in ("plain", "gradient", "striped", "checked"):
            row[kind] = Share.of(
                each for each, own in zip(right, kinds, strict=True) if own == kind
            )
        rows.append(row)
        write_sheet(f"extend-{name}", pictures[:24], 8, SIZE)
    return rows


def filled(name: str, tasks: Sequence[Growing], options: dict[str, Any]) -> list[Pixels]:
    """Who fills the borders of scenes, a few at once."""
    engine = overpaint.load(name, dtype=None if name == "erase" else "float32")
    requests = [
        EditRequest(
            image=Picture.from_pil(task.picture),
            prompt={"erase": "", INSTRUCTED: task.instruction}.get(name, task.words),
            extend=task.borders,
            seed=1000 + index,
            options=options,
        )
        for index, task in enumerate(tasks)
    ]
    chunks = (requests[start : start + CHUNK] for start in range(0, len(requests), CHUNK))
    results = [result for chunk in chunks for result in engine.run(chunk)]
    return [np.asarray(result.pictures[0].rgb) for result in results]


def write_sheet(name: str, pictures: Sequence[Pixels], columns: int, side: int) -> None:
    """Pictures side by side."""
    gap = 4
    lines = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + gap), lines * (side + gap)), "white")
    for index, pixels in enumerate(pictures):
        image = Image.fromarray(pixels)
        image.thumbnail((side, side))
        sheet.paste(image, (index % columns * (side + gap), index // columns * (side + gap)))
    sheet.save(report.RESULTS / f"{name}.png")


if __name__ == "__main__":
    main()
