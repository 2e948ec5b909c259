"""Measures trained twins with the plain samplers of training, and writes `figures.json`.

    python -m training.train.measure flex2 sd2 kontext --work DIR --count 48

The benchmark of the package measures the exported checkpoints through the engine; this one serves
to judge a run before it is exported.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from training.train import flex2, kontext, sd2
from training.train.evaluate import (
    empty_figures,
    inpaint_figures,
    instruction_figures,
    negative_figures,
    plain_prompt,
)
from training.train.loop import Figures
from training.train.setup import DEFAULT_WORK, Setup
from training.world.inpaint import sample_inpaint_task
from training.world.judge import control_iou


def control_figures(parts: flex2.Parts, setup: Setup, count: int) -> Figures:
    """Mean IoU with the control picture's outline at strength 1 and 0, in wide masks."""
    tasks = [
        sample_inpaint_task(np.random.default_rng([15, i]), "train", "draw", True, True)
        for i in range(count)
    ]
    words = [plain_prompt(task) for task in tasks]
    result = {}
    for strength in (1.0, 0.0):
        painted = flex2.paint(parts, tasks, words, setup.device, strength=strength, cfg=3.0)
        ious = [control_iou(p, t) for p, t in zip(painted, tasks, strict=True)]
        result[f"control_iou_{strength:g}"] = sum(ious) / count
    return result


def measure(setup: Setup, run: str, count: int) -> Figures:
    """All figures of one twin."""
    if run == "kontext":
        edit = kontext.editor(kontext.load_parts(setup), setup.device)
        return instruction_figures(edit, per_kind=max(4, count // 4))
    if run == "sd2":
        paint = sd2.painter(sd2.load_parts(setup), setup.device)
        control: Figures = {}
    else:
        parts = flex2.load_parts(setup)
        paint = flex2.painter(parts, setup.device)
        control = control_figures(parts, setup, count)
    return {
        **inpaint_figures(paint, count),
        **empty_figures(paint, count),
        **negative_figures(paint, count),
        **control,
    }


def main() -> None:
    """Measures the named runs."""
    parser = argparse.ArgumentParser(prog="python -m training.train.measure", description=__doc__)
    parser.add_argument("runs", nargs="+", choices=["flex2", "sd2", "kontext"])
    parser.add_argument("--count", type=int, default=48, help="tasks for each figure")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    setup = Setup(args.work, torch.device(args.device), args.preset, args.seed)
    for run in args.runs:
        figures = measure(setup, run, args.count)
        path = setup.folder(run) / "figures.json"
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        for name, value in figures.items():
            print(f"{run:8} {name:20} {value:.3f}")


if __name__ == "__main__":
    main()
