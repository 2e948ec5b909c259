"""FLUX.2 [klein] at its real width beside diffusers: a step, and a second instruction.

    python -m benchmarks.klein --apart                    # all blocks: diffusers takes 16 GB
    python -m benchmarks.klein --blocks 1 2 --side 512    # few of them

Random weights in the real shape: a step costs what it costs with real ones. All are measured in
one run, in turns; with `--apart` one after the other, each in a process of its own whose peak
memory is told. The medians count. Rows:

- a step of `klein` in bfloat16 on each of the `--backends`, beside a step of `Flux2KleinPipeline`
  in its default, float32, and in bfloat16, and beside OpenVINO's plain conversion of the
  transformer; the picture is the one reference;
- the same with `refresh_every`, a mask over a tenth of the picture;
- with `--kept` all steps of an edit with the -kv weights: the first of a picture, and a second
  instruction on it, beside all steps of `Flux2KleinKVPipeline`.

Gates: in float32 and at a small size the pictures are diffusers' own, within one level of 255, and
a second instruction gives the same picture whether references were kept or not.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import diffusers
import numpy as np
import torch

import overpaint
from benchmarks import real_size, report
from benchmarks.performance import peers
from benchmarks.performance.peers import Row
from overpaint.apps import settings as settings_
from overpaint.apps.wiring.models import build

STEPS = 4
GATE_SIDE, GATE_BLOCKS = 128, (1, 1)
TEXT = 512

Measure = Callable[[], float]
Make = Callable[[], Measure]

BACKENDS = {
    "torch": "a step, bfloat16",
    "sparse": "a sparse step, 10 % mask, bfloat16",
    "openvino": "a step, OpenVINO bfloat16",
    "openvino-int8": "a step, OpenVINO, weights in int8",
    "openvino-int4": "a step, OpenVINO, weights in int4",
}
PEERS = {
    "float32": "diffusers float32 (its default)",
    "bfloat16": "diffusers bfloat16",
    "plain-openvino": "OpenVINO bfloat16, the transformer alone, one fixed size",
}
ASKED = {("torch", "float32"): 2.0, ("openvino-int8", "plain-openvino"): 1.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=real_size.KLEIN, default="klein")
    parser.add_argument(
        "--blocks",
        type=int,
        nargs=2,
        metavar=("DOUBLE", "SINGLE"),
        help="fewer blocks than the model has, to save memory and time",
    )
    parser.add_argument("--side", type=int, default=512, help="of the picture, in pixels")
    parser.add_argument("--references", type=int, default=0, help="further pictures of that size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=["float32", "bfloat16"], choices=PEERS)
    parser.add_argument("--backends", nargs="*", default=["torch", "sparse"], choices=BACKENDS)
    parser.add_argument("--kept", action="store_true", help="the -kv weights too")
    parser.add_argument(
        "--apart", action="store_true", help="measure each kind alone, with its peak memory"
    )
    parser.add_argument("--checkpoint", type=Path, default=Path(gettempdir()) / "overpaint-real")
    given = parser.parse_args(arguments)
    if not (given.backends and given.peers) and not given.kept:
        parser.error("name --backends and --peers, or --kept")
    full = real_size.KLEIN[given.model][:2]
    blocks = tuple(given.blocks or full)
    share = f"{blocks[0]}+{blocks[1]} of {full[0]}+{full[1]} blocks"
    rows = _plain(given, blocks, share) if given.backends and given.peers else []
    gc.collect()
    rows += _kept(given, blocks, share) if given.kept else []
    given_words = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["python -m benchmarks.klein", *given_words])
    report.write("klein", "FLUX.2 [klein] at its real width, random weights", command, rows)


def _checkpoint(given: Any, blocks: tuple[int, ...], pipeline: str) -> Path:
    name = f"{given.model}-{pipeline}-{blocks[0]}-{blocks[1]}"
    return real_size.klein(given.checkpoint / name, given.model, pipeline, (blocks[0], blocks[1]))


def _plain(given: Any, blocks: tuple[int, ...], share: str) -> list[Row]:
    """A step of the plain weights."""
    folder = _checkpoint(given, blocks, "Flux2KleinPipeline")
    gate = _gate(_checkpoint(given, GATE_BLOCKS, "Flux2KleinPipeline"))
    pictures = _pictures(given)
    kinds: dict[str, Make] = {
        each: partial(_ours, folder, each, pictures) for each in given.backends
    }
    kinds |= {each: partial(_theirs, folder, each, pictures) for each in given.peers}
    seconds, memory = _measured(given, kinds)
    work = f"{given.model}, {given.side}x{given.side}, {1 + given.references} references, {share}"

    def named(kind: str, name: str) -> str:
        return name + (f", peak {memory[kind]:.1f} GB" if memory else "")

    return [
        peers.row(
            f"{work}: " + named(ours, BACKENDS[ours]),
            named(theirs, PEERS[theirs]),
            seconds[theirs],
            seconds[ours],
            asked=ASKED.get((ours, theirs), ""),
            gate=gate,
        )
        for theirs in given.peers
        for ours in given.backends
    ]


def _ours(folder: Path, backend: str, pictures: Sequence[Any]) -> Measure:
    """Measures a step of ours in bfloat16."""
    options: dict[str, Any] = {}
    if backend == "sparse":
        side = pictures[0].width
        options = {"mask": peers.mask(side), "window": "full", "refresh_every": STEPS}
        backend = "torch"
    cache = folder.with_name(f"{folder.name}-converted")
    settings = settings_.load({}).model_copy(update={"backend": backend, "cache": cache})
    engine = build.engine(str(folder), dtype="bfloat16", settings=settings)
    return lambda: _our_step(engine, pictures, **options)


def _theirs(folder: Path, peer: str, pictures: Sequence[Any]) -> Measure:
    """Measures a step of a peer."""
    if peer == "plain-openvino":
        file = folder.with_name(f"{folder.name}-plain") / f"{pictures[0].width}.xml"
        return peers.plain_openvino(file, partial(_transformer, folder, pictures))
    loaded = _peer(folder, peer)
    return lambda: _peer_step(loaded, pictures)


def _transformer(
    folder: Path, pictures: Sequence[Any]
) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """diffusers' transformer in float32, and what a step gives it."""
    transformer = diffusers.Flux2Transformer2DModel.from_pretrained(
        folder / "transformer", dtype=torch.float32
    ).eval()
    forward, config = transformer.forward, transformer.config
    tokens = sum((each.width // 16) * (each.height // 16) for each in pictures[:1] + pictures)

    def call(tokens: Any, time: Any, text: Any, words: Any, places: Any) -> torch.Tensor:
        return forward(tokens, text, time, places, words, return_dict=False)[0]

    transformer.forward = call
    example = (
        torch.zeros(1, tokens, config.in_channels),
        torch.ones(1),
        torch.zeros(1, TEXT, config.joint_attention_dim),
        torch.zeros(TEXT, 4),
        torch.zeros(tokens, 4),
    )
    return transformer, example


def _kept(given: Any, blocks: tuple[int, ...], share: str) -> list[Row]:
    """All steps of two instructions on one picture, with the -kv weights."""
    folder = _checkpoint(given, blocks, "Flux2KleinKVPipeline")
    gate = _gate(_checkpoint(given, GATE_BLOCKS, "Flux2KleinKVPipeline"))
    pictures = _pictures(given)
    first, second = (partial(_edits, folder, pictures, forget=forget) for forget in (True, False))
    kinds: dict[str, Make] = {"first": first, "second": second}
    kinds |= {"diffusers": partial(_peer_edits, folder, pictures)}
    seconds, _ = _measured(given, kinds)
    work = f"{given.model} -kv, {given.side}x{given.side}, {1 + given.references} references, "
    work += f"{share}: {STEPS} steps of a second instruction"
    gate += "; kept references: the same bytes"
    return [
        peers.row(work, "our first one", seconds["first"], seconds["second"], asked=1.3, gate=gate),
        peers.row(work, "diffusers bfloat16", seconds["diffusers"], seconds["second"], gate=gate),
    ]


def _edits(folder: Path, pictures: Sequence[Any], *, forget: bool) -> Measure:
    """Measures all steps of ours."""
    engine = overpaint.load(str(folder), dtype="bfloat16")
    _require_same(engine, pictures)
    return lambda: _all_steps(engine, pictures, forget=forget)


def _peer_edits(folder: Path, pictures: Sequence[Any]) -> Measure:
    """Measures all steps of diffusers."""
    peer = _peer(folder, "bfloat16")
    return lambda: STEPS * _peer_step(peer, pictures, whole=True)


def _measured(given: Any, kinds: Mapping[str, Make]) -> peers.Measured:
    """Seconds of each kind, in turns; or one after the other, with gigabytes."""
    if given.apart:
        return peers.apart(given.rounds, kinds)
    return peers.medians(given.rounds, {kind: make() for kind, make in kinds.items()}), {}


def _require_same(engine: overpaint.Engine, pictures: Sequence[Any]) -> None:
    """The gate of kept references: one picture, whether they were kept or not."""
    _picture(engine, pictures, "make it red")
    kept = _picture(engine, pictures, peers.PROMPT)
    _forget(engine)
    if not np.array_equal(_picture(engine, pictures, peers.PROMPT), kept):
        raise SystemExit("gate: kept references give another picture")


def _forget(engine: overpaint.Engine) -> None:
    checkpoint = engine.model().checkpoint
    assert checkpoint is not None
    checkpoint.states.clear()


def _pictures(given: Any) -> list[Any]:
    """The picture, and further references."""
    return [peers.picture(given.side).rotate(90 * i) for i in range(1 + given.references)]


def _gate(folder: Path) -> str:
    """What the pictures differ by in float32, at a small size."""
    image = peers.picture(GATE_SIDE)
    peer = _peer(folder, "float32")
    theirs = np.asarray(_run_peer(peer, [image], steps=1), dtype=int)
    del peer
    gc.collect()
    engine = overpaint.load(str(folder), dtype="float32")
    ours = _picture(engine, [image], peers.PROMPT, num_inference_steps=1)
    difference = int(np.abs(theirs - ours).max())
    if difference > 1:
        raise SystemExit(f"parity gate: the pictures differ by {difference} of 255")
    return f"float32: {difference} of 255"


def _peer(folder: Path, dtype: str) -> Any:
    """diffusers' pipeline that the checkpoint names."""
    from diffusers.utils import logging

    logging.set_verbosity_error()
    loaded = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=getattr(torch, dtype))
    loaded.set_progress_bar_config(disable=True)
    return loaded


def _run_peer(peer: Any, pictures: Sequence[Any], *, steps: int = STEPS, **more: Any) -> Any:
    if not isinstance(peer, diffusers.Flux2KleinKVPipeline):
        more["guidance_scale"] = 1.0
    return peer(
        prompt=peers.PROMPT,
        image=list(pictures),
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
        max_sequence_length=TEXT,
        **more,
    ).images[0]


def _peer_step(peer: Any, pictures: Sequence[Any], *, whole: bool = False) -> float:
    """Seconds of the steps after the first one, or with `whole` of all, each."""
    ends: list[float] = []

    def ended(_pipe: Any, _index: int, _t: Any, kept: dict[str, Any]) -> dict[str, Any]:
        ends.append(time.perf_counter())
        return kept

    original = peer.scheduler.set_begin_index

    def began(index: int = 0) -> None:
        ends.append(time.perf_counter())
        original(index)

    peer.scheduler.set_begin_index = began
    try:
        _run_peer(peer, pictures, callback_on_step_end=ended)
    finally:
        del peer.scheduler.set_begin_index
    return (ends[-1] - ends[0]) / STEPS if whole else (ends[-1] - ends[1]) / (STEPS - 1)


def _our_step(engine: overpaint.Engine, pictures: Sequence[Any], **options: Any) -> float:
    """Seconds of the steps after the first one, each."""
    ends: list[float] = []
    _edit(engine, pictures, on_progress=lambda _: ends.append(time.perf_counter()), **options)
    return (ends[-1] - ends[0]) / (STEPS - 1)


def _all_steps(engine: overpaint.Engine, pictures: Sequence[Any], *, forget: bool) -> float:
    """Seconds of all steps together; without what was kept of the references, with `forget`."""
    if forget:
        _forget(engine)
    return float(_edit(engine, pictures).timings["steps"])


def _picture(
    engine: overpaint.Engine, pictures: Sequence[Any], prompt: str, **options: Any
) -> np.ndarray:
    result = _edit(engine, pictures, prompt, composite=False, **options)
    return np.asarray(result.images[0], dtype=int)


def _edit(
    engine: overpaint.Engine, pictures: Sequence[Any], prompt: str = peers.PROMPT, **options: Any
) -> Any:
    image, *references = pictures
    return engine.edit(
        image,
        prompt,
        references=references,
        seed=0,
        width=image.width,
        height=image.height,
        **{"num_inference_steps": STEPS, "max_sequence_length": TEXT, **options},
    )


if __name__ == "__main__":
    main()
