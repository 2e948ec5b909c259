"""Data sets with the twins: cells filled, objects removed, exposure moved, speed, kills.

    python -m benchmarks.datasets                                  # all, an hour or so
    python -m benchmarks.datasets --parts grid --quota 1 --shapes 2 --colours 2
    .venv-ray/bin/python -m benchmarks.datasets --parts speed kills  # with Ray, too

The judge is `training.world`'s; the vision model that the recipes use is `datasets_eye`, which
shares nothing with it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import report
from benchmarks.datasets_eye import Eye
from benchmarks.datasets_runs import (
    OVERPAINT,
    SIZE,
    PlainLoop,
    fingerprint,
    overpaint,
    repeated,
    seconds_a_picture,
    write_grounds,
    write_recipe,
    write_scenes,
)
from tests.datasets.vision_server import serving
from training.world.judge import CLEAR_SHAPE, is_gone
from training.world.palette import COLOURS, SHAPES
from training.world.render import footprint, render
from training.world.scene import sample_scene
from training.world.vision import find_thing, shows_thing

Row = dict[str, Any]

SLICE = 6
"""Pictures of the plain loop between two other runs."""

ROWS = 8
"""Pictures that are under way in a process, or come back from an actor of Ray, at a time."""


@dataclass(frozen=True)
class Asked:
    """The command line's words."""

    quota: int
    shapes: int
    colours: int
    scenes: int
    steps: int
    guidance: float
    tries: int
    kills: int
    model: str
    backend: str
    dtype: str
    actors: tuple[int, ...]
    removers: tuple[str, ...]
    rounds: int
    own_only: bool
    work: Path


