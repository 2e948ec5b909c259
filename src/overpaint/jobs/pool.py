"""Tasks through threads: for work that is more than one edit.

    tasks ──→ work (in threads; edits meet in one batcher) ──→ ledger

`work` writes what it makes and then returns the entry; the ledger's line follows. A task that is
killed in between is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from overpaint.jobs.book import TICK, Book, WorkItem
from overpaint.jobs.ledger import LedgerEntry

THREADS = 8
"""Tasks under way: one is read while others are looked at, edited and written."""

T = TypeVar("T", bound=WorkItem)


def run(
    tasks: Iterable[T], work: Callable[[T], LedgerEntry], book: Book[T], *, threads: int
) -> None:
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
    under_way: set[Future[LedgerEntry]] = set()
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


def _settle(under_way: set[Future[LedgerEntry]], book: Book[T]) -> None:
    ready, _ = wait(under_way, TICK, return_when=FIRST_COMPLETED)
    book.check_cancelled()
    for future in ready:
        under_way.remove(future)
        book.end(future.result())
