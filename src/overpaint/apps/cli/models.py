"""The commands about models: list them, show the options of one, pull one, convert one."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overpaint.apps.cli import console
from overpaint.core.errors import OverpaintError, UnsupportedOption

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.checkpoints.files.hub import Pulled
    from overpaint.core.models import EditTask, ModelSpec

Json = console.Json


def models(
    name: Annotated[str | None, typer.Argument(help="Show the options of this model.")] = None,
    as_json: Json = False,
) -> None:
    """List the models, or show one with its options."""
    from overpaint.apps import settings as settings_

    with console.reporting_errors(as_json=as_json):
        settings = settings_.load()
        if name is None:
            _list(settings, as_json=as_json)
        else:
            _show(name, settings, as_json=as_json)


def pull(
    model: Annotated[
        str | None,
        typer.Argument(help="Name of the model. Default: recommend one for each task."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="inpaint, edit or erase: recommend for this task only.")
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit. Default: the one that the catalogue pins."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a model, or complete and check it; without a name, recommend one for each task."""
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring.models import catalogue, licences, pulling
    from overpaint.apps.wiring.models.segmentation import SEGMENTERS

    with console.reporting_errors(as_json=as_json):
        settings = settings_.load()
        if model is None:
            _recommend(_tasks(task), settings, as_json=as_json)
            return
        spec = SEGMENTERS.get(model) or catalogue.find_model(model, settings)
        if spec.source != "hub":
            _nothing_to_pull(spec, as_json=as_json)
            return
        licences.require(spec, settings)
        if not as_json:
            console.say(f"{spec.name}: {spec.location}, licence: {_licence(spec)}")
        with _DownloadBar(hidden=as_json) as bar:
            pulled = pulling.pull(
                spec,
                settings,
                edits=model not in SEGMENTERS,
                revision=revision,
                on_progress=bar,
            )
        _tell_pulled(spec, pulled, as_json=as_json)


def _tell_pulled(spec: ModelSpec, pulled: Pulled, *, as_json: bool) -> None:
    if as_json:
        console.print_json(
            {
                "name": spec.name,
                "repository": pulled.repository,
                "commit": pulled.commit,
                "folder": pulled.folder,
                "bytes": pulled.size,
                "notes": list(pulled.notes),
            }
        )
        return
    for note in pulled.notes:
        console.say(f"Note: {note}", style="yellow")
    console.say(f"{pulled.size / 1e9:.2f} GB at commit {pulled.commit[:12]}, checked")
    sys.stdout.write(f"{pulled.folder}\n")


