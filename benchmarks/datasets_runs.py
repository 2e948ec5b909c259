"""What runs are held against: a plain loop over diffusers, and each other."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path


def pace_of_diffusers(model: str, count: int, steps: int) -> float:
    """Pictures a second of the loop that people write: one call and one PNG after the other."""
    import tempfile

    import torch
    from diffusers import StableDiffusionInpaintPipeline
    from PIL import Image, ImageDraw

    from overpaint.apps import build
    from overpaint.apps import settings as settings_

    spec = build.find_model(model, settings_.load())
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        spec.location, torch_dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    picture = Image.new("RGB", (128, 128), (200, 190, 170))
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).rectangle((19, 19, 108, 108), fill=255)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for number in range(count + 1):
            if number == 1:
                started = time.perf_counter()  # the first call warms up
            made = pipeline(
                prompt="a red circle",
                image=picture,
                mask_image=mask,
                height=128,
                width=128,
                num_inference_steps=steps,
                generator=torch.Generator().manual_seed(number),
            ).images[0]
            made.save(Path(folder) / f"{number}.png")
        return count / (time.perf_counter() - started)


def fingerprint(out: Path) -> str:
    """Hash of every file of a data set, and of what was left out."""
    digest = hashlib.sha256()
    for path in sorted((out / "data").rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(out).as_posix().encode() + path.read_bytes())
    digest.update((out / "rejected.jsonl").read_bytes())
    return digest.hexdigest()


def repeated(out: Path) -> int:
    """Tasks that the ledger has more than once."""
    ids = []
    for line in (out / "ledger.jsonl").read_bytes().splitlines():
        try:
            ids.append(json.loads(line)["id"])
        except ValueError:
            continue  # torn by a kill
    return len(ids) - len(set(ids))
