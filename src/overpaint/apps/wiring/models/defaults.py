"""Which model answers where none is named, and which one to fetch.

'auto' is the first of `core.models.PREFERRED` that is here. If none is, a bundled twin answers: a
toy for tests, which says so in each of its results.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from overpaint.apps.wiring.models import catalogue, families
from overpaint.apps.wiring.models.catalogue import TWINS
from overpaint.checkpoints.machine import Machine, fit, this_machine
from overpaint.core import licences
from overpaint.core.errors import InvalidSettings, ModelLoadError
from overpaint.core.models import AUTO, EDIT_TASKS, PREFERRED, EditTask, ModelSpec

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings

TOY = "is a toy that knows only simple shapes and colours"
"""The beginning of the sentence that every result of a twin carries."""


@dataclass(frozen=True)
class Recommendation:
    """A model to fetch for a task.

    Attributes:
        spec: which.
        reason: why this one, in one sentence.
    """

    spec: ModelSpec
    reason: str


def choose(task: EditTask, settings: Settings) -> str:
    """Name of the model that does a task where none is named: the settings', or the best here."""
    default: str = getattr(settings.defaults, task)
    if default != AUTO:
        return default
    specs = catalogue.models(settings)
    preferred = [specs[name] for name in PREFERRED[task] if name in specs]
    for spec in preferred:
        if catalogue.state(spec, settings) == "ready":
            return spec.name
    twins = (f"{TWINS}{spec.family}" for spec in preferred)
    return next((name for name in twins if name in specs), preferred[0].name)


def resolved(settings: Settings) -> Settings:
    """The settings with the names of models in place of 'auto'."""
    names: dict[str, str] = {task: choose(task, settings) for task in EDIT_TASKS}
    return settings.model_copy(update={"defaults": settings.defaults.model_copy(update=names)})


def chosen_by_hand(settings: Settings) -> tuple[str, ...]:
    """Names of models that the settings themselves name."""
    defaults = (getattr(settings.defaults, task) for task in EDIT_TASKS)
    return (*settings.server.models, *(name for name in defaults if name != AUTO))


def choose_of_family(family: str, task: EditTask, settings: Settings) -> str:
    """Name of the model of a family that does a task: the settings' where it is of that family,
    else one that is here, the known before one's own, else the twin."""
    specs = catalogue.models(settings)
    default = choose(task, settings)
    if default in specs and specs[default].family == family and not _is_twin(specs[default]):
        return default
    for spec in _of_family(family, settings):
        if catalogue.state(spec, settings) == "ready":
            return spec.name
    twin = f"{TWINS}{family}"
    return twin if twin in specs else next((s.name for s in _of_family(family, settings)), family)


def recommend(task: EditTask, settings: Settings, machine: Machine | None = None) -> Recommendation:
    """The model to fetch for a task on this machine, or the one that is here.

    The first of `PREFERRED` that is quick here; else the first that fits; else the smallest.
    """
    machine = machine or this_machine()
    specs = catalogue.models(settings)
    preferred = [specs[name] for name in PREFERRED[task] if name in specs]
    fits = {spec.name: fit(spec, machine) for spec in preferred}
    quick = [spec for spec in preferred if fits[spec.name].is_quick]
    fitting = [spec for spec in preferred if fits[spec.name].fits]
    choice = (quick or fitting or sorted(preferred, key=lambda spec: spec.size_gb))[0]
    return Recommendation(choice, _reason(choice, preferred, machine))


def notice(spec: ModelSpec, settings: Settings, by_hand: Collection[str] = ()) -> str | None:
    """The sentence in the results of a twin that was not asked for by name.

    Args:
        spec: the model that answers.
        settings: say which models are here.
        by_hand: names that a person chose.
    """
    if not _is_twin(spec) or spec.name in by_hand:
        return None
    for task in EDIT_TASKS:
        if choose(task, settings) == spec.name:
            return toy(spec, recommend(task, settings).spec)
    return notice_of_family(spec, settings)


