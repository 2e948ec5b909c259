"""Fields of bodies and forms, made from the parts of an edit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, Field, JsonValue, WithJsonSchema, create_model

from overpaint.apps.wire.intake import MAX_PICTURES
from overpaint.core.imaging import borders
from overpaint.core.imaging.encoded import from_base64
from overpaint.core.parts import Kind, Part
from overpaint.core.types import PARTS

MAX_NAME = 200
"""Characters of a name."""

FILE = {"type": "string", "format": "binary"}

_TYPES: dict[Kind, Any] = {
    "picture": str,
    "pictures": list[str],
    "mask": str,
    "borders": Annotated[dict[str, JsonValue], WithJsonSchema(borders.SCHEMA)],
    "text": str,
    "number": int,
    "name": str,
    "options": dict[str, JsonValue],
}
AS_SENT: dict[Kind, str] = {
    "picture": "A file in base64.",
    "pictures": "Files in base64.",
    "mask": "A file in base64, of the picture's size. `mask_is` says how it is "
    "read; without it, Overpaint looks at the mask.",
    "borders": "Pixels, or percent of the picture's side as `20%`; `to` is a ratio to reach. `{}` "
    "fills the picture's own transparent border.",
    "name": "One that `GET /v1/models` lists. Default: the one for an edit with or without a mask.",
    "options": "`GET /v1/models` has their JSON Schema.",
}
AS_KEPT: dict[Kind, str] = {
    "picture": "sha256 of its file.",
    "pictures": "sha256 of their files.",
    "mask": "sha256 of its file.",
    "borders": "In pixels; sides that got no border are left out.",
}
"""What JSON makes of each kind."""

Model = TypeVar("Model", bound=BaseModel)


def with_parts(
    parts: Iterable[Part], notes: Mapping[Kind, str] = AS_SENT
) -> Callable[[type[Model]], type[Model]]:
    """A decorator that gives a body a field for each part.

    Args:
        parts: in their order.
        notes: what JSON makes of each kind, for the fields' descriptions.
    """
    fields: dict[str, Any] = {part.name: (annotation(part), _field(part, notes)) for part in parts}

    def decorate(model: type[Model]) -> type[Model]:
        return create_model(
            model.__name__,
            __base__=model,
            __doc__=model.__doc__,
            __module__=model.__module__,
            **fields,
        )

    return decorate


def annotation(part: Part) -> Any:
    """A part's type in JSON."""
    kind = Literal[part.choices] if part.kind == "choice" else _TYPES[part.kind]
    return kind if part.required or part.default is not None else kind | None


def from_text(part: Part, value: Any) -> Any:
    """A part's value of a JSON body: pictures and masks come as base64.

    Raises:
        InvalidImage: it is not base64.
    """
    if part.kind == "pictures":
        return tuple(from_base64(each, part.name) for each in value)
    return from_base64(value, part.name) if part.is_visual else value


def visual_parts(kind: type[BaseModel]) -> tuple[Part, ...]:
    """The parts that are pictures, of those that a body has."""
    return tuple(part for part in PARTS if part.is_visual and part.name in kind.model_fields)


def structure_of(type_: Any) -> type | None:
    """`list` or `dict` where a field is one of them, which a form writes as JSON."""
    if (origin := get_origin(type_)) in (list, dict):
        return cast("type", origin)
    return next(filter(None, map(structure_of, get_args(type_))), None)


def contents(kind: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's contents of a body: JSON, and a form where it has pictures, which are files."""
    schema = kind.model_json_schema()
    content = {"application/json": {"schema": schema}}
    if not (files := file_fields(visual_parts(kind))):
        return content
    properties = {**schema["properties"], **json_texts(kind), **files}
    return {**content, "multipart/form-data": {"schema": {**schema, "properties": properties}}}


def json_texts(kind: type[BaseModel]) -> dict[str, Any]:
    """Properties of a form's schema: a text with JSON for each list or object of a body."""
    return {
        name: {"type": "string", "description": f"{field.description or ''} As JSON.".strip()}
        for name, field in kind.model_fields.items()
        if structure_of(field.annotation) is not None
    }


def file_fields(parts: Iterable[Part]) -> dict[str, Any]:
    """Properties of a form's schema: a file for each visual part."""
    return {
        part.name: {**_file(part), "description": part.help} for part in parts if part.is_visual
    }


def _file(part: Part) -> dict[str, Any]:
    if part.kind == "pictures":
        return {"type": "array", "items": FILE, "maxItems": MAX_PICTURES}
    return FILE


def _field(part: Part, notes: Mapping[Kind, str]) -> Any:
    longest = {"name": MAX_NAME, "pictures": MAX_PICTURES}.get(part.kind)
    default = list(part.default) if part.kind == "pictures" else part.default
    return Field(
        default=... if part.required else default,
        description=" ".join(filter(None, (part.help, notes.get(part.kind)))),
        max_length=longest,
        ge=part.minimum,
        le=part.maximum,
    )
