"""What one picture of a data set takes, as small data that any process can work on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from overpaint.core.errors import InvalidImage
from overpaint.datasets.places import InFile, Item, LinkedAway, Nowhere
from overpaint.datasets.recipes.recipe import Clean, Recipe
from overpaint.datasets.recipes.sections import COMMON
from overpaint.datasets.scope import scope
from overpaint.jobs.inputs import Fingerprints
from overpaint.jobs.ledger import LedgerEntry
from overpaint.jobs.units import digest, identify

FORMAT = 1
"""Version of the data that an id is made of; another one makes all pictures again."""

DECIDES_CLEANING = ("exact", "edit", "look", "rules", "gate")
"""Keys of a recipe that decide what cleaning gives."""

_WORDS = tuple(part.name for part in COMMON if not part.is_visual)

_MADE = re.compile(r"([0-9a-f]{32})(\.mask\.png|\.png|\.jpg|\.webp)")

MADE = "made"
"""Folder of all pictures that were made, good or bad, by the id of their task."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One picture to make or to clean.

    Attributes:
        id: hash of all that decides the result.
        item: the picture to start from.
        prompt: words, filled in; '' where the recipe's rules give them.
        seed: of the edit.
        fields: of the item and of the cell, for templates.
        extra: plain values for the lineage: cell, attempt, candidate.
    """

    id: str
    item: Item
    prompt: str
    seed: int
    fields: Mapping[str, str]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def picture(self, suffix: str) -> str:
        """File of the result, relative to the output folder."""
        return f"{MADE}/{self.id[:2]}/{self.id}{suffix}"

    @property
    def mask(self) -> str:
        """File of the mask that the edit had, relative to the output folder."""
        return f"{MADE}/{self.id[:2]}/{self.id}.mask.png"


def recipe_key(recipe: Recipe, models: Mapping[str, Any]) -> str:
    """Hash of the parts of a recipe that decide the results of all its tasks.

    A change of how many pictures are wanted, which of them count, or where they go makes no picture
    again; nor does another address or timeout of the vision model.

    Args:
        recipe: see above.
        models: `units.model_key` of each model by name.

    Raises:
        InvalidImage: a picture that all edits have cannot be read.
    """
    decides = {
        name: value
        for name, value in recipe.model_dump(mode="json").items()
        if name in (*_WORDS, "options", "mask", "detector", *DECIDES_CLEANING)
    }
    if isinstance(recipe, Clean):  # what the gate assumes counts, not that it does
        decides["gate"] = {**decides["gate"], "changed": list(scope(recipe).changed)}
    filters, vision = recipe.filters, recipe.vision
    # 'auto' stands where 'shares' was the default: ids of earlier versions hold.
    boxes = "shares" if vision is None or vision.boxes == "auto" else vision.boxes
    return identify(
        format=FORMAT,
        recipe=decides,
        shows=[filters.shows, filters.shows_by] if filters.shows else None,
        vision=[vision.model, boxes, vision.longest_side] if vision else None,
        models=dict(models),
        **({"rewrite": recipe.rewrite} if recipe.rewrite else {}),
        **recipe.output.encoding.identity(),
        **{"references": [], **_pictures(recipe)},  # always there in ids of earlier versions
    )


def _pictures(recipe: Recipe) -> dict[str, Any]:
    """Hashes of the pictures and masks that all edits have."""
    digests: dict[str, Any] = {}
    for part in COMMON:
        value = recipe.parts.get(part.name)
        if value is None or not part.is_visual:
            continue
        if part.kind == "pictures":
            digests[part.name] = [digest(InFile(path).read()) for path in value]
        else:
            digests[part.name] = digest(InFile(value).read())
    return digests


def task_id(key: str, item: Item, source: str | None, **parts: Any) -> str:
    """The id of a task.

    Args:
        key: of `recipe_key`.
        item: its mask counts by where it lies, its fields by their values.
        source: digest of the picture's bytes; None = it cannot be read.
        **parts: plain data of the task: words, seed, cell.
    """
    return identify(
        key=key,
        source=source if source is not None else f"unreadable {item.name}",
        mask=None if item.mask is None else repr(item.mask),
        fields=dict(item.fields),
        **parts,
    )


def source_digest(item: Item, fingerprints: Fingerprints) -> str | None:
    """Hash of the picture's bytes; None where they cannot be read: the task says why."""
    place = item.image
    try:
        if isinstance(place, LinkedAway | Nowhere):
            return digest(place.read())
        return fingerprints.sha256(
            place.path, lambda: sha256(place.read()).hexdigest(), part=place.part
        )
    except (InvalidImage, OSError):
        return None


def complete(folder: Path, entry: LedgerEntry) -> bool:
    """Whether the picture of an entry is still in the output folder."""
    return entry.picture is None or (folder / entry.picture).is_file()


def stale(folder: Path, ids: Collection[str]) -> list[Path]:
    """Pictures and masks that were made in the output folder for other tasks than these."""
    paths = sorted((folder / MADE).glob("??/*"))
    return [path for path in paths if (own := _MADE.fullmatch(path.name)) and own[1] not in ids]
