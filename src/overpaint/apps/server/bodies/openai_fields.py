"""OpenAI's fields of an image edit, and what each is here.

The fields come as a form or as JSON. What OpenAI has and nothing here can do is refused by name;
every field that is not OpenAI's is a part of an edit that OpenAI has no field for, or an option of
the model's family.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from overpaint.apps.server.bodies import forms
from overpaint.apps.server.bodies.fields import FILE, file_fields, from_text, json_texts, with_parts
from overpaint.apps.wire.intake import MAX_PICTURES, EncodedEdit
from overpaint.core import plain_values
from overpaint.core.errors import InvalidImage, InvalidMask, InvalidRequest
from overpaint.core.imaging.encoded import from_base64
from overpaint.core.models import EditTask
from overpaint.core.types import PARTS
from overpaint.diffusion.family import FamilySpec
from overpaint.diffusion.shortcuts import Preset

_FORM_NAMES = {
    "image": "image",
    "references": "image",
    "mask": "mask",
    "prompt": "prompt",
    "num_images": "n",
    "model": "model",
    "options.width": "size",
    "options.height": "size",
}
"""OpenAI's field of each part that it has one for, in a form."""

_JSON_NAMES = {**_FORM_NAMES, "image": "images", "references": "images"}
"""The same in a JSON body."""

_REFUSED = {
    "complexity": "no model here plans a picture before it makes it",
    "frame_count": "a result is a single picture, not an animation",
    "frame_duration_ms": "a result is a single picture, not an animation",
    "svg": "results are pixels, not vector graphics",
    "url": "this server fetches nothing from addresses: send the picture as a file",
}
"""Fields of OpenAI's, and of servers like it, that nothing here can follow, and why."""

_EXTRA = tuple(part for part in PARTS if part.name not in _FORM_NAMES and part.kind != "options")
_EXTRA_FILES = tuple(part for part in _EXTRA if part.is_visual)
_EXTRA_TEXTS = tuple(part for part in _EXTRA if not part.is_visual)

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
_ADDRESS = re.compile(r"\s*(?!data:)[a-z][a-z0-9+.-]*:", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Effort:
    """What a quality stands for.

    Attributes:
        steps: share of the family's default steps.
        preset: of the families that have presets.
    """

    steps: float
    preset: Preset = "exact"


QUALITIES = {
    "low": Effort(0.5, "fast"),
    "medium": Effort(1.0),
    "high": Effort(1.5),
    "xhigh": Effort(2.0),
    "max": Effort(3.0),
}


@with_parts(_EXTRA_TEXTS)
class EditForm(BaseModel):
    """OpenAI's own fields; what is not listed is an option of the family."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: str = ""
    model: str | None = Field(default=None, max_length=200)
    n: int = Field(default=1, ge=1, le=10)
    size: str = "auto"
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto", "standard"] = "auto"
    background: Literal["auto", "opaque", "transparent"] = "auto"
    input_fidelity: Literal["high", "low"] = "high"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int = Field(default=100, ge=0, le=100)
    response_format: Literal["b64_json"] = "b64_json"
    moderation: Literal["auto"] = "auto"
    stream: bool = False
    partial_images: int = Field(default=0, ge=0, le=3)
    user: str | None = None
    safety_identifier: str | None = None


class ImageReference(BaseModel):
    """A picture in a JSON body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image_url: str | None = None
    file_id: str | None = None

    def file(self, field: str) -> bytes:
        """The picture's file.

        Args:
            field: where the reference stands in the body.

        Raises:
            InvalidRequest: it is a file kept elsewhere, or an address.
            InvalidImage: it is not base64.
        """
        if self.file_id is not None:
            raise InvalidRequest(
                "this server keeps no files; send the picture as a data URL in image_url",
                field=f"{field}.file_id",
            )
        if self.image_url is None:
            raise InvalidRequest("it is missing", field=f"{field}.image_url")
        if _ADDRESS.match(self.image_url):
            raise InvalidImage(
                "this server fetches nothing from addresses; send the picture as a data URL "
                "(data:image/png;base64,…)",
                field=f"{field}.image_url",
            )
        return from_base64(self.image_url, f"{field}.image_url")


_REFERENCE = {
    "type": "object",
    "required": ["image_url"],
    "properties": {"image_url": {"type": "string", "description": "A data URL."}},
}
_Reference = Annotated[ImageReference, WithJsonSchema(_REFERENCE)]


@with_parts(_EXTRA_FILES)
class EditJson(EditForm):
    """The same as JSON; null stands for the default."""

    model_config = ConfigDict(strict=True)

    images: list[_Reference] = Field(min_length=1, max_length=MAX_PICTURES + 1)
    mask: _Reference | None = None
    markup: _Reference | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: each for name, each in value.items() if each is not None}

    def files(self) -> dict[str, Any]:
        """The pictures and masks by the part's name, and `markup`.

        Raises:
            InvalidRequest: one of them is no data URL.
        """
        pictures = [each.file(f"images.{number}") for number, each in enumerate(self.images)]
        values: dict[str, Any] = {"image": pictures[0], "references": tuple(pictures[1:])}
        for name in ("mask", "markup"):
            if (reference := getattr(self, name)) is not None:
                values[name] = reference.file(name)
        for part in _EXTRA_FILES:
            if (value := getattr(self, part.name)) is not None:
                values[part.name] = from_text(part, value)
        return values


