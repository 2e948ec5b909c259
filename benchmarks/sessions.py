"""Ten turns in a session beside a plain loop over diffusers' Kontext pipeline, same checkpoint.

python -m benchmarks.sessions [--scenes 10] [--turns 10] [--count 40] [--candidates 4]

Each scene gets ten instructions in a row (recolour, replace, add, move, remove, resize). The *kept
area* is what none of them names: the world knows. A session puts the original's own pixels back
where a turn changed nothing; the plain loop feeds the pipeline's picture back to it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import overpaint
from benchmarks import report
from benchmarks.behaviour import measures
from benchmarks.behaviour.measures import RNG, STEPS, Share, psnr
from benchmarks.behaviour.painters import SEED, SIZE, Pixels
from benchmarks.behaviour.turns import Mask, chain, kept_area
from overpaint.core.imaging.fidelity.layer import EditLayer
from overpaint.core.imaging.images import Picture
from overpaint.families.flux1 import flux
from overpaint.sessions import Editor, Store
from training.world.edits import INSTRUCTION_KINDS, InstructionTask
from training.world.judge import is_gone, judge_instruction
from training.world.render import render

Row = dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-kontext")
    parser.add_argument("--scenes", type=int, default=10, help="scenes edited turn after turn")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--count", type=int, default=40, help="instructions of each kind")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    engine = overpaint.load(asked.model, dtype="float32")
    settings = f"--model {asked.model} --scenes {asked.scenes} --turns {asked.turns}"
    settings += f" --count {asked.count} --candidates {asked.candidates} --steps {asked.steps}"
    command = f"python -m benchmarks.sessions {settings}"
    with editing(engine) as editor:
        rows = drift_rows(editor, engine, asked.scenes, asked.turns, asked.steps)
        report.write("sessions-drift", f"Ten turns with {asked.model}", command, rows)
        if asked.count:
            rows = success_rows(editor, asked.count, asked.candidates, asked.steps)
            report.write(
                "sessions-success", f"Instructions in a session, {asked.model}", command, rows
            )


@contextmanager
def editing(engine: overpaint.Engine) -> Iterator[Editor]:
    """Sessions in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/sessions.db", Path(folder) / "kept" / "pictures")
        try:
            yield Editor.with_engine(engine, store=store)
        finally:
            store.close()


def drift_rows(
    editor: Editor, engine: overpaint.Engine, scenes: int, turns: int, steps: int
) -> list[Row]:
    """The kept area, turn by turn, in a session and in a plain loop."""
    plain = pipeline(engine, steps)
    rng = np.random.default_rng(RNG)
    curves: dict[str, list[list[float]]] = {"session": [], "plain loop": []}
    same: dict[str, list[list[float]]] = {"session": [], "plain loop": []}
    shares, untouched, wrong, parity = [], [], 0, 0
    for scene in range(scenes):
        tasks = chain(rng, turns)
        start = render(tasks[0].before, SIZE)
        kept = kept_area(tasks)
        with recorded_masks(engine) as masks:
            ours = in_session(editor, start, tasks, scene, steps)
        alone = ~np.any(masks, axis=0)
        untouched.append(alone.mean())
        wrong += int((ours[-1][alone] != start[alone]).sum())
        theirs = in_loop(plain, start, tasks, scene)
        parity += int(np.array_equal(theirs[0], first_turn(engine, start, tasks, scene, steps)))
        shares.append(kept.mean())
        for name, pictures in (("session", ours), ("plain loop", theirs)):
            curves[name].append([psnr(each[kept], start[kept]) for each in pictures])
            same[name].append([identical(each[kept], start[kept]) for each in pictures])
    return [
        {"figure": "kept area, PSNR by turn, dB (99 = identical)", **listed(curves, "{:.1f}")},
        {"figure": "kept area, identical pixels by turn, %", **listed(same, "{:.0f}")},
        {
            "figure": "bytes that differ at the end where no turn changed anything",
            "session": wrong,
            "plain loop": "no such area",
        },
        {
            "figure": "share of the picture where no turn changed anything",
            "session": f"{100 * np.mean(untouched):.0f} %",
            "plain loop": "0 %",
        },
        {
            "figure": "share of the picture that no instruction names",
            "session": f"{100 * np.mean(shares):.0f} %",
            "plain loop": f"{100 * np.mean(shares):.0f} %",
        },
        {
            "figure": "first turns without putting back that are diffusers' byte by byte",
            "session": f"{parity} of {scenes}",
            "plain loop": "",
        },
    ]


