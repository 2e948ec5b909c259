"""What `overpaint batch` says: on the way, at the end, and of a folder."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overpaint.apps.cli import console
from overpaint.core.errors import ContentBlocked

if TYPE_CHECKING:
    from overpaint.jobs.batch import BatchOutcome
    from overpaint.jobs.book import Tally

LINE_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""


def tell_outcome(
    outcome: BatchOutcome, out: Path, seconds: float, *, pruned: bool, as_json: bool
) -> None:
    """Print the outcome of a run."""
    tally = outcome.tally
    if as_json:
        console.print_json(
            {
                "output": str(out),
                "tables": [str(table) for table in outcome.tables],
                **_counts(tally),
                "computed": tally.computed,
                "stale": len(outcome.stale),
                "seconds": round(seconds, 1),
            }
        )
        return
    for table in outcome.tables:
        sys.stdout.write(f"{table}\n")
    console.say(f"{_totals(tally)}; {tally.computed} in this run, {seconds:.1f} s")
    tell_sentences(tally)
    _tell_advice(outcome, pruned=pruned)


def _tell_advice(outcome: BatchOutcome, *, pruned: bool) -> None:
    from overpaint.jobs.output.predictions import has_parquet

    tell_failed(outcome.tally, "The table has the reasons")
    tell_stale(len(outcome.stale), pruned=pruned)
    if not outcome.tables:
        console.say("No tables: the same command without --shard joins all shares and writes them.")
    elif not has_parquet():
        console.say("No Parquet table: pip install 'overpaint[batch]'", style="dim")


def tell_failed(tally: Tally, where: str) -> None:
    """Say what to do about failures, and where all of their reasons are."""
    if failures := tally.statuses.get("failed", 0):
        them = "it" if failures == 1 else "them"
        console.say(f"{where}; --retry failed tries {them} again.", style="yellow")


def tell_stale(count: int, *, pruned: bool) -> None:
    """Say how many pictures in the folder belong to no row any longer."""
    if count:
        files = "1 picture" if count == 1 else f"{count} pictures"
        ending = "removed" if pruned else "left in the folder; --prune removes such files"
        console.say(f"{files} of earlier options or inputs: {ending}.", style="yellow")


def tell_status(folder: Path, *, as_json: bool) -> None:
    """Print how far the batch in a folder is.

    Raises:
        OutputError: there is none.
    """
    from overpaint.jobs.output import status

    batch_status = status.read(folder)
    left = batch_status.seconds_left
    if as_json:
        console.print_json(
            {
                "output": str(folder),
                **_counts(batch_status.tally),
                "total": batch_status.total,
                "running": batch_status.running,
                "rows_per_second": batch_status.pace,
                "seconds_left": None if left is None else round(left),
                "last": batch_status.last,
            }
        )
        return
    of = "" if batch_status.total is None else f" of {batch_status.total}"
    tally = batch_status.tally
    sys.stdout.write(f"{tally.finished_count}{of} rows: {_parts(tally) or 'none yet'}\n")
    if batch_status.running:
        pace = "" if not batch_status.pace else f", {batch_status.pace:.2f} rows a second"
        rest = "" if left is None else f", {timedelta(seconds=round(left))} left"
        sys.stdout.write(f"running ({', '.join(batch_status.running)}){pace}{rest}\n")
    else:
        sys.stdout.write("no process is working on it\n")
    if batch_status.last is not None:
        last = datetime.fromtimestamp(batch_status.last).astimezone()
        sys.stdout.write(f"last row: {last.isoformat(' ', 'seconds')}\n")
    tell_sentences(tally)


def exit_code(tally: Tally) -> int:
    """0 = a row is done, and none failed; blocked ones beside it are what a policy is for."""
    if not tally.statuses.get("failed"):
        nothing = tally.finished_count and not tally.statuses.get("done")
        return console.INPUT_AT_FAULT if nothing else 0
    from overpaint.jobs.book import input_codes

    codes = {code for code in tally.codes if code != ContentBlocked.code}
    return console.INPUT_AT_FAULT if codes <= input_codes() else console.OUR_FAULT


def _counts(tally: Tally) -> dict[str, Any]:
    from overpaint.jobs.ledger import STATUSES

    return {
        "rows": tally.finished_count,
        **{status: tally.statuses.get(status, 0) for status in STATUSES},
        "errors": dict(sorted(tally.codes.items())),
        **sentences(tally),
    }


def _totals(tally: Tally) -> str:
    count = tally.finished_count
    return f"{count} {'row' if count == 1 else 'rows'}: {_parts(tally)}"


def _parts(tally: Tally) -> str:
    from overpaint.jobs.ledger import STATUSES

    counts = ((tally.statuses.get(status, 0), status) for status in STATUSES)
    return ", ".join(f"{count} {status}" for count, status in counts if count)


def sentences(tally: Tally) -> dict[str, list[dict[str, Any]]]:
    """The commonest reasons of failures, and the commonest warnings, for programs."""
    return {
        name: [{"rows": count, "example": text} for text, count in sentence_counts.commonest()]
        for name, sentence_counts in (("reasons", tally.reasons), ("warnings", tally.warnings))
    }


def tell_sentences(tally: Tally) -> None:
    """The same, for people."""
    for line in (*tally.reasons.lines(), *tally.warnings.lines("warning: ")):
        console.say(f"  {line}", style="yellow")


class RowBar:
    """A bar of rows with how they ended and the time left; without a terminal, a line at times.

    Args:
        total: rows; None = not known yet.
        hidden: whether only lines are wanted.
        word: what a row is called.
    """

    def __init__(self, total: int | None, *, hidden: bool, word: str = "rows") -> None:
        from rich import progress

        terminal = console.messages()
        self.total, self.finished_count, self._word = total, 0, word
        self._is_bar = terminal.is_terminal and not hidden
        self._next_line = time.monotonic() + LINE_EVERY
        self._bar = progress.Progress(
            progress.TextColumn("[progress.description]{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn(word + "{task.fields[detail]}"),
            console=terminal,
            transient=True,
            disable=not self._is_bar,
        )
        self._task = self._bar.add_task("Editing", total=total, detail="")

    def __enter__(self) -> RowBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def __call__(self, tally: Tally) -> None:
        self.finished_count = tally.finished_count
        detail = "".join(
            f", {tally.statuses[status]} {status}"
            for status in ("failed", "blocked")
            if tally.statuses.get(status)
        )
        left = tally.seconds_left(self.total)
        if left is not None:
            detail += f", {timedelta(seconds=round(left))} left"
        if self._is_bar:
            self._bar.update(
                self._task, total=self.total, completed=tally.finished_count, detail=detail
            )
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            of = "" if self.total is None else f" of {self.total}"
            console.say(f"{tally.finished_count}{of} {self._word}{detail}")
