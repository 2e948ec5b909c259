"""Reasons that are counted, and a run that gives up."""

from __future__ import annotations

import pytest

from overpaint.core.errors import RunStopped
from overpaint.jobs.book import Book, SentenceCounter, Tally
from overpaint.jobs.ledger import LedgerEntry


def failed(number: int, code: str, reason: str = "") -> LedgerEntry:
    return LedgerEntry(id=str(number), status="failed", source="", code=code, reason=reason)


def test_the_commonest_reasons_leave_numbers_and_quotes_aside():
    tally = Tally()
    for row in range(5):
        tally.count(failed(row, "invalid_mask", f"row {row}: '{'abcde'[row]}' is no mask"))
    tally.count(failed(7, "invalid_image", "row 7: damaged"))
    assert tally.reasons.commonest() == [("row 0: 'a' is no mask", 5), ("row 7: damaged", 1)]


def test_of_reasons_that_differ_one_is_shown_as_an_example():
    reasons = SentenceCounter()
    for sentence in ("row 3: torn", "row 4: torn", "no answer", "no answer"):
        reasons.add(sentence)
    assert reasons.lines("note: ") == ["2 × note: e.g. row 3: torn", "2 × note: no answer"]


def test_warnings_are_counted_once_a_task():
    tally = Tally()
    for row in range(2):
        warnings = ["the prompt is long", "the prompt is long"]
        tally.count(LedgerEntry(id=str(row), status="done", source="", warnings=warnings))
    assert tally.warnings.commonest() == [("the prompt is long", 2)]
    assert tally.reasons.commonest() == []


def test_a_run_ends_when_a_server_is_down(ledger):
    book = Book(ledger=ledger, patience=3)
    for number in range(2):
        book.end(failed(number, "safety_unavailable"))
    with pytest.raises(RunStopped, match="the server is down"):
        book.end(failed(2, "safety_unavailable", "the server is down."))
    assert len(ledger) == 3


@pytest.mark.parametrize("between", ["done", "invalid_mask", "out_of_memory"])
def test_what_is_a_rows_own_fault_or_passes_does_not_end_a_run(ledger, between):
    book = Book(ledger=ledger, patience=2)
    for number in range(0, 6, 2):
        book.end(failed(number, "safety_unavailable"))
        if between == "done":
            book.end(LedgerEntry(id=str(number + 1), status="done", source=""))
        else:
            book.end(failed(number + 1, between))
    assert book.tally.finished_count == 6
