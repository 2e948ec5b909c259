"""One thread that computes on a processor, for all threads that have work for it.

OpenMP gives every thread that computes a team of its own, as large as there are cores. With two
teams there are more threads than cores; all of them then sleep between two operations, and a step
of small pictures takes twice as long. Encoding beside steps gains nothing there either: both want
all cores. So they take turns, and long work lets others in between two of its operations. Where
torch has one thread, there are no teams, and work is done in the thread that has it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from torch.overrides import TorchFunctionMode

LOOK_EVERY = 0.05
"""Seconds between two looks around during long work."""

Look = Callable[[], None]
T = TypeVar("T")

_look: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def looking(look: Look | None) -> Iterator[None]:
    """Look around now and then between two operations of the work that is given to cores within.

    Args:
        look: what it raises ends the work; None = the work is short.
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
            del job  # What it worked on is not kept while there is nothing to do.

    def _look_around(self, look: Look) -> None:
        """Look, and let other threads' work in: it gets as much time as the long work."""
        look()
        if time.monotonic() < self._others_after:
            return
        try:
            job = self._queue.get_nowait()
        except Empty:
            return
        if job is None:
            self._queue.put(None)
            return
        started = time.monotonic()
        job()
        now = time.monotonic()
        self._others_after = now + (now - started)


def _answer(future: Future[T], work: Callable[[], T], look: Look | None) -> None:
    try:
        with _while_looking(look):
            future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
        del future  # as above


def _while_looking(look: Look | None) -> AbstractContextManager[object]:
    return nullcontext() if look is None else LongWork(look)


class LongWork(TorchFunctionMode):
    """Looks around between the operations of its thread.

    Args:
        look: called now and then; what it raises ends the work.
    """

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look
        self._next = time.monotonic() + LOOK_EVERY

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        if time.monotonic() >= self._next:
            self._look()
            self._next = time.monotonic() + LOOK_EVERY
        return func(*args, **(kwargs or {}))
