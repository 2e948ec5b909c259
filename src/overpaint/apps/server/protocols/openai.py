"""OpenAI's image edits, so that its official clients work by changing `base_url`.

Fields of OpenAI's own are read here or refused by name; every other field is a part of an edit
that OpenAI has no field for, or an option of the model's family, and an unknown one is a 400 that
names it.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, StreamingResponse

from overpaint.apps.server import errors, repeats
from overpaint.apps.server.bodies import forms
from overpaint.apps.server.bodies.answers import verdicts
from overpaint.apps.server.bodies.fields import file_fields, text_fields, with_parts
from overpaint.apps.server.jobs import EditJob, News
from overpaint.apps.server.routes import require_type, service_of
from overpaint.apps.server.service import Accepted, EditService, Served
from overpaint.apps.wire.intake import MAX_PICTURES, EncodedEdit
from overpaint.core import strict_json
from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging import borders, images
from overpaint.core.imaging.images import Format, Picture
from overpaint.core.models import EditTask
from overpaint.core.types import PARTS, EditRequest, EditResult

router = APIRouter(tags=["openai"])

TOKEN_PIXELS = 16 * 16
"""Pixels that `usage` counts as one image token."""

TICK = 5.0

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
_NAMES = {
    "image": "image",
    "references": "image",
    "mask": "mask",
    "prompt": "prompt",
    "num_images": "n",
    "model": "model",
}
"""OpenAI's field of each part that it has one for."""

_EXTRA = tuple(part for part in PARTS if part.name not in _NAMES and part.kind != "options")
_EXTRA_FILES = tuple(part for part in _EXTRA if part.is_visual)
_EXTRA_TEXTS = tuple(part for part in _EXTRA if not part.is_visual)
_FORMATS: dict[str, Format] = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
_COMPLETED = ("background", "output_format", "quality", "size", "usage", "safety")
"""What the last event of a stream says beside the picture."""

_EFFORT = {"low": 0.5, "medium": 1.0, "high": 1.5, "xhigh": 2.0, "max": 3.0}
"""Share of a family's default steps that each quality takes."""


@with_parts(_EXTRA_TEXTS)
class EditForm(BaseModel):
    """OpenAI's own fields; what is not listed is an option of the family."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: str = ""
    model: str | None = Field(default=None, max_length=200)
    n: int = Field(default=1, ge=1, le=10)
    size: str = "auto"
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto", "standard"] = "auto"
    background: Literal["auto", "opaque"] = "auto"
    input_fidelity: Literal["high", "low"] = "high"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int = Field(default=100, ge=0, le=100)
    response_format: Literal["b64_json"] = "b64_json"
    moderation: Literal["auto"] = "auto"
    stream: bool = False
    partial_images: int = Field(default=0, ge=0, le=3)
    user: str | None = None
    safety_identifier: str | None = None


_DOCUMENT: dict[str, Any] = {
    "parameters": [repeats.DOCUMENTED],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    **EditForm.model_json_schema(),
                    "required": ["image"],
                    "properties": {
                        **EditForm.model_json_schema()["properties"],
                        "image": {
                            "type": "string",
                            "format": "binary",
                            "description": "A picture file; several as `image[]`.",
                        },
                        "mask": {
                            "type": "string",
                            "format": "binary",
                            "description": "Of the picture's size; transparent = edit.",
                        },
                        **file_fields(_EXTRA_FILES),
                        **text_fields(_EXTRA_TEXTS),
                    },
                }
            }
        },
    },
}
_ERROR = {
    "description": "OpenAI's error object",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "object", "required": ["message", "type"]}},
            }
        }
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "the images, or server-sent events with `stream`"},
    **dict.fromkeys(errors.DOCUMENTED, _ERROR),
}


@dataclass(frozen=True)
class AnswerFormat:
    """How the images are handed over."""

    form: EditForm

    @property
    def quality(self) -> str:
        """The quality as OpenAI's answers name it."""
        return self.form.quality if self.form.quality in _EFFORT else "medium"

    def encode(self, picture: Picture) -> str:
        """base64 of the picture in the format that was asked for."""
        compression = self.form.output_compression
        encoded = images.encode(
            self.shown(picture),
            self.format,
            quality=max(1, compression),
            lossless=compression == 100,
        )
        return base64.b64encode(encoded).decode()

    @property
    def format(self) -> Format:
        """The format of the files."""
        return _FORMATS[self.form.output_format]

    def shown(self, picture: Picture) -> Picture:
        """The picture as it is handed over: over white where an opaque one is asked for."""
        if picture.alpha is None or self.form.background != "opaque":
            return picture
        white = Image.new("RGB", picture.size, "white")
        over = Image.composite(picture.rgb, white, picture.alpha)
        return replace(picture.with_rgb(over), alpha=None, seal=picture.seal)

    def common(self, picture: Picture) -> dict[str, Any]:
        """What answers and events both say."""
        return {
            "background": "opaque" if self.shown(picture).alpha is None else "transparent",
            "output_format": self.form.output_format,
            "quality": self.quality,
            "size": f"{picture.size[0]}x{picture.size[1]}",
        }


