"""Memory goes back to the system after large edits, and nobody waits for that.

The C library keeps what is freed otherwise. To look for garbage among all objects of torch and of
the models would stop every thread for a quarter of a second.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from functools import cache
from typing import Any

from overpaint.apps import process
from overpaint.core.work import garbage

LARGE_MEGAPIXELS = 4.0
"""Of the pictures of an edit, from which on memory is given back after it."""

EVERY = 2.0
"""Seconds between two times, at least."""


def set_aside() -> None:
    """Exclude all present objects from Python's search for garbage, if the process is ours.

    `ModelCache` includes them again when a model leaves.
    """
    if process.is_ours():
        garbage.set_aside()


class Trimmer:
    """Gives memory back, now and then."""

    def __init__(self) -> None:
        self._last = -EVERY

    def is_due(self, megapixels: float) -> bool:
        """Whether memory should be given back after an edit of so many megapixels."""
        return megapixels >= LARGE_MEGAPIXELS and time.monotonic() - self._last >= EVERY

    def trim(self) -> None:
        """Give back what is free. Takes some milliseconds: call it beside the event loop."""
        self._last = time.monotonic()
        gc.collect()
        if (library := _glibc()) is not None:
            library.malloc_trim(0)


@cache
def _glibc() -> Any:
    """The C library where it has `malloc_trim`."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None
