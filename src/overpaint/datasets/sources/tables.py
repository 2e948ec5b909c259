"""Rows that describe pictures: JSON Lines, CSV and Parquet, and what of them is carried along."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from overpaint.core.errors import InvalidRequest
from overpaint.datasets.places import Knowledge

LONGEST_LINE = 1_000_000
MOST_FIELDS = 64
LONGEST_FIELD = 4000

_CATEGORY_KEYS = ("category", "categories", "label", "labels", "class")


def fields(row: Mapping[str, Any]) -> dict[str, str]:
    """What a row says in words and numbers, within limits: for templates."""
    simple = {str(key): value for key, value in row.items() if isinstance(value, str | int | float)}
    return {key: str(simple[key])[:LONGEST_FIELD] for key in list(simple)[:MOST_FIELDS]}


def knowledge(row: Mapping[str, Any]) -> Knowledge:
    """All that a row says, as plain data; bytes are left out.

    A column `objects` with boxes, as Hugging Face's detection data sets have it, becomes
    annotations. Names of further files (`*_file_name`) stay as text under `*_path`, because readers
    of image folders would look for the files.
    """
    columns = {str(key): plain(value) for key, value in row.items() if not _is_bytes(value)}
    annotations = _annotations(columns.get("objects"))
    if annotations:
        del columns["objects"]
    for name in [name for name in columns if name.endswith("_file_name")]:
        columns[name.removesuffix("_file_name") + "_path"] = columns.pop(name)
    return Knowledge(columns=columns, annotations=annotations)


def plain(value: Any) -> Any:
    """A value as JSON has it; dates and times as ISO 8601."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | type(None)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items() if not _is_bytes(each)}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value if not _is_bytes(each)]
    if isinstance(value, date | time):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)


def rows(file: Path, field: str) -> Iterator[dict[str, Any]]:
    """The rows of a metadata file.

    Raises:
        InvalidRequest: it cannot be read.
    """
    if file.suffix == ".jsonl":
        for _, row in json_lines(file, field):
            yield row
    elif file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8") as lines:
            yield from csv.DictReader(lines)
    elif file.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()


def json_lines(file: Path, field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with their line numbers, from 1.

    Raises:
        InvalidRequest: a line is too long or is not an object.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(LONGEST_LINE + 1), b""), 1):
            if len(line) > LONGEST_LINE:
                raise InvalidRequest(
                    f"line {number} of {file} has more than {LONGEST_LINE:,} bytes", field=field
                )
            if not line.strip():
                continue
            row = parsed(line)
            if not isinstance(row, dict):
                raise InvalidRequest(f"line {number} of {file} is not a JSON object", field=field)
            yield number, row


def parsed(data: bytes | str) -> Any:
    """JSON; None where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | memoryview)


def _annotations(objects: Any) -> tuple[dict[str, Any], ...]:
    """COCO annotations of an `objects` column: lists side by side, or a list of objects."""
    if isinstance(objects, dict) and isinstance(objects.get("bbox"), list):
        aside = {key: value for key, value in objects.items() if isinstance(value, list)}
        if len({len(value) for value in aside.values()}) != 1:
            return ()
        objects = [
            dict(zip(aside, each, strict=True)) for each in zip(*aside.values(), strict=True)
        ]
    if not isinstance(objects, list) or not objects:
        return ()
    if not all(isinstance(each, dict) and isinstance(each.get("bbox"), list) for each in objects):
        return ()
    return tuple(_annotation(each) for each in objects)


def _annotation(value: dict[str, Any]) -> dict[str, Any]:
    name = next((key for key in _CATEGORY_KEYS if value.get(key) is not None), None)
    annotation = {key: each for key, each in value.items() if key != name and each is not None}
    if isinstance(annotation.get("segmentation"), str):
        annotation["segmentation"] = parsed(annotation["segmentation"])
    return annotation if name is None else {**annotation, "category": value[name]}
