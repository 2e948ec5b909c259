"""Inputs and runs of the benchmark of data sets, and what they are held against."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from training.world.edits import sample_instruction_task
from training.world.render import render
from training.world.scene import Scene, sample_background, sample_light

SIZE = 128
OVERPAINT = [sys.executable, "-m", "overpaint"]


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


def overpaint(task: str, folder: Path, recipe: dict[str, Any], *flags: str) -> dict[str, Any]:
    """Run the command; what it told as JSON."""
    path = write_recipe(folder, recipe)
    done = subprocess.run(
        [*OVERPAINT, task, str(path), "-o", str(folder / "out"), "--json", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"overpaint {task} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def write_recipe(folder: Path, recipe: dict[str, Any]) -> Path:
    """The recipe without what is None."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in recipe.items() if v is not None}))
    return path


def write_grounds(folder: Path, count: int) -> None:
    """Pictures of empty grounds."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for number in range(count):
        scene = Scene(sample_background(rng), sample_light(rng))
        Image.fromarray(render(scene, SIZE)).save(folder / f"{number:02d}.png")


def write_scenes(folder: Path, count: int) -> dict[str, tuple[Scene, int]]:
    """Pictures that each have a star among other things: scene and place of the star."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    scenes: dict[str, tuple[Scene, int]] = {}
    while len(scenes) < count:
        task = sample_instruction_task(rng, "train", "remove")
        if task.old is None or task.old.shape != "star" or len(task.before.things) < 2:
            continue
        name = f"{len(scenes):04d}.png"
        Image.fromarray(render(task.before, SIZE)).save(folder / name)
        scenes[name] = task.before, task.before.things.index(task.old)
    return scenes
