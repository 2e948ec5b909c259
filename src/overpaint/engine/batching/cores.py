"""One thread that computes on a processor, for all threads that have work for it.

OpenMP gives every thread that computes a team of its own, as large as there are cores. With two
teams there are more threads than cores; all of them then sleep between two operations, and a step
of small pictures takes twice as long. Encoding beside steps gains nothing there either: both want
all cores. So they take turns, and long work lets others in between two of its operations. If torch
has one thread, there are no teams, and work is done in the thread that has it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

from overpaint.core.errors import OverpaintError
from overpaint.core.work import interruption
from overpaint.engine.batching.cutting import LongWork

Look = Callable[[], bool]
T = TypeVar("T")

_look: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def looking(look: Look | None) -> Iterator[None]:
    """Look around now and then between two operations of the work that is given to cores within.

    Args:
        look: see `cutting.LongWork`; None = the work is short.
    """
    token = _look.set(look)
    try:
        yield
    finally:
        _look.reset(token)


def at_once(work: Callable[[], T]) -> T:
    """What `work` gives, done in this thread."""
    with _while_looking(_look.get()):
        return work()


class Cores:
    """Runs work on one thread.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._others_after = 0.0
        # Of long work that stands aside for other threads' work, which may be long, too.
        self._outer_looks: list[Look] = []
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], T]) -> T:
        """What `work` gives. Work from within work is done at once."""
        if threading.current_thread() is self._thread:
            return at_once(work)
        look, future = _look.get(), Future[T]()
        around = None if look is None else partial(self._look_around, look)
        self._queue.put(partial(_answer, future, work, around))
        try:
            return future.result()
        finally:
            del future  # An error leads to this frame, and must not lead back to itself.

    def close(self) -> None:
        """End the thread when its work is done."""
        self._queue.put(None)

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            job()
            del job  # Its last work is not kept while there is nothing to do.

    def _look_around(self, look: Look) -> bool:
        """Look, and let other threads' work in: it gets as much time as the long work.

        Returns:
            Whether there was anything to do.
        """
        is_busy = look()
        for each in self._outer_looks:
            with suppress(OverpaintError):  # it ends its own work once that goes on
                is_busy = each() or is_busy
        if time.monotonic() < self._others_after:
            return is_busy
        try:
            job = self._queue.get_nowait()
        except Empty:
            return is_busy
        if job is None:
            self._queue.put(None)
            return is_busy
        started = time.monotonic()
        self._outer_looks.append(look)
        job()
        self._outer_looks.pop()
        now = time.monotonic()
        self._others_after = now + (now - started)
        return True


def _answer(future: Future[T], work: Callable[[], T], look: Look | None) -> None:
    try:
        with _while_looking(look):
            future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
        del future  # as above


@contextmanager
def _while_looking(look: Look | None) -> Iterator[None]:
    if look is None:
        yield
        return
    work = LongWork(look)
    with interruption.answered(work.look_around):
        work.look_around()
        with work:
            yield
