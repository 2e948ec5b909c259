"""`overpaint batch` beside a plain loop over diffusers' pipeline: `benchmarks.batch --speed`.

The rows are pictures and masks of the pipeline's own size, so both do the same work. Each side is
timed by its own files, from the end of the eighth picture to the end of the last: so many share the
widest pass, and what comes before them is loading.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import overpaint
from benchmarks import report
from training.world.inpaint import sample_inpaint_task
from training.world.render import render

SIZE = 128
WARM = 8
"""Pictures before the first that counts."""

WAYS = {
    "batch": ("torch", "float32", "1"),
    "batch --width auto": ("torch", "float32", "auto"),
    "batch --width 8": ("torch", "float32", "8"),
    "batch, OpenVINO": ("openvino", "float32", "1"),
    "batch --width auto, OpenVINO": ("openvino", "float32", "auto"),
    "batch --width auto --dtype bfloat16, OpenVINO": ("openvino", "bfloat16", "auto"),
}
"""Of our own: backend, precision and width."""

PLAIN = """
import csv, sys, torch
from pathlib import Path
from PIL import Image
from diffusers import StableDiffusionInpaintPipeline
model, folder, out, steps = sys.argv[1:]
pipeline = StableDiffusionInpaintPipeline.from_pretrained(
    model, safety_checker=None, feature_extractor=None, torch_dtype=torch.float32)
pipeline.set_progress_bar_config(disable=True)
for number, row in enumerate(csv.DictReader(Path(folder, "rows.csv").open())):
    image, mask = (Image.open(Path(folder, row[name])) for name in ("image", "mask"))
    made = pipeline(row["prompt"], image.convert("RGB"), mask, num_inference_steps=int(steps),
                    height=image.height, width=image.width,
                    generator=torch.Generator().manual_seed(number)).images[0]
    made.save(Path(out, f"{number}.png"))
"""

PEER = "diffusers in a loop"
OURS = "import sys; from overpaint.apps.cli import main; sys.exit(main())"


def main(model: str, rows: int, steps: int, rounds: int) -> None:
    """Measure in turns, and write the table after each round."""
    paces: dict[str, list[float]] = {}
    command = f"python -m benchmarks.batch --speed --rows {rows} --steps {steps} --rounds {rounds}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_rows(folder, rows)
        checkpoint = Path(overpaint.__file__).parent / "twins" / model
        for number in range(rounds):
            out = folder / f"{PEER}-{number}"
            out.mkdir()
            run(PLAIN, str(checkpoint), str(folder), str(out), str(steps))
            paces.setdefault(PEER, []).append(pace(out))
            for way, (backend, dtype, width) in WAYS.items():
                out = folder / f"{way}-{number}"
                words = ("--dtype", dtype, "--width", width)
                run(OURS, *_words(folder, out, model, steps), *words, backend=backend)
                paces.setdefault(way, []).append(pace(out / "pictures"))
            report.write("batch-speed", "A batch beside a plain loop", command, _table(paces))


def _table(paces: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    plain = statistics.median(paces[PEER])
    return [
        {
            "what": way,
            "pictures/s": f"{statistics.median(values):.2f}",
            "ratio": f"{statistics.median(values) / plain:.2f}",
            "rounds": ", ".join(f"{value:.2f}" for value in values),
        }
        for way, values in paces.items()
    ]


def write_rows(folder: Path, count: int) -> None:
    """A table with files beside it."""
    rng = np.random.default_rng(0)
    lines = ["prompt,image,mask"]
    for number in range(count):
        task = sample_inpaint_task(rng, kind="draw", size=SIZE)
        mask = Image.fromarray(np.asarray(task.mask).astype(bool)).convert("L")
        mask.save(folder / f"{number}-mask.png")
        Image.fromarray(render(task.before, SIZE)).save(folder / f"{number}.png")
        lines.append(f'"{task.prompt}",{number}.png,{number}-mask.png')
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _words(folder: Path, out: Path, model: str, steps: int) -> list[str]:
    return [
        *("batch", str(folder / "rows.csv"), "-o", str(out), "--model", model, "--json"),
        *("-O", f"num_inference_steps={steps}"),
    ]


def run(program: str, *words: str, backend: str = "torch") -> None:
    """One process to its end."""
    command: Sequence[str] = [sys.executable, "-W", "ignore", "-c", program, *words]
    environment = {**os.environ, "OVERPAINT_BACKEND": backend}
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )


def pace(folder: Path) -> float:
    """Pictures a second, from the end of the last warm one to the last one's."""
    ends = sorted(path.stat().st_mtime for path in folder.glob("*.png"))[WARM - 1 :]
    return (len(ends) - 1) / (ends[-1] - ends[0])
