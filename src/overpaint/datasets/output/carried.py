"""What a source knew of a picture, as it holds after the edit: columns, annotations, masks.

An edit that repaints a thing removes its annotation: a thing of which at least `COVERED` was
repainted is left out, and the source's mask is 0 there. An edit without a mask leaves things where
they were.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from overpaint.core.errors import OverpaintError
from overpaint.core.imaging import detections

if TYPE_CHECKING:
    from numpy.typing import NDArray

COVERED = 0.5
"""Share of a thing from which on it counts as repainted."""

_CAPTIONS = ("txt", "caption", "text")


def columns(source_columns: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """The source's columns; `source_` goes before a name that is ours."""
    return {
        f"source_{name}" if name in own else name: value for name, value in source_columns.items()
    }


def remaining(
    annotations: Sequence[Mapping[str, Any]], repainted: NDArray[np.bool_] | None
) -> list[dict[str, Any]]:
    """The annotations of things that the edit left there.

    Args:
        annotations: as COCO has them.
        repainted: H x W; None = nothing was.
    """
    if repainted is None or not repainted.any():
        return [dict(each) for each in annotations]
    return [dict(each) for each in annotations if _covered(each, repainted) < COVERED]


def objects(annotations: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Annotations as the column `objects` of Hugging Face's detection data sets.

    Boxes are left, top, width, height; segmentations are JSON, because they come in two forms.
    """
    kinds: dict[str, Any] = {"id": int, "area": float, "iscrowd": int}
    columns: dict[str, list[Any]] = {
        "bbox": [[float(x) for x in each.get("bbox", ())] for each in annotations],
        "category": [str(each.get("category", "")) for each in annotations],
        "segmentation": [_json(each.get("segmentation")) for each in annotations],
    }
    for name, kind in kinds.items():
        columns[name] = [_number(each.get(name), kind) for each in annotations]
    return columns


def without(mask: bytes, repainted: NDArray[np.bool_] | None) -> bytes:
    """The source's mask with 0 where the edit repainted the picture; as it was where it did not.

    A mask that cannot be read, or is of another size, stays as it is.
    """
    if repainted is None:
        return mask
    try:
        with Image.open(io.BytesIO(mask)) as image:
            image.load()
    except (OSError, ValueError):
        return mask
    if image.size != repainted.shape[::-1] or not repainted.any():
        return mask
    image.paste(_nothing(image), (0, 0), Image.fromarray(repainted))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def uniform(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give each column one type in all rows, in place: what is mixed becomes text.

    Returns:
        The types by column, as Arrow has them.
    """
    import pyarrow as pa

    types: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            kind = pa.array(values).type
        except (pa.ArrowException, OverflowError):
            kind = pa.string()
            values = [each if isinstance(each, str) else _json(each) for each in values]
        types[name] = pa.string() if pa.types.is_null(kind) else kind
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return types


def objects_type() -> Any:
    """Arrow's type of the column `objects`."""
    import pyarrow as pa

    kinds = {
        "bbox": pa.list_(pa.float64()),
        "category": pa.string(),
        "segmentation": pa.string(),
        "id": pa.int64(),
        "area": pa.float64(),
        "iscrowd": pa.int64(),
    }
    return pa.struct([(name, pa.list_(kind)) for name, kind in kinds.items()])


def caption(metadata: Mapping[str, Any]) -> str | None:
    """The words of a row that WebDataset has as KEY.txt."""
    return next((str(metadata[name]) for name in _CAPTIONS if metadata.get(name)), None)


def class_number(metadata: Mapping[str, Any]) -> str | None:
    """The number of a row's class, that WebDataset has as KEY.cls."""
    value = metadata.get("cls", metadata.get("label"))
    text = str(value).strip()
    return text if not isinstance(value, bool) and text.isdecimal() else None


def _covered(annotation: Mapping[str, Any], repainted: NDArray[np.bool_]) -> float:
    """Share of a thing that was repainted; 0 where its place cannot be read."""
    height, width = repainted.shape
    place = {key: annotation[key] for key in ("bbox", "segmentation") if annotation.get(key)}
    try:
        things = detections.parse([place], (width, height))
        mask = np.asarray(detections.union(things, (width, height))) >= 128
    except OverpaintError:
        return 0.0
    return float(repainted[mask].mean()) if mask.any() else 0.0


def _nothing(image: Image.Image) -> Image.Image:
    """An image of the same mode, 0 everywhere."""
    blank = Image.new(image.mode, image.size)
    if image.mode == "P" and (palette := image.getpalette()) is not None:
        blank.putpalette(palette)
    return blank


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _number(value: Any, kind: Any) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError):
        return None
