"""Recipes with the settings' models: what `overpaint collect` and `overpaint clean` run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from overpaint.apps.wiring.dataset_workers import Where, make_worker, model_names, worker_with
from overpaint.apps.wiring.models import batches, build, catalogue, defaults, families
from overpaint.core import licences
from overpaint.core.errors import InvalidRequest, ModelNotFound, OutputError
from overpaint.core.files import atomic_write, remove_leftovers
from overpaint.datasets import plan, trials
from overpaint.datasets.clean import Cleaning
from overpaint.datasets.collect import Collection as Collecting
from overpaint.datasets.outcome import Outcome
from overpaint.datasets.output import card
from overpaint.datasets.output.card import Facts, UsedModel
from overpaint.datasets.output.export import Exporter
from overpaint.datasets.output.report import Reporter
from overpaint.datasets.places import Item
from overpaint.datasets.recipes import prompts
from overpaint.datasets.recipes.recipe import Clean, Collect, Recipe
from overpaint.datasets.sources import readers
from overpaint.datasets.tasks import MADE, Task, complete, recipe_key, stale
from overpaint.jobs.book import PATIENCE, Book, Tally
from overpaint.jobs.inputs import FINGERPRINTS, Fingerprints
from overpaint.jobs.ledger import Ledger, Status

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.engine.engine import Engine

LEDGER = "ledger.jsonl"
RECIPE = "recipe.json"


@dataclass(kw_only=True)
class Run:
    """A recipe, ready to run.

    Args:
        recipe: checked.
        settings: of this machine.
        where: see `Where`.
        out: the folder that everything goes to.
    """

    recipe: Recipe
    settings: Settings
    where: Where
    out: Path

    def __post_init__(self) -> None:
        by_hand = defaults.chosen_by_hand(self.settings)
        by_hand = by_hand if self.recipe.model is None else (self.recipe.model, *by_hand)
        self.recipe = with_defaults(self.recipe, self.settings)
        self.engines: list[Engine] = []
        records: dict[str, Any] = {}
        if names := model_names(self.recipe):
            self.engines = build.engines(
                names[0],
                by_hand=by_hand,
                device=self.where.device,
                dtype=self.where.dtype,
                settings=self.settings,
            )
            records = {name: self.engines[0].model(name).record for name in names}
        check_policy(self.recipe, self.engines[0] if self.engines else None)
        _check_revision(self.recipe, records)
        for trial in trials.trials(self.recipe) if self.engines else ():
            trials.check(self.engines[0].model(trial.request.model).family.spec, trial)
        self.facts = _facts(self.recipe, records, self.settings)
        self.key = recipe_key(self.recipe, _keys(records))

    @property
    def notices(self) -> tuple[str, ...]:
        """Notices about its models: one of them may be a toy."""
        names = model_names(self.recipe) if self.engines else []
        return tuple(notice for name in names for notice in self.engines[0].model(name).notices)

    def items(self) -> Iterator[Item]:
        """All pictures of the recipe's sources."""
        return readers.items(self.recipe.sources)

    def plan(
        self, limit: int | None, fingerprints: Fingerprints | None = None
    ) -> Collecting | Cleaning:
        """What is to be made."""
        fingerprints = fingerprints or Fingerprints()
        if isinstance(self.recipe, Collect):
            return Collecting(
                recipe=self.recipe,
                cells=prompts.cells(self.recipe),
                items=list(self.items()),
                key=self.key,
                limit=limit,
                fingerprints=fingerprints,
            )
        return Cleaning(
            recipe=cast("Clean", self.recipe),
            items=self.items(),
            key=self.key,
            limit=limit,
            fingerprints=fingerprints,
        )

    def execute(
        self,
        *,
        retry: Collection[Status] = (),
        limit: int | None = None,
        prune: bool = False,
        verify: bool = False,
        on_progress: Callable[[Tally, int | None], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> tuple[Outcome, Tally]:
        """Make what is missing and decide what counts.

        Args:
            retry: tasks that ended in one of these ways are tried again.
            limit: attempts or pictures to work on at most; what earlier runs made counts, too.
            prune: remove made pictures that no task of this run is of; not with a limit.
            verify: read every source again, also where it seems unchanged.
            on_progress: called when a task is at its end, with the tasks known so far.
            cancelled: asked several times a second; True ends the run.

        Raises:
            Cancelled: all that ended is kept; the same call goes on.
            OutputError: the folder cannot be written to, another run is writing there, or it is a
                source.
            RunStopped: one task after the other fails for a reason that is not its own.
        """
        check_places(self.recipe, self.out)
        fingerprints = Fingerprints(self.out / FINGERPRINTS, verify=verify)
        job = self.plan(limit, fingerprints)
        with Ledger(self.out / LEDGER) as ledger, closing(fingerprints):
            for folder in (self.out, *(self.out / MADE).glob("??")):
                remove_leftovers(folder)
            book: Book[Task] = Book(
                ledger=ledger,
                complete=partial(complete, self.out),
                retry=retry,
                cancelled=cancelled,
                patience=PATIENCE,
            )
            outcome = self._executed(job, book, on_progress, limit)
            if limit is None:
                outcome.stale = stale(self.out, book.task_ids)
            for path in outcome.stale if prune else ():
                path.unlink(missing_ok=True)
            return outcome, book.tally

    def _executed(
        self,
        job: Collecting | Cleaning,
        book: Book[Task],
        on_progress: Callable[[Tally, int | None], None] | None,
        limit: int | None,
    ) -> Outcome:
        with self._executor(book) as work:
            if isinstance(job, Collecting):
                return job.run(book.ledger, partial(_rounds, book, work, on_progress))
            if on_progress is not None:
                total = sum(1 for _ in self.items()) if limit is None else limit
                book.on_progress = partial(_report, on_progress, total)
            work(job.tasks(book.ledger.ids))
            return job.outcome(book.ledger)

    def write(self, outcome: Outcome) -> Path:
        """Write data set, card, recipe and report, in place of earlier ones.

        Returns:
            The report.

        Raises:
            OutputError: they cannot be written.
        """
        text = card.card(self.facts, outcome)
        Exporter(folder=self.out, output=self.recipe.output, card=text).write(outcome)
        atomic_write(self.out / RECIPE, self.recipe.model_dump_json(indent=2).encode())
        return Reporter(folder=self.out, facts=self.facts).write(outcome)

    def preview(self, limit: int | None) -> dict[str, Any]:
        """What a run would do, from one picture that is made aside: see `datasets.plan`."""
        with (
            tempfile.TemporaryDirectory(prefix="overpaint-") as folder,
            worker_with(
                self.recipe, self.settings, self.engines, self.where.width, Path(folder)
            ) as worker,
        ):
            return plan.preview(self.plan(limit), worker, self.facts)

    @contextmanager
    def _executor(self, book: Book[Task]) -> Iterator[Callable[[Iterable[Task]], None]]:
        if self.where.ray is not None:
            make = partial(
                make_worker, self.recipe, self.settings, replace(self.where, ray=None), self.out
            )
            with batches.cluster(self.where.ray, self.where.actors) as cluster:
                yield lambda tasks: cluster.run(tasks, make, book, actors=self.where.actors)
            return
        from overpaint.jobs import pool

        with worker_with(
            self.recipe, self.settings, self.engines, self.where.width, self.out
        ) as worker:
            threads = self.where.threads * max(1, len(self.engines))
            yield lambda tasks: pool.run(tasks, worker, book, threads=threads)


def with_defaults(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with the settings' model where it names none."""
    if recipe.model is not None:
        return recipe
    if isinstance(recipe, Collect):
        edits = recipe.mask is None
    else:
        section = cast("Clean", recipe).edit
        edits = section is None or section.mask is None
    name = defaults.choose("edit" if edits else "inpaint", settings)
    return recipe.model_copy(update={"model": name})


def check_places(recipe: Recipe, out: Path) -> None:
    """Sources are never written to.

    Raises:
        OutputError: the output folder is a source, or lies in one that is read whole.
    """
    own = out.resolve()
    for source in recipe.sources:
        for place in (source.folder, source.imagefolder, source.parquet, source.webdataset):
            if place is not None and (
                own.is_relative_to(place.resolve()) or place.resolve().is_relative_to(own)
            ):
                raise OutputError(
                    f"{out} and the source {place} lie in each other; choose a folder beside it",
                    field="output",
                )


def check_policy(recipe: Recipe, engine: Engine | None) -> None:
    """A recipe can ask for a safety policy.

    Raises:
        InvalidRequest: there is none.
    """
    if recipe.safety == "required" and (engine is None or engine.policy.mode == "off"):
        raise InvalidRequest(
            "the recipe requires a safety policy, and none is set; see [safety] of overpaint.toml",
            field="recipe.safety",
        )


def _check_revision(recipe: Recipe, records: dict[str, Any]) -> None:
    if recipe.revision is None or recipe.model not in records:
        return
    here = str(records[recipe.model].get("revision", "none"))
    if not here.startswith(recipe.revision):
        raise ModelNotFound(
            f"'{recipe.model}' has revision {here}, the recipe wants {recipe.revision}; pull that "
            "one, or change the recipe",
            field="recipe.revision",
        )


def _facts(recipe: Recipe, records: dict[str, Any], settings: Settings) -> Facts:
    models = []
    for name, record in records.items():
        spec = catalogue.find_model(name, settings)
        models.append(
            UsedModel(
                name=name,
                revision=str(record.get("revision", "")),
                licence=spec.licence,
                commercial=licences.is_commercial(spec),
                reads_english_only=families.find(spec.family).reads_english_only,
            )
        )
    return Facts(recipe=recipe, models=tuple(models))


def _keys(records: dict[str, Any]) -> dict[str, Any]:
    from overpaint.jobs.units import model_key

    return {name: model_key(record) for name, record in records.items()}


def _rounds(
    book: Book[Task],
    work: Callable[[Iterable[Task]], None],
    on_progress: Callable[[Tally, int | None], None] | None,
    tasks: Iterable[Task],
    count: int,
) -> None:
    """A round of attempts: what is known of the whole grows with each."""
    if on_progress is not None:
        book.on_progress = partial(_report, on_progress, book.tally.finished_count + count)
    work(tasks)


def _report(
    on_progress: Callable[[Tally, int | None], None], total: int | None, tally: Tally
) -> None:
    on_progress(tally, total)