@router.post("/v1/images/edits", responses=_RESPONSES, openapi_extra=_DOCUMENT)
async def edit(request: Request) -> Response:
    """Edit a picture (OpenAI's contract)."""
    return await _edit(request, None)


@router.post(
    "/openai/deployments/{deployment}/images/edits",
    responses=_RESPONSES,
    openapi_extra=_DOCUMENT,
)
async def edit_deployment(request: Request, deployment: str) -> Response:
    """Edit a picture (Azure OpenAI's contract: the path names the model)."""
    return await _edit(request, deployment)


async def _edit(request: Request, deployment: str | None) -> Response:
    service = service_of(request)
    service.check_room()
    require_type(request, "multipart/form-data")
    form = await forms.parse(request, await forms.body(request))
    look = AnswerFormat(_fields(form))
    values = _files(form)
    masked: EditTask = "inpaint" if "mask" in values else "edit"
    served = service.resolve(deployment or look.form.model, masked)
    values |= _texts(look.form, served, service)
    if "mask" in values and values.get("mask_is") is None:
        values["mask_is"] = "alpha"  # as OpenAI reads masks
    edit = EncodedEdit(values=values, reads_canvas=True)
    asked = look.form.model_dump(exclude={"stream", "partial_images"})
    async with repeats.claimed(request, "images", served.spec.name, asked, values) as claim:
        job = claim.job()
        if job is None:
            job = await _accepted(request, edit, served, look)
            claim.keep(job)
    request.state.edit, request.state.model = job.id, served.spec.name
    if not look.form.stream:
        try:
            answer = await service.wait(job, request, keep=claim.has_key)
        except InvalidRequest as error:
            raise _as_openai_names(error) from error
        return await service.work(JSONResponse, answer)
    news = job.news(TICK)
    await anext(news)  # refuses where too many listen
    events = _stream(service, job, news, look, keep=claim.has_key)
    return StreamingResponse(events, media_type="text/event-stream")


async def _accepted(
    request: Request, edit: EncodedEdit, served: Served, look: AnswerFormat
) -> EditJob[dict[str, Any]]:
    service = service_of(request)
    previews = look.form.partial_images if look.form.stream else 0
    try:
        checked = await service.check(edit, served, previews=previews)
    except InvalidRequest as error:
        raise _as_openai_names(error) from error
    _check_format(look, checked)
    pictures = 1 + len(checked.request.references)
    warnings = _losses(look.form, served)
    return service.accept(
        checked, request.state.caller, lambda result: _answer(result, look, pictures, warnings)
    )


def _fields(form: forms.Form) -> EditForm:
    extra = {part.name for part in _EXTRA_TEXTS} & form.texts.keys()
    objects = {name: forms.plain(name, form.texts[name]) for name in extra}
    try:
        fields = EditForm.model_validate({**form.texts, **objects})
    except ValidationError as error:
        raise forms.invalid(error) from error
    if fields.partial_images and not fields.stream:
        raise InvalidRequest("partial images need stream=true", field="partial_images")
    if fields.output_format == "png" and fields.output_compression != 100:
        raise InvalidRequest("PNG keeps every pixel; use webp or jpeg", field="output_compression")
    return fields


def _files(form: forms.Form) -> dict[str, Any]:
    """The pictures and masks by the part's name."""
    values = forms.files_of(form, _EXTRA_FILES, "image", "image[]", "mask")
    first, *further = [*form.files.get("image", ()), *form.files.get("image[]", ())] or [None]
    if first is None or len(further) > MAX_PICTURES:
        raise InvalidRequest(f"give 1 to {MAX_PICTURES + 1} files", field="image")
    values |= {"image": first, "references": tuple(further)}
    if (mask := forms.one(form.files, "mask")) is not None:
        values["mask"] = mask
    return values


