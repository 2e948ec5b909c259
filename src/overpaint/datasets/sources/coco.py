"""Pictures and annotations of a COCO file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from overpaint.core.errors import InvalidRequest
from overpaint.datasets.places import Annotated, InFile, Item, Knowledge
from overpaint.datasets.recipes.sections import SourceSection
from overpaint.datasets.sources import tables

SAMPLE = 100
"""Pictures that are looked for before the first one is handed over."""

_Row = dict[str, Any]


def pictures(
    path: Path, source: SourceSection, inside: Callable[[Any], Path], field: str
) -> Iterator[Item]:
    """Its pictures; the annotations of the wanted categories are the mask, all are carried.

    Args:
        path: of the annotations.
        source: names the categories.
        inside: gives a file's path, or refuses its name.
        field: for errors.

    Raises:
        InvalidRequest: it is no COCO file, or its pictures are elsewhere.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        categories = tuple(document.get("categories", ()))
        names = {each["id"]: str(each["name"]) for each in categories}
        by_image: dict[Any, list[_Row]] = {}
        for each in document["annotations"]:
            row = {**each, "category": names.get(each.get("category_id"), "")}
            by_image.setdefault(each["image_id"], []).append(row)
        _check_there([inside(each["file_name"]) for each in document["images"][:SAMPLE]], field)
        for image in document["images"]:
            yield _item(image, by_image.get(image["id"], []), categories, source, inside)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(
            f"{path} is not a COCO annotation file: {error!r}", field=field
        ) from error


def _check_there(paths: list[Path], field: str) -> None:
    """A wrong folder is a mistake that all pictures share."""
    if paths and not any(path.is_file() for path in paths):
        raise InvalidRequest(
            f"{paths[0]} is not there; name the folder of the pictures with images", field=field
        )


def _item(
    image: _Row,
    annotations: list[_Row],
    categories: tuple[_Row, ...],
    source: SourceSection,
    inside: Callable[[Any], Path],
) -> Item:
    masks = [
        {key: each[key] for key in ("bbox", "segmentation") if key in each}
        for each in annotations
        if not source.categories or each["category"] in source.categories
    ]
    about = {key: value for key, value in image.items() if key not in ("id", "file_name")}
    labels = sorted({each["category"] for each in annotations})
    return Item(
        str(image["file_name"]),
        InFile(inside(image["file_name"])),
        Annotated(json.dumps(masks)),
        tables.fields(about) | {"labels": ", ".join(labels)},
        knowledge=Knowledge(
            columns=tables.knowledge({"id": image["id"], **about}).columns,
            annotations=tuple(annotations),
            categories=categories,
        ),
    )
