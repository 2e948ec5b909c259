"""The command `overpaint batch`: many rows into a folder of pictures and a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.bulk import report
from overpaint.apps.cli.bulk.report import RowBar
from overpaint.apps.cli.editing.edits import (
    DeviceNames,
    Dtype,
    Json,
    Loras,
    ModelName,
    Options,
    Quality,
)
from overpaint.apps.cli.editing.job import parse_lora, parse_option
from overpaint.apps.cli.interrupt import Interrupt, settle
from overpaint.apps.cli.parts import options_of_parts, read_parts, with_arguments
from overpaint.core.errors import Cancelled, InvalidRequest, OutputError, UnsupportedOption
from overpaint.core.models import EditTask, border_task

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.engine.engine import Engine
    from overpaint.jobs.batch import Batch, BatchOutcome
    from overpaint.jobs.inputs import Fingerprints
    from overpaint.jobs.ledger import Status
    from overpaint.jobs.manifest import Manifest
    from overpaint.jobs.output.encoding import PictureEncoding

Input = Annotated[
    Path | None,
    typer.Argument(
        metavar="INPUT",
        help="A .csv or .jsonl file, a folder with such files, or a folder of pictures.",
    ),
]
OutFolder = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the results.")
]
MaskFolder = Annotated[
    Path | None,
    typer.Option(
        "--mask-dir",
        help="Folder of masks named like the pictures. Default: x_mask.png beside x.jpg.",
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Rows without a seed get one derived from this.")
]
Retry = Annotated[
    list[str] | None,
    typer.Option(
        "--retry", metavar="STATUS", help="Try rows with this status again: failed or blocked."
    ),
]
RowLimit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Edit only the first rows, as a trial.")
]
PassWidth = Annotated[
    str | None,
    typer.Option(
        "--width", metavar="N|auto", help="Pictures in a pass, 1 to 8; auto = what is fastest here."
    ),
]
ShardName = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="This machine's share of the rows, such as 2/3."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Run on a Ray cluster; 'local' means this machine."
    ),
]
Actors = Annotated[
    int | None, typer.Option("--actors", min=1, help="Engines on Ray. Default: one per GPU.")
]
PictureFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="png|jpeg|webp|input",
        help="Format of the results; input keeps each picture's own. Default: png.",
    ),
]
Prune = Annotated[bool, typer.Option("--prune", help="Remove pictures that no row names any more.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read every input again, even if it seems unchanged.")
]
StatusOf = Annotated[
    Path | None,
    typer.Option(
        "--status", metavar="FOLDER", help="Show the progress of the batch in this folder."
    ),
]
GridSheet = Annotated[
    bool, typer.Option("--grid", help="Also draw input, mask and output side by side.")
]


LEFT_OUT = {
    "image": "each row has its own",
    "seed": "--seed is what each row's own is derived from",
    "num_images": "each row has one result",
    "model": "--model loads it for all rows",
    "options": "-O KEY=VALUE gives one at a time",
}
"""Parts that are no option of a batch for all of its rows, and why."""

MANY = 1000
"""Rows from which the results are spread over folders."""

FLAGS = {"prompt": ("--prompt", "-p")}

PARTS_FOR_ALL = options_of_parts(LEFT_OUT, flags=FLAGS)

OPTIONS: Mapping[str, Any] = {
    "source": Input,
    "out": OutFolder,
    **PARTS_FOR_ALL,
    "mask_dir": MaskFolder,
    "model": ModelName,
    "seed": Seed,
    "retry": Retry,
    "limit": RowLimit,
    "width": PassWidth,
    "grid": GridSheet,
    "format": PictureFormat,
    "quality": Quality,
    "shard": ShardName,
    "ray": RayAddress,
    "actors": Actors,
    "prune": Prune,
    "verify": Verify,
    "status": StatusOf,
    "lora": Loras,
    "option": Options,
    "device": DeviceNames,
    "dtype": Dtype,
    "as_json": Json,
}


@dataclass(kw_only=True)
class _BatchArguments:
    """The command line's arguments, unchecked.

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
    width: str | None
    grid: bool
    format: str | None
    quality: int | None
    shard: str | None
    ray: str | None
    actors: int | None
    prune: bool
    verify: bool
    lora: list[str] | None
    option: list[str] | None
    device: str | None
    dtype: str | None
    as_json: bool


