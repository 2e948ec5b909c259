"""How far a batch is, from its folder alone: also while it runs, and from another machine."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overpaint.core.errors import OutputError
from overpaint.core.files import atomic_write
from overpaint.jobs import ledger
from overpaint.jobs.book import Tally

TOTAL = "run.json"
RECENT = 200
"""Rows whose ends give the pace."""


@dataclass(frozen=True)
class BatchStatus:
    """How far a batch is.

    Attributes:
        tally: ends so far, of the whole and of all shares of the work.
        total: rows of the input; None = not known.
        running: ledgers that a process writes to at this moment.
        last: when the last row ended, in seconds since 1970; None = none did.
        pace: rows a second, lately; None = not known.
    """

    tally: Tally
    total: int | None
    running: list[str]
    last: float | None
    pace: float | None

    @property
    def seconds_left(self) -> float | None:
        """At the present pace; None = not known, or nobody works on it."""
        if self.total is None or not self.pace or not self.running:
            return None
        return max(0, self.total - self.tally.finished_count) / self.pace


def write_total(out: Path, total: int) -> None:
    """Note how many rows there are, for `read`."""
    atomic_write(out / TOTAL, json.dumps({"rows": total}).encode())


def read(out: Path) -> BatchStatus:
    """The status of the batch in a folder; nothing there is changed or held up.

    Raises:
        OutputError: there is no batch.
    """
    paths = sorted(out.glob("ledger*.jsonl"))
    if not paths:
        raise OutputError(f"{out} has no ledger: no batch was started there", field="status")
    latest: dict[str, ledger.LedgerEntry] = {}
    for path in paths:
        for entry in ledger.entries(path):
            previous = latest.get(entry.id)
            if previous is None or entry.attempts >= previous.attempts:
                latest[entry.id] = entry
    tally = Tally()
    for entry in latest.values():
        tally.count(entry)
    ends = sorted(entry.finished for entry in latest.values())
    running = [path.name for path in paths if ledger.is_held(path)]
    return BatchStatus(tally, _total(out), running, ends[-1] if ends else None, _pace(ends))


def _total(out: Path) -> int | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        value: Any = json.loads((out / TOTAL).read_text(encoding="utf-8"))["rows"]
        return int(value)
    return None


def _pace(ends: list[float]) -> float | None:
    recent = ends[-RECENT:]
    seconds = time.time() - recent[0] if len(recent) > 1 else 0.0
    return (len(recent) - 1) / seconds if seconds > 0 else None
