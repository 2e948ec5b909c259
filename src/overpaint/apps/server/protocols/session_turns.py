"""`POST /v1/sessions/{id}/turns`: one more turn, made as any other edit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from overpaint.apps.server.bodies.answers import state_of, verdicts
from overpaint.apps.server.bodies.session_schemas import (
    PREFIX,
    TurnAccepted,
    TurnAnswer,
    TurnBody,
    TurnInfo,
)
from overpaint.apps.server.routes import ERRORS, json_body, service_of
from overpaint.apps.server.service import Accepted, EditService
from overpaint.apps.server.shelf import IF_MATCH, documented, revision_of, sessions_of, shelf_of
from overpaint.apps.wire.intake import EncodedEdit
from overpaint.core.errors import InvalidRequest
from overpaint.core.types import EditResult
from overpaint.sessions.editing import Start
from overpaint.sessions.editor import Sessions
from overpaint.sessions.types import Session, Turn

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
    sessions = await service.work(sessions_of, request)
    start, checked = await _checked(service, sessions, id, body, known)
    start = await service.work(sessions.reserve, start, checked.request.num_images)

    def record(result: EditResult) -> dict[str, Any]:
        measured = not body.measure_later
        session, turns = sessions.record(start, checked.request, result, measured=measured)
        if not measured:
            shelf_of(request).later(partial(sessions.measure, session, turns))
        return _answer(session, turns, result)

    job = service.accept(checked, caller, record, shelf_of(request).pool)
    request.state.edit, request.state.model = job.id, job.model
    if not (body.run_async and service.alone):
        answer = await service.wait(job, request)
        return JSONResponse({"id": job.id, **answer})
    service.jobs.add(job)
    accepted = state_of(service, job).model_dump(exclude_none=True)
    accepted |= {"session": id, "revision": start.session.revision}
    return JSONResponse(accepted, 202, {"location": f"/v1/edits/{job.id}"})


async def _checked(
    service: EditService, sessions: Sessions, id_: str, body: TurnBody, known: int
) -> tuple[Start, Accepted]:
    """What the turn starts from, and its edit, checked as any other."""

    def begin() -> tuple[Start, EncodedEdit]:
        values = body.part_values()
        start = sessions.start(
            id_,
            values["prompt"],
            parent=body.parent,
            from_original=body.from_original,
            revision=known,
        )
        picture = sessions.picture(start.base)
        return start, EncodedEdit(values={**values, "image": picture, "prompt": start.prompt})

    start, edit = await service.work(begin)
    served = service.resolve(edit.values.get("model"), masked=edit.is_masked)
    return start, await service.check(edit, served, seconds=body.timeout_s, previews=body.previews)


def _answer(session: Session, turns: Sequence[Turn], result: EditResult) -> dict[str, Any]:
    """The answer's fields, once the turns are in the session; the best turn comes first."""
    return {
        "status": "done",
        "session": session.id,
        "revision": session.revision,
        "turn": TurnInfo.of(session.id, turns[0]).model_dump(),
        "candidates": [turn.id for turn in turns],
        "images": [],
        "seeds": [turn.seed for turn in turns],
        "recipe": dict(turns[0].recipe),
        "timings": dict(result.timings),
        "warnings": list(turns[0].warnings),
        "safety": verdicts(result),
    }