def _texts(form: EditForm, served: Served, service: EditService) -> dict[str, Any]:
    """All other parts by name."""
    options = {name: _value(text) for name, text in (form.model_extra or {}).items()}
    options |= _size(form.size)
    if form.quality in _EFFORT and "num_inference_steps" in served.family.options.model_fields:
        default = served.family.options.model_fields["num_inference_steps"].default
        steps = max(1, round(default * _EFFORT[form.quality]))
        options.setdefault("num_inference_steps", min(steps, service.limits.max_steps))
    extra = {part.name: getattr(form, part.name) for part in _EXTRA_TEXTS}
    prompt = form.prompt if served.family.need("prompt") != "refused" else ""
    return {**extra, "prompt": prompt, "num_images": form.n, "options": options}


def _value(text: str) -> Any:
    """Lists and objects come as JSON; plain values are read by the option's own type."""
    if text[:1] in ("[", "{"):
        try:
            return strict_json.loads(text)
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


def _as_openai_names(error: InvalidRequest) -> InvalidRequest:
    """The same error, under the name that the field has here."""
    names = {**_NAMES, "options.width": "size", "options.height": "size"}
    error.field = names.get(error.field, error.field)
    return error


def _check_format(look: AnswerFormat, checked: Accepted) -> None:
    """Refuse before anything is made what the format cannot hold."""
    try:
        images.check_fits(look.shown(_without_own_border(checked.request)), look.format)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, field="output_format") from error


def _without_own_border(request: EditRequest) -> Picture:
    """The picture as opaque as its result will be."""
    if request.extend is None or not request.extend.is_own:
        return request.image
    return borders.canvas(request.image, request.extend)[0]


def _losses(form: EditForm, served: Served) -> list[str]:
    """What OpenAI's clients send in any case, and the model has no use for."""
    if form.prompt.strip() and served.family.need("prompt") == "refused":
        return [f"{served.spec.name} takes no prompt: its words were not used."]
    return []


def _answer(
    result: EditResult, look: AnswerFormat, pictures: int, warnings: list[str]
) -> dict[str, Any]:
    return {
        "created": int(time.time()),
        "data": [{"b64_json": look.encode(picture)} for picture in result.pictures],
        **look.common(result.pictures[0]),
        "usage": _usage(result, look.form.prompt, pictures),
        "safety_identifier": look.form.safety_identifier or look.form.user,
        "seeds": list(result.seeds),
        "warnings": [*warnings, *result.warnings],
        "safety": verdicts(result),
    }


def _usage(result: EditResult, prompt: str, pictures: int) -> dict[str, Any]:
    """Words, and patches of 16 x 16 pixels: for accounting, not OpenAI's own tokens."""
    width, height = result.pictures[0].size
    patches = -(-width * height // TOKEN_PIXELS)
    input_patches = patches * pictures
    output_patches = patches * len(result.pictures)
    words = len(prompt.split())
    return {
        "input_tokens": words + input_patches,
        "input_tokens_details": {"text_tokens": words, "image_tokens": input_patches},
        "output_tokens": output_patches,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": output_patches},
        "total_tokens": words + input_patches + output_patches,
    }


async def _stream(
    service: EditService,
    job: EditJob[dict[str, Any]],
    updates: AsyncIterator[News | None],
    look: AnswerFormat,
    *,
    keep: bool,
) -> AsyncIterator[str]:
    index = 0
    try:
        async for news in updates:
            if news is None:
                yield ": still working\n\n"
            elif (preview := news.update.preview) is not None:
                encoded = await service.work(look.encode, preview)
                data = {"b64_json": encoded, "partial_image_index": index}
                yield await service.work(_event, "partial_image", data, look.common(preview))
                index += 1
        answer = await job.answer
    except Exception as error:
        errors.forget_frames(error)
        if isinstance(error, InvalidRequest):
            error = _as_openai_names(error)
        yield f"data: {json.dumps(errors.body(error, '/v1/images'))}\n\n"
        return
    finally:
        # Also reached when the caller hangs up: the edit then frees its place.
        if not keep:
            service.cancel(job)
    common = {name: answer[name] for name in _COMPLETED}
    for image in answer["data"]:
        yield await service.work(_event, "completed", image, common)
    yield "data: [DONE]\n\n"


def _event(name: str, *parts: Mapping[str, Any]) -> str:
    data: dict[str, Any] = {"type": f"image_edit.{name}", "created_at": int(time.time())}
    for part in parts:
        data |= part
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"
