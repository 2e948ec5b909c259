"""Which families there are: folders of `overpaint.families`, and entry points of other packages."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points

from overpaint import families
from overpaint.core.errors import InvalidSettings, ModelLoadError
from overpaint.diffusion.family import FamilySpec

ENTRY_POINTS = "overpaint.families"
"""Group under which other packages register the spec of a family."""


def names() -> list[str]:
    """Names of all families."""
    foreign = (point.name for point in entry_points(group=ENTRY_POINTS))
    return sorted({*_own(), *foreign})


def find(name: str) -> FamilySpec:
    """The family of that name.

    Raises:
        InvalidSettings: there is none; only a model of the settings can name such a family.
        ModelLoadError: its package cannot be imported.
    """
    if own := _own().get(name):
        return own
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            foreign: FamilySpec = point.load()
        except (ImportError, AttributeError) as error:
            raise ModelLoadError(
                f"family '{name}' of {point.value} cannot be imported: {error}"
            ) from error
        return foreign
    family_names = names()
    near = difflib.get_close_matches(name, family_names, n=3)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise InvalidSettings(
        f"there is no family '{name}'{hint}; known are {', '.join(family_names)}",
        field="models.*.family",
    )


def importable() -> Iterator[FamilySpec]:
    """All that can be imported; a broken one of another package harms only its own users."""
    for name in names():
        try:
            yield find(name)
        except ModelLoadError:
            continue


def _own() -> dict[str, FamilySpec]:
    modules = (
        importlib.import_module(f"{families.__name__}.{folder.name}")
        for folder in pkgutil.iter_modules(families.__path__)
    )
    return {spec.name: spec for module in modules for spec in module.FAMILIES}
