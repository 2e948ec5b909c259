"""The native API, `/v1/edits`."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.responses import JSONResponse, StreamingResponse

from overpaint.apps.server import errors, forms
from overpaint.apps.server.intake import Parts
from overpaint.apps.server.jobs import Job, Status
from overpaint.apps.server.schemas import (
    EditAnswer,
    EditBody,
    EditFields,
    EditState,
    ErrorAnswer,
    ErrorDetail,
    verdicts,
)
from overpaint.apps.server.service import Service
from overpaint.core import images
from overpaint.core.encoded import from_base64
from overpaint.core.errors import InvalidRequest
from overpaint.core.images import Picture
from overpaint.core.types import EditResult

router = APIRouter(prefix="/v1", tags=["edits"])

POSITION_EVERY = 0.5
"""Seconds between two looks at the place in the queue."""

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": about}
    for status, about in {
        400: "the request is at fault; `field` says where",
        401: "no valid API key",
        403: "foreign origin, or a licence to accept first",
        404: "no such model or edit",
        408: "the body came too slowly",
        409: "cancelled, or an idempotency key used twice",
        413: "the body is too large",
        415: "neither JSON nor multipart",
        429: "the queue is full; see Retry-After",
        503: "stopping, loading, or out of memory",
        504: "the deadline passed",
    }.items()
}
_FILES = ("image", "mask", "copy_from", "not_from", "control", "references")
_SINGLE = ("mask", "copy_from", "not_from", "control")
_FILE = {"type": "string", "format": "binary"}
_MULTIPART = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {
        **{
            name: schema
            for name, schema in EditBody.model_json_schema()["properties"].items()
            if name not in {*_FILES, "options"}
        },
        "image": _FILE,
        **dict.fromkeys(("mask", "copy_from", "not_from", "control"), _FILE),
        "references": {"type": "array", "items": _FILE, "maxItems": 15},
        "options": {"type": "string", "description": "JSON object of the family's options."},
    },
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": EditBody.model_json_schema()},
            "multipart/form-data": {"schema": _MULTIPART},
        },
    },
    "parameters": [
        {
            "in": "header",
            "name": "Prefer",
            "schema": {"type": "string"},
            "description": "`respond-async`: 202 with an id at once.",
        },
        {
            "in": "header",
            "name": "Idempotency-Key",
            "schema": {"type": "string", "maxLength": 200},
            "description": "A repeated request with the same key gets the first one's answer; a "
            "caller that hangs up may come back for it.",
        },
    ],
}


@router.post(
    "/edits",
    response_model=EditAnswer,
    responses={202: {"model": EditState, "description": "accepted"}, **ERRORS},
    openapi_extra=_BODY,
)
async def post_edit(request: Request) -> Response:
    """Edit a picture: the result, or 202 with an id."""
    service = service_of(request)
    service.check_room()
    raw = await forms.body(request)
    caller, key = request.state.caller, request.headers.get("idempotency-key")
    fingerprint = hashlib.sha256(raw).hexdigest()
    if key is not None and not 1 <= len(key) <= 200:
        raise InvalidRequest("give 1 to 200 characters", field="Idempotency-Key")
    body, parts = await _parse(request, raw, service)
    del raw
    if not service.alone and (key or body.run_async):
        raise InvalidRequest(
            "several replicas share this address, and each knows its own edits only; wait for the "
            "answer or stream it",
            field="Idempotency-Key" if key else "async",
        )
    prefers = service.alone and "respond-async" in request.headers.get("prefer", "")
    later = body.run_async or prefers
    job = service.jobs.by_key(caller, key, fingerprint) if key else None
    if job is None:
        served = service.resolve(body.model, masked=parts.mask is not None)
        checked = await service.check(parts, served, seconds=body.timeout_s, previews=body.previews)
        # Again: the same key may have come in while the pictures were decoded.
        job = service.jobs.by_key(caller, key, fingerprint) if key else None
    if job is None:
        job = service.accept(checked, caller, encode)
        if later or key:
            service.jobs.add(job)
        if key:
            service.jobs.remember_key(caller, key, fingerprint, job.id)
    request.state.edit, request.state.model = job.id, job.model
    if later:
        return JSONResponse(
            state_of(service, job).model_dump(exclude_none=True),
            202,
            {"location": f"/v1/edits/{job.id}", "preference-applied": "respond-async"},
        )
    return _answer(job, await service.wait(job, request, keep=key is not None))


@router.get("/edits/{id}", response_model=EditAnswer | EditState, responses=ERRORS)
async def get_edit(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """An edit's state, and its result once that is there."""
    service = service_of(request)
    job = service.jobs.find(id, request.state.caller)
    if job.status == "done":
        job.fetched = True
        return _answer(job, job.answer.result())
    job.fetched = job.answer.done()
    return JSONResponse(state_of(service, job).model_dump(exclude_none=True))