def notices(settings: Settings) -> list[str]:
    """Such a sentence for each task whose model is a toy that the settings do not name."""
    by_hand = chosen_by_hand(settings)
    names = dict.fromkeys(choose(task, settings) for task in EDIT_TASKS)
    specs = catalogue.models(settings)
    sentences = [notice(specs[name], settings, by_hand) for name in names if name in specs]
    return [sentence for sentence in sentences if sentence is not None]


def notice_of_family(spec: ModelSpec, settings: Settings) -> str | None:
    """The same, where no other family will do."""
    if not _is_twin(spec):
        return None
    return toy(spec, next(_of_family(spec.family, settings), None))


def real_model(spec: ModelSpec, settings: Settings) -> ModelSpec | None:
    """What to fetch in place of a twin for its task on this machine; None = it is not a twin."""
    task = task_of(spec) if _is_twin(spec) else None
    return None if task is None else recommend(task, settings).spec


def toy(twin: ModelSpec, real: ModelSpec | None) -> str:
    """What a twin is, and the command that fetches a real model."""
    cure = "name a real model with --model or in overpaint.toml"
    if real is not None and real.source == "hub":
        cure = (
            f"`overpaint pull {real.name}` ({real.size or 'size unknown'}, {real.licence}) fetches "
            "a real model"
        )
    return f"model: '{twin.name}' {TOY}; {cure}"


def task_of(spec: ModelSpec) -> EditTask | None:
    """What a model is for, by what its family accepts; None = its family is not here."""
    try:
        family = families.find(spec.family)
    except (InvalidSettings, ModelLoadError):
        return None
    if family.need("prompt") == "refused":
        return "erase"
    return "inpaint" if family.need("mask") == "required" else "edit"


def ranked(task: EditTask, settings: Settings) -> list[ModelSpec]:
    """All models for a task: the preferred ones in their order, one's own, the twins last."""
    order = {name: rank for rank, name in enumerate(PREFERRED[task])}
    specs = [spec for spec in catalogue.models(settings).values() if task_of(spec) == task]
    return sorted(specs, key=lambda spec: (_is_twin(spec), order.get(spec.name, len(order))))


def _reason(choice: ModelSpec, ranking: list[ModelSpec], machine: Machine) -> str:
    """Why that one of a ranking, which begins with the most preferred."""
    if choice.source == "none":
        return "it needs no weights"
    verdict = fit(choice, machine)
    reasons = [f"it {_verb(verdict.text)} on {machine}"]
    if not verdict.fits:
        reasons = [f"no model for this task fits {machine}; this one {_verb(verdict.text)}"]
    for spec in ranking[: ranking.index(choice)]:
        reasons.append(f"{spec.name}, which is preferred, {_verb(fit(spec, machine).text)}")
    noncommercial = [spec.name for spec in ranking if not licences.is_commercial(spec)]
    if choice.name in noncommercial:
        reasons.append("its licence forbids commercial use")
    elif noncommercial:
        *others, last = noncommercial
        names = f"{', '.join(others)} and {last}" if others else last
        reasons.append(f"its licence allows commercial use, unlike that of {names}")
    return "; ".join(reasons)


def _verb(verdict: str) -> str:
    return verdict if verdict.startswith("fits") else f"is {verdict}"


def _is_twin(spec: ModelSpec) -> bool:
    return spec.source == "bundled"


def _of_family(family: str, settings: Settings) -> Iterator[ModelSpec]:
    """Real models of a family: the preferred ones first, one's own last."""
    order = {name: rank for rank, name in enumerate(chain.from_iterable(PREFERRED.values()))}
    own = set(settings.models)
    specs = [
        spec
        for spec in catalogue.models(settings).values()
        if spec.family == family and not _is_twin(spec)
    ]
    yield from sorted(specs, key=lambda spec: (spec.name in own, order.get(spec.name, len(order))))
