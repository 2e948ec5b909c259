"""Plain values of callers: JSON in which nothing is lost, and what is wrong with a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overpaint.core.errors import InvalidRequest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

LONGEST_QUOTE = 60
"""Characters of a text up to which a complaint repeats it."""

_REQUESTS: Mapping[str, str] = {
    "missing": "it is missing",
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "dict_type": "give keys with values",
    "finite_number": "give a finite number",
    "float_parsing": "give a number",
    "float_type": "give a number",
    "greater_than": "give more than {gt}",
    "greater_than_equal": "give at least {ge}",
    "int_from_float": "give a whole number",
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "less_than": "give less than {lt}",
    "less_than_equal": "give at most {le}",
    "list_type": "give a list",
    "literal_error": "give {expected}",
    "model_attributes_type": "give keys with values",
    "model_type": "give keys with values",
    "string_too_long": "give at most {max_length} characters",
    "string_too_short": "give at least {min_length} characters",
    "string_type": "give a text",
    "too_long": "give a list of at most {max_length} values, not {actual_length}",
    "too_short": "give a list of at least {min_length} values, not {actual_length}",
    "tuple_type": "give a list",
}
"""What to give instead, by pydantic's kind of error; its own sentences speak of Python's types."""


def loads(text: bytes | str) -> Any:
    """The value of a JSON text; a key that comes twice is refused, and not half of it ignored.

    Raises:
        InvalidRequest: an object has a key twice; the field is the key.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique)


def first_error(error: ValidationError) -> ErrorDetails:
    """The error to report: an unknown key is often the misspelling of one that is missed."""
    errors = error.errors(include_url=False)
    return min(errors, key=lambda each: each["type"] != "extra_forbidden")


def complaint(details: ErrorDetails) -> str:
    """The value, where it is short, and what to give instead of it."""
    value, request = details["input"], _REQUESTS.get(details["type"])
    if request is None:
        message = details["msg"].removeprefix("Value error, ")
        request = message[:1].lower() + message[1:]
    else:
        bounds = details.get("ctx", {}).items()
        request = request.format(**{name: _short(bound) for name, bound in bounds})
    quote = repr(value) if isinstance(value, str | int | float) else ""
    return f"{quote}: {request}" if 0 < len(quote) <= LONGEST_QUOTE else request


def _short(bound: Any) -> Any:
    """1.0 as 1."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest("the field is given twice", field=twice[:100])
    return values