@with_arguments({}, OPTIONS)
def batch(values: dict[str, Any]) -> None:
    """Edit many pictures. If it is stopped, the same command continues."""
    with console.reporting_errors(as_json=values["as_json"]):
        folder = values.pop("status")
        if folder is not None:
            report.tell_status(folder, as_json=values["as_json"])
            return
        for name, what in (("source", "INPUT: a table or a folder"), ("out", "a folder with -o")):
            if values[name] is None:
                raise InvalidRequest(f"name {what}", field="input" if name == "source" else name)
        parts = {name: values.pop(name) for name in PARTS_FOR_ALL}
        arguments = _BatchArguments(parts=parts, **values)
        started = time.monotonic()
        done = _run(arguments)
        report.tell_outcome(
            done,
            arguments.out,
            time.monotonic() - started,
            pruned=arguments.prune,
            as_json=arguments.as_json,
        )
        if code := report.exit_code(done.tally):
            raise typer.Exit(code)


def _run(arguments: _BatchArguments) -> BatchOutcome:
    from overpaint.apps import settings as settings_

    settings = settings_.load()
    batch = _batch_of(arguments)
    with Interrupt() as interrupt, _remembered(arguments) as fingerprints:
        manifest = _manifest(arguments, fingerprints)
        engines = _engines(arguments, manifest, settings)
        _check_options(arguments, manifest, engines[0])
        console.warn(engines[0].model().notices)
        with console.waiting("Counting", hidden=arguments.as_json):
            total = manifest.count()
        batch.total, batch.subfolders = total, total > MANY
        batch.cancelled = interrupt.cancelled
        with (
            _executor(arguments, batch, engines, settings),
            RowBar(min(total, arguments.limit or total), hidden=arguments.as_json) as bar,
        ):
            from overpaint.jobs.units import model_key

            batch.on_progress = bar
            try:
                done = batch.run(manifest.units(model_key(engines[0].model().record), batch.shard))
            except (Cancelled, KeyboardInterrupt):
                bar.stop()
                console.say(
                    f"{bar.ended} of {bar.total} rows are done; run the same command to continue."
                )
                raise
        settle()
        return done


def _batch_of(arguments: _BatchArguments) -> Batch:
    """The batch as far as the arguments describe it; they are checked before anything is loaded."""
    from overpaint.jobs.batch import Batch
    from overpaint.jobs.shard import Shard

    check_prune(prune=arguments.prune, limit=arguments.limit, shard=arguments.shard)
    return Batch(
        out=arguments.out,
        width=parse_width(arguments.width),
        retry=statuses(arguments.retry or []),
        limit=arguments.limit,
        grids=arguments.grid,
        encoding=_encoding(arguments),
        shard=None if arguments.shard is None else Shard.parse(arguments.shard),
        prune=arguments.prune,
    )


@contextmanager
def _executor(
    arguments: _BatchArguments, batch: Batch, engines: list[Engine], settings: Settings
) -> Iterator[None]:
    """Say who makes the edits: this process, or actors."""
    if arguments.ray is None:
        batch.engine = engines
        yield
        return
    from overpaint.apps.wiring.models import batches

    model = batches.BatchModel(
        name=_everywhere(engines[0].default_model),
        device=arguments.device,
        dtype=arguments.dtype,
        loras=[parse_lora(each) for each in arguments.lora or []],
        width=batch.width,
    )
    batch.out = arguments.out.absolute()
    with batches.on_ray(
        arguments.ray, arguments.actors, model, batch.folder, settings
    ) as elsewhere:
        batch.elsewhere = elsewhere
        yield


def _everywhere(model: str) -> str:
    """The model as processes with other working folders find it."""
    return str(Path(model).absolute()) if Path(model).is_dir() else model


