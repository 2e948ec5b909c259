"""Do edits stay where they belong? Known faults, ten turns with a twin, borders, and what it costs.

python -m benchmarks.stay [--parts faults turns seeds borders cost share sheet] [--count 200]

`faults` does known faults to true edits of photos and drawn scenes and measures what is left of
them. `turns` gives ten instructions in a row to a twin. `seeds` does so with each of several seeds
for all turns, and tests whether as many instructions are done as with hold=False. `borders`
measures the borders of masked edits of photos. `cost` times what is done after a model's last step.
`share` is its part of an edit with stable-diffusion-2-inpainting in its real size. `sheet` writes
the pictures of docs/staying.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageChops
from scipy.stats import binomtest

import overpaint
from benchmarks import erase_cases, real_size, report, sessions
from benchmarks.behaviour.measures import RNG, STEPS, psnr
from benchmarks.behaviour.painters import SIZE, Pixels
from benchmarks.behaviour.turns import Mask, chain, kept_area
from overpaint.core.geometry import Box, Plan
from overpaint.core.imaging import masks
from overpaint.core.imaging.fidelity import seams, tone
from overpaint.core.imaging.fidelity.registration import Motion, register
from overpaint.core.imaging.images import Picture
from tests import faults, faulty_family
from tests.faults import Fault
from training.world.edits import InstructionTask
from training.world.judge import judge_instruction
from training.world.render import footprint, render
from training.world.vision import shows_thing

Row = dict[str, Any]

SIDE = 512
NOISE = Fault(noise=2.0)
SEEDS = (7, 11, 23)
"""Each of them for all turns of all scenes."""

REAL_STEPS = 4
"""Of the 50 that people take; with more the share is less."""

SHEET = Path("docs/images/staying.jpg")


def main() -> None:
    """Run the parts that are asked for."""
    parts: dict[str, Callable[[int], list[Row]]] = {
        "faults": fault_rows,
        "turns": turn_rows,
        "seeds": seed_rows,
        "borders": border_rows,
        "cost": cost_rows,
        "share": share_rows,
        "sheet": sheet_rows,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--count", type=int, default=200, help="edits with faults; scenes x 20")
    asked = parser.parse_args()
    for name in asked.parts:
        rows = parts[name](asked.count)
        command = f"python -m benchmarks.stay --parts {name} --count {asked.count}"
        report.write(f"stay-{name}", f"Edits that stay where they belong: {name}", command, rows)


def fault_rows(count: int) -> list[Row]:
    """What is left of known faults, and what is found where there was none."""
    pictures = faults.pictures(SIDE, scenes=6)
    rng = np.random.default_rng(1)
    left, tints, invented, exact = [], [], 0, 0
    for number, case in enumerate(faults.cases(pictures, count, seed=2)):
        before = NOISE.done_to(case.before, seed=1000 + number)
        moved = faults.geometric(rng)
        left.append(residual(register(before, moved.done_to(case.after, seed=number)), moved))
        tinted = faults.tonal(rng).done_to(case.after, seed=number)
        tint = tone.tint(before, tinted)
        around = faults.grown(case.area, SIDE // 20) & ~case.area
        clean = tinted if tint is None else tint.taken_off(tinted)
        tints.append([level(each, case.before, around) for each in (tinted, clean)])
        answer = faulty_family.engine(case.after, NOISE).edit(case.before, "do it", seed=number)
        found, far = answer.measures[0], ~faults.grown(case.area, 32)
        invented += int(bool(found["shift"] or found["zoom"] or found["tint"]))
        same = np.asarray(answer.images[0])[far] == case.before[far]
        exact += int(found["changed"] == 1 or same.all())
    shifts, zooms = np.array(left).T
    before_tint, after_tint = np.array(tints).T
    hits = (shifts <= 0.1) & (zooms <= 0.0005)
    return [
        {"figure": "edits with a shift, a zoom or a rotation", "value": count},
        {"figure": "at most 0.1 px and 0.05 % left", "value": f"{100 * hits.mean():.1f} %"},
        {"figure": "shift left, median", "value": f"{np.median(shifts):.3f} px"},
        {"figure": "zoom left, median", "value": f"{100 * np.median(zooms):.4f} %"},
        {"figure": "no fault: something was corrected", "value": f"{invented} of {count}"},
        {"figure": "no fault: equal to the byte far from the edit", "value": f"{exact} of {count}"},
        {
            "figure": "tint around the edit, levels: as it came, left (95 % of edits)",
            "value": f"{np.quantile(before_tint, 0.95):.1f}, {np.quantile(after_tint, 0.95):.2f}",
        },
        {
            "figure": "at most one level of tint left",
            "value": f"{100 * (after_tint <= 1).mean():.1f} %",
        },
    ]


def residual(motion: Motion | None, fault: Fault) -> tuple[float, float]:
    """Pixels of shift and share of zoom that are left."""
    matrix, truth = np.eye(2, 3) if motion is None else motion.matrix(), fault.matrix((SIDE, SIDE))
    middle = np.array([(SIDE - 1) / 2, (SIDE - 1) / 2, 1])
    zooms = [np.sqrt(np.linalg.det(each[:, :2])) for each in (matrix, truth)]
    return float(np.hypot(*(matrix @ middle - truth @ middle))), abs(zooms[0] - zooms[1])


def level(one: Pixels, other: Pixels, area: Mask) -> float:
    """Levels by which the mean colours of an area differ, in the worst channel."""
    return float(np.abs((one.astype(float) - other)[area].mean(axis=0)).max())


AS_BEFORE: Row = {"hold": False, "noise_from": "seed"}


def turn_rows(count: int) -> list[Row]:
    """Ten turns in a session: as it was, as it is, and with one seed for all turns."""
    scenes = max(1, count // 20)
    engine = overpaint.load("tiny-kontext", dtype="float32")
    ways: dict[str, Row] = {
        "as before (hold=False)": AS_BEFORE,
        "now": {},
        "now, and a segmenter finds what is named": {"target": True},
        "as before, one seed for all turns": {**AS_BEFORE, "seed": SEEDS[0]},
        "now, one seed for all turns": {"seed": SEEDS[0]},
    }
    label = f"{scenes} scenes, after ten turns"
    return [
        {label: name, **ten_turns(engine, options, scenes).row()} for name, options in ways.items()
    ]


def seed_rows(count: int) -> list[Row]:
    """Ten turns with one seed for all of them, with several seeds: as it was, and as it is."""
    scenes = max(1, count // 20)
    engine = overpaint.load("tiny-kontext", dtype="float32")
    rows, alone = [], np.zeros(2, int)
    for seed in SEEDS:
        pair = [ten_turns(engine, {**each, "seed": seed}, scenes) for each in ({}, AS_BEFORE)]
        now, before = (np.array(each.done) for each in pair)
        differing = (now & ~before).sum(), (before & ~now).sum()
        alone += differing
        for name, turns in zip(("now", "as before (hold=False)"), pair, strict=True):
            rows.append({f"{scenes} scenes, seed": f"{seed}, {name}", **turns.row()})
    chance = binomtest(int(alone[0]), int(alone.sum())).pvalue
    verdict = f"{alone[0]} now alone, {alone[1]} before alone; exact McNemar test: p = {chance:.2f}"
    return [*rows, {f"{scenes} scenes, seed": "all", "instructions done": verdict}]


@dataclass(frozen=True)
class TenTurns:
    """What became of scenes after ten turns each.

    Attributes:
        quality: PSNR of the kept area, of each scene.
        same: percent of its pixels that are identical, of each scene.
        done: of each turn, whether its instruction was done.
        changed: of each turn, the percent of the kept area that it changed.
        astray: of each turn, whether the thing that its instruction names is not in the picture,
            since an earlier turn failed.
    """

    quality: list[float] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    done: list[bool] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)
    astray: list[bool] = field(default_factory=list)

    def row(self) -> Row:
        """As a table has it."""
        return {
            "kept area, PSNR": f"{np.mean(self.quality):.1f} dB",
            "identical pixels": f"{np.mean(self.same):.1f} %",
            "instructions done": f"{sum(self.done)} of {len(self.done)}",
            "without the named thing": f"{sum(self.astray)} of {len(self.astray)}",
            "of all changes, theirs": f"{100 * self.share_astray:.0f} %",
        }

    @property
    def share_astray(self) -> float:
        """Of all changes of the kept area, those of turns whose thing is not in the picture."""
        return float(np.array(self.changed) @ self.astray / max(1e-9, sum(self.changed)))

    def add(self, task: InstructionTask, before: Pixels, after: Pixels, kept: Mask) -> None:
        """One more turn."""
        self.done.append(judge_instruction(after, task).done)
        self.changed.append(100 - sessions.identical(after[kept], before[kept]))
        self.astray.append(task.old is not None and not shows_thing(before, task.old))


def ten_turns(engine: overpaint.Engine, options: Row, scenes: int) -> TenTurns:
    """Ten instructions in a row, for each of so many scenes."""
    result = TenTurns()
    rng = np.random.default_rng(RNG)
    for scene in range(scenes):
        tasks = chain(rng, 10)
        start = picture = render(tasks[0].before, SIZE)
        kept = kept_area(tasks)
        with sessions.editing(engine) as editor:
            session = editor.new(start)
            for number, task in enumerate(tasks):
                asked = {"seed": sessions.seed(scene, number), **options}
                if asked.pop("target", False):
                    asked["target"] = segmented(task)
                session, turn = editor.edit(
                    session.id, task.instruction, num_inference_steps=STEPS, **asked
                )
                before, picture = picture, np.asarray(editor.picture(turn).rgb)
                result.add(task, before, picture, kept)
        result.quality.append(psnr(picture[kept], start[kept]))
        result.same.append(sessions.identical(picture[kept], start[kept]))
    return result


def segmented(task: InstructionTask) -> Mask | None:
    """Where a segmenter finds what an instruction names; None for what is moved, or not there."""
    if task.old is None or task.kind == "move":
        return None
    return footprint(task.old, task.before.light, SIZE)


def border_rows(count: int) -> list[Row]:
    """The border score of masked edits of photos, with and without what fits the border."""
    rows = []
    asked = [("tiny-flex2", "empty"), ("tiny-sd2", "empty"), ("tiny-kontext", "a red circle")]
    for name, prompt in [*asked, ("erase", "")]:
        engine = overpaint.load(name, **({} if name == "erase" else {"dtype": "float32"}))
        more = {} if name == "erase" else {"num_inference_steps": 8}
        scores = []
        for case in list(erase_cases.cases(256))[:: max(1, 600 // count)]:
            mask = Image.fromarray(case.hole.astype(np.uint8) * np.uint8(255))
            made = [
                engine.edit(case.truth, prompt, mask=mask, seed=case.number, hold=hold, **more)
                for hold in (False, True)
            ]
            feather = made[0].recipe["options"]["feather"]
            alpha, before = masks.feather(mask, feather), Image.fromarray(case.truth)
            scores.append([seams.border(before, each.images[0], alpha) or 0.0 for each in made])
            outside = ~case.hole
            assert (np.asarray(made[1].images[0])[outside] == case.truth[outside]).all()
        plain, fitted = np.mean(scores, axis=0)
        rows.append(
            {
                "border score, mean": name,
                "edits": len(scores),
                "feathered alone": f"{plain:.2f}",
                "fitted": f"{fitted:.2f}",
            }
        )
    return rows


def cost_rows(count: int) -> list[Row]:
    """Seconds after the last step, for pictures of several sizes on a canvas of a megapixel."""
    rows = []
    for megapixels in (1, 24):
        side = round((megapixels * 1e6) ** 0.5)
        canvas = min(side, 1024)
        photo = erase_cases.square_photo("coffee", canvas)
        edit = photo.copy()
        edit[300:600, 300:600] = np.flip(edit[300:600, 300:600], axis=1)
        picture = Picture.from_array(np.asarray(Image.fromarray(photo).resize((side, side))))
        for name, fault in (("right", NOISE), ("moved and tinted", MOVED)):
            edited = Image.fromarray(fault.done_to(edit))
            copied = Image.fromarray(NOISE.done_to(photo, seed=1))
            box = Box(0, 0, canvas, canvas)
            plan = Plan(
                size=picture.size,
                window=Box.of_size(picture.size),
                canvas=(canvas, canvas),
                content=box,
                output=picture.size,
            )
            seconds = [timed(picture, plan, copied, edited, hold) for hold in (False, True)]
            rows.append(
                {
                    "megapixels": megapixels,
                    "the model's picture": name,
                    "blended alone": f"{seconds[0]:.2f} s",
                    "held, fitted and measured": f"{seconds[1]:.2f} s",
                    "more": f"{seconds[1] - seconds[0]:.2f} s",
                }
            )
    return rows


def share_rows(count: int) -> list[Row]:
    """What is done after the last step, as a share of an edit at real size with few steps."""
    folder = Path(tempfile.gettempdir()) / "overpaint-real" / "sd2-bfloat16"
    real_size.sd2(folder, torch.bfloat16)
    engine = overpaint.load(str(folder), dtype="bfloat16")
    photo = Image.fromarray(erase_cases.square_photo("chelsea", SIDE))
    mask = Image.fromarray(np.uint8(255) * erase_cases.draw_mask(2, SIDE).astype(np.uint8))
    rows = []
    for hold in (False, True):
        asked = {"mask": mask, "window": "full", "num_inference_steps": REAL_STEPS}
        taken = engine.edit(photo, "a cat", seed=1, hold=hold, **asked).timings
        rows.append(
            {
                f"{SIDE} x {SIDE}, {REAL_STEPS} steps": "held, fitted and measured"
                if hold
                else "blended alone",
                "after the last step": f"{taken['composite']:.3f} s",
                "the edit": f"{taken['total']:.1f} s",
                "share": f"{100 * taken['composite'] / taken['total']:.2f} %",
            }
        )
    return rows


MOVED = Fault(shift=(5.3, -2.6), zoom=1.008, gain=(0.95, 1, 1.04), noise=2.0)


def timed(
    picture: Picture, plan: Plan, copied: Image.Image, edited: Image.Image, hold: bool
) -> float:
    """The median of three."""
    family = faulty_family.engine(np.asarray(edited), Fault()).model().family
    family.copied = lambda *_: copied  # type: ignore[method-assign]
    family.plan = lambda *_: plan  # type: ignore[method-assign]
    engine = faulty_family.engine_of(family)
    results = [engine.edit(picture, "do it", seed=1, hold=hold) for _ in range(3)]
    return statistics.median(each.timings["composite"] for each in results)


def sheet_rows(count: int) -> list[Row]:
    """Before, the model's, ours and their difference, one kind of fault a row."""
    rows, cells = [], []
    for name, *pictures in _examples():
        before, model, ours = (each.resize((224, 224), Image.Resampling.BOX) for each in pictures)
        difference = ImageChops.difference(before, ours).point(lambda value: min(255, 4 * value))
        cells.append(np.hstack([np.asarray(each) for each in (before, model, ours, difference)]))
        rows.append({"row of the sheet": name})
    Image.fromarray(np.vstack(cells)).save(SHEET, quality=88)
    return rows


