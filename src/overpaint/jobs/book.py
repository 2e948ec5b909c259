"""What is left to do, and how far a run is: the ledger's side of any way to run tasks."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from overpaint.core.errors import Cancelled, InvalidRequest, RunStopped
from overpaint.jobs.ledger import Ledger, LedgerEntry, Status

TICK = 0.2
"""Seconds between two looks at whether the run should end."""


PATIENCE = 10
"""Tasks in a row that may fail for a reason that is not theirs."""

MAX_REASONS = 200
"""Kinds of reasons that are counted; further ones are not."""


MAX_LINES = 3
"""Kinds of reasons that are shown."""

_OWN = re.compile(r"'[^']*'|\S*/\S+|\S+\.\w{2,5}\b|[0-9]+")
"""Quoted words, files and numbers, which differ between tasks in the same sentence."""


class WorkItem(Protocol):
    """Something to be worked on. It can be sent to another process."""

    @property
    def id(self) -> str:
        """As of a `Unit`."""


T = TypeVar("T", bound=WorkItem)


@dataclass
class SentenceCounter:
    """How often each sentence was noted. Quoted words, files and numbers in it make no difference.

    Attributes:
        counts: by the sentence without these.
        examples: a sentence in full, by the same key.
        varied: keys of more than one sentence.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    varied: set[str] = field(default_factory=set)

    def add(self, sentence: str) -> None:
        """Count a sentence."""
        words = _OWN.sub("…", sentence)
        if words in self.counts or len(self.counts) < MAX_REASONS:
            self.counts[words] += 1
            if self.examples.setdefault(words, sentence) != sentence:
                self.varied.add(words)

    def commonest(self, most: int = MAX_LINES) -> list[tuple[str, int]]:
        """The commonest ones, an example of each, and how often it was noted."""
        return [(self.examples[words], count) for words, count in self.counts.most_common(most)]

    def lines(self, label: str = "") -> list[str]:
        """The commonest ones for people; of sentences that differ, one is named as an example."""
        return [
            f"{count} × {label}{'e.g. ' if words in self.varied else ''}{self.examples[words]}"
            for words, count in self.counts.most_common(MAX_LINES)
        ]


@dataclass
class Tally:
    """How far a run is.

    Attributes:
        skipped: tasks that an earlier run had brought to an end.
        computed: tasks that this run brought to an end.
        statuses: how many tasks ended in each way, in this run and in earlier ones.
        codes: how many of them ended with each error.
        reasons: why tasks failed.
        warnings: what their results warn of.
        has_work: whether there was a task that had to be worked on.
        started: when the first one was begun; of the monotonic clock.
    """

    skipped: int = 0
    computed: int = 0
    statuses: dict[Status, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    reasons: SentenceCounter = field(default_factory=SentenceCounter)
    warnings: SentenceCounter = field(default_factory=SentenceCounter)
    has_work: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def finished_count(self) -> int:
        """Tasks at their end."""
        return self.skipped + self.computed

    def seconds_left(self, total: int | None) -> float | None:
        """At this run's own pace; None = not known yet."""
        if total is None or not self.computed:
            return None
        return (
            (time.monotonic() - self.started) / self.computed * max(0, total - self.finished_count)
        )

    def count(self, entry: LedgerEntry, *, skipped: bool = False) -> None:
        """Take in the end of a task."""
        self.skipped += skipped
        self.computed += not skipped
        self.statuses[entry.status] = self.statuses.get(entry.status, 0) + 1
        if entry.code:
            self.codes[entry.code] = self.codes.get(entry.code, 0) + 1
        if entry.status == "failed" and entry.reason:
            self.reasons.add(entry.reason)
        for warning in dict.fromkeys(entry.warnings):
            self.warnings.add(warning)


@dataclass(kw_only=True)
class Book(Generic[T]):
    """What is left to do, and what was done: the ledger's side of any way to run tasks.

    Attributes:
        ledger: what is in it is not worked on again.
        complete: whether what an entry names is still there.
        retry: tasks that ended in one of these ways are tried again, once per book.
        on_progress: called when a task is at its end.
        cancelled: asked several times a second; True ends the run.
        patience: so many tasks in a row may fail with one and the same error that is not their
            input's fault; then the run ends. None = it never does.
        tally: how far it is.
        task_ids: ids of all tasks so far, worked on or not.
    """

    ledger: Ledger
    complete: Callable[[LedgerEntry], bool] = lambda _: True
    retry: Collection[Status] = ()
    on_progress: Callable[[Tally], None] | None = None
    cancelled: Callable[[], bool] = lambda: False
    patience: int | None = None
    tally: Tally = field(default_factory=Tally)
    task_ids: set[str] = field(default_factory=set)
    _in_a_row: tuple[str, int] = field(default=("", 0), init=False)

    def pending(self, tasks: Iterable[T]) -> Iterator[T]:
        """The tasks that must be worked on; the others are counted.

        Raises:
            Cancelled: it was asked to end.
        """
        for task in tasks:
            self.check_cancelled()
            self.task_ids.add(task.id)
            entry = self.ledger.get(task.id)
            if entry is None or entry.status in self.retry or not self.complete(entry):
                if not self.tally.has_work:
                    self.tally.has_work, self.tally.started = True, time.monotonic()
                yield task
            else:
                self.tally.count(entry, skipped=True)
                self._tell()

    def end(self, entry: LedgerEntry) -> None:
        """Write down the end of a task; its time is now, where the entry has none.

        Raises:
            OutputError: the disk is full.
            RunStopped: one task after the other fails for a reason that is not its own.
        """
        attempts = self.ledger.attempts(entry.id) + 1
        finished = entry.finished or time.time()
        self.ledger.append(replace(entry, attempts=attempts, finished=finished))
        self.tally.count(entry)
        self._tell()
        self._check_patience(entry)

    def _check_patience(self, entry: LedgerEntry) -> None:
        is_ours = entry.status == "failed" and entry.code not in input_codes()
        code, count = self._in_a_row
        self._in_a_row = (
            (entry.code, count + 1 if code == entry.code else 1) if is_ours else ("", 0)
        )
        if self.patience is not None and self._in_a_row[1] >= self.patience:
            reason = entry.reason.rstrip(".")
            raise RunStopped(
                f"{self.patience} in a row failed for a reason that is not theirs, so the run "
                f"ends here: {reason}. Once that is mended, --retry failed goes on."
            )

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the run should end."""
        if self.cancelled():
            raise Cancelled("the run was cancelled")

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.tally)


def input_codes(kind: type[InvalidRequest] = InvalidRequest) -> set[str]:
    """Codes of the errors where the input is at fault."""
    return {kind.code}.union(*(input_codes(each) for each in kind.__subclasses__()))
