"""All commands in one application.

They import torch and the rest of the engine only when they need them, so that help answers
at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from overpaint import __version__
from overpaint.apps.cli import (
    console,
    demo,
    doctor,
    export,
    licence,
    models,
    provenance,
    serve,
    warm,
)
from overpaint.apps.cli.bulk import batch, datasets
from overpaint.apps.cli.editing import edits, segment, session

app = typer.Typer(
    name="overpaint",
    help="Edit pictures with words: inpaint, edit, erase, extend. Pixels outside the mask never "
    "change.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("inpaint")(edits.inpaint)
app.command("edit")(edits.edit)
app.command("erase")(edits.erase)
app.command("extend")(edits.extend)
app.command("batch")(batch.batch)
app.command("collect")(datasets.collect)
app.command("clean")(datasets.clean)
app.add_typer(session.app)
app.command("segment")(segment.segment)
app.command("models")(models.models)
app.command("pull")(models.pull)
app.command("convert")(models.convert)
app.command("warm")(warm.warm)
app.add_typer(licence.app, name="licence")
app.add_typer(export.app, name="export")
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("mcp")(serve.mcp)
app.command("verify")(provenance.verify)
app.command("replay")(provenance.replay)
app.add_typer(provenance.app, name="provenance")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"overpaint {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    console.show_tracebacks(debug)
