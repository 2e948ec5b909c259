"""FLUX.2 [klein] at its real width beside diffusers: a step, and a second instruction.

    python -m benchmarks.klein --apart                    # all blocks: diffusers takes 16 GB
    python -m benchmarks.klein --blocks 1 2 --side 512    # few of them

Random weights in the real shape: a step costs what it costs with real ones. All are measured in
one run, in turns (with `--apart` one after the other); the medians count. Rows:

- a step of `klein` in bfloat16, beside a step of `Flux2KleinPipeline` in its default, float32, and
  in bfloat16; the picture is the one reference;
- the same with `refresh_every`, a mask over a tenth of the picture;
- all steps of an edit with the -kv weights: the first of a picture, and a second instruction on it,
  beside all steps of `Flux2KleinKVPipeline`.

Gates: in float32 and at a small size the pictures are diffusers' own, within one level of 255, and
a second instruction gives the same picture whether references were kept or not.
"""

from __future__ import annotations

import argparse
import gc
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

STEPS = 4
GATE_SIDE, GATE_BLOCKS = 128, (1, 1)
TEXT = 512

Measure = Callable[[], float]


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
    parser.add_argument(
        "--peers", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"]
    )
    parser.add_argument(
        "--apart", action="store_true", help="load each kind alone: slower, and half of the memory"
    )
    parser.add_argument("--checkpoint", type=Path, default=Path(gettempdir()) / "overpaint-real")
    given = parser.parse_args(arguments)
    full = real_size.KLEIN[given.model][:2]
    blocks = tuple(given.blocks or full)
    share = f"{blocks[0]}+{blocks[1]} of {full[0]}+{full[1]} blocks"
    rows = _plain(given, blocks, share)
    gc.collect()
    rows += _kept(given, blocks, share)
    command = f"python -m benchmarks.klein --model {given.model} --side {given.side}"
    command += f" --references {given.references} --blocks {blocks[0]} {blocks[1]}"
    report.write("klein", "FLUX.2 [klein] at its real width, random weights", command, rows)


def _checkpoint(given: Any, blocks: tuple[int, ...], pipeline: str) -> Path:
    name = f"{given.model}-{pipeline}-{blocks[0]}-{blocks[1]}"
    return real_size.klein(given.checkpoint / name, given.model, pipeline, (blocks[0], blocks[1]))


def _plain(given: Any, blocks: tuple[int, ...], share: str) -> list[Row]:
    """A step of the plain weights."""
    folder = _checkpoint(given, blocks, "Flux2KleinPipeline")
    gate = _gate(_checkpoint(given, GATE_BLOCKS, "Flux2KleinPipeline"))
    pictures = _pictures(given)
    masked = {"mask": peers.mask(given.side), "window": "full", "refresh_every": STEPS}

    def ours(**options: Any) -> Measure:
        engine = overpaint.load(str(folder), dtype="bfloat16")
        return lambda: _our_step(engine, pictures, **options)

    def theirs(dtype: str) -> Measure:
        peer = _peer(folder, dtype)
        return lambda: _peer_step(peer, pictures)

    kinds: dict[str, Callable[[], Measure]] = {"ours": ours, "sparse": partial(ours, **masked)}
    seconds = _seconds(given, kinds | {each: partial(theirs, each) for each in given.peers})
    work = f"{given.model}, {given.side}x{given.side}, {1 + given.references} references, {share}"
    rows = []
    for dtype in given.peers:
        default = " (its default)" if dtype == "float32" else ""
        for kind, name in (("ours", "a step"), ("sparse", "a sparse step, 10 % mask")):
            asked = 2.0 if kind == "ours" and default else ""
            row = peers.row(
                f"{work}: {name}, bfloat16",
                f"diffusers {dtype}{default}",
                seconds[dtype],
                seconds[kind],
                asked=asked,
                gate=gate,
            )
            rows.append(row)
    return rows


def _kept(given: Any, blocks: tuple[int, ...], share: str) -> list[Row]:
    """All steps of two instructions on one picture, with the -kv weights."""
    folder = _checkpoint(given, blocks, "Flux2KleinKVPipeline")
    gate = _gate(_checkpoint(given, GATE_BLOCKS, "Flux2KleinKVPipeline"))
    pictures = _pictures(given)

    def ours(*, forget: bool) -> Measure:
        engine = overpaint.load(str(folder), dtype="bfloat16")
        _require_same(engine, pictures)
        return lambda: _all_steps(engine, pictures, forget=forget)

    def theirs() -> Measure:
        peer = _peer(folder, "bfloat16")
        return lambda: STEPS * _peer_step(peer, pictures, whole=True)

    first, second = partial(ours, forget=True), partial(ours, forget=False)
    seconds = _seconds(given, {"first": first, "second": second, "diffusers": theirs})
    work = f"{given.model} -kv, {given.side}x{given.side}, {1 + given.references} references, "
    work += f"{share}: {STEPS} steps of a second instruction"
    gate += "; kept references: the same bytes"
    return [
        peers.row(work, "our first one", seconds["first"], seconds["second"], asked=1.3, gate=gate),
        peers.row(work, "diffusers bfloat16", seconds["diffusers"], seconds["second"], gate=gate),
    ]


def _seconds(given: Any, kinds: Mapping[str, Callable[[], Measure]]) -> dict[str, float]:
    """The median of each kind: in turns, or one kind after the other, each alone in memory."""
    if not given.apart:
        return peers.medians(given.rounds, {kind: make() for kind, make in kinds.items()})
    seconds = {}
    for kind, make in kinds.items():
        seconds |= peers.medians(given.rounds, {kind: make()})
        gc.collect()
    return seconds


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
