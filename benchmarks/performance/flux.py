"""Flex.2 and Kontext at their real width with few blocks: steps that leave work out.

A 1024x1024 picture, so 4,096 noise tokens (and as many of the reference for Kontext) beside 512 of
text, in bfloat16. Peer: diffusers' `FluxTransformer2DModel` on the same weights, a whole step as
the pipelines make it. Both in turns. Gate: with every step whole, a small edit ends with the very
latents of the dense one. What the shortcuts cost in quality is another table: they need trained
weights, `python -m benchmarks.behaviour --presets`.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from PIL import Image

import overpaint
from benchmarks import real_size
from overpaint.core.types import EditRequest
from overpaint.engine.intake import as_picture
from overpaint.families.flux1 import modulation

Row = dict[str, Any]

SIDE = 1024
BLOCKS = (1, 1)
STEPS, WHOLE = 28, 5
"""Steps of an edit, and how many of them are whole when every sixth is."""

REFRESH = 6
FULL_BLOCKS = {"flex2": (8, 38, 196), "kontext": (19, 38, 64)}
"""Blocks with two streams and with one, and features of a token, of the real models."""


def rows(folder: Path, rounds: int) -> list[Row]:
    """Every row of both families.

    Args:
        folder: for the checkpoints.
        rounds: how often each kind of step is measured.
    """
    found = []
    for family, goals in (("flex2", (4.0, 2.5)), ("kontext", (1.7, 2.8))):
        blocks, channels = BLOCKS, FULL_BLOCKS[family][2]
        pipeline = {"flex2": "Flex2Pipeline", "kontext": "FluxKontextPipeline"}[family]
        where = real_size.flux(folder / f"{family}-width", pipeline, channels, blocks)
        found += _steps(family, where, rounds, goals)
        gc.collect()
    return found + [_memory(family) for family in FULL_BLOCKS]


def _steps(family: str, folder: Path, rounds: int, goals: tuple[float, float]) -> list[Row]:
    engine = overpaint.load(str(folder), dtype="bfloat16")
    gate = _gate(engine)
    share = 0.1 if family == "flex2" else 0.2
    kinds: dict[str, Callable[[], float]] = {
        "dense": lambda: _dense(engine, share),
        "region": lambda: _sparse(engine, share),
    }
    if family == "kontext":
        kinds["references kept"] = lambda: _sparse(engine, None)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, measure in kinds.items():
            times[kind].append(measure())
    seconds = {kind: statistics.median(each) for kind, each in times.items()}
    edit = (
        STEPS * seconds["dense"] / (WHOLE * seconds["dense"] + (STEPS - WHOLE) * seconds["region"])
    )
    which = "references kept" if family == "kontext" else "region"
    label = "reference's keys kept" if family == "kontext" else f"{100 * share:.0f} % mask"
    return [
        {
            "work": f"{family} shape: step, {label}",
            "peer s": f"{seconds['dense']:.2f}",
            "ours s": f"{seconds[which]:.2f}",
            "ratio": f"{seconds['dense'] / seconds[which]:.2f}",
            "asked": goals[0],
            "gate": gate,
        },
        {
            "work": f"{family} shape: {STEPS} steps, {100 * share:.0f} % mask, {WHOLE} whole",
            "peer s": f"{STEPS * seconds['dense']:.1f}",
            "ours s": f"{STEPS * seconds['dense'] / edit:.1f}",
            "ratio": f"{edit:.2f}",
            "asked": goals[1],
            "gate": "from the medians of single steps",
        },
    ]


def _begin(engine: overpaint.Engine, share: float | None, side: int, **options: Any) -> Any:
    """An edit before its first step; `share` of the picture is masked, None = no mask."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((side, side))
    mask = None
    if share is not None:
        length = round(side * share**0.5 / 16) * 16
        mask = Image.new("L", (side, side))
        mask.paste(255, (side // 4, side // 4, side // 4 + length, side // 4 + length))
    return engine.begin(
        EditRequest(
            image=as_picture(picture),
            prompt="a cat",
            mask=mask,
            seed=0,
            options={"height": side, "width": side, "num_inference_steps": STEPS, **options},
        )
    )


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.inference_mode()
def _dense(engine: overpaint.Engine, share: float) -> float:
    """Seconds of diffusers' forward pass over all tokens, its own attention put back."""
    edit = _begin(engine, share, SIDE)
    transformer = edit.model.checkpoint.component("transformer")
    ours = transformer.attn_processors
    transformer.set_attn_processor(FluxAttnProcessor())
    try:
        return _timed(lambda: edit.model.family.predict(edit.prepared))
    finally:
        transformer.set_attn_processor(ours)


def _sparse(engine: overpaint.Engine, share: float | None) -> float:
    """Seconds of a step after a whole one; the median of two."""
    edit = _begin(engine, share, SIDE, refresh_every=REFRESH)
    edit.model.family.advance(edit.prepared)
    return statistics.median(
        _timed(lambda: edit.model.family.advance(edit.prepared)) for _ in range(2)
    )


def _gate(engine: overpaint.Engine) -> str:
    """Three whole steps against three dense ones, on a small picture."""

    def ends(**options: Any) -> torch.Tensor:
        edit = _begin(engine, 0.1, SIDE // 8, **{"num_inference_steps": 3, **options})
        image = edit.prepared[0]
        while not image.done:
            if image.sparse is not None:
                image.sparse.whole = None
            edit.model.family.advance(edit.prepared)
        return image.latents

    difference = float((ends(refresh_every=2) - ends()).abs().max())
    if difference > 1e-5:
        raise SystemExit(f"parity gate: latents differ by {difference}")
    return f"all steps whole: latents differ by {difference:.0e}"


def _memory(family: str) -> Row:
    """Bytes of the real transformer's weights with and without modulation, in bfloat16."""
    from accelerate import init_empty_weights
    from diffusers import FluxTransformer2DModel

    double, single, channels = FULL_BLOCKS[family]
    with init_empty_weights():
        transformer = FluxTransformer2DModel(
            in_channels=channels, out_channels=64, num_layers=double, num_single_layers=single,
            guidance_embeds=True,
        )  # fmt: skip
    before = 2 * sum(each.numel() for each in transformer.parameters())
    numbers = sum(each.linear.out_features for each in transformer.modules() if _modulated(each))
    modulation.evict(transformer)
    after = 2 * (sum(each.numel() for each in transformer.parameters()) + STEPS * numbers)
    return {
        "work": f"{family}: transformer in the loop, GB of bfloat16",
        "peer s": f"{before / 1e9:.1f} GB",
        "ours s": f"{after / 1e9:.1f} GB",
        "ratio": f"{after / before:.2f}",
        "asked": 0.78,
        "gate": "equal within 1e-6: tests/families/flux1/test_modulation.py",
    }


def _modulated(module: object) -> bool:
    return isinstance(module, modulation.MODULATED)