@dataclass(frozen=True)
class Way:
    """A way to run the grid's recipe."""

    asked: Asked
    flags: tuple[str, ...] = ()
    actors: int = 1


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--quota", type=int, default=5, help="pictures in each cell")
    parser.add_argument("--shapes", type=int, default=len(SHAPES))
    parser.add_argument("--colours", type=int, default=len(COLOURS))
    parser.add_argument("--scenes", type=int, default=200, help="to be cleaned")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0, help="scale; the twin's best is 3")
    parser.add_argument("--tries", type=int, default=20, help="attempts per wanted picture")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--model", default="tiny-sd2", help="that inpaints")
    parser.add_argument("--backend", default="torch", choices=["torch", "openvino"])
    parser.add_argument("--dtype", default="auto", help="as `overpaint collect --dtype` takes it")
    parser.add_argument("--actors", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--removers", nargs="+", default=list(REMOVERS), choices=list(REMOVERS))
    parser.add_argument("--rounds", type=int, default=3, help="of the measurement of speed")
    parser.add_argument("--own-only", action="store_true", help="not with the default backend")
    parser.add_argument("--work", type=Path, help="keep everything here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overpaint-") as folder:
        work = given.work or Path(folder)
        values = {key: value for key, value in vars(given).items() if key != "parts"}
        lists = {"actors": tuple(given.actors), "removers": tuple(given.removers)}
        asked = Asked(**(values | lists | {"work": work}))
        command = f"python -m benchmarks.datasets {' '.join(sys.argv[1:])}".strip()
        for part in given.parts:
            rows = PARTS[part](asked)
            report.write(f"datasets-{part}", f"Data sets: {part}", command, rows)


def grid(asked: Asked) -> list[Row]:
    """Every cell of shapes and colours filled, and whether the judge agrees with what was kept."""
    with seeing() as vision:
        folder = asked.work / "grid"
        told = collect(asked, folder, vision)
    rows = kept_rows(folder / "out")
    right = clear = 0
    for row in rows:
        found = find_thing(pixels(folder / "out/data/imagefolder/train" / row["file_name"]))
        agrees = found is not None and (found.colour, found.shape) == (
            row["axis_colour"], row["axis_shape"],
        )  # fmt: skip
        right += agrees
        clear += agrees and found is not None and found.iou >= CLEAR_SHAPE
    cells = asked.shapes * asked.colours
    return [
        {"figure": "cells filled", "value": f"{cells - len(told['missing'])} of {cells}"},
        {"figure": "pictures kept", "value": f"{len(rows)} of {cells * asked.quota}"},
        {"figure": "pictures made", "value": len(ledger_of(folder / "out"))},
        {"figure": "judge names the same colour and shape", "value": share(right, len(rows))},
        {"figure": f"and the shape is clear (IoU {CLEAR_SHAPE})", "value": share(clear, len(rows))},
    ]


REMOVERS: dict[str, Row] = {
    "instruct": {
        "model": "tiny-kontext",
        "look": {"labels": [f"{colour} star" for colour in COLOURS], "outline": "grabcut"},
        "rules": [{"when": "*", "do": "instruct", "prompt": "remove the {label}", "within": 16}],
        "gate": {"gone": True, "tries": 4, "changed": [0.0005, 0.5], "new_issues": False},
    },
    "erase": {
        "model": "erase",
        "look": {"labels": ["star"], "outline": "grabcut"},
        "rules": [{"when": "*", "do": "erase", "grow": 3, "options": {"shadow": True}}],
        "gate": {"gone": True, "changed": [0.0005, 0.5], "new_issues": False},
    },
}
"""Recipes that take stars out of scenes: by a model's instruction, and without weights."""


def remove(asked: Asked) -> list[Row]:
    """A named object out of many scenes, judged against the true scenes without it."""
    with seeing() as vision:
        return [row for name in asked.removers for row in _removed(asked, vision, name)]


def _removed(asked: Asked, vision: Row, name: str) -> list[Row]:
    folder = asked.work / f"remove-{name}"
    scenes = write_scenes(folder / "in", asked.scenes)
    recipe: Row = {"sources": [{"folder": "in"}], "vision": vision, **REMOVERS[name]}
    if name == "instruct":
        recipe["options"] = {"num_inference_steps": asked.steps}
    told = overpaint("clean", folder, recipe)
    counts = dict.fromkeys(
        (
            "thing and shadow gone",
            "the other things still there",
            "the rest as in the true scene (mean error < 3 of 255)",
            "every byte beyond 16 px around thing and shadow kept",
            "every byte beyond 8 px kept",
        ),
        0,
    )
    for row in kept_rows(folder / "out"):
        scene, index = scenes[row["source_name"]]
        after = pixels(folder / "out/data/imagefolder/train" / row["file_name"])
        before = pixels(folder / "in" / row["source_name"])
        truth, old = scene.without(index), scene.things[index]
        may = footprint(old, scene.light, SIZE)
        error = np.abs(after.astype(int) - render(truth, SIZE))[~_grown(may, 8)].mean()
        same = (after == before).all(axis=2)
        verdicts = (
            is_gone(after, truth, old),
            all(shows_thing(after, thing) for thing in truth.things),
            error < 3,
            same[~_grown(may, 16)].all(),
            same[~_grown(may, 8)].all(),
        )
        for figure, holds in zip(counts, verdicts, strict=True):
            counts[figure] += bool(holds)
    return [
        *(
            {"figure": f"{name}: {figure}", "value": share(count, len(scenes))}
            for figure, count in counts.items()
        ),
        {"figure": f"{name}: endings", "value": json.dumps(told["endings"])},
        {"figure": f"{name}: seconds", "value": told["seconds"]},
    ]


def exposure(asked: Asked) -> list[Row]:
    """Scenes of any exposure brought to one brightness."""
    folder = asked.work / "exposure"
    (folder / "in").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    for number in range(asked.scenes):
        scene = replace(sample_scene(rng), exposure=float(rng.uniform(0.45, 1.4)))
        Image.fromarray(render(scene, SIZE)).save(folder / f"in/{number:04d}.png")
    target = 0.55
    recipe = {"sources": [{"folder": "in"}], "exact": {"exposure": target}}
    told = overpaint("clean", folder, recipe)
    ledger = ledger_of(folder / "out")
    before = np.array([entry["extra"]["before"]["brightness"] for entry in ledger])
    after = np.array([entry["extra"]["measures"]["brightness"] for entry in ledger])
    within = int((np.abs(after - target) <= 0.01).sum())
    return [
        {"figure": "brightness before, mean ± deviation", "value": spread(before)},
        {"figure": f"brightness after, target {target}", "value": spread(after)},
        {"figure": "within 0.01 of the target", "value": share(within, len(after))},
        {"figure": "pictures/s", "value": f"{len(after) / told['seconds']:.1f}"},
    ]


def speed(asked: Asked) -> list[Row]:
    """Pictures a second: this machine and Ray, each between two slices of a plain loop."""
    ways = ways_to_run(asked)
    plain = PlainLoop(asked.model, asked.steps, asked.work / "speed/plain")
    took: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    prints: dict[str, set[str]] = {name: set() for name in ways}
    slices = [plain.run(SLICE)]
    for number in range(asked.rounds):
        for name, way in ways.items():
            place = asked.work / "speed" / f"{name.replace(', ', '-').replace(' ', '-')}-{number}"
            seconds, processor = one_run(way, place)
            slices.append(plain.run(SLICE))
            beside = (slices[-2][0] + slices[-1][0]) / 2
            took[name].append((seconds, processor, beside / seconds))
            prints[name].add(fingerprint(place / "out")[:12])
    alone, worked = (statistics.median(each) for each in zip(*slices, strict=True))
    rows = [
        {
            "way": "plain loop over diffusers' StableDiffusionInpaintPipeline",
            "pictures/s": f"{1 / alone:.2f}",
            "times the plain loop": "1",
            "processor s a picture": f"{worked:.2f}",
            "data set": "",
        }
    ]
    for name, each in took.items():
        seconds, processor, ratio = (statistics.median(x) for x in zip(*each, strict=True))
        rows.append(
            {
                "way": name,
                "pictures/s": f"{1 / seconds:.2f}",
                "times the plain loop": f"{ratio:.2f}",
                "processor s a picture": f"{processor:.2f}" if processor else "",
                "data set": ", ".join(sorted(prints[name])),
            }
        )
    return rows


def ways_to_run(asked: Asked) -> dict[str, Way]:
    """As it comes; with the backend and the precision that were asked for; on Ray with them."""
    ways = {"local": Way(replace(asked, backend="torch", dtype="auto"))}
    own = f"{asked.backend} {asked.dtype}"
    if own != "torch auto":
        ways[f"local, {own}"] = Way(asked)
        if asked.own_only:
            del ways["local"]
    ways[f"local, {own}, --width 8"] = Way(asked, ("--width", "8"))
    if importlib.util.find_spec("ray"):
        for actors in asked.actors:
            flags = ("--ray", "local", "--actors", str(actors))
            ways[f"Ray, {own}, actors: {actors}"] = Way(asked, flags, actors)
    return ways


def one_run(way: Way, place: Path) -> tuple[float, float]:
    """Seconds and, in this process alone, processor seconds of a picture; 0 = not known.

    Without the first pictures: models load with those. Start, export and report do not count: a
    first run makes one picture, to tell the processor time that they take.
    """
    if "--ray" in way.flags:
        collect(way.asked, place, None, *way.flags)
        return seconds_a_picture(place / "out", ROWS * way.actors), 0.0
    first = collect(way.asked, place, None, *way.flags, "--limit", "1")
    rest = collect(way.asked, place, None, *way.flags)
    processor = (rest["processor_s"] - first["processor_s"]) / (rest["computed"] - 1)
    return seconds_a_picture(place / "out", 1 + ROWS), processor


def kills(asked: Asked) -> list[Row]:
    """kill -9 at random moments: the same output, and nothing twice."""
    ways: dict[str, list[str]] = {"local": []}
    if importlib.util.find_spec("ray"):
        ways["Ray, 2 actors"] = ["--ray", "local", "--actors", "2"]
    whole = asked.work / "kills/whole"
    collect(asked, whole, None)
    rows = []
    for name, flags in ways.items():
        place = asked.work / f"kills/{name.split(',')[0].lower()}"
        killed = killed_runs(asked, place, flags)
        told = collect(asked, place, None, *flags)
        rows.append(
            {
                "way": name,
                "kills": killed,
                "same data set": fingerprint(place / "out") == fingerprint(whole / "out"),
                "units twice": repeated(place / "out"),
                "pictures": told["kept"],
            }
        )
    return rows


def killed_runs(asked: Asked, folder: Path, flags: list[str]) -> int:
    """Start and kill runs; how many were still running when they were killed."""
    recipe = write_recipe(folder, grid_recipe(asked, folder, None))
    rng = np.random.default_rng(11)
    killed = 0
    for _ in range(asked.kills):
        ledger = folder / "out/ledger.jsonl"
        before = ledger.read_bytes().count(b"\n") if ledger.exists() else 0
        run = subprocess.Popen(
            [*OVERPAINT, "collect", str(recipe), "-o", str(folder / "out"), "--json", *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        more = before + int(rng.integers(1, 1 + max(2, asked.quota * 4)))
        while run.poll() is None:
            done = ledger.read_bytes().count(b"\n") if ledger.exists() else 0
            if done >= more:
                break
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, 0.3)))
        killed += run.poll() is None
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    return killed


