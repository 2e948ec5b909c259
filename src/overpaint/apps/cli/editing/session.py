"""The commands `overpaint session …`: editing turn after turn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.editing import edits, output, session_view
from overpaint.apps.cli.editing.job import Job, engine_for, request_of
from overpaint.apps.cli.parts import options_of_parts, ordered, take_parts, with_arguments
from overpaint.core.errors import InvalidRequest
from overpaint.core.models import border_task

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.types import EditRequest
    from overpaint.sessions.editor import Sessions
    from overpaint.sessions.store import Store
    from overpaint.sessions.types import Session, Summary, Turn

app = typer.Typer(
    name="session",
    help="Edit turn after turn: undo, branches, and measures of what changed.",
    no_args_is_help=True,
)

Which = Annotated[
    str, typer.Argument(metavar="SESSION", help="Name, id, or the first characters of an id.")
]
TurnId = Annotated[str, typer.Argument(metavar="TURN", help="Number of a turn; 0 = the original.")]
TurnWords = Annotated[
    str | None,
    typer.Argument(
        metavar="[INSTRUCTION]",
        help="What to change, or what to show in the mask. If you give a mask but no "
        "instruction, the area is erased.",
    ),
]
Parent = Annotated[
    str | None, typer.Option("--from", metavar="TURN", help="Continue from this turn.")
]
FromOriginal = Annotated[
    bool,
    typer.Option("--from-original", help="Edit the original again, with all instructions so far."),
]
TurnFile = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="Also write the turn's picture to this file."),
]
Json = edits.Json

ORDER = (
    *("mask", "select", "point", "box", "segmenter", "parent", "from_original", "…", "out"),
    *("model", "negative_prompt", "seed", "num_images", "option", "invert", "grow", "feather"),
    *("repaint_beyond", "follow", "hold", "keep_areas"),
    *("device", "dtype", "as_json"),
)
"""The order of the options in the help of `session edit`."""


@app.command("new")
def new(
    image: edits.Image,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the session. Default: the picture's name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Begin a session with a picture."""
    with _open_store(as_json) as (settings, store):
        from overpaint.sessions.editor import NAME

        source = sys.stdin.buffer.read() if image == output.STDIO else Path(image)
        name = name or (NAME if image == output.STDIO else Path(image).stem)
        session_view.tell(_sessions(settings, store).new(source, name), as_json=as_json)


