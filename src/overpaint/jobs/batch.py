"""A batch: an input, an engine, and a folder that fills with pictures and ends with tables.

OUT/pictures/NAME.png     results, written whole or not at all; OUT/pictures/ab/NAME.png of many
OUT/grids/NAME.png        input, mask and output side by side, where asked for
OUT/ledger.jsonl          what is done; a run that is started again goes on from it
OUT/ledger-2-of-3.jsonl   what a share of the work did; the next whole run takes it in
OUT/predictions.csv, .parquet, timings.csv
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from overpaint.core.files import remove_leftovers
from overpaint.diffusion.denoise import MAX_BATCH
from overpaint.engine.batching.batcher import Batcher
from overpaint.jobs.book import PATIENCE, Book, Tally
from overpaint.jobs.ledger import Ledger, LedgerEntry, Status
from overpaint.jobs.output import predictions, status
from overpaint.jobs.output.encoding import PictureEncoding
from overpaint.jobs.output.pictures import GRIDS, PICTURES, PictureFolder, sheet_of
from overpaint.jobs.runner import UNDER_WAY, Runner
from overpaint.jobs.shard import Shard
from overpaint.jobs.units import Unit

if TYPE_CHECKING:
    from overpaint.engine.engine import Engine

LEDGER = "ledger.jsonl"
SHARES = "ledger-*-of-*.jsonl"

TABLES_EVERY = 60.0
TABLES_SHARE = 50
"""Seconds between two writings of the tables on the way, and how many times those that one took."""

_RESULT = re.compile(r"-?[0-9a-f]{12}\.(png|jpg|webp)$")


class PlannedUnit(NamedTuple):
    """A unit's place in the input of today."""

    id: str
    source: str


@dataclass(frozen=True, kw_only=True)
class BatchOutcome:
    """The outcome of a batch.

    Attributes:
        tally: how its units ended.
        tables: files that say so; none where this was a share of the work.
        stale: pictures and sheets in the folder that no row names any more.
    """

    tally: Tally
    tables: list[Path]
    stale: list[Path] = field(default_factory=list)


