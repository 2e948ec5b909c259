"""One row of the text-to-image-inpainting contract of Azure ML, and what it is answered with.

A column is a part of an edit (`core.types.PARTS`), under its own name or the contract's:

| part | value |
| --- | --- |
| a picture or a mask | base64 of a picture file, also with line breaks, also a data URI |
| several pictures | a list of those; as text: its JSON, or the pictures with `;` between them |
| `extend` | object, or its JSON |
| a text, a choice, a number | as it is; tables may hold numbers as text |
| `parameters` or `options` | object, or its JSON; the row's own, before those for all rows |

`null` means that the value is missing. Texts, numbers and `extend` may stand among the parameters,
for all rows: where a row stands does not change its picture.
"""

from __future__ import annotations

import base64
import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from overpaint.core.errors import InvalidImage, InvalidRequest, ModelNotFound, UnsupportedOption
from overpaint.core.imaging import images
from overpaint.core.imaging.encoded import from_base64
from overpaint.core.imaging.images import Picture
from overpaint.core.parts import Part
from overpaint.core.plain_values import LONGEST_QUOTE
from overpaint.core.types import PARTS
from overpaint.jobs.inputs import InputFile
from overpaint.jobs.tables import Record, RowTable, place

PUBLISHED = {"mask": "mask_image", "options": "parameters"}
"""Names that Azure ML's published contract has for two of the parts. Its clients send them, so both
names are taken, and errors use the published one where a row has neither."""

LEFT_OUT = {
    "num_images": "each row has one result; send a row for each",
    "model": "all rows go to the same model",
}
"""Parts that are not columns, and why."""

ROW_PARTS = tuple(part for part in PARTS if part.name not in LEFT_OUT)
"""Parts that are columns."""

COMMON = tuple(part for part in ROW_PARTS if part.kind in ("text", "number", "choice", "borders"))
"""Parts that may stand among the parameters, for all rows."""

MAX_SEED = 2**63 - 1

CellReader = Callable[[Any, str], Any]
"""Called with a cell and its column; gives the file that the cell names, or the cell as it is."""

ALIKE = 0.85
"""Likeness from which an unknown column is taken for a slip of the pen, not for one of the table's
own."""

_KINDS = {
    bool: "true or false",
    bytes: "a file",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a text",
    tuple: "a list",
}
"""What a value is called that is too long to be repeated."""

