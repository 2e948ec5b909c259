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
from overpaint.core.types import PARTS, EditRequest
from overpaint.jobs.inputs import InputFile

ID_DIGITS = 32

ALWAYS = frozenset({"image", "prompt", "mask", "negative_prompt", "options"})
"""Parts that count in an id also where they are missing. Others count where they are there, so that
ledgers of earlier versions, which did not know them, still hold."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One edit to be made.

    Attributes:
        id: of `identify`.
        source: where it comes from, for people: 'rows.csv#12', 'photos/boat.jpg'.
        prompt: the words, for the lineage.
        seed: of the picture; None = it is not known, because the input cannot be read.
        load: reads and decodes the input. Called when its turn comes, so that pictures of a
            million units need the memory of a few. It is made of plain functions
            (`functools.partial`), so that a unit can be sent to another process.
        suffix: of the file that its picture is written to.
        extra: further plain values for the lineage.
    """

    id: str
    source: str
    prompt: str
    seed: int | None
    load: Callable[[], EditRequest]
    suffix: str = ".png"
    extra: Mapping[str, Any] = field(default_factory=dict)


def identify(**values: Any) -> str:
    """The id of what is made of these values: plain data; bytes and paths as their `digest`."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def identity(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an edit that count in its id, as plain data; the caller adds the seed.

    Args:
        parts: by name, without those that are missing; pictures are encoded files.
    """
    plain: dict[str, Any] = {}
    for part in PARTS:
        value = parts.get(part.name)
        if part.name == "seed" or (value in (None, ()) and part.name not in ALWAYS):
            continue
        if part.kind == "pictures":
            plain[part.name] = [digest(each) for each in value or ()]
        elif part.is_visual:
            plain[part.name] = digest(value)
        else:
            plain[part.name] = dict(value) if isinstance(value, Mapping) else value
    return plain


def digest(data: bytes | InputFile | None) -> str | None:
    """Hash of an encoded picture, for `identify`; a file has been hashed."""
    if isinstance(data, InputFile):
        return data.sha256
    return None if data is None else hashlib.sha256(data).hexdigest()


def model_key(record: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a model's record that decide pictures; not its folder or its device."""
    fields = {name: record.get(name) for name in ("family", "revision", "dtype")}
    loras = [[each["sha256"], each["scale"]] for each in record.get("loras", ())]
    return {**fields, "loras": loras}


def derive_seed(base: int, **values: Any) -> int:
    """A seed of its own for a unit that names none: the same in every run, 0 to 2^32 - 1."""
    return int(identify(base=base, **values)[:8], 16)


def broken(
    source: str,
    error: InvalidRequest,
    *,
    prompt: str = "",
    extra: Mapping[str, Any] | None = None,
    **values: Any,
) -> Unit:
    """A unit whose input is at fault: it fails alone, when its turn comes."""
    return Unit(
        id=identify(broken=str(error), source=source, **values),
        source=source,
        prompt=prompt,
        seed=None,
        load=partial(_fail, type(error), error.message, error.field),
        extra=extra or {},
    )


def _fail(kind: type[InvalidRequest], message: str, name: str) -> NoReturn:
    raise kind(message, field=name)
