"""Rows as people send them: Azure ML's and MLflow's JSON, and CSV.

Accepted bodies, all meaning the same two rows:

    {"input_data": {"columns": ["prompt", "image"], "index": [0, 1], "data": [[…, …], {…}]}}
    {"input_data": [{"prompt": …, "image": …}, {…}]}
    {"dataframe_split": {"columns": […], "data": […]}}
    {"dataframe_records": [{…}, {…}]}
    {"inputs": {"prompt": […, …], "image": […, …]}}      columns as lists, or by index label
    {"instances": [{…}, {…}]}
    {"columns": […], "data": […]}                        without an envelope
    [{…}, {…}]

Parameters for all rows stand beside the rows: `parameters` or `params`, in the envelope or in a
split table. Tables know nothing of what a row means; `rows.parse` does.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from overpaint.core import plain_values
from overpaint.core.errors import InvalidRequest

FORMS = ("input_data", "dataframe_split", "dataframe_records", "inputs", "instances")
PARAMETERS = ("parameters", "params")
MAX_CELL = 128 * 2**20
"""Characters of a cell of a CSV file: the base64 of a picture of 96 MiB."""

_INDEX_COLUMNS = ("", "Unnamed: 0")
"""What pandas calls the row numbers that it writes before the columns; they say nothing."""

Record = Mapping[str, Any]
"""A row's values by column."""


@dataclass(frozen=True)
class RowTable:
    """Rows that came together.

    Attributes:
        records: in the order in which they came; at least one.
        parameters: for all of them.
    """

    records: Sequence[Record]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def place(row: int, column: str | None = None) -> str:
    """How errors name a place in a table; rows are counted from 0, without the header."""
    return f"row {row}" if column is None else f"row {row}, column {column}"


def from_json(body: bytes | str) -> RowTable:
    """The table in a JSON body, in any of the forms above.

    Raises:
        InvalidRequest: it is not JSON or has none of the forms; the field says where.
    """
    try:
        value = plain_values.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"it is not JSON: {error}", field="body") from error
    return from_value(value)


def from_value(body: Any) -> RowTable:
    """The table in decoded JSON.

    Raises:
        InvalidRequest: as for `from_json`.
    """
    if not isinstance(body, dict):
        return _row_table(_records(body, "body"), {})
    forms = [form for form in FORMS if form in body]
    if not forms and ("data" in body or "columns" in body):
        return _row_table(*_split(body, "body"))
    if len(forms) != 1:
        names = " and ".join(forms) or ", ".join(map(repr, body)) or "nothing"
        raise InvalidRequest(
            f"it has {names[:200]}; give the rows under exactly one of {', '.join(FORMS)}",
            field="body",
        )
    form = forms[0]
    _check_keys(body, (form, *PARAMETERS), "body")
    parameters = _parameters(body, "body")
    value = body[form]
    if not (isinstance(value, dict) and ("data" in value or "columns" in value)):
        return _row_table(_records(value, form), parameters)
    records, more = _split(value, form)
    if parameters and more:
        raise InvalidRequest(f"they are in {form} too; give them once", field="parameters")
    return _row_table(records, parameters or more)


def from_csv(lines: Iterable[str]) -> Iterator[Record | InvalidRequest]:
    """The rows of a CSV file with a header, one by one; an empty cell is not a value.

    Args:
        lines: of the file, opened with `newline=""` and `encoding="utf-8-sig"`.

    Yields:
        A row, or what is wrong with it where it does not have the header's cells; the rows after
        it go on.

    Raises:
        InvalidRequest: there is no header, it repeats a name, or the file cannot be read on.
    """
    # The limit is the csv module's own and for all its readers; a picture is longer than 128 KiB.
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(lines)
    try:
        header = next(reader, [])
        if not header:
            raise InvalidRequest("it is empty; its first line names the columns", field="header")
        names = [name.strip() for name in header]
        _check_distinct(names, "header")
        records = (cells for cells in reader if cells)
        for number, cells in enumerate(records):
            if len(cells) != len(names):
                yield _ragged(number, len(cells), len(names))
                continue
            yield {
                name: cell or None
                for place_, (name, cell) in enumerate(zip(names, cells, strict=True))
                if not (place_ == 0 and name in _INDEX_COLUMNS)
            }
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"the file cannot be read: {error}", field=f"line {reader.line_num}"
        ) from error