def collect(asked: Asked, folder: Path, vision: dict[str, Any] | None, *flags: str) -> Row:
    """Run the grid's recipe; what it told."""
    return overpaint(
        "collect",
        folder,
        grid_recipe(asked, folder, vision),
        *("--dtype", asked.dtype),
        *flags,
        backend=asked.backend,
    )


def grid_recipe(asked: Asked, folder: Path, vision: dict[str, Any] | None) -> dict[str, Any]:
    """Shapes and colours in the middle of empty grounds."""
    write_grounds(folder / "in", 48)
    filters: dict[str, Any] = {"duplicates": 2, "changed": [0.02, 0.9]}
    if vision is not None:
        filters |= {"shows": "a {colour} {shape}", "shows_score": 0.95}
    return {
        "name": "grid",
        "model": asked.model,
        "sources": [{"folder": "in"}],
        "prompt": "a {colour} {shape}",
        "axes": {
            "colour": list(COLOURS)[: asked.colours],
            "shape": list(SHAPES)[: asked.shapes],
        },
        "quota": asked.quota,
        "tries": asked.tries,
        "mask": {"box": [0.15, 0.15, 0.85, 0.85]},
        "options": {"num_inference_steps": asked.steps, "guidance_scale": asked.guidance},
        "filters": filters,
        "vision": vision,
    }


