"""Behaviour of the twins on held-out scenes: a table per family and a contact sheet.

python -m benchmarks.behaviour [--models tiny-flex2 tiny-sd2 tiny-kontext] [--count 100]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import overpaint
from benchmarks import report
from benchmarks.behaviour import context, measures, painters, presets, sheet
from benchmarks.behaviour.measures import STEPS

Row = dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["tiny-flex2", "tiny-sd2", "tiny-kontext"])
    parser.add_argument("--count", type=int, default=100, help="tasks for each figure")
    parser.add_argument(
        "--presets", action="store_true", help="what shortcuts cost, instead of the other tables"
    )
    parser.add_argument(
        "--context", action="store_true", help="what the window's context does, instead"
    )
    arguments = parser.parse_args()
    for name in arguments.models:
        engine = overpaint.load(name, dtype="float32")
        command = f"python -m benchmarks.behaviour --models {name} --count {arguments.count}"
        if arguments.presets:
            rows = presets.rows(engine, arguments.count)
            report.write(f"presets-{name}", f"Shortcuts with {name}", f"{command} --presets", rows)
            continue
        if arguments.context:
            rows = context.rows(engine, arguments.count)
            report.write(f"context-{name}", f"Context with {name}", f"{command} --context", rows)
            continue
        instructed = engine.model().family.spec.need("mask") == "optional"
        rows = (instruction_rows if instructed else mask_rows)(engine, arguments.count)
        rows.append({"figure": "one edit of 128x128, 20 steps", "model": seconds(engine)})
        report.write(f"behaviour-{name}", f"Behaviour of {name}", command, rows)
        write_sheet(engine, name, instructed=instructed)


def guided(
    engine: overpaint.Engine, make: Callable[..., painters.Painter]
) -> dict[str, painters.Painter]:
    """The FLUX twins once more with true classifier-free guidance, at its default scale.

    By default they take guidance as an embedding, which imitates it.
    """
    if engine.model().family.spec.name == "sd2":
        return {}
    return {
        "with true guidance": make(engine, num_inference_steps=STEPS, negative_prompt=lambda _: "")
    }


def mask_rows(engine: overpaint.Engine, count: int) -> list[Row]:
    """The figures of a mask family."""
    everyone = {
        "model": painters.inpainter(engine, num_inference_steps=STEPS),
        **guided(engine, painters.inpainter),
        "nothing done": painters.nothing,
        "truth through the autoencoder": painters.truth(engine),
    }
    seen, heldout = measures.draw_tasks(count), measures.draw_tasks(count, "heldout")
    rows = rows_of(
        {who: measures.adherence(paint, seen) for who, paint in everyone.items()},
        "{} in the mask",
    )
    rows += rows_of(
        {who: measures.adherence(paint, heldout) for who, paint in everyone.items()},
        "{}, pairs never captioned",
    )
    rows += rows_of(
        {who: measures.mask_removal(paint, count) for who, paint in everyone.items()},
        "'empty', mask over the thing only: {}",
    )
    # A rare event: counted over more tasks.
    for form, share in measures.negative(engine, 3 * count).items():
        rows.append({"figure": f"unwanted colour, {form} negative prompt", "model": share})
    rows += curve_rows(engine, seen[: count // 2])
    if engine.model().family.spec.need("control") != "refused":
        rows += control_rows(engine, count)
    rows.append(
        {
            "figure": "largest difference outside the mask",
            "model": measures.outside(engine, min(count, 24)),
        }
    )
    return rows


def curve_rows(engine: overpaint.Engine, asked: Any) -> list[Row]:
    """Both right, against the scale of classifier-free guidance and against steps."""
    rows = []
    # Without a negative prompt the FLUX twins would take the scale as an embedding.
    words = None if engine.model().family.spec.name == "sd2" else ""
    for scale in (1.0, 3.0, 5.0, 7.5):
        paint = painters.inpainter(
            engine,
            num_inference_steps=STEPS,
            guidance_scale=scale,
            negative_prompt=lambda _: words,
        )
        share = measures.adherence(paint, asked)["both"]
        rows.append({"figure": f"both right at guidance {scale}", "model": share})
    for steps in (4, 8, 20, 50):
        paint = painters.inpainter(engine, num_inference_steps=steps)
        share = measures.adherence(paint, asked)["both"]
        rows.append({"figure": f"both right in {steps} steps", "model": share})
    return rows


def control_rows(engine: overpaint.Engine, count: int) -> list[Row]:
    """IoU with the control picture, against its strength and its stop."""
    rows = []
    for strength in (0.0, 0.5, 1.0):
        found = measures.control(engine, count, control_strength=strength, control_stop=1.0)
        rows.append({"figure": f"control IoU at strength {strength}", "model": f"{found:.2f}"})
    for stop in (0.0, 0.33, 1.0):
        found = measures.control(engine, count, control_strength=1.0, control_stop=stop)
        rows.append({"figure": f"control IoU at stop {stop}", "model": f"{found:.2f}"})
    return rows


def instruction_rows(engine: overpaint.Engine, count: int) -> list[Row]:
    """The figures of an instruction family."""
    everyone = {
        "model": painters.instructed(engine, num_inference_steps=STEPS),
        **guided(engine, painters.instructed),
        "nothing done": painters.nothing,
        "truth through the autoencoder": painters.truth(engine),
    }
    by_kind = {who: measures.instructions(paint, count) for who, paint in everyone.items()}
    for shares in by_kind.values():
        every = list(shares.values())
        shares["all kinds"] = measures.Share(
            sum(share.hits for share in every), sum(share.total for share in every)
        )
    rows = rows_of(by_kind, "instruction done: {}")
    rows += rows_of(
        {who: measures.instruction_shadow(paint, count) for who, paint in everyone.items()},
        "remove: {}",
    )
    for name, curve in measures.drift(engine, max(2, count // 10)).items():
        listed = " ".join(f"{value:.1f}" for value in curve)
        rows.append({"figure": f"kept area, PSNR by turn, {name}", "model": listed})
    return rows


def rows_of(shares: dict[str, dict[str, measures.Share]], label: str) -> list[Row]:
    """One row per figure, one column per painter."""
    figures = next(iter(shares.values()))
    return [
        {"figure": label.format(figure), **{who: share[figure] for who, share in shares.items()}}
        for figure in figures
    ]


def seconds(engine: overpaint.Engine) -> str:
    """Median time of one edit at its default guidance."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        one_edit(engine)
        times.append(time.perf_counter() - started)
    return f"{statistics.median(times):.2f} s"


def one_edit(engine: overpaint.Engine) -> None:
    if engine.model().family.spec.need("mask") == "optional":
        asked = measures.instruction_tasks(1, "recolour")
        painters.instructed(engine, num_inference_steps=STEPS)(asked)
    else:
        painters.inpainter(engine, num_inference_steps=STEPS)(measures.draw_tasks(1))


def write_sheet(engine: overpaint.Engine, name: str, *, instructed: bool) -> None:
    """Twenty-four tasks as PNG and HTML."""
    if instructed:
        asked: list[Any] = [
            task
            for kind in measures.INSTRUCTION_KINDS
            for task in measures.instruction_tasks(2, kind)
        ]
        pictures = painters.instructed(engine, num_inference_steps=STEPS)(asked)
    else:
        asked = measures.draw_tasks(12) + measures.draw_tasks(12, "heldout")
        pictures = painters.inpainter(engine, num_inference_steps=STEPS)(asked)
    made = sheet.cells(asked, pictures)
    report.RESULTS.mkdir(exist_ok=True)
    sheet.write_png(report.RESULTS / f"behaviour-{name}.png", made)
    sheet.write_html(report.RESULTS / f"behaviour-{name}.html", f"Behaviour of {name}", made)


if __name__ == "__main__":
    main()