_DIGITS = re.compile(r"([0-9]{1,19})(\.0*)?", re.ASCII)
_BETWEEN = re.compile(r";(?!base64,)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row's values, checked.

    Attributes:
        number: its place among its rows, from 0.
        parts: its values by part, without those that are missing, but for the prompt, which is ''
            then; pictures and masks are encoded files, options are unchecked.
        columns: names of its columns by part, where they are not the published ones.
    """

    number: int
    parts: Mapping[str, Any]
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """Its words; '' where it has none."""
        return str(self.parts["prompt"])

    def at(self, error: InvalidRequest) -> InvalidRequest:
        """The same error with this row and the column as its field."""
        if isinstance(error, ModelNotFound):
            return error
        part, dot, below = error.field.partition(".")
        column = self.columns.get(part, PUBLISHED.get(part, part))
        return type(error)(error.message, field=place(self.number, f"{column}{dot}{below}"[:100]))


def columns_of(part: Part) -> tuple[str, ...]:
    """The names that a column of that part may have, the published one first."""
    return (PUBLISHED[part.name], part.name) if part.name in PUBLISHED else (part.name,)


COLUMNS = tuple(column for part in ROW_PARTS for column in columns_of(part))


def parse_table(table: RowTable, *, most: int) -> list[Row]:
    """Check all rows of a request.

    Args:
        table: the request.
        most: rows that it may have.

    Raises:
        InvalidRequest: of the first row that is at fault, or there are too many.
    """
    if len(table.records) > most:
        raise InvalidRequest(
            f"{len(table.records)} rows are more than the {most} that are made at once",
            field="data",
        )
    return [parse(record, number, table.parameters) for number, record in enumerate(table.records)]


def parse(
    record: Record,
    number: int,
    parameters: Mapping[str, Any] | None = None,
    *,
    read: CellReader | None = None,
    carries: bool = False,
) -> Row:
    """Check one row.

    Args:
        record: its values by column.
        number: its place, for errors.
        parameters: for all rows.
        read: for tables whose pictures may be files; None = they are base64.
        carries: columns that are not parts are left to `own_columns`, instead of refused; names
            that are almost a missing part's are refused all the same.

    Raises:
        InvalidRequest: a value is missing or of a wrong kind; the field names row and column.
    """
    cells = {column: value for column, value in record.items() if value is not None}
    if carries:
        _check_own_columns(cells, number)
        cells = {column: value for column, value in cells.items() if _is_known(column)}
    _check_columns(cells, number)
    columns = {part.name: _column(part, cells, number) for part in ROW_PARTS}
    parts: dict[str, Any] = {}
    for part in ROW_PARTS:
        column = columns[part.name]
        if column in cells:
            parts[part.name] = _value(part, cells[column], place(number, column), read)
        elif part.required:
            raise InvalidRequest("it is missing", field=place(number, column))
    options = {**(parameters or {}), **parts.get("options", {})}
    options = {name: value for name, value in options.items() if value is not None}
    _check_finite(options, place(number, columns["options"]))
    for part in COMMON:
        value = options.pop(part.name, None)
        if value is not None and part.name not in parts:
            parts[part.name] = _value(part, value, place(number, part.name), read)
    parts = {"prompt": "", **parts, "options": options}
    return Row(number=number, parts=parts, columns=columns)


def own_columns(record: Record) -> dict[str, Any]:
    """The values of a table's own columns: labels, ids, and whatever else is no part."""
    return {
        name: value for name, value in record.items() if value is not None and not _is_known(name)
    }


def answer(row: Row, picture: Picture, flagged: bool | None) -> dict[str, Any]:
    """The contract's answer to a row; `flagged` None = nobody checked the picture."""
    return {
        "prompt": row.prompt,
        "generated_image": base64.b64encode(images.encode(picture)).decode(),
        "nsfw_content_detected": flagged,
    }


def blocked(size: tuple[int, int]) -> Picture:
    """The black picture that stands for one that the safety policy refused."""
    return Picture(Image.new("RGB", size))


def _is_known(column: str) -> bool:
    return column in COLUMNS or column in LEFT_OUT


def _check_own_columns(cells: Record, number: int) -> None:
    """None of the table's own columns is a slip of the pen."""
    missing = [name for name in COLUMNS if name not in cells]
    for name in own_columns(cells):
        if near := difflib.get_close_matches(name[:100].lower(), missing, n=1, cutoff=ALIKE):
            raise InvalidRequest(
                f"there is no such column; write {near[0]}, or give it a name that is less like "
                "that",
                field=place(number, name[:100]),
            )


def _check_columns(cells: Record, number: int) -> None:
    for name in cells:
        if name in LEFT_OUT:
            raise InvalidRequest(f"it is not a column: {LEFT_OUT[name]}", field=place(number, name))
        if name not in COLUMNS:
            near = difflib.get_close_matches(name[:100], COLUMNS, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise InvalidRequest(
                f"there is no such column{hint}; known are {', '.join(COLUMNS)}",
                field=place(number, name[:100]),
            )


def _column(part: Part, cells: Record, number: int) -> str:
    """The column of a part as the row names it; the first of its names where it has none."""
    names = columns_of(part)
    columns = [name for name in names if name in cells]
    if len(columns) > 1:
        raise InvalidRequest(
            f"{' and '.join(names)} mean the same; give one of them",
            field=place(number, part.name),
        )
    return columns[0] if columns else names[0]


def _value(part: Part, cell: Any, where: str, read: CellReader | None) -> Any:
    """The value of a cell, as its part has it."""
    if part.kind == "pictures":
        return tuple(_file(each, where, read) for each in _list(cell, where))
    if part.is_visual:
        return _file(cell, where, read)
    if part.kind in ("options", "borders"):
        return _object(cell, where)
    if part.kind == "number":
        return _whole_number(cell, where)
    if not isinstance(cell, str):
        raise _wrong(cell, "text", where)
    return cell


def _list(cell: Any, where: str) -> list[Any]:
    """The pictures of a cell that may have several."""
    if isinstance(cell, bytes) and cell.isascii():
        cell = cell.decode("ascii")
    if not isinstance(cell, str):
        return list(cell) if isinstance(cell, list | tuple) else [cell]
    if not cell.lstrip().startswith("["):
        return [each.strip() for each in _BETWEEN.split(cell) if each.strip()]
    cells = _from_json(cell, where)
    return cells if isinstance(cells, list) else [cells]


def _file(cell: Any, where: str, read: CellReader | None) -> bytes | InputFile:
    if read is not None:
        cell = read(cell, where)
    if isinstance(cell, InputFile):
        return cell
    if isinstance(cell, bytes):
        if not cell.isascii():  # a file; no picture is plain ASCII
            return cell
        cell = cell.decode("ascii")
    if not isinstance(cell, str):
        raise _wrong(cell, "base64 text", where)
    try:
        decoded = from_base64(cell, where)
    except InvalidImage as error:
        if read is None or "://" in cell:
            raise
        raise InvalidImage("it is neither a picture's path nor base64", field=where) from error
    if not decoded:
        raise InvalidImage("the string is empty", field=where)
    return decoded


def _whole_number(value: Any, where: str) -> int:
    """A whole number; tables may hold it as text, or as 7.0 beside rows without one."""
    if isinstance(value, str) and (digits := _DIGITS.fullmatch(value.strip())):
        value = int(digits[1])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise _wrong(value, f"a whole number from 0 to {MAX_SEED}", where)
    return value


def _object(cell: Any, where: str) -> Mapping[str, Any]:
    value = _from_json(cell, where) if isinstance(cell, str) else cell
    if not isinstance(value, Mapping):
        raise _wrong(value, "an object", where)
    return value


def _from_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"it is not JSON: {error}", field=where) from error


def _check_finite(options: Mapping[str, Any], where: str) -> None:
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UnsupportedOption(
                f"{value} is not a finite number", field=f"{where}.{name[:100]}"
            )


def _wrong(value: Any, type_name: str, where: str) -> InvalidRequest:
    is_short = isinstance(value, str | int | float) and len(repr(value)) <= LONGEST_QUOTE
    what = repr(value) if is_short else _KINDS.get(type(value), "something else")
    return InvalidRequest(f"it is {what}, not {type_name}", field=where)
