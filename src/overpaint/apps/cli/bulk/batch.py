"""The command `overpaint batch`: many rows into a folder of pictures and a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.editing.edits import (
    DeviceNames,
    Dtype,
    Json,
    Loras,
    ModelName,
    Options,
)
from overpaint.apps.cli.editing.job import parse_lora, parse_option
from overpaint.apps.cli.interrupt import Interrupt, settle
from overpaint.apps.cli.parts import options_of_parts, read_parts, with_arguments
from overpaint.core.errors import (
    Cancelled,
    ContentBlocked,
    InvalidRequest,
    OutputError,
    UnsupportedOption,
)

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.models import EditTask
    from overpaint.engine.engine import Engine
    from overpaint.jobs.batch import BatchOutcome
    from overpaint.jobs.book import Tally
    from overpaint.jobs.ledger import Status
    from overpaint.jobs.manifest import Manifest

Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="A .csv or .jsonl file, a folder with such files, or a folder of pictures.",
    ),
]
OutFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where everything goes.")
]
MaskFolder = Annotated[
    Path | None,
    typer.Option(
        "--mask-dir",
        help="Folder with a mask for each picture, of its name. Default: x_mask.png beside x.jpg.",
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Rows without a seed get one derived from this.")
]
Retry = Annotated[
    list[str] | None,
    typer.Option("--retry", metavar="STATUS", help="Try again what is failed or blocked."),
]
RowLimit = Annotated[
    int | None, typer.Option("--limit", min=1, help="The first rows only, to try it out.")
]
BatchWidth = Annotated[
    int | None,
    typer.Option("--width", min=1, max=8, help="Pictures in a pass; more is faster on a GPU."),
]
GridSheet = Annotated[
    bool, typer.Option("--grid", help="Also draw input, mask and output side by side.")
]


LEFT_OUT = {
    "image": "each row has its own",
    "seed": "--seed is what each row's own is derived from",
    "num_images": "a row is answered with one picture",
    "model": "--model loads it for all rows",
    "options": "-O KEY=VALUE gives one at a time",
}
"""Parts that are no option of a batch for all of its rows, and why."""

FLAGS = {"prompt": ("--prompt", "-p")}

PARTS_FOR_ALL = options_of_parts(LEFT_OUT, flags=FLAGS)

OPTIONS: Mapping[str, Any] = {
    **PARTS_FOR_ALL,
    "mask_dir": MaskFolder,
    "model": ModelName,
    "seed": Seed,
    "retry": Retry,
    "limit": RowLimit,
    "width": BatchWidth,
    "grid": GridSheet,
    "lora": Loras,
    "option": Options,
    "device": DeviceNames,
    "dtype": Dtype,
    "as_json": Json,
}


@dataclass(kw_only=True)
class _BatchWords:
    """The command line's words, unchecked.

    Attributes:
        parts: of an edit, for rows without their own, by name.
    """

    parts: Mapping[str, Any]
    source: Path
    out: Path
    mask_dir: Path | None
    model: str | None
    seed: int | None
    retry: list[str] | None
    limit: int | None
    width: int | None
    grid: bool
    lora: list[str] | None
    option: list[str] | None
    device: str | None
    dtype: str | None
    as_json: bool


@with_arguments({"source": Input, "out": OutFolder}, OPTIONS)
def batch(values: dict[str, Any]) -> None:
    """Edit many pictures. Killed and started again, it goes on where it stopped."""
    parts = {name: values.pop(name) for name in PARTS_FOR_ALL}
    asked = _BatchWords(parts=parts, **values)
    with console.reporting_errors(as_json=asked.as_json):
        started = time.monotonic()
        done = _run(asked)
        _tell(asked, done, time.monotonic() - started)
        if code := _exit_code(done.tally):
            raise typer.Exit(code)


def _run(asked: _BatchWords) -> BatchOutcome:
    from overpaint.apps import settings as settings_

    settings = settings_.load()
    retry = statuses(asked.retry or [])
    with Interrupt() as interrupt:
        manifest = _manifest(asked)
        engines = _engines(asked, manifest, settings)
        console.warn(engines[0].model().notices)
        with console.waiting("Counting", hidden=asked.as_json):
            total = manifest.count()
        with RowBar(min(total, asked.limit or total), hidden=asked.as_json) as bar:
            from overpaint.jobs.batch import Batch
            from overpaint.jobs.units import model_key

            batch = Batch(
                out=asked.out,
                engine=engines,
                width=asked.width or 1,
                retry=retry,
                limit=asked.limit,
                grids=asked.grid,
                on_progress=bar,
                cancelled=interrupt.cancelled,
            )
            try:
                done = batch.run(manifest.units(model_key(engines[0].model().record)))
            except (Cancelled, KeyboardInterrupt):
                bar.stop()
                console.say(f"{bar.ended} of {bar.total} rows are done; the same command goes on.")
                raise
        settle()
        return done


def statuses(names: list[str]) -> tuple[Status, ...]:
    """Of `--retry`.

    Raises:
        UnsupportedOption: there is no such status.
    """
    from overpaint.jobs.ledger import STATUSES

    for name in names:
        if name not in STATUSES:
            raise UnsupportedOption(
                f"'{name}' is not a status; there are {', '.join(STATUSES)}", field="retry"
            )
    return tuple(status for status in STATUSES if status in names)


def _manifest(asked: _BatchWords) -> Manifest:
    from overpaint.jobs.manifest import Manifest, UnitDefaults

    parts = {name: value for name, value in read_parts(asked.parts).items() if value}
    if asked.source.is_dir() and asked.out.resolve() == asked.source.resolve():
        raise OutputError(
            f"{asked.out} is the input; name another folder for the results", field="out"
        )
    parts["options"] = dict(parse_option(each) for each in asked.option or [])
    return Manifest(
        asked.source,
        UnitDefaults(parts=parts, seed=asked.seed or 0, mask_dir=asked.mask_dir, skip=asked.out),
    )


def _engines(asked: _BatchWords, manifest: Manifest, settings: Settings) -> list[Engine]:
    """Pictures without masks are edited by their prompts; all others are inpainted."""
    has_masks = manifest.has_tables or manifest.has_masks or asked.parts["mask"]
    task: EditTask = "inpaint" if has_masks else "edit"
    with console.waiting("Loading", hidden=asked.as_json):
        from overpaint.apps.wiring.models import build

        return build.engines(
            asked.model,
            task=task,
            device=asked.device,
            dtype=asked.dtype,
            loras=[parse_lora(each) for each in asked.lora or []],
            settings=settings,
        )


def _tell(asked: _BatchWords, done: BatchOutcome, seconds: float) -> None:
    from overpaint.jobs.ledger import STATUSES
    from overpaint.jobs.predictions import has_parquet

    tally = done.tally
    counts = {status: tally.statuses.get(status, 0) for status in STATUSES}
    if asked.as_json:
        console.print_json(
            {
                "output": str(asked.out),
                "tables": [str(table) for table in done.tables],
                "rows": tally.ended,
                **counts,
                "computed": tally.computed,
                "errors": dict(sorted(tally.codes.items())),
                "seconds": round(seconds, 1),
            }
        )
        return
    for table in done.tables:
        sys.stdout.write(f"{table}\n")
    totals = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    console.say(f"{tally.ended} rows: {totals}; {tally.computed} in this run, {seconds:.1f} s")
    if counts["failed"]:
        console.say(
            f"The table has the reasons; --retry failed tries {_them(counts['failed'])} again.",
            style="yellow",
        )
    if not has_parquet():
        console.say("No Parquet table: pip install 'overpaint[batch]'", style="dim")


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def _exit_code(tally: Tally) -> int:
    """0 = no row failed; blocked ones are what a policy is for."""
    if not tally.statuses.get("failed"):
        return 0
    failed = {code for code in tally.codes if code != ContentBlocked.code}
    return console.INPUT_AT_FAULT if failed <= _input_codes(InvalidRequest) else console.OUR_FAULT


def _input_codes(kind: type[InvalidRequest]) -> set[str]:
    """Codes of the errors where the input is at fault."""
    return {kind.code}.union(*(_input_codes(each) for each in kind.__subclasses__()))


class RowBar:
    """A bar of rows with how they ended and the time left; silent where nobody looks.

    Args:
        total: rows; None = not known yet.
        hidden: whether nobody looks.
        word: what a row is called.
    """

    def __init__(self, total: int | None, *, hidden: bool, word: str = "rows") -> None:
        from rich import progress

        terminal = console.messages()
        self.total, self.ended = total, 0
        self._bar = progress.Progress(
            progress.TextColumn("[progress.description]{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn(word + "{task.fields[detail]}"),
            console=terminal,
            transient=True,
            disable=hidden or not terminal.is_terminal,
        )
        self._task = self._bar.add_task("Editing", total=total, detail="")

    def __enter__(self) -> RowBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def __call__(self, tally: Tally) -> None:
        self.ended = tally.ended
        line = "".join(
            f", {tally.statuses[status]} {status}"
            for status in ("failed", "blocked")
            if tally.statuses.get(status)
        )
        left = tally.seconds_left(self.total)
        if left is not None:
            line += f", {timedelta(seconds=round(left))} left"
        self._bar.update(self._task, total=self.total, completed=tally.ended, detail=line)
