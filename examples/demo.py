"""`make demo`: edits a photo with every family and says where the pictures are.

Run from the repository's root: `python -m examples.demo`. The photo is NASA's "rocket", which
scikit-image carries. The diffusion families run on the bundled twins, which know flat shapes and
colours only; `overpaint demo` shows them on scenes of their own world.
"""

from __future__ import annotations

import argparse
import time
from importlib.resources import files
from pathlib import Path

from PIL import Image, ImageDraw

import overpaint

MAST = [(440, 116), (455, 116), (478, 400), (425, 400)]
"""Outline (x, y) of the mast to the right of the rocket."""

TASKS = {
    "tiny-sd2": "a red circle",
    "tiny-flex2": "a red circle",
    "tiny-kontext": "add a red circle",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the pictures")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    photo = rocket()
    photo.save(out / "1-photo.png")
    started = time.perf_counter()
    erased = overpaint.load("erase").edit(photo, mask=polygon_mask(photo.size, MAST)).images[0]
    erased.save(out / "2-erased.png")
    print("A real edit, no weights needed:")
    tell(out / "2-erased.png", f"erase: the mast right of the rocket is gone{since(started)}")

    small = photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS)
    mask = polygon_mask(small.size, [(20, 20), (84, 20), (84, 84), (20, 84)])
    for number, (twin, prompt) in enumerate(TASKS.items(), start=3):
        file = out / f"{number}-{twin}.png"
        started = time.perf_counter()
        engine = overpaint.load(twin, dtype="float32")
        result = engine.edit(small, prompt, mask=mask, seed=7, num_inference_steps=20)
        result.images[0].save(file)
        tell(file, f"'{prompt}' by the bundled {twin}{since(started)}")
    print("Real weights: `overpaint models` lists them, `overpaint pull NAME` fetches one.")


def rocket() -> Image.Image:
    """The photo, 640 x 427."""
    with Image.open(str(files("skimage") / "data" / "rocket.jpg")) as image:
        return image.convert("RGB")


def polygon_mask(size: tuple[int, int], outline: list[tuple[int, int]]) -> Image.Image:
    """White inside the outline, black outside."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    return mask


def tell(file: Path, text: str) -> None:
    print(f"  {file}  {text}")


def since(started: float) -> str:
    return f" ({time.perf_counter() - started:.1f} s)"


if __name__ == "__main__":
    main()
