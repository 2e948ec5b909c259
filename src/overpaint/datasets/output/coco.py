"""A data set as COCO: what the sources annotated and is still there, or what was edited."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from overpaint.datasets.output.formats import DataSetLayout, Sample, run_lengths, suffix

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Row = dict[str, Any]

_ABOUT = ("width", "height", "prompt", "source_name", "licence", "seed")
"""Columns of ours that the entry of a picture has."""


def coco(folder: Path, samples: Iterable[Sample], layout: DataSetLayout) -> None:
    """Pictures and annotations.json.

    If the sources have annotations, annotations.json has these with their ids, and `edited.json`
    has the area of each edited picture; else annotations.json has the edited areas, by cell.
    """
    (folder / "images").mkdir()
    pictures: list[_Row] = []
    things: list[_Row] = []
    areas: list[_Row] = []
    listed: dict[str, _Row] = {}
    for number, sample in enumerate(samples, 1):
        name = f"{sample.key}{suffix(sample.image)}"
        (folder / "images" / name).write_bytes(sample.image)
        about = {key: sample.metadata[key] for key in (*_ABOUT, *layout.carried)}
        pictures.append({**about, "id": number, "file_name": name})
        for category in sample.categories:
            listed.setdefault(str(category["name"]), dict(category))
        things += [{**each, "image_id": number} for each in sample.annotations]
        edited = sample.edited()
        if edited.any():
            areas.append(_area(number, _cell_name(sample.metadata), edited))
    document = _document(pictures, areas, {})
    if layout.is_annotated:
        _write(folder / "edited.json", document)
        document = _document(pictures, things, listed)
    _write(folder / "annotations.json", document)


def _document(pictures: list[_Row], annotations: list[_Row], listed: dict[str, _Row]) -> _Row:
    """With ids of the source where they are unique, else with numbers from 1."""
    names = dict.fromkeys(str(each.get("category", "")) for each in annotations)
    for name in names:
        listed.setdefault(name, {"name": name})
    categories = _numbered(list(listed.values()))
    ids = {each["name"]: each["id"] for each in categories}
    rows = []
    for each in _numbered(annotations):
        row = {key: value for key, value in each.items() if key != "category"}
        rows.append({"iscrowd": 0, **row, "category_id": ids[str(each.get("category", ""))]})
    return {"images": pictures, "annotations": rows, "categories": categories}


def _numbered(rows: list[_Row]) -> list[_Row]:
    own = [row.get("id") for row in rows]
    if all(isinstance(each, int) for each in own) and len(set(own)) == len(own):
        return rows
    return [{**row, "id": number} for number, row in enumerate(rows, 1)]


def _area(image: int, label: str, mask: NDArray[np.bool_]) -> _Row:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "image_id": image,
        "category": label,
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
    }


def _cell_name(metadata: Mapping[str, Any]) -> str:
    axes = [str(value) for key, value in metadata.items() if key.startswith("axis_")]
    return " ".join(axes) or "edited"


def _write(path: Path, document: _Row) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
