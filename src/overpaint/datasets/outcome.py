"""What came out of a run: rows of the data set, and what was left out, with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from overpaint.datasets.recipes.sections import Filters
from overpaint.datasets.tasks import Task
from overpaint.jobs.ledger import LedgerEntry


@dataclass(frozen=True)
class Member:
    """A picture of the data set."""

    task: Task
    entry: LedgerEntry

    @property
    def is_made(self) -> bool:
        """Whether it differs from its source."""
        return self.entry.picture is not None


@dataclass(frozen=True)
class Rejection:
    """A picture that was left out.

    Attributes:
        reason: one sentence.
        like: id of the picture that it nearly repeats, if that is why.
    """

    task: Task
    entry: LedgerEntry
    reason: str
    like: str | None = None


@dataclass
class Outcome:
    """All of a run.

    Attributes:
        members: the data set, in its order.
        rejected: what was left out.
        surplus: good pictures beyond their cell's quota.
        target: pictures wanted by cell; empty where there is no target.
        missing: pictures that cells still lack.
        stopped: why the run gave up early; None = it did not.
        stale: made pictures of earlier recipes or sources; empty where only some tasks were looked
            at.
    """

    members: list[Member] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    surplus: int = 0
    target: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None
    stale: list[Path] = field(default_factory=list)
    _names: dict[str, str] = field(init=False, default_factory=dict, repr=False)

    def keep(self, task: Task, entry: LedgerEntry) -> None:
        """Take a picture into the data set."""
        self.members.append(Member(task, entry))
        name = entry.picture if "cell" in entry.extra else task.item.name
        self._names[entry.id] = name or task.item.name

    def duplicate(self, task: Task, entry: LedgerEntry, like: str) -> None:
        """Leave out what nearly repeats a picture that is in."""
        reason = f"nearly the same as {self._names[like]}"
        self.rejected.append(Rejection(task, entry, reason, like))

    def statuses(self) -> dict[str, int]:
        """How many were left out in each way."""
        counts: dict[str, int] = {}
        for each in self.rejected:
            status = "duplicate" if each.like else each.entry.status
            status = "rejected" if status == "done" else status
            counts[status] = counts.get(status, 0) + 1
        return counts

    def entries(self) -> Iterator[LedgerEntry]:
        """Entries of all tasks that were made or looked at, without the surplus."""
        for row in self.members:
            yield row.entry
        for each in self.rejected:
            yield each.entry


def unfit(entry: LedgerEntry, filters: Filters) -> str | None:
    """Why a picture is left out; None = it passes. Duplicates are another matter."""
    if entry.status != "done":
        return entry.reason
    measures, shows = entry.extra["measures"], entry.extra.get("shows", {})
    if min(measures["width"], measures["height"]) < filters.least_side:
        return f"its shorter side has less than {filters.least_side} pixels"
    if issues := [issue for issue in measures["issues"] if issue in filters.issues]:
        return f"issues: {', '.join(issues)}"
    if filters.changed is not None:
        least, most = filters.changed
        if not least <= measures["changed"] <= most:
            return f"{measures['changed']:.2%} of it changed, not {least:.2%} to {most:.2%}"
    if filters.shows is not None and not (shows["true"] and shows["score"] >= filters.shows_score):
        return f"it does not show '{shows['words']}' (score {shows['score']:.2f})"
    return None
