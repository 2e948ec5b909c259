"""A process that decodes (`child`); it leaves the processor to others before it loads anything."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

NICENESS = 10
"""Strangers' files are decoded with a tenth of the processor time where edits want it too."""


def main() -> None:
    """Decode until the standard input ends. The argument is the memory that it may take."""
    with suppress(AttributeError, OSError):  # there is no such thing on Windows
        os.nice(NICENESS)
    from overpaint.apps.server.bounds import child

    child.serve(int(sys.argv[1]))


if __name__ == "__main__":
    main()
