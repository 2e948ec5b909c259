"""The model card of a twin: data, recipe, seed, figures."""

from __future__ import annotations

import json
from typing import Any

from training.train.setup import Setup

_WHAT = {
    "tiny-flex2": (
        "A tiny stand-in for ostris/Flex.2-preview: mask, prompt, optional control picture "
        "(line, depth, pose). Class `Flex2Pipeline`, channels as in the real checkpoint: noise "
        "0-63, picture 64-127, mask 128-131, control 132-195."
    ),
    "tiny-sd2": (
        "A tiny stand-in for stable-diffusion-2-inpainting: mask and prompt. Class "
        "`StableDiffusionInpaintPipeline`, 9 input channels, v-prediction, DDIM."
    ),
    "tiny-kontext": (
        "A tiny stand-in for FLUX.1-Kontext: a picture and an instruction. Class "
        "`FluxKontextPipeline`, reference tokens behind the noisy ones (position id 1)."
    ),
}

_RUNS = {
    "tiny-flex2": ("autoencoder-flux", "text", "flex2"),
    "tiny-sd2": ("autoencoder-sd2", "text", "sd2"),
    "tiny-kontext": ("autoencoder-flux", "text", "kontext"),
}


def read_log(setup: Setup, run: str) -> list[dict[str, Any]]:
    """All lines of a run's log, oldest first."""
    path = setup.folder(run) / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def last_figures(setup: Setup, run: str) -> dict[str, float]:
    """The figures of a run's last evaluation (empty before the first)."""
    evaluations = [line for line in read_log(setup, run) if "loss" not in line]
    return evaluations[-1] if evaluations else {}


def measured(setup: Setup, run: str) -> dict[str, float]:
    """The figures that `training.train.measure` wrote, if it ran."""
    path = setup.folder(run) / "figures.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def model_card(setup: Setup, twin: str) -> str:
    """The README.md of a twin's folder."""
    runs = _RUNS[twin]
    lines = ["---", "license: apache-2.0", "library_name: diffusers", "---", f"# {twin}", ""]
    lines += [_WHAT[twin], ""]
    lines += [
        "It knows one thing only: the procedural world of the project's `training/` (flat shapes "
        "with soft shadows on simple grounds, 128x128) and the words for it. It exists to test "
        "and to try the software; it says nothing about the quality of the real model.",
        "",
        "## Data",
        "",
        "Scenes, captions, masks, control pictures and instructions are drawn by the project's "
        "own renderer during training; no other data. Six colour+shape pairs are never shown or "
        "named (`training/world/palette.py`, `HELD_OUT`).",
        "",
        "## Recipe",
        "",
        f"From scratch, seed {setup.seed}, preset `{setup.preset}`. Muon on matrices, AdamW on "
        "the rest, EMA weights, float16. Text encoders are trained first, to say what a text "
        "means, then frozen; `docs/twins.md` has the whole recipe.",
        "",
        "| command | steps | wall-clock minutes |",
        "|---|---|---|",
    ]
    for run in runs:
        log = read_log(setup, run)
        if log:
            command = f"`python -m training.train {run}`"
            lines.append(f"| {command} | {log[-1]['step']} | {log[-1]['minutes']:.0f} |")
    lines += ["", "## Figures", "", "| figure | value |", "|---|---|"]
    figures = last_figures(setup, runs[-1]) | measured(setup, runs[-1])
    figures |= {"autoencoder PSNR (dB)": last_figures(setup, runs[0]).get("psnr", float("nan"))}
    for name, value in figures.items():
        if name not in ("step", "minutes"):
            lines.append(f"| {name} | {value:.3g} |")
    lines += [
        "",
        "Shares of held-out tasks, 20 steps, judged without learning (`training/world/judge.py`).",
        "",
        "## Licence",
        "",
        "Apache-2.0.",
        "",
    ]
    return "\n".join(lines)
