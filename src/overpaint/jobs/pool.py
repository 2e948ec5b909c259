"""Tasks through threads: for work that is more than one edit.

    tasks ──→ work (in threads; edits meet in one batcher) ──→ ledger

`work` writes what it makes and then returns the entry; the ledger's line follows. What is killed in
between is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from overpaint.core.errors import Cancelled
from overpaint.jobs.ledger import Entry, Ledger, Status
from overpaint.jobs.runner import TICK, Tally

THREADS = 8
"""Tasks under way: one is read while others are looked at, edited and written."""


class Task(Protocol):
    """Something to be worked on. It can be sent to another process."""

    @property
    def id(self) -> str:
        """As of a `Unit`."""


T = TypeVar("T", bound=Task)


@dataclass(kw_only=True)
class Book(Generic[T]):
    """What is left to do, and what was done: the ledger's side of any way to run tasks.

    Attributes:
        ledger: what is in it is not worked on again.
        complete: whether what an entry names is still there.
        retry: tasks that ended in one of these ways are tried again, once per book.
        on_progress: called when a task is at its end.
        cancelled: asked several times a second; True ends the run.
        tally: how far it is.
    """

    ledger: Ledger
    complete: Callable[[Entry], bool] = lambda _: True
    retry: Collection[Status] = ()
    on_progress: Callable[[Tally], None] | None = None
    cancelled: Callable[[], bool] = lambda: False
    tally: Tally

    def pending(self, tasks: Iterable[T]) -> Iterator[T]:
        """The tasks that must be worked on.

        Raises:
            Cancelled: it shall end.
        """
        for task in tasks:
            self.check_cancelled()
            entry = self.ledger.get(task.id)
            if entry is None or entry.status in self.retry or not self.complete(entry):
                yield task
            else:
                self.tally.count(entry.status, skipped=True)
                self._tell()

    def end(self, entry: Entry) -> None:
        """Write down the end of a task.

        Raises:
            OutputError: the disk is full.
        """
        attempts = self.ledger.attempts(entry.id) + 1
        self.ledger.append(replace(entry, attempts=attempts, finished=time.time()))
        self.tally.count(entry.status, code=entry.code)
        self._tell()

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the run shall end."""
        if self.cancelled():
            raise Cancelled("the run was cancelled")

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.tally)


def run(tasks: Iterable[T], work: Callable[[T], Entry], book: Book[T], *, threads: int) -> None:
    """Bring all tasks to their end.

    Args:
        tasks: read as they are needed.
        work: called in threads; what it raises ends the run.
        book: says what is left, and gets the ends.
        threads: tasks under way at once.

    Raises:
        Cancelled: the book's `cancelled` said so; all that ended is kept.
        OutputError: the disk is full or gone.
    """
    under_way: set[Future[Entry]] = set()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="work")
    try:
        for task in book.pending(tasks):
            while len(under_way) >= threads:
                _settle(under_way, book)
            under_way.add(pool.submit(work, task))
        while under_way:
            _settle(under_way, book)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _settle(under_way: set[Future[Entry]], book: Book[T]) -> None:
    ready, _ = wait(under_way, TICK, return_when=FIRST_COMPLETED)
    book.check_cancelled()
    for future in ready:
        under_way.remove(future)
        book.end(future.result())
