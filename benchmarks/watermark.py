"""What the watermark survives, and how often it is found where there is none.

    python -m benchmarks.watermark --photos FOLDER [--count 100] [--processes 2]

Takes the photos of a folder; without one, those of scikit-image's wheel, cut into pieces. In each a
region at a random place counts as edited and is marked; then files are made of the result, as
people make them, and the detector looks at them. It knows neither place nor scale. Writes
`benchmarks/results/watermark.md`.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from overpaint.core.imaging.images import Picture
from overpaint.provenance import watermark

OUT = Path("benchmarks/results/watermark.md")
PIECE = (480, 320)
MOST = 480
"""Pixels of a side; larger photos are cut."""

SIDE = 160
SIDES = (96, 129, 160, 200, 256)

Attack = Callable[[Image.Image], Image.Image]


def saved(kind: str, image: Image.Image, **options: int) -> Image.Image:
    """The picture as a file of a lossy format gives it back."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file).convert("RGB")


def jpeg(quality: int) -> Attack:
    return lambda image: saved("JPEG", image, quality=quality)


def lossy(kind: str, quality: int) -> Attack:
    return lambda image: saved(kind, image, quality=quality)


def scaled(by: float) -> Attack:
    return lambda image: image.resize(
        (round(image.width * by), round(image.height * by)), Image.Resampling.BICUBIC
    )


def both(first: Attack, second: Attack) -> Attack:
    return lambda image: second(first(image))


ATTACKS: dict[str, Attack] = {
    "PNG": lambda image: image,
    **{f"JPEG {quality}": jpeg(quality) for quality in (90, 80, 70, 60, 50)},
    **{f"WebP {quality}": lossy("WEBP", quality) for quality in (90, 80)},
    **{f"AVIF {quality}": lossy("AVIF", quality) for quality in (80, 60)},
    **{f"{by:.0%} of the size": scaled(by) for by in (0.9, 0.75, 0.6, 0.5, 0.4)},
    "half, then JPEG 90": both(scaled(0.5), jpeg(90)),
    "half, then JPEG 80": both(scaled(0.5), jpeg(80)),
    "75 %, then JPEG 80": both(scaled(0.75), jpeg(80)),
    "brighter by a tenth": lambda image: image.point(lambda value: min(255, round(value * 1.1))),
    "turned by 1°": lambda image: image.rotate(1, Image.Resampling.BICUBIC),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def pieces(folder: Path | None) -> Iterator[Image.Image]:
    """Photos of one size or more."""
    if folder is None:
        from skimage import data

        for name in ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina"):
            photo = Image.fromarray(getattr(data, name)()).convert("RGB")
            width, height = PIECE
            for top in range(0, photo.height - height + 1, height):
                for left in range(0, photo.width - width + 1, width):
                    yield photo.crop((left, top, left + width, top + height))
        return
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"):
            photo = Image.open(file).convert("RGB")
            yield photo.crop((0, 0, *(min(each, MOST) for each in photo.size)))


def chosen(folder: Path | None, count: int) -> list[Image.Image]:
    """So many photos, from all of them."""
    all_ = list(pieces(folder))
    return [all_[round(at)] for at in np.linspace(0, len(all_) - 1, min(count, len(all_)))]


def marked(photo: Image.Image, side: int, seed: int) -> tuple[Image.Image, float, float]:
    """The photo with a marked region, how much it changed (RMS of 255), and the seconds it took."""
    rng = np.random.default_rng(seed)
    left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
    box = (left, top, left + side, top + side)
    source = photo.copy()
    source.paste(Image.eval(photo.crop(box), lambda value: 255 - value), box)
    started = time.process_time()
    result = watermark.embed(Picture(photo), Picture(source)).rgb
    seconds = time.process_time() - started
    change = (np.asarray(each.crop(box)).astype(float) for each in (result, photo))
    return result, float(np.sqrt(np.mean((next(change) - next(change)) ** 2))), seconds


def is_marked(image: Image.Image) -> bool:
    return watermark.find(Picture(image)) is not None


def survivals(task: tuple[int, Image.Image]) -> dict[str, list[float]]:
    """What was found of one photo's marks, by attack and by size."""
    seed, photo = task
    rows: dict[str, list[float]] = defaultdict(list)
    result, change, seconds = marked(photo, SIDE, seed)
    rows["change"].append(change)
    rows["seconds"].append(seconds)
    for name, attack in ATTACKS.items():
        rows[name].append(is_marked(attack(result)))
    for share in (0.75, 0.5, 0.25):
        inner = round(SIDE * np.sqrt(share))
        rows[f"crop to {share:.0%}"].append(is_marked(cut(result, photo, inner)))
    for side in SIDES:
        result, change, _ = marked(photo, side, seed)
        rows[f"change {side}"].append(change)
        for name in ("PNG", "JPEG 80", "50% of the size", "half, then JPEG 80"):
            rows[f"{side}: {name}"].append(is_marked(ATTACKS[name](result)))
    return rows


def cut(result: Image.Image, photo: Image.Image, side: int) -> Image.Image:
    """What is left if the picture's edge goes through the region: a part of that side of it."""
    difference = np.asarray(result).astype(int) - np.asarray(photo)
    rows, columns = (np.flatnonzero(difference.any(axis=2).any(axis=axis)) for axis in (1, 0))
    return result.crop((0, 0, int(columns[0]) + side, int(rows[0]) + side))


def report(rows: dict[str, list[float]], false_positives: int, unmarked: int, where: str) -> str:
    def share(name: str) -> str:
        return f"{np.mean(rows[name]):.0%} of {len(rows[name])}"

    lines = [
        f"Photos: {where}. Regions of {SIDE} x {SIDE} pixels unless another size is said.",
        "",
        f"Unmarked photos in which one was found: {false_positives} of {unmarked}.",
        f"Change of marked pixels: RMS {np.mean(rows['change']):.1f} of 255 in the mean, "
        f"{np.max(rows['change']):.1f} at most. Marking took {np.mean(rows['seconds']):.2f} s.",
        "",
        "| what was done to the file | found |",
        "| --- | --- |",
        *(f"| {name} | {share(name)} |" for name in ATTACKS),
        *(f"| {name} | {share(name)} |" for name in rows if name.startswith("crop")),
        "",
        "| side of the region | change, RMS | PNG | JPEG 80 | half | half, then JPEG 80 |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {side} | {np.mean(rows[f'change {side}']):.1f} | "
            + " | ".join(
                share(f"{side}: {name}")
                for name in ("PNG", "JPEG 80", "50% of the size", "half, then JPEG 80")
            )
            + " |"
            for side in SIDES
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="Folder of photos. Default: scikit-image's.")
    parser.add_argument("--count", type=int, default=100, help="Photos that are marked.")
    parser.add_argument("--unmarked", type=int, default=200, help="Photos that are not.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    where = "scikit-image's, in pieces" if arguments.photos is None else arguments.photos.name
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    unmarked = chosen(arguments.photos, arguments.unmarked)
    rows: dict[str, list[float]] = defaultdict(list)
    with ProcessPoolExecutor(arguments.processes) as pool:
        false_positives = sum(pool.map(is_marked, unmarked, chunksize=4))
        print(f"unmarked: {false_positives} of {len(unmarked)}", flush=True)
        for each in pool.map(survivals, enumerate(chosen(arguments.photos, arguments.count))):
            for name, values in each.items():
                rows[name] += values
            # After each photo: a run that is ended early has a table, too.
            text = report(rows, false_positives, len(unmarked), where)
            arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
