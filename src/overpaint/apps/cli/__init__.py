"""The command line `overpaint`. docs/cli.md describes it.

The commands are imported when Ctrl-C is already listened to.
"""

from __future__ import annotations

import sys

from overpaint.apps import process
from overpaint.apps.cli import interrupt

INTERRUPTED = 130


def main() -> None:
    """Entry point of the command line; ends the process with `SystemExit`."""
    try:
        interrupt.listen()
        process.take()
        from overpaint.apps.cli.commands import app

        app()
    except BaseException as ended:
        if isinstance(ended, KeyboardInterrupt) or interrupt.is_pending():
            # It came outside a command's own handling, or was lost there.
            interrupt.settle()
            sys.stderr.write("Cancelled.\n")
            ended = SystemExit(INTERRUPTED)
        interrupt.leave(ended.code if isinstance(ended, SystemExit) else 1)
        raise ended from None
