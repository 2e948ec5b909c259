"""Many units through one batcher: several under way, each answered or failed by itself.

    units ──→ load ──→ [Batcher] ──→ keep (write the pictures) ──→ ledger

A line of the ledger is written only after `keep` has the pictures on the disk, so whatever is
killed in between is made again, and nothing that is in the ledger is missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from overpaint.core.errors import Cancelled, ContentBlocked, OutputError, OverpaintError
from overpaint.jobs.ledger import Entry, Ledger, Status
from overpaint.jobs.units import Unit

if TYPE_CHECKING:
    from overpaint.core.types import EditResult
    from overpaint.engine.batcher import Batcher
    from overpaint.engine.ticket import Ticket

UNDER_WAY = 4
"""Units between loading and writing: one is encoded, another stepped, a third written."""

TICK = 0.2
"""Seconds between two looks at whether the run shall end."""

UnderWay = dict["Future[EditResult]", tuple[Unit, "Ticket"]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What became of a result.

    Attributes:
        picture: file, relative to the output folder; None = nothing was written.
        rejected: why the result is no good; None = it is.
        extra: further plain values for the lineage.
    """

    picture: str | None = None
    rejected: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Tally:
    """How far a run is.

    Attributes:
        skipped: units that an earlier run had brought to an end.
        computed: units that this run brought to an end.
        statuses: how many units ended in each way, in this run and in earlier ones.
        codes: how many of them ended with each error.
        started: of the monotonic clock.
    """

    skipped: int = 0
    computed: int = 0
    statuses: dict[Status, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        """Units at their end."""
        return self.skipped + self.computed

    def seconds_left(self, total: int | None) -> float | None:
        """At this run's own pace; None = not known yet."""
        if total is None or not self.computed:
            return None
        return (time.monotonic() - self.started) / self.computed * max(0, total - self.ended)

    def count(self, status: Status, *, code: str = "", skipped: bool = False) -> None:
        """Take in the end of a unit."""
        self.skipped += skipped
        self.computed += not skipped
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if code:
            self.codes[code] = self.codes.get(code, 0) + 1


@dataclass(kw_only=True)
class Runner:
    """Brings units to their end.

    Attributes:
        batcher: makes the edits.
        ledger: what is in it is not made again.
        keep: writes the pictures of a result and says where, or why they are no good. Called in
            the thread of `run`. An `OutputError` ends the run; another error fails the unit.
        complete: whether what an entry names is still there; what is not is made again.
        retry: units that ended in one of these ways are tried again.
        under_way: units at most between loading and writing; bounds memory.
        on_progress: called when a unit is at its end.
        cancelled: asked several times a second; True ends the run.
    """

    batcher: Batcher
    ledger: Ledger
    keep: Callable[[Unit, EditResult], Kept]
    complete: Callable[[Entry], bool] = lambda _: True
    retry: Collection[Status] = ()
    under_way: int = UNDER_WAY
    on_progress: Callable[[Tally], None] | None = None
    cancelled: Callable[[], bool] = lambda: False

    def run(self, units: Iterable[Unit]) -> Tally:
        """Bring all units to their end.

        Returns:
            How they ended.

        Raises:
            Cancelled: `cancelled` said so; what was under way is given up, all else is kept.
            OutputError: the disk is full or gone.
        """
        tally = Tally()
        under_way: UnderWay = {}
        try:
            for unit in units:
                self._check_cancelled()
                if (entry := self._ended(unit)) is not None:
                    tally.count(entry.status, code=entry.code, skipped=True)
                    self._tell(tally)
                    continue
                while len(under_way) >= self.under_way:
                    self._settle(under_way, tally)
                self._begin(unit, under_way, tally)
            while under_way:
                self._settle(under_way, tally)
        finally:
            for _, ticket in under_way.values():
                self.batcher.cancel(ticket)
        return tally

    def _ended(self, unit: Unit) -> Entry | None:
        """How an earlier run ended the unit, if it need not be made."""
        entry = self.ledger.get(unit.id)
        if entry is None or entry.status in self.retry or not self.complete(entry):
            return None
        return entry

    def _begin(self, unit: Unit, under_way: UnderWay, tally: Tally) -> None:
        try:
            ticket = self.batcher.submit(unit.load())
        except Exception as error:
            self._end(_failed(unit, error), tally)
        else:
            under_way[ticket.future] = unit, ticket

    def _settle(self, under_way: UnderWay, tally: Tally) -> None:
        """Wait until units are at their end, and write them down."""
        ready, _ = wait(under_way, TICK, return_when=FIRST_COMPLETED)
        self._check_cancelled()
        for future in ready:
            unit, ticket = under_way[future]
            self._end(self._outcome(unit, ticket), tally)
            del under_way[future]

    def _outcome(self, unit: Unit, ticket: Ticket) -> Entry:
        try:
            result = ticket.result()
            kept = self.keep(unit, result)
        except (Cancelled, OutputError):
            raise
        except Exception as error:
            return _failed(unit, error)
        return Entry(
            id=unit.id,
            status="done" if kept.rejected is None else "rejected",
            source=unit.source,
            prompt=unit.prompt,
            seed=result.seeds[0],
            reason=kept.rejected or "",
            picture=kept.picture,
            flagged=result.flagged[0],
            recipe=result.recipe,
            timings=result.timings,
            extra={**unit.extra, **kept.extra},
        )

    def _end(self, entry: Entry, tally: Tally) -> None:
        attempts = self.ledger.attempts(entry.id) + 1
        self.ledger.append(replace(entry, attempts=attempts, finished=time.time()))
        tally.count(entry.status, code=entry.code)
        self._tell(tally)

    def _tell(self, tally: Tally) -> None:
        if self.on_progress is not None:
            self.on_progress(tally)

    def _check_cancelled(self) -> None:
        if self.cancelled():
            raise Cancelled("the run was cancelled")


def _failed(unit: Unit, error: Exception) -> Entry:
    """The end of a unit that gave an error instead of a result."""
    if isinstance(error, OverpaintError):
        code, reason = error.code, str(error)
    else:
        _log.debug("a unit failed: %s", unit.source, exc_info=error)
        code, reason = OverpaintError.code, f"unexpected {type(error).__name__}: {error}"
    blocked = isinstance(error, ContentBlocked)
    return Entry(
        id=unit.id,
        status="blocked" if blocked else "failed",
        source=unit.source,
        prompt=unit.prompt,
        seed=unit.seed,
        code=code,
        reason=reason,
        flagged=True if blocked else None,
        extra=unit.extra,
    )
