"""A batch: an input, an engine, and a folder that fills with pictures and ends with tables.

OUT/pictures/NAME.png     results, written whole or not at all
OUT/grids/NAME.png        input, mask and output side by side, where asked for
OUT/ledger.jsonl          what is done; a run that is started again goes on from it
OUT/predictions.csv, .parquet, timings.csv
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from overpaint.core.errors import OutputError
from overpaint.core.files import remove_leftovers
from overpaint.core.imaging import images
from overpaint.core.imaging.images import Picture
from overpaint.engine.batching.batcher import Batcher
from overpaint.jobs import grid, predictions
from overpaint.jobs.book import Book, Tally
from overpaint.jobs.ledger import Ledger, LedgerEntry, Status
from overpaint.jobs.runner import UNDER_WAY, Runner
from overpaint.jobs.units import Unit

if TYPE_CHECKING:
    from overpaint.core.types import EditResult
    from overpaint.engine.engine import Engine

LEDGER = "ledger.jsonl"
PICTURES = "pictures"
GRIDS = "grids"


@dataclass(frozen=True, kw_only=True)
class BatchOutcome:
    """What a batch gave.

    Attributes:
        tally: how its units ended.
        tables: files that say so.
    """

    tally: Tally
    tables: list[Path]


@dataclass(kw_only=True)
class Batch:
    """Units into a folder.

    Attributes:
        out: the folder; made where it is missing.
        engine: makes the edits; one, or one per device; used by this batch alone while it runs.
        width: images in a pass of the model at most. With 1 a picture has the same bytes whatever
            is made beside it; with more a GPU has more to do at a time, and pictures agree within
            rounding.
        retry: units that ended in one of these ways are tried again.
        limit: only so many units, the first ones; None = all.
        grids: draw input, mask and output side by side, too.
        on_progress: called when a unit is at its end.
        cancelled: asked several times a second; True ends the run.
    """

    out: Path
    engine: Engine | Sequence[Engine]
    width: int = 1
    retry: Collection[Status] = ()
    limit: int | None = None
    grids: bool = False
    on_progress: Callable[[Tally], None] | None = None
    cancelled: Callable[[], bool] = lambda: False

    def run(self, units: Iterable[Unit]) -> BatchOutcome:
        """Make what is not made yet, and write the tables.

        Raises:
            Cancelled: `cancelled` said so; the same call again goes on, and writes the tables.
            OutputError: the folder cannot be written to, or another process writes to it.
        """
        with Ledger(self.out / LEDGER) as ledger, _batcher(self.engine, self.width) as batcher:
            self._prepare_folders()
            order: list[tuple[str, str]] = []
            book: Book[Unit] = Book(
                ledger=ledger,
                complete=self._is_there,
                retry=self.retry,
                on_progress=self.on_progress,
                cancelled=self.cancelled,
            )
            under_way = (UNDER_WAY + self.width - 1) * len(batcher.engines)
            runner = Runner(batcher=batcher, keep=self._keep, book=book, under_way=under_way)
            runner.run(self._noted(itertools.islice(units, self.limit), ledger, order))
            tables = predictions.write(self.out, lambda: _entries(ledger, order))
        return BatchOutcome(tally=book.tally, tables=tables)

    def _prepare_folders(self) -> None:
        folders = [self.out / name for name in (PICTURES, *([GRIDS] if self.grids else []))]
        for folder in folders:
            try:
                folder.mkdir(exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{folder} cannot be made: {error.strerror}", field="output"
                ) from error
        for folder in (self.out, *folders):
            remove_leftovers(folder)

    def _noted(
        self, units: Iterable[Unit], ledger: Ledger, order: list[tuple[str, str]]
    ) -> Iterator[Unit]:
        """The units, their order noted, and sheets drawn of what an earlier run made."""
        for unit in units:
            order.append((unit.id, unit.source))
            entry = ledger.get(unit.id) if self.grids else None
            if entry is not None and entry.picture and self._is_there(entry):
                self._draw(unit, self.out / entry.picture)
            yield unit

    def _keep(self, unit: Unit, result: EditResult) -> str:
        picture = f"{PICTURES}/{name(unit)}.png"
        images.save(result.pictures[0], self.out / picture)
        if self.grids:
            self._draw(unit, self.out / picture)
        return picture

    def _is_there(self, entry: LedgerEntry) -> bool:
        return entry.picture is None or (self.out / entry.picture).is_file()

    def _draw(self, unit: Unit, picture: Path) -> None:
        """Draw the sheet of a unit, where there is none that is newer than its picture."""
        sheet = self.out / GRIDS / picture.name
        if sheet.exists() and sheet.stat().st_mtime_ns >= picture.stat().st_mtime_ns:
            return
        drawn = grid.draw(unit.load(), images.decode(picture).to_srgb())
        images.save(Picture(drawn), sheet)


def name(unit: Unit) -> str:
    """A file's name: where the unit comes from, for people, and a part of its id."""
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(unit.source).with_suffix("").as_posix())
    number = re.search(r"#\d+$", unit.source)
    stem = f"{words.strip('-')[-60:]}{number[0].replace('#', '-') if number else ''}"
    return f"{stem}-{unit.id[:12]}".lstrip("-")


@contextmanager
def _batcher(engines: Engine | Sequence[Engine], width: int) -> Iterator[Batcher]:
    batcher = Batcher(engines, width=width)
    try:
        yield batcher
    finally:
        batcher.close()


def _entries(ledger: Ledger, order: Iterable[tuple[str, str]]) -> Iterator[LedgerEntry]:
    """What came of the units, in the order of the input and with their places in it of today."""
    for unit, source in order:
        if (entry := ledger.get(unit)) is not None:
            yield replace(entry, source=source)
