"""What shortcuts cost on a trained twin: adherence, likeness to the exact edit, seam, time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy import ndimage

import overpaint
from benchmarks.behaviour import measures, painters
from benchmarks.behaviour.painters import Pixels
from training.world.edits import InstructionKind

Row = dict[str, Any]

GENERAL: dict[str, dict[str, Any]] = {
    "exact": {},
    "preset balanced": {"preset": "balanced"},
    "preset fast": {"preset": "fast"},
    "compute_every 2": {"compute_every": 2},
    "compute_every 3": {"compute_every": 3},
    "guidance_stop 0.6": {"guidance_stop": 0.6},
    "guidance_start 0.1, stop 0.6": {"guidance_start": 0.1, "guidance_stop": 0.6},
}
SPARSE: dict[str, dict[str, Any]] = {
    f"refresh_every {every}": {"refresh_every": every} for every in (2, 3, 6, 20)
}
SPARSE |= {
    f"{name}, freeze_text": {**SPARSE[name], "freeze_text": True}
    for name in ("refresh_every 3", "refresh_every 6")
}
KINDS: tuple[InstructionKind, ...] = ("recolour", "remove", "add", "replace")
SEAM = 2
"""Pixels on either side of the mask's edge that count as the seam."""


def rows(engine: overpaint.Engine, count: int) -> list[Row]:
    """One row per setting, with true guidance so that all shortcuts have work to leave out.

    Full-frame edits where there is a mask: a window would leave little outside it.
    """
    family = engine.model().family
    instructed = family.spec.need("mask") == "optional"
    make = painters.instructed if instructed else painters.inpainter
    common = {"num_inference_steps": measures.STEPS, "window": "full"}
    asked: list[Any] = measures.draw_tasks(count)
    if instructed:
        each = count // len(KINDS)
        asked = [task for kind in KINDS for task in measures.instruction_tasks(each, kind)]
    found, exact = [], []
    for name, options in (GENERAL if family.spec.name == "sd2" else {**GENERAL, **SPARSE}).items():
        paint = make(engine, negative_prompt=lambda _: "", **common, **options)
        started = time.perf_counter()
        pictures = paint(asked)
        seconds = (time.perf_counter() - started) / len(asked)
        exact = exact or pictures
        shares = (
            {"done": measures.done(pictures, asked)}
            if instructed
            else measures.judged(pictures, asked)
        )
        likeness = [measures.psnr(one, other) for one, other in zip(pictures, exact, strict=True)]
        row = {"setting": name, **shares, "PSNR to exact, dB": f"{np.median(likeness):.1f}"}
        if not instructed:
            seams = [seam(picture, task) for picture, task in zip(pictures, asked, strict=True)]
            row["seam"] = f"{np.mean(seams):.1f}"
        found.append({**row, "s/edit": f"{seconds:.2f}"})
    return found


def seam(picture: Pixels, task: Any) -> float:
    """Mean step of grey values, of 255, across the mask's edge."""
    grey = picture.astype(float).mean(axis=2)
    edge = ndimage.binary_dilation(task.mask, iterations=SEAM) & ~ndimage.binary_erosion(
        task.mask, iterations=SEAM
    )
    steps = np.hypot(*np.gradient(grey))
    return float(steps[edge].mean())
