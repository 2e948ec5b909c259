"""A unit of work: one edit among many, known by what it is made of.

The id of a unit is a hash of everything that decides its pictures: what goes in, the words, the
seed, the model's weights and the options. So a run that is started again knows what is done,
wherever a row has moved to in its file meanwhile, and a changed input is another unit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from overpaint.core.errors import InvalidRequest
from overpaint.core.types import EditRequest

ID_DIGITS = 32


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One edit to be made.

    Attributes:
        id: of `identify`.
        source: where it comes from, for people: 'rows.csv#12', 'photos/boat.jpg'.
        prompt: the words, for the lineage.
        seed: of the picture; None = it is not known, because the input cannot be read.
        load: reads and decodes the input. Called when its turn comes, so that pictures of a
            million units need the memory of a few. Of plain functions (`functools.partial`), so
            that a unit can be sent to another process.
        extra: further plain values for the lineage.
    """

    id: str
    source: str
    prompt: str
    seed: int | None
    load: Callable[[], EditRequest]
    extra: Mapping[str, Any] = field(default_factory=dict)


def identify(**parts: Any) -> str:
    """The id of what is made of these parts: plain data; bytes and paths as their `digest`."""
    told = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(told.encode()).hexdigest()[:ID_DIGITS]


def digest(data: bytes | None) -> str | None:
    """Hash of an encoded picture, for `identify`."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def model_key(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a model's record decides pictures: not where it lies or what runs it."""
    known = {name: record.get(name) for name in ("family", "revision", "dtype")}
    loras = [[each["sha256"], each["scale"]] for each in record.get("loras", ())]
    return {**known, "loras": loras}


def derive_seed(base: int, **parts: Any) -> int:
    """A seed of its own for a unit that names none: the same in every run, 0 to 2^32 - 1."""
    return int(identify(base=base, **parts)[:8], 16)


def broken(source: str, error: InvalidRequest, *, prompt: str = "", **parts: Any) -> Unit:
    """A unit whose input is at fault: it fails alone, when its turn comes."""
    return Unit(
        id=identify(broken=str(error), source=source, **parts),
        source=source,
        prompt=prompt,
        seed=None,
        load=partial(_fail, type(error), error.message, error.field),
    )


def _fail(kind: type[InvalidRequest], message: str, name: str) -> NoReturn:
    raise kind(message, field=name)
