"""`overpaint batch` killed at random moments: is the output what an uninterrupted run gives?

    python -m benchmarks.batch --rows 1000 --kills 5

Rows are tasks of the twins' world in a CSV file of Azure ML's contract; 3 % of them are bad in
several ways. One run is left alone. Another is killed (`kill -9`) and started again. Pictures and
predictions of both are compared byte by byte. Peak memory is that of whole processes, with a
tenth of the rows and with all.

    python -m benchmarks.batch --speed   # about six minutes

`batch` beside a plain loop over diffusers' own pipeline, in turns, each in a process of its own on
the same rows and the same checkpoint in float32. Loading is not counted. It wants idle cores, and
`OMP_NUM_THREADS` not set.
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import batch_speed, report
from training.world.inpaint import sample_inpaint_task
from training.world.render import render

SIZE = 128
HEADER = ("prompt", "image", "mask_image", "parameters")
START = "import sys; from overpaint.apps.cli import main; sys.exit(main())"
NOT_COMPARED = ("ledger.jsonl", "timings.csv", "inputs.sqlite", "inputs.sqlite-journal")
"""Files that tell of the runs themselves: in which order things ended, and how long they took."""

TIMEOUT = 3600.0


@dataclass(frozen=True)
class Ran:
    """A process that ended by itself: its summary, seconds, and largest resident bytes."""

    summary: dict[str, Any]
    seconds: float
    peak: int


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="default: 1000, or 60 with --speed")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--bad", type=float, default=0.03, help="share of bad rows")
    parser.add_argument("--steps", type=int, help="default: 4, or 10 with --speed")
    parser.add_argument("--model", default="tiny-sd2")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--speed", action="store_true", help="beside a plain loop, instead")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    arguments.rows = arguments.rows or (60 if arguments.speed else 1000)
    arguments.steps = arguments.steps or (10 if arguments.speed else 4)
    if arguments.speed:
        batch_speed.main(arguments.model, arguments.rows, arguments.steps, arguments.rounds)
        return
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(Path(scratch), arguments)
    command = (
        f"python -m benchmarks.batch --rows {arguments.rows} --kills {arguments.kills} "
        f"--bad {arguments.bad} --steps {arguments.steps} --model {arguments.model}"
    )
    report.write("batch", "A batch that is killed", command, rows)
    if any(row["holds"] == "no" for row in rows):
        raise SystemExit("a promise does not hold")


def measure(scratch: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs, and what they show."""
    few, source = scratch / "few.csv", scratch / "rows.csv"
    write_rows(few, max(1, arguments.rows // 10), bad=0)
    bad = write_rows(source, arguments.rows, bad=round(arguments.rows * arguments.bad))
    options = ("--model", arguments.model, "-O", f"num_inference_steps={arguments.steps}")
    small = run(few, scratch / "few", options)
    whole = run(source, scratch / "whole", options)
    killed = run_killed(
        source,
        scratch / "killed",
        options,
        kills=arguments.kills,
        rng=random.Random(arguments.seed),
    )
    joined = run_shares(
        source, scratch / "joined", options, count=3, rng=random.Random(arguments.seed)
    )
    differing = differences(scratch / "whole", scratch / "joined")
    return [
        *claims(scratch / "whole", scratch / "killed", arguments.rows, bad),
        {
            "promise": "three shares, each killed, and one run that joins them: identical",
            "figure": f"{len(differing)} files differ; the last run made "
            f"{joined.summary['computed']} of {arguments.rows} rows",
            "holds": yes(not differing),
        },
        {
            "promise": "resumed runs make only what is left",
            "figure": f"the last of {arguments.kills + 1} runs made "
            f"{killed.summary['computed']} of {arguments.rows} rows",
            "holds": yes(killed.summary["computed"] < arguments.rows),
        },
        {
            "promise": "memory does not grow with the rows",
            "figure": f"peak {small.peak / 1e6:.0f} MB with {small.summary['rows']} rows, "
            f"{whole.peak / 1e6:.0f} MB with {whole.summary['rows']}",
            "holds": yes(whole.peak < 1.1 * small.peak),
        },
        {
            "promise": "(seconds of the uninterrupted run)",
            "figure": f"{whole.seconds:.0f} s, {whole.seconds / arguments.rows:.2f} s a row",
            "holds": "",
        },
    ]


def claims(whole: Path, killed: Path, rows: int, bad: int) -> list[dict[str, Any]]:
    """What must be true of the folder of a run that was killed, beside one that was not."""
    differing = differences(whole, killed)
    ledger = (killed / "ledger.jsonl").read_text(encoding="utf-8")
    ends = [json.loads(line)["id"] for line in ledger.splitlines()]
    table = predictions(killed)
    failed = sum(row["status"] == "failed" for row in table)
    done = sum(row["status"] == "done" for row in table)
    return [
        {
            "promise": "output identical to an uninterrupted run",
            "figure": f"{len(files(whole))} files, {len(differing)} differ",
            "holds": yes(not differing),
        },
        {
            "promise": "no row twice",
            "figure": f"{len(ends)} ends of {len(set(ends))} rows in the ledger",
            "holds": yes(len(ends) == len(set(ends)) == len({row["id"] for row in table})),
        },
        {
            "promise": "none lost",
            "figure": f"{len(table)} of {rows} rows in the table",
            "holds": yes(
                [row["source"] for row in table] == [f"rows.csv#{i}" for i in range(rows)]
            ),
        },
        {
            "promise": "bad rows fail alone",
            "figure": f"{bad} bad, {failed} failed, {done} done",
            "holds": yes(failed == bad and done == rows - bad),
        },
        {
            "promise": "no half file",
            "figure": f"{len(leftovers(killed))} left behind",
            "holds": yes(not leftovers(killed)),
        },
    ]


def yes(holds: bool) -> str:
    return "yes" if holds else "no"


def run(source: Path, out: Path, options: Sequence[str]) -> Ran:
    """One run to its end."""
    started = time.monotonic()
    with start(source, out, options) as process:
        stdout = process.stdout.read() if process.stdout else b""
        # wait4 gives this very process's peak; RUSAGE_CHILDREN would give the largest of all.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):
        raise SystemExit(f"the run ended with {process.returncode}")
    return Ran(json.loads(stdout), time.monotonic() - started, usage.ru_maxrss * 1024)


def run_killed(
    source: Path, out: Path, options: Sequence[str], *, kills: int, rng: random.Random
) -> Ran:
    """A run that is killed at random moments and started again, the last time to its end."""
    rows = sum(1 for _ in read_rows(source))
    for ended in sorted(rng.sample(range(rows - 5), kills)):
        with start(source, out, options) as process:
            wait_for_ends(out / "ledger.jsonl", ended, process)
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            process.communicate()
    return run(source, out, options)


def run_shares(
    source: Path, out: Path, options: Sequence[str], *, count: int, rng: random.Random
) -> Ran:
    """Shares of the work at the same time, each killed at a random moment; one run joins them."""
    shares = [f"{number}-of-{count}" for number in range(1, count + 1)]
    started = [
        start(source, out, (*options, "--shard", share.replace("-of-", "/"))) for share in shares
    ]
    most = sum(1 for _ in read_rows(source)) // (2 * count)
    for share, process in zip(shares, started, strict=True):
        with process:
            wait_for_ends(out / f"ledger-{share}.jsonl", rng.randrange(most), process)
            process.send_signal(signal.SIGKILL)
            process.communicate()
    return run(source, out, options)


def start(source: Path, out: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", START, "batch", source, "--out", out, "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def wait_for_ends(ledger: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until the ledger has at least `count` lines, or the run is over before."""
    end = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        if ledger.exists() and ledger.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.02)


def write_rows(path: Path, count: int, *, bad: int, size: int = SIZE) -> int:
    """A CSV file of tasks; gives back how many of its rows are bad."""
    places = random.Random(1).sample(range(count), bad)
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number in range(count):
            task = sample_inpaint_task(rng, kind="draw", size=size)
            mask = Image.fromarray(np.asarray(task.mask).astype(bool)).convert("L")
            row = [task.prompt, base64_png(render(task.before, size)), base64_png(mask), ""]
            writer.writerow(spoilt(row, places.index(number)) if number in places else row)
    return bad


def spoilt(row: list[str], kind: int) -> list[str]:
    """The row with one of several faults."""
    prompt, image, mask, _ = row
    cut = base64.b64encode(base64.b64decode(image)[: len(image) // 4]).decode()
    return [
        [prompt, "not base64!", mask, ""],
        [prompt, cut, mask, ""],
        [prompt, image, mask, '{"seed": -1}'],
        [prompt, image, "", ""],
        ["", image, mask, ""],
        [prompt, image, mask, '{"num_inference_steps": -1}'],
        [prompt, image, mask, '{"stepz": 3}'],
        [prompt, image],
    ][kind % 8]


def base64_png(pixels: Any) -> str:
    """With line breaks, as the published samples send it."""
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, "PNG")
    return base64.encodebytes(file.getvalue()).decode()


def read_rows(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(2**27)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def predictions(out: Path) -> list[dict[str, str]]:
    return read_rows(out / "predictions.csv")


def files(out: Path) -> list[str]:
    """Names of the files that are compared."""
    found = (path for path in out.rglob("*") if path.is_file() and path.name not in NOT_COMPARED)
    return sorted(path.relative_to(out).as_posix() for path in found)


def differences(first: Path, second: Path) -> list[str]:
    """Files that only one of two folders has, or that differ."""
    names = sorted({*files(first), *files(second)})
    return [name for name in names if not same(first / name, second / name)]


def same(first: Path, second: Path) -> bool:
    return first.is_file() and second.is_file() and first.read_bytes() == second.read_bytes()


def leftovers(out: Path) -> list[str]:
    return [path.name for path in out.rglob("*.tmp")]


if __name__ == "__main__":
    main()
