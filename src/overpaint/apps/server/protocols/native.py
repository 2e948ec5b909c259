"""The native API, `/v1/edits`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse, StreamingResponse

from overpaint.apps.server import errors, repeats
from overpaint.apps.server.bodies.answers import changed_part, encode, encoded, state_of
from overpaint.apps.server.bodies.fields import contents
from overpaint.apps.server.bodies.schemas import EditAnswer, EditBody, EditState
from overpaint.apps.server.jobs import EditJob, JobStatus, News
from overpaint.apps.server.routes import ERRORS, body_with_files, service_of
from overpaint.apps.server.service import EditService
from overpaint.apps.wire.intake import EncodedEdit
from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging.images import Picture

router = APIRouter(prefix="/v1", tags=["edits"])

POSITION_EVERY = 0.5
"""Seconds between two looks at the place in the queue."""

LAST_EVENT = "end"
"""Id of the event after which there is none."""

END_SECONDS = 1.0
"""Seconds in which a cancelled edit can end before its caller is answered."""

MAX_DIGITS = 10

_BODY = {
    "requestBody": {
        "required": True,
        "content": contents(EditBody),
    },
    "parameters": [
        {
            "in": "header",
            "name": "Prefer",
            "schema": {"type": "string"},
            "description": "`respond-async`: 202 with an id at once.",
        },
        repeats.DOCUMENTED,
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
    body, files = await body_with_files(request, EditBody)
    values = await service.read(partial(body.part_values, **files))
    edit = EncodedEdit(values=values, fit_mask=body.fit_mask)
    if not service.alone and body.run_async:
        raise InvalidRequest(
            "several replicas share this address, and each knows its own edits only; wait for the "
            "answer or stream it",
            field="async",
        )
    prefers = service.alone and "respond-async" in request.headers.get("prefer", "")
    later = body.run_async or prefers
    async with repeats.claimed(request, "edit", edit.values) as claim:
        job = claim.job()
        if job is None:
            served = service.resolve(edit.values.get("model"), edit.task)
            checked = await service.check(
                edit, served, seconds=body.timeout_s, previews=body.previews
            )
            job = service.accept(checked, request.state.caller, encode)
            claim.keep(job)
    if later:
        service.jobs.add(job)
    request.state.edit, request.state.model = job.id, job.model
    if later:
        return JSONResponse(
            state_of(service, job).model_dump(exclude_none=True),
            202,
            {"location": f"/v1/edits/{job.id}", "preference-applied": "respond-async"},
        )
    answer = await service.wait(job, request, keep=claim.has_key)
    return await service.work(_answer, job, answer)


@router.get("/edits/{id}", response_model=EditAnswer | EditState, responses=ERRORS)
async def get_edit(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """An edit's state and, once it is done, its result."""
    service = service_of(request)
    job = service.jobs.find(id, request.state.caller)
    if job.status == "done":
        job.fetched = True
        return await service.work(_answer, job, job.answer.result())
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
        204: {"description": "the client's Last-Event-ID is that of the last event"},
    },
)
async def get_events(
    request: Request,
    id: str,  # noqa: A002 - the path's word
    changed: Annotated[
        bool,
        Query(
            description="Of previews only what the edit changed, with its place (`left`, `top`); "
            "and the result as the last one, before it is encoded."
        ),
    ] = False,
) -> Response:
    """Events of an edit, as they happen."""
    service = service_of(request)
    job = service.jobs.find(id, request.state.caller)
    last = request.headers.get("last-event-id", "")
    if last == LAST_EVENT:
        return Response(status_code=204)  # at which browsers stop to connect again
    after = int(last) if last.isascii() and last.isdigit() and len(last) < MAX_DIGITS else -1
    news = job.news(POSITION_EVERY, after)
    await anext(news)  # refuses where too many listen
    before = job.ticket.request.image if changed and job.ticket is not None else None
    return StreamingResponse(_events(service, job, news, before), media_type="text/event-stream")


@router.delete("/edits/{id}", response_model=EditState, responses=ERRORS)
async def delete_edit(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Cancel an edit, or delete its result.

    The answer comes once the edit has ended and its session is as it was, or after a second.
    """
    service = service_of(request)
    job = service.jobs.find(id, request.state.caller)
    service.cancel(job)
    service.jobs.remove(job)
    await asyncio.wait([job.answer], timeout=END_SECONDS)
    status: JobStatus = job.status if job.answer.done() else "cancelled"
    return JSONResponse(EditState(id=job.id, status=status).model_dump(exclude_none=True))


def _answer(job: EditJob[Any], fields: dict[str, Any]) -> Response:
    return JSONResponse({"id": job.id, **fields})


async def _events(
    service: EditService,
    job: EditJob[Any],
    news: AsyncIterator[News | None],
    before: Picture | None,
) -> AsyncIterator[str]:
    position = service.position(job)
    if position is not None:
        yield _event("queued", {"position": position})
    async for each in news:
        if each is None:
            if (now := service.position(job)) not in (None, position):
                position = now
                yield _event("queued", {"position": position})
            continue
        number, update = each
        progress: dict[str, Any] = {"step": update.step, "total": update.total}
        if update.preview is None:
            yield _event("step", progress, number)
        elif before is not None or not update.is_result:
            picture = await service.work(_preview_picture, before, update.preview)
            yield await service.work(_event, "preview", {**progress, **picture}, number)
    try:
        answer = await job.answer
    except Exception as error:
        errors.forget_frames(error)
        yield _event("error", errors.body(error, "/v1"), LAST_EVENT)
    else:
        job.fetched = True
        yield await service.work(_event, "done", {"id": job.id, **answer}, LAST_EVENT)


def _preview_picture(before: Picture | None, picture: Picture) -> dict[str, Any]:
    """A preview's picture: what changed since, where that is asked for."""
    part = None if before is None else changed_part(before, picture)
    return {"image": encoded(picture)} if part is None else part


def _event(name: str, data: Any, number: int | str | None = None) -> str:
    """A server-sent event, with its number where a client may go on after it."""
    id_ = "" if number is None else f"id: {number}\n"
    return f"{id_}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
