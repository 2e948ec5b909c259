"""One row of the text-to-image-inpainting contract of Azure ML, and what it is answered with.

| column | value |
| --- | --- |
| `prompt` | text |
| `image` | base64 of a PNG, JPEG or WebP file; line breaks and a data URI's head are fine |
| `mask_image` or `mask` | the same: white is repainted |
| `negative_prompt`, `seed` | optional |
| `parameters` | optional: object, or its JSON; the row's own, before those for all rows |

`null` means that the value is missing. A seed among the parameters is the seed of every row, as
any other parameter is: where a row stands does not change its picture.
"""

from __future__ import annotations

import base64
import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from overpaint.core import images
from overpaint.core.encoded import from_base64
from overpaint.core.errors import InvalidImage, InvalidRequest, ModelNotFound, UnsupportedOption
from overpaint.core.images import Picture
from overpaint.jobs.tables import Record, Table, place

MASKS = ("mask_image", "mask")
COLUMNS = ("prompt", "image", *MASKS, "negative_prompt", "seed", "parameters")
MAX_SEED = 2**63 - 1

_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row's values, checked; pictures are still encoded files.

    Attributes:
        number: its place among its rows, from 0.
        image, mask: files; the mask's white is repainted.
        mask_column: the mask's column as the row names it.
        seed: None = to be drawn.
        options: of the model's family, unchecked.
    """

    number: int
    image: bytes
    prompt: str = ""
    mask: bytes | None = None
    mask_column: str = MASKS[0]
    negative_prompt: str | None = None
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def at(self, error: InvalidRequest) -> InvalidRequest:
        """The same error with this row and the column as its field."""
        if isinstance(error, ModelNotFound):
            return error
        name = {"mask": self.mask_column}.get(error.field, error.field)
        if name.startswith("options."):
            name = f"parameters.{name.removeprefix('options.')}"
        return type(error)(error.message, field=place(self.number, name[:100]))


def parse_table(table: Table, *, most: int) -> list[Row]:
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


def parse(record: Record, number: int, parameters: Mapping[str, Any] | None = None) -> Row:
    """Check one row.

    Args:
        record: its values by column.
        number: its place, for errors.
        parameters: for all rows.

    Raises:
        InvalidRequest: a value is missing or of a wrong kind; the field names row and column.
    """
    values = {name: value for name, value in record.items() if value is not None}
    _check_columns(values, number)
    mask_column = _mask_column(values, number)
    mask = _file(values, mask_column, number)
    image = _file(values, "image", number)
    if image is None:
        raise InvalidRequest("it is missing", field=place(number, "image"))
    options = {**(parameters or {}), **_parameters(values, number)}
    options = {name: value for name, value in options.items() if value is not None}
    _check_finite(options, number)
    own: dict[str, Any] = {
        name: values[name] for name in ("negative_prompt", "seed") if name in values
    }
    for name in ("negative_prompt", "seed"):
        given = options.pop(name, None)
        if given is not None:
            own.setdefault(name, given)
    return Row(
        number=number,
        image=image,
        prompt=_text(values, "prompt", number) or "",
        mask=mask,
        mask_column=mask_column,
        negative_prompt=_text(own, "negative_prompt", number),
        seed=_seed(own.get("seed"), number),
        options=options,
    )


def answer(row: Row, picture: Picture, flagged: bool | None) -> dict[str, Any]:
    """What the contract answers a row with; `flagged` None = nobody checked the picture."""
    return {
        "prompt": row.prompt,
        "generated_image": base64.b64encode(images.encode(picture)).decode(),
        "nsfw_content_detected": flagged,
    }


def blocked(size: tuple[int, int]) -> Picture:
    """The black picture that stands for one that the safety policy refused."""
    return Picture(Image.new("RGB", size))


def _check_columns(values: Record, number: int) -> None:
    for name in values:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name[:100], COLUMNS, n=1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            raise InvalidRequest(
                f"there is no such column{meant}; known are {', '.join(COLUMNS)}",
                field=place(number, name[:100]),
            )


def _mask_column(values: Record, number: int) -> str:
    named = [name for name in MASKS if name in values]
    if len(named) > 1:
        raise InvalidRequest(
            "mask_image and mask mean the same; give one of them", field=place(number, "mask")
        )
    return named[0] if named else MASKS[0]


def _file(values: Record, column: str, number: int) -> bytes | None:
    value = values.get(column)
    if isinstance(value, bytes):
        if not value.isascii():  # a file; no picture is plain ASCII
            return value
        value = value.decode("ascii")
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong(value, "base64 text", number, column)
    decoded = from_base64(value, place(number, column))
    if not decoded:
        raise InvalidImage("the string is empty", field=place(number, column))
    return decoded


def _text(values: Record, column: str, number: int) -> str | None:
    value = values.get(column)
    if value is not None and not isinstance(value, str):
        raise _wrong(value, "text", number, column)
    return value


def _seed(value: Any, number: int) -> int | None:
    """A whole number; tables may hold it as text, or as 7.0 beside rows without one."""
    if value is None:
        return None
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise _wrong(value, f"a whole number from 0 to {MAX_SEED}", number, "seed")
    return value


def _parameters(values: Record, number: int) -> Mapping[str, Any]:
    value = values.get("parameters", {})
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"it is not JSON: {error}", field=place(number, "parameters")
            ) from error
    if not isinstance(value, Mapping):
        raise _wrong(value, "an object", number, "parameters")
    return value


def _check_finite(options: Mapping[str, Any], number: int) -> None:
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UnsupportedOption(
                f"{value} is not a finite number",
                field=place(number, f"parameters.{name[:100]}"),
            )


def _wrong(value: Any, wanted: str, number: int, column: str) -> InvalidRequest:
    what = f"{value!r}" if isinstance(value, int | float) else f"a {type(value).__name__}"
    return InvalidRequest(f"it is {what[:50]}, not {wanted}", field=place(number, column))