def _row_table(records: Sequence[Record], parameters: Mapping[str, Any]) -> RowTable:
    if not records:
        raise InvalidRequest("there are no rows", field="data")
    return RowTable(records, parameters)


def _split(table: Mapping[str, Any], where: str) -> tuple[list[Record], Mapping[str, Any]]:
    """`columns`, `index`, `data`, as pandas splits a table."""
    _check_keys(table, ("columns", "index", "data", *PARAMETERS), where)
    columns, data = table.get("columns"), table.get("data")
    if not isinstance(data, list):
        raise InvalidRequest("it is not a list of rows", field=f"{where}.data")
    if columns is not None:
        if not isinstance(columns, list) or not all(isinstance(each, str) for each in columns):
            raise InvalidRequest("it is not a list of names", field=f"{where}.columns")
        _check_distinct(columns, f"{where}.columns")
    index = table.get("index")
    if index is not None and not (isinstance(index, list) and len(index) == len(data)):
        raise InvalidRequest(
            f"it is not a list of {len(data)} labels, one for each row", field=f"{where}.index"
        )
    records = [_row(row, columns, number) for number, row in enumerate(data)]
    return records, _parameters(table, where)


def _row(row: Any, columns: Sequence[str] | None, number: int) -> Record:
    if isinstance(row, dict):
        return row
    if not isinstance(row, list):
        raise InvalidRequest("it is neither a list nor an object", field=place(number))
    if columns is None:
        raise InvalidRequest("it is a list, which needs `columns` beside it", field=place(number))
    if len(row) != len(columns):
        raise _ragged(number, len(row), len(columns))
    return dict(zip(columns, row, strict=True))


def _records(value: Any, where: str) -> list[Record]:
    """A list of objects; or columns, each with all its values; or one row."""
    if isinstance(value, list):
        for number, record in enumerate(value):
            if not isinstance(record, dict):
                raise InvalidRequest("it is not an object", field=place(number))
        return value
    if not isinstance(value, dict):
        raise InvalidRequest("it is neither a list of rows nor a table", field=where)
    if value and all(isinstance(cells, list) for cells in value.values()):
        return _from_columns(value, where)
    if value and all(isinstance(cells, dict) for cells in value.values()):
        return _from_labels(value, where)
    return [value]


def _from_columns(columns: Mapping[str, list[Any]], where: str) -> list[Record]:
    count = len(next(iter(columns.values())))
    for name, cells in columns.items():
        if len(cells) != count:
            raise InvalidRequest(
                f"it has {len(cells)} values, the first column has {count}",
                field=f"{where}, column {name[:100]}",
            )
    return [{name: cells[i] for name, cells in columns.items()} for i in range(count)]


def _from_labels(columns: Mapping[str, Mapping[str, Any]], where: str) -> list[Record]:
    """`{"prompt": {"0": …, "1": …}, …}`, as pandas writes without being asked for a form."""
    labels = list(next(iter(columns.values())))
    for name, cells in columns.items():
        if list(cells) != labels:
            raise InvalidRequest(
                "its index is not that of the first column", field=f"{where}, column {name[:100]}"
            )
    return [{name: cells[label] for name, cells in columns.items()} for label in labels]


def _parameters(table: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    keys = [name for name in PARAMETERS if table.get(name) is not None]
    if len(keys) > 1:
        raise InvalidRequest(f"{where} has both {' and '.join(PARAMETERS)}", field="parameters")
    value = table[keys[0]] if keys else {}
    if not isinstance(value, dict):
        raise InvalidRequest("it is not an object", field=keys[0])
    return value


def _check_keys(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for name in table:
        if name not in keys:
            raise InvalidRequest(
                f"there is no such key here; known are {', '.join(keys)}",
                field=f"{where}.{name[:100]}",
            )


def _check_distinct(names: Sequence[str], where: str) -> None:
    earlier: set[str] = set()
    for name in names:
        if name in earlier:
            raise InvalidRequest(f"the column {name[:100]!r} is named twice", field=where)
        earlier.add(name)


def _ragged(row: int, cells: int, columns: int) -> InvalidRequest:
    return InvalidRequest(f"it has {cells} values for {columns} columns", field=place(row))