_MASK_HELP = "Of the picture's size; transparent = edit. Without transparency white = edit."
_MARKUP_HELP = "A transparent drawing over the picture, which shows what the prompt means."


def form_schema() -> dict[str, Any]:
    """JSON Schema of the multipart form."""
    schema = EditForm.model_json_schema()
    fields = {
        **schema["properties"],
        **json_texts(EditForm),
        "image": {**FILE, "description": "A picture file; several as `image[]`."},
        "mask": {**FILE, "description": _MASK_HELP},
        "markup": {**FILE, "description": _MARKUP_HELP},
        **file_fields(_EXTRA_FILES),
    }
    return {**schema, "required": ["image"], "properties": fields}


@dataclass(frozen=True)
class ImagesRequest:
    """A request as it came.

    Attributes:
        form: its fields.
        files: the pictures and masks by the part's name, and `markup`.
        names: the client's field of each part and option that has another name here.
    """

    form: EditForm
    files: Mapping[str, Any]
    names: Mapping[str, str]

    @property
    def task(self) -> EditTask:
        """The task, where the request names no model."""
        values = {name: getattr(self.form, name, None) for name in ("extend", "prompt")}
        return EncodedEdit(values={**values, "mask": self.files.get("mask")}).task

    def edit(self, family: FamilySpec, max_steps: int) -> EncodedEdit:
        """The edit in a family's terms.

        Args:
            family: of the model that makes it.
            max_steps: that the server makes.

        Raises:
            InvalidRequest: the family cannot use a field.
        """
        values = {**self.files, **_texts(self.form, family, max_steps)}
        markup = values.pop("markup", None)
        if markup is not None and family.need("references") == "refused":
            if family.need("mask") == "refused":
                raise InvalidRequest(f"{family.name} cannot use it; leave it out", field="markup")
            masked = {**values, "mask": markup, "mask_is": "paint"}
            return EncodedEdit(values=masked, reads_canvas=True)
        if "mask" in values and values.get("mask_is") is None:
            values["mask_is"] = "openai"
        return EncodedEdit(values=values, markup=markup, reads_canvas=True)

    def renamed(self, error: InvalidRequest) -> InvalidRequest:
        """The same error, under the name that the client gave the field."""
        names = dict(self.names)
        if "markup" in self.files:
            names["mask"] = "markup"
        error.field = names.get(error.field, error.field)
        return error