def success_rows(editor: Editor, count: int, candidates: int, steps: int) -> list[Row]:
    """Instructions done, by kind: with one candidate, and with the best of several."""
    columns = {"1 candidate": 1, f"best of {candidates}, by pixels": candidates}
    rows, everything = [], {name: [] for name in columns}
    for kind in INSTRUCTION_KINDS:
        asked = measures.instruction_tasks(count, kind)
        made = {name: answers(editor, asked, number, steps) for name, number in columns.items()}
        row: Row = {"figure": f"instruction done: {kind}"}
        for name, pictures in made.items():
            done = [judge_instruction(p, t).done for p, t in zip(pictures, asked, strict=True)]
            row[name] = str(Share.of(done))
            everything[name] += done
        rows.append(row)
        if kind == "remove":
            gone = {
                name: str(
                    Share.of(
                        t.old is not None and is_gone(p, t.after, t.old)
                        for p, t in zip(pictures, asked, strict=True)
                    )
                )
                for name, pictures in made.items()
            }
            rows.append({"figure": "remove: thing and shadow gone", **gone})
    total = {name: str(Share.of(done)) for name, done in everything.items()}
    return [*rows, {"figure": "instruction done: all kinds", **total}]


def in_session(
    editor: Editor, start: Pixels, tasks: Sequence[InstructionTask], scene: int, steps: int
) -> list[Pixels]:
    """Each turn's picture as it comes back from the store."""
    session, pictures = editor.new(start, f"scene {scene}"), []
    for number, task in enumerate(tasks):
        session, turn = editor.edit(
            session.id, task.instruction, seed=seed(scene, number), num_inference_steps=steps
        )
        pictures.append(np.asarray(editor.picture(turn).rgb))
    return pictures


def in_loop(
    plain: Callable[[Image.Image, str, int], Image.Image],
    start: Pixels,
    tasks: Sequence[InstructionTask],
    scene: int,
) -> list[Pixels]:
    """Each turn's picture, fed back as it is."""
    picture, pictures = Image.fromarray(start), []
    for number, task in enumerate(tasks):
        picture = plain(picture, task.instruction, seed(scene, number))
        pictures.append(np.asarray(picture))
    return pictures


def first_turn(
    engine: overpaint.Engine,
    start: Pixels,
    tasks: Sequence[InstructionTask],
    scene: int,
    steps: int,
) -> Pixels:
    """Our first turn without putting the original back: what the pipeline should give."""
    result = engine.edit(
        start,
        tasks[0].instruction,
        seed=seed(scene, 0),
        num_inference_steps=steps,
        composite=False,
    )
    return np.asarray(result.pictures[0].rgb)


def answers(
    editor: Editor, tasks: Sequence[InstructionTask], candidates: int, steps: int
) -> list[Pixels]:
    """The chosen picture of each task, each in a session of its own."""
    pictures = []
    for index, task in enumerate(tasks):
        session = editor.new(Picture.from_array(render(task.before, SIZE)))
        _, turn = editor.edit(
            session.id,
            task.instruction,
            seed=SEED + index * candidates,
            num_images=candidates,
            num_inference_steps=steps,
        )
        pictures.append(np.asarray(editor.picture(turn).rgb))
        editor.store.delete(session.id)
    return pictures


def pipeline(
    engine: overpaint.Engine, steps: int
) -> Callable[[Image.Image, str, int], Image.Image]:
    """diffusers' pipeline on the engine's own checkpoint, in float32."""
    from diffusers import FluxKontextPipeline

    checkpoint = engine.model().checkpoint
    assert checkpoint is not None
    pipe = FluxKontextPipeline.from_pretrained(checkpoint.folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    length = flux.text_length(checkpoint, None)

    def edit(picture: Image.Image, words: str, number: int) -> Image.Image:
        made = pipe(
            image=picture,
            prompt=words,
            width=SIZE,
            height=SIZE,
            max_area=SIZE * SIZE,
            _auto_resize=False,
            num_inference_steps=steps,
            guidance_scale=2.5,
            max_sequence_length=length,
            generator=torch.Generator().manual_seed(number),
        ).images[0]
        assert isinstance(made, Image.Image)
        return made

    return edit


@contextmanager
def recorded_masks(engine: overpaint.Engine) -> Iterator[list[Mask]]:
    """Where each edit was blended in; everywhere, for one that was taken whole."""
    family = engine.model().family
    masks: list[Mask] = []
    real = family.place

    def place(request: Any, *others: Any) -> EditLayer:
        layer = real(request, *others)
        size = request.image.size[::-1]
        everywhere = layer.alpha is None
        masks.append(np.ones(size, bool) if everywhere else np.asarray(layer.alpha) > 0)
        return layer

    family.place = place  # type: ignore[method-assign]
    try:
        yield masks
    finally:
        del family.place


def identical(first: Pixels, second: Pixels) -> float:
    """Percent of pixels that are the same in every byte."""
    return 100 * float((first == second).all(axis=-1).mean())


def listed(curves: dict[str, list[list[float]]], shape: str) -> dict[str, str]:
    """The mean over scenes of each turn, as text."""
    return {
        name: " ".join(shape.format(value) for value in np.mean(each, axis=0))
        for name, each in curves.items()
    }


def seed(scene: int, turn: int) -> int:
    """The same in both loops."""
    return SEED + 100 * scene + turn


if __name__ == "__main__":
    main()
