"""The commands `overpaint collect` and `overpaint clean`: recipes into data sets."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.bulk.batch import (
    Actors,
    PassWidth,
    Prune,
    RayAddress,
    Retry,
    Verify,
    check_prune,
    parse_width,
    statuses,
)
from overpaint.apps.cli.bulk.report import (
    RowBar,
    exit_code,
    sentences,
    tell_failed,
    tell_sentences,
    tell_stale,
)
from overpaint.apps.cli.editing.edits import DeviceNames, Dtype, Json
from overpaint.apps.cli.interrupt import Interrupt
from overpaint.core.errors import Cancelled, InvalidRequest, OutputError

if TYPE_CHECKING:
    from overpaint.apps.wiring.datasets import Run
    from overpaint.datasets.outcome import Outcome
    from overpaint.datasets.recipes.recipe import RecipeTask
    from overpaint.jobs.book import Tally

RecipeFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="RECIPE",
        help="A YAML file that says what to make or clean; docs/datasets.md describes it.",
    ),
]
DataSetFolder = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the results.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Override a key of the recipe, such as quota=2."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done; measures one picture.")
]
AttemptLimit = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most this many attempts or pictures.")
]
Schema = Annotated[bool, typer.Option("--schema", help="Print the recipe's JSON Schema.")]


@dataclass(kw_only=True)
class _RecipeArguments:
    """The command line's arguments, unchecked."""

    task: RecipeTask
    recipe: Path | None
    out: Path | None
    overrides: list[str]
    dry_run: bool
    retry: list[str]
    limit: int | None
    prune: bool
    verify: bool
    ray: str | None
    actors: int | None
    width: str | None
    device: str | None
    dtype: str | None
    as_json: bool


def _of(task: RecipeTask) -> Callable[..., None]:
    """The command of a task; both take the same arguments."""

    def command(
        recipe: RecipeFile = None,
        out: DataSetFolder = None,
        overrides: Set = None,
        dry_run: DryRun = False,
        retry: Retry = None,
        limit: AttemptLimit = None,
        prune: Prune = False,
        verify: Verify = False,
        ray: RayAddress = None,
        actors: Actors = None,
        width: PassWidth = None,
        device: DeviceNames = None,
        dtype: Dtype = None,
        schema: Schema = False,
        as_json: Json = False,
    ) -> None:
        arguments = _RecipeArguments(
            task=task,
            recipe=recipe,
            out=out,
            overrides=overrides or [],
            dry_run=dry_run,
            retry=retry or [],
            limit=limit,
            prune=prune,
            verify=verify,
            ray=ray,
            actors=actors,
            width=width,
            device=device,
            dtype=dtype,
            as_json=as_json,
        )
        _run(arguments, schema=schema)

    return command


collect = _of("collect")
collect.__doc__ = (
    """Make the pictures that a data set lacks, cell by cell. Run it again to continue."""
)

clean = _of("clean")
clean.__doc__ = """Clean the pictures of a data set. The sources stay as they are."""


def _run(arguments: _RecipeArguments, *, schema: bool) -> None:
    with console.reporting_errors(as_json=arguments.as_json):
        if schema:
            from overpaint.datasets.recipes import recipe

            console.print_json(recipe.schema(arguments.task))
            return
        started = time.monotonic()
        with Interrupt() as interrupt:
            run = _prepared(arguments)
            console.warn(run.notices)
            if arguments.dry_run:
                _tell_plan(run, arguments)
                return
            outcome, tally = _execute(run, arguments, interrupt)
            with console.waiting("Writing", hidden=arguments.as_json):
                report = run.write(outcome)
        summary = _summary(arguments, run, outcome, tally)
        summary |= {"report": str(report), "seconds": round(time.monotonic() - started, 1)}
        if arguments.as_json:
            console.print_json(summary)
        else:
            _tell(summary, run, outcome, tally, pruned=arguments.prune)
        if code := _exit_code(arguments, outcome, tally):
            raise typer.Exit(code)


def _exit_code(arguments: _RecipeArguments, outcome: Outcome, tally: Tally) -> int:
    """As of a batch; attempts at a cell may fail where its quota is met all the same.

    A data set without a picture is no success, whatever became of the tasks.
    """
    if outcome.stopped:
        return console.OUR_FAULT
    if arguments.task == "collect" and outcome.members and not outcome.missing:
        return 0
    return exit_code(tally) or (0 if outcome.members else console.INPUT_AT_FAULT)