def convert(
    model: Annotated[str, typer.Argument(help="Name of the model, or its folder.")],
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16 or float16. Default: the one that it runs in."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a model's weights in the precision that it runs in, so that it loads faster."""
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring.models import build, catalogue

    with console.reporting_errors(as_json=as_json):
        settings = settings_.load()
        spec = catalogue.find_model(model, settings)
        rows = []
        for name, folder in build.convert(spec, settings, dtype=dtype):
            size = sum(file.stat().st_size for file in folder.iterdir())
            rows.append({"component": name, "folder": str(folder), "bytes": size})
            if not as_json:
                console.say(f"{name}: {size / 1e9:.2f} GB")
                sys.stdout.write(f"{folder}\n")
        if as_json:
            console.print_json({"name": spec.name, "written": rows})
        elif not rows:
            console.say(f"{spec.name}: nothing to convert, it is stored as it runs")


def _nothing_to_pull(spec: ModelSpec, *, as_json: bool) -> None:
    if as_json:
        console.print_json({"name": spec.name, "folder": spec.location or None})
    else:
        console.say(f"{spec.name}: nothing to pull, its source is: {_source(spec)}")


def _tasks(name: str | None) -> tuple[EditTask, ...]:
    """The task of that name, or all.

    Raises:
        UnsupportedOption: there is no such task.
    """
    from overpaint.core.models import EDIT_TASKS

    if name is not None and name not in EDIT_TASKS:
        raise UnsupportedOption(f"'{name}' is not one of {', '.join(EDIT_TASKS)}", field="task")
    return tuple(task for task in EDIT_TASKS if name in (None, task))


def _recommend(tasks: Sequence[EditTask], settings: Settings, *, as_json: bool) -> None:
    """A model for each task on this machine, and why."""
    from overpaint.apps.wiring.models import catalogue, defaults

    recommendations = [(task, defaults.recommend(task, settings)) for task in tasks]
    states = {task: catalogue.state(each.spec, settings) for task, each in recommendations}
    if as_json:
        console.print_json(
            {
                "recommendations": [
                    {"task": task, "reason": each.reason, **_plain(each.spec, states[task])}
                    for task, each in recommendations
                ]
            }
        )
        return
    for task, each in recommendations:
        spec = each.spec
        sys.stdout.write(f"{task}: {spec.name} ({spec.size or 'no download'}, {_licence(spec)})\n")
        sys.stdout.write(f"  {each.reason}\n")
        if states[task] == "ready":
            sys.stdout.write("  it is here\n")
        else:
            sys.stdout.write(f"  overpaint pull {spec.name}\n")


def _list(settings: Settings, *, as_json: bool) -> None:
    from overpaint.apps.wiring.models import catalogue, defaults
    from overpaint.apps.wiring.models.segmentation import SEGMENTERS
    from overpaint.core.models import EDIT_TASKS

    groups: dict[str, list[ModelSpec]] = {
        task: defaults.ranked(task, settings) for task in EDIT_TASKS
    }
    grouped = [spec for specs in groups.values() for spec in specs]
    others = [spec for spec in catalogue.models(settings).values() if spec not in grouped]
    default_names = {defaults.choose(task, settings) for task in EDIT_TASKS}
    if as_json:
        rows = [
            {"task": task, "is_default": spec.name in default_names, **_here(spec, settings)}
            for task, specs in [*groups.items(), (None, others)]
            for spec in specs
        ]
        finders = [_here(spec, settings) for spec in SEGMENTERS.values()]
        console.print_json({"models": rows, "segmenters": finders})
        return
    further = {"of unknown families": others, "segment": list(SEGMENTERS.values())}
    _print_groups({**groups, **further}, default_names, settings)


def _print_groups(
    groups: Mapping[str, Sequence[ModelSpec]], default_names: Collection[str], settings: Settings
) -> None:
    """A table of the models, task by task; * = it answers where none is named."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from overpaint.apps.wiring.models import catalogue
    from overpaint.checkpoints.machine import fit, this_machine

    machine = this_machine()
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for column in ("from", "licence", "size", "state", "here"):
        table.add_column(column, overflow="fold")
    for task, specs in groups.items():
        if specs:
            table.add_row(f"[bold]{escape(task)}[/]")
        for spec in specs:
            state = catalogue.state(spec, settings)
            style = "green" if state == "ready" else "dim"
            mark = "*" if spec.name in default_names else " "
            cells = (f"{mark} {spec.name}", _source(spec), _licence(spec), spec.size or "-")
            fits = escape(fit(spec, machine).text)
            table.add_row(*map(escape, cells), f"[{style}]{state}[/]", fits)
    Console(highlight=False).print(table)
    console.say(f"Here: {machine}. * = answers where no model is named.")
    console.say("`overpaint pull` recommends what to fetch.")


def _here(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    """A model as plain data, with what this machine has and can hold of it."""
    from overpaint.apps.wiring.models import catalogue
    from overpaint.checkpoints.machine import fit, this_machine

    verdict = fit(spec, this_machine())
    plain = _plain(spec, catalogue.state(spec, settings))
    return {**plain, "fits": verdict.fits, "fit": verdict.text}


def _show(name: str, settings: Settings, *, as_json: bool) -> None:
    from overpaint.apps.wiring.models import catalogue, families

    spec = catalogue.find_model(name, settings)
    state = catalogue.state(spec, settings)
    schema = families.find(spec.family).options.model_json_schema()
    fits = _fits(spec, settings) if state == "ready" and spec.source != "none" else None
    if as_json:
        console.print_json({**_plain(spec, state), "memory": fits, "options": schema})
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    out = Console(highlight=False)
    out.print(f"[bold]{escape(spec.name)}[/] ({spec.family}, {escape(_source(spec))}, {state})")
    out.print(escape(f"{spec.about or 'a model of your own'}; licence: {_licence(spec)}"))
    for device, fit in (fits or {}).items():
        out.print(escape(f"{device}: {fit}"))
    out.print(f"`overpaint licence show {escape(spec.name)}` says what that demands\n")
    table = Table("option", "values", "default", "meaning", box=None, pad_edge=False)
    for option, option_schema in schema["properties"].items():
        default = option_schema.get("default")
        table.add_row(
            option,
            escape(_values(option_schema)),
            "-" if default is None else escape(str(default)),
            escape(option_schema.get("description", "")),
        )
    out.print(table)
    out.print("\nSet them with -O option=value.")


def _fits(spec: ModelSpec, settings: Settings) -> dict[str, str]:
    """How it would fit the memory of each device, or why it would not."""
    from overpaint.apps.wiring.models import build

    try:
        return {name: str(plan) for name, plan in build.memory_plans(spec, settings).items()}
    except OverpaintError as error:
        return {"memory": str(error)}


def _values(option_schema: dict[str, Any]) -> str:
    """The values of an option from its JSON Schema, in short."""
    if "anyOf" in option_schema:
        choices = [each for each in option_schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(_values(each) for each in choices)
    if "enum" in option_schema:
        return " or ".join(map(str, option_schema["enum"]))
    kind = str(option_schema.get("type", "any"))
    low, high = option_schema.get("minimum"), option_schema.get("maximum")
    return f"{kind} {low} to {high}" if low is not None and high is not None else kind


def _plain(spec: ModelSpec, state: str) -> dict[str, Any]:
    from overpaint.core import licences

    licence = licences.find(spec)
    return {
        "name": spec.name,
        "family": spec.family,
        "source": spec.source,
        "location": spec.location or None,
        "revision": spec.revision,
        "licence": spec.licence,
        "commercial": licences.is_commercial(spec),
        "must_be_accepted": licence is not None and licence.gated,
        "attribution": licence and licence.attribution,
        "size_gb": spec.size_gb or None,
        "state": state,
        "about": spec.about,
    }


def _source(spec: ModelSpec) -> str:
    sources = {"bundled": "bundled", "none": "built in", "hub": spec.location}
    return sources.get(spec.source, spec.location)


def _licence(spec: ModelSpec) -> str:
    already_said = "non-commercial" in spec.licence.lower()
    return spec.licence if spec.commercial or already_said else f"{spec.licence}, non-commercial"


class _DownloadBar:
    """Bytes, speed and time left of a download; silent without a terminal."""

    def __init__(self, *, hidden: bool) -> None:
        from rich import progress

        terminal = console.messages()
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=terminal,
            transient=True,
            disable=hidden or not terminal.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> _DownloadBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, file: str, bytes_done: int, total: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task(file, total=total)
        self._bar.update(self._task, description=file, completed=bytes_done, total=total)