@dataclass(kw_only=True)
class Batch:
    """Units into a folder.

    Attributes:
        out: the folder; made where it is missing.
        engine: makes the edits; one, or one per device; used by this batch alone while it runs.
            None = `elsewhere` does.
        width: images in a pass of the model at most. With 1 a picture has the same bytes whatever
            is made beside it; with more a GPU has more to do at a time, and pictures agree within
            rounding. None = learnt from the passes' times.
        retry: units that ended in one of these ways are tried again.
        limit: only so many units, the first ones; None = all.
        grids: draw input, mask and output side by side, too.
        encoding: how pictures are written; sheets are PNG.
        subfolders: spread the files over 256 folders, by the first digits of their units' ids.
        shard: this run's share of the work, which has a ledger of its own and writes no tables.
            The next run without one takes all shares' ledgers in.
        elsewhere: brings units to their end instead of `engine`, into the same folder.
        prune: remove pictures and sheets that no row names any more.
        total: rows of the input, for those who look into the folder; None = not known.
        on_progress: called when a unit is at its end.
        cancelled: asked several times a second; True ends the run.
    """

    out: Path
    engine: Engine | Sequence[Engine] | None = None
    width: int | None = 1
    retry: Collection[Status] = ()
    limit: int | None = None
    grids: bool = False
    encoding: PictureEncoding = field(default_factory=PictureEncoding)
    subfolders: bool = False
    shard: Shard | None = None
    elsewhere: Callable[[Iterable[Unit], Book[Unit]], None] | None = None
    prune: bool = False
    total: int | None = None
    on_progress: Callable[[Tally], None] | None = None
    cancelled: Callable[[], bool] = lambda: False

    def run(self, units: Iterable[Unit]) -> BatchOutcome:
        """Make what is not made yet, and write the tables.

        Raises:
            Cancelled: `cancelled` said so; the same call again goes on, and writes the tables.
            OutputError: the folder cannot be written to, or another process writes to it.
        """
        name_ = self.shard.ledger if self.shard else LEDGER
        with Ledger(self.out / name_) as ledger:
            self.folder.prepare()
            self._take_in(ledger)
            if self.total is not None:
                status.write_total(self.out, self.total)
            order: list[PlannedUnit] = []
            book: Book[Unit] = Book(
                ledger=ledger,
                complete=self.folder.has,
                retry=self.retry,
                on_progress=self.on_progress,
                cancelled=self.cancelled,
                patience=PATIENCE,
            )
            if self.shard is None:
                book.on_progress = _Tables(self, ledger, order, least=len(ledger))
            rest = iter(units)
            execute = self.elsewhere or self._execute
            execute(self._noted(itertools.islice(rest, self.limit), ledger, order), book)
            if self.shard is not None:
                return BatchOutcome(tally=book.tally, tables=[])
            return self._close(ledger, order, rest, book.tally)

    @property
    def folder(self) -> PictureFolder:
        """Where its pictures go."""
        return PictureFolder(
            out=self.out, encoding=self.encoding, grids=self.grids, subfolders=self.subfolders
        )

    def _execute(self, units: Iterable[Unit], book: Book[Unit]) -> None:
        assert self.engine is not None, "an engine, or elsewhere"
        batcher = Batcher(self.engine, width=self.width, in_bulk=True)
        try:
            width = MAX_BATCH if self.width is None else self.width
            under_way = (UNDER_WAY + width - 1) * len(batcher.engines)
            keep = self.folder.keep
            Runner(batcher=batcher, keep=keep, book=book, under_way=under_way).run(units)
        finally:
            batcher.close()

    def _close(
        self, ledger: Ledger, order: list[PlannedUnit], rest: Iterator[Unit], tally: Tally
    ) -> BatchOutcome:
        """Write the tables; what earlier runs made beyond the limit stays in them."""
        is_whole = self.limit is None
        if not is_whole and len(ledger) > len(order):
            more = (unit for unit in rest if ledger.status(unit.id) is not None)
            order += (PlannedUnit(unit.id, unit.source) for unit in more)
            is_whole = True
        tables = predictions.write(self.out, lambda: _entries(ledger, order))
        stale = self._stale(ledger, order) if is_whole else []
        if self.prune:
            for path in stale:
                path.unlink(missing_ok=True)
        return BatchOutcome(tally=tally, tables=tables, stale=stale)

    def _take_in(self, ledger: Ledger) -> None:
        """Take in the entries of other runs into this folder: a share those of the whole run, the
        whole run those of all shares.

        Raises:
            OutputError: one of them is still running.
        """
        if self.shard is not None:
            if (whole := self.out / LEDGER).exists():
                ledger.absorb(whole)
            return
        for share in sorted(self.out.glob(SHARES)):
            ledger.absorb(share)
            share.unlink()
        for folder in (self.out, *(self.out / name for name in (PICTURES, GRIDS))):
            for each in (folder, *(below for below in folder.glob("??") if below.is_dir())):
                remove_leftovers(each)

    def _stale(self, ledger: Ledger, order: Iterable[PlannedUnit]) -> list[Path]:
        """Files of ours that no row names."""
        names = {entry.picture for entry in _entries(ledger, order) if entry.picture}
        names |= {sheet_of(picture) for picture in names}
        folders = (self.out / PICTURES, self.out / GRIDS)
        files = (path for folder in folders for path in sorted(folder.rglob("*")))
        return [
            path
            for path in files
            if _RESULT.search(path.name) and path.relative_to(self.out).as_posix() not in names
        ]

    def _noted(
        self, units: Iterable[Unit], ledger: Ledger, order: list[PlannedUnit]
    ) -> Iterator[Unit]:
        """The units, their order noted; of what an earlier run made, sheets and new columns."""
        for unit in units:
            order.append(PlannedUnit(unit.id, unit.source))
            entry = ledger.get(unit.id)
            if entry is not None and entry.extra != unit.extra:
                entry = replace(entry, extra=unit.extra)
                ledger.append(entry, to_disk=False)
            if self.grids and entry is not None and entry.picture and self.folder.has(entry):
                self.folder.draw(unit, entry.picture)
            yield unit


@dataclass
class _Tables:
    """Writes the tables of the rows so far now and then, and passes progress on.

    The tables have an earlier run's rows too, so they are not written before all of those were
    seen.
    """

    batch: Batch
    ledger: Ledger
    order: list[PlannedUnit]
    least: int
    next: float = field(default_factory=lambda: time.monotonic() + TABLES_EVERY)

    def __call__(self, tally: Tally) -> None:
        if self.batch.on_progress is not None:
            self.batch.on_progress(tally)
        started = time.monotonic()
        if started >= self.next and len(self.order) >= self.least:
            predictions.write(self.batch.out, lambda: _entries(self.ledger, self.order))
            now = time.monotonic()
            self.next = now + max(TABLES_EVERY, TABLES_SHARE * (now - started))


def _entries(ledger: Ledger, order: Iterable[PlannedUnit]) -> Iterator[LedgerEntry]:
    """The entries of the units, in the order of the input and with their present places in it."""
    for unit, source in order:
        if (entry := ledger.get(unit)) is not None:
            yield replace(entry, source=source)
