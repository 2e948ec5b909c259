"""Files on their way from the disk while something else is computed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import psutil

PIECE = 2**20
"""Bytes asked for at once. Linux reads no more per call than the disk takes at once, 1.25 MiB for
most; each call costs a thread that computes meanwhile one more turn."""


def start(files: Sequence[Path]) -> None:
    """Ask the system to have files in memory soon, in this order; returns at once.

    A hint: where the system takes none (`posix_fadvise`), or a file is not there, nothing happens.
    Pages that are in memory are not read again, and no more are asked for than free memory holds.
    """
    if hasattr(os, "posix_fadvise"):
        Thread(target=_ask, args=(files,), name="readahead", daemon=True).start()


def _ask(files: Sequence[Path]) -> None:
    room = psutil.virtual_memory().available
    for file in files:
        try:
            with file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                for begin in range(0, min(size, room), PIECE):
                    os.posix_fadvise(stream.fileno(), begin, PIECE, os.POSIX_FADV_WILLNEED)
        except OSError:
            return
        room = max(0, room - size)
