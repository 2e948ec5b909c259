"""Stable Diffusion 2 at 512x512: a step, an edit, sixteen edits, and diffusers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.performance import peers
from benchmarks.performance.proof import models
from benchmarks.performance.proof.bench import AS_IT_COMES, RECORDED, Bench, apart
from benchmarks.performance.proof.journal import Row
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.engine import Engine

SHARE = 0.2
TOGETHER = 16
GOAL, TIMES = 0.35, 6.0
"""Seconds of an edit; how many times faster sixteen at once are than diffusers' one by one."""

PATIENCE = 60.0
"""Seconds that one of sixteen edits may take."""

MOST_APART = 1.0
"""Grey levels that the picture may differ from diffusers' on average, in half precision."""


def section(bench: Bench) -> None:
    """All rows."""
    journal = bench.journal
    dtype = "float16" if bench.device.type == "cuda" else "float32"
    theirs, expected = _diffusers(bench, getattr(torch, dtype))
    with bench.engine("sd2", dtype=dtype) as engine:
        for count in (1, 2, 4, 8):
            requests = [bench.request("sd2", SHARE, seed=seed) for seed in range(count)]
            row = f"step, {count} together"
            journal.attempt(row, partial(bench.steps_of, engine, requests))
        plain = _Whole(bench, engine, theirs, expected)
        journal.attempt("whole edit, plain", plain)
    with bench.engine("sd2", RECORDED, dtype=dtype) as engine:
        recorded = _Whole(bench, engine, theirs, expected)
        journal.attempt("whole edit, recorded", recorded)
        same = plain.pictures == recorded.pictures
        step = partial(bench.steps_of, engine, [bench.request("sd2", SHARE)])
        journal.attempt("step, recorded", step)
        journal.add("recorded and plain", gate="equal, byte for byte" if same else "NOT EQUAL")
    with bench.engine("sd2", AS_IT_COMES, dtype=dtype) as engine:
        journal.attempt("whole edit, as it comes", _Whole(bench, engine, theirs, expected))
        journal.attempt(f"{TOGETHER} edits", partial(_together, bench, engine, theirs))


@dataclass(frozen=True)
class _Whole:
    """Measures a whole edit beside diffusers' seconds and picture.

    Attributes:
        bench, engine: what and where.
        theirs, expected: diffusers' seconds and picture.
        pictures: gets the picture.
    """

    bench: Bench
    engine: Engine
    theirs: float
    expected: Image.Image
    pictures: list[bytes] = field(default_factory=list)

    def __call__(self) -> Row:
        side = self.bench.side("sd2")
        sizes = {"height": side, "width": side, "composite": False}
        row, picture = self.bench.whole(self.engine, self.bench.request("sd2", SHARE, **sizes))
        self.pictures.append(picture.tobytes())
        distance = apart(picture, self.expected)
        missed = " MISSED" if distance > MOST_APART else ""
        return {
            **row,
            "before s": 1.1,
            "diffusers s": round(self.theirs, 3),
            **self.bench.goal(row["ours s"], GOAL),
            "gate": f"{distance:.2f} of 255 from diffusers, at most {MOST_APART}{missed}",
        }


def _together(bench: Bench, engine: Engine, theirs: float) -> Row:
    peers.forget(engine)
    requests = [bench.request("sd2", SHARE, seed=seed) for seed in range(TOGETHER)]
    alone = bench.edit(engine, requests[3])
    batcher = Batcher(engine)
    try:
        for _ in range(2):  # the first learns the pace
            started = time.perf_counter()
            tickets = [batcher.submit(request) for request in requests]
            pictures = [ticket.result(PATIENCE).images[0] for ticket in tickets]
            seconds = time.perf_counter() - started
    finally:
        batcher.close()
    times = TOGETHER * theirs / seconds
    distance = apart(pictures[3], alone)
    return {
        "ours s": round(seconds, 3),
        "before s": TOGETHER * 0.32,
        "diffusers s": round(TOGETHER * theirs, 3),
        "goal": f"{TIMES:g}x",
        "met": ("met" if times >= TIMES else "missed") if bench.counts else "-",
        "note": f"{times:.2f}x",
        "gate": f"{distance:.2f} of 255 from the edit alone",
    }


def _diffusers(bench: Bench, dtype: torch.dtype) -> tuple[float, Any]:
    """Seconds of diffusers' edit with the same weights, and its picture."""
    where = models.folder(bench.root, "sd2", tiny=bench.tiny)
    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    networks = {
        name: models.network(where, name, kind, dtype, bench.device) for name, kind in kinds.items()
    }
    pipeline = StableDiffusionInpaintPipeline(
        **networks,
        tokenizer=CLIPTokenizer.from_pretrained(where / "tokenizer"),
        scheduler=DDIMScheduler.from_pretrained(where / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    side, steps = bench.side("sd2"), bench.steps("sd2")
    run = partial(peers.run, pipeline, peers.picture(side), peers.mask(side, SHARE), steps)
    picture = run()
    seconds = bench.clock.median(run)
    bench.journal.add("diffusers, one edit", **{"diffusers s": round(seconds, 3)})
    del pipeline, networks
    bench.clock.forget()
    return seconds, picture
