"""Time per step and peak memory of stable-diffusion-2-inpainting at its real size, 512x512.

Peer: diffusers' `StableDiffusionInpaintPipeline` on the same checkpoint (random weights) with its
defaults, that is float32. Both run in turns in one process; the peak is that of our command line
in a process of its own. Gate: in float32 at 256x256 both give the same picture.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import overpaint
from benchmarks import real_size, report

STEPS = 2


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path(tempfile.gettempdir()) / "sd2-real")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    folder = real_size.sd2(arguments.checkpoint)
    peak = command_line_peak(folder)
    rows = compare(folder, arguments.rounds)
    rows[-1]["peak GB"] = f"{peak:.2f}"
    report.write(
        "sd2_step",
        "SD2 inpainting at real size, 512x512, one step with guidance",
        f"python -m benchmarks.sd2_step --rounds {arguments.rounds}",
        rows,
    )


def compare(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Seconds per step of both, in turns, and the parity gate."""
    from diffusers import StableDiffusionInpaintPipeline

    peer = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None)
    peer.set_progress_bar_config(disable=True)
    gate = parity(peer, folder)
    ours = overpaint.load(str(folder), dtype="bfloat16")
    times: dict[str, list[float]] = {"peer": [], "ours": []}
    for _ in range(rounds):
        times["peer"].append(peer_step(peer))
        times["ours"].append(our_step(ours))
    peer_median, our_median = (statistics.median(times[each]) for each in ("peer", "ours"))
    return [
        {
            "engine": "diffusers, default (float32)",
            "s/step": f"{peer_median:.2f}",
            "ratio": "1.00",
            "peak GB": "",
            "parity": "",
        },
        {
            "engine": "overpaint, default here (bfloat16)",
            "s/step": f"{our_median:.2f}",
            "ratio": f"{peer_median / our_median:.2f}",
            "peak GB": "",
            "parity": f"float32 at 256x256: largest difference {gate} of 255",
        },
    ]


def inputs(side: int) -> dict[str, Any]:
    """A smooth picture and a box mask of `side` pixels."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    mask = Image.new("L", (side, side))
    mask.paste(255, (side // 4, side // 4, side // 2, side // 2))
    return {"image": small.resize((side, side), Image.Resampling.BICUBIC), "mask": mask}


def peer_step(peer: Any, side: int = 512) -> float:
    """Seconds per step, measured between the ends of steps as the pipeline's callback sees them."""
    ends: list[float] = []

    def ended(_pipe: Any, _index: int, _t: Any, kept: dict[str, Any]) -> dict[str, Any]:
        ends.append(time.perf_counter())
        return kept

    run_peer(peer, side, STEPS, callback_on_step_end=ended)
    return (ends[-1] - ends[0]) / (STEPS - 1)


def our_step(engine: overpaint.Engine, side: int = 512) -> float:
    """Seconds per step, measured between the ends of steps as progress tells them."""
    ends: list[float] = []
    run_ours(engine, side, STEPS, on_progress=lambda _: ends.append(time.perf_counter()))
    return (ends[-1] - ends[0]) / (STEPS - 1)


def parity(peer: Any, folder: Path) -> int:
    """Largest difference of 255 between both pictures in float32."""
    engine = overpaint.load(str(folder), dtype="float32")
    theirs = np.asarray(run_peer(peer, 256, 1), dtype=int)
    ours = np.asarray(run_ours(engine, 256, 1, composite=False), dtype=int)
    difference = int(np.abs(theirs - ours).max())
    if difference > 1:
        raise SystemExit(f"parity gate: the pictures differ by {difference} of 255")
    return difference


def run_peer(peer: Any, side: int, steps: int, **options: Any) -> Image.Image:
    given = inputs(side)
    return peer(
        prompt="a cat",
        image=given["image"],
        mask_image=given["mask"],
        height=side,
        width=side,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
        **options,
    ).images[0]


def run_ours(engine: overpaint.Engine, side: int, steps: int, **options: Any) -> Image.Image:
    return engine.edit(
        prompt="a cat",
        num_inference_steps=steps,
        height=side,
        width=side,
        seed=0,
        **inputs(side),
        **options,
    ).images[0]


def command_line_peak(folder: Path) -> float:
    """Peak resident gigabytes (10^9 bytes) of one edit through the command line."""
    with tempfile.TemporaryDirectory() as scratch:
        where = Path(scratch)
        for name, image in inputs(512).items():
            image.save(where / f"{name}.png")
        subprocess.run(
            [
                *(sys.executable, "-m", "overpaint"),
                *("inpaint", where / "image.png", "a cat", "--mask", where / "mask.png"),
                *("--model", folder, "--dtype", "bfloat16", "-o", where / "out.png"),
                *("-O", f"num_inference_steps={STEPS}", "-O", "window=full", "--json"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
