"""`overpaint demo`: a page that shows every family at work on a bundled scene."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from overpaint.apps.cli import console, interrupt
from overpaint.apps.cli.editing import output


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PAGE", help="The page to write.")
    ] = Path("overpaint-demo.html"),
) -> None:
    """Edit a bundled scene with every family and write a page that shows it."""
    with console.reporting_errors(as_json=False):
        from overpaint.apps.wiring import demo as demo_

        def report(shown: demo_.Shown) -> None:
            interrupt.raise_if_pressed()
            console.say(f"{shown.title} ({shown.seconds:.1f} s) {shown.words}".rstrip())

        output.check_folder(out.parent)
        demo_.run(out, report)
        sys.stdout.write(f"{out}\n")
