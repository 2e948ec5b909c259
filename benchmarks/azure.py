"""Rows of Azure ML's contract: Overpaint beside diffusers as the published wrapper calls it.

    python -m benchmarks.azure --checkpoint FOLDER --steps 50 --rounds 3

The wrapper (Azure/azureml-assets, `stable_diffusion_inpainting_mlflow_wrapper.py`) puts all rows of
a request into one call of `StableDiffusionInpaintPipeline` in float32, names no steps, and answers
at the model's own size. Overpaint answers the same rows through its batcher in its default
precision, at the size of each picture. Both take text in and give text out, on the same checkpoint
(random weights at the real size), in turns in one process; medians count. The wrapper always takes
50 steps; fewer keep a run on a CPU short and favour neither: what is not a step is compared, too.
Gate: in float32 both give the same picture.
"""

from __future__ import annotations

import argparse
import base64
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import overpaint
from benchmarks import real_size, report
from benchmarks.performance import step
from overpaint.core.imaging import images
from overpaint.core.types import EditRequest
from overpaint.engine.batching.batcher import Batcher
from overpaint.jobs import rows

Record = dict[str, str]


@dataclass
class Case:
    """Rows of one request, and the seconds that each side took for them.

    Attributes:
        name: for the table.
        records: the rows.
        goal: least ratio of the wrapper's time to ours.
    """

    name: str
    records: list[Record]
    goal: float
    peer: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    answers: list[Image.Image] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        peer, ours = statistics.median(self.peer), statistics.median(self.ours)
        return {
            "request": self.name,
            "wrapper s": f"{peer:.2f}",
            "overpaint s": f"{ours:.2f}",
            "ratio": f"{peer / ours:.2f}",
            "goal": f"{self.goal:.1f}",
            "answer": "x".join(map(str, self.answers[0].size)),
        }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=Path(tempfile.gettempdir()) / "sd2-real")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8, help="rows of the larger request")
    parser.add_argument("--dtype", default="auto", help="ours; the wrapper's is float32")
    arguments = parser.parse_args()
    folder = real_size.sd2(arguments.checkpoint)
    table = measure(folder, arguments)
    command = (
        f"python -m benchmarks.azure --steps {arguments.steps} --rounds {arguments.rounds} "
        f"--rows {arguments.rows} --dtype {arguments.dtype}"
    )
    report.write("azure", "Rows of Azure ML's contract", command, table)


def measure(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Both sides in turns."""
    peer = load_peer(folder)
    gate = step.parity(peer, folder)
    engine = overpaint.load(str(folder), dtype=arguments.dtype)
    engine.model().load()
    side = peer.unet.config.sample_size * peer.vae_scale_factor
    cases = make_cases(side, arguments.rows)
    batcher = Batcher(engine)
    try:
        for _ in range(arguments.rounds):
            for case in cases:
                timed(case.peer, wrapper_predict, peer, case.records, arguments.steps)
                case.answers = timed(case.ours, our_predict, batcher, case.records, arguments.steps)
    finally:
        batcher.close()
    check_kept(cases[-1])
    table = [case.row() for case in cases]
    table[0]["parity"] = f"float32: largest difference {gate} of 255"
    table[-1]["parity"] = "outside the mask: every pixel the input's"
    return table


def make_cases(side: int, count: int) -> list[Case]:
    """One row, many rows, and a picture of twice the model's size with a mask that fits it."""
    large = record(
        2 * side, (side // 2, side // 2, side // 2 + (box := 15 * side // 32), side // 2 + box)
    )
    middle = (side // 4, side // 4, 3 * side // 4, 3 * side // 4)
    return [
        Case(f"one row, {side}x{side}", [record(side, middle)], goal=1.7),
        Case(
            f"{count} rows, {side}x{side}",
            [record(side, middle, seed) for seed in range(count)],
            goal=1.7,
        ),
        Case(f"one row, {2 * side}x{2 * side}, mask {box}x{box}", [large], goal=1.0),
    ]


def record(side: int, box: tuple[int, int, int, int], seed: int = 0) -> Record:
    """A row: smooth colours, and a box to be repainted."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    mask = Image.new("L", (side, side))
    mask.paste(255, box)
    return {
        "prompt": f"a cat, number {seed}",
        "image": to_text(small.resize((side, side), Image.Resampling.BICUBIC)),
        "mask_image": to_text(mask),
    }


def load_peer(folder: Path) -> Any:
    """The pipeline as the wrapper loads it."""
    from diffusers import StableDiffusionInpaintPipeline

    peer = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None)
    peer.set_progress_bar_config(disable=True)
    return peer


def wrapper_predict(peer: Any, records: list[Record], steps: int) -> list[Image.Image]:
    """All rows in one call, at the pipeline's own size; with the steps that both sides make."""
    made = peer(
        prompt=[row["prompt"] for row in records],
        image=[from_text(row["image"]) for row in records],
        mask_image=[from_text(row["mask_image"]) for row in records],
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
    ).images
    return [from_text(to_text(each)) for each in made]


def our_predict(batcher: Batcher, records: list[Record], steps: int) -> list[Image.Image]:
    """All rows through the batcher, as the server and the scoring script do it."""
    parsed = [rows.parse(row, i, {"num_inference_steps": steps}) for i, row in enumerate(records)]
    tickets = [batcher.submit(request(row)) for row in parsed]
    answers = [
        rows.answer(row, ticket.result().pictures[0], None)
        for row, ticket in zip(parsed, tickets, strict=True)
    ]
    return [from_text(answer["generated_image"]) for answer in answers]


def request(row: rows.Row) -> EditRequest:
    picture = images.decode(row.parts["image"])
    assert "mask" in row.parts
    return EditRequest(
        image=picture,
        prompt=row.prompt,
        mask=images.decode_mask(row.parts["mask"], size=picture.size),
        seed=row.number,
        options=row.parts["options"],
    )


def timed(seconds: list[float], work: Callable[..., list[Image.Image]], *args: Any) -> Any:
    """What the work gives; how long it took is noted."""
    started = time.perf_counter()
    answer = work(*args)
    seconds.append(time.perf_counter() - started)
    return answer


def check_kept(case: Case) -> None:
    """The answer has the input's size, and its pixels outside the mask."""
    given, mask = (np.asarray(from_text(case.records[0][name])) for name in ("image", "mask_image"))
    answer = np.asarray(case.answers[0])
    if answer.shape != given.shape:
        raise SystemExit(f"the answer is {answer.shape}, the input {given.shape}")
    if not np.array_equal(answer[mask == 0], given[mask == 0]):
        raise SystemExit("pixels outside the mask changed")


def to_text(image: Image.Image) -> str:
    """Base64 with line breaks, as the published samples send it."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.encodebytes(file.getvalue()).decode()


def from_text(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


if __name__ == "__main__":
    main()
