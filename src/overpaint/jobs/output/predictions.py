"""The tables of a batch: what came of each row, and how long it took.

`predictions.csv` and `predictions.parquet` say only what is the same however often a run was
killed and started again. Values that differ from run to run are in `timings.csv`: attempts, the
time of the end, and seconds by stage. `id` joins them.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from overpaint.core.files import atomic_open
from overpaint.jobs.ledger import LedgerEntry

PREDICTIONS = ("predictions.csv", "predictions.parquet")
TIMINGS = "timings.csv"

STAGES = ("queued", "load", "safety", "prepare", "steps", "decode", "composite", "total")
ROW_GROUP = 1000
"""Rows that are in memory at a time."""

Entries = Callable[[], Iterable[LedgerEntry]]
"""Gives the entries in the order of the input, as often as asked."""


def write(folder: Path, entries: Entries) -> list[Path]:
    """Write the tables, each whole or not at all.

    Args:
        folder: where to.
        entries: what came of each row.

    Returns:
        The files; without pyarrow there is no Parquet among them.

    Raises:
        OutputError: the folder is not writable, the disk is full.
    """
    paths = [folder / PREDICTIONS[0], folder / TIMINGS]
    carried = _carried(entries())
    rows = partial(_prediction, carried)
    _write_csv(paths[0], map(rows, entries()))
    _write_csv(paths[1], map(_timing, entries()))
    if has_parquet():
        paths.insert(1, folder / PREDICTIONS[1])
        _write_parquet(paths[1], map(rows, entries()), carried)
    return paths


def has_parquet() -> bool:
    """Whether the library for Parquet is installed (`overpaint[batch]`)."""
    return find_spec("pyarrow") is not None


def _carried(entries: Iterable[LedgerEntry]) -> dict[str, str]:
    """The input's own columns in the order in which they first come, by their names here.

    A name that the table has itself gets `input_` before it.
    """
    columns = (column for entry in entries for column in entry.extra.get("columns", {}))
    own = _prediction({}, LedgerEntry(id="", status="done", source=""))
    return {
        f"input_{column}" if column in own else column: column for column in dict.fromkeys(columns)
    }


def _prediction(carried: Mapping[str, str], entry: LedgerEntry) -> dict[str, Any]:
    values = entry.extra.get("columns", {})
    return {
        "source": entry.source,
        "image": entry.extra.get("image"),
        "status": entry.status,
        "picture": entry.picture,
        "prompt": entry.prompt,
        "seed": entry.seed,
        "nsfw_content_detected": entry.flagged,
        "code": entry.code or None,
        "reason": entry.reason or None,
        "recipe": json.dumps(entry.recipe, sort_keys=True) if entry.recipe else None,
        "id": entry.id,
        **{name: _text(values.get(column)) for name, column in carried.items()},
    }


def _text(value: Any) -> str | None:
    """A value of the input's own: texts as they are, all else as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)


def _timing(entry: LedgerEntry) -> dict[str, Any]:
    seconds = {stage: entry.timings.get(stage) for stage in STAGES}
    return {
        "source": entry.source,
        "id": entry.id,
        "attempts": entry.attempts,
        "finished": datetime.fromtimestamp(entry.finished, UTC).isoformat(timespec="seconds"),
        **{f"{stage}_s": None if s is None else round(s, 4) for stage, s in seconds.items()},
    }


def _write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with atomic_open(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        for number, row in enumerate(rows):
            if number == 0:
                writer.writerow(row)
            writer.writerow(map(_cell, row.values()))
        text.flush()
        text.detach()


def _cell(value: Any) -> Any:
    """As pandas and JSON spell it."""
    return str(value).lower() if isinstance(value, bool) else value


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]], carried: Mapping[str, str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"seed": pa.int64(), "nsfw_content_detected": pa.bool_()}
    names = tuple(_prediction(carried, LedgerEntry(id="", status="done", source="")))
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    with atomic_open(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while group := list(itertools.islice(rows, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
