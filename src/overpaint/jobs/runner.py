"""Many units through one batcher: several under way, each answered or failed by itself.

    units ──→ load ──→ [Batcher] ──→ keep (write the pictures) ──→ ledger

A line of the ledger is written only after `keep` has the pictures on the disk, so whatever is
killed in between is made again, and nothing that is in the ledger is missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from overpaint.core.errors import Cancelled, ContentBlocked, OutputError, OverpaintError
from overpaint.jobs.book import TICK, Book
from overpaint.jobs.ledger import LedgerEntry
from overpaint.jobs.units import Unit

if TYPE_CHECKING:
    from overpaint.core.types import EditResult
    from overpaint.engine.batching.batcher import Batcher
    from overpaint.engine.batching.ticket import Ticket

UNDER_WAY = 4
"""Units between loading and writing: one is encoded, another stepped, a third written."""

UnderWay = dict["Future[EditResult]", tuple[Unit, "Ticket"]]

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Runner:
    """Brings units to their end.

    Attributes:
        batcher: makes the edits.
        keep: writes the picture of a result and gives its file, relative to the output folder.
            Called in the thread of `run`. An `OutputError` ends the run; another error fails the
            unit.
        book: says what is left to do, and gets the ends.
        under_way: units at most between loading and writing; bounds memory.
    """

    batcher: Batcher
    keep: Callable[[Unit, EditResult], str]
    book: Book[Unit]
    under_way: int = UNDER_WAY

    def run(self, units: Iterable[Unit]) -> None:
        """Bring all units to their end.

        Raises:
            Cancelled: the book's `cancelled` said so; what was under way is given up, all else is
                kept.
            OutputError: the disk is full or gone.
        """
        under_way: UnderWay = {}
        try:
            for unit in self.book.pending(units):
                while len(under_way) >= self.under_way:
                    self._settle(under_way)
                self._begin(unit, under_way)
            while under_way:
                self._settle(under_way)
        finally:
            for _, ticket in under_way.values():
                self.batcher.cancel(ticket)

    def _begin(self, unit: Unit, under_way: UnderWay) -> None:
        try:
            ticket = self.batcher.submit(unit.load())
        except Exception as error:
            self.book.end(failed(unit, error))
        else:
            under_way[ticket.future] = unit, ticket

    def _settle(self, under_way: UnderWay) -> None:
        """Wait until units are at their end, and write them down."""
        ready, _ = wait(under_way, TICK, return_when=FIRST_COMPLETED)
        self.book.check_cancelled()
        for future in ready:
            unit, ticket = under_way[future]
            self.book.end(outcome(unit, ticket, self.keep))
            del under_way[future]


def outcome(unit: Unit, ticket: Ticket, keep: Callable[[Unit, EditResult], str]) -> LedgerEntry:
    """The end of a unit whose edit is under way: waits for it, and keeps its picture.

    Raises:
        Cancelled, OutputError.
    """
    try:
        result = ticket.result()
        picture = keep(unit, result)
    except (Cancelled, OutputError):
        raise
    except Exception as error:
        return failed(unit, error)
    return LedgerEntry(
        id=unit.id,
        status="done",
        source=unit.source,
        prompt=unit.prompt,
        seed=result.seeds[0],
        picture=picture,
        flagged=result.flagged[0],
        warnings=result.warnings,
        recipe=result.recipe,
        timings=result.timings,
        extra=unit.extra,
    )


def failed(unit: Unit, error: Exception) -> LedgerEntry:
    """The end of a unit that gave an error instead of a result."""
    if isinstance(error, OverpaintError):
        code, reason = error.code, str(error)
    else:
        _log.debug("a unit failed: %s", unit.source, exc_info=error)
        code, reason = OverpaintError.code, f"unexpected {type(error).__name__}: {error}"
    blocked = isinstance(error, ContentBlocked)
    return LedgerEntry(
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


@dataclass(frozen=True)
class UnitWorker:
    """Brings one unit to its end, for those who have threads or processes of their own.

    Args:
        batcher: makes the edits.
        keep: as of a `Runner`.
    """

    batcher: Batcher
    keep: Callable[[Unit, EditResult], str]

    def __call__(self, unit: Unit) -> LedgerEntry:
        """Load, edit, keep; the unit fails alone.

        Raises:
            Cancelled, OutputError.
        """
        try:
            ticket = self.batcher.submit(unit.load())
        except Exception as error:
            entry = failed(unit, error)
        else:
            entry = outcome(unit, ticket, self.keep)
        return replace(entry, finished=time.time())  # here, and not when an actor's rows come back
