"""The models that a server serves, and the names by which clients mean them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import adapters, catalogue, checkpoints, families
from overpaint.apps.wiring.models.defaults import task_of
from overpaint.checkpoints.files import layout
from overpaint.core.errors import InvalidSettings, ModelNotFound
from overpaint.core.models import EDIT_TASKS, EditTask, ModelSpec
from overpaint.diffusion.family import FamilySpec

CATCH_ALL = "*"
"""The alias of the model that makes what is asked of a name that is not served."""


@dataclass(frozen=True)
class Served:
    """A model that clients may name.

    Attributes:
        size_step: pixels that widths and heights are multiples of.
    """

    spec: ModelSpec
    family: FamilySpec
    size_step: int = 1


class ServedModels:
    """The models to serve.

    Args:
        settings: name them and their aliases.

    Attributes:
        all: by name, in the order in which they are loaded.

    Raises:
        ModelNotFound, ModelLoadError: a model to serve is not there.
        InvalidSettings: an alias is of a model that is not served.
    """

    def __init__(self, settings: Settings) -> None:
        self.all = _served(settings)
        self._settings = settings
        self._defaults = settings.defaults
        self._aliases = settings.server.aliases
        self._check_aliases()

    def add(self, spec: ModelSpec, settings: Settings) -> Served:
        """Serve one more model, which is here.

        Raises:
            ModelNotFound, ModelLoadError: it is not.
        """
        served = self.all[spec.name] = _one(spec, settings)
        return served

    def resolve(self, name: str | None, task: EditTask = "edit") -> Served:
        """The model that a client means: by name, alias, or family; None = the task's default.

        Raises:
            ModelNotFound: it is not served.
        """
        if name is None:
            name = self._default(task)
        name = self._aliases.get(name, name)
        catch_all = self._aliases.get(CATCH_ALL, name)
        if served := self._by_name(name) or self._adapted(name) or self._by_name(catch_all):
            return served
        listing = ", ".join(sorted({*self.all, *self._aliases}))
        raise ModelNotFound(f"there is no such model here; there are {listing}", field="model")

    def _default(self, task: EditTask) -> str:
        """The settings' model for a task where it is served, else the first that is made for it."""
        default: str = getattr(self._defaults, task)
        kind = "inpaint" if task == "extend" else task
        fitting = (name for name, each in self.all.items() if task_of(each.spec) == kind)
        names = (default, *fitting, *self.all)
        return next(name for name in names if name in self.all)

    def _by_name(self, name: str) -> Served | None:
        """The model of that name, or the first one of that family."""
        for served in self.all.values():
            if name in (served.spec.name, served.spec.family):
                return served
        return None

    def _adapted(self, name: str) -> Served | None:
        """A model that is served, with adapters that the name adds."""
        base, _, names = name.partition(adapters.JOINT)
        served = self._by_name(self._aliases.get(base, base)) if names else None
        if served is None or served.spec.source == "none":
            return None
        return replace(served, spec=adapters.adapted(served.spec, names, self._settings))

    def aliases_of(self, served: Served) -> list[str]:
        """Further names of a model."""
        names = self._aliases.items()
        return [alias for alias, target in names if self._by_name(target) is served]

    def _check_aliases(self) -> None:
        for alias, target in self._aliases.items():
            if self._by_name(target) is None:
                raise InvalidSettings(
                    f"'{target}' is not served; there are {', '.join(self.all)}",
                    field=f"server.aliases.{alias}",
                )


def _served(settings: Settings) -> dict[str, Served]:
    """The models to serve, checked to be there.

    Raises:
        ModelNotFound, ModelLoadError: one that the settings name is not.
        LicenceNotAccepted: of one of them.
    """
    defaults = settings.defaults
    names = settings.server.models or tuple(
        dict.fromkeys(
            name
            for name in (getattr(defaults, task) for task in EDIT_TASKS)
            if name in catalogue.models(settings)
            and catalogue.state(catalogue.find_model(name, settings), settings) == "ready"
        )
    )
    if not names:
        raise ModelNotFound(
            "there is nothing to serve: this machine has no default model; pull one, or "
            "name one with --model or in server.models",
            field="model",
        )
    specs = [catalogue.find_model(name, settings) for name in names]
    return {spec.name: _one(spec, settings) for spec in specs}


def _one(spec: ModelSpec, settings: Settings) -> Served:
    family = families.find(spec.family)
    if spec.source == "none":
        return Served(spec, family)
    folder = checkpoints.locate(spec, settings)
    return Served(spec, family, layout.size_step(folder, family.cells) if family.cells else 1)
