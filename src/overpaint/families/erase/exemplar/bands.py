"""Work on one picture in bands, on threads that are started once and serve every filling."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import numpy as np

from overpaint.core.work import interruption

BANDS = 8  # each on one thread at a time; fixed, so that a seed is a picture

CHECK_EVERY = 0.02
"""Seconds."""

BandWork = Callable[[int, int], None]


class Threads:
    """The threads of this process, one per core that it may use; started with the first work."""

    def __init__(self) -> None:
        self._pool = _new_pool()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def in_bands(self, count: int, work: BandWork) -> None:
        """Calls `work(start, stop)` for the bands of 0..count, and waits for all of them.

        `work` must release the interpreter's lock, and its bands must not depend on each other.
        Shorter edits may be made in this thread meanwhile.
        """
        edges = np.linspace(0, count, BANDS + 1).astype(int).tolist()
        bands = [self._pool.submit(work, *each) for each in pairwise(edges)]
        try:
            while wait(bands, timeout=CHECK_EVERY).not_done:
                interruption.check()
        finally:
            for band in bands:
                band.cancel()
        for band in bands:
            band.result()

    def _renew(self) -> None:
        """A forked process has none of its parent's threads."""
        self._pool = _new_pool()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _new_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(BANDS, cores()), thread_name_prefix="overpaint-erase")


THREADS = Threads()