def _prepared(arguments: _RecipeArguments) -> Run:
    if arguments.recipe is None:
        raise InvalidRequest("name a recipe: a YAML file", field="recipe")
    if arguments.out is None and not arguments.dry_run:
        raise OutputError("name a folder with -o", field="output")
    check_prune(prune=arguments.prune, limit=arguments.limit)
    statuses(arguments.retry)
    from overpaint.datasets.recipes import recipe

    loaded_recipe = recipe.load(arguments.recipe, arguments.task, arguments.overrides)
    with console.waiting("Loading", hidden=arguments.as_json):
        from overpaint.apps import settings as settings_
        from overpaint.apps.wiring import datasets
        from overpaint.apps.wiring.dataset_workers import Where

        return datasets.Run(
            recipe=loaded_recipe,
            settings=settings_.load(),
            where=Where(
                device=arguments.device,
                dtype=arguments.dtype,
                width=parse_width(arguments.width),
                ray=arguments.ray,
                actors=arguments.actors,
            ),
            out=arguments.out or Path(),
        )


def _execute(run: Run, arguments: _RecipeArguments, interrupt: Interrupt) -> tuple[Outcome, Tally]:
    retry = statuses(arguments.retry)
    with RowBar(None, hidden=arguments.as_json, word="pictures") as bar:

        def report(tally: Tally, total: int | None) -> None:
            bar.total = total
            bar(tally)

        try:
            return run.execute(
                retry=retry,
                limit=arguments.limit,
                prune=arguments.prune,
                verify=arguments.verify,
                on_progress=report,
                cancelled=interrupt.cancelled,
            )
        except (Cancelled, KeyboardInterrupt):
            bar.stop()
            console.say(
                f"{bar.finished_count} pictures are done; run the same command to continue."
            )
            raise


def _summary(
    arguments: _RecipeArguments, run: Run, outcome: Outcome, tally: Tally
) -> dict[str, Any]:
    from overpaint.datasets.clean import endings, unknown_labels

    return {
        "output": str(run.out),
        "kept": len(outcome.members),
        "left_out": outcome.statuses(),
        "surplus": outcome.surplus,
        "missing": outcome.missing,
        "endings": endings(outcome) if arguments.task == "clean" else {},
        "unknown_labels": unknown_labels(outcome),
        "computed": tally.computed,
        "errors": dict(sorted(tally.codes.items())),
        **sentences(tally),
        "stale": len(outcome.stale),
        "stopped": outcome.stopped,
    }


def _tell(
    summary: Mapping[str, Any], run: Run, outcome: Outcome, tally: Tally, *, pruned: bool
) -> None:
    from overpaint.datasets.output.export import REJECTED

    sys.stdout.write(f"{summary['report']}\n")
    for note in [*run.facts.notes(), *run.facts.assumptions()]:
        console.say(f"Note: {note}", style="yellow")
    left = "".join(f", {count} {status}" for status, count in sorted(summary["left_out"].items()))
    ends = ", ".join(
        f"{count} {'whose edit failed' if ending == 'edit failed' else ending}"
        for ending, count in summary["endings"].items()
    )
    kept = f"{summary['kept']} pictures kept" + (f" ({ends})" if ends else "")
    console.say(f"{kept}{left}; {tally.computed} worked on in this run, {summary['seconds']:.1f} s")
    tell_sentences(tally)
    tell_failed(tally, f"{run.out / REJECTED} has the reasons")
    tell_stale(len(outcome.stale), pruned=pruned)
    if unknown := summary["unknown_labels"]:
        some = ", ".join(f"{label} ({count})" for label, count in list(unknown.items())[:5])
        console.say(f"The vision model gave labels that are not in the recipe: {some}.")
    if outcome.missing:
        some = "; ".join(f"{key}: {count}" for key, count in list(outcome.missing.items())[:5])
        console.say(
            f"{len(outcome.missing)} cells lack {sum(outcome.missing.values())} pictures "
            f"({some}); raise tries, or change prompt or filters.",
            style="yellow",
        )
    if outcome.stopped:
        console.say(outcome.stopped, style="red")


def _tell_plan(run: Run, arguments: _RecipeArguments) -> None:
    with console.waiting("Measuring one picture", hidden=arguments.as_json):
        plan = run.preview(arguments.limit)
    if arguments.as_json:
        console.print_json(plan)
        return
    for name, value in plan.items():
        if isinstance(value, list):
            sys.stdout.write(f"{name}:\n" + "".join(f"  {each}\n" for each in value))
        else:
            sys.stdout.write(f"{name}: {value}\n")
