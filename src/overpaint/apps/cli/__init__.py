"""The command line `overpaint`. docs/cli.md describes it.

It listens to Ctrl-C before it imports the commands.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from overpaint.apps import process
from overpaint.apps.cli import interrupt

INTERRUPTED = 130


def open_streams() -> None:
    """Make the standard streams usable, even if one is closed or cannot encode a text.

    A closed stream is opened on the null device, so that no file gets its number. Characters that a
    code page lacks are written as escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    """Entry point of the command line; ends the process with `SystemExit`."""
    try:
        open_streams()
        interrupt.listen()
        process.take()
        from overpaint.apps.cli.commands import app

        app()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or interrupt.is_pending():
            # It came outside a command's own handling, or was lost there.
            interrupt.settle()
            sys.stderr.write("Cancelled.\n")
            error = SystemExit(INTERRUPTED)
        interrupt.leave(error.code if isinstance(error, SystemExit) else 1)
        raise error from None
