"""Before the first step, and the autoencoder: what is encoded, and how often.

Stable Diffusion 2 at real size in bfloat16, beside diffusers in bfloat16. Gates: a second edit
starts from bit for bit the same tensors as if nothing had been remembered, and the autoencoder's
moments of the window are bit for bit diffusers'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import overpaint
from benchmarks import real_size
from benchmarks.performance import peers
from benchmarks.performance.peers import Row
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion import latents


def rows(folder: Path, rounds: int) -> list[Row]:
    """Time before the first step, first and again; encoding and decoding."""
    checkpoint = real_size.sd2(folder / "sd2")
    peer = peers.pipeline(checkpoint, dtype=torch.bfloat16)
    ours = overpaint.load(str(checkpoint), dtype="bfloat16")
    ours.model().load()
    return _before_first_step(peer, ours, rounds) + _autoencoder(peer, ours, rounds)


def _before_first_step(peer: Any, ours: overpaint.Engine, rounds: int) -> list[Row]:
    side = 8 * peer.unet.config.sample_size
    gate = _same_prelude(ours, side)

    def first() -> float:
        peers.forget(ours)
        return peers.seconds(lambda: ours.begin(request(side)))

    found = peers.medians(
        rounds,
        {
            "diffusers": lambda: until_first_step(peer, side),
            "first": first,
            "second": lambda: peers.seconds(lambda: ours.begin(request(side, seed=1))),
        },
    )
    what = f"sd2, {side}x{side}, time before the first step"
    name = "diffusers bfloat16"
    return [
        peers.row(f"{what}, first edit", name, found["diffusers"], found["first"]),
        peers.row(
            f"{what}, second edit of the same picture and prompt",
            name,
            found["diffusers"],
            found["second"],
            asked=20,
            gate=gate,
        ),
        peers.row(f"{what}, second edit", "our first edit", found["first"], found["second"]),
    ]


def request(side: int, seed: int = 0) -> EditRequest:
    """The edit of the whole picture."""
    return EditRequest(
        image=Picture.from_pil(peers.picture(side)),
        prompt=peers.PROMPT,
        mask=peers.mask(side),
        seed=seed,
        options={"height": side, "width": side},
    )


class _FirstStep(Exception):
    """The UNet is asked for the first time."""


def until_first_step(peer: Any, side: int) -> float:
    """Seconds from the call of a pipeline until its UNet is asked."""

    def stop(*_: object) -> None:
        raise _FirstStep

    hook = peer.unet.register_forward_pre_hook(stop)
    image, mask = peers.picture(side), peers.mask(side)

    def call() -> None:
        try:
            peers.run(peer, image, mask, 50)
        except _FirstStep:
            return
        raise SystemExit("the pipeline ended without a step")

    try:
        return peers.seconds(call)
    finally:
        hook.remove()


def _same_prelude(engine: overpaint.Engine, side: int) -> str:
    peers.forget(engine)
    engine.begin(request(side, seed=1))
    remembered = engine.begin(request(side)).prepared[0]
    peers.forget(engine)
    computed = engine.begin(request(side)).prepared[0]
    for name in ("latents", "condition", "prompt", "negative"):
        if not torch.equal(getattr(remembered, name), getattr(computed, name)):
            raise SystemExit(f"parity gate: '{name}' differs when it is remembered")
    return "what the first step gets is the same bit for bit"


def _autoencoder(peer: Any, ours: overpaint.Engine, rounds: int) -> list[Row]:
    """The edit's window beside the whole picture, encoded and decoded."""
    checkpoint = ours.model().checkpoint
    assert checkpoint is not None
    native = 8 * peer.unet.config.sample_size
    image = peers.picture(2 * native)
    window = image.crop((0, 0, native, native))
    gate = _same_moments(peer, ours, latents.picture_tensor(window))

    @torch.inference_mode()
    def theirs() -> None:
        pixels = peer.image_processor.preprocess(image).to(peer.vae.dtype)
        found = peer.vae.encode(pixels).latent_dist.sample()
        peer.image_processor.postprocess(peer.vae.decode(found, return_dict=False)[0])

    def our_window() -> None:
        peers.forget(ours)
        found = latents.encode_distribution(checkpoint, latents.picture_tensor(window))
        vae = checkpoint.component("vae")
        latents.decode(vae, latents.normalize(vae, found.sample()))

    found = peers.medians(
        rounds,
        {"whole": lambda: peers.seconds(theirs), "window": lambda: peers.seconds(our_window)},
    )
    return [
        peers.row(
            f"sd2, encode and decode the window ({native}) of a {2 * native} picture",
            "diffusers bfloat16, whole picture",
            found["whole"],
            found["window"],
            asked=3.8,
            gate=gate,
        )
    ]


@torch.inference_mode()
def _same_moments(peer: Any, ours: overpaint.Engine, pixels: torch.Tensor) -> str:
    peers.forget(ours)
    found = latents.encode_distribution(ours.model().checkpoint, pixels)
    expected = peer.vae.encode(pixels.to(peer.vae.dtype)).latent_dist
    if not torch.equal(found.parameters, expected.parameters):
        raise SystemExit("parity gate: the window's moments are not diffusers'")
    return "the window's moments are diffusers' bit for bit"
