"""`overpaint demo`: a page of edits, made on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overpaint.apps.cli import console, interrupt
from overpaint.apps.cli.editing import output

if TYPE_CHECKING:
    from overpaint.apps.wiring.demo.edits import DemoSection


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PAGE", help="The page to write.")
    ] = Path("overpaint-demo.html"),
) -> None:
    """Edit the bundled photos and scenes, and write a page that shows before and after."""
    with console.reporting_errors(as_json=False):
        from overpaint.apps.wiring.demo import page

        def report(section: DemoSection) -> None:
            interrupt.raise_if_pressed()
            console.say(f"{section.title} ({section.seconds:.1f} s)")

        output.check_folder(out.parent)
        page.write(out, report)
        sys.stdout.write(f"{out}\n")