@contextmanager
def _remembered(arguments: _BatchArguments) -> Iterator[Fingerprints]:
    from overpaint.jobs.inputs import FINGERPRINTS, Fingerprints

    fingerprints = Fingerprints(arguments.out / FINGERPRINTS, verify=arguments.verify)
    try:
        yield fingerprints
    finally:
        fingerprints.close()


def check_prune(*, prune: bool, limit: int | None, shard: str | None = None) -> None:
    """What is left over is only known if all rows are looked at.

    Raises:
        UnsupportedOption: they are not.
    """
    if prune and (limit or shard):
        other = "--limit" if limit else "--shard"
        raise UnsupportedOption(
            f"{other} does not look at all rows, so it cannot tell what is left over; prune "
            "without it",
            field="prune",
        )


def _check_options(arguments: _BatchArguments, manifest: Manifest, engine: Engine) -> None:
    """Refuse what every row would fail with, before the first row.

    Raises:
        InvalidRequest: the model's family does not know an option, cannot use a part that all rows
            have, or needs a mask and no picture of the folder has one.
    """
    from overpaint.core.types import FAMILY_PARTS, PARTS
    from overpaint.engine.checking import check_part, parse_options

    spec, names = engine.model().family.spec, {part.name for part in PARTS}
    options = dict(parse_option(each) for each in arguments.option or [])
    parse_options(spec, {name: value for name, value in options.items() if name not in names})
    given = arguments.parts["mask"] or arguments.parts["extend"]
    lacks_masks = not (manifest.has_tables or manifest.has_masks or given)
    for part in FAMILY_PARTS:
        value = arguments.parts.get(part.name)
        if value or (part.name == "mask" and lacks_masks):
            check_part(spec, part, value)


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


def parse_width(text: str | None) -> int | None:
    """Of `--width`; None = learnt from the passes' times.

    Raises:
        UnsupportedOption: it is neither 'auto' nor a number in range.
    """
    from overpaint.diffusion.denoise import MAX_BATCH

    if text in (None, "auto"):
        return 1 if text is None else None
    if not text.isdecimal() or not 1 <= int(text) <= MAX_BATCH:
        raise UnsupportedOption(
            f"'{text}' is neither auto nor a number from 1 to {MAX_BATCH}", field="width"
        )
    return int(text)


def _manifest(arguments: _BatchArguments, fingerprints: Fingerprints) -> Manifest:
    from overpaint.jobs.manifest import Manifest, UnitDefaults

    parts = {name: value for name, value in read_parts(arguments.parts).items() if value}
    if arguments.source.is_dir() and arguments.out.resolve() == arguments.source.resolve():
        raise OutputError(
            f"{arguments.out} is the input; name another folder for the results", field="out"
        )
    parts["options"] = dict(parse_option(each) for each in arguments.option or [])
    defaults = UnitDefaults(
        parts=parts,
        seed=arguments.seed or 0,
        mask_dir=arguments.mask_dir,
        skip=arguments.out,
        encoding=_encoding(arguments),
    )
    source, mask_dir = arguments.source, arguments.mask_dir
    if arguments.ray is not None:  # actors have working folders of their own
        source = source.absolute()
        defaults = replace(defaults, mask_dir=mask_dir and mask_dir.absolute())
    return Manifest(source, defaults, fingerprints)


def _encoding(arguments: _BatchArguments) -> PictureEncoding:
    from overpaint.jobs.output.encoding import PictureEncoding

    return PictureEncoding((arguments.format or "png").lower(), arguments.quality)


def _engines(arguments: _BatchArguments, manifest: Manifest, settings: Settings) -> list[Engine]:
    """Pictures without masks are edited by their prompts; all others are inpainted.

    Those that grow without words are erased.
    """
    has_masks = manifest.has_tables or manifest.has_masks or arguments.parts["mask"]
    task: EditTask = "inpaint" if has_masks else "edit"
    if arguments.parts["extend"]:
        task = border_task(arguments.parts["prompt"])
    with console.waiting("Loading", hidden=arguments.as_json):
        from overpaint.apps.wiring.models import build

        return build.engines(
            arguments.model,
            task=task,
            device=arguments.device,
            dtype=arguments.dtype,
            loras=[parse_lora(each) for each in arguments.lora or []],
            settings=settings,
        )
