"""Rows as they are measured, one JSON line each, and the table of all of them at the end."""

from __future__ import annotations

import json
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]

COLUMNS = (
    "section", "row", "ours s", "before s", "diffusers s", "goal", "met", "host ms", "device ms",
    "launches", "peak GB", "gate", "note",
)  # fmt: skip

GRACE = 10.0
"""Seconds after a section's deadline in which it may end by itself."""


class OutOfTime(Exception):
    """A section has used up its seconds."""


class Journal:
    """Writes rows to a file at once and keeps them for the table.

    Args:
        file: JSON lines; written anew.
        seconds: for everything together.
        common: what every row says: card, versions.
    """

    def __init__(self, file: Path, seconds: float, common: Row) -> None:
        self.rows: list[Row] = []
        self.section = ""
        self._file, self._common = file, common
        self._planned = time.monotonic()
        self._end = self._deadline = self._planned + seconds
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("", encoding="utf-8")

    def add(self, row: str, **values: Any) -> None:
        """One row; values are columns of the table, others stay in the file alone."""
        line = {"section": self.section, "row": row, **values}
        self.rows.append(line)
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**line, **self._common}, default=str) + "\n")
        print(" | ".join(f"{key} {value}" for key, value in line.items()), flush=True)

    def check(self) -> None:
        """Go on if there is time.

        Raises:
            OutOfTime: there is none.
        """
        if time.monotonic() > self._deadline:
            raise OutOfTime(f"section '{self.section}' has used up its seconds")

    def attempt(self, row: str, work: Callable[[], Row]) -> Row | None:
        """A row of what `work` gives; where it fails, of why, and None."""
        self.check()
        try:
            values = work()
        except OutOfTime:
            raise
        except Exception as error:
            self.add(row, note=_first_line(error))
            return None
        self.add(row, **values)
        return values

    def run(self, section: str, seconds: float, work: Callable[[], None]) -> None:
        """A section with seconds of its own, and those that earlier ones left.

        What goes wrong in it is a row, not the end.
        """
        self.section = section
        began = time.monotonic()
        self._planned += seconds
        self._deadline = min(self._planned, self._end)
        try:
            self.check()
            with _interrupted_after(self._deadline + GRACE - began):
                work()
        except OutOfTime as error:
            self.add("out of time", note=str(error))
        except Exception as error:
            traceback.print_exc()
            self.add("failed", note=_first_line(error))
        self.add("seconds of the section", **{"ours s": round(time.monotonic() - began, 1)})

    def table(self) -> str:
        """All rows as Markdown, with the columns that any row uses."""
        used = [name for name in COLUMNS if any(name in row for row in self.rows)]
        lines = [used, ["---"] * len(used)]
        lines += [[str(row.get(name, "")) for name in used] for row in self.rows]
        return "\n".join(_line(each) for each in lines)


def goal(seconds: float, limit: float, *, counts: bool) -> Row:
    """What was hoped for beside what came; without a real card with real sizes nothing is met."""
    return {"goal": limit, "met": ("met" if seconds <= limit else "missed") if counts else "-"}


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:300]


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the midst of what takes too long, where signals can do that."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: object) -> None:
        raise OutOfTime("interrupted: it took far too long")

    before = signal.signal(signal.SIGALRM, ring)
    # Again where cleaning up takes too long as well.
    signal.setitimer(signal.ITIMER_REAL, max(0.1, seconds), 3 * GRACE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
