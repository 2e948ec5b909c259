"""JSON in which nothing is lost: a key that comes twice is refused, and not half of it ignored."""

from __future__ import annotations

import json
from typing import Any

from overpaint.core.errors import InvalidRequest


def loads(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidRequest: an object has a key twice; the field is the key.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest("the field is given twice", field=twice[:100])
    return values
