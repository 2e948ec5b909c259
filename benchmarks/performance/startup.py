"""Starting: the command line's help, and a model from disk to the first step.

Every figure is of a fresh process. Weights are in the page cache for both sides, so what is
compared is the work of loading and not the disk. Loading is measured with the libraries imported,
and again as the whole process; both in bfloat16 from float32 files. Gate: the same sum over the
bits of the UNet's weights.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import real_size
from benchmarks.performance import peers
from benchmarks.performance.peers import Row

PIPELINE = "stable_diffusion.pipeline_stable_diffusion_inpaint"
"""What imports the classes of every component."""

SECONDS = 0.5
"""Asked of `import overpaint` and `overpaint --help` together."""


def rows(folder: Path, rounds: int) -> list[Row]:
    """Both kinds of start."""
    return [_help(rounds), *_loading(real_size.sd2(folder / "sd2"), rounds)]


def _help(rounds: int) -> Row:
    commands = (["-c", "import overpaint"], ["-m", "overpaint", "--help"])
    walls, works = [], []
    for _ in range(max(5, rounds)):
        wall, work = zip(*(_process(each) for each in commands), strict=True)
        walls.append(sum(wall))
        works.append(sum(work))
    wall, work = statistics.median(walls), statistics.median(works)
    return {
        "work": "`import overpaint`, and `overpaint --help`, one process each",
        "peer": "none",
        "ours s": f"{wall:.2f}, of the processor {work:.2f}",
        "asked": f"{SECONDS} s",
        "gate": "",
    }


def _process(arguments: list[str]) -> tuple[float, float]:
    """Seconds of a Python process, by the clock and of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = peers.seconds(
        lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _loading(checkpoint: Path, rounds: int) -> list[Row]:
    for file in checkpoint.rglob("*.safetensors"):
        with file.open("rb") as stream:
            while stream.read(2**24):
                pass
    measured: dict[str, list[dict[str, Any]]] = {"peer": [], "ours": []}
    for _ in range(rounds):
        for who, found in measured.items():
            found.append(_fresh(who, checkpoint))
            print(f"  {who}: {found[-1]}", flush=True)
    if len({each["sum"] for found in measured.values() for each in found}) > 1:
        raise SystemExit("parity gate: both do not load the same weights")
    gate = "the same bits of the UNet's weights"
    name = "diffusers `from_pretrained`, bfloat16"

    def line(what: str, key: str, asked: float | str = "") -> Row:
        theirs, ours = (
            statistics.median(each[key] for each in measured[who]) for who in ("peer", "ours")
        )
        return peers.row(f"sd2, from disk: {what}", name, theirs, ours, asked=asked, gate=gate)

    return [
        line("weights loaded, libraries imported", "loaded"),
        line("the same, seconds of the processor", "loaded work"),
        line("until the first step, libraries imported", "first", 2),
        line("until the first step, whole process", "process"),
    ]


def _fresh(who: str, checkpoint: Path) -> dict[str, Any]:
    """What a process of its own says of its loading."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.performance.startup", who, str(checkpoint)],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(who: str, checkpoint: Path) -> dict[str, Any]:
    """Load one side's model and go to its first step."""
    import time

    import torch

    side = peers.native(checkpoint)
    if who == "peer":
        load, begin, unet = _peer(checkpoint, side)
    else:
        load, begin, unet = _ours(checkpoint, side)
    started, work = time.perf_counter(), time.process_time()
    load()
    loaded = time.perf_counter()
    loaded_work = time.process_time() - work
    begin()
    first = time.perf_counter()
    process = time.time() - _born()
    bits = sum(int(each.view(torch.int16).sum()) for each in unet().state_dict().values())
    return {
        "loaded": loaded - started,
        "loaded work": loaded_work,
        "first": first - started,
        "process": process,
        "sum": bits,
    }


def _born() -> float:
    import psutil

    return float(psutil.Process().create_time())


def _peer(checkpoint: Path, side: int) -> tuple[Any, Any, Any]:
    import torch

    from benchmarks.performance.prelude import until_first_step

    importlib.import_module(f"diffusers.pipelines.{PIPELINE}")
    made: list[Any] = []
    return (
        lambda: made.append(peers.pipeline(checkpoint, dtype=torch.bfloat16)),
        lambda: until_first_step(made[0], side),
        lambda: made[0].unet,
    )


def _ours(checkpoint: Path, side: int) -> tuple[Any, Any, Any]:
    import overpaint
    from benchmarks.performance.prelude import request
    from overpaint.apps import build

    importlib.import_module(f"diffusers.pipelines.{PIPELINE}")
    build.family_names()
    importlib.import_module("overpaint.engine.engine")
    made: list[Any] = []

    def load() -> None:
        made.append(overpaint.load(str(checkpoint), dtype="bfloat16"))
        made[0].model().load()

    return (
        load,
        lambda: made[0].begin(request(side)),
        lambda: made[0].model().checkpoint.component("unet"),
    )


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))