@router.get(
    "/edits/{id}/events",
    response_class=StreamingResponse,
    responses={
        **ERRORS,
        200: {
            "description": "server-sent events: queued, step, preview, done, error",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
)
async def get_events(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """News of an edit as they come."""
    service = service_of(request)
    job = service.jobs.find(id, request.state.caller)
    return StreamingResponse(_events(service, job), media_type="text/event-stream")


@router.delete("/edits/{id}", response_model=EditState, responses=ERRORS)
async def delete_edit(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Cancel an edit, or forget its result."""
    service = service_of(request)
    job = service.jobs.find(id, request.state.caller)
    service.cancel(job)
    service.jobs.remove(job)
    status: Status = job.status if job.answer.done() else "cancelled"
    return JSONResponse(EditState(id=job.id, status=status).model_dump(exclude_none=True))


def encode(result: EditResult) -> dict[str, Any]:
    """The answer's fields, pictures as base64 of PNG."""
    return {
        "status": "done",
        "images": [
            base64.b64encode(images.encode(picture)).decode() for picture in result.pictures
        ],
        "seeds": list(result.seeds),
        "recipe": dict(result.recipe),
        "timings": dict(result.timings),
        "warnings": list(result.warnings),
        "safety": verdicts(result),
    }


async def _parse(request: Request, raw: bytes, service: Service) -> tuple[EditBody, Parts]:
    kind = forms.media_type(request)
    if kind == "multipart/form-data":
        form = await forms.parse(request, raw)
        return await service.work(_from_form, form)
    if kind == "application/json":
        return await service.work(_from_json, raw)
    raise errors.UnsupportedMediaType("send application/json or multipart/form-data")


def _from_json(raw: bytes) -> tuple[EditBody, Parts]:
    try:
        body = EditBody.model_validate_json(raw)
    except ValidationError as error:
        raise forms.invalid(error) from error
    return body, parts_of(body, from_base64(body.image, "image"))


def parts_of(body: EditFields, image: bytes | Picture) -> Parts:
    """An edit's parts, its pictures decoded from base64.

    Raises:
        InvalidImage: one of them is not base64.
    """
    single: dict[str, Any] = {
        name: from_base64(text, name)
        for name in _SINGLE
        if (text := getattr(body, name)) is not None
    }
    return Parts(
        image=image,
        references=tuple(from_base64(each, "references") for each in body.references),
        **single,
        **_plain(body),
    )


def _from_form(form: forms.Form) -> tuple[EditBody, Parts]:
    files = form.take(*_FILES)
    if as_text := [name for name in _FILES if name in form.texts]:
        raise InvalidRequest("send it as a file, with a file name", field=as_text[0])
    texts = {name: forms.plain(name, text) for name, text in form.texts.items()}
    try:
        # The pictures stand in for themselves: here only their being there counts.
        body = EditBody.model_validate({"image": "", **texts}, strict=False)
    except ValidationError as error:
        raise forms.invalid(error) from error
    single: dict[str, Any] = {name: forms.one(files, name) for name in _SINGLE}
    return body, Parts(
        image=forms.one(files, "image", required=True) or b"",
        **single,
        references=tuple(files["references"]),
        **_plain(body),
    )


def _plain(body: EditFields) -> dict[str, Any]:
    return {
        "prompt": body.prompt,
        "negative_prompt": body.negative_prompt,
        "seed": body.seed,
        "num_images": body.num_images,
        "options": body.options,
    }


def _answer(job: Job[Any], fields: dict[str, Any]) -> Response:
    return JSONResponse({"id": job.id, **fields})


def state_of(service: Service, job: Job[Any]) -> EditState:
    """Where an edit stands."""
    state = EditState(id=job.id, status=job.status)
    if job.status == "queued":
        state.position = service.position(job)
    if job.latest is not None:
        state.step, state.total = job.latest.step, job.latest.total
    if job.status == "failed":
        error = job.answer.exception()
        assert error is not None
        state.error = ErrorDetail(**errors.native(error))
    return state


async def _events(service: Service, job: Job[Any]) -> AsyncIterator[str]:
    position = service.position(job)
    if position is not None:
        yield event("queued", {"position": position})
    async for update in job.news(POSITION_EVERY):
        if update is None:
            if (now := service.position(job)) not in (None, position):
                position = now
                yield event("queued", {"position": position})
            continue
        told: dict[str, Any] = {"step": update.step, "total": update.total}
        if update.preview is None:
            yield event("step", told)
        else:
            png = await service.work(images.encode, update.preview)
            yield event("preview", {**told, "image": base64.b64encode(png).decode()})
    try:
        answer = await job.answer
    except Exception as error:
        errors.forget_frames(error)
        yield event("error", errors.body(error, "/v1"))
    else:
        job.fetched = True
        yield event("done", {"id": job.id, **answer})


def event(name: str, data: Any) -> str:
    """A server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def service_of(request: Request) -> Service:
    """The application's service."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
