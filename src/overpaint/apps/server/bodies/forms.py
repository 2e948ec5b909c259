"""Bodies: their kind, multipart forms, and pydantic's complaints as our errors."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from overpaint.apps.server.bodies.fields import structure_of, visual_parts
from overpaint.apps.server.bodies.multipart import StrictParser
from overpaint.core import plain_values
from overpaint.core.errors import InvalidRequest
from overpaint.core.parts import Part

Body = TypeVar("Body", bound=BaseModel)

MAX_PARTS = 100
MAX_TEXT = 2**20
"""Bytes of a form field that is no file."""


@dataclass
class Form:
    """A multipart form: texts, and the bytes of files, by name."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def take(self, *names: str) -> dict[str, list[bytes]]:
        """The files of these names.

        Raises:
            InvalidRequest: there is a file of another name, or a text of one of these.
        """
        for name in names:
            if name in self.texts:
                raise InvalidRequest("send it as a file, with a file name", field=name)
        for name in self.files:
            if name not in names:
                raise InvalidRequest(
                    f"there is no such file field; known are {', '.join(names)}", field=name
                )
        return {name: self.files.get(name, []) for name in names}


def media_type(request: Request) -> str:
    """The body's kind, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def body(request: Request) -> bytes:
    """The whole body; the request does not keep it."""
    # A single piece is handed on as it is, not copied.
    return b"".join([chunk async for chunk in request.stream() if chunk])


async def parse(request: Request, raw: bytes) -> Form:
    """A multipart body.

    Raises:
        InvalidRequest: it is broken or cut off, has too many parts, repeats a text, or has one
            that is not UTF-8.
    """

    async def stream() -> Any:
        yield raw

    headers = Headers(scope=request.scope)
    parser = StrictParser(
        headers, stream(), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=MAX_TEXT
    )
    form = Form()
    try:
        parsed = await parser.parse()
    except (MultiPartException, HTTPException, ValueError, KeyError, LookupError) as error:
        raise InvalidRequest(
            "the multipart body is broken or has too many parts", field="body"
        ) from error
    try:
        parser.require_end()
        for name, value in parsed.multi_items():
            if isinstance(value, UploadFile):
                form.files[name].append(await value.read())
            elif name in form.texts:
                raise InvalidRequest("the field is given twice", field=name)
            else:
                form.texts[name] = value
    finally:
        parser.close()
    return form


def one(files: Mapping[str, list[bytes]], name: str) -> bytes | None:
    """The only file of that name.

    Raises:
        InvalidRequest: there are several.
    """
    several = files.get(name, [])
    if len(several) > 1:
        raise InvalidRequest("give exactly one file", field=name)
    return several[0] if several else None


def files_of(form: Form, parts: Iterable[Part], *others: str) -> dict[str, Any]:
    """The files of visual parts by name: one each, or a tuple of them; those that are there.

    Args:
        form: with files of these parts alone, and of other names.
        parts: visual ones.
        others: further file fields of the form.

    Raises:
        InvalidRequest: an unknown file field, a file as text, several files where one is meant.
    """
    visual = {part.name: part for part in parts}
    files = form.take(*visual, *others)
    values = {
        name: tuple(files[name]) if part.kind == "pictures" else one(files, name)
        for name, part in visual.items()
    }
    return {name: value for name, value in values.items() if value is not None and value != ()}


def body_of(form: Form, kind: type[Body]) -> tuple[Body, dict[str, Any]]:
    """A form as the body that JSON would be, and its pictures.

    Fields that are lists or objects are JSON in the form, all others text. An empty text stands in
    the body where it needs a picture.

    Args:
        form: of the request.
        kind: of the body.

    Returns:
        The body, and the files by the part's name.

    Raises:
        InvalidRequest: a field does not fit.
    """
    visual = visual_parts(kind)
    files = files_of(form, visual)
    texts = {name: plain(kind, name, text) for name, text in form.texts.items()}
    present = {part.name: "" for part in visual if part.required and part.name in files}
    try:
        return kind.model_validate({**texts, **present}, strict=False), files
    except ValidationError as error:
        raise invalid(error, kind) from error


def plain(kind: type[BaseModel], name: str, text: str) -> Any:
    """A form's text as the value that it stands for in a body of that kind.

    Raises:
        InvalidRequest: the field is a list or an object, and the text is none as JSON.
    """
    field = kind.model_fields.get(name)
    structure = None if field is None else structure_of(field.annotation)
    return text if structure is None else json_value(name, text, structure)


def json_value(name: str, text: str | bytes, kind: type) -> Any:
    """JSON of a given kind.

    Raises:
        InvalidRequest: it is not.
    """
    try:
        value = plain_values.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the text is not JSON", field=name) from error
    if not isinstance(value, kind):
        raise InvalidRequest("the JSON is of another kind than expected", field=name)
    return value


def invalid(error: ValidationError, kind: type[BaseModel]) -> InvalidRequest:
    """The first complaint about a body of that kind, with the field's name; an unknown field
    before all others."""
    first = plain_values.first_error(error)
    name = ".".join(str(part) for part in first["loc"]) or "body"
    if first["type"] == "extra_forbidden":
        hint = _hint(name, kind) if len(first["loc"]) == 1 else ""
        return InvalidRequest(f"there is no such field{hint}", field=name[:100])
    return InvalidRequest(plain_values.complaint(first), field=name[:100])


def _hint(name: str, kind: type[BaseModel]) -> str:
    """What the caller of an unknown field may have meant."""
    names = [each.alias or own for own, each in kind.model_fields.items()]
    if near := difflib.get_close_matches(name, names, n=1):
        return f" (did you mean {near[0]}?)"
    return "; options of the model belong in options" if "options" in names else ""
