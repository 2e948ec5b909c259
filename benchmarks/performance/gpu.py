"""Flex.2 and Kontext on a card, at real size: whole edits of a 1024x1024 picture in 28 steps.

Random weights, bfloat16 unless said; text encoders are small, since a prompt is encoded once.
Kontext's peer is diffusers' `FluxKontextPipeline` on the same files. diffusers has no pipeline for
Flex.2: its peer is the edit of the whole picture with torch as it comes. Gates: with torch as it
comes, Kontext's picture is diffusers'; how far a backend's picture is from that of torch is told.
Without a card there are no rows.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import overpaint
from benchmarks import real_size
from benchmarks.performance import peers
from benchmarks.performance.peers import Row
from overpaint.apps import settings as settings_
from overpaint.apps.wiring.models import build

SIDE = 1024
STEPS = 28
GUIDANCE = 2.5
MOST_APART = 2.0
"""Grey levels of 255 that the gate's pictures may differ on average: bfloat16 on both sides."""

PIPELINES = {"flex2": "Flex2Pipeline", "kontext": "FluxKontextPipeline"}
PEERS = {"flex2": "our whole picture, torch as it comes", "kontext": "diffusers bfloat16"}


@dataclass(frozen=True)
class Case:
    """A kind of edit.

    Attributes:
        work: what the table calls it.
        asked: seconds.
        backend: of settings.
        share: of the picture that is masked; None = an instruction without a mask.
        options: of the edit.
    """

    work: str
    asked: float
    backend: str = "torch-compiled"
    share: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


SPARSE = {"window": "full", "refresh_every": 6}
CASES = {
    "kontext": (
        Case("whole picture", 9.0),
        Case("whole picture, float8", 6.5, "torch-float8"),
        Case("20 % region, its window", 3.0, share=0.2),
        Case("20 % region, sparse steps", 3.0, share=0.2, options=SPARSE),
    ),
    "flex2": (
        Case("10 % mask, its window", 1.0, share=0.1),
        Case("10 % mask, sparse steps", 1.0, share=0.1, options=SPARSE),
    ),
}
PEAK = 15.0
"""Gigabytes of the card that an edit with Flex.2 may take."""


def rows(folder: Path, rounds: int) -> list[Row]:
    """Every case of both families; nothing without a card."""
    if not torch.cuda.is_available():
        print("gpu: there is no CUDA device; no rows")
        return []
    found = []
    for family, blocks in real_size.FLUX_BLOCKS.items():
        found += measured(family, _checkpoint(folder, family, blocks), rounds, "cuda")
    where = _checkpoint(folder, "flex2", real_size.FLUX_BLOCKS["flex2"])
    return [*found, _peak(where)]


def measured(family: str, checkpoint: Path, rounds: int, device: str) -> list[Row]:
    """The cases of one family beside its peer, one backend after the other.

    Args:
        family: `flex2` or `kontext`.
        checkpoint: its folder.
        rounds: of measuring, after one that compiles.
        device: where both sides run.
    """
    plain = _engine(checkpoint, "torch", device)
    theirs, gate = _peer(family, checkpoint, rounds, plain, device)
    expected = {case.work: _edit(plain, case.share, **case.options) for case in CASES[family]}
    del plain
    _empty()
    found = []
    for backend in dict.fromkeys(case.backend for case in CASES[family]):
        engine = _engine(checkpoint, backend, device)
        cases = {case.work: case for case in CASES[family] if case.backend == backend}
        ours = peers.medians(rounds, {work: _timed(engine, case) for work, case in cases.items()})
        apart = {
            work: _apart(_edit(engine, case.share, **case.options), expected[work])
            for work, case in cases.items()
        }
        found += [
            {
                **peers.row(
                    f"{family}, {SIDE}x{SIDE}, {STEPS} steps: {work}, {backend}",
                    PEERS[family],
                    theirs,
                    ours[work],
                    gate=f"{gate}; {apart[work]:.2f} from torch's picture",
                ),
                "asked": f"{case.asked} s",
            }
            for work, case in cases.items()
        ]
        del engine
        _empty()
    return found


def _checkpoint(folder: Path, family: str, blocks: tuple[int, int, int]) -> Path:
    double, single, channels = blocks
    where = folder / f"{family}-real"
    return real_size.flux(where, PIPELINES[family], channels, (double, single), autoencoder=True)


def _engine(checkpoint: Path, backend: str, device: str) -> overpaint.Engine:
    settings = settings_.load({}).model_copy(update={"backend": backend})
    engine = build.engine(str(checkpoint), device=device, dtype="bfloat16", settings=settings)
    engine.model().load()
    return engine


def _timed(engine: overpaint.Engine, case: Case) -> Callable[[], float]:
    """Seconds of a case's edit with nothing remembered; what is compiled, is before."""

    def measure() -> float:
        peers.forget(engine)
        return peers.seconds(lambda: _edit(engine, case.share, **case.options))

    _edit(engine, case.share, **{**case.options, "num_inference_steps": 3})
    return measure


def _edit(engine: overpaint.Engine, share: float | None, **options: Any) -> Image.Image:
    asked: dict[str, Any] = {"seed": 0, "num_inference_steps": STEPS, **options}
    if share is not None:
        asked["mask"] = peers.mask(SIDE, share)
    return engine.edit(peers.picture(SIDE), peers.PROMPT, **asked).images[0]


def _apart(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures, in grey levels of 255."""
    return float(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).mean())


def _peer(
    family: str, checkpoint: Path, rounds: int, plain: overpaint.Engine, device: str
) -> tuple[float, str]:
    """Seconds of the peer's edit, and what the gate found; `plain` has torch as it comes."""
    if family == "flex2":
        share = CASES[family][0].share
        whole = {"whole": lambda: peers.seconds(lambda: _edit(plain, share, window="full"))}
        return peers.medians(rounds, whole)["whole"], "no peer of other hands"
    from diffusers import FluxKontextPipeline

    loaded = FluxKontextPipeline.from_pretrained(checkpoint, dtype=torch.bfloat16).to(device)
    loaded.set_progress_bar_config(disable=True)

    def run() -> Any:
        return loaded(
            image=peers.picture(SIDE),
            prompt=peers.PROMPT,
            width=SIDE,
            height=SIDE,
            max_area=SIDE * SIDE,
            _auto_resize=False,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(0),
        ).images[0]

    ours = _edit(plain, None, width=SIDE, height=SIDE, composite=False, guidance_scale=GUIDANCE)
    apart = _apart(ours, run())
    if apart > MOST_APART:
        raise SystemExit(f"parity gate: the pictures are {apart:.1f} of 255 apart on average")
    found = peers.medians(rounds, {"diffusers": lambda: peers.seconds(run)})
    return found["diffusers"], f"{apart:.2f} of 255 from diffusers on average"


def _peak(checkpoint: Path) -> Row:
    """Most that torch's allocator held in an edit with Flex.2 without its modulation."""
    engine = build.engine(str(checkpoint), device="cuda", dtype="bfloat16")
    held = engine.model().checkpoint
    assert held is not None
    held.evict_ahead = held.take_turns = True
    torch.cuda.reset_peak_memory_stats()
    _edit(engine, CASES["flex2"][0].share, window="full")
    peak = torch.cuda.max_memory_allocated() / 1e9
    return {
        "work": f"flex2, {SIDE}x{SIDE}, bfloat16: peak of the card's memory, modulation out",
        "peer": "none",
        "ours s": f"{peak:.1f} GB",
        "asked": f"{PEAK} GB",
    }


def _empty() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