def from_form(form: forms.Form) -> ImagesRequest:
    """A multipart form's request.

    Raises:
        InvalidRequest: a field is unknown, refused, or has a wrong value.
    """
    _refuse(form.texts)
    texts = {name: forms.plain(EditForm, name, text) for name, text in form.texts.items()}
    try:
        fields = EditForm.model_validate(texts)
    except ValidationError as error:
        raise forms.invalid(error, EditForm) from error
    files = forms.files_of(form, _EXTRA_FILES, "image", "image[]", "mask", "markup")
    first, *further = [*form.files.get("image", ()), *form.files.get("image[]", ())] or [None]
    if first is None or len(further) > MAX_PICTURES:
        raise InvalidRequest(f"give 1 to {MAX_PICTURES + 1} files", field="image")
    files |= {"image": first, "references": tuple(further)}
    for name in ("mask", "markup"):
        if (file := forms.one(form.files, name)) is not None:
            files[name] = file
    return _checked(ImagesRequest(fields, files, _FORM_NAMES))


def from_json(raw: bytes) -> ImagesRequest:
    """A JSON body's request.

    Raises:
        InvalidRequest: as for a form.
    """
    values = forms.json_value("body", raw, dict)
    _refuse({name: value for name, value in values.items() if value is not None})
    try:
        body = EditJson.model_validate(values)
    except ValidationError as error:
        raise forms.invalid(error, EditJson) from error
    return _checked(ImagesRequest(body, body.files(), _JSON_NAMES))


def content_of(edit: EncodedEdit) -> tuple[Any, ...]:
    """All of an edit as plain data, the same whether it came as a form or as JSON."""
    options = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in edit.values["options"].items()
    }
    return ({**edit.values, "options": options}, edit.markup)


def _refuse(fields: Mapping[str, Any]) -> None:
    for name in fields:
        if reason := _REFUSED.get(name.partition("[")[0]):
            raise InvalidRequest(f"{reason}; leave it out", field=name)


def _checked(request: ImagesRequest) -> ImagesRequest:
    form = request.form
    if form.partial_images and not form.stream:
        raise InvalidRequest("partial images need stream=true", field="partial_images")
    if form.output_format == "png" and form.output_compression != 100:
        raise InvalidRequest("PNG keeps every pixel; use webp or jpeg", field="output_compression")
    if "markup" in request.files and "mask" in request.files:
        raise InvalidMask("it cannot be combined with a mask; send one of them", field="markup")
    return request


def _texts(form: EditForm, family: FamilySpec, max_steps: int) -> dict[str, Any]:
    """All parts that are no pictures, by name."""
    options = {name: _value(text) for name, text in (form.model_extra or {}).items()}
    options |= _size(form.size)
    for name, value in _effort(form.quality, family, max_steps).items():
        options.setdefault(name, value)
    extra = {part.name: getattr(form, part.name) for part in _EXTRA_TEXTS}
    prompt = form.prompt if family.need("prompt") != "refused" else ""
    return {**extra, "prompt": prompt, "num_images": form.n, "options": options}


def _value(text: Any) -> Any:
    """In a form lists and objects are JSON; plain values are read by the option's own type."""
    if isinstance(text, str) and text[:1] in ("[", "{"):
        try:
            return plain_values.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _size(size: str) -> dict[str, int]:
    if size == "auto":
        return {}
    matched = _SIZE.fullmatch(size)
    if matched is None:
        raise InvalidRequest("give auto or WIDTHxHEIGHT, as in 1024x768", field="size")
    return {"width": int(matched[1]), "height": int(matched[2])}


def _effort(quality: str, family: FamilySpec, max_steps: int) -> dict[str, Any]:
    """A quality as options of the family; those that it has.

    Steps that the checkpoint settles, as distilled ones do, stay as they are.
    """
    effort = QUALITIES.get(quality)
    fields = family.options.model_fields
    if effort is None:
        return {}
    options: dict[str, Any] = {}
    if effort.preset != "exact" and "preset" in fields:
        options["preset"] = effort.preset
    steps = fields["num_inference_steps"].default if "num_inference_steps" in fields else None
    if steps is not None:
        options["num_inference_steps"] = min(max(1, round(steps * effort.steps)), max_steps)
    return options
