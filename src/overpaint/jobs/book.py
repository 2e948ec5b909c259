"""What is left to do, and how far a run is: the ledger's side of any way to run tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from overpaint.core.errors import Cancelled
from overpaint.jobs.ledger import Ledger, LedgerEntry, Status

TICK = 0.2
"""Seconds between two looks at whether the run should end."""


class WorkItem(Protocol):
    """Something to be worked on. It can be sent to another process."""

    @property
    def id(self) -> str:
        """As of a `Unit`."""


T = TypeVar("T", bound=WorkItem)


@dataclass
class Tally:
    """How far a run is.

    Attributes:
        skipped: tasks that an earlier run had brought to an end.
        computed: tasks that this run brought to an end.
        statuses: how many tasks ended in each way, in this run and in earlier ones.
        codes: how many of them ended with each error.
        has_work: whether there was a task that had to be worked on.
        started: when the first one was begun; of the monotonic clock.
    """

    skipped: int = 0
    computed: int = 0
    statuses: dict[Status, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    has_work: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        """Tasks at their end."""
        return self.skipped + self.computed

    def seconds_left(self, total: int | None) -> float | None:
        """At this run's own pace; None = not known yet."""
        if total is None or not self.computed:
            return None
        return (time.monotonic() - self.started) / self.computed * max(0, total - self.ended)

    def count(self, status: Status, *, code: str = "", skipped: bool = False) -> None:
        """Take in the end of a task."""
        self.skipped += skipped
        self.computed += not skipped
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if code:
            self.codes[code] = self.codes.get(code, 0) + 1


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
    complete: Callable[[LedgerEntry], bool] = lambda _: True
    retry: Collection[Status] = ()
    on_progress: Callable[[Tally], None] | None = None
    cancelled: Callable[[], bool] = lambda: False
    tally: Tally = field(default_factory=Tally)

    def pending(self, tasks: Iterable[T]) -> Iterator[T]:
        """The tasks that must be worked on; the others are counted.

        Raises:
            Cancelled: it was asked to end.
        """
        for task in tasks:
            self.check_cancelled()
            entry = self.ledger.get(task.id)
            if entry is None or entry.status in self.retry or not self.complete(entry):
                if not self.tally.has_work:
                    self.tally.has_work, self.tally.started = True, time.monotonic()
                yield task
            else:
                self.tally.count(entry.status, code=entry.code, skipped=True)
                self._tell()

    def end(self, entry: LedgerEntry) -> None:
        """Write down the end of a task; its time is now, where the entry has none.

        Raises:
            OutputError: the disk is full.
        """
        attempts = self.ledger.attempts(entry.id) + 1
        finished = entry.finished or time.time()
        self.ledger.append(replace(entry, attempts=attempts, finished=finished))
        self.tally.count(entry.status, code=entry.code)
        self._tell()

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the run should end."""
        if self.cancelled():
            raise Cancelled("the run was cancelled")

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.tally)
