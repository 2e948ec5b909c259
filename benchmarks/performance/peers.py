"""What the groups share: the picture, the peer's pipeline, and measuring in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from overpaint.checkpoints.memo import Memo

Row = dict[str, Any]

MASKED = 0.1
"""Share of the picture that is masked."""

PROMPT = "a red cat on a wooden table"


def picture(side: int) -> Image.Image:
    """A smooth picture of `side` pixels."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def mask(side: int, share: float = MASKED) -> Image.Image:
    """A box of that share of the picture, near its middle."""
    box = Image.new("L", (side, side))
    start, length = side // 4, round(side * share**0.5)
    box.paste(255, (start, start, start + length, start + length))
    return box


def pipeline(folder: Path, **options: Any) -> Any:
    """diffusers' pipeline of the checkpoint, without a progress bar."""
    from diffusers import StableDiffusionInpaintPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    loaded = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None, **options)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def native(folder: Path) -> int:
    """Side in pixels that the checkpoint's UNet was made for."""
    from diffusers import UNet2DConditionModel

    return 8 * int(UNet2DConditionModel.load_config(folder / "unet")["sample_size"])


def run(peer: Any, image: Image.Image, hole: Image.Image, steps: int, **options: Any) -> Any:
    """The peer's picture; `options` may hold height and width, else those of the picture."""
    size = {"width": image.width, "height": image.height}
    return peer(
        prompt=PROMPT,
        image=image,
        mask_image=hole,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
        **{**size, **options},
    ).images[0]


def forget(engine: Any) -> None:
    """Let an engine's model forget what it has encoded."""
    engine.model().checkpoint.memo = Memo()


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def medians(rounds: int, kinds: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The median of what each kind measures, in turns, so that a busy moment slows all."""
    measured: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, measure in kinds.items():
            measured[kind].append(measure())
            print(f"  {kind}: {measured[kind][-1]:.3f}", flush=True)
    return {kind: statistics.median(each) for kind, each in measured.items()}


def row(
    work: str, peer: str, theirs: float, ours: float, *, asked: float | str = "", gate: str = ""
) -> Row:
    """A line of the table: how many times faster than the peer."""
    return {
        "work": work,
        "peer": peer,
        "peer s": f"{theirs:.2f}",
        "ours s": f"{ours:.2f}" if ours >= 0.1 else f"{ours:.4f}",
        "ratio": f"{theirs / ours:.2f}",
        "asked": asked,
        "gate": gate,
    }
