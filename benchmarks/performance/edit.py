"""Stable Diffusion 2 at real size: a whole edit of 2 steps where a tenth of a picture is masked.

The picture has twice the model's own side (1024 for 512), the window the model's own. Peers do what
diffusers offers for the same result, a picture of the same size: the whole picture, or the crop
around the mask (`padding_mask_crop`), which diffusers scales up to the size that is processed.
Gate, in float32: inside the mask ours is diffusers' picture of the same crop, outside the input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import overpaint
from benchmarks import real_size
from benchmarks.performance import peers
from benchmarks.performance.peers import Row
from overpaint.core.geometry import Box
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest

STEPS = 2
CONTEXT = 0.25
"""Of the mask's side on each side of it: then the window is the model's own size."""

PADDING = 94
"""What diffusers is given as `padding_mask_crop`: the same window for a 1024 picture."""


def rows(folder: Path, rounds: int) -> list[Row]:
    """The whole edit beside each way of diffusers."""
    checkpoint = real_size.sd2(folder / "sd2")
    native = peers.native(checkpoint)
    image, mask = peers.picture(2 * native), peers.mask(2 * native)
    gate = _gate(checkpoint, image, mask)
    exact = peers.pipeline(checkpoint)
    half = peers.pipeline(checkpoint, dtype=torch.bfloat16)
    ours = overpaint.load(str(checkpoint), dtype="bfloat16")
    ours.model().load()

    def peer(pipeline: Any, **options: Any) -> float:
        return peers.seconds(lambda: peers.run(pipeline, image, mask, STEPS, **options))

    def edit(**options: Any) -> float:
        peers.forget(ours)
        return peers.seconds(lambda: _edit(ours, image, mask, STEPS, **options))

    small = {"width": native, "height": native, "padding_mask_crop": PADDING}
    found = peers.medians(
        rounds,
        {
            "ours": lambda: edit(context=CONTEXT),
            "ours, default context": edit,
            "bfloat16": lambda: peer(half),
            "cropped": lambda: peer(half, padding_mask_crop=PADDING),
            "cropped small": lambda: peer(half, **small),
            "float32": lambda: peer(exact),
        },
    )
    one, size = found["ours"], 2 * native
    work = f"sd2, {size}x{size}, 10 % mask, window {native}x{native}, whole edit of {STEPS} steps"
    return [
        peers.row(work, "diffusers bfloat16", found["bfloat16"], one, asked=4.5, gate=gate),
        peers.row(work, "diffusers default (float32)", found["float32"], one, asked=8),
        peers.row(work, f"diffusers padding_mask_crop at {size}", found["cropped"], one, asked=4),
        peers.row(work, f"diffusers padding_mask_crop at {native}", found["cropped small"], one),
        peers.row(
            work.replace(f" {native}x{native}", " as by default"),
            "diffusers bfloat16",
            found["bfloat16"],
            found["ours, default context"],
        ),
    ]


def _edit(
    engine: overpaint.Engine, image: Image.Image, mask: Image.Image, steps: int, **options: Any
) -> Image.Image:
    return engine.edit(
        image, peers.PROMPT, mask=mask, num_inference_steps=steps, seed=0, **options
    ).images[0]


def _gate(checkpoint: Path, image: Image.Image, mask: Image.Image) -> str:
    """One step in float32 beside diffusers on the window alone."""
    engine = overpaint.load(str(checkpoint), dtype="float32")
    found = np.asarray(_edit(engine, image, mask, 1, context=CONTEXT, feather=0)).astype(int)
    window = _window(engine, image, mask).as_tuple()
    theirs = peers.run(peers.pipeline(checkpoint), image.crop(window), mask.crop(window), 1)
    expected = image.copy()
    expected.paste(theirs, window[:2], mask.crop(window))
    inside = np.asarray(mask) > 0
    difference = np.abs(found - np.asarray(expected).astype(int))
    if difference[inside].max() > 1:
        raise SystemExit(f"parity gate: the crops differ by {difference[inside].max()} of 255")
    if difference[~inside].any():
        raise SystemExit("parity gate: pixels outside the mask changed")
    return (
        f"float32: {difference[inside].max()} of 255 from diffusers on the crop; "
        "outside byte-identical"
    )


def _window(engine: overpaint.Engine, image: Image.Image, mask: Image.Image) -> Box:
    """What of the picture is computed."""
    request = EditRequest(
        image=Picture.from_pil(image),
        prompt=peers.PROMPT,
        mask=mask,
        seed=0,
        options={"context": CONTEXT, "feather": 0},
    )
    return engine.begin(request).regions[0].plan.window