def _examples() -> Iterator[tuple[str, Image.Image, Image.Image, Image.Image]]:
    photos = faults.pictures(SIDE, scenes=0)
    case = list(faults.cases(photos, 3, seed=12, most=0.2))[2]
    for name, fault in (
        ("moved by 9 pixels, zoomed by 3 %", Fault(shift=(8, -4), zoom=1.03, noise=2.0)),
        ("tinted", Fault(gain=(1.05, 1.0, 0.88), offset=(6, 0, -6), noise=2.0)),
    ):
        answer = faulty_family.engine(case.after, fault).edit(case.before, "do it", seed=1)
        model = Image.fromarray(fault.done_to(case.after, seed=2))
        yield name, Image.fromarray(case.before), model, answer.images[0]
    yield from _circles(photos[0])
    mask = Image.fromarray(np.uint8(255) * (erase_cases.draw_mask(2, 256)).astype(np.uint8))
    photo = Image.fromarray(erase_cases.square_photo("chelsea", 256))
    engine = overpaint.load("tiny-flex2", dtype="float32")
    asked = {"mask": mask, "seed": 2, "num_inference_steps": 8}
    plain, ours = (engine.edit(photo, "empty", **asked, hold=hold) for hold in (False, True))
    yield "a border (the second picture is feathered alone)", photo, plain.images[0], ours.images[0]


def _circles(photo: Pixels) -> Iterator[tuple[str, Image.Image, Image.Image, Image.Image]]:
    """A large circle that the model paints, and a smaller one somewhere else."""
    for name, radius, asked in (
        ("a small change that nobody asked for", 12, {}),
        ("a large change far from what the instruction names", 30, {"target": (440, 90)}),
        ("an edit beyond its mask, cut off", 0, {"mask": (110, 330)}),
        ("an edit beyond its mask, followed", 0, {"mask": (110, 330), "follow": 64}),
    ):
        truth = photo.copy()
        cv2.circle(truth, (150, 330), 70, (40, 160, 60), -1)
        cv2.circle(truth, (440, 90), radius, (40, 160, 60), -1)
        parts = {key: _disc(value) if key != "follow" else value for key, value in asked.items()}
        answer = faulty_family.engine(truth, Fault()).edit(photo, "do it", seed=1, **parts)
        yield name, Image.fromarray(photo), Image.fromarray(truth), answer.images[0]


def _disc(middle: tuple[int, int]) -> Image.Image:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    return Image.fromarray(cv2.circle(mask, middle, 60, 255, -1))


if __name__ == "__main__":
    main()
