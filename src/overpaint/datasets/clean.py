"""Clean: bring pictures that are there into line, and keep the original where that failed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from overpaint.core.geometry import Box
from overpaint.core.imaging import detections, images, masks
from overpaint.core.imaging.images import Picture
from overpaint.core.models import ERASER
from overpaint.core.types import EditRequest
from overpaint.datasets import exact, gate, measure
from overpaint.datasets.outcome import Outcome, Rejection, unfit
from overpaint.datasets.places import Item
from overpaint.datasets.recipes.labels import fits
from overpaint.datasets.recipes.prompts import fill
from overpaint.datasets.recipes.recipe import Clean
from overpaint.datasets.recipes.sections import Rule
from overpaint.datasets.scope import scope
from overpaint.datasets.tasks import Task, source_digest, task_id
from overpaint.datasets.worker import Result, TaskWorker, Unfit
from overpaint.jobs.inputs import Fingerprints
from overpaint.jobs.units import derive_seed

if TYPE_CHECKING:
    from overpaint.core.imaging.detections import Detection
    from overpaint.jobs.ledger import Ledger

Ending = Literal["edited", "unchanged", "edit failed"]
"""What became of a picture that was cleaned."""

SOFT = 2
"""Pixels over which an edit that is limited to a part of a picture fades in."""

ByLabel = Mapping[str, Sequence["Detection"]]


@dataclass
class _Attempt:
    """An edit that the gate is to judge.

    Attributes:
        picture: the edited one.
        expected: 'L', where it was to change something; None = not known.
        labels: what should be gone.
    """

    picture: Picture
    expected: Image.Image | None = None
    labels: list[str] = field(default_factory=list)


class Cleaner(TaskWorker[Clean]):
    """Cleans one picture."""

    def work(self, task: Task, result: Result) -> None:
        """See `TaskWorker`."""
        source = images.decode(task.item.image.read())
        result.extra["before"] = measure.measures(source)
        picture, note = source, ""
        if self.recipe.exact is not None:
            picture, note = exact.apply(source, self.recipe.exact)
        picture = self._edited(picture, task, result)
        result.reason = "; ".join(filter(None, (note, result.reason)))
        is_edited = picture is not source and picture.sha256 != source.sha256
        result.extra.setdefault("ending", "edited" if is_edited else "unchanged")
        if is_edited:
            result.picture = picture
        self.measure(picture, source, task, result)

    def _edited(self, picture: Picture, task: Task, result: Result) -> Picture:
        """The picture after an edit that the gate lets pass, else the one before."""
        things = self._look(picture, result) if self.recipe.look is not None else {}
        failed_attempt: _Attempt | None = None
        for number in range(self.recipe.gate.tries):
            attempt = self._attempt(picture, things, _again(task, number), result)
            if attempt is None:  # there is nothing to do
                return picture
            verdict = self._judge(picture, attempt, result)
            result.extra["gate"] = dict(verdict.scores)
            if not verdict.reasons:
                result.extra["ending"], result.reason = "edited", ""
                result.mask = attempt.expected
                return attempt.picture
            result.reason = "; ".join(verdict.reasons)
            failed_attempt = attempt
        result.extra["ending"] = "edit failed"
        if failed_attempt is not None and self.recipe.gate.failed == "reject":
            result.picture = failed_attempt.picture
            raise Unfit(f"the edit failed: {result.reason}")
        return picture

    def _attempt(
        self, picture: Picture, things: ByLabel, task: Task, result: Result
    ) -> _Attempt | None:
        """The edit that the recipe asks for; None = nothing is to be done."""
        section = self.recipe.edit
        if section is not None:
            prompt = fill(section.prompt, task.fields, field="recipe.edit.prompt")
            mask = self.mask(section.mask, picture, task)
            return _Attempt(self.edit(self.request(picture, prompt, mask, task.seed), result), mask)
        if self.recipe.look is None:
            return None
        return self._by_rules(picture, things, task, result)

    def _look(
        self, picture: Picture, result: Result, labels: Sequence[str] = ()
    ) -> dict[str, list[Detection]]:
        """What is in the picture, by label, in the order of the labels, or as it was named.

        Args:
            picture: what to look at.
            result: notes how many things had labels that were not asked for.
            labels: what to look for; empty = what the recipe says, or whatever is there.
        """
        look = self.recipe.look
        assert look is not None, "the recipe was checked"
        labels = labels or look.labels
        things = self._things(picture, result, labels)
        sure = [
            each for each in things if each.confidence is None or each.confidence >= look.confidence
        ]
        if sure and self.tools.outline is not None:
            sure = list(self.tools.outline(picture, sure))
        names = labels or tuple(dict.fromkeys(str(each.label) for each in sure))
        return {
            label: of_label
            for label in names
            if (of_label := [each for each in sure if each.label == label])
        }

    def _things(
        self, picture: Picture, result: Result, labels: Sequence[str]
    ) -> Sequence[Detection]:
        assert self.recipe.look is not None, "the recipe was checked"
        if self.recipe.look.by == "detector":
            return [each for label in labels for each in self.detect(picture, label)]
        assert self.tools.vision is not None, "the recipe was checked"
        vision = self.tools.vision
        sighting = vision.find(picture, labels) if labels else vision.name(picture)
        unknown = result.extra.setdefault("unknown_labels", {}) if sighting.unknown else {}
        for label, count in sighting.unknown.items():
            unknown[label] = unknown.get(label, 0) + count
        return sighting.things

    def _by_rules(
        self, picture: Picture, things: ByLabel, task: Task, result: Result
    ) -> _Attempt | None:
        """Edit away what was found, label by label."""
        result.extra["found"] = {label: len(each) for label, each in things.items()}
        attempt = None
        for label, group in things.items():
            rule = self._rule(label)
            if rule is None or rule.do == "keep":
                continue
            if rule.do == "reject":
                raise Unfit(f"it has {label}")
            before = attempt or _Attempt(picture)
            attempt = self._apply(rule, label, group, before, task, result)
        return attempt

    def _rule(self, label: str) -> Rule | None:
        """The first rule that fits a label."""
        look = self.recipe.look
        is_open = look is not None and not look.labels
        rules = self.recipe.rules
        return next((rule for rule in rules if fits(rule.when, label, is_open=is_open)), None)

    def _apply(
        self,
        rule: Rule,
        label: str,
        group: Sequence[Detection],
        before: _Attempt,
        task: Task,
        result: Result,
    ) -> _Attempt:
        size = before.picture.size
        pixels = rule.grow if rule.within is None else rule.within
        around = masks.grow(detections.union(list(group), size), pixels)
        prompt = fill(rule.prompt, {**task.fields, "label": label}, field="recipe.rules.prompt")
        model = rule.model or (ERASER if rule.do == "erase" else self.recipe.model)
        mask = None if rule.do == "instruct" else around
        if model == self.recipe.model:
            request = self.request(before.picture, prompt, mask, task.seed)
            request = replace(request, options={**self.recipe.options, **rule.options})
        else:  # what the recipe says beside the words is for its own model
            request = EditRequest(
                image=before.picture,
                prompt=prompt,
                mask=mask,
                seed=task.seed,
                model=model,
                options=rule.options,
            )
        edited = self.edit(request, result)
        if rule.within is not None:
            edited = _limited(edited, before.picture, around)
        whole = around if before.expected is None else masks.combine([before.expected, around])
        return _Attempt(edited, whole, [*before.labels, label])

    def _judge(self, before: Picture, attempt: _Attempt, result: Result) -> gate.GateVerdict:
        """What the gate says of an edit."""
        again: list[Detection] | None = None
        if self.recipe.gate.gone and attempt.labels:
            labels = () if self.recipe.look and self.recipe.look.labels else attempt.labels
            things = self._look(attempt.picture, result, labels)
            again = [each for label in attempt.labels for each in things.get(label, [])]
        return gate.judge(
            before,
            attempt.picture,
            self.recipe.gate,
            changed=scope(self.recipe).changed,
            expected=attempt.expected,
            found_again=again,
            likeness=self.tools.likeness,
        )


@dataclass
class Cleaning:
    """Plans the tasks and decides, in the order of the sources, which pictures stay.

    Args:
        recipe: what is wanted.
        items: all pictures.
        key: of `tasks.recipe_key`.
        limit: pictures at most; those that an earlier run brought to an end are no new ones.
        fingerprints: of the pictures.
    """

    recipe: Clean
    items: Iterable[Item]
    key: str
    limit: int | None = None
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    _tasks: list[Task] = field(init=False, default_factory=list)

    def tasks(self, completed_ids: Collection[str] = ()) -> Iterator[Task]:
        """One for each picture; they are remembered for `outcome`.

        Args:
            completed_ids: of tasks that an earlier run brought to an end. Beyond the limit, these
                are remembered, too.
        """
        self._tasks = []
        earlier, rest = frozenset(completed_ids), set(completed_ids)
        for number, item in enumerate(self.items):
            is_beyond = self.limit is not None and number >= self.limit
            if is_beyond and not rest:
                return
            task = self._task(item)
            rest.discard(task.id)
            if not is_beyond or task.id in earlier:
                self._tasks.append(task)
            if not is_beyond:
                yield task

    def outcome(self, ledger: Ledger) -> Outcome:
        """What came of the tasks."""
        outcome, neighbours = Outcome(), measure.Neighbours()
        filters = self.recipe.filters
        for task in self._tasks:
            entry = ledger.get(task.id)
            assert entry is not None, "every task was brought to its end"
            reason = unfit(entry, filters)
            if reason is not None:
                outcome.rejected.append(Rejection(task, entry, reason))
                continue
            own = entry.extra["measures"]["hash"]
            if filters.duplicates is not None:
                twin = neighbours.nearest(own, filters.duplicates)
                if twin is not None:
                    outcome.duplicate(task, entry, twin)
                    continue
                neighbours.add(entry.id, own)
            outcome.keep(task, entry)
        return outcome

    def _task(self, item: Item) -> Task:
        source = source_digest(item, self.fingerprints)
        seed = derive_seed(self.recipe.seed, source=source or item.name)
        return Task(
            id=task_id(self.key, item, source, seed=seed),
            item=item,
            prompt="",
            seed=seed,
            fields=dict(item.fields),
            extra={"licence": item.licence},
        )


def _again(task: Task, number: int) -> Task:
    """The task for its next try: the first has the task's own seed, each other one of its own."""
    return replace(task, seed=derive_seed(task.seed, attempt=number)) if number else task


def _limited(edited: Picture, before: Picture, there: Image.Image) -> Picture:
    """The edited picture with what lies outside of a mask put back; within it the edge is soft."""
    if edited.size != before.size:  # which the gate lets pass in no case
        return edited
    whole = Box.of_size(before.size)
    base = before if edited.is_grey else before.in_colour()
    mixed = base.blended(edited.own_image(), masks.feather(there, SOFT), whole, in_srgb=False)
    return replace(edited, rgb=mixed.rgb, raster=mixed.raster)


def endings(outcome: Outcome) -> dict[str, int]:
    """How many pictures of the data set were edited, stayed, or kept their original."""
    counts: dict[str, Any] = {}
    for row in outcome.members:
        ending = row.entry.extra.get("ending", "edited")
        counts[ending] = counts.get(ending, 0) + 1
    return counts


def unknown_labels(outcome: Outcome) -> dict[str, int]:
    """Labels that the vision model gave and the recipe does not have, the commonest first."""
    counts: dict[str, int] = {}
    for entry in outcome.entries():
        for label, count in entry.extra.get("unknown_labels", {}).items():
            counts[label] = counts.get(label, 0) + count
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
