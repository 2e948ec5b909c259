"""`POST /v1/sessions/{id}/turns`: one more turn, made as any other edit."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from overpaint.apps.server.answers import state_of, verdicts
from overpaint.apps.server.intake import EncodedEdit
from overpaint.apps.server.routes import ERRORS, json_body, service_of
from overpaint.apps.server.service import Accepted, EditService
from overpaint.apps.server.session_schemas import (
    PREFIX,
    TurnAccepted,
    TurnAnswer,
    TurnBody,
    TurnInfo,
)
from overpaint.apps.server.shelf import IF_MATCH, documented, revision_of, shelf_of
from overpaint.core.errors import InvalidRequest
from overpaint.core.types import EditRequest, EditResult
from overpaint.sessions import editing
from overpaint.sessions.editing import Examiner, Started
from overpaint.sessions.store import Store

router = APIRouter(prefix=PREFIX, tags=["sessions"])


@router.post(
    "/{id}/turns",
    response_model=TurnAnswer,
    responses={202: {"model": TurnAccepted, "description": "accepted"}, **ERRORS},
    openapi_extra=documented(TurnBody, IF_MATCH),
)
async def post_turn(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Make one more turn; its edit is followed as any other."""
    service, caller = service_of(request), request.state.caller
    service.check_room()
    body = await json_body(request, TurnBody)
    known = revision_of(request, body)
    if known is None:
        raise InvalidRequest(
            "say which revision of the session you know, here or as If-Match", field="revision"
        )
    store, examiner = await service.work(shelf_of(request).open)
    started, checked = await _checked(service, store, id, body, known, caller)
    begun = await service.work(editing.begin, store, started, checked.request.num_images)

    def record(result: EditResult) -> dict[str, Any]:
        return _recorded(store, begun, checked.request, result, examiner)

    job = service.accept(checked, caller, record, shelf_of(request).pool)
    request.state.edit, request.state.model = job.id, job.model
    if not (body.run_async and service.alone):
        answer = await service.wait(job, request)
        return JSONResponse({"id": job.id, **answer})
    service.jobs.add(job)
    accepted = state_of(service, job).model_dump(exclude_none=True)
    accepted |= {"session": id, "revision": begun.session.revision}
    return JSONResponse(accepted, 202, {"location": f"/v1/edits/{job.id}"})


async def _checked(
    service: EditService, store: Store, id_: str, body: TurnBody, known: int, caller: str
) -> tuple[Started, Accepted]:
    """What the turn starts from, and its edit, checked as any other."""

    def look() -> tuple[Started, EncodedEdit]:
        values = body.part_values()
        started = editing.look(
            store,
            id_,
            values["prompt"],
            parent=body.parent,
            from_original=body.from_original,
            revision=known,
            owner=caller,
        )
        picture = editing.opened(store.pictures, started.base.picture)
        return started, EncodedEdit(values={**values, "image": picture, "prompt": started.prompt})

    started, edit = await service.work(look)
    served = service.resolve(edit.values.get("model"), masked=edit.is_masked)
    return started, await service.check(
        edit, served, seconds=body.timeout_s, previews=body.previews
    )


def _recorded(
    store: Store, begun: Started, request: EditRequest, result: EditResult, examiner: Examiner
) -> dict[str, Any]:
    """The answer's fields, once the turn is in the session."""
    owner = begun.session.owner
    session, made = editing.record(store, begun, request, result, examiner, owner)
    return {
        "status": "done",
        "session": session.id,
        "revision": session.revision,
        "turn": TurnInfo.of(session.id, made[0]).model_dump(),
        "candidates": [turn.id for turn in made],
        "images": [],
        "seeds": [turn.seed for turn in made],
        "recipe": dict(made[0].recipe),
        "timings": dict(result.timings),
        "warnings": list(made[0].warnings),
        "safety": verdicts(result),
    }
