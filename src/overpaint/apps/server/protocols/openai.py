"""OpenAI's image edits, so that its official clients work by changing `base_url`.

`bodies.openai_fields` says what each field of OpenAI's is here, `bodies.openai_answers` what is
answered.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from overpaint.apps.server import errors, repeats
from overpaint.apps.server.bodies import forms, openai_answers, openai_fields
from overpaint.apps.server.bodies.openai_answers import AnswerFormat
from overpaint.apps.server.bodies.openai_fields import EditForm, EditJson, ImagesRequest
from overpaint.apps.server.jobs import EditJob, News
from overpaint.apps.server.routes import require_type, service_of
from overpaint.apps.server.service import EditService, Served
from overpaint.apps.wire.intake import EncodedEdit
from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging import borders
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest

router = APIRouter(tags=["openai"])

TICK = 5.0

_ACCEPT = {
    "in": "header",
    "name": "Accept",
    "schema": {"type": "string"},
    "description": "`image/png`, `image/jpeg` or `image/webp`: one bare picture instead of JSON.",
}
_DOCUMENT: dict[str, Any] = {
    "parameters": [repeats.DOCUMENTED, _ACCEPT],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": openai_fields.form_schema()},
            "application/json": {"schema": EditJson.model_json_schema()},
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
_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the images, server-sent events with `stream`, or a bare picture",
        "content": {f"image/{name}": _FILE for name in ("png", "jpeg", "webp")},
    },
    **dict.fromkeys(errors.DOCUMENTED, _ERROR),
}


@router.post("/v1/images/edits", responses=_RESPONSES, openapi_extra=_DOCUMENT)
async def edit(request: Request) -> Response:
    """Edit a picture (OpenAI's contract)."""
    return await _edit(request, None)


@router.post("/openai/v1/images/edits", responses=_RESPONSES, openapi_extra=_DOCUMENT)
async def edit_azure(request: Request) -> Response:
    """Edit a picture (Azure OpenAI's contract: a field names the deployment)."""
    return await _edit(request, None)


@router.post(
    "/openai/deployments/{deployment}/images/edits",
    responses=_RESPONSES,
    openapi_extra=_DOCUMENT,
)
async def edit_deployment(request: Request, deployment: str) -> Response:
    """Edit a picture (Azure OpenAI's older contract: the path names the deployment)."""
    return await _edit(request, deployment)


async def _edit(request: Request, deployment: str | None) -> Response:
    service = service_of(request)
    service.check_room()
    body = await _parse(request, service)
    look = AnswerFormat.of(body.form, request.headers.get("accept", ""))
    served = service.resolve(deployment or body.form.model, body.task)
    try:
        edit = body.edit(served.family, service.limits.max_steps)
    except InvalidRequest as error:
        raise body.renamed(error) from error
    content = (served.spec.name, look.content(), openai_fields.content_of(edit))
    async with repeats.claimed(request, "images", *content) as claim:
        job = claim.job()
        if job is None:
            job = await _accepted(request, edit, served, body, look)
            claim.keep(job)
    request.state.edit, request.state.model = job.id, served.spec.name
    if not look.form.stream:
        try:
            answer = await service.wait(job, request, keep=claim.has_key)
        except InvalidRequest as error:
            raise body.renamed(error) from error
        return await service.work(look.response, answer)
    news = job.news(TICK)
    await anext(news)  # refuses where too many listen
    events = _stream(service, job, news, body, look, keep=claim.has_key)
    return StreamingResponse(events, media_type="text/event-stream")


async def _parse(request: Request, service: EditService) -> ImagesRequest:
    require_type(request, "multipart/form-data", "application/json")
    raw = await forms.body(request)
    if forms.media_type(request) == "application/json":
        return await service.read(openai_fields.from_json, raw)
    return openai_fields.from_form(await forms.parse(request, raw))


async def _accepted(
    request: Request, edit: EncodedEdit, served: Served, body: ImagesRequest, look: AnswerFormat
) -> EditJob[dict[str, Any]]:
    service = service_of(request)
    previews = look.form.partial_images if look.form.stream else 0
    try:
        checked = await service.check(edit, served, previews=previews)
    except InvalidRequest as error:
        raise body.renamed(error) from error
    look.check(_without_own_border(checked.request))
    pictures = 1 + len(checked.request.references)
    warnings = _losses(look.form, served)
    return service.accept(
        checked, request.state.caller, lambda result: look.answer(result, pictures, warnings)
    )


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


async def _stream(
    service: EditService,
    job: EditJob[dict[str, Any]],
    updates: AsyncIterator[News | None],
    body: ImagesRequest,
    look: AnswerFormat,
    *,
    keep: bool,
) -> AsyncIterator[str]:
    index = 0
    try:
        async for news in updates:
            if news is None:
                yield ": still working\n\n"
            elif (preview := news.update.preview) is not None and not news.update.is_result:
                yield await service.work(look.partial, preview, index)
                index += 1
        answer = await job.answer
    except Exception as error:
        errors.forget_frames(error)
        if isinstance(error, InvalidRequest):
            error = body.renamed(error)
        yield f"data: {json.dumps(errors.body(error, '/v1/images'))}\n\n"
        return
    finally:
        # Also reached when the caller hangs up: the edit then frees its place.
        if not keep:
            service.cancel(job)
    for event in await service.work(openai_answers.last_events, answer):
        yield event
    yield "data: [DONE]\n\n"
