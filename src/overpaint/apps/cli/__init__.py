"""The command line `overpaint`. docs/cli.md describes it.

The commands are imported when Ctrl-C is already listened to.
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
    """Make the standard streams writable, whatever was closed and whatever they can encode.

    A closed one leads nowhere; it also takes the number that the next opened file would get. What
    a code page does not have is written as an escape.
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