@app.command("list")
def list_(
    search: Annotated[
        str,
        typer.Option(
            "--search", metavar="WORDS", help="Only sessions with these words in their names."
        ),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 1000,
    as_json: Json = False,
) -> None:
    """List the sessions, the latest first."""
    with _open_store(as_json) as (_, store):
        session_view.list_(store.summaries(limit=limit, search=search), as_json=as_json)


@app.command("edit")
@with_arguments(
    {"session": Which},
    {
        "prompt": TurnWords,
        **ordered(
            {
                **options_of_parts(
                    edits.POSITIONAL,
                    flags={"copy_from": ("--copy-from",)},  # --from names a turn
                ),
                **edits.SELECTION,
                "parent": Parent,
                "from_original": FromOriginal,
                "out": TurnFile,
                "option": edits.Options,
                **edits.ON_MASK,
                **edits.BEYOND,
                "keep_areas": edits.KeepAreas,
                **edits.RUNNING,
            },
            ORDER,
        ),
    },
)
def edit(values: dict[str, Any]) -> None:
    """Edit the picture: make another turn."""
    which, out = values["session"], values.pop("out")
    parts = take_parts(values)
    parts["prompt"] = parts["prompt"] or ""
    job = Job.of("edit", parts, values)
    if "mask" in job.parts or job.selection.is_given:
        job = replace(job, task="inpaint" if parts["prompt"].strip() else "erase")
    if "extend" in job.parts:
        job = replace(job, task=border_task(parts["prompt"]))
    with _open_store(job.as_json) as (settings, store):
        session = store.find(which)
        after, turn = _edit(
            job,
            session,
            store,
            settings,
            values["parent"],
            from_original=values["from_original"],
        )
        if out is not None:
            _write(store, turn, out)
        session_view.tell_turn(after, turn, as_json=job.as_json)


@app.command("undo")
def undo(session: Which, as_json: Json = False) -> None:
    """Go back one turn."""
    with _open_store(as_json) as (_, store):
        opened_session = store.find(session)
        session_view.tell(
            _move(store, opened_session, opened_session.undo, "undo"), as_json=as_json
        )


@app.command("redo")
def redo(session: Which, as_json: Json = False) -> None:
    """Undo the last undo."""
    with _open_store(as_json) as (_, store):
        opened_session = store.find(session)
        session_view.tell(
            _move(store, opened_session, opened_session.redo, "redo"), as_json=as_json
        )


@app.command("branch")
def branch(session: Which, turn: TurnId, as_json: Json = False) -> None:
    """Continue from any turn; later turns stay."""
    with _open_store(as_json) as (_, store):
        opened_session = store.find(session)
        session_view.tell(_move(store, opened_session, turn, "branch"), as_json=as_json)


@app.command("log")
def log(session: Which, as_json: Json = False) -> None:
    """Show all turns as a tree."""
    with _open_store(as_json) as (_, store):
        session_view.log(store.find(session), as_json=as_json)


@app.command("show")
def show(
    session: Which,
    turn: Annotated[
        str | None,
        typer.Argument(metavar="[TURN]", help="Number of the turn. Default: the current one."),
    ] = None,
    out: TurnFile = None,
    as_json: Json = False,
) -> None:
    """Show a turn with its measures, or write its picture."""
    with _open_store(as_json) as (_, store):
        opened_session = store.find(session)
        selected_turn = opened_session.turn(turn)
        if out is not None:
            _write(store, selected_turn, out)
        session_view.tell_turn(opened_session, selected_turn, as_json=as_json)


@app.command("areas")
def areas(
    session: Which,
    turn: Annotated[
        str | None,
        typer.Argument(metavar="[TURN]", help="Number of the turn. Default: the current one."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="NUMBERS",
            help="Make the turn again with these areas, as 1,3, and put the others back; 0 = none.",
        ),
    ] = None,
    device: edits.DeviceName = None,
    dtype: edits.Dtype = None,
    as_json: Json = False,
) -> None:
    """List what a turn changed, area by area, or keep some of it."""
    with _open_store(as_json) as (settings, store):
        from overpaint.apps.wiring import sessions
        from overpaint.apps.wiring.models import build

        whole = store.find(session)
        selected_turn = whole.turn(turn)
        if keep is None:
            session_view.tell_areas(selected_turn.areas, as_json=as_json)
            return
        numbers = _area_numbers(keep)
        selected_turn.check_areas(numbers)
        engine = build.engine(selected_turn.model, device=device, dtype=dtype, settings=settings)
        editor = sessions.editor(settings, store, engine)
        session_view.tell_turn(
            *editor.keep_areas(whole.id, selected_turn.id, numbers), as_json=as_json
        )


@app.command("compare")
def compare(
    session: Which,
    first: TurnId,
    second: Annotated[
        str | None,
        typer.Argument(metavar="[TURN]", help="Number of the turn. Default: the current one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two turns by their measures."""
    with _open_store(as_json) as (settings, store):
        from overpaint.apps.wiring import sessions
        from overpaint.sessions import measuring

        opened_session = store.find(session)
        pair = opened_session.turn(first), opened_session.turn(second)
        measures = measuring.compare(store.pictures, *pair, sessions.examiner(settings)).as_json()
        turns = f"turns {pair[0].id} and {pair[1].id}"
        session_view.tell_measures(measures, turns, as_json=as_json)


@app.command("rename")
def rename(
    session: Which,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    as_json: Json = False,
) -> None:
    """Give a session another name."""
    with _open_store(as_json) as (_, store):
        session_view.tell(store.rename(store.find(session).id, name), as_json=as_json)


@app.command("delete")
def delete(session: Which, as_json: Json = False) -> None:
    """Delete a session and its pictures."""
    with _open_store(as_json) as (_, store):
        opened_session = store.find(session)
        store.delete(opened_session.id)
        store.collect()
        if as_json:
            console.print_json({"deleted": opened_session.id})
        else:
            console.say(f"{opened_session.name} was deleted")


@app.command("prune")
def prune(
    older_than: Annotated[
        int | None,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            min=1,
            help="Also delete sessions that nobody changed for this many days.",
        ),
    ] = None,
    search: Annotated[
        str,
        typer.Option(
            "--search", metavar="WORDS", help="Only sessions with these words in their names."
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete pictures that no session uses any more; with --older-than also old sessions."""
    with _open_store(as_json) as (_, store):
        if search and older_than is None:
            raise InvalidRequest("add --older-than, which says how old they are", field="search")
        old = [] if older_than is None else _unchanged(store, older_than, search)
        freed_bytes = None
        if not dry_run:
            for each in old:
                store.delete(each.id, each.revision)
            _, freed_bytes = store.collect()
        session_view.tell_pruned(old, freed_bytes, as_json=as_json)


def _unchanged(store: Store, days: int, search: str) -> list[Summary]:
    """Sessions that have not changed for this many days."""
    from datetime import UTC, datetime, timedelta

    from overpaint.sessions.types import stamp

    before = stamp(datetime.now(UTC) - timedelta(days=days))
    return store.summaries(limit=store.limits.sessions, search=search, before=before)


@app.command("export")
def export(
    session: Which,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The ZIP file to write.")
    ],
    as_json: Json = False,
) -> None:
    """Write a session to a ZIP file, with its pictures."""
    with _open_store(as_json) as (_, store):
        from overpaint.core.files import atomic_open
        from overpaint.sessions import archive

        opened_session = store.find(session)
        with atomic_open(out, field=output.FIELD) as file:
            archive.export(store, opened_session, file)
        if as_json:
            console.print_json({"output": out})
        else:
            sys.stdout.write(f"{out}\n")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A ZIP file that `export` wrote.")],
    as_json: Json = False,
) -> None:
    """Begin a session from an exported one."""
    with _open_store(as_json) as (settings, store):
        try:
            stream = file.open("rb")
        except OSError as error:
            raise InvalidRequest(
                f"{file} cannot be read: {error.strerror}", field="file"
            ) from error
        with stream:
            session_view.tell(_sessions(settings, store).load(stream), as_json=as_json)


@contextmanager
def _open_store(as_json: bool) -> Iterator[tuple[Settings, Store]]:
    """Settings and store; errors are reported as everywhere."""
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring import sessions

    with console.reporting_errors(as_json=as_json):
        settings = settings_.load()
        store = sessions.store(settings)
        try:
            yield settings, store
        finally:
            store.close()


def _edit(
    job: Job,
    session: Session,
    store: Store,
    settings: Settings,
    parent: str | None,
    *,
    from_original: bool,
) -> tuple[Session, Turn]:
    from overpaint.apps.cli.interrupt import Interrupt, settle
    from overpaint.apps.wiring import sessions

    with Interrupt() as interrupt, console.StepBar(hidden=job.as_json) as bar:
        sessions_ = _sessions(settings, store)
        start = sessions_.start(
            session.id, job.parts["prompt"], parent=parent, from_original=from_original
        )
        job = replace(job, parts={**job.parts, "prompt": start.prompt})
        request = request_of(job, sessions_.picture(start.base), settings)
        editor = sessions.editor(settings, store, engine_for(job, request, settings))
        turn = editor.make(start, request, on_progress=bar, cancelled=interrupt.cancelled)
        settle()
        return turn


def _sessions(settings: Settings, store: Store) -> Sessions:
    """The sessions, without a model; the safety policy looks at what comes in."""
    from overpaint.apps.wiring import safety
    from overpaint.sessions.editor import Sessions

    def check(request: EditRequest) -> None:
        safety.policy(settings).check_request(request)

    return Sessions(store=store, check=check)


def _area_numbers(words: str) -> list[int]:
    """Numbers of areas from words as '1,3'; '0' = of none."""
    numbers = words.replace(",", " ").split()
    if not numbers or not all(each.isdecimal() for each in numbers):
        raise InvalidRequest(f"{words!r} is not like 1,3", field="keep")
    return [] if numbers == ["0"] else [int(each) for each in numbers]


def _move(store: Store, session: Session, turn: str | None, what: str) -> Session:
    if turn is None:
        raise InvalidRequest(f"there is nothing to {what}", field="turn")
    return store.move(session.id, turn, session.revision)


def _write(store: Store, turn: Turn, out: Path) -> None:
    from overpaint.core.imaging import images

    images.save(store.pictures.picture(turn.picture), out, field=output.FIELD)
