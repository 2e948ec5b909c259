"""Stable Diffusion 2 at real size: one step with guidance over the whole of a 512x512 picture.

Peers: diffusers with its defaults (float32), and OpenVINO in bfloat16 on the same UNet, traced at
this one size. Gates: in float32 both give the same picture at half the size, and what OpenVINO
predicts there for us is about as far from torch's float32 as torch's own bfloat16 is.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
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
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest

STEPS = 2
TOKENS = 77
MOST_ERROR = 2.0
"""The error of OpenVINO's prediction in bfloat16 that passes, in terms of torch's in bfloat16."""


def rows(folder: Path, rounds: int) -> list[Row]:
    """Seconds per step with torch and with OpenVINO."""
    checkpoint = real_size.sd2(folder / "sd2")
    native = peers.native(checkpoint)
    peak = command_line_peak(checkpoint, native)
    peer = peers.pipeline(checkpoint)
    gate = f"float32: {parity(peer, checkpoint)} of 255"
    torch_engine = overpaint.load(str(checkpoint), dtype="bfloat16")
    converted, times = _converted(checkpoint, folder / "openvino", native)
    own, error = errors(checkpoint, [torch_engine, converted])
    told = f"relative error of the prediction {error:.3f}, torch bfloat16's {own:.3f}"
    if error > MOST_ERROR * own:
        raise SystemExit(f"parity gate: {told}")
    plain = _plain_openvino(checkpoint, folder / "openvino-plain", native)
    found = peers.medians(
        rounds,
        {
            "torch": lambda: our_step(torch_engine, native),
            "openvino": lambda: our_step(converted, native),
            "plain openvino": plain,
            "diffusers": lambda: peer_step(peer, native),
        },
    )
    work = f"sd2, {native}x{native}, one step"
    ours = {
        "torch": f"{work}, torch bfloat16, peak {peak:.2f} GB",
        "openvino": f"{work}, OpenVINO bfloat16 ({times})",
    }
    default, exact = "diffusers default (float32)", found["diffusers"]
    return [
        peers.row(ours["torch"], default, exact, found["torch"], gate=gate),
        peers.row(ours["openvino"], default, exact, found["openvino"], asked=2.1, gate=told),
        peers.row(
            ours["openvino"],
            "OpenVINO bfloat16, the UNet alone",
            found["plain openvino"],
            found["openvino"],
            asked=1.0,
            gate=told,
        ),
    ]


def peer_step(peer: Any, side: int) -> float:
    """Seconds per step, measured between the ends of steps as the pipeline's callback sees them."""
    ends: list[float] = []

    def ended(_pipe: Any, _index: int, _t: Any, kept: dict[str, Any]) -> dict[str, Any]:
        ends.append(time.perf_counter())
        return kept

    peers.run(peer, peers.picture(side), peers.mask(side), STEPS, callback_on_step_end=ended)
    return (ends[-1] - ends[0]) / (STEPS - 1)


def our_step(engine: overpaint.Engine, side: int) -> float:
    """Seconds per step, measured between the ends of steps as progress tells them."""
    ends: list[float] = []
    run_ours(engine, side, STEPS, on_progress=lambda _: ends.append(time.perf_counter()))
    return (ends[-1] - ends[0]) / (STEPS - 1)


def parity(peer: Any, checkpoint: Path) -> int:
    """Largest difference of 255 between both pictures in float32, at half the model's size."""
    engine = overpaint.load(str(checkpoint), dtype="float32")
    side = peers.native(checkpoint) // 2
    theirs = peers.run(peer, peers.picture(side), peers.mask(side), 1)
    ours = run_ours(engine, side, 1, composite=False)
    difference = np.abs(np.asarray(theirs, dtype=int) - np.asarray(ours, dtype=int)).max()
    if difference > 1:
        raise SystemExit(f"parity gate: the pictures differ by {difference} of 255")
    return int(difference)


def run_ours(engine: overpaint.Engine, side: int, steps: int, **options: Any) -> Image.Image:
    """Our picture of the same edit as `peers.run`."""
    return engine.edit(
        peers.picture(side),
        peers.PROMPT,
        mask=peers.mask(side),
        num_inference_steps=steps,
        height=side,
        width=side,
        seed=0,
        **options,
    ).images[0]


def _converted(checkpoint: Path, cache: Path, side: int) -> tuple[overpaint.Engine, str]:
    """An engine on OpenVINO, ready, and how long it took to be so."""
    there = any(cache.rglob("unet.xml"))
    settings = settings_.load({}).model_copy(update={"backend": "openvino", "cache": cache})
    started = time.perf_counter()
    engine = build.engine(str(checkpoint), dtype="bfloat16", settings=settings)
    engine.model().load()
    took = time.perf_counter() - started
    first = peers.seconds(lambda: run_ours(engine, side, 1))
    again = peers.seconds(lambda: run_ours(engine, side, 1))
    how = "read" if there else "converted"
    return engine, f"{how} in {took:.0f} s, this size compiled in {max(0.0, first - again):.0f} s"


@torch.inference_mode()
def errors(checkpoint: Path, engines: Sequence[overpaint.Engine]) -> list[float]:
    """Relative errors of predictions beside torch's float32, for the same inputs."""
    exact = overpaint.load(str(checkpoint), dtype="float32")
    side = peers.native(checkpoint) // 2
    request = EditRequest(
        image=Picture.from_pil(peers.picture(side)),
        prompt=peers.PROMPT,
        mask=peers.mask(side),
        seed=0,
        options={"height": side, "width": side},
    )
    image = exact.begin(request).prepared[0]
    expected = exact.model().family.predict([image])
    found = []
    for engine in engines:
        parts = ("latents", "condition", "prompt", "negative")
        dtype = engine.model().checkpoint.component("unet").dtype
        cast = {name: getattr(image, name).to(dtype) for name in parts}
        prediction = engine.model().family.predict([replace(image, **cast)])
        found.append(float((prediction.float() - expected).norm() / expected.norm()))
    return found


def _plain_openvino(checkpoint: Path, cache: Path, side: int) -> Callable[[], float]:
    """Seconds of one inference by OpenVINO of the UNet as it is, with fixed sizes."""
    return peers.plain_openvino(cache / f"unet-{side}.xml", partial(_unet, checkpoint, side))


def _unet(checkpoint: Path, side: int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """The UNet, and guidance's two inputs at one size."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet").eval()
    channels, width = unet.config.in_channels, unet.config.cross_attention_dim
    example = (
        torch.zeros(2, channels, side // 8, side // 8),
        torch.zeros(2),
        torch.zeros(2, TOKENS, width),
    )
    unet.forward = _positional(unet.forward)
    return unet, example


def _positional(forward: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    def call(sample: torch.Tensor, time: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return forward(sample, time, text, return_dict=False)[0]

    return call


def command_line_peak(checkpoint: Path, side: int) -> float:
    """Peak resident gigabytes (10^9 bytes) of one edit through the command line in bfloat16."""
    with tempfile.TemporaryDirectory() as scratch:
        where = Path(scratch)
        peers.picture(side).save(where / "image.png")
        peers.mask(side).save(where / "mask.png")
        subprocess.run(
            [
                *(sys.executable, "-m", "overpaint"),
                *("inpaint", where / "image.png", "a cat", "--mask", where / "mask.png"),
                *("--model", checkpoint, "--dtype", "bfloat16", "-o", where / "out.png"),
                *("-O", f"num_inference_steps={STEPS}", "-O", "window=full", "--json"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