@contextmanager
def seeing() -> Iterator[dict[str, Any]]:
    """The recipe's `vision`, and a server for it."""
    with serving(Eye().answer) as server:
        yield {"base_url": server.url, "model": "neighbours", "timeout_s": 60}


def kept_rows(out: Path) -> list[Row]:
    """The data set's metadata."""
    return [json.loads(line) for line in (out / "data/imagefolder/train/metadata.jsonl").open()]


def ledger_of(out: Path) -> list[Row]:
    """What was made, good or bad."""
    return [json.loads(line) for line in (out / "ledger.jsonl").open()]


def pixels(path: Path) -> Any:
    """H x W x 3."""
    return np.asarray(Image.open(path).convert("RGB"))


def share(part: int, whole: int) -> str:
    """'45 of 48 (94 %)'."""
    return f"{part} of {whole} ({part / whole:.0%})" if whole else "none"


def spread(values: Any) -> str:
    """Mean and deviation."""
    return f"{values.mean():.3f} ± {values.std():.3f}"


def _grown(mask: Any, radius: int) -> Any:
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)


PARTS: dict[str, Callable[[Asked], list[Row]]] = {
    "grid": grid,
    "remove": remove,
    "exposure": exposure,
    "speed": speed,
    "kills": kills,
}

if __name__ == "__main__":
    main()
