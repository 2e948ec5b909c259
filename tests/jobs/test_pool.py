"""Tasks through threads: what ends is kept, what is cancelled is not."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from overpaint.core.errors import Cancelled, OutputError
from overpaint.jobs import pool
from overpaint.jobs.book import Book, Tally
from overpaint.jobs.ledger import Ledger, LedgerEntry


@dataclass(frozen=True)
class Numbered:
    id: str


def tasks(count: int) -> list[Numbered]:
    return [Numbered(str(number)) for number in range(count)]


def done(task: Numbered) -> LedgerEntry:
    failed = task.id == "3"
    return LedgerEntry(id=task.id, status="failed" if failed else "done", source="s")


def test_each_is_done_once(tmp_path: Path) -> None:
    worked: list[str] = []

    def work(task: Numbered) -> LedgerEntry:
        worked.append(task.id)
        return done(task)

    with Ledger(tmp_path / "l.jsonl") as ledger:
        for _ in range(2):
            book: Book[Numbered] = Book(ledger=ledger, tally=Tally())
            pool.run(tasks(6), work, book, threads=3)
        assert (book.tally.skipped, book.tally.computed) == (6, 0)
        assert sorted(worked) == list("012345")
        again: Book[Numbered] = Book(ledger=ledger, tally=Tally(), retry=("failed",))
        pool.run(tasks(6), work, again, threads=3)
        assert again.tally.computed == 1
        entry = ledger.get("3")
        assert entry is not None
        assert entry.attempts == 2


def test_the_time_of_an_end_is_the_workers_own_where_it_tells_one(tmp_path: Path) -> None:
    def work(task: Numbered) -> LedgerEntry:
        return replace(done(task), finished=7.0 if task.id == "0" else 0.0)

    with Ledger(tmp_path / "l.jsonl") as ledger:
        pool.run(tasks(2), work, Book(ledger=ledger), threads=1)
        first, second = ledger.get("0"), ledger.get("1")
    assert first is not None
    assert second is not None
    assert (first.finished, second.finished > 1e9) == (7.0, True)


def test_what_is_incomplete_is_done_again(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.jsonl") as ledger:
        pool.run(tasks(4), done, Book(ledger=ledger, tally=Tally()), threads=2)
        book: Book[Numbered] = Book(
            ledger=ledger, tally=Tally(), complete=lambda entry: entry.id != "2"
        )
        pool.run(tasks(4), done, book, threads=2)
        assert book.tally.computed == 1


def test_cancelled_it_keeps_what_ended(tmp_path: Path) -> None:
    cancelled = threading.Event()

    def work(task: Numbered) -> LedgerEntry:
        if task.id == "4":
            cancelled.set()
        return done(task)

    with Ledger(tmp_path / "l.jsonl") as ledger:
        book: Book[Numbered] = Book(ledger=ledger, tally=Tally(), cancelled=cancelled.is_set)
        with pytest.raises(Cancelled):
            pool.run(tasks(100), work, book, threads=1)
        assert 3 <= len(ledger) <= 5
        assert ledger.status("0") == "done"


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    def work(task: Numbered) -> LedgerEntry:
        raise OutputError("the disk is full", field="output")

    with Ledger(tmp_path / "l.jsonl") as ledger:
        with pytest.raises(OutputError):
            pool.run(tasks(9), work, Book(ledger=ledger, tally=Tally()), threads=2)
        assert len(ledger) == 0
