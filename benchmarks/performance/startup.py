"""Starting: the command line's help, and a model from disk to the first step.

Every figure is of a fresh process. A model is loaded in bfloat16 from float32 files as they are
published, and by Overpaint also from what `overpaint convert` made of them; diffusers is given that
too, as one who converts by hand has it. The files are in memory (the page cache), or were put out
of it: then they come from the disk, or where the machine is a virtual one, perhaps from its host's
memory.
Measured is the time until the UNet is asked first, with the libraries imported, and of the whole
process. Gates: the same sum over the bits of the UNet's weights on both sides, and the same over
what is encoded before the first step from either files.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from benchmarks import real_size
from benchmarks.performance import peers
from benchmarks.performance.peers import Row
from overpaint.checkpoints.files import weight_cache as kept_weights
from overpaint.checkpoints.files.layout import CONFIG

PIPELINE = "stable_diffusion.pipeline_stable_diffusion_inpaint"
"""What imports the classes of every component."""

WHAT = {"first": "", "process": ", whole process"}
"""What is measured of a start; without the whole process, its libraries are imported before."""

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
    cache = checkpoint.with_name(f"{checkpoint.name}-converted")
    sides: dict[str, tuple[str, Path, Path | None]] = {
        "diffusers": ("peer", checkpoint, None),
        "diffusers, converted": ("peer", _convert(checkpoint, cache), None),
        "ours": ("ours", checkpoint, None),
        "ours, converted": ("ours", checkpoint, cache),
    }
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for _ in range(rounds):
        for place, prepare in (("memory", _read), ("disk", _evict)):
            for side, run in sides.items():
                prepare([checkpoint, cache])
                found[side, place].append(_fresh(*run))
                print(f"  {side}, from {place}: {found[side, place][-1]}", flush=True)
    for bits in ("unet", "encoded"):
        if len({each[bits] for runs in found.values() for each in runs if bits in each}) > 1:
            raise SystemExit(f"parity gate: '{bits}' differs")

    def line(place: str, side: str, peer: str, key: str, asked: float | str = "") -> Row:
        theirs, ours = (
            statistics.median(each[key] for each in found[who, place]) for who in (peer, side)
        )
        return peers.row(
            f"sd2 from {place}{side.removeprefix('ours')}, until the first step{WHAT[key]}",
            f"`from_pretrained`, bfloat16{peer.removeprefix('diffusers')}",
            theirs,
            ours,
            asked=asked,
            gate="the same bits of weights and of what is encoded",
        )

    return [
        line(place, side, peer, key, 2 if (place, key) == ("disk", "first") else "")
        for place in ("memory", "disk")
        for side, peer in (
            ("ours", "diffusers"),
            ("ours, converted", "diffusers"),
            ("ours, converted", "diffusers, converted"),
        )
        for key in WHAT
    ]


def _convert(checkpoint: Path, cache: Path) -> Path:
    """Convert the checkpoint as a user does; its folder as diffusers reads it."""
    command = [sys.executable, "-m", "overpaint", "convert", str(checkpoint)]
    environment = {**os.environ, "OVERPAINT_CACHE": str(cache)}
    subprocess.run([*command, "--dtype", "bfloat16"], check=True, env=environment)
    folder = cache / "diffusers"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for part in checkpoint.iterdir():
        has_weights = (part / CONFIG).is_file()
        kept = has_weights and kept_weights.find(cache / "weights", part, torch.bfloat16)
        (folder / part.name).symlink_to((kept or part).resolve())
    return folder


def _files(folders: list[Path]) -> Iterator[BinaryIO]:
    for folder in folders:
        for file in folder.rglob("*.safetensors"):
            with file.open("rb") as stream:
                yield stream


def _read(folders: list[Path]) -> None:
    for stream in _files(folders):
        while stream.read(2**24):
            pass


def _evict(folders: list[Path]) -> None:
    """Put files out of the page cache; Linux only."""
    for stream in _files(folders):
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _fresh(who: str, checkpoint: Path, cache: Path | None) -> dict[str, Any]:
    """What a process of its own says of its loading."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OVERPAINT_CACHE": str(cache or "")}
    if cache is None:
        del environment["OVERPAINT_CACHE"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.performance.startup", who, str(checkpoint)],
        check=True,
        stdout=subprocess.PIPE,
        env=environment,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(who: str, checkpoint: Path) -> dict[str, Any]:
    """Load one side's model and go to its first step."""
    side = peers.native(checkpoint)
    begin, unet = (_peer if who == "peer" else _ours)(checkpoint, side)
    started = time.perf_counter()
    start = begin()
    first = time.perf_counter() - started
    found = {"first": first, "process": time.time() - _born()}
    if start is not None:
        found["encoded"] = sum(_bits(each) for each in (start.condition, start.prompt))
    return {**found, "unet": sum(_bits(each) for each in unet().state_dict().values())}


def _bits(tensor: torch.Tensor) -> int:
    return int(tensor.view(torch.int16).sum())


def _born() -> float:
    import psutil

    return float(psutil.Process().create_time())


def _peer(checkpoint: Path, side: int) -> tuple[Any, Any]:
    from benchmarks.performance.prelude import until_first_step

    importlib.import_module(f"diffusers.pipelines.{PIPELINE}")
    made: list[Any] = []

    def begin() -> None:
        made.append(peers.pipeline(checkpoint, dtype=torch.bfloat16))
        until_first_step(made[0], side)

    return begin, lambda: made[0].unet


def _ours(checkpoint: Path, side: int) -> tuple[Any, Any]:
    import overpaint
    from benchmarks.performance.prelude import request
    from overpaint.apps.wiring.models import families

    importlib.import_module(f"diffusers.pipelines.{PIPELINE}")
    families.names()
    importlib.import_module("overpaint.engine.engine")
    made: list[Any] = []

    def begin() -> Any:
        made.append(overpaint.load(str(checkpoint), dtype="bfloat16"))
        return made[0].begin(request(side)).prepared[0]

    return begin, lambda: made[0].model().checkpoint.component("unet")


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))
