"""Collect: make pictures cell by cell until each quota is met by pictures that pass.

Attempts of a cell are numbered; what attempt 7 gives depends on the recipe and the source alone.
After each round, the ledger decides in the attempts' order which of them count, so a run that was
killed, or ran elsewhere, ends with the same pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging import images
from overpaint.datasets.measure import Neighbours
from overpaint.datasets.outcome import Outcome, Rejection, unfit
from overpaint.datasets.places import Item
from overpaint.datasets.recipes.prompts import Cell, fill
from overpaint.datasets.recipes.recipe import Collect
from overpaint.datasets.tasks import Task, source_digest, task_id
from overpaint.datasets.worker import Result, TaskWorker
from overpaint.jobs.inputs import Fingerprints
from overpaint.jobs.ledger import Ledger, LedgerEntry
from overpaint.jobs.units import derive_seed

LEAST_RATE = 0.1
"""Share of attempts that pass, below which a round is not made larger."""


class Collector(TaskWorker[Collect]):
    """Makes one picture of a cell."""

    def work(self, task: Task, result: Result) -> None:
        """See `TaskWorker`."""
        picture = images.decode(task.item.image.read())
        result.mask = self.mask(self.recipe.mask, picture, task)
        request = self.request(picture, task.prompt, result.mask, task.seed)
        result.picture = self.edit(request, result)
        self.measure(result.picture, picture, task, result)


@dataclass
class _State:
    """How far a cell is.

    Attributes:
        tried: attempts that were made.
        members: pictures that count.
    """

    cell: Cell
    tried: int = 0
    members: int = 0


@dataclass
class Collection:
    """Plans rounds of attempts and decides which count.

    Args:
        recipe: what is wanted.
        cells: of its target distribution.
        items: pictures to start from; attempts take them in turn.
        key: of `tasks.recipe_key`.
        limit: attempts at most; those that an earlier run brought to an end are no new ones.
        fingerprints: of the pictures.
    """

    recipe: Collect
    cells: Sequence[Cell]
    items: Sequence[Item]
    key: str
    limit: int | None = None
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    _states: dict[str, _State] = field(init=False)
    _digests: dict[int, str | None] = field(init=False, default_factory=dict)
    _neighbours: Neighbours = field(init=False, default_factory=Neighbours)
    outcome: Outcome = field(init=False, default_factory=Outcome)

    def __post_init__(self) -> None:
        if not self.items:
            raise InvalidRequest("the sources have no pictures", field="recipe.sources")
        self._states = {cell.key: _State(cell) for cell in self.cells}

    @property
    def quota(self) -> int:
        """Pictures in all."""
        return sum(cell.quota for cell in self.cells)

    def run(self, ledger: Ledger, work: Callable[[Iterable[Task], int], None]) -> Outcome:
        """Make rounds until every quota is met, or nothing more may be tried.

        Args:
            ledger: has the entry of every task that `work` was given.
            work: brings tasks, so many of them, to their end.
        """
        while attempts := self.next_round(ledger.ids):
            tasks = [task for attempt in self._within_limit(attempts) for task in attempt]
            work(tasks, len(tasks))
            entries = [[_with_entry(ledger, task) for task in attempt] for attempt in attempts]
            for attempt in entries:
                self._decide(attempt)
            if all(entry.status == "failed" for attempt in entries for _, entry in attempt):
                self.outcome.stopped = (
                    f"All {len(tasks)} attempts of a round failed; mend what their reasons say, "
                    "then run again with --retry failed."
                )
                break
        for state in self._states.values():
            if state.members < state.cell.quota:
                self.outcome.missing[state.cell.key] = state.cell.quota - state.members
        self.outcome.target = {cell.key: cell.quota for cell in self.cells}
        return self.outcome

    def next_round(self, completed_ids: Container[str] = ()) -> list[list[Task]]:
        """The attempts of the next round, each its candidates; empty = there is no more to do.

        Args:
            completed_ids: of tasks that an earlier run brought to an end, also beyond the limit.
        """
        attempt_count = self._attempt_count
        passed = sum(state.members for state in self._states.values())
        rate = max(LEAST_RATE, passed / attempt_count) if attempt_count else 1.0
        left = math.inf if self.limit is None else self.limit - attempt_count
        attempts: list[list[Task]] = []
        for state in self._states.values():
            missing = state.cell.quota - state.members
            most = state.cell.quota * self.recipe.tries - state.tried
            for _ in range(min(math.ceil(missing / rate), most)):
                attempt = list(self._attempt(state.cell, state.tried))
                if len(attempts) >= left and not all(task.id in completed_ids for task in attempt):
                    break
                attempts.append(attempt)
                state.tried += 1
        return attempts

    @property
    def _attempt_count(self) -> int:
        return sum(state.tried for state in self._states.values())

    def _within_limit(self, attempts: list[list[Task]]) -> list[list[Task]]:
        """Those of a round that may be worked on; the others are at their end."""
        if self.limit is None:
            return attempts
        before = self._attempt_count - len(attempts)
        return attempts[: max(0, self.limit - before)]

    def _attempt(self, cell: Cell, attempt: int) -> Iterator[Task]:
        """The candidates of an attempt: one source, one prompt, seeds of their own."""
        recipe = self.recipe
        start = derive_seed(recipe.seed, first_source_of=cell.key)
        place = (start + attempt) % len(self.items)
        item = self.items[place]
        if place not in self._digests:
            self._digests[place] = source_digest(item, self.fingerprints)
        fields = {**item.fields, **cell.values}
        template = recipe.prompt[attempt % len(recipe.prompt)]
        prompt = fill(template, fields, field="recipe.prompt")
        for candidate in range(recipe.best_of):
            seed = derive_seed(recipe.seed, cell=cell.key, attempt=attempt, candidate=candidate)
            labels = {"cell": dict(cell.values), "attempt": attempt, "candidate": candidate}
            yield Task(
                id=task_id(
                    self.key, item, self._digests[place], prompt=prompt, seed=seed, **labels
                ),
                item=item,
                prompt=prompt,
                seed=seed,
                fields=fields,
                extra={**labels, "key": cell.key, "licence": item.licence},
            )

    def _decide(self, candidates: Sequence[tuple[Task, LedgerEntry]]) -> None:
        """Let the best candidate of an attempt count, if it may."""
        good = []
        for task, entry in candidates:
            if (reason := unfit(entry, self.recipe.filters)) is None:
                good.append((task, entry))
            else:
                self.outcome.rejected.append(Rejection(task, entry, reason))
        good.sort(key=lambda each: -self._score(each[1]))
        for other in good[1:]:
            self.outcome.rejected.append(
                Rejection(*other, "another picture of the attempt was better")
            )
        if not good:
            return
        best, entry = good[0]
        state = self._states[entry.extra["key"]]
        if state.members >= state.cell.quota:
            self.outcome.surplus += 1
            return
        own = entry.extra["measures"]["hash"]
        if self.recipe.filters.duplicates is not None:
            twin = self._neighbours.nearest(own, self.recipe.filters.duplicates)
            if twin is not None:
                self.outcome.duplicate(best, entry, twin)
                return
        self._neighbours.add(entry.id, own)
        state.members += 1
        self.outcome.keep(best, entry)

    def _score(self, entry: LedgerEntry) -> float:
        if self.recipe.best_by == "shows" and "shows" in entry.extra:
            return float(entry.extra["shows"]["score"])
        return float(entry.extra["measures"]["sharpness"])


def _with_entry(ledger: Ledger, task: Task) -> tuple[Task, LedgerEntry]:
    entry = ledger.get(task.id)
    assert entry is not None, "every task of a round was brought to its end"
    return task, entry
