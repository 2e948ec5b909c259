"""Inputs and runs of the benchmark of data sets, and what they are held against."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from training.world.edits import sample_instruction_task
from training.world.render import render
from training.world.scene import Scene, sample_background, sample_light

SIZE = 128
OVERPAINT = [sys.executable, "-m", "overpaint"]


class PlainLoop:
    """The loop over diffusers' pipeline that people write: one call and one PNG after the other."""

    def __init__(self, model: str, steps: int, folder: Path) -> None:
        import torch
        from diffusers import StableDiffusionInpaintPipeline

        from overpaint.apps import settings as settings_
        from overpaint.apps.wiring.models import catalogue

        spec = catalogue.find_model(model, settings_.load())
        self._pipeline = StableDiffusionInpaintPipeline.from_pretrained(
            spec.location, torch_dtype=torch.float32, safety_checker=None
        )
        self._pipeline.set_progress_bar_config(disable=True)
        self._steps, self._folder = steps, folder
        self._picture = Image.new("RGB", (SIZE, SIZE), (200, 190, 170))
        self._mask = Image.new("L", self._picture.size)
        ImageDraw.Draw(self._mask).rectangle((19, 19, 108, 108), fill=255)
        folder.mkdir(parents=True, exist_ok=True)
        self._make(0)  # warms up

    def run(self, count: int) -> tuple[float, float]:
        """Make so many pictures; seconds and processor seconds of one."""
        started, worked = time.perf_counter(), time.process_time()
        for number in range(count):
            self._make(number)
        return (
            (time.perf_counter() - started) / count,
            (time.process_time() - worked) / count,
        )

    def _make(self, number: int) -> None:
        import torch

        made = self._pipeline(
            prompt="a red circle",
            image=self._picture,
            mask_image=self._mask,
            height=SIZE,
            width=SIZE,
            num_inference_steps=self._steps,
            generator=torch.Generator().manual_seed(number),
        ).images[0]
        made.save(self._folder / f"{number}.png")


def seconds_a_picture(out: Path, beginning: int) -> float:
    """From the ledger's times, without the first so many pictures: models load with those."""
    ledger = [json.loads(line) for line in (out / "ledger.jsonl").open()]
    ends = sorted(entry["finished"] for entry in ledger)[beginning - 1 :]
    return float(ends[-1] - ends[0]) / (len(ends) - 1)


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


def overpaint(
    task: str, folder: Path, recipe: dict[str, Any], *flags: str, backend: str = "torch"
) -> dict[str, Any]:
    """Run the command; what it told as JSON, and `processor_s` of this one process."""
    path = write_recipe(folder, recipe)
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        run = subprocess.Popen(
            [*OVERPAINT, task, str(path), "-o", str(folder / "out"), "--json", *flags],
            stdout=stdout,
            stderr=stderr,
            env=os.environ | {"OVERPAINT_BACKEND": backend},
        )
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        said, complained = stdout.read().decode(), stderr.read().decode()
    if run.returncode:
        raise SystemExit(f"overpaint {task} failed:\n{said[-2000:]}\n{complained[-2000:]}")
    told: dict[str, Any] = json.loads(said)
    return told | {"processor_s": usage.ru_utime + usage.ru_stime}


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
